"""FastAPI's own EventSourceResponse: the path operation is the generator, so that a failure is one of the generator's.

Its keep-alive of 15 s can't be set; the constant that FastAPI's own tests set makes it one second.
"""

from typing import Annotated

import fastapi.routing
from fastapi import FastAPI, Header, Response
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from routes import Early, Event, Routes

fastapi.routing._PING_INTERVAL = 1
app = FastAPI()
routes = Routes()


def encoded(event: Event) -> ServerSentEvent:
    given = event.given()
    data = {"raw_data": given.pop("data")} if "data" in given else {}
    return ServerSentEvent(**data, **given)


def add_plain(name: str) -> None:
    @app.get(f"/{name}", response_class=PlainTextResponse)
    async def plain(key: str = "") -> str:
        return routes.say(name, key)


def add_stream(name: str) -> None:
    @app.get(f"/{name}", response_class=EventSourceResponse)
    async def stream(key: str = "", last_event_id: Annotated[str, Header()] = ""):
        async for event in routes.stream(name, key, last_event_id):
            yield encoded(event)


for name in Routes.PLAIN:
    add_plain(name)
for name in Routes.STREAMS:
    add_stream(name)


@app.get("/early", response_class=EventSourceResponse)
async def early():
    raise Early
    yield


@app.get("/echo", response_class=EventSourceResponse)
async def echo(response: Response, data: str = "", event: str | None = None, id: str | None = None, header: str = ""):
    if header:
        response.headers["X-Echo"] = header
    yield encoded(Event(data, event, id))


@app.post("/shutdown", response_class=PlainTextResponse)
async def shutdown() -> str:
    return routes.say("shutdown")
