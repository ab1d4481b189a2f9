"""Litestar's ServerSentEvent."""

from litestar import Litestar, Request, Response, get, post
from litestar.response import ServerSentEvent, ServerSentEventMessage
from routes import Early, Event, Events, Routes, one

routes = Routes()


async def encoded(events: Events):
    async for event in events:
        yield ServerSentEventMessage(**event._asdict())


def streamed(events: Events, headers: dict[str, str] | None = None) -> Response:
    return ServerSentEvent(encoded(events), headers=headers)


@get("/{name:str}")
async def answer(name: str, request: Request) -> Response:
    query = request.query_params
    if name in Routes.PLAIN:
        return Response(routes.say(name, query.get("key", "")), media_type="text/plain")
    if name in Routes.STREAMS:
        return streamed(routes.stream(name, query.get("key", ""), request.headers.get("last-event-id", "")))
    if name == "early":
        raise Early
    if name == "echo":
        headers = {"X-Echo": query["header"]} if "header" in query else None
        return streamed(one(Event(query.get("data", ""), query.get("event"), query.get("id"))), headers)
    return Response("no", status_code=404)


@post("/shutdown", status_code=200)
async def shutdown() -> Response:
    return Response(routes.say("shutdown"), media_type="text/plain")


app = Litestar([answer, shutdown])
