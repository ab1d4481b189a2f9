"""What `docs.generate.endings` serves: streams without an end, in FastAPI and in an H3App beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
from fastapi import Depends, FastAPI
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from h3ref import H3App, H3Event, SSEEvent
from h3ref.adapters.asgi import ASGIApp, EventSourceResponse

FAREWELL = SSEEvent("bye", retry=2000)


def log(what: str) -> None:
    print(f"<{what}>", file=sys.stderr, flush=True)


async def dependency() -> AsyncIterator[None]:
    yield
    log("teardown")


async def for_ever() -> AsyncIterator[str]:
    try:
        yield "1"
        await anyio.sleep_forever()
    finally:
        await anyio.lowlevel.checkpoint()
        log("cleanup")


app = FastAPI()
live = H3App()


@app.get("/events", dependencies=[Depends(dependency)], response_model=None)
async def events() -> EventSourceResponse:
    return EventSourceResponse(for_ever(), farewell=FAREWELL, background=BackgroundTask(log, "background"))


@live.sse("/events")
async def live_events(event: H3Event) -> AsyncIterator[str]:
    async for data in for_ever():
        yield data


app.mount("/live", ASGIApp(live, farewell=FAREWELL))


async def as_it_is(request: Any, call_next: Any) -> Any:
    return await call_next(request)


if "BEHIND_MIDDLEWARE" in os.environ:
    app.add_middleware(BaseHTTPMiddleware, dispatch=as_it_is)
