"""The judge of clients can't be fooled: each faulty client is found by its check, and by no unrelated one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import anyio
import pytest

from h3ref.judge.catalogue import Group, chosen, load_checks
from h3ref.judge.clients import Client, Message, NoClient, Program, Take, judge_client
from h3ref.judge.clients.judge import SCENES
from h3ref.judge.clients.vectors import ORDER, load
from h3ref.judge.verdict import Finding, Outcome, Verdict
from tests.judge.clients import CORRECT, FAULTS, SILENCE, Anew, Correct, Impatient, NoCarriageReturns, OneBehind
from tests.pages import ROOT
from tests.waits import blocking_until

CHECKS = chosen(load_checks(), [Group.CLIENT], [])
LIMIT = 20.0
SLOW = {OneBehind, NoCarriageReturns}
"""Those that are waited for to the limit, and so begin first."""

AT_ONCE = 12

Findings = dict[str, Finding]


async def judged(client: Client, *only: str, silence: float = 0.0, limit: float = LIMIT) -> Findings:
    found: Findings = {}

    def tell(verdict: Verdict) -> None:
        assert verdict.check.id not in found, "a verdict is told once"
        found[verdict.check.id] = verdict.finding

    wanted = chosen(CHECKS, [Group.CLIENT], only)
    await judge_client(client, wanted, tell, limit=limit, silence=silence)
    assert found.keys() == {check.id for check in wanted}
    return found


def failed(found: Findings) -> dict[str, str]:
    return {id: one.seen for id, one in found.items() if one.outcome == Outcome.FAILED}


@pytest.fixture(scope="module")
def all_found() -> dict[type[Correct], Findings]:
    """What the judge found of each client, several of them at a time: they wait more than they do."""
    found: dict[type[Correct], Findings] = {}

    async def judge(kind: type[Correct], places: anyio.CapacityLimiter) -> None:
        async with places:
            found[kind] = await judged(Anew(kind), silence=SILENCE if kind is Impatient else 0.0)

    async def judge_all() -> None:
        places = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as group:
            for kind in sorted((*CORRECT, *FAULTS), key=lambda kind: kind not in SLOW):
                group.start_soon(judge, kind, places)

    anyio.run(judge_all)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: str(kind.__name__))
def test_a_faulty_client_is_found_by_its_check_alone(
    kind: type[Correct], all_found: dict[type[Correct], Findings]
) -> None:
    found = failed(all_found[kind])
    assert found.keys() == FAULTS[kind], found
    for id in found:
        assert all_found[kind][id].evidence, f"{id} is not proved"


@pytest.mark.slow
@pytest.mark.parametrize("kind", CORRECT, ids=lambda kind: str(kind.__name__))
def test_a_correct_client_is_found_clean(kind: type[Correct], all_found: dict[type[Correct], Findings]) -> None:
    assert failed(all_found[kind]) == {}
    not_so = {id: one.outcome for id, one in all_found[kind].items() if one.outcome != Outcome.PASSED}
    assert not_so == {"C-91": Outcome.NOT_APPLICABLE}


@pytest.mark.parametrize("kind", [Correct, *list(FAULTS)[::8]], ids=lambda kind: str(kind.__name__))
def test_it_judges_the_same_on_trio(kind: type[Correct]) -> None:
    found = anyio.run(partial(judged, Anew(kind)), backend="trio")
    assert failed(found).keys() == FAULTS.get(kind, set())


def test_each_check_is_played_and_finds_a_fault() -> None:
    ids = {check.id for check in CHECKS}
    assert {*ORDER, *SCENES} == ids
    assert not set(ORDER) & SCENES.keys()
    meant = set().union(*FAULTS.values())
    assert ids - meant == {"C-60"}, "without that, nothing is judged"


def test_every_case_of_one_connection_is_played() -> None:
    cases = load()
    assert len(cases) > 110
    assert {case.check for case in cases} == set(ORDER) - {"C-68"}
    assert len({case.name for case in cases}) == len(cases)


class Mute:
    """Asks, and prints nothing."""

    async def run(self, url: str, take: Take) -> str:
        await Correct().run(url, self.forget)
        return ""

    async def forget(self, message: Message) -> None:
        pass


@pytest.mark.anyio
async def test_who_prints_nothing_fails_the_first_check_and_the_rest_of_them_is_not_judged() -> None:
    found = await judged(Mute(), *ORDER)
    assert failed(found).keys() == {"C-60"}
    assert {one.outcome for id, one in found.items() if id != "C-60"} == {Outcome.NOT_RUN}


# -- programs

PROGRAM = """
    import json, sys, urllib.request
    for line in urllib.request.urlopen(sys.argv[1]):
        if line.startswith(b"data: "):
            print(json.dumps({"data": line[6:-1].decode()}), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "client.py"
    file.write_text(textwrap.dedent(PROGRAM))
    return file


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["", " {url} and more"], ids=["the last argument", "where it is asked for"])
async def test_a_program_is_started_with_the_url(program: Path, place: str) -> None:
    found = await judged(Program(f"{sys.executable} {program}{place}"), "C-76", "C-92", "C-80")
    assert failed(found).keys() == {"C-92", "C-80"}
    assert found["C-80"].seen == "the request has no Accept header"
    assert b"GET /stream HTTP/1.1" in found["C-92"].evidence


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pass", "no request came before the client ended"),
        (
            "import urllib.request, sys; urllib.request.urlopen(sys.argv[1]); print('hello')",
            "a message is a line such as",
        ),
        ("raise SystemExit('I have no time')", "I have no time"),
    ],
    ids=["asks for nothing", "prints something else", "gives up"],
)
async def test_what_is_no_client_is_not_judged(tmp_path: Path, code: str, said: str) -> None:
    file = tmp_path / "client.py"
    file.write_text(code)
    with pytest.raises(NoClient, match=said):
        await judged(Program(f"{sys.executable} {file}"))


PARENT = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
CHILD = """
    import os, pathlib, sys, time, urllib.request
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
    urllib.request.urlopen(sys.argv[2])
    time.sleep(3600)
"""


def test_a_program_is_ended_with_those_that_it_started(tmp_path: Path) -> None:
    """It waits for a child that never ends, in whose hands is its output, too."""
    parent, child, pid = tmp_path / "parent.py", tmp_path / "child.py", tmp_path / "pid"
    parent.write_text(PARENT)
    child.write_text(textwrap.dedent(CHILD))
    command = f"{sys.executable} {parent} {child} {pid}"
    assert failed(anyio.run(partial(judged, limit=10.0), Program(command), "C-80")).keys() == {"C-80"}
    blocking_until(lambda: not _is_alive(int(pid.read_text())))


def _is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "the command is empty"),
        ("python 'client.py", "is not a command: No closing quotation"),
        ("no-such-program {url}", "there is no program 'no-such-program'"),
    ],
)
def test_a_command_that_starts_nothing_is_refused(command: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Program(command)


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "h3ref", "check", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "10000"},  # readline, in pytest, tells programs that it starts 80: they fold
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_judges_a_client(program: Path) -> None:
    done = check("--client", f"{sys.executable} {program}", "--only", "C-76", "--only", "C-92")
    assert (done.returncode, done.stderr) == (1, "")
    assert "C-76 must   passed" in done.stdout
    assert (
        "C-92 must   failed         It comes back after the end: the stream ended, and the client did not come"
        in done.stdout
    )
    assert "     bytes:  client: GET /stream HTTP/1.1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--client", "no-such-program"], "there is no program 'no-such-program'"),
        (["--client", "true", "--only", "C-76"], "true: no request came before the client ended"),
        (["--client", "true", "http://127.0.0.1:1/"], "--client COMMAND goes without URL"),
        (["--client", "true", "--only", "C-01"], "C-01 belongs to the group stream"),
        ([], "URL or --client COMMAND is required"),
    ],
)
def test_what_the_command_line_can_not_judge_is_one_line(arguments: list[str], said: str) -> None:
    done = check(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
