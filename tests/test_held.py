"""What a server holds for readers that do not read: bounded for all of them together, whatever it is that waits."""

from __future__ import annotations

import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import anyio
import anyio.lowlevel
import pytest

from h3ref import H3App, H3Event, Limits, SSEWriter, running
from h3ref.adapters.h11_anyio import Server
from h3ref.testing import settle
from tests.test_limits import read_all, receive
from tests.waits import until

SIZE = 2 * 1024 * 1024
SLACK = SIZE // 2
"""Bytes of all else that a test allocates; much less than an answer."""

LARGE = b"GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def answering(body: Callable[[], bytes]) -> H3App:
    app = H3App()

    @app.get("/large")
    async def large(event: H3Event) -> None:
        event.send_bytes(body())

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(endless)

    async def endless(writer: SSEWriter) -> None:
        while True:
            await writer.send_event("x" * 10_000)

    return app


@contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """How many bytes more Python holds than at the beginning."""
    gc.collect()
    tracemalloc.start()
    try:
        began = tracemalloc.get_traced_memory()[0]

        def grown() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - began

        yield grown
    finally:
        tracemalloc.stop()


def ask(server: Server, stack: ExitStack, said: bytes = LARGE) -> socket.socket:
    """A client that has said something, and reads nothing by itself."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.port))
    sock.setblocking(False)
    sock.send(said)
    return sock


async def read_answer(sock: socket.socket) -> bytes:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIZE)
    with anyio.fail_after(30):
        return await read_all(sock)


@asynccontextmanager
async def serving(app: H3App, room: int | None) -> AsyncIterator[Server]:
    """A server that may hold so much, and for which the system holds little, so that it is left to itself."""
    async with running(app, limits=Limits(server_buffer=room, close_timeout=0.1), grace=0.1) as server:
        for listener in server._listeners:  # accepted sockets have it from here
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        yield server


@pytest.mark.anyio
async def test_answers_that_nobody_reads_are_bounded_all_together_and_who_stalls_longest_is_cut() -> None:
    room = 2 * SIZE + SLACK
    with ExitStack() as stack, measured() as grown:
        async with serving(answering(lambda: bytes(SIZE)), room) as server:
            socks: list[socket.socket] = []
            for number in range(1, 11):
                socks.append(ask(server, stack))
                await until(lambda: server.loop.backlog.size >= min(number, 2) * SIZE)  # noqa: B023
                await until(lambda: server.service.refused["server_buffer"] == max(0, number - 2))  # noqa: B023
                assert server.loop.backlog.size <= room
            await until(lambda: server.open_connections == 2)
            assert 2 * SIZE <= grown() <= room + SLACK
            for sock in socks[-2:]:
                assert (await read_answer(sock)).endswith(b"\r\n\r\n" + bytes(SIZE)), "who came last has it whole"
            await until(lambda: server.open_connections == 0)
            assert server.loop.backlog.size == 0
            assert grown() <= SLACK
        assert server.service.refused == {"server_buffer": 8}


@pytest.mark.anyio
async def test_answers_that_are_asked_for_in_the_same_moment_are_let_go_of_one_by_one() -> None:
    """Those who are cut are so at once, and not when their tasks run again: each of the others makes a body first."""
    room = 2 * SIZE + SLACK
    with ExitStack() as stack, measured():
        async with serving(answering(lambda: bytes(SIZE)), room) as server:
            socks = [ask(server, stack, LARGE[:-2]) for _ in range(20)]
            await until(lambda: len(server.loop.heads._due) == 20 and server.service.stats().opened == 0)
            began = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for sock in socks:
                sock.send(LARGE[-2:])
            await until(lambda: server.service.refused["server_buffer"] == 18)
            await until(lambda: server.open_connections == 2)
            assert tracemalloc.get_traced_memory()[1] - began <= room + SIZE + SLACK


@pytest.mark.anyio
async def test_who_has_read_some_of_it_is_not_cut_for_who_has_not() -> None:
    room = 2 * SIZE + SLACK
    with ExitStack() as stack:
        async with serving(answering(lambda: bytes(SIZE)), room) as server:
            reading, stalled = ask(server, stack), ask(server, stack)
            await until(lambda: server.loop.backlog.size >= 2 * SIZE)
            taken = 0
            with anyio.fail_after(30):
                while taken < SIZE // 4:
                    taken += len(await receive(reading))
            await settle()
            ask(server, stack)
            await until(lambda: server.service.refused["server_buffer"] == 1)
            await until(lambda: server.open_connections == 2)
            assert len(await read_answer(reading)) > SIZE - taken
            assert len(await read_answer(stalled)) < SIZE
        assert server.service.refused == {"server_buffer": 1}


@pytest.mark.anyio
async def test_a_body_that_many_get_is_held_once() -> None:
    shared = bytes(SIZE)
    with ExitStack() as stack, measured() as grown:
        async with serving(answering(lambda: shared), None) as server:
            for _ in range(10):
                ask(server, stack)
            await until(lambda: server.loop.backlog.size >= 10 * SIZE)
            assert grown() <= SLACK


@pytest.mark.anyio
async def test_streams_and_answers_share_the_room() -> None:
    """A stream that stalls goes for an answer, and an answer for a stream."""
    room = SIZE + 100_000
    with ExitStack() as stack:
        async with serving(answering(lambda: bytes(SIZE)), room) as server:
            stalled = ask(server, stack, b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(lambda: server.loop.backlog.size >= 64 * 1024)
            answered = ask(server, stack)
            ask(server, stack, b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
            await until(lambda: server.service.refused["server_buffer"] >= 1)
            assert server.loop.backlog.size <= SIZE + 100_000
            with anyio.fail_after(30):
                assert await receive(stalled)
                assert await receive(answered)


@pytest.mark.anyio
async def test_the_rest_of_an_event_is_held_and_not_all_of_it() -> None:
    """Nobody gets a large event held for hours by reading all of it but the end."""
    app = H3App()

    @app.get("/large")
    async def large(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("x" * SIZE)
            await anyio.sleep_forever()

    with ExitStack() as stack, measured() as grown:
        async with serving(app, None) as server:
            sock = ask(server, stack)
            await until(lambda: server.loop.backlog.size > SIZE // 2)
            with anyio.fail_after(30):
                while server.loop.backlog.size > SIZE // 8:
                    await receive(sock)
            assert server.loop.backlog.size > 0
            assert grown() <= 2 * server.loop.backlog.size + SLACK // 2


@pytest.mark.anyio
async def test_a_stream_that_goes_past_the_room_by_its_own_send_is_cancelled() -> None:
    """Though it is its own task that ends it, and may wait for something else from then on."""
    seen: list[str | None] = []

    async def one_large(writer: SSEWriter) -> None:
        try:
            await writer.send_event("x" * SIZE)
            await anyio.sleep_forever()
        finally:
            seen.append(writer.event.reason)

    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(one_large)

    with ExitStack() as stack:
        async with serving(app, SIZE // 4) as server:
            ask(server, stack, b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
            with anyio.fail_after(20):
                await until(lambda: seen)
                await until(lambda: not server.open_connections)
    assert seen == ["slow_consumer"]
