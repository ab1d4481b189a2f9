"""The benchmark's servers and its client: every system does the same work, and what goes wrong is reported."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from h3ref.lab.bench import runner, sections
from h3ref.lab.bench.amounts import QUICK
from h3ref.lab.bench.load import Load, LoadError, ask, check
from h3ref.lab.bench.process import Clocks, ServerFailed, ServerProcess
from h3ref.lab.bench.reader import BadResponse, Reader
from h3ref.lab.bench.results import Results
from h3ref.lab.bench.sections import Case, Figure, Section
from h3ref.lab.bench.servers import work
from h3ref.lab.bench.servers.counter import CPU_CLOCK, counter
from h3ref.lab.bench.systems import SYSTEMS, System, chosen
from tests.waits import LONGER

TINY = replace(
    QUICK,
    events=20,
    yielding=10,
    fans=(2, 5),
    deliveries=20,
    alone=3,
    together=6,
    at_once=3,
    silent=4,
    paced=3,
    rate=200.0,
    seconds=0.02,
    few_seconds=0.02,
    grown=(2, 5),
    steady=400.0,
    lasting=0.02,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STAMP = 1_700_000_000_000_000_000


def chunk(number: int, newline: str = "\n") -> bytes:
    event = f"id: {number}{newline}event: tick{newline}data: t={STAMP + number} xx{newline}{newline}".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


# -- the client's reader


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 1000])
def test_a_reader_counts_events_however_they_are_cut(size: int, newline: str, timed: bool) -> None:
    stream = HEAD + b"".join(chunk(number, newline) for number in range(5)) + b"0\r\n\r\n"
    delays: list[int] = []
    reader = Reader(delays if timed else None)
    found = 0
    for at in range(0, len(stream), size):
        assert not reader.ended
        found += reader.feed(stream[at : at + size], STAMP + 10)
    assert reader.head == HEAD[:-4]
    assert found == reader.events == 5
    assert reader.ended
    assert delays == ([10, 9, 8, 7, 6] if timed else [])


def test_a_reader_sees_the_end_of_an_empty_body_and_of_a_connection() -> None:
    empty, cut = Reader(), Reader()
    empty.feed(HEAD + b"0\r\n\r\n", 0)
    cut.feed(HEAD + chunk(1), 0)
    assert (empty.ended, cut.ended) == (True, False)
    assert cut.feed(b"", 0) == 0
    assert cut.ended


def test_a_reader_refuses_another_status() -> None:
    with pytest.raises(BadResponse, match=r"answered 'HTTP/1.1 503 Busy'"):
        Reader().feed(b"HTTP/1.1 503 Busy\r\n\r\n", 0)


def test_the_data_begins_as_the_reader_expects() -> None:
    data = work.data()
    assert len(data) == work.SIZE
    delays: list[int] = []
    Reader(delays).feed(HEAD + f"data: {data}\n\n".encode(), time.time_ns())
    assert len(delays) == 1
    assert 0 <= delays[0] < 60e9


# -- one server


@pytest.fixture(scope="module")
def raw() -> Iterator[ServerProcess]:
    with ServerProcess("raw asyncio", ["raw"]) as server:
        yield server


def test_a_server_tells_its_clocks(raw: ServerProcess) -> None:
    before = raw.clocks()
    check(raw.port, 2000)
    after = raw.clocks()
    assert 0 < before.cpu < after.cpu
    assert after.memory is None or after.memory > 1_000_000


COLLECTIONS = """
import gc, sys, threading
from h3ref.lab.bench.servers import leash
gc.callbacks.append(lambda phase, info: print(phase, info["generation"], file=sys.stderr, flush=True))
leash.hold(1)
threading.Event().wait()
"""


def test_a_server_collects_its_garbage_when_it_is_asked_to_settle() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", COLLECTIONS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert "port" in server.stdout.readline()
    rest, said = server.communicate("settle\nclocks\n", timeout=60)
    settled, clocks = rest.splitlines()
    assert settled == "{}"
    assert "cpu" in clocks
    assert "start 2\nstop 2\n" in said, "all of it"


@pytest.mark.skipif(sys.platform != "linux", reason="what is counted here is counted by Linux")
def test_a_counter_counts_what_a_thread_does_too() -> None:
    clock = counter(CPU_CLOCK)
    before = clock()
    if before is None:
        pytest.skip("this kernel lets nobody count (kernel.perf_event_paranoid)")
    thread = threading.Thread(target=sum, args=(range(2_000_000),))
    thread.start()
    thread.join()
    after = clock()
    assert after is not None
    assert after - before > 1_000_000, "two million additions take more than a millisecond"


def test_what_can_not_be_counted_has_no_figure() -> None:
    assert counter((0, 999))() is None


@pytest.mark.parametrize(("said", "quantities"), [(None, ["cpu"]), (7000, ["cpu", "instructions"])])
def test_instructions_are_told_where_they_are_counted(said: int | None, quantities: list[str]) -> None:
    figures = sections.used(Clocks(1.0, 0, said and 0), Clocks(2.0, 0, said), 7)
    assert [one.quantity for one in figures] == quantities
    assert [one.value for one in figures[1:]] == [1.0] * (said is not None)


def test_too_few_events_are_an_error_that_says_how_many_came(raw: ServerProcess) -> None:
    for patience in LONGER:
        with Load(raw.port, patience) as client, suppress(LoadError):  # the machine stood still
            client.open(2, "/fan")
            with pytest.raises(LoadError, match=f"only 0 of 3 events came within {patience:g} s"):
                client.receive(3)
            return
    raise AssertionError("its heads do not come")


def test_requests_without_an_event_are_given_up(raw: ServerProcess) -> None:
    with Load(raw.port) as client:
        assert client.requests("/silent", 2, at_once=2, give_up=0.05) == []


def test_a_plain_request_that_is_refused_is_an_error() -> None:
    with ServerProcess("ours", ["ours"]) as server:
        with pytest.raises(LoadError, match="GET /nowhere was answered 404"):
            ask(server.port, "GET", "/nowhere")
        with Load(server.port) as client, pytest.raises(LoadError, match=r"it answered 'HTTP/1.1 404"):
            client.open(1, "/nowhere")


def test_nobody_there_is_an_error() -> None:
    with ServerProcess("raw asyncio", ["raw"]) as server:
        port = server.port
    with Load(port) as client, pytest.raises(LoadError, match="connecting failed: Connection refused"):
        client.open(1, "/stream?count=1")
    for wrong in (lambda: ask(port, "GET", "/subscribers"), lambda: check(port)):
        with pytest.raises(LoadError, match=r"failed: .*refused"):
            wrong()


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ServerFailed, match=r"its server did not start: ModuleNotFoundError: .*nothing_like_it"):
        ServerProcess("odd", ["nothing_like_it"]).start()


def test_a_server_that_has_ended_is_noticed() -> None:
    with ServerProcess("raw asyncio", ["raw"]) as server:
        os.kill(server.pid, signal.SIGTERM)
        with pytest.raises(ServerFailed, match="its server has ended"):
            server.clocks()
        server.stop()
        with pytest.raises(ServerFailed, match="its server has not been started"):
            server.clocks()
        server.start()
        check(server.port)


# -- all of it


def test_every_section_measures_raw_asyncio_and_h3ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "GIVE_UP", 0.05)
    found = runner.run(runner.SERVERS, chosen(["raw", "h3ref", "h3ref-broken"]), amounts=TINY, repeat=2)
    assert found.failures == ()
    for section in runner.SERVERS:
        ours = [one for one in found.of(section) if one.system != "h3ref-broken"]
        assert {one.system for one in ours} == {"raw", "h3ref"}
        assert all(len(one.runs) == 2 for one in ours)
    assert [one.size for one in found.of("fanout") if one.system == "h3ref"] == [2, 5]
    paced = next(found.of("pace", quantity="p50"))
    assert paced.distribution is not None
    assert paced.distribution.count == 2 * 3 * 4  # repetitions, streams, events
    first = {one.system: one for one in found.of("first", case="alone", quantity="p50")}
    assert [one.distribution.count for one in first.values() if one.distribution] == [6, 6, 0]
    broken = first["h3ref-broken"]
    assert broken.runs == ()
    assert broken.distribution is not None
    assert broken.distribution.given_up == 2 * sections.GIVEN_UP
    path = tmp_path / "results.json"
    found.save(path)
    assert Results.load(path).to_json() == found.to_json()


PEERS = [system for system in SYSTEMS if system.name not in ("raw", "h3ref", "h3ref-broken")]


@pytest.mark.parametrize("system", PEERS, ids=lambda system: system.name)
def test_every_system_does_the_same_work(system: System) -> None:
    for package in system.missing():
        pytest.skip(f"{package} is not installed")
    with ServerProcess(system.title, system.arguments) as server:
        check(server.port)
        found, _ = sections.server_sections(TINY, 1000)
        for section in found:
            if section.takes(system):
                for case in section.cases[:1]:
                    assert all(figure.value is not None for figure in section.measure(server, case, False))
        ask(server.port, "GET", "/subscribers")


def test_a_system_that_is_not_installed_is_named_and_left_out() -> None:
    absent = System("absent", "Absent", ("absent",), ("no-such-package",))
    found = runner.run(["yield"], [*chosen(["raw"]), absent], amounts=TINY, repeat=1)
    assert found.missing == {"absent": ["no-such-package"]}
    assert {one.system for one in found.measurements} == {"raw"}
    assert found.failures == ()


def test_a_server_that_can_not_start_is_reported_and_the_others_go_on() -> None:
    odd = System("odd", "Odd", ("nothing_like_it",))
    found = runner.run(["yield"], [odd, *chosen(["raw"])], amounts=TINY, repeat=1)
    [failure] = found.failures
    assert (failure.section, failure.system) == (runner.STARTS, "odd")
    assert "nothing_like_it" in failure.why
    assert {one.system for one in found.measurements} == {"raw"}


def test_a_server_that_breaks_is_reported_started_anew_and_measured_further(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def breaks(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
        seen.append(server.pid)
        if len(seen) == 1:
            ask(server.port, "POST", "/go?count=1&rate=nonsense", patience=0.2)
        return [Figure("cpu", "us", 1.0)]

    section = Section("stream", "one stream", "", (Case("a"), Case("b")), breaks)
    monkeypatch.setattr(runner, "server_sections", lambda amounts, files: ([section], []))
    found = runner.run(["stream"], chosen(["raw"]), amounts=TINY, repeat=2)
    [failure] = found.failures
    assert (failure.case, failure.system) == ("a", "raw")
    assert failure.why.startswith("POST /go?count=1&rate=nonsense failed: ")
    assert [(one.case, one.runs) for one in found.measurements] == [("b", (1.0, 1.0))]
    assert len(set(seen)) == 2


def test_there_is_a_module_for_every_system() -> None:
    for system in SYSTEMS:
        assert importlib.util.find_spec(f"h3ref.lab.bench.servers.{system.arguments[0]}") is not None
