"""A request's body: whoever reads it, beside whatever else goes on, it has one reader, and the client is watched."""

from __future__ import annotations

import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import h11
import pytest

from h3ref import H3App, H3Event, Limits, Reason, RequestError, SSEWriter, running
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from tests.clients import ADAPTERS
from tests.waits import read_until

ON_SOCKETS = [
    (name, loop)
    for name in ("h11_anyio", "asgi-uvicorn", "asgi-hypercorn")
    for loop in ADAPTERS[name].loops
    if (name, loop) != ("asgi-hypercorn", "asyncio")
]
on_sockets = pytest.mark.parametrize(("adapter", "anyio_backend"), ON_SOCKETS, indirect=True)

COUNTED = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


def answering(handler: Any) -> H3App:
    app = H3App()
    app.post("/")(handler)

    @app.get("/next")
    async def follow(event: H3Event) -> None:
        event.send_text("the next one")

    return app


@asynccontextmanager
async def asking(adapter: str, app: H3App, said: bytes, **options: Any) -> AsyncIterator[socket.socket]:
    """A client that has said something."""
    async with ADAPTERS[adapter].open_server(app, **options) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock, anyio.fail_after(20):
            sock.setblocking(False)
            sock.send(said)
            yield sock


# -- a body that could not be read leaves the client watched


FAILURES = {
    "comes too late": COUNTED + b"12",
    "is cancelled": COUNTED + b"12",
    "is too large": CHUNKED + b"8\r\n12345678\r\n",
    "is malformed": CHUNKED + b"2\r\n12\r\nno chunk\r\n",
}


@pytest.mark.anyio
@pytest.mark.parametrize("failure", FAILURES)
@on_sockets
async def test_a_client_that_leaves_is_noticed_whatever_became_of_its_body(adapter: str, failure: str) -> None:
    if failure == "is malformed" and adapter != "h11_anyio":
        return  # an ASGI server tells no application of it
    reading, left = anyio.Event(), anyio.Event()
    reasons: list[Reason | None] = []

    async def handler(event: H3Event) -> None:
        event.start_sse()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, event)
                if failure == "is cancelled":
                    await reading.wait()
                    tasks.cancel_scope.cancel()
        except* RequestError:
            assert failure != "is cancelled"
        event.set_stream_callback(callback)

    async def read(event: H3Event) -> None:
        reading.set()
        await event.read_body()

    async def callback(writer: SSEWriter) -> None:
        try:
            await writer.send_event("1")
            await anyio.sleep_forever()
        finally:
            reasons.append(writer.event.reason)
            left.set()

    limits = Limits(body_timeout=0.05 if failure == "comes too late" else 20, body_size=5)
    async with asking(adapter, answering(handler), FAILURES[failure], limits=limits) as sock:
        await read_until(sock, b"data: 1")
        sock.close()
        await left.wait()
    assert reasons == [Reason.CLIENT_GONE]


@pytest.mark.anyio
@on_sockets
async def test_a_client_that_left_in_the_middle_of_its_body_has_left_when_the_stream_starts(adapter: str) -> None:
    reading, over = anyio.Event(), anyio.Event()
    reasons: list[Reason | None] = []

    async def handler(event: H3Event) -> None:
        reading.set()
        with pytest.raises(RequestError):
            await event.read_body()
        event.start_sse()
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(event.reason)
            over.set()

    async with asking(adapter, answering(handler), COUNTED + b"12") as sock:
        await reading.wait()
        sock.close()
        await over.wait()
    assert reasons == [Reason.CLIENT_GONE]


# -- somebody reads it beside the stream


@pytest.mark.anyio
@pytest.mark.parametrize("comes", ["before the stream opens", "when the stream is open"])
@on_sockets
async def test_who_reads_the_body_beside_the_stream_gets_it(adapter: str, comes: str) -> None:
    reading, opened = anyio.Event(), anyio.Event()
    bodies: list[bytes] = []

    async def read(event: H3Event) -> None:
        reading.set()
        bodies.append(await event.read_body())
        opened.set()

    async def handler(event: H3Event) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, event)
            await reading.wait()
            await anyio.lowlevel.checkpoint()
            event.start_sse()
            started.set()
            if comes == "before the stream opens":
                await opened.wait()
            async with await event.await_sse_writer() as writer:
                await writer.send_event("open")
                await opened.wait()
                await writer.send_event(bodies[0].decode())

    started = anyio.Event()
    async with asking(adapter, answering(handler), COUNTED + b"12", limits=Limits(body_timeout=15)) as sock:
        await started.wait()
        if comes == "when the stream is open":
            await read_until(sock, b"data: open")
        sock.send(b"345")
        await read_until(sock, b"data: 12345")
    assert bodies == [b"12345"]


@pytest.mark.anyio
@on_sockets
async def test_two_tasks_that_read_the_body_get_the_same(adapter: str) -> None:
    waiting: list[str] = []
    both = anyio.Event()
    bodies: list[bytes] = []

    async def read(event: H3Event, name: str) -> None:
        waiting.append(name)
        if len(waiting) == 2:
            both.set()
        bodies.append(await event.read_body())

    async def handler(event: H3Event) -> None:
        async with anyio.create_task_group() as tasks:
            for name in ("first", "second"):
                tasks.start_soon(read, event, name)
        event.send_bytes(bodies[0])

    async with asking(adapter, answering(handler), COUNTED + b"12") as sock:
        await both.wait()
        await anyio.lowlevel.checkpoint()
        sock.send(b"345")
        await read_until(sock, b"12345")
    assert bodies == [b"12345"] * 2
    assert bodies[0] is bodies[1]


@pytest.mark.anyio
@on_sockets
async def test_who_waits_for_a_body_that_another_task_reads_gets_it_also_if_that_is_cancelled(adapter: str) -> None:
    first, second = anyio.Event(), anyio.Event()
    scope = anyio.CancelScope()
    bodies: list[bytes] = []

    async def give_up(event: H3Event) -> None:
        with scope:
            first.set()
            await event.read_body()

    async def read(event: H3Event) -> None:
        await first.wait()
        second.set()
        bodies.append(await event.read_body())

    async def handler(event: H3Event) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up, event)
            tasks.start_soon(read, event)
        event.send_bytes(bodies[0])

    async with asking(adapter, answering(handler), COUNTED + b"12") as sock:
        await second.wait()
        await anyio.lowlevel.checkpoint()
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        sock.send(b"345")
        await read_until(sock, b"12345")
    assert scope.cancelled_caught
    assert bodies == [b"12345"]


@pytest.mark.anyio
async def test_two_tasks_read_a_body_in_memory() -> None:
    bodies: list[bytes] = []

    async def read(event: H3Event) -> None:
        bodies.append(await event.read_body())

    async def handler(event: H3Event) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, event)
            tasks.start_soon(read, event)
        event.send_text("read")

    async with open_memory(answering(handler)) as server:
        reply = await server.request("POST", "/", body=b"12345")
        assert (await reply.read(), reply.end) == (b"read", End.PROPER)
    assert bodies == [b"12345"] * 2


# -- the reading side has one owner, and gives back what is not its own


@pytest.mark.anyio
async def test_what_follows_a_body_that_was_waited_for_is_the_next_request() -> None:
    reading = anyio.Event()

    async def handler(event: H3Event) -> None:
        reading.set()
        event.send_bytes(await event.read_body())

    async with asking("h11_anyio", answering(handler), COUNTED + b"1") as sock:
        await reading.wait()
        for byte in (b"2", b"3", b"4"):
            sock.send(byte)
            await anyio.lowlevel.checkpoint()
        sock.send(b"5GET /next HTTP/1.1\r\nHost: t")
        sock.send(b"est\r\n\r\n")
        assert (await read_until(sock, b"the next one")).count(b"HTTP/1.1 200 OK\r\n") == 2


@pytest.mark.anyio
async def test_a_stream_keeps_nothing_of_a_body_that_nobody_reads() -> None:
    """Neither what came with its head, nor what came until it opened, nor what would read it."""
    begun, go_on = anyio.Event(), anyio.Event()

    async def handler(event: H3Event) -> None:
        event.start_sse()
        begun.set()
        await go_on.wait()
        event.set_stream_callback(callback)

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await anyio.sleep_forever()

    def kept() -> set[h11.Connection]:
        return {thing for thing in gc.get_objects() if isinstance(thing, h11.Connection)}

    earlier = kept()  # other tests' garbage among them, which may go at any time
    said = COUNTED.replace(b"5", b"500000")
    async with running(answering(handler)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock, anyio.fail_after(20):
            sock.setblocking(False)
            sock.send(said + b"x" * 10_000)
            await begun.wait()
            sock.send(b"x" * 10_000)
            (exchange,) = server.service.live
            transport: Any = exchange.transport
            while transport._size < 20_000:
                await anyio.lowlevel.checkpoint()
            go_on.set()
            await read_until(sock, b"data: 1")
            assert transport._body == b""
            assert kept() <= earlier
