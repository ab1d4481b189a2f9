"""`running` and `serve`: many streams, and their ends; nothing is left behind."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from h3ref import H3App, H3Event, Limits, SSEWriter, running, serve
from h3ref._core.exchange import Exchange
from h3ref.adapters.asgi import ASGIApp
from h3ref.adapters.h11_anyio import Server
from h3ref.adapters.h11_anyio.stream import StreamConnection
from h3ref.adapters.memory import open_memory
from tests.clients import raw
from tests.leftovers import nothing_left_behind
from tests.waits import until

GET = b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n"


def app_of(size: int = 1) -> H3App:
    """An app whose /stream sends `size` events, and which says hello."""
    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(send)

    async def send(writer: SSEWriter) -> None:
        for number in range(size):
            await writer.send_event(str(number))

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    return app


async def settled(server: Server) -> None:
    """Wait until the last client's connection is closed and its task is over."""
    with anyio.fail_after(10):
        while server.open_connections:
            await anyio.lowlevel.checkpoint()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_thousand_streams_one_after_another_leave_nothing_behind() -> None:
    async with running(app_of(), flush_gap=0) as server:
        assert (await raw(server.port, GET)).endswith(b"0\r\n\r\n")
        await settled(server)
        async with nothing_left_behind(Exchange, StreamConnection):
            for _ in range(1000):
                assert (await raw(server.port, GET)).endswith(b"data: 0\n\n\r\n0\r\n\r\n")
            await settled(server)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_thousand_streams_at_once_leave_nothing_behind() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    app, go_on = app_of(), anyio.Event()
    open_at_once = 0

    @app.get("/held")
    async def held(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(hold)

    async def hold(writer: SSEWriter) -> None:
        nonlocal open_at_once
        await writer.send_event("first")
        open_at_once += 1
        if open_at_once == 1000:
            go_on.set()
        await go_on.wait()
        await writer.send_event("last")

    received: list[bytes] = []

    async def client(port: int) -> None:
        received.append(await raw(port, GET.replace(b"stream", b"held")))

    try:
        async with running(app) as server:
            assert (await raw(server.port, GET)).endswith(b"0\r\n\r\n")
            await settled(server)
            async with nothing_left_behind(Exchange, StreamConnection):
                async with anyio.create_task_group() as clients:
                    for _ in range(1000):
                        clients.start_soon(client, server.port)
                await settled(server)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(received) == 1000
    assert all(b"data: first\n\n" in body and body.endswith(b"data: last\n\n\r\n0\r\n\r\n") for body in received)


@pytest.mark.anyio
async def test_clients_that_leave_abruptly_leave_nothing_behind() -> None:
    app = H3App()
    told = 0

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(wait)

    async def wait(writer: SSEWriter) -> None:
        nonlocal told
        await writer.send_event("1")
        try:
            await anyio.sleep_forever()
        finally:
            told += 1

    async with running(app) as server:

        async def leave() -> None:
            async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
                await stream.send(GET)
                await stream.receive()
                sock = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: closing sends RST

        await leave()
        await settled(server)
        async with nothing_left_behind(Exchange, StreamConnection):
            for _ in range(200):
                await leave()
            await settled(server)
    assert told == 201


def test_several_event_loops_one_after_another_serve_the_same_app() -> None:
    app = app_of()

    async def once() -> bytes:
        async with running(app) as server:
            return await raw(server.port, GET)

    for backend in ("asyncio", "trio", "asyncio"):
        assert b"data: 0\n\n" in anyio.run(once, backend=backend)


@pytest.mark.anyio
async def test_several_servers_run_in_one_loop() -> None:
    async with running(app_of(1)) as one, running(app_of(2)) as two:
        assert one.port != two.port
        assert b"data: 1\n\n" not in await raw(one.port, GET)
        assert b"data: 1\n\n" in await raw(two.port, GET)


@pytest.mark.anyio
async def test_an_exception_in_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with running(app_of()):
            raise KeyError("mine")


@pytest.mark.anyio
async def test_the_end_of_running_closes_idle_connections_and_open_streams() -> None:
    app = app_of()

    @app.get("/forever")
    async def forever(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(wait)

    async def wait(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await anyio.sleep_forever()

    async with running(app) as server:
        idle = await anyio.connect_tcp("127.0.0.1", server.port)
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        await stream.send(GET.replace(b"stream", b"forever"))
        head = b""
        while b"data: 1" not in head:
            head += await stream.receive()
    with pytest.raises(anyio.EndOfStream):
        await idle.receive()
    assert await stream.receive() == b"0\r\n\r\n"
    with pytest.raises(anyio.EndOfStream):
        await stream.receive()
    await idle.aclose()
    await stream.aclose()


@pytest.mark.anyio
async def test_a_reader_that_never_reads_does_not_hold_up_the_end() -> None:
    app = H3App()

    @app.sse("/flood")
    async def flood(event: H3Event) -> AsyncIterator[str]:
        while True:
            yield "x" * 65536

    limits = Limits(send_timeout=None, close_timeout=600)
    async with running(app, grace=1, limits=limits) as server:
        stalled = await anyio.connect_tcp("127.0.0.1", server.port)
        await stalled.send(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
        await stalled.receive(1)
    await stalled.aclose()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match='backend is "asyncio" or "trio", not "curio"'.replace('"curio"', "'curio'")):
        serve(app_of(), backend="curio")


def test_what_is_no_app_is_refused() -> None:
    with pytest.raises(TypeError, match="app is an H3App"):
        serve(3, port=0)  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.parametrize("limits", [{"streams": 1}, {}, 3, Limits])
async def test_what_are_no_limits_is_refused(limits: Any) -> None:
    with pytest.raises(TypeError, match=r"limits are Limits\(...\), or None for the defaults, not "):
        async with running(app_of(), limits=limits):
            pass
    with pytest.raises(TypeError, match="limits are Limits"):
        async with open_memory(app_of(), limits=limits):
            pass
    with pytest.raises(TypeError, match="limits are Limits"):
        ASGIApp(app_of(), limits=limits)


def test_serve_refuses_what_are_no_limits() -> None:
    with pytest.raises(TypeError, match=r"not \{'streams': 1\}"):
        serve(app_of(), port=0, limits={"streams": 1})  # type: ignore[arg-type]


# -- a process of its own, ended by a signal

PROGRAM = """
import anyio, time, threading
from h3ref import H3App, serve

app = H3App()

@app.get("/many")
async def many(event):
    event.start_sse()
    event.set_stream_callback(send)

async def send(writer):
    for number in range(2000):
        await writer.send_event(f"{number} " + "x" * 1000)
    await writer.send_event("all sent")
    await anyio.sleep_forever()

@app.get("/stuck")
def stuck(event):
    with event.start_sse_blocking() as writer:
        writer.send_event("1")
        time.sleep(60)

serve(app, port=0, backend=BACKEND, grace=GRACE)
"""


@contextmanager
def served(tmp_path: Path, backend: str, grace: float = 5.0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM).replace("BACKEND", repr(backend)).replace("GRACE", str(grace)))
    process = subprocess.Popen([sys.executable, str(program)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        yield process, int(line.split(":")[2].split()[0])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_the_streams_and_ends_with_status_0(
    tmp_path: Path, backend: str, number: signal.Signals
) -> None:
    with served(tmp_path, backend) as (process, port):
        body = anyio.run(_read_then_signal, port, b"/many", process.pid, number, backend=backend)
        assert process.wait(30) == 0
    assert b"all sent" in body
    assert body.endswith(b"0\r\n\r\n"), "the body has its proper end"


async def _read_then_signal(port: int, path: bytes, pid: int, number: int) -> bytes:
    """Read a stream; after its first bytes send the signal; return all that came."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % path)
        received = await stream.receive()
        while not received.endswith(b"all sent\n\n\r\n") and b"data: 1\n" not in received:
            received += await stream.receive()
        os.kill(pid, number)
        with anyio.fail_after(10):
            try:
                while True:
                    received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return received


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_that_never_returns_is_left_after_the_grace_period(tmp_path: Path, backend: str) -> None:
    with served(tmp_path, backend, grace=1.0) as (process, port):
        anyio.run(_read_then_signal, port, b"/stuck", process.pid, signal.SIGTERM, backend=backend)
        assert process.wait(30) == 0


@pytest.mark.anyio
async def test_what_a_server_accepts_keeps_back_nothing_that_is_sent() -> None:
    delays: list[int] = []

    @contextmanager
    def listening(family: socket.AddressFamily, address: Any) -> Iterator[socket.socket]:
        with socket.socket(family) as listener:
            listener.bind(address)
            listener.listen()
            yield listener

    async def look(server: Server, connect: socket.socket) -> None:
        with connect:
            await until(lambda: server.open_connections == 1)
            [client] = server._clients
            delays.append(client._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await until(lambda: server.open_connections == 0)

    async with running(app_of(), host="127.0.0.1") as server:
        await look(server, socket.create_connection(("127.0.0.1", server.port)))
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as listener:
        async with running(app_of(), fd=os.dup(listener.fileno())) as server:
            await look(server, socket.create_connection(listener.getsockname()))
    assert 0 not in delays
    assert len(delays) == 2
