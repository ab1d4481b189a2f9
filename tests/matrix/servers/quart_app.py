"""Quart, with the stream's bytes by hand, as its documentation shows it: python quart_app.py PORT."""

import sys

from quart import Quart, Response, make_response, request
from routes import Early, Event, Events, Routes, one

app = Quart(__name__)
routes = Routes(in_parts=True)


async def encoded(events: Events):
    async for event in events:
        yield event.by_hand().encode()


async def streamed(events: Events, headers: dict[str, str] | None = None) -> Response:
    fields = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Transfer-Encoding": "chunked"}
    response = await make_response(encoded(events), {**fields, **(headers or {})})
    response.timeout = None
    return response


@app.get("/<name>")
async def answer(name: str) -> object:
    query = request.args
    if name in Routes.PLAIN:
        return routes.say(name, query.get("key", ""))
    if name in Routes.STREAMS:
        return await streamed(routes.stream(name, query.get("key", ""), request.headers.get("last-event-id", "")))
    if name == "early":
        raise Early
    if name == "echo":
        headers = {"X-Echo": query["header"]} if "header" in query else {}
        return await streamed(one(Event(query.get("data", ""), query.get("event"), query.get("id"))), headers)
    return "no", 404


@app.post("/shutdown")
async def shutdown() -> str:
    return routes.say("shutdown")


app.run("127.0.0.1", int(sys.argv[1]))
