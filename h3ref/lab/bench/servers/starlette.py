"""Starlette by hand: a StreamingResponse, and events formatted where they are yielded."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from . import asgi, work
from .endpoints import application

audience = work.Audience()


def encoded(number: int, data: str) -> str:
    return f"id: {number}\nevent: {work.TYPE}\ndata: {data}\n\n"


def streaming(events: AsyncIterator[str]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def stream(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        gives_way, data = "yield" in request.query_params, work.data()
        for number in range(int(request.query_params["count"])):
            yield encoded(number, data)
            if gives_way:
                await asyncio.sleep(0)

    return streaming(events())


async def first(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        yield encoded(0, work.data())

    return streaming(events())


async def silent(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    return streaming(events())


async def fan(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        async for number, data in audience.events():
            yield encoded(number, data)

    return streaming(events())


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    asgi.run(application(audience, stream, first, silent, fan), options)
