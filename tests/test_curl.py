"""Each fixed flow, seen by curl -N: events come as they are sent, then the body ends properly."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, SSEWriter, running

from .conftest import require_program

pytestmark = pytest.mark.anyio


def app_of(received: Callable[[], Any], received_blocking: Callable[[], Any]) -> H3App:
    """Every flow sends an event, waits until curl has shown it, and only then sends the next."""
    app = H3App()

    async def tick(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await received()
        await writer.send_event("2")

    @app.get("/callback")
    def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(tick)

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await tick(writer)

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            tick_blocking(writer)

    def tick_blocking(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        received_blocking()
        writer.send_event("2")

    @app.sse("/generated")
    async def generated(event: H3Event) -> Any:
        yield "1"
        await received()
        yield "2"

    return app


@pytest.mark.parametrize("route", ["callback", "awaited", "blocking", "generated"])
async def test_curl_shows_events_as_they_are_sent(route: str) -> None:
    curl = require_program("curl", "curl")
    on_loop, on_thread = anyio.Event(), threading.Event()

    def wait_on_thread() -> None:
        assert on_thread.wait(5), "curl had the first event before the second was sent"

    async with running(app_of(on_loop.wait, wait_on_thread)) as server:
        command = [curl, "-sSN", f"{server.url}/{route}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  # read on a thread
        assert process.stdout is not None
        with anyio.fail_after(10):
            assert await anyio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True) == "data: 1\n"
            on_loop.set()
            on_thread.set()
            rest = await anyio.to_thread.run_sync(process.stdout.read, abandon_on_cancel=True)
            status = await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        process.stdout.close()
    assert rest == "\ndata: 2\n\n"
    assert status == 0, "the body ended properly, or curl would have said 18"
