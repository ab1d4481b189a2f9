"""sse-starlette, with a ping of one second, and a `shutdown_event` at which a stream ends, as its README has it."""

import contextlib

import anyio
from routes import Early, Event, Events, Routes, one, until
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

routes = Routes()


async def encoded(events: Events, ended: anyio.Event):
    async with contextlib.aclosing(until(events, ended.wait())) as lasting:
        async for event in lasting:
            yield ServerSentEvent(**event.given())


def streamed(events: Events, headers: dict[str, str] | None = None) -> Response:
    ended = anyio.Event()
    return EventSourceResponse(
        encoded(events, ended), ping=1, headers=headers, shutdown_event=ended, shutdown_grace_period=5
    )


async def answer(request: Request) -> Response:
    name, query = request.path_params["name"], request.query_params
    if name in Routes.PLAIN:
        return PlainTextResponse(routes.say(name, query.get("key", "")))
    if name in Routes.STREAMS:
        return streamed(routes.stream(name, query.get("key", ""), request.headers.get("last-event-id", "")))
    if name == "early":
        raise Early
    if name == "echo":
        headers = {"X-Echo": query["header"]} if "header" in query else {}
        return streamed(one(Event(query.get("data", ""), query.get("event"), query.get("id"))), headers)
    return PlainTextResponse("no", 404)


async def shutdown(request: Request) -> Response:
    return PlainTextResponse(routes.say("shutdown"))


app = Starlette(routes=[Route("/shutdown", shutdown, methods=["POST"]), Route("/{name}", answer)])
