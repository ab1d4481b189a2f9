"""Starlette by hand: a StreamingResponse, and events formatted where they are yielded."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from . import asgi, work

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


async def go(request: Request) -> Response:
    await audience.publish(int(request.query_params["count"]), float(request.query_params["rate"]))
    return PlainTextResponse("done")


async def end(request: Request) -> Response:
    await audience.end()
    return PlainTextResponse("done")


async def subscribers(request: Request) -> Response:
    return PlainTextResponse(str(len(audience)))


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    routes = [Route(f"/{endpoint.__name__}", endpoint) for endpoint in (subscribers, stream, first, silent, fan)]
    asgi.run(
        Starlette(routes=[*routes, *(Route(f"/{one.__name__}", one, methods=["POST"]) for one in (go, end))]), options
    )
