"""The contract's streams (spec/formats.md), without a framework: async generators of what is to be sent.

Each app beside this file hands them to its framework in the way that the framework's documentation shows.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable
from typing import NamedTuple

RATE = 200.0
"""Events a second in the log."""

PART = "x" * 65536

ENDLESS = 16 * 1024 * 1024
"""Characters of the event in place of an endless one."""


class Event(NamedTuple):
    """What is to be sent."""

    data: str | None = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def by_hand(self) -> str:
        """As programs write it that have no library for it: nothing is looked at."""
        fields = [f"{name}: {value}\n" for name, value in zip(self._fields, self, strict=True) if value is not None]
        return "".join(fields) + "\n"

    def given(self) -> dict[str, object]:
        """What is not None, for a library's arguments."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Part(str):
    """Some of an event, for frameworks that are handed text."""

    def by_hand(self) -> str:
        """As it is."""
        return self


Events = AsyncGenerator[Event | Part, None]


class Routes:
    """What the routes share; `in_parts` says whether the framework is handed text, which may be some of an event."""

    def __init__(self, *, in_parts: bool = False) -> None:
        self.in_parts = in_parts
        self.gates: dict[str, asyncio.Event] = {}
        self.opened = 0
        self.handed = 0
        self.log_began: float | None = None

    # -- plain answers

    def say(self, name: str, key: str = "") -> str:
        """The text of a plain answer."""
        if name == "count":
            return str(self.opened)
        if name == "flooded":
            return str(self.handed)
        if name == "release":
            self.gate(key).set()
        if name == "shutdown":
            asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
        return name

    PLAIN = ("ready", "count", "flooded", "release")

    # -- streams

    STREAMS = ("ticks", "first", "quiet", "busy", "gated", "late", "open", "flood", "large", "endless", "log")

    def stream(self, name: str, key: str = "", last_event_id: str = "") -> Events:
        """The stream of a route."""
        match name:
            case "ticks":
                return self.ticks(last_event_id)
            case "gated":
                return self.gated(key)
            case "log":
                return self.log(last_event_id)
        found: Events = getattr(self, name)()
        return found

    async def ticks(self, last: str) -> Events:
        yield Event(retry=3000)
        if last not in ("", "1", "2", "3"):
            yield Event(last, event="gap")
            last = ""
        for number in range(int(last or 0) + 1, 4):
            yield Event(str(number), id=str(number))

    async def first(self) -> Events:
        yield Event("first")
        await asyncio.Event().wait()

    async def quiet(self) -> Events:
        async for event in self.first():
            yield event

    async def busy(self) -> Events:
        for number in range(9):
            yield Event(str(number))
            await asyncio.sleep(0.25)

    async def gated(self, key: str) -> Events:
        yield Event("before")
        await self.gate(key).wait()
        yield Event("after")

    async def late(self) -> Events:
        yield Event("1")
        yield Event("2")
        raise RuntimeError("on purpose, after two events")

    async def open(self) -> Events:
        self.opened += 1
        try:
            yield Event("open")
            await asyncio.Event().wait()
        finally:
            self.opened -= 1

    async def flood(self) -> Events:
        self.handed = 0
        while True:
            yield Event(PART)
            self.handed += len(PART)
            await asyncio.sleep(0)  # as a producer does that waits for something

    async def large(self) -> Events:
        yield Event("x" * 1_000_000)

    async def endless(self) -> Events:
        self.opened += 1
        try:
            if self.in_parts:
                yield Part("data: ")
            while self.in_parts:
                yield Part(PART)
                await asyncio.sleep(0)
            yield Event("x" * ENDLESS)
            await asyncio.Event().wait()
        finally:
            self.opened -= 1

    async def log(self, last: str) -> Events:
        self.log_began = self.log_began or time.monotonic()
        number = int(last) if last else self.published
        while True:
            while number < self.published:
                number += 1
                yield Event(str(number), id=str(number))
            await asyncio.sleep(1 / RATE)

    @property
    def published(self) -> int:
        """How many events the log has by now."""
        return int((time.monotonic() - (self.log_began or time.monotonic())) * RATE)

    def gate(self, key: str) -> asyncio.Event:
        return self.gates.setdefault(key, asyncio.Event())


async def one(event: Event) -> Events:
    """A stream of one event."""
    yield event


async def until(events: Events, ended: Awaitable[object]) -> Events:
    """Events, until what is awaited is there; both are given up where the reader is."""
    end = following = asyncio.ensure_future(ended)
    try:
        while True:
            following = asyncio.ensure_future(anext(events))
            await asyncio.wait((end, following), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                break
            try:
                event = following.result()
            except StopAsyncIteration:
                break
            yield event
    finally:
        for waiting in (end, following):
            waiting.cancel()
        await asyncio.gather(end, following, return_exceptions=True)
        await events.aclose()


class Early(RuntimeError):
    """What a handler raises that fails before it has sent anything."""

    def __init__(self) -> None:
        super().__init__("on purpose, before anything was sent")
