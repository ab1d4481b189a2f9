"""The demo of a cluster: its timeline, what it says where a program is missing, and a run of all of it."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from docs.generate.many_machines import KEPT, run
from h3ref import trace
from h3ref.cli.main import main
from h3ref.lab.check import check
from h3ref.lab.cluster.chart import Process, draw, lives, stays
from h3ref.lab.cluster.people import Reader, Verdict, Writer
from h3ref.lab.cluster.programs import Failed, Missing, Program, free_port, redis_server
from h3ref.lab.cluster.scene import Cluster, play
from h3ref.lab.cluster.story import Story
from h3ref.lab.recorder import Recording
from h3ref.trace import Record, Step
from tests.conftest import require_program


def step(what: Step, exchange: int, at: float, after: str = "streaming", detail: str | None = None) -> Record:
    return Record(
        time=at,
        exchange=exchange,
        step=what.name,
        who=what.who,
        to=what.to,
        trigger=what.trigger,
        before="streaming",
        after=after,
        error=None,
        rule=None,
        reason="shutdown" if after == "closed" else None,
        size=None,
        detail=detail,
    )


def stream(exchange: int, user: str, begin: float, end: float | None, *events: float) -> list[Record]:
    """What a process records of a stream."""
    return [
        step(trace.REQUEST, exchange, begin, detail=f"GET /chat/events?user={user}"),
        step(trace.HEADERS, exchange, begin),
        *(step(trace.EVENT, exchange, at) for at in events),
        *([] if end is None else [step(trace.CLOSES, exchange, end, "closed")]),
    ]


ONE = Process("server 1, worker 1", Recording([*stream(1, "ann", 10, 14, 11, 13), *stream(2, "bob", 10, None, 12)]), 16)
IDLE = Process("server 1, worker 2", Recording([step(trace.REQUEST, 1, 10, detail="POST /chat/send")]))
OTHER = Process("server 2, worker 1", Recording([*stream(1, "ann", 15, None, 19), *stream(2, "bob", 17, 20)]))


def test_a_row_says_which_process_has_the_stream_and_when_events_came() -> None:
    drawn = draw([ONE, IDLE, OTHER], {"server 1 is killed": 14.0, "all is deployed anew": 19.5}, columns=45)
    assert drawn.split("\n") == [
        "     0 s     2 s     4 s     6 s     8 s    10 s",
        "                     ▼ server 1 is killed",
        "                      all is deployed anew ▼",
        "ann  aaaaAaaaaaaaAaaaa···bbbbbbbbbbbbbbbbBbbb",
        "bob  aaaaaaaaAaaaaaaaaaaaaaaaa···bbbbbbbbbbbb",
        "",
        "a  server 1, worker 1",
        "b  server 2, worker 1",
    ]


def test_a_stream_that_nobody_closed_ends_with_its_process() -> None:
    assert [(stay.client, stay.process, stay.end) for stay in stays([ONE, IDLE, OTHER])] == [
        ("ann", 0, 14),
        ("bob", 0, 16),
        ("ann", 2, math.inf),
        ("bob", 2, 20),
    ]


def test_nothing_is_drawn_of_nothing() -> None:
    with pytest.raises(ValueError, match="no stream was recorded"):
        draw([IDLE], {})


def test_what_several_processes_have_recorded_into_one_file_is_told_apart_by_their_deaths() -> None:
    recording = Recording([*stream(1, "ann", 10, None, 11), *stream(1, "ann", 15, None, 16), *stream(1, "ann", 20, 21)])
    found = lives("one", recording, [14.0, 18.0])
    assert [(one.name, len(one.recording), one.died) for one in found] == [
        ("one", 3, 14.0),
        ("one, restarted", 3, 18.0),
        ("one, restarted", 3, math.inf),
    ]


def test_a_story_is_drawn_and_kept(tmp_path: Path) -> None:
    story = Story([ONE, IDLE, OTHER], {"server 1 is killed": 14.0}, {"ann": ["1", "2"]})
    figure = story.picture()
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    names = [text for text in said if " on server " in text]
    assert names == [
        "ann on server 1, worker 1",
        "bob on server 1, worker 1",
        "ann on server 2, worker 1",
        "bob on server 2, worker 1",
    ]
    assert {"killed, 1 event", "server 1 is killed"} <= set(said)
    story.save(tmp_path / "story.json")
    again = Story.load(tmp_path / "story.json")
    assert (list(again.processes), again.marks, again.heard) == (list(story.processes), story.marks, story.heard)
    for text in ("[]", "{}", '{"marks": 1}'):
        (tmp_path / "none.json").write_text(text)
        with pytest.raises(ValueError, match=r"none\.json: it is not a saved story"):
            Story.load(tmp_path / "none.json")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h3ref.lab.cluster.programs.shutil.which", lambda name, path=None: None)


@pytest.mark.usefixtures("nothing_installed")
def test_a_program_that_is_missing_is_named_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="redis-server is not on this machine: apt install redis-server"):
        redis_server(tmp_path)


@pytest.mark.usefixtures("nothing_installed")
def test_the_command_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--cluster"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "h3ref: redis-server is not on this machine: apt install redis-server\n")


@pytest.mark.anyio
async def test_a_program_that_ends_at_once_is_told_with_what_it_said(tmp_path: Path) -> None:
    program = Program("clock", [sys.executable, "-c", "raise SystemExit('no battery')"], free_port(), tmp_path)
    with pytest.raises(Failed, match="clock does not listen: no battery"):
        await program.start()
    await program.end()  # it has ended: does nothing


@pytest.mark.anyio
async def test_a_program_can_be_killed_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    program = Program("web", [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], port, tmp_path)
    for _ in range(2):
        await program.start()
        program.kill()
        program.kill()  # again: nothing
    await program.start()
    await program.end()


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_nothing_is_lost_whatever_is_killed_restarted_and_deployed(tmp_path: Path) -> None:
    for name in ("redis-server", "nginx"):
        require_program(name, name)
    cluster = Cluster(tmp_path)
    readers, writer = [Reader(name, cluster.nginx.url) for name in ("ann", "bob", "cid")], Writer(cluster.nginx.url)
    async with cluster.running():
        await play(cluster, readers, writer)
    verdict = Verdict(writer, readers)
    assert verdict.is_good, verdict.tell(writer, readers)
    assert all(reader.connections > 1 for reader in readers), "each has lost its process at least once"
    processes = cluster.processes()
    killed = [process.name for process in processes if process.died < math.inf]
    assert killed
    assert all(name.startswith("server 1, worker ") for name in killed)
    assert len(processes) > len(killed) + 2, "new workers were started"
    for process in processes:
        assert check(process.recording, whole=process.died == math.inf) is None
    drawn = draw(processes, cluster.marks)
    assert all(f"▼ {text}" in drawn or f"{text} ▼" in drawn for text in cluster.marks)


# -- what stands beside the notebook


def test_the_run_that_is_kept_beside_the_notebook_is_whole() -> None:
    story = Story.load(KEPT)
    headlines = [f"headline {number}" for number in range(1, 10)]
    assert story.heard == {"ann": headlines, "bob": headlines}
    for process in story.processes:
        assert check(process.recording, whole=process.died == math.inf) is None
    assert story.picture().get_label() == "timeline of 3 exchanges: 2 client_gone; 1 killed"


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_without_a_redis_the_notebook_says_so_and_shows_that_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(KEPT.parents[1])
    assert (await run()).heard == Story.load(KEPT).heard
    assert capsys.readouterr().out == (
        "redis-server is not on this machine: apt install redis-server\n"
        "What follows is the run that is kept beside this notebook.\n"
    )
