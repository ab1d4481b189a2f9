"""`Streams`: the open streams of one service: how many, how old, how silent, and whether their readers read."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from ..errors import TooManyStreams
from ..lifecycle import Reason
from ..limits import Limits
from .parking import Parking

if TYPE_CHECKING:
    from ..connection import Connection
    from ..writer import SSEWriter
    from .exchange import Exchange

LOOKS: Final = 4
"""So often a stream is looked at within the shortest of its times. To look costs no more than to count what was sent,
so that sending itself is spared a glance at the clock."""

LOOKS_A_TURN: Final = 256
"""After so many streams the task that looks gives way to the others."""


class Streaming:
    """What `Streams` knows of one stream.

    Args:
        exchange: whose stream it is.
        now: the loop's time.
        ends_at: when it is too old.
    """

    __slots__ = ("ends_at", "exchange", "look_at", "looked_at", "sent", "silent_since")

    def __init__(self, exchange: Exchange, now: float, look_at: float, ends_at: float | None) -> None:
        self.exchange = exchange
        self.ends_at = ends_at
        self.look_at = look_at
        self.looked_at = self.silent_since = now
        self.sent = 0  # events and comments, when it was looked at last

    def is_silent_for(self, seconds: float, now: float, writer: SSEWriter) -> bool:
        """Whether nothing was sent for so long, taking what was sent since the last look for as old as that look."""
        sent = writer.event_count + writer.comment_count
        if sent != self.sent:
            self.sent, self.silent_since = sent, self.looked_at
        self.looked_at = now
        return now - self.silent_since >= seconds


class Streams:
    """The open streams of one service. One task looks after all of them, while `run` runs; without it they are counted.

    Args:
        limits: how many there may be, and for how long what may last.
        refused: counts by limit who was refused, or cut.

    Attributes:
        opened: how many there were so far.
        look_every: seconds between two looks at a stream; 0 if there is nothing to look for.
    """

    def __init__(self, limits: Limits, refused: Counter[str]) -> None:
        self._refused = refused
        self._most = limits.streams
        self._age = limits.stream_age
        self._jitter = limits.stream_age_jitter
        self._keep_alive = limits.stream_keep_alive
        self._send_timeout = limits.send_timeout
        times = [time for time in (self._age, self._keep_alive, self._send_timeout) if time is not None]
        self.look_every = min(times, default=0.0) / LOOKS
        self.opened = 0
        self._open: dict[Connection, Streaming] = {}  # who was looked at longest ago comes first
        self._parking: Parking | None = None
        self._ends: TaskGroup | None = None  # while the task runs: those who are ended from outside

    def __len__(self) -> int:
        return len(self._open)

    def check(self) -> None:
        """See that there is room for one more.

        Raises:
            TooManyStreams: there is none.
        """
        if self._most is not None and len(self._open) >= self._most:
            self._refused["streams"] += 1
            raise TooManyStreams(f"all {self._most} streams that this server allows are open; try again later")

    def add(self, connection: Connection, exchange: Exchange) -> None:
        """Count a stream, and look after it."""
        now = anyio.current_time()
        age = self._age
        ends_at = None if age is None else now + age * (1 - self._jitter * random.random())
        if not self._open and self._parking is not None and self.look_every:
            self._parking.wake()
        self.opened += 1
        self._open[connection] = Streaming(exchange, now, now + self.look_every, ends_at)

    def discard(self, connection: Connection) -> None:
        """It has ended."""
        self._open.pop(connection, None)

    def give_up(self, connection: Connection) -> None:
        """Cut a stream whose reader doesn't read, for an adapter that can hold no more for it."""
        if connection in self._open:
            self._refused["server_buffer"] += 1
            self._end(self._open[connection], Reason.SLOW_CONSUMER)

    async def run(self) -> None:
        """Look after the streams until cancelled."""
        parking = self._parking = Parking()
        try:
            async with anyio.create_task_group() as ends:
                self._ends = ends
                while True:
                    if self._open and self.look_every:
                        await anyio.sleep(max(0.0, self._look() - anyio.current_time()))
                    else:
                        await parking.wait()
        finally:
            if self._ends is ends:  # else it runs somewhere else already
                self._ends = None

    def _look(self) -> float:
        """Look at those whose time has come; return when the next one's is."""
        now = anyio.current_time()
        for _ in range(LOOKS_A_TURN):
            connection, stream = next(iter(self._open.items()))
            if stream.look_at > now:
                return max(stream.look_at, now + self.look_every / 16)  # so that some are looked at together
            del self._open[connection]
            self._open[connection] = stream
            stream.look_at = now + self.look_every
            self._look_at(connection, stream, now)
        return now

    def _look_at(self, connection: Connection, stream: Streaming, now: float) -> None:
        writer = stream.exchange.stream_writer
        if writer is None or not writer.is_active:
            return
        if stream.ends_at is not None and now >= stream.ends_at:
            self._end(stream, Reason.TIMEOUT)
            return
        stalled_since = connection.stalled_since
        if stalled_since is not None:
            if self._send_timeout is not None and now - stalled_since >= self._send_timeout:
                self._refused["send_timeout"] += 1
                self._end(stream, Reason.SLOW_CONSUMER)
            return  # what waits for it already shows, when it arrives, that the connection is alive
        if self._keep_alive is None:
            return
        if stream.is_silent_for(self._keep_alive - self.look_every / 2, now, writer):
            writer.offer_keep_alive()
            stream.sent, stream.silent_since = writer.event_count + writer.comment_count, now

    def _end(self, stream: Streaming, reason: Reason) -> None:
        """End a stream, also where its own task can't, as that of a thread that waits for room."""
        stream.exchange.end_stream(reason)
        self.end_soon(stream.exchange)

    def end_soon(self, exchange: Exchange) -> None:
        """Bring a closed stream's connection to its end beside the task that streams, which may be unable to."""
        writer = exchange.stream_writer
        if writer is None:
            return  # it has no connection yet: what ends it is its answer
        if self._ends is not None:
            exchange.context.copy().run(self._ends.start_soon, self._bring_to_end, exchange, writer)
        elif exchange.uses_thread:  # nobody runs this beside: at least it counts no more
            exchange.let_client_go()

    async def _bring_to_end(self, exchange: Exchange, writer: SSEWriter) -> None:
        await writer.end()
        if exchange.uses_thread:
            exchange.let_client_go()
