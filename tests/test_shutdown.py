"""The end of a server, in order: with a thousand open streams, a farewell, and a second signal."""

from __future__ import annotations

import io
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import anyio
import pytest

from h3ref import Channel, H3App, H3Event, Limits, Reason, SSEEvent, SSEWriter, running, serve
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from h3ref.lab.check import check
from h3ref.lab.recorder import Recorder
from h3ref.testing import virtual_backends
from tests.clients import open_client, server_of
from tests.waits import blocking_until

STREAMS = 1000

PROGRAM = """
import anyio, time
from h3ref import H3App, SSEEvent, serve

app = H3App()

@app.get("/stream")
async def stream(event):
    event.start_sse()
    event.set_stream_callback(send)

async def send(writer):
    await writer.send_event("first")
    await anyio.sleep_forever()

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
        await writer.send_event("blocked from here on")
        await writer.flush()
        while True:
            time.sleep(0.01)

serve(app, port=0, backend=BACKEND, grace=600, farewell=SSEEvent(retry=2000))
"""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def served(tmp_path: Path, backend: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("BACKEND", repr(backend)))
    process = subprocess.Popen([sys.executable, str(program)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        yield process, int(line.split(":")[2].split()[0])
    finally:
        process.kill()
        process.communicate()


def is_caught(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal: the first one takes its own away."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return False  # only Linux tells
    caught = int(re.findall(r"^SigCgt:\s*(\w+)$", status.read_text(), re.MULTILINE)[0], 16)
    return bool(caught >> (number - 1) & 1)


def ask(port: int, path: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return sock


def read_until(sock: socket.socket, last: bytes) -> None:
    """Read until this has come."""
    data = b""
    while last not in data:
        data += sock.recv(65536)


def read(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


@pytest.mark.slow
@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thousand_streams_get_their_farewell_and_their_proper_end(tmp_path: Path, backend: str) -> None:
    with served(tmp_path, backend) as (process, port):
        socks = [ask(port, "/stream") for _ in range(STREAMS)]
        heads = []
        for sock in socks:
            head = b""
            while b"data: first\n\n" not in head:
                head += sock.recv(4096)
            heads.append(head)
        process.send_signal(signal.SIGTERM)
        ends = [read(sock) for sock in socks]
        assert process.wait(30) == 0
        for sock in socks:
            sock.close()
    last = b"retry: 2000\n\n"
    rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)
    whole = [head.partition(b"\r\n\r\n")[2] + end for head, end in zip(heads, ends, strict=True)]
    assert all(body == b"d\r\ndata: first\n\n\r\n" + rest for body in whole), set(whole)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_second_signal_ends_at_once(tmp_path: Path, backend: str) -> None:
    with served(tmp_path, backend) as (process, port), ask(port, "/deaf"), ask(port, "/stream") as stream:
        stream.recv(4096)
        process.send_signal(signal.SIGTERM)
        read(stream)  # the shutdown is under way, and a handler that swallows its cancellation holds it up
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_also_while_the_loop_is_blocked(
    tmp_path: Path, backend: str, second: signal.Signals
) -> None:
    with served(tmp_path, backend) as (process, port), ask(port, "/blocked") as stream:
        read_until(stream, b"blocked from here on")
        process.send_signal(signal.SIGTERM)
        blocking_until(lambda: not is_caught(process.pid, signal.SIGTERM))
        assert process.poll() is None, "the first one is taken, and waits for the loop"
        process.send_signal(second)
        assert process.wait(30) == -second


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("blocked", [True, False])
def test_both_signals_together_end_at_once(tmp_path: Path, backend: str, blocked: bool) -> None:
    with served(tmp_path, backend) as (process, port), ask(port, "/blocked" if blocked else "/deaf") as busy:
        if blocked:
            read_until(busy, b"blocked from here on")
        else:
            with ask(port, "/stream") as stream:  # the request before it is being answered as well by now
                read_until(stream, b"first")
        process.send_signal(signal.SIGSTOP)  # so that the two are there together when it goes on
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) in (-signal.SIGTERM, -signal.SIGINT)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_signals_are_handled_as_before_when_serve_has_ended(backend: str) -> None:
    taken: list[int] = []

    def take(number: int, _: object) -> None:
        taken.append(number)

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if text.startswith("h3ref serves on"):
                signal.raise_signal(signal.SIGTERM)
            return super().write(text)

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with redirect_stderr(Terminal()):
            serve(H3App(), port=0, backend=backend)
        assert not taken, "the server took it"
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert taken == [signal.SIGINT, signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_serve_is_for_the_main_thread(backend: str) -> None:
    with ThreadPoolExecutor() as threads, pytest.raises(RuntimeError, match=r"main thread gets: .* running\(app\)"):
        threads.submit(serve, H3App(), port=0, backend=backend).result()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nobody_is_accepted_any_more(tmp_path: Path, backend: str) -> None:
    with served(tmp_path, backend) as (process, port), ask(port, "/deaf"), ask(port, "/stream") as stream:
        stream.recv(4096)
        process.send_signal(signal.SIGTERM)
        read(stream)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        os.kill(process.pid, signal.SIGKILL)


def streaming(callback: object) -> H3App:
    app = H3App()

    @app.get("/stream")
    def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)  # type: ignore[arg-type]

    return app


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["memory", "h11_anyio"])
async def test_what_was_sent_comes_before_the_farewell(name: str) -> None:
    channel, reasons = Channel(), list[Reason | None]()

    async def subscribe(writer: SSEWriter) -> None:
        await writer.send_event("first")
        try:
            await channel.stream(writer)
        finally:
            reasons.append(writer.event.reason)

    farewell = SSEEvent("bye", retry=500)
    async with open_client(name, streaming(subscribe), farewell=farewell) as client:
        replies = [await client.request("GET", "/stream") for _ in range(3)]
        with anyio.fail_after(10):
            while len(channel) < 3:
                await anyio.lowlevel.checkpoint()
        for number in range(100):
            await channel.publish(str(number))
        if name == "h11_anyio":
            await server_of(client).service.shut_down(within=1)
        else:
            for exchange in list(server_of(client).service.live):
                exchange.shut_down()
        bodies = [await reply.read() for reply in replies]
    events = b"data: first\n\n" + b"".join(b"data: %d\n\n" % number for number in range(100))
    assert bodies == [events + farewell.encode()] * 3
    assert all(reply.end is End.PROPER for reply in replies)
    assert reasons == [Reason.SHUTDOWN] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends())
@pytest.mark.parametrize(("number", "within", "seconds"), [(1, 10, 0), (200, 10, 0.1), (200, 0.05, 0.05), (200, 0, 0)])
async def test_streams_end_one_after_another_in_a_time_that_their_number_decides(
    number: int, within: float, seconds: float
) -> None:
    async def silent(writer: SSEWriter) -> None:
        await anyio.sleep_forever()

    limits = Limits(stream_keep_alive=None)
    async with open_memory(streaming(silent), limits=limits) as server:
        replies = [await server.request("GET", "/stream") for _ in range(number)]
        began = anyio.current_time()
        await server.service.shut_down(within)
        assert anyio.current_time() - began == pytest.approx(seconds, abs=0.02)
        assert [await reply.read() for reply in replies] == [b""] * number


@pytest.mark.anyio
async def test_what_is_no_event_is_no_farewell() -> None:
    with pytest.raises(TypeError, match="farewell is an SSEEvent, or None for none, not 'bye'"):
        async with running(H3App(), farewell="bye"):  # type: ignore[arg-type]
            pass


@pytest.mark.anyio
async def test_an_answer_that_nobody_reads_is_given_up_and_the_recording_says_so() -> None:
    app, recorder = H3App(), Recorder()
    answering = anyio.Event()

    @app.get("/large")
    async def large(event: H3Event) -> None:
        event.send_text("x" * 20_000_000)
        answering.set()

    async with running(app, port=0, grace=0.5, trace=recorder) as server:
        client = await anyio.connect_tcp("127.0.0.1", server.port)
        await client.send(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        with anyio.fail_after(10):
            await answering.wait()
    await client.aclose()  # it was there all the time
    last = recorder.recording[-1]
    assert (last.step, last.reason, last.size) == ("response", "responded", 0)
    assert check(recorder.recording, whole=True) is None
