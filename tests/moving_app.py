"""Apps that stream the same by h3ref and by what its users come from, for tests/test_moves.py."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp.web
import anyio
import fastapi.sse
import sse_starlette
from aiohttp_sse import sse_response
from fastapi import Depends, FastAPI, Request

from h3ref import H3App, H3Event
from h3ref.adapters.asgi import EventSourceResponse
from h3ref.compat import sse_starlette as compat

Content = Callable[[Any], AsyncIterator[str]]
OWN = "FastAPI's own"
OURS = "h3ref"
RESPONSES: dict[str, Any] = {
    "sse-starlette": sse_starlette.EventSourceResponse,
    "`h3ref.compat`": compat.EventSourceResponse,
    OURS: EventSourceResponse,
}


def log(what: str) -> None:
    print(f"<{what}>", file=sys.stderr, flush=True)


async def dependency() -> AsyncIterator[None]:
    try:
        yield
    finally:
        await anyio.sleep(0.1)
        log("teardown")


def asgi_app(peer: str, content: Content) -> Any:
    """A FastAPI app that streams the content at /events."""
    app = FastAPI()
    depends = [Depends(dependency)]
    if peer == OWN:

        @app.get("/events", response_class=fastapi.sse.EventSourceResponse, dependencies=depends)
        async def yielding(request: Request) -> AsyncIterator[str]:
            async for item in content(request):
                yield item

    else:
        response = RESPONSES[peer]

        @app.get("/events", response_model=None, dependencies=depends)
        async def returning(request: Request) -> Any:
            return response(content(request))

    return app


def handler_app(peer: str, content: Content) -> Any:
    """An aiohttp application, or an H3App, that streams the content at /events."""
    if peer == OURS:
        ours = H3App()

        @ours.sse("/events")
        async def generated(event: H3Event) -> AsyncIterator[str]:
            async for item in content(event):
                yield item

        return ours

    async def events(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        async with sse_response(request) as stream:
            async for item in content(request):
                await stream.send(item)
        return stream

    app = aiohttp.web.Application()
    app.router.add_get("/events", events)
    return app


async def for_ever(_: object) -> AsyncIterator[str]:
    try:
        yield "1"
        await anyio.sleep_forever()
    finally:
        await anyio.sleep(0.1)
        log("cleanup")


def served() -> Any:
    """What a server in a process of its own serves: the peer that the environment names."""
    return asgi_app(os.environ["PEER"], for_ever)
