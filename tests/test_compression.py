"""Streams come through a development proxy that compresses, as webpack's does: real express, real `compression`."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from h3ref import H3App, H3Event, SSEWriter, running
from h3ref.adapters.asgi import EventSourceResponse
from h3ref.connection import End
from tests.asgi_servers import on_uvicorn
from tests.clients import SocketClient
from tests.npm import installed

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]  # npm may have to fetch what the proxy is made of

PROJECT = Path(__file__).parent / "compressing_proxy"
COMPRESSED = {"Accept-Encoding": "gzip"}
TRIPS = 3


@pytest.fixture(scope="module")
def proxy(request: pytest.FixtureRequest) -> Path:
    """The proxy's program, installed."""
    return installed(request, PROJECT) / "proxy.js"


@asynccontextmanager
async def behind(proxy: Path, port: int) -> AsyncIterator[SocketClient]:
    """Start the proxy in front of a server, and return a client of the proxy."""
    command = ["node", str(proxy), f"http://127.0.0.1:{port}"]
    async with await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        with anyio.fail_after(60):
            said = await process.stdout.receive()
        client = SocketClient(SimpleNamespace(port=int(said)))  # type: ignore[arg-type]
        try:
            yield client
        finally:
            await client.aclose()
            process.terminate()


class Script:
    """Sends an event when the test says so, and not before; the head has the Cache-Control that is named, or ours."""

    def __init__(self, cache_control: str | None = None) -> None:
        self._headers = {"Cache-Control": cache_control} if cache_control else {}
        self._steps, self._taken = anyio.create_memory_object_stream[str](10)
        self.send = self._steps.send_nowait
        self.end = self._steps.close
        self.flushed = anyio.Event()  # once the first event has left the server

    async def callback(self, writer: SSEWriter) -> None:
        async with self._taken as steps:
            async for data in steps:
                await writer.send_event(data)
                await writer.flush()
                self.flushed.set()

    def app(self) -> H3App:
        app = H3App()
        app.get("/plain", lambda event: event.send_text("plain"))

        @app.get("/events")
        def events(event: H3Event) -> None:
            for name, value in self._headers.items():
                event.set_header(name, value)
            event.start_sse()
            event.set_stream_callback(self.callback)

        return app

    def starlette(self) -> Starlette:
        async def events(request: Request) -> Response:
            return EventSourceResponse(self.callback, headers=self._headers)

        return Starlette(routes=[Route("/events", events)])


async def test_every_event_comes_through_before_the_next_is_sent(proxy: Path) -> None:
    script = Script()
    async with running(script.app()) as server:
        await each_comes_through(script, proxy, server.port)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_so_it_does_from_a_response_for_starlette(proxy: Path) -> None:
    script = Script()
    async with on_uvicorn(script.starlette(), bare=True) as server:
        await each_comes_through(script, proxy, server.port)


async def each_comes_through(script: Script, proxy: Path, port: int) -> None:
    async with behind(proxy, port) as client:
        with anyio.fail_after(30):
            script.send("1")  # such a proxy passes the head on together with the first bytes
            reply = await client.request("GET", "/events", headers=COMPRESSED)
            assert reply.headers["cache-control"] == "no-cache, no-transform"
            assert "content-encoding" not in reply.headers
            assert await reply.receive() == b"data: 1\n\n"
            for data in ("2", "3"):
                script.send(data)
                assert await reply.receive() == b"data: %b\n\n" % data.encode()
            script.end()
            assert (await reply.read(), reply.end) == (b"", End.PROPER)


async def test_without_no_transform_they_are_held_back_to_the_end(proxy: Path) -> None:
    script = Script("no-cache")
    received = bytearray()
    async with running(script.app()) as server, behind(proxy, server.port) as client:

        async def read() -> None:
            reply = await client.request("GET", "/events", headers=COMPRESSED)
            assert reply.headers["content-encoding"] == "gzip"
            unpacked = zlib.decompressobj(wbits=31)
            while part := await reply.receive():
                received.extend(unpacked.decompress(part))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                script.send("1")
                await script.flushed.wait()
                for _ in range(TRIPS):  # the proxy has one thread: what came to it before these, it has dealt with
                    assert await (await client.request("GET", "/plain")).read() == b"plain"
                assert not received, "the compressor waits for more"
                script.send("2")
                script.end()
    assert received == b"data: 1\n\ndata: 2\n\n"
