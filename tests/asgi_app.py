"""What the ASGI servers of test_asgi.py run as processes: the same streams by every flow, each step on record.

`uvicorn tests.asgi_app:app`; the steps are written to the file that H3REF_TRACE names, one line of NDJSON each.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio

from h3ref import ConnectionNotReady, H3App, H3Event, SSEWriter, flows
from h3ref.adapters.asgi import ASGIApp
from h3ref.trace import Record

logging.basicConfig()  # what a handler raises is logged by h3ref

routes = H3App()


async def one_event(writer: SSEWriter) -> None:
    await writer.send_event("1")


@routes.get("/callback")
async def by_callback(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(one_event)


@routes.get("/awaited")
async def awaited(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await writer.send_event("1")


@routes.get("/blocking")
def blocking(event: H3Event) -> None:
    with event.start_sse_blocking() as writer:
        writer.send_event("1")


@routes.sse("/generated")
async def generated(event: H3Event) -> AsyncIterator[str]:
    yield "1"


@routes.get("/broken")
async def too_early(event: H3Event) -> None:
    event.start_sse()
    try:
        event.get_sse_writer()
    except ConnectionNotReady:
        return


async def for_ever(writer: SSEWriter) -> None:
    await writer.send_event("1")
    await anyio.sleep_forever()


@routes.get("/forever")
async def forever(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(for_ever)


@routes.get("/raises-late")
async def raises_late(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await writer.send_event("1")
        raise RuntimeError("in mid-stream")


@routes.get("/raises-early")
async def raises_early(event: H3Event) -> None:
    event.start_sse()
    raise RuntimeError("before the headers")


@routes.get("/refused")
async def refused(event: H3Event) -> None:
    event.send_error(403)


def record(step: Record) -> None:
    """Write a step where the test reads it."""
    if "H3REF_TRACE" in os.environ:
        with Path(os.environ["H3REF_TRACE"]).open("a") as file:
            file.write(step.to_json() + "\n")


_fixed = ASGIApp(routes, trace=record)
_broken = ASGIApp(routes, flow=flows.broken, trace=record)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The routes by their own flows; /broken by the flow of that name."""
    await (_broken if scope.get("path") == "/broken" else _fixed)(scope, receive, send)
