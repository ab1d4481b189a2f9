"""ASGI servers inside a test's own event loop, so that a test sees both sides of the wire."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import hypercorn
import hypercorn.asyncio
import hypercorn.trio
import uvicorn
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as GranianServer

from h3ref.adapters.asgi import ASGIApp
from tests.ports import free_port
from tests.waits import runs_on_asyncio

GRACE = 20


class Hasty:
    """asyncio as uvicorn's server gets it: it looks ten times a second whether it may end, and here much oftener."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


uvicorn.server.asyncio = Hasty()  # type: ignore[attr-defined, assignment]


class Counted:
    """An ASGI application that counts the requests which it has not returned from."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += scope["type"] == "http"
        try:
            await self.app(scope, receive, send)
        finally:
            self.calls -= scope["type"] == "http"


class ASGIServer:
    """What a test knows of a server that runs an app."""

    def __init__(self, counted: Counted, port: int) -> None:
        self._counted = counted
        self.port = port

    @property
    def calls(self) -> int:
        """How many requests the app has not returned from."""
        return self._counted.calls

    @property
    def service(self) -> Any:
        """What the app's exchanges share."""
        return self._counted.app.service


@asynccontextmanager
async def on_uvicorn(
    app: Any, *, bare: bool = False, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[ASGIServer]:
    """Serve an app by uvicorn; a bare one is any ASGI application, as it is."""
    asgi = Counted(app if bare else ASGIApp(app, **options))
    own: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "on"} | dict(config or {})
    server = uvicorn.Server(uvicorn.Config(asgi, port=0, timeout_graceful_shutdown=GRACE, **own))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            try:
                yield ASGIServer(asgi, listener.getsockname()[1])
            finally:
                server.should_exit = True


@asynccontextmanager
async def on_hypercorn(
    app: Any, *, bare: bool = False, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[ASGIServer]:
    """Serve an app by hypercorn, on asyncio or trio, HTTP/2 included; a bare one is any ASGI application, as it is."""
    asgi = Counted(app if bare else ASGIApp(app, **options))
    over = anyio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = hypercorn.Config.from_mapping(config or {})
    settings.bind = [f"fd://{listener.detach()}"]
    settings.errorlog = logging.getLogger("hypercorn.error")
    settings.graceful_timeout = GRACE

    async def serve() -> None:
        on: Any = hypercorn.asyncio if runs_on_asyncio() else hypercorn.trio
        await on.serve(asgi, settings, shutdown_trigger=over.wait, mode="asgi")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            yield ASGIServer(asgi, port)
        finally:
            over.set()


@asynccontextmanager
async def on_granian(
    app: Any, *, bare: bool = False, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[ASGIServer]:
    """Serve an app by granian's embedded server; a bare one is any ASGI application, as it is."""
    asgi = Counted(app if bare else ASGIApp(app, **options))
    port = free_port()
    server = GranianServer(
        asgi, port=port, interface=Interfaces.ASGI, http=HTTPModes.auto, log_enabled=False, **(config or {})
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        try:
            await accepting(port)
            yield ASGIServer(asgi, port)
        finally:
            server.stop()  # type: ignore[no-untyped-call]


async def accepting(port: int, seconds: float = 30) -> None:
    """Wait until a server accepts connections on a port of this machine."""
    with anyio.fail_after(seconds):
        while True:
            try:
                async with await anyio.connect_tcp("127.0.0.1", port):
                    return
            except OSError:
                await anyio.sleep(0.005)
