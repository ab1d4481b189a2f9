"""Starlette, with the stream's bytes by hand: what a StreamingResponse is given in many programs."""

from routes import Early, Event, Events, Routes, one
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

routes = Routes(in_parts=True)


async def encoded(events: Events):
    async for event in events:
        yield event.by_hand()


def streamed(events: Events, headers: dict[str, str] | None = None) -> Response:
    return StreamingResponse(
        encoded(events), media_type="text/event-stream", headers={"Cache-Control": "no-cache", **(headers or {})}
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
