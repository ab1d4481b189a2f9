"""The app under soak: good streams, bad handlers, and `/figures`, which tells what is open and what was told."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio

from h3ref import BlockingSSEWriter, Channel, H3App, H3Error, H3Event, SSEEvent, SSEWriter
from h3ref._core.exchange import Exchange

TICK = 0.02
"""Seconds between two events of a paced stream."""

STALL = 0.3
"""Seconds for which `/stalls` holds up the event loop."""

BULK = "x" * 4096
PAGE = b"x" * 2**20

LATE = 1.1
"""Seconds after which `/refused-late` would yield its first item: its headers are due before that."""

USER: ContextVar[str] = ContextVar("user", default="nobody")
"""Whom a request is from, as an application's authentication keeps it."""


class Refused(H3Error):
    """What a hook refuses a stream with."""

    status = 403


class Ledger:
    """Counts, for each callback, that it began, and that it was told once that its stream is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # callbacks run on the loop and on worker threads
        self._numbers = itertools.count()
        self._open: Counter[int] = Counter()
        self.begun = 0
        self.told = 0
        self.unsaved = 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Stands around all that a callback does."""
        with self._lock:
            number = next(self._numbers)
            self.begun += 1
            self._open[number] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[number] -= 1
                self.told += 1
                if self._open[number] == 0:
                    del self._open[number]

    @contextmanager
    def save(self) -> Iterator[None]:
        """Stands around what a callback awaits when it is over, which has to go through."""
        self.unsaved += 1
        yield
        self.unsaved -= 1

    def figures(self) -> dict[str, int]:
        """What was counted so far."""
        with self._lock:
            wrong = sum(1 for count in self._open.values() if count != 1)
            return {
                "begun": self.begun,
                "told": self.told,
                "untold": len(self._open),
                "told_twice": wrong,
                "unsaved": self.unsaved,
            }


def build() -> H3App:
    """The app."""
    app = H3App()
    ledger = Ledger()
    _add_streams(app, ledger)
    _add_feed(app, ledger)
    _add_failures(app, ledger)
    _add_users(app)
    _add_refusals(app, ledger)
    _add_cleanup(app, ledger)
    _add_figures(app, ledger)
    return app


def _add_streams(app: H3App, ledger: Ledger) -> None:
    @app.get("/hello")
    def hello(event: H3Event) -> None:
        event.send_text("hello")

    @app.get("/count")
    def count(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(numbers)

    async def numbers(writer: SSEWriter) -> None:
        with ledger.stream():
            for number in itertools.count(_next(writer.event)):
                await writer.send_event(SSEEvent(str(number), id=str(number)))
                await anyio.sleep(TICK)

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(blocking_numbers)

    def blocking_numbers(writer: BlockingSSEWriter) -> None:
        with ledger.stream():
            for number in itertools.count(_next(writer.event)):
                writer.send_event(SSEEvent(str(number), id=str(number)))
                time.sleep(TICK)

    @app.sse("/generated")
    async def generated(event: H3Event) -> Any:
        with ledger.stream():
            for number in itertools.count(_next(event)):
                yield SSEEvent(str(number), id=str(number))
                await anyio.sleep(TICK)

    @app.get("/burst")
    def burst(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(as_many)

    async def as_many(writer: SSEWriter) -> None:
        with ledger.stream():
            for number in range(int(writer.event.query["count"])):
                await writer.send_event(str(number))

    @app.get("/times")
    def times(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stamps)

    async def stamps(writer: SSEWriter) -> None:
        with ledger.stream():
            while True:
                await writer.send_event(str(time.monotonic_ns()))
                await anyio.sleep(TICK)

    @app.get("/bulk")
    def bulk(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(endless)

    async def endless(writer: SSEWriter) -> None:
        with ledger.stream():
            while True:
                await writer.send_event(BULK)


def _next(event: H3Event) -> int:
    return int(event.last_event_id or -1) + 1


def _add_feed(app: H3App, ledger: Ledger) -> None:
    feed = Channel(history=10_000, name="feed")
    published = itertools.count()
    epoch = os.getpid()  # another process begins another history

    @app.get("/feed")
    def subscribe(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream)

    async def stream(writer: SSEWriter) -> None:
        with ledger.stream():
            await feed.stream(writer)

    @app.post("/feed")
    async def publish(event: H3Event) -> None:
        for _ in range(int(event.query.get("count", "1"))):
            number = next(published)
            await feed.publish(SSEEvent(str(number), id=f"{epoch}-{number}"))
        event.send_text("published")


def _add_failures(app: H3App, ledger: Ledger) -> None:
    @app.get("/raises")
    async def raises(event: H3Event) -> None:
        event.start_sse()
        raise RuntimeError("the handler fails, as it was asked to")

    @app.get("/callback-raises")
    def callback_raises(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(fails)

    async def fails(writer: SSEWriter) -> None:
        with ledger.stream():
            await writer.send_event("one")
            raise RuntimeError("the callback fails, as it was asked to")

    @app.get("/stalls")
    async def stalls(event: H3Event) -> None:
        time.sleep(STALL)  # noqa: ASYNC251  # the stall is the point
        event.send_text("stalled")

    @app.get("/swallows")
    def swallows(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(deaf)

    async def deaf(writer: SSEWriter) -> None:
        with ledger.stream():
            await writer.send_event("one")
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                pass  # what it must not do
            with anyio.CancelScope(shield=True):
                await anyio.sleep(TICK)

    @app.get("/never")
    async def never(event: H3Event) -> None:
        event.start_sse()
        await anyio.sleep_forever()


def _add_users(app: H3App) -> None:
    @app.on_request
    async def authenticate(event: H3Event) -> None:
        if "authorization" in event.headers:
            USER.set(event.headers["authorization"])

    @app.get("/who")
    async def who(event: H3Event) -> None:
        event.send_text(USER.get())

    @app.get("/who-on-thread")
    def who_on_thread(event: H3Event) -> None:
        event.send_text(USER.get())

    @app.get("/page")
    async def page(event: H3Event) -> None:
        event.send_bytes(PAGE)


def _add_refusals(app: H3App, ledger: Ledger) -> None:
    @app.on_response
    async def refuse(event: H3Event) -> None:
        if event.path == "/refused-late":
            raise Refused("this stream is refused when its headers are due")

    @app.on_response
    def note(event: H3Event) -> None:
        event.context["answered"] = True

    @app.sse("/refused-late")
    async def refused_late(event: H3Event) -> Any:
        with ledger.stream():
            await anyio.sleep(LATE)
            yield "what nobody may see"


def _add_cleanup(app: H3App, ledger: Ledger) -> None:
    @app.get("/saves")
    def saves(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(save_at_the_end)

    async def save_at_the_end(writer: SSEWriter) -> None:
        with ledger.stream():
            try:
                await writer.send_event("one")
                await anyio.sleep_forever()
            finally:
                with ledger.save():
                    await anyio.sleep(TICK)

    @app.sse("/saves-generated")
    async def saves_generated(event: H3Event) -> Any:
        with ledger.stream():
            try:
                while True:
                    yield "one"
                    await anyio.sleep(TICK)
            finally:
                with ledger.save():
                    await anyio.sleep(TICK)


def _add_figures(app: H3App, ledger: Ledger) -> None:
    real_time, offset = time.time, 0.0

    @app.post("/clock")
    async def clock(event: H3Event) -> None:
        nonlocal offset
        offset = float(event.query["by"])
        time.time = lambda: real_time() + offset
        event.send_text("jumped")

    @app.get("/figures")
    async def figures(event: H3Event) -> None:
        gc.collect()
        event.send_json(
            {
                **ledger.figures(),
                "exchanges": sum(1 for found in gc.get_objects() if type(found) is Exchange),
                "streams": event.stats().streams,
                "descriptors": _descriptors(),
                "memory": _memory(),
            }
        )


def _descriptors() -> int:
    """How many descriptors the process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def _memory() -> int:
    """The process's resident bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
