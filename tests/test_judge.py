"""The judge can't be fooled: each faulty server is found by its check, and by no unrelated must."""

from __future__ import annotations

import tomllib

import pytest

from h3ref.judge import catalogue
from h3ref.judge.catalogue import Group, Level, chosen, load_checks
from h3ref.judge.looks import LOOKS
from h3ref.judge.scenes import SCENES
from h3ref.judge.verdict import Outcome
from h3ref.judge.wire import MOST_BYTES
from h3ref.testing import virtual_backends
from tests.judge import contract_servers
from tests.judge.correct import CORRECT
from tests.judge.faulty import FAULTY, Faulty
from tests.judge.servers import Client, Good, judged
from tests.pages import ROOT

CHECKS = chosen(load_checks(), [Group.STREAM], [])
CONTRACT = chosen(load_checks(), [Group.CONTRACT], [])

virtual = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])


@virtual
@pytest.mark.anyio
@pytest.mark.parametrize("faulty", FAULTY, ids=lambda faulty: f"{faulty.check}: {faulty.name}")
async def test_each_fault_is_found_by_its_check_and_by_no_unrelated_must(faulty: Faulty) -> None:
    findings = await judged(faulty.server(), CHECKS)
    broken = {check.id: check for check in CHECKS if findings[check.id].outcome == Outcome.FAILED}
    assert faulty.check in broken, findings[faulty.check]
    assert findings[faulty.check].evidence, "the bytes that prove it"
    musts = {id for id, check in broken.items() if check.level == Level.MUST}
    assert musts - {faulty.check} <= faulty.related, {id: findings[id] for id in musts}


@virtual
@pytest.mark.anyio
@pytest.mark.parametrize("server", CORRECT, ids=lambda server: server.__name__)
async def test_servers_that_differ_in_what_is_free_are_found_clean(server: type[Good]) -> None:
    findings = await judged(server(), CHECKS)
    broken = {check.id: check.level for check in CHECKS if findings[check.id].outcome == Outcome.FAILED}
    assert {id: findings[id] for id, level in broken.items() if level != Level.MAY} == {}


@virtual
@pytest.mark.anyio
@pytest.mark.parametrize("faulty", contract_servers.FAULTY, ids=lambda faulty: f"{faulty.check}: {faulty.name}")
async def test_each_fault_in_the_contract_is_found_by_its_check_and_by_no_unrelated_must(faulty: Faulty) -> None:
    findings = await judged(faulty.server(), CONTRACT)
    broken = {check.id: check for check in CONTRACT if findings[check.id].outcome == Outcome.FAILED}
    assert faulty.check in broken, findings[faulty.check]
    assert findings[faulty.check].evidence, "the bytes that prove it"
    musts = {id for id, check in broken.items() if check.level == Level.MUST}
    assert musts - {faulty.check} <= faulty.related, {id: findings[id] for id in musts}


@virtual
@pytest.mark.anyio
async def test_who_keeps_the_contract_is_found_clean() -> None:
    findings = await judged(contract_servers.GoodContract(), CONTRACT)
    assert {id: found for id, found in findings.items() if found.outcome != Outcome.PASSED} == {}


class Endless(Good):
    """Sends one line without an end, as fast as it can."""

    sent = 0

    async def body(self, client: Client) -> None:
        while True:
            await client.chunk(b"x" * 65536)
            self.sent += 65536


@virtual
@pytest.mark.anyio
async def test_of_a_line_without_an_end_a_bounded_part_is_read() -> None:
    server = Endless()
    findings = await judged(server, CHECKS)
    assert findings["C-11"].outcome == Outcome.PASSED
    assert server.sent < 8 * (MOST_BYTES + 80 * 65536), "what was read, and what a connection holds"


def test_there_are_many_of_both() -> None:
    assert len(FAULTY) >= 40
    assert {faulty.check for faulty in contract_servers.FAULTY} == {check.id for check in CONTRACT}
    assert len(CORRECT) >= 13
    assert {faulty.check for faulty in FAULTY} == {check.id for check in CHECKS} - {"C-38"}


def test_the_wheel_has_the_catalogue() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["spec/checks.json"] == catalogue._PACKAGED.relative_to(ROOT).as_posix()
    assert not catalogue._PACKAGED.exists(), "in the source tree spec/ itself is read"


def test_each_check_has_its_judge() -> None:
    assert sorted(LOOKS) == [check.id for check in CHECKS]
    assert sorted(SCENES) == [check.id for check in CONTRACT]
    ids = [check.id for check in load_checks()]
    assert ids == sorted(set(ids))
