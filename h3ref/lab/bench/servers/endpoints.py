"""A Starlette application of the endpoints that stream, and of those that direct a fan-out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from . import work


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
