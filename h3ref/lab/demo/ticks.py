"""The streams of the demo's page: a tick each second, without end, in each of the four orders."""

from __future__ import annotations

import time
from itertools import count

import anyio

from h3ref import H3App, H3Event, SSEEvent, SSEWriter
from h3ref.examples import callback as example

EVERY = 1.0
"""Seconds between two ticks."""

PREFIX = "/ticks"


def add_to(app: H3App) -> None:
    """Add the four routes, `/ticks/broken` and so on."""
    broken = example.app.match("GET", "/broken").handler
    assert broken is not None, "the example has it"
    app.get(f"{PREFIX}/broken", broken)
    app.get(f"{PREFIX}/callback", _callback)
    app.get(f"{PREFIX}/awaited", _awaited)
    app.get(f"{PREFIX}/blocking", _blocking)


def _callback(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(_tick)


async def _awaited(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await _tick(writer)


def _blocking(event: H3Event) -> None:
    with event.start_sse_blocking() as writer:
        for number in count(1):
            writer.send_event(_event(number))
            time.sleep(EVERY)


async def _tick(writer: SSEWriter) -> None:
    for number in count(1):
        await writer.send_event(_event(number))
        await anyio.sleep(EVERY)


def _event(number: int) -> SSEEvent:
    return SSEEvent(str(number), event="tick", id=str(number))
