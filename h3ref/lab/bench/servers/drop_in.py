"""h3ref as a response: its EventSourceResponse and its events, in Starlette."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from h3ref import SSEEvent
from h3ref.adapters.asgi import EventSourceResponse

from . import asgi, work
from .endpoints import application

audience = work.Audience()


def event_of(number: int, data: str) -> SSEEvent:
    return SSEEvent(data, event=work.TYPE, id=str(number))


async def stream(request: Request) -> Response:
    async def events() -> AsyncIterator[SSEEvent]:
        gives_way, data = "yield" in request.query_params, work.data()
        for number in range(int(request.query_params["count"])):
            yield event_of(number, data)
            if gives_way:
                await asyncio.sleep(0)

    return EventSourceResponse(events())


async def first(request: Request) -> Response:
    async def events() -> AsyncIterator[SSEEvent]:
        yield event_of(0, work.data())

    return EventSourceResponse(events())


async def silent(request: Request) -> Response:
    async def events() -> AsyncIterator[SSEEvent]:
        await asyncio.Event().wait()
        yield event_of(0, "")

    return EventSourceResponse(events())


async def fan(request: Request) -> Response:
    async def events() -> AsyncIterator[SSEEvent]:
        async for number, data in audience.events():
            yield event_of(number, data)

    return EventSourceResponse(events())


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    asgi.run(application(audience, stream, first, silent, fan), options)
