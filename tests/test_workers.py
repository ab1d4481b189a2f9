"""`serve("module:app", workers=N)` and `h3ref serve --workers N`: real processes, replaced, ended, none left over."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from h3ref import AppNotFound, H3App, serve
from h3ref.cli.main import main
from tests.servers import PATIENCE, Served, read_all, read_until, started
from tests.waits import blocking_until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs Linux, whose /proc tells the workers"
)

APP = """
import os
import time
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import anyio
from h3ref import Channel, H3App

VERSION = "first"
Path(f"imported-{os.getpid()}").touch()

news = Channel(name="news")

@asynccontextmanager
async def lifespan(app):
    if Path("no-database").exists():
        raise ConnectionRefusedError("no database")
    yield
    Path(f"left-{os.getpid()}").touch()

app = H3App(lifespan=lifespan)

@app.get("/process")
async def process(event):
    event.send_text(f"{os.getpid()}")

@app.get("/version")
async def version(event):
    event.send_text(VERSION)

@app.get("/stats")
async def stats(event):
    event.send_json([asdict(each) for each in await event.all_stats()])

@app.get("/stream")
def stream(event):
    event.start_sse()
    event.set_stream_callback(hold)

async def hold(writer):
    await writer.send_event(f"of {os.getpid()}.")
    await anyio.sleep_forever()

@app.get("/news")
def get_news(event):
    event.start_sse()
    event.set_stream_callback(subscribe)

async def subscribe(writer):
    await writer.send_event("subscribed")
    await news.stream(writer)

@app.get("/deaf")
async def deaf(event):
    while True:
        try:
            await anyio.sleep_forever()
        except BaseException:
            pass

@app.get("/blocked")
async def blocked(event):
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await writer.send_event("blocked")
        await writer.flush()
        while True:
            time.sleep(0.01)
"""

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(APP)
    return tmp_path


def serving(
    folder: Path, backend: str = "asyncio", *more: str, workers: int = 2, announcement: str = "serves on"
) -> Any:
    """`h3ref serve` with two workers."""
    command = ["-m", "h3ref", "serve", "served:app", "--port", "0", "--backend", backend, "--workers", str(workers)]
    # Nobody reads meanwhile what they log: a pipe that is full would hold them up.
    return started([*command, "--no-access-log", *more], folder, announcement)


def ended_properly(sock: socket.socket) -> bool:
    with sock:
        return read_all(sock).endswith(b"0\r\n\r\n")


def figures_of(served: Served) -> list[dict[str, Any]]:
    """The figures of both workers: one that stands still for more than a second is left out, so that is asked again."""
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = json.loads(served.get("/stats"))
        return len(found) == 2

    blocking_until(are_there)
    return found


def streams(served: Served, count: int) -> dict[int, list[socket.socket]]:
    """Open streams, by the process that they are of."""
    found: dict[int, list[socket.socket]] = {}
    for _ in range(count):
        sock = served.ask("/stream")
        said = re.search(rb"of (\d+)\.", read_until(sock, b".\n\n"))
        assert said
        found.setdefault(int(said[1]), []).append(sock)
    return found


@BACKENDS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_serve_and_one_signal_ends_all_streams_properly(folder: Path, backend: str, number: signal.Signals) -> None:
    with serving(folder, backend) as served:
        assert "with 2 workers" in served.said[-1]
        workers = served.workers()
        assert len(workers) == 2
        by_process = streams(served, 30)
        assert sorted(by_process) == workers, "the system spreads them"
        served.process.send_signal(number)
        assert all(ended_properly(sock) for socks in by_process.values() for sock in socks)
        assert served.end() == 0
    for pid in workers:
        assert (folder / f"imported-{pid}").exists()
        assert (folder / f"left-{pid}").exists(), "each has its own lifespan"
    assert not any("Traceback" in line for line in served.said)


@BACKENDS
def test_a_signal_that_reaches_the_whole_group_ends_all_streams_properly(folder: Path, backend: str) -> None:
    """As Ctrl-C does, and a service manager's SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with serving(folder, backend) as served:
            by_process = streams(served, 10)
            os.killpg(served.process.pid, number)
            assert all(ended_properly(sock) for socks in by_process.values() for sock in socks)
            assert served.end() == 0


@BACKENDS
@pytest.mark.parametrize("path", ["/deaf", "/blocked"])
def test_a_second_signal_ends_all_at_once(folder: Path, backend: str, path: str) -> None:
    with serving(folder, backend, "--grace", "60") as served:
        busy = served.ask(path)
        if path == "/blocked":
            read_until(busy, b"blocked")
        by_process = streams(served, 20 if path == "/deaf" else 0)
        served.process.send_signal(signal.SIGTERM)
        for socks in by_process.values():
            assert all(map(ended_properly, socks))
        served.until_said("SIGTERM: shutting down")
        served.process.send_signal(signal.SIGINT)
        assert served.end() == -signal.SIGINT
        busy.close()


@BACKENDS
def test_workers_end_in_order_when_their_parent_is_killed(folder: Path, backend: str) -> None:
    with serving(folder, backend) as served:
        by_process = streams(served, 10)
        served.process.kill()
        assert all(ended_properly(sock) for socks in by_process.values() for sock in socks)
        assert served.end() == -signal.SIGKILL


@BACKENDS
def test_one_that_is_killed_is_replaced_and_nobody_is_refused(folder: Path, backend: str) -> None:
    with serving(folder, backend) as served:
        by_process = streams(served, 30)
        victim, survivor = served.workers()
        refused: list[OSError] = []
        answered: list[str] = []
        over = threading.Event()

        def keep_asking() -> None:
            while not over.is_set():
                try:
                    answered.append(served.get("/process"))
                except OSError as error:
                    refused.append(error)

        asking = threading.Thread(target=keep_asking)
        os.kill(victim, signal.SIGKILL)
        for sock in by_process[victim]:
            with sock:
                assert not read_all(sock).endswith(b"0\r\n\r\n"), "a cut"
        asking.start()
        try:
            served.until_said(f"process {victim} was ended by SIGKILL; another takes its place in 0.1 s")
            blocking_until(lambda: len(served.workers()) == 2)
            replacement = next(pid for pid in served.workers() if pid != survivor)
            blocking_until(lambda: str(replacement) in answered)
        finally:
            over.set()
            asking.join()
        assert refused == []
        assert set(answered) == {str(survivor), str(replacement)}
        assert len(figures_of(served)) == 2
        served.process.send_signal(signal.SIGTERM)
        assert all(map(ended_properly, by_process[survivor]))
        assert served.end() == 0


def test_a_neighbour_accepts_for_one_that_does_not_start_again(folder: Path) -> None:
    with serving(folder) as served:
        victim, survivor = served.workers()
        (folder / "no-database").touch()
        os.kill(victim, signal.SIGKILL)
        why = "the app's start-up failed: ConnectionRefusedError: no database (served.py:"
        assert why in served.until_said("next attempt in", 2)
        assert {served.get("/process") for _ in range(30)} == {str(survivor)}, "whichever share the system chooses"
        (folder / "no-database").unlink()
        blocking_until(lambda: len(set(served.workers()) - {survivor}) == 1)
        blocking_until(lambda: served.get("/process") != str(survivor))
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


def test_who_accepts_for_a_neighbour_leaves_that_to_another_when_it_dies(folder: Path) -> None:
    with serving(folder, workers=3) as served:
        first, second, third = served.workers()
        (folder / "no-database").touch()
        os.kill(first, signal.SIGKILL)
        served.until_said(f"process {first} was ended")
        os.kill(second, signal.SIGKILL)
        served.until_said(f"process {second} was ended")
        assert {served.get("/process") for _ in range(30)} == {str(third)}
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


def test_a_server_of_which_nothing_is_left_ends_with_a_sentence(folder: Path) -> None:
    with serving(folder) as served:
        (folder / "no-database").touch()
        for pid in served.workers():
            os.kill(pid, signal.SIGKILL)
        assert served.end() == 1
        assert served.said[-1].startswith(
            "h3ref: the app's start-up failed: ConnectionRefusedError: no database (served.py"
        )


@BACKENDS
def test_a_hangup_replaces_all_and_nobody_is_lost(folder: Path, backend: str) -> None:
    with serving(folder, backend) as served:
        before = served.workers()
        by_process = streams(served, 10)
        (folder / "served.py").write_text(APP.replace('"first"', '"second version"'))
        lost: list[object] = []
        seen: list[str] = []
        over = threading.Event()

        def keep_asking() -> None:
            while not over.is_set():
                try:
                    seen.append(served.get("/version"))
                except (OSError, AssertionError) as error:
                    lost.append(error)

        def keep_alive() -> None:
            """Requests on one connection as long as the server keeps it."""
            while not over.is_set():
                with served.connect() as sock:
                    while not over.is_set():
                        sock.sendall(b"GET /version HTTP/1.1\r\nHost: test\r\n\r\n")
                        try:
                            head = read_until(sock, b"\r\n\r\n")
                        except (OSError, AssertionError) as error:
                            lost.append(error)
                            break
                        if b"connection: close" in head.lower():
                            break

        asking = [threading.Thread(target=keep_asking), threading.Thread(target=keep_alive)]
        for thread in asking:
            thread.start()
        try:
            served.process.send_signal(signal.SIGHUP)
            assert all(ended_properly(sock) for socks in by_process.values() for sock in socks)
            blocking_until(lambda: len(served.workers()) == 2 and not {*before} & {*served.workers()})
            count = len(seen)
            blocking_until(lambda: len(seen) > count + 1)
        finally:
            over.set()
            for thread in asking:
                thread.join()
        assert lost == []
        assert seen[0] == "first"
        assert seen[-1] == "second version"
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


@BACKENDS
def test_a_hangup_replaces_those_too_that_were_starting(folder: Path, backend: str) -> None:
    slow = APP.replace("news = Channel", 'while Path("wait").exists(): time.sleep(0.01)\nnews = Channel')
    (folder / "served.py").write_text(slow)
    with serving(folder, backend) as served:
        (folder / "wait").touch()
        before = served.workers()
        os.kill(before[0], signal.SIGKILL)
        blocking_until(lambda: len([*folder.glob("imported-*")]) == 3)  # the next one imports what is there now
        (folder / "served.py").write_text(slow.replace('"first"', '"second version"'))
        served.process.send_signal(signal.SIGHUP)
        blocking_until(lambda: len([*folder.glob("imported-*")]) == 4)  # the neighbour is being replaced already
        (folder / "wait").unlink()
        blocking_until(lambda: len(served.workers()) == 2 and len([*folder.glob("imported-*")]) == 5)
        blocking_until(lambda: {served.get("/version") for _ in range(10)} == {"second version"})
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


def test_a_connection_that_has_not_asked_yet_is_answered_by_the_worker_that_leaves(folder: Path) -> None:
    patient = "from h3ref.adapters.h11_anyio import server\nserver.ASKED_WITHIN = 60\n"
    (folder / "served.py").write_text(f"{APP}{patient}")
    with serving(folder) as served:
        waiting = [served.connect() for _ in range(10)]
        served.get("/process")
        served.process.send_signal(signal.SIGHUP)
        served.until_said("another process takes its place")
        for sock in waiting:
            sock.sendall(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        for sock in waiting:
            with sock:
                whole = read_all(sock)
            assert whole.startswith(b"HTTP/1.1 200"), "a 503 would tell a browser to stay away"
            assert whole.endswith(b"0\r\n\r\n")
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


def test_a_hangup_with_an_app_that_can_not_be_imported_leaves_the_old_workers(folder: Path) -> None:
    with serving(folder) as served:
        before = served.workers()
        (folder / "served.py").write_text("import nothing_of_the_kind\n")
        served.process.send_signal(signal.SIGHUP)
        said = served.until_said("SIGHUP: a new worker could not start, and the old ones go on")
        assert "there is no module nothing_of_the_kind" not in said
        assert "importing served failed: No module named 'nothing_of_the_kind' (served.py:1)" in said
        assert served.workers() == before
        assert served.get("/version") == "first"
        (folder / "served.py").write_text(APP)
        served.process.send_signal(signal.SIGHUP)
        blocking_until(lambda: len(served.workers()) == 2 and not {*before} & {*served.workers()})
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        (
            "import nothing_of_the_kind",
            2,
            "importing served failed: No module named 'nothing_of_the_kind' (served.py:1)",
        ),
        ("app = 3", 2, "served:app is not an H3App, but of type int; it has no H3App"),
        ("raise SystemExit('enough')", 2, "importing served raised SystemExit: enough (served.py:1)"),
        ("import os; os._exit(7)", 1, "a worker did not start: its process has ended with status 7"),
        ("import os; os.kill(os.getpid(), 9)", 1, "a worker did not start: its process was ended by SIGKILL"),
    ],
)
def test_what_can_not_start_ends_with_one_line(folder: Path, code: str, status: int, why: str) -> None:
    (folder / "served.py").write_text(f"{code}\n")
    with serving(folder, announcement="") as served:
        assert served.end() == status
        assert "".join(served.said) == f"h3ref: {why}\n"


def test_a_signal_while_they_start_ends_them(folder: Path) -> None:
    (folder / "served.py").write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(1000)\n")
    with serving(folder, announcement="") as served:
        blocking_until((folder / "begun").exists)
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


def test_the_port_that_others_have_is_taken(folder: Path) -> None:
    with serving(folder) as served:
        command = ["-m", "h3ref", "serve", "served:app", "--port", str(served.port)]
        for more in ([], ["--workers", "2"]):
            with started([*command, *more], folder, "") as second:
                assert second.end() == 1
                assert f"port {served.port} on 127.0.0.1 is taken" in second.said[-1]


def test_a_unix_socket_is_one_for_all_and_removed(folder: Path) -> None:
    path = folder / "h3ref.sock"
    with serving(folder, "asyncio", "--uds", str(path)) as served:
        assert f"h3ref serves on unix:{path} with 2 workers" in served.said[-1]
        for pid in served.workers():
            assert ask_unix(path, "/process").isdigit(), pid
        victim, _ = served.workers()
        os.kill(victim, signal.SIGKILL)
        for _ in range(10):
            assert ask_unix(path, "/process").isdigit()
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0
    assert not path.exists()


def ask_unix(path: Path, target: str) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        return read_all(sock).partition(b"\r\n\r\n")[2].decode()


def test_where_the_system_does_not_spread_them_all_accept_from_one_socket(folder: Path) -> None:
    (folder / "program.py").write_text(
        "from h3ref.adapters.h11_anyio import listeners\n"
        "from h3ref import serve\n"
        "listeners.BALANCES = False\n"
        'serve("served:app", port=0, workers=2)\n'
    )
    with started(["program.py"], folder) as served:
        victim, survivor = served.workers()
        blocking_until(lambda: {served.get("/process") for _ in range(20)} == {str(victim), str(survivor)})
        (folder / "no-database").touch()
        os.kill(victim, signal.SIGKILL)
        assert {served.get("/process") for _ in range(20)} == {str(survivor)}
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0


def test_figures_of_all_come_by_one_call_also_while_one_is_blocked(folder: Path) -> None:
    with serving(folder, "asyncio", "--grace", "0.2") as served:
        by_process = streams(served, 20)
        figures = figures_of(served)
        assert [each["process"] for each in figures] == served.workers()
        assert [each["streams"] for each in figures] == [len(by_process[pid]) for pid in served.workers()]
        with served.ask("/blocked") as busy:
            read_until(busy, b"blocked")
            asked = [served.ask("/stats") for _ in range(40)]  # some of the blocked worker, which never answers
            answered, _, _ = select.select(asked, [], [], PATIENCE)
            assert answered, "the other one answers"
            assert all(read_all(sock).count(b'"process"') == 2 for sock in answered)
            for sock in asked:
                sock.close()
        served.process.kill()


def test_a_channel_of_one_process_says_so_once_in_each_worker(folder: Path) -> None:
    with serving(folder) as served:
        socks = [served.ask("/news") for _ in range(20)]
        for sock in socks:
            read_until(sock, b"subscribed")
        served.get("/process")
        served.process.send_signal(signal.SIGTERM)
        assert all(map(ended_properly, socks))
        assert served.end() == 0
    warnings = [line for line in served.said if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert all("channel news" in line.lower() and "of several" in line for line in warnings)


def test_each_worker_writes_a_trace_of_its_own(folder: Path) -> None:
    with serving(folder, "asyncio", "--trace", "steps.ndjson") as served:
        workers = served.workers()
        served.get("/process")
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0
    assert [(folder / f"steps-{pid}.ndjson").exists() for pid in workers] == [True, True]
    assert "".join((folder / f"steps-{pid}.ndjson").read_text() for pid in workers).count('"response"') == 1


@BACKENDS
def test_a_program_of_ones_own_serves_with_workers(folder: Path, backend: str) -> None:
    (folder / "program.py").write_text(
        "from h3ref import SSEEvent, serve\n"
        f'serve("served:app", port=0, workers=2, backend="{backend}", farewell=SSEEvent(retry=2000))\n'
    )
    with started(["program.py"], folder) as served:
        by_process = streams(served, 4)
        served.process.send_signal(signal.SIGTERM)
        for socks in by_process.values():
            for sock in socks:
                with sock:
                    assert read_all(sock).endswith(b"retry: 2000\n\n\r\n0\r\n\r\n")
        assert served.end() == 0


# -- what is refused


def test_an_app_object_is_refused_with_more_than_one_worker() -> None:
    with pytest.raises(
        ValueError, match=r'2 workers each import the app, so name it: serve\("module:app", workers=2\)'
    ):
        serve(H3App(), port=0, workers=2)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "many", True, None])
def test_what_is_no_number_of_workers_is_refused(workers: Any) -> None:
    with pytest.raises((TypeError, ValueError), match='workers must be a number, 1 or more, or "auto", not '):
        serve(H3App(), port=0, workers=workers)


def test_an_app_that_is_named_and_not_there_is_said() -> None:
    with pytest.raises(AppNotFound, match="there is no module nothing_of_the_kind"):
        serve("nothing_of_the_kind:app", port=0)
    with pytest.raises(AppNotFound, match="an app is named MODULE:APP"):
        serve("app", port=0)


def test_what_workers_can_not_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="it can't be passed on to workers, which are processes of their own: "):
        serve("served:app", port=0, workers=2, trace=lambda record: None)
    with pytest.raises(TypeError, match="farewell is an SSEEvent"):
        serve("served:app", port=0, workers=2, farewell="bye")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--workers", "0"], "workers must be a number, 1 or more, or auto, not '0'"),
        (["--workers", "many"], "workers must be a number, 1 or more, or auto, not 'many'"),
        (["--fd", "x"], "an open socket is a number, not 'x'"),
        (
            ["--fd", "3", "--uds", "x"],
            "a server listens on uds, a socket's path, or on fd, an open socket, not on both",
        ),
        (["--uds", ""], "uds is the path of a socket, a str without NUL, not ''"),
        (["--uds", "x", "--reuse-port"], "reuse_port is for a host and a port: leave it out with uds and fd"),
        (["--workers", "2", "--trace", "-"], "each of several workers writes its own trace: name a file, not -"),
    ],
)
def test_the_command_refuses_in_one_line(options: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["serve", "h3ref.examples.counter:app", *options])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


PASSES_ON = """
import signal, sys
import anyio
from h3ref.server.signals import PassedOnSignal

def tell(name):
    signal.raise_signal(signal.SIGINT)  # while some have not been told
    print("told of", name, flush=True)

async def main():
    first = PassedOnSignal(tell)
    with first.taken():
        signal.raise_signal(signal.SIGTERM)
        await first.wait()
    print("not ended", flush=True)

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_second_signal_waits_until_all_are_told_of_the_first(backend: str) -> None:
    done = subprocess.run([sys.executable, "-c", PASSES_ON, backend], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("told of SIGTERM\n", -signal.SIGINT), done.stderr
