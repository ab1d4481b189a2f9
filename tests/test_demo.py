"""The demo: what it prints is what happened, and its page answers until it is told to end."""

from __future__ import annotations

import http.client
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

import h3ref
from h3ref import flows
from h3ref.examples.callback import EVENTS
from h3ref.lab.demo.picture import picture
from h3ref.lab.demo.watch import EVENTS as EVENTS_KEPT
from h3ref.lab.demo.watch import Watch
from h3ref.trace import DATA, EVENT, REQUEST, SEND_EVENT, Record
from tests.processes import IN_FOREGROUND
from tests.waits import blocking_until

EVIDENCE = """\
            error: Failed to get SSE writer after 10 attempts
            debug: SSE mode detected, setting up streaming connection
            debug: SSE headers sent, 124 bytes
"""

HEAD = """\
 ms  124 bytes
            HTTP/1.1 200 OK\\r\\n
            Cache-Control: no-cache\\r\\n
            X-Accel-Buffering: no\\r\\n
            Content-Type: text/event-stream\\r\\n
            Connection: keep-alive\\r\\n
            \\r\\n
            ... nothing for 1.0 s, connection still open
"""


def environment(**more: str) -> dict[str, str]:
    path = [str(Path(h3ref.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "COLUMNS": "100", **more}


class Reports:
    """Demos that report once; all run at the same time, since most of theirs is a wait for what does not come."""

    def __init__(self, taken: int) -> None:
        self.processes = {
            "as it is": self.start("--port", "0"),
            "all": self.start("--port", "0", "--all"),
            "all on a wide terminal": self.start("--port", "0", "--all", COLUMNS="120"),
            "all on a narrow terminal": self.start("--port", "0", "--all", COLUMNS="80"),
            "all in ASCII": self.start("--port", "0", "--all", PYTHONIOENCODING="ascii"),
            "on a taken port": self.start("--port", str(taken)),
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "h3ref", "demo", "--once", *arguments],
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __getitem__(self, name: str) -> str:
        process = self.processes[name]
        printed, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
        return printed


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def reports(taken: int) -> Iterator[Reports]:
    reports = Reports(taken)
    yield reports
    for process in reports.processes.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def printed(reports: Reports) -> str:
    return reports["as it is"]


@pytest.fixture(scope="module")
def everything(reports: Reports) -> str:
    return reports["all"]


def section(printed: str, name: str) -> str:
    """What is printed of one flow's client and log."""
    (found,) = re.findall(rf"^[X+] {name}  .*?\n\n", printed, re.DOTALL | re.MULTILINE)
    return str(found)


def diagram(printed: str, name: str) -> str:
    (found,) = re.findall(rf"^{name}\n    ms  Client.*?\n\n", printed, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_broken_flow_shows_the_evidence(printed: str) -> None:
    broken = section(printed, "broken")
    assert HEAD in broken
    assert broken.endswith(EVIDENCE + "\n")


@pytest.mark.parametrize("name", ["callback", "awaited", "blocking"])
def test_each_fixed_flow_shows_its_events_and_the_end(everything: str, name: str) -> None:
    fixed = section(everything, name)
    places = [fixed.index(message.encode().decode().replace("\n", "\\n")) for message in EVENTS]
    assert places == sorted(places)
    assert fixed.endswith(" ms  end of the connection\n\n")
    assert "log" not in fixed


def test_the_steps_are_drawn(everything: str) -> None:
    broken = diagram(everything, "broken")
    assert "get_sse_writer() ─X" in broken
    assert "(rule L-17), 10 times" in broken
    assert "(too late!)" in broken
    assert "[No events sent - connection hangs]" in broken
    assert "Headers, 124 bytes" in broken
    assert broken.rstrip().split("\n")[-1].lstrip(" 0123456789.").startswith("├─ disconnect ")
    for name in ("callback", "awaited", "blocking"):
        fixed = diagram(everything, name)
        assert f"Event {len(EVENTS)}, {len(EVENTS[-1].encode())} bytes" in fixed
        assert "Connection closed" in fixed
        assert "late" not in fixed


def test_wide_terminals_get_two_diagrams_side_by_side(reports: Reports) -> None:
    printed = reports["all on a wide terminal"]
    assert re.search(r"^broken {52,}callback$", printed, re.MULTILINE)
    assert "in brief" not in printed
    assert re.search(r"^awaited {52,}blocking$", printed, re.MULTILINE)
    assert max(map(len, printed.split("\n"))) <= 118


def test_the_last_screen_has_broken_next_to_fixed_and_what_came_of_it(printed: str) -> None:
    screen = printed.split("\n")[-40:]
    steps = [
        re.split(r"\s{3,}", line.strip()) for line in screen[screen.index("The same in brief, broken next to fixed") :]
    ]
    assert steps[1:5] == [
        ["broken", "callback"],
        ["GET /broken", "GET /callback"],
        ["start_sse()", "start_sse()"],
        ["get_sse_writer()  X rule L-17, 10 times", "set_stream_callback"],
    ]
    assert ["connection ready  (too late!)", "connection ready"] in steps
    assert "What the client had" in screen


def test_of_the_other_fixes_it_prints_what_came_and_with_all_everything(printed: str, everything: str) -> None:
    for name in ("awaited", "blocking"):
        assert section(printed, name).endswith(" bytes, 4 events, end of the connection\n\n")
        assert f"\n{name}\n    ms  Client" not in printed
    assert len(printed.split("\n")) < 140 < len(everything.split("\n"))


def test_narrow_terminals_get_one_below_the_other(reports: Reports, printed: str) -> None:
    assert max(map(len, printed.split("\n"))) <= 100
    assert max(map(len, reports["all on a narrow terminal"].split("\n"))) <= 80
    assert "\x1b" not in printed


def test_it_says_where_the_bug_and_the_fix_live(printed: str) -> None:
    lines = Path(inspect.getsourcefile(flows) or "").read_text().splitlines()
    for what, name, step in (
        ("bug", "broken", "await exchange.run_handler()"),
        ("fix", "callback", "await exchange.run_callback(callback, writer)"),
        ("fix", "awaited", "return exchange.hand_over(writer)"),
        ("fix", "blocking", "return BlockingSSEWriter(exchange.hand_over(writer))"),
    ):
        found = re.search(rf"Where the {what} lives:  h3ref/flows.py:(\d+)  {name}\n", printed)
        assert found is not None
        assert lines[int(found[1]) - 1].strip().startswith(step)


def test_it_says_what_each_client_had_in_the_end(printed: str) -> None:
    assert "  broken    headers, 0 events, still open when it gave up, after 1.0 s of silence\n" in printed
    for name in ("callback", "awaited", "blocking"):
        assert f"  {name:9} headers, 4 events, ended properly\n" in printed


def test_a_taken_port_moves_it_to_the_next_free_one(reports: Reports, taken: int) -> None:
    found = re.search(r"GET http://127.0.0.1:(\d+)/callback", reports["on a taken port"])
    assert found is not None
    assert int(found[1]) != taken


def test_a_terminal_without_box_characters_is_no_failure(reports: Reports) -> None:
    assert reports["all in ASCII"].isascii()


class Demo:
    """A demo that serves its page."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "h3ref", "demo", "--port", "0"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.ports: dict[str, int] = {}

    def read_report(self) -> None:
        """Read what it prints up to its page's address, which is when it serves."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"GET http://127.0.0.1:(\d+)/(\w+)", line):
                self.ports[found[2]] = int(found[1])
            if found := re.search(r"See it in a browser:  (http://127.0.0.1:\d+/)  ", line):
                self.url = found[1]
                break

    def get(self, port: int, path: str) -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path)
        response = connection.getresponse()
        found = response.status, response.headers, response.read().decode()
        connection.close()
        return found

    def state(self, port: int, target: str, wanted: str) -> dict[str, object]:
        """Ask for a stream's state until it is the wanted one."""
        found: dict[str, object] = {}

        def is_wanted() -> bool:
            status, _, text = self.get(port, f"/state?target={target}")
            assert status == 200
            found.update(json.loads(text))
            return found["state"] == wanted

        blocking_until(is_wanted)
        return found


@pytest.fixture(scope="module")
def demos() -> Iterator[list[Demo]]:
    """One that answers, and two that are ended; these, too, wait at the same time."""
    demos = [Demo() for _ in range(3)]
    for demo in demos:
        demo.read_report()
    yield demos
    for demo in demos:
        demo.process.kill()
        demo.process.communicate()


@pytest.fixture
def demo(demos: list[Demo]) -> Demo:
    return demos[0]


def test_the_page_and_its_panels_answer(demo: Demo) -> None:
    fixed, broken = demo.ports["callback"], demo.ports["broken"]
    assert demo.url == f"http://127.0.0.1:{fixed}/"
    for port, path, holds in (
        (fixed, "/", f'"broken": "http://127.0.0.1:{broken}/panel/broken"'),
        (fixed, "/panel/fixed", '"choices": ["callback", "awaited", "blocking"]'),
        (broken, "/panel/broken", '"choices": ["broken"]'),
    ):
        status, headers, text = demo.get(port, path)
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert holds in text
        assert "{{" not in text
        assert set(re.findall(r"https?://([^/:\"]*)", text)) == {"127.0.0.1"}
    assert demo.get(fixed, "/panel/other")[0] == 404


@pytest.mark.parametrize("flow", ["callback", "awaited", "blocking"])
def test_a_stream_of_the_page_ticks_until_its_client_leaves(demo: Demo, flow: str) -> None:
    fixed, target = demo.ports["callback"], f"/ticks/{flow}%3Fstream%3Da"
    assert json.loads(demo.get(fixed, f"/state?target={target}")[2])["state"] is None
    with socket.create_connection(("127.0.0.1", fixed), timeout=30) as reader:
        reader.sendall(f"GET /ticks/{flow}?stream=a HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        received = b""
        while b"data: 4\n" not in received:
            received += reader.recv(10_000)
        running = demo.state(fixed, target, "streaming")
        assert (running["reason"], running["rejected"]) == (None, [])
        assert "more event" in str(running["picture"])
    left = demo.state(fixed, target, "closed")
    assert left["reason"] == "client_gone"
    assert left["passed"] == ["requested", "sse_started", "headers_sent", "streaming"]


def test_the_state_of_a_stream_is_told_by_its_own_server(demo: Demo) -> None:
    broken = demo.ports["broken"]
    with socket.create_connection(("127.0.0.1", broken), timeout=30) as hanging:
        hanging.sendall(b"GET /ticks/broken?stream=b HTTP/1.1\r\nHost: test\r\n\r\n")
        silent = demo.state(broken, "/ticks/broken%3Fstream%3Db", "headers_sent")
        assert silent["rejected"] == [{"step": "get_sse_writer", "error": "ConnectionNotReady", "rule": "L-17"}] * 10
        assert "(too late!)" in str(silent["picture"])
        assert len(hanging.recv(1000)) == 124
    assert demo.state(broken, "/ticks/broken%3Fstream%3Db", "closed")["reason"] == "client_gone"


@pytest.mark.parametrize(("place", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_signal_ends_it_tidily(demos: list[Demo], place: int, number: signal.Signals) -> None:
    demo = demos[place]
    with socket.create_connection(("127.0.0.1", demo.ports["broken"]), timeout=30) as hanging:
        hanging.sendall(b"GET /broken HTTP/1.1\r\nHost: test\r\n\r\n")
        assert len(hanging.recv(1000)) == 124
        demo.process.send_signal(number)
        out, errors = demo.process.communicate(timeout=30)
    assert demo.process.returncode == 0
    assert out.strip() == ""
    assert errors == EVIDENCE.replace(" " * 12, "")


def test_an_interrupted_report_is_no_success() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "h3ref", "demo", "--port", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=IN_FOREGROUND,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "GET " in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (130, "h3ref: interrupted\n")


def test_the_drawing_of_a_stream_without_end_has_its_first_events_and_counts_the_others() -> None:
    passed: list[Record] = []
    watch = Watch(passed.append, keep=1)
    steps = [(REQUEST, "GET /ticks/callback?stream=<1>"), *[(SEND_EVENT, None), (DATA, None), (EVENT, None)] * 10]
    for number, (step, detail) in enumerate(steps):
        watch(Record(number, 7, step.name, step.who, step.to, step.trigger, "streaming", "streaming", detail=detail))
    watch(Record(99, 7, "returns", "handler", "adapter", None, "streaming", "streaming"))
    watch(Record(99, 8, "returns", "handler", "adapter", None, "streaming", "streaming"))
    assert len(passed) == len(steps) + 2
    stream = watch.of("/ticks/callback?stream=<1>")
    assert [record.step for record in stream.records] == [
        "request",
        *["send_event", "data", "event"] * EVENTS_KEPT,
        "returns",
    ]
    assert stream.more == 10 - EVENTS_KEPT
    drawn = ElementTree.fromstring(picture(stream.records, more=stream.more))
    told = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert told[:4] == ["Client", "Handler", "Adapter", "Connection"]
    assert told[-2:] == ["… and 7 more events", "returns 99000.0"]


def test_of_the_page_s_streams_the_latest_are_kept() -> None:
    watch = Watch(lambda record: None, keep=2)
    for number in range(1, 4):
        watch(Record(0, number, "request", "client", "handler", None, "", "requested", detail=f"GET /ticks/{number}"))
    assert [bool(watch.of(f"/ticks/{number}").records) for number in range(1, 4)] == [False, True, True]
    assert picture([]).startswith("<svg ")
