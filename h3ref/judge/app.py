"""The contract's app on h3ref: the routes that `h3ref check --contract` requests, as in spec/formats.md.

    python -m h3ref.judge.app --port 3000          # or: uvicorn --factory h3ref.judge.app:asgi --port 3000
    h3ref check --contract http://127.0.0.1:3000

Anybody who can reach it can end its server, so run it only on a machine of your own.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio

from h3ref import Channel, H3App, H3Event, SSEEvent, SSEWriter, flows, serve
from h3ref.limits import Limits

if TYPE_CHECKING:
    from h3ref.adapters.asgi import ASGIApp

RATE: Final = 200.0
"""Events a second in the log."""
BUSY_FOR: Final = 10.0
"""Seconds for which the log is filled after the last request for it."""
PART: Final = "x" * 65536
ENDLESS: Final = 16 * 1024 * 1024
"""Characters of the event that is sent in place of an endless one, since a writer takes only whole events."""


class Contract:
    """The routes, and what they share.

    Args:
        shut_down: begins the server's end, in order.
    """

    def __init__(self, shut_down: Callable[[], object]) -> None:
        self.app: H3App = H3App(lifespan=self._lifespan)
        self._shut_down = shut_down
        self._log = Channel(history=20_000)
        self._log_until = -1.0
        self._asked = anyio.Event()
        self._gates: dict[str, anyio.Event] = {}
        self._open = 0
        self._flooded = 0
        for path, answer in {
            "/ready": _says(lambda: "ready"),
            "/count": _says(lambda: str(self._open)),
            "/flooded": _says(lambda: str(self._flooded)),
            "/release": self._release,
            "/early": self._early,
            "/echo": self._echo,
        }.items():
            self.app.get(path, answer)
        for path, stream in {
            "/ticks": self._ticks,
            "/first": self._first,
            "/gated": self._gated,
            "/late": self._late,
            "/open": self._stay,
            "/flood": self._flood,
            "/large": self._large,
            "/endless": self._endless,
            "/log": self._read_log,
            "/quiet": self._first,
            "/busy": self._busy,
        }.items():
            self.app.get(path, _streams(stream))
        self.app.post("/shutdown", self._end)

    # -- plain answers

    async def _release(self, event: H3Event) -> None:
        self._gate(event).set()
        event.send_text("released")

    def _early(self, event: H3Event) -> None:
        event.start_sse()
        raise RuntimeError("on purpose, before anything was sent")

    def _echo(self, event: H3Event) -> None:
        """Refuse, with a status, what can't be sent."""
        query = event.query
        try:
            message = SSEEvent(query.get("data", ""), event=query.get("event"), id=query.get("id"))
            if "header" in query:
                event.set_header("X-Echo", query["header"])
        except ValueError as error:
            event.send_error(400, str(error).partition(":")[0])
            return

        async def send(writer: SSEWriter) -> None:
            await writer.send_event(message)

        event.start_sse()
        event.set_stream_callback(send)

    async def _end(self, event: H3Event) -> None:
        event.send_text("ending")
        self._shut_down()

    # -- streams

    async def _ticks(self, writer: SSEWriter) -> None:
        await writer.send_event(SSEEvent(retry=3000))
        last = writer.event.last_event_id
        if last not in ("", "1", "2", "3"):
            await writer.send_event(SSEEvent(last, event="gap"))
            last = ""
        for number in range(int(last or 0) + 1, 4):
            await writer.send_event(SSEEvent(str(number), id=str(number)))

    async def _first(self, writer: SSEWriter) -> None:
        await writer.send_event("first")
        await anyio.sleep_forever()

    async def _gated(self, writer: SSEWriter) -> None:
        await writer.send_event("before")
        await self._gate(writer.event).wait()
        await writer.send_event("after")

    async def _late(self, writer: SSEWriter) -> None:
        await writer.send_event("1")
        await writer.send_event("2")
        raise RuntimeError("on purpose, after two events")

    async def _stay(self, writer: SSEWriter) -> None:
        self._open += 1
        try:
            await writer.send_event("open")
            await anyio.sleep_forever()
        finally:
            self._open -= 1

    async def _flood(self, writer: SSEWriter) -> None:
        self._flooded = 0
        while True:
            await writer.send_event(PART)
            self._flooded += len(PART)

    async def _large(self, writer: SSEWriter) -> None:
        await writer.send_event("x" * 1_000_000)

    async def _endless(self, writer: SSEWriter) -> None:
        self._open += 1
        try:
            await writer.send_event("x" * ENDLESS)
            await anyio.sleep_forever()
        finally:
            self._open -= 1

    async def _read_log(self, writer: SSEWriter) -> None:
        self._log_until = anyio.current_time() + BUSY_FOR
        self._asked.set()
        await self._log.stream(writer)

    async def _busy(self, writer: SSEWriter) -> None:
        for number in range(9):
            await writer.send_event(str(number))
            await anyio.sleep(0.25)

    # -- what they share

    def _gate(self, event: H3Event) -> anyio.Event:
        return self._gates.setdefault(event.query.get("key", ""), anyio.Event())

    @asynccontextmanager
    async def _lifespan(self, app: H3App) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._fill)
            yield
            tasks.cancel_scope.cancel()

    async def _fill(self) -> None:
        number = 0
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            while anyio.current_time() < self._log_until:
                number += 1
                await self._log.publish(SSEEvent(str(number), id=str(number)))
                await anyio.sleep(1 / RATE)


def _says(text: Callable[[], str]) -> Callable[[H3Event], Any]:
    async def handler(event: H3Event) -> None:
        event.send_text(text())

    return handler


def _streams(callback: Callable[[SSEWriter], Any]) -> Callable[[H3Event], None]:
    def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    return handler


def _end_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


app: Final[H3App] = Contract(_end_process).app

LIMITS: Final = Limits(stream_keep_alive=1.0)


def asgi() -> ASGIApp:
    """The app for an ASGI server."""
    from h3ref.adapters.asgi import ASGIApp

    return ASGIApp(app, limits=LIMITS)


def main() -> None:
    """Serve it on h3ref's own server."""
    parser = argparse.ArgumentParser(prog="python -m h3ref.judge.app", description="The contract's app on h3ref.")
    parser.add_argument("--port", type=int, default=3000, help="(%(default)s)")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="(%(default)s)")
    parser.add_argument("--broken", action="store_true", help="in H3Z's order, with its bug")
    options = parser.parse_args()
    flow = flows.broken if options.broken else None
    serve(app, port=options.port, backend=options.backend, flow=flow, limits=LIMITS)


if __name__ == "__main__":
    main()
