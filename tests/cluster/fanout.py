"""An app that publishes to the streams of its own process, at a fixed rate: for `tests.cluster.workers`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from h3ref import Channel, H3App, H3Event, SSEEvent

RATE: Final = 20
"""Events that each worker publishes a second."""

news = Channel(name="news")


@asynccontextmanager
async def publishing(app: H3App) -> AsyncIterator[None]:
    """Publish at the rate, while the app runs."""

    async def publish() -> None:
        began, number = anyio.current_time(), 0
        while True:
            await news.publish(SSEEvent("x" * 80))
            number += 1
            await anyio.sleep_until(began + number / RATE)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publish)
        yield
        tasks.cancel_scope.cancel()


app = H3App(lifespan=publishing)


@app.get("/events")
def events(event: H3Event) -> None:
    """A stream of all that this worker publishes."""
    event.start_sse()
    event.set_stream_callback(news.stream)


@app.get("/figures")
async def figures(event: H3Event) -> None:
    """What each worker has done so far."""
    event.send_json([{"pid": s.process, "streams": s.streams, "events": s.events} for s in await event.all_stats()])
