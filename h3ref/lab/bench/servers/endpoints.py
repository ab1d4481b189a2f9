"""A Starlette app with the endpoints that stream, and those that direct a fan-out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from . import work

EventT = TypeVar("EventT")


def of_events(
    audience: work.Audience,
    event_of: Callable[[int, str], EventT],
    response_of: Callable[[AsyncIterator[EventT]], Response],
) -> Starlette:
    """Return the application whose endpoints stream what generators yield.

    Args:
        audience: whose fan-out is directed.
        event_of: makes an event of its number and its data.
        response_of: makes a response that streams what a generator yields.
    """

    async def stream(request: Request) -> Response:
        async def events() -> AsyncIterator[EventT]:
            gives_way, data = "yield" in request.query_params, work.data()
            for number in range(int(request.query_params["count"])):
                yield event_of(number, data)
                if gives_way:
                    await asyncio.sleep(0)

        return response_of(events())

    async def first(request: Request) -> Response:
        async def events() -> AsyncIterator[EventT]:
            yield event_of(0, work.data())

        return response_of(events())

    async def silent(request: Request) -> Response:
        async def events() -> AsyncIterator[EventT]:
            await asyncio.Event().wait()
            yield event_of(0, "")

        return response_of(events())

    async def fan(request: Request) -> Response:
        async def events() -> AsyncIterator[EventT]:
            async for number, data in audience.events():
                yield event_of(number, data)

        return response_of(events())

    return application(audience, stream, first, silent, fan)


def application(audience: work.Audience, *streams: Callable[[Request], Awaitable[Response]]) -> Starlette:
    """Return the application; each endpoint is found under its function's name.

    Args:
        audience: whose fan-out is directed.
        streams: the endpoints that stream, which are what differs between two of these servers.
    """

    async def subscribers(request: Request) -> Response:
        return PlainTextResponse(str(len(audience)))

    async def go(request: Request) -> Response:
        await audience.publish(int(request.query_params["count"]), float(request.query_params["rate"]))
        return PlainTextResponse("done")

    async def end(request: Request) -> Response:
        await audience.end()
        return PlainTextResponse("done")

    routes = [Route(f"/{endpoint.__name__}", endpoint) for endpoint in (subscribers, *streams)]
    return Starlette(routes=[*routes, *(Route(f"/{one.__name__}", one, methods=["POST"]) for one in (go, end))])
