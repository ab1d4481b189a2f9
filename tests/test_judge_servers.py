"""The judge and real servers: the contract's app on each of them, the six examples, and the bug, which is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.abc
import pytest

from h3ref import H3App, flows, running
from h3ref.examples import callback, chat, counter, minimal, proxy, text
from h3ref.judge.app import LIMITS, Contract
from h3ref.judge.catalogue import Check, Group, Level, chosen, load_checks
from h3ref.judge.contract import judge_contract
from h3ref.judge.seen import Waits
from h3ref.judge.stream import judge_stream
from h3ref.judge.verdict import Finding, Outcome, Verdict, faults
from h3ref.judge.wire import Target, connect_to
from h3ref.testing import virtual_backends
from tests.asgi_servers import on_hypercorn, on_uvicorn

pytestmark = pytest.mark.anyio

STREAM = chosen(load_checks(), [Group.STREAM], [])
CONTRACT = chosen(load_checks(), [Group.CONTRACT], [])

MUSTS = tuple(check for check in CONTRACT if check.level == Level.MUST)

PATIENCE = 240.0
"""Seconds for all scenes: what a good server does comes long before, also if the machine stands still for a while."""

virtual = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio-virtual", "trio-virtual"])


def target_at(port: int, path: str = "") -> Target:
    url = f"http://127.0.0.1:{port}{path}"
    return Target(url, connect_to(url))


@asynccontextmanager
async def contract_on(serve: Any) -> AsyncIterator[Target]:
    """Serve the contract's app until it is told to end, or the test has."""
    ended = anyio.Event()

    async def until_ended(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        async with serve(Contract(ended.set).app, limits=LIMITS) as server:
            task_status.started(server.port)
            await ended.wait()

    async with anyio.create_task_group() as tasks:
        yield target_at(await tasks.start(until_ended))
        ended.set()


async def findings_of(judge: Any, target: Target, checks: tuple[Check, ...], **options: Any) -> dict[str, Finding]:
    verdicts: list[Verdict] = []
    await judge(target, checks, verdicts.append, **options)
    return {verdict.check.id: verdict.finding for verdict in verdicts}


async def keeps_the_contract(serve: Any) -> None:
    """Every must of the contract holds, and was looked at."""
    async with contract_on(serve) as target:
        findings = await findings_of(judge_contract, target, MUSTS, seconds=PATIENCE)
    assert {id: finding for id, finding in findings.items() if finding.outcome != Outcome.PASSED} == {}


async def test_our_own_server_keeps_the_contract() -> None:
    await keeps_the_contract(running)


async def test_it_is_kept_on_hypercorn() -> None:
    await keeps_the_contract(on_hypercorn)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_it_is_kept_on_uvicorn() -> None:
    await keeps_the_contract(on_uvicorn)


@virtual
async def test_our_own_servers_keep_alives_are_put_off_by_traffic() -> None:
    (keep_alives,) = [check for check in CONTRACT if check.id == "C-57"]
    async with contract_on(running) as target:
        findings = await findings_of(judge_contract, target, (keep_alives,), seconds=PATIENCE)
    assert findings["C-57"].outcome == Outcome.PASSED, findings


@virtual
async def test_the_bug_is_named_by_its_rule() -> None:
    async with contract_on(partial(running, flow=flows.broken)) as target:
        findings = await findings_of(judge_contract, target, CONTRACT, seconds=20)
    assert findings["C-41"].outcome == Outcome.FAILED
    assert "L-17" in findings["C-41"].seen
    assert findings["C-41"].evidence.endswith(b"Connection: keep-alive\r\n\r\n"), "H3Z's head, and nothing behind it"
    failing = {check.id for check in CONTRACT if findings[check.id].outcome == Outcome.FAILED}
    assert failing == {"C-41"}, {id: findings[id] for id in failing}


@virtual
async def test_without_the_contract_it_may_be_a_quiet_stream() -> None:
    async with running(callback.app, flow=flows.broken) as server:
        findings = await findings_of(judge_stream, target_at(server.port, "/broken"), STREAM)
    failing = {check.id: check.level for check in STREAM if findings[check.id].outcome == Outcome.FAILED}
    assert "C-12" in failing
    assert Level.MUST not in failing.values(), failing
    assert "quiet stream" in findings["C-12"].seen


EXAMPLES = [
    (minimal.app, "/events"),
    (callback.app, "/callback"),
    (callback.app, "/awaited"),
    (callback.app, "/blocking"),
    (counter.app, "/events"),
    (chat.app, "/chat/events"),
    (text.app, "/events"),
]


@virtual
async def test_no_must_fails_on_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are judged at the same time; proxy sends on what counter sends."""

    async def judge(app: H3App, path: str) -> None:
        async with running(app) as server:
            await judged(target_at(server.port, path))

    async def judged(target: Target) -> None:
        verdicts: list[Verdict] = []
        await judge_stream(target, STREAM, verdicts.append, waits=Waits())
        assert len(verdicts) == len(STREAM)
        assert faults(verdicts) == [], [verdict for verdict in verdicts if verdict.is_fault]

    async with running(counter.app) as upstream, running(proxy.app) as relay, anyio.create_task_group() as tasks:
        monkeypatch.setenv("H3REF_UPSTREAM", f"{upstream.url}/events")
        tasks.start_soon(judged, target_at(relay.port, "/events"))
        for app, path in EXAMPLES:
            tasks.start_soon(judge, app, path)
