"""`EventSource` and its twin over HTTP/2, where streams share a connection: by hypercorn, and httpx2 with h2."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from h3ref import BlockingEventSource, Channel, EventSource, H3App, H3Event, Limits, MessageEvent, SSEEvent
from h3ref.client import RefusedStatus
from tests.asgi_servers import on_hypercorn
from tests.waits import until

pytestmark = pytest.mark.anyio

HTTP2: Any = {"http1": False, "http2": True}
SILENT = Limits(stream_keep_alive=None)  # nothing comes by itself that would wake a reader
PATIENCE = 10


class Served:
    """A channel's stream, on hypercorn."""

    def __init__(self) -> None:
        self.url = ""
        self.channel = Channel(policy="drop")
        self.app = H3App()
        self.app.get("/events")(self.events)

    async def events(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self.channel.stream)

    async def readers(self, count: int) -> None:
        """Wait until so many streams are open."""
        await until(lambda: len(self.channel) == count)


@asynccontextmanager
async def served(limits: Limits = SILENT) -> AsyncIterator[Served]:
    served = Served()
    async with on_hypercorn(served.app, limits=limits) as server:
        served.url = f"http://127.0.0.1:{server.port}"
        yield served


async def test_the_server_is_told_of_a_source_that_is_closed_and_the_connections_other_streams_go_on() -> None:
    async with (
        served() as server,
        httpx2.AsyncClient(**HTTP2) as client,
        EventSource(f"{server.url}/events", client=client) as other,
    ):
        async with EventSource(f"{server.url}/events", client=client) as source:
            assert source.response is not None
            assert source.response.http_version == "HTTP/2"
            await server.readers(2)
        await server.readers(1)
        await server.channel.publish("on it goes")
        assert (await anext(other)).data == "on it goes"
        async with EventSource(f"{server.url}/events", client=client):
            await server.readers(2)


async def test_the_server_is_told_of_a_source_that_is_closed_while_it_waits() -> None:
    async with served() as server, httpx2.AsyncClient(**HTTP2) as client, anyio.create_task_group() as tasks:
        source = EventSource(f"{server.url}/events", client=client)
        async with source, EventSource(f"{server.url}/events", client=client):
            waiting = anyio.Event()

            async def iterate() -> None:
                waiting.set()
                assert [message async for message in source] == []

            tasks.start_soon(iterate)
            await waiting.wait()
            await server.readers(2)
            await source.aclose()
            await server.readers(1)


async def test_a_wait_that_is_cancelled_leaves_the_stream_and_the_connection_as_they_are() -> None:
    async with (
        served() as server,
        httpx2.AsyncClient(**HTTP2) as client,
        EventSource(f"{server.url}/events", client=client) as source,
    ):
        await server.readers(1)
        for number in range(3):
            with anyio.move_on_after(0.02):
                await anext(source)
            await server.channel.publish(str(number))
            assert (await anext(source)).data == str(number)
        await server.readers(1)


class Reader:
    """A thread that iterates a blocking source."""

    def __init__(self, url: str, client: httpx2.Client) -> None:
        self.source = BlockingEventSource(url, client=client)
        self.opened = threading.Event()
        self.received: list[MessageEvent] = []
        self.got = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self.source:
            self.opened.set()
            for message in self.source:
                self.received.append(message)
                self.got.set()

    async def end(self) -> None:
        """Close the source, and wait for the thread."""
        await anyio.to_thread.run_sync(self.source.close)
        await anyio.to_thread.run_sync(self._thread.join, PATIENCE)
        assert not self._thread.is_alive()


async def test_closing_a_blocking_source_wakes_its_thread_and_tells_the_server() -> None:
    async with served() as server:
        with httpx2.Client(**HTTP2) as client:
            for _ in range(3):  # on one connection
                reader = Reader(f"{server.url}/events", client)
                await server.readers(1)
                assert await anyio.to_thread.run_sync(reader.opened.wait, PATIENCE)
                await reader.end()
                await server.readers(0)
            assert [thread.name for thread in threading.enumerate() if "HTTP/2" in thread.name] == []


async def test_closing_a_blocking_source_leaves_the_connections_other_streams() -> None:
    # Threads that share a connection read for each other in httpcore2, and one may see its bytes only with the next
    # ones: so these do come.
    async with served(Limits(stream_keep_alive=0.1)) as server:
        with httpx2.Client(**HTTP2) as client:
            # One after another: from threads at once, the client may open streams in another order than it numbers
            # them, which ends the connection (RFC 9113, section 5.1.1).
            readers: list[Reader] = []
            for _ in range(3):
                readers.append(Reader(f"{server.url}/events", client))
                assert await anyio.to_thread.run_sync(readers[-1].opened.wait, PATIENCE)
            await server.readers(3)
            await readers[0].end()
            await server.readers(2)
            await readers[1].end()
            await server.readers(1)
            await server.channel.publish(SSEEvent("on it goes", id="1"))
            assert await anyio.to_thread.run_sync(readers[2].got.wait, PATIENCE)
            assert readers[2].received == [MessageEvent("message", "on it goes", "1")]
            await readers[2].end()
            await server.readers(0)


async def test_a_blocking_source_that_is_left_tells_the_server() -> None:
    async with served() as server:
        with httpx2.Client(**HTTP2) as client:

            def block() -> None:
                with BlockingEventSource(f"{server.url}/events", client=client) as source:
                    opened.set()
                    for message in source:
                        assert message.data == "1"
                        break

            opened = threading.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, block)
                await server.readers(1)
                await server.channel.publish("1")
            await server.readers(0)


class Endless:
    """An ASGI application whose answers are no stream, and never end."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.told = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        headers = [(b"location", b"/elsewhere")] if self.status == 307 else []
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.told.set()


@pytest.mark.parametrize("status", [403, 307])
@pytest.mark.parametrize("twin", [EventSource, BlockingEventSource])
async def test_the_server_is_told_of_a_refusals_body_that_is_given_up(
    twin: Any, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{twin.__module__}.REFUSAL_SECONDS", 0.05)
    app = Endless(status)
    entering: Any
    async with on_hypercorn(app, bare=True) as server, httpx2.AsyncClient(**HTTP2) as client:
        url = f"http://127.0.0.1:{server.port}/"
        with httpx2.Client(**HTTP2) as plain:
            if twin is EventSource:
                entering = EventSource(url, client=client).__aenter__()
            else:
                entering = anyio.to_thread.run_sync(BlockingEventSource(url, client=plain).__enter__)
            with pytest.raises(RefusedStatus):
                await entering
            with anyio.fail_after(PATIENCE):
                await app.told.wait()
