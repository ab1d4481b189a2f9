"""The judge can't be fooled: each faulty server is found by its check, and by no unrelated must."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from h3ref.judge import catalogue
from h3ref.judge.catalogue import Group, Level, chosen, load_checks
from h3ref.judge.looks import LOOKS
from h3ref.judge.reply import Reply
from h3ref.judge.scenes import SCENES
from h3ref.judge.verdict import Outcome
from h3ref.judge.wire import MOST_BYTES, MOST_PARTS
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
@pytest.mark.parametrize("server", contract_servers.CORRECT, ids=lambda server: server.__name__)
async def test_whoever_keeps_the_contract_is_found_clean(server: type[contract_servers.GoodContract]) -> None:
    findings = await judged(server(), CONTRACT)
    assert {id: found for id, found in findings.items() if found.outcome != Outcome.PASSED} == {}


@virtual
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("server", "then"),
    [
        (contract_servers.EmptySuccess, "the end, as of a stream that had nothing to send"),
        (contract_servers.CutSuccess, "a cut, which does not say why"),
        (contract_servers.SilentSuccess, "silence"),
    ],
    ids=lambda of: getattr(of, "__name__", ""),
)
async def test_what_follows_a_200_that_should_be_a_failure_is_told_as_it_is(
    server: type[contract_servers.GoodContract], then: str
) -> None:
    findings = await judged(server(), CONTRACT)
    assert findings["C-42"].seen == f"200, and then {then}"


class Endless(Good):
    """Sends one line without an end, as fast as it can."""

    sent = 0

    async def body(self, client: Client) -> None:
        while True:
            await client.chunk(b"x" * 65536)
            self.sent += 65536


class Dripping(Good):
    """Sends one line without an end, byte by byte."""

    sent = 0

    async def body(self, client: Client) -> None:
        while True:
            await client.chunk(b"x")
            self.sent += 1


@virtual
@pytest.mark.anyio
async def test_so_it_is_of_one_that_comes_byte_by_byte() -> None:
    server = Dripping()
    await judged(server, CHECKS[:6])
    assert MOST_PARTS <= server.sent < 8 * (MOST_PARTS + 80)


@virtual
@pytest.mark.anyio
async def test_of_a_line_without_an_end_a_bounded_part_is_read() -> None:
    server = Endless()
    findings = await judged(server, CHECKS)
    assert findings["C-11"].outcome == Outcome.PASSED
    assert server.sent < 8 * (MOST_BYTES + 80 * 65536), "what was read, and what a connection holds"


HEAD = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED, SIZED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n", HEAD + b"Content-Length: 5\r\n\r\n"
ANSWERS = {
    "chunks": (
        CHUNKED + b"3;a=b\r\n\r\n\r\r\n10\r\n0123456789abcdef\r\n0\r\nX: 1\r\n\r\nrest",
        b"\r\n\r0123456789abcdef",
        "",
    ),
    "a length": (SIZED + b"helloHTTP/1.1", b"hello", ""),
    "an end": (HEAD + b"\r\nto the end", b"to the end", ""),
    "cut in a chunk": (CHUNKED + b"5\r\nhel", b"hel", "the connection ended before the last chunk"),
    "cut in a length": (SIZED + b"hel", b"hel", "the connection ended before the rest of its length"),
    "cut in the head": (HEAD, b"", "the connection ended inside the head"),
    "too long a chunk": (CHUNKED + b"2\r\nhello\r\n", b"he", "the chunk of 2 bytes does not end with CRLF"),
    "no CR": (CHUNKED + b"5\nhello\n", b"", "it is no size of a chunk, in hexadecimal and with CRLF"),
    "no size": (CHUNKED + b"data: " + b"x" * 300, b"", "a chunk begins without its size"),
    "no end of the head": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, b"", "no end of the head in 64 KiB"),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_an_answer_is_read_the_same_however_it_is_cut(name: str, size: int) -> None:
    raw, body, problem = ANSWERS[name]
    reply = Reply("GET", 0.0)
    for begin in range(0, len(raw), size):
        if reply.fault is None:
            reply.feed(raw[begin : begin + size], float(begin))
    reply.close("end", 1.0)
    assert (bytes(reply.body), reply.fault.problem if reply.fault else "") == (body, problem)
    assert reply.is_complete is not bool(problem)
    assert reply.fault is None or reply.fault.evidence


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value"),
        ("[]", "this reader knows only format 1 of the checks"),
        ('{"format": 2}', "this reader knows only format 1 of the checks"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"format": 1}', "checks"),
        ('{"format": 1, "checks": [{"id": "C-01"}]}', "C-01: a check has group, id, level"),
    ],
)
def test_what_is_no_catalogue_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "checks.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"{path}: .*{said}"):
        load_checks(path)


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
