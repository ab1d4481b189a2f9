"""FastAPI's own event streams: path operations that yield, with its EventSourceResponse as their class."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterable

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from . import asgi, work

app = FastAPI()
audience = work.Audience()


def event_of(number: int, data: str) -> ServerSentEvent:
    return ServerSentEvent(raw_data=data, event=work.TYPE, id=str(number))


@app.get("/subscribers", response_class=PlainTextResponse)
async def subscribers() -> str:
    return str(len(audience))


@app.get("/stream", response_class=EventSourceResponse)
async def stream(count: int, request: Request) -> AsyncIterable[ServerSentEvent]:
    gives_way, data = "yield" in request.query_params, work.data()
    for number in range(count):
        yield event_of(number, data)
        if gives_way:
            await asyncio.sleep(0)


@app.get("/first", response_class=EventSourceResponse)
async def first() -> AsyncIterable[ServerSentEvent]:
    yield event_of(0, work.data())


@app.get("/silent", response_class=EventSourceResponse)
async def silent() -> AsyncIterable[ServerSentEvent]:
    await asyncio.Event().wait()
    yield event_of(0, "")


@app.get("/fan", response_class=EventSourceResponse)
async def fan() -> AsyncIterable[ServerSentEvent]:
    async for number, data in audience.events():
        yield event_of(number, data)


@app.post("/go", response_class=PlainTextResponse)
async def go(count: int, rate: float) -> str:
    await audience.publish(count, rate)
    return "done"


@app.post("/end", response_class=PlainTextResponse)
async def end() -> str:
    await audience.end()
    return "done"


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    asgi.run(app, options)
