"""What the event loop calls by itself is in no task: readable sockets, timers and callbacks of the user's own.

`asyncio.run`, as pytest-asyncio and notebooks use it, does not tell anyio of the loop, as `anyio.run` does: where
sniffio is installed, anyio knows no loop in such a call.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, Limits, SSEWriter
from h3ref.connection import End
from h3ref.lifecycle import Reason
from h3ref.writer import stream_of
from tests.clients import open_client, server_of

ADAPTERS = ("memory", "h11_anyio", "asgi-uvicorn", "asgi-hypercorn")
SIZE = 60_000
EVENTS = 200


class Threads:
    """An app that streams from threads, which do not end before the test does."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.app = H3App()
        self.app.get("/blocking", self.blocking)
        self.app.get("/callback", self.callback)
        self.app.sse("/generated")(self.generated)

    def stream(self, writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        self.go_on.wait(30)

    def blocking(self, event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            self.stream(writer)

    def callback(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self.stream)

    def generated(self, event: H3Event) -> Iterator[str]:
        yield "1"
        self.go_on.wait(30)

    @contextmanager
    def ending(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.go_on.set()


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("way", ["blocking", "callback", "generated"])
def test_a_stream_of_a_thread_ends_when_its_client_leaves(
    adapter: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    threads = Threads()

    async def main() -> None:
        async with open_client(adapter, threads.app, limits=Limits(streams=1)) as client:
            with threads.ending(), anyio.fail_after(10):
                for _ in range(2):
                    reply = await client.request("GET", f"/{way}")
                    assert reply.status == 200
                    assert await reply.receive() == b"data: 1\n\n"
                    reply.disconnect()
                    while len(server_of(client).service.streams):
                        await anyio.lowlevel.checkpoint()

    asyncio.run(main())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_reader_that_is_slow_gets_all(adapter: str) -> None:
    async def main() -> None:
        is_full = anyio.Event()
        app = H3App()

        @app.sse("/stream")
        async def stream(event: H3Event) -> AsyncIterator[str]:
            for _ in range(EVENTS):
                yield "x" * SIZE
                if stream_of(event.get_sse_writer()).connection.buffered > SIZE:
                    is_full.set()

        async with open_client(adapter, app) as client:
            with anyio.fail_after(20):
                reply = await client.request("GET", "/stream")
                if adapter != "memory":
                    await is_full.wait()
                assert len(await reply.read()) == EVENTS * (SIZE + len(b"data: \n\n"))
                assert reply.end is End.PROPER

    asyncio.run(main())


Use = Callable[[SSEWriter], object]


def send(writer: SSEWriter) -> None:
    writer.send_nowait("2")


def send_until_the_reader_has_enough(writer: SSEWriter) -> None:
    while stream_of(writer).waiting < stream_of(writer).high_water:
        writer.send_nowait("x" * SIZE)


def close(writer: SSEWriter) -> None:
    stream_of(writer).stop(Reason.COMPLETE)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("use", [send, send_until_the_reader_has_enough, close])
def test_a_callback_of_the_users_own_may_use_the_writer(adapter: str, use: Use) -> None:
    raised: list[BaseException] = []

    async def main() -> None:
        app, writers = H3App(), list[SSEWriter]()
        opened, called = anyio.Event(), anyio.Event()

        @app.get("/stream")
        async def stream(event: H3Event) -> None:
            event.start_sse()
            async with await event.await_sse_writer() as writer:
                writers.append(writer)
                opened.set()
                await called.wait()

        def call() -> None:
            try:
                use(writers[0])
            except BaseException as error:
                raised.append(error)
            called.set()

        async with open_client(adapter, app) as client:
            with anyio.fail_after(10):
                reply = await client.request("GET", "/stream")
                await opened.wait()
                asyncio.get_running_loop().call_soon(call)
                body = await reply.read()
        assert reply.end is End.PROPER
        assert bool(body) is (use is not close)

    asyncio.run(main())
    assert not raised
