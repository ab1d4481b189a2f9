"""`Stream`: the events of one exchange on their way to its connection. The writers are its faces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.lowlevel
from anyio.lowlevel import EventLoopToken

from .. import trace
from ..connection import HIGH_WATER, Connection
from ..errors import BackpressureDetected, WriterClosed
from ..lifecycle import Lifecycle, Reason, State
from ..sse import SSEEvent
from .feed import Feed
from .standins import ENDED, BehindHead
from .turn import Turn

log = logging.getLogger("h3ref.stream")

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment and the blank line that ends its block: the standard needs none, but many a reader splits at blank lines.

Without it, one that looks for "data: " where a block begins loses the next event, and a relay of whole blocks holds the
comment back.
"""

_STREAMING = State.STREAMING


class StreamHost(Protocol):
    """What a stream asks of the exchange that it belongs to."""

    @property
    def task(self) -> int:
        """The number of the task that answers the request, and streams."""

    @property
    def token(self) -> EventLoopToken:
        """The event loop's, for a thread that anyio did not start."""

    @property
    def loop_thread(self) -> int:
        """The thread of the event loop."""

    @property
    def context(self) -> Context:
        """The context in which others start a task for the stream."""

    @property
    def uses_thread(self) -> bool:
        """Whether something of it runs on a worker thread, which can't be cancelled."""

    def cancel_from_outside(self) -> None:
        """Cancel the code that streams, unless it is that which calls."""

    def release(self) -> None:
        """The stream's connection has come to its end, while a thread may never do so: give back what is held."""

    def run_beside_thread(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> bool:
        """Run a task for as long as the thread that streams runs; False if there is none."""


class Stream:
    """The events of one exchange on their way: its connection, the room in it, what feeds it, the counts and the end.

    Events leave in the order of the calls, those of feeds included: what has to wait for the reader keeps its place,
    and what is sent or published after it waits behind it.

    Args:
        host: the exchange, as the stream sees it.
        owner: whose stream it is, for the log.
        lifecycle: where the exchange is in its life.
        connection: carries the bytes, behind the head.
        high_water: bytes that may wait for the reader: from there on, who sends has to wait.
        close_timeout: seconds in which the connection's end is over.
        keep_alive: seconds of silence after which it is shown alive; None for never.
        comment: makes the bytes that show it.

    Attributes:
        connection: what takes the bytes now.
        room: bytes that fit for sure before anybody needs to look at the buffer, or to give way to other tasks; none
            before the first look and once the stream is closed, so that who sends need not ask for its state.
        count: events that came through no feed.
        comment_count: keep-alives.
        is_traced: whether each event has to be recorded, so that it must come through `put`.
        is_cut_short: whether a cancellation left a writer's `async with`.
    """

    __slots__ = (
        "_close_timeout",
        "_ended",
        "_feeds",
        "_owner",
        "_size",
        "_turns",
        "_unyielded",
        "comment",
        "comment_count",
        "connection",
        "count",
        "high_water",
        "host",
        "is_cut_short",
        "is_traced",
        "keep_alive",
        "lifecycle",
        "room",
    )

    def __init__(
        self,
        host: StreamHost,
        owner: object,
        lifecycle: Lifecycle,
        connection: Connection,
        *,
        high_water: int = HIGH_WATER,
        close_timeout: float,
        keep_alive: float | None = None,
        comment: Callable[[], bytes | None] | None = None,
    ) -> None:
        self.host = host
        self._owner = owner
        self.lifecycle = lifecycle
        self.connection: Connection = BehindHead(connection)
        self.high_water = high_water
        self._close_timeout = close_timeout
        self.keep_alive = keep_alive
        self.comment = comment
        self.is_traced = lifecycle.traced
        self.count = self.comment_count = 0
        self.is_cut_short = False
        self._ended: anyio.Event | None = None  # made by the first who ends the connection, for the others to wait for
        self._feeds: tuple[Feed, ...] = ()  # what else brings it events
        self._turns: tuple[Turn, ...] = ()  # what waits, in the order of the calls
        self._unyielded = 0  # bytes sent beside feeds since other tasks were given way to
        self.room = min(HIGH_WATER, high_water)
        self._size = self.room  # so that it less the room is how many bytes were sent: they are counted just once

    # -- what it is

    @property
    def event_count(self) -> int:
        """Events taken so far; keep-alives are not counted."""
        return self.count + (sum(feed.taken for feed in self._feeds) if self._feeds else 0)

    @property
    def byte_count(self) -> int:
        """Bytes of the events and keep-alives taken so far, without what frames them on the way."""
        return self._size - self.room + (sum(feed.taken_size for feed in self._feeds) if self._feeds else 0)

    @property
    def is_active(self) -> bool:
        """Whether it can still be written to."""
        return self.lifecycle.state is _STREAMING

    @property
    def is_ending(self) -> bool:
        """Whether somebody has begun to end its connection."""
        return self._ended is not None

    @property
    def is_ended(self) -> bool:
        """Whether its connection has come to its end."""
        return self._ended is not None and self._ended.is_set()

    @property
    def waiting(self) -> int:
        """Bytes that wait for the reader, in its connection, in a feed, or for their turn."""
        size = self.connection.buffered
        for feed in self._feeds:
            size += feed.waiting
        for turn in self._turns:
            size += turn.size
        return size

    # -- sending

    def check(self) -> None:
        """Raise what a send would raise now, a stream that has ended above all."""
        if self.lifecycle.state is not _STREAMING:
            self.lifecycle.take(trace.SEND_EVENT)  # raises, and records the rejection

    def put(self, data: bytes) -> None:
        """Take an encoded event, for which there is room. `SSEWriter.send_event` does the same in place."""
        if self.is_traced:
            self.record(trace.SEND_EVENT, trace.EVENT, data)
        self.connection.write_chunk(data)
        self.room -= len(data)
        self.count += 1

    async def send(self, data: bytes) -> None:
        """Send an encoded event. Raises as `SSEWriter.send_event` does."""
        if self.room < len(data):
            await self.take_turn(self.put, data)
        else:
            self.put(data)

    def send_nowait(self, data: bytes) -> None:
        """Send an encoded event without waiting. Raises as `SSEWriter.send_nowait` does."""
        self.check()
        if self.waiting >= self.high_water:
            raise BackpressureDetected(self.waiting, self.high_water)
        self._bring_all()
        self.put(data)

    def offer(self, data: bytes) -> None:
        """Take an encoded event without waiting or raising, before what waits; a stream that has ended takes none."""
        if self.is_active:
            for feed in self._feeds:
                feed.bring_sent()
            self.put(data)

    async def send_keep_alive(self) -> None:
        """Send a comment that clients ignore. Raises as `SSEWriter.send_event` does."""
        if self.room <= 0 or self.waiting >= self.high_water:
            await self.take_turn(self._put_keep_alive, KEEP_ALIVE)
        else:
            self._put_keep_alive(KEEP_ALIVE)

    def offer_keep_alive(self) -> None:
        """Send a comment without waiting or raising; a stream that has ended takes none."""
        if self.is_active:
            with suppress(WriterClosed):  # a thread may close it just now
                self._put_keep_alive((self.comment and self.comment()) or KEEP_ALIVE)

    def relay(self, data: bytes, events: Sequence[bytes]) -> None:
        """Take events that a feed brings and counts, as their joined bytes; a stream that has ended takes nothing."""
        if self.lifecycle.state is _STREAMING:
            if self.is_traced:
                for event in events:
                    self.record(trace.SEND_EVENT, trace.EVENT, event)
            self.connection.write_chunk(data)

    async def flush(self) -> None:
        """Wait until all that was sent has left for the client, or the stream has ended."""
        await self.connection.flush()

    def _put_keep_alive(self, data: bytes) -> None:
        if self.is_traced:
            self.record(trace.SEND_KEEP_ALIVE, trace.COMMENT, data)
        self.connection.write_chunk(data)
        self.room -= len(data)
        self.comment_count += 1

    def record(self, sends: trace.Step, arrives: trace.Step, data: bytes) -> None:
        """Tell who listens of an event; that it arrives, when its connection takes it."""
        self.lifecycle.take(sends, detail=data.decode())
        if isinstance(self.connection, BehindHead):
            self.connection.arrivals.append((arrives, data))
        else:
            self._record_arrival(arrives, data)

    def _record_arrival(self, arrives: trace.Step, data: bytes) -> None:
        self.lifecycle.take(trace.DATA, size=len(data))
        self.lifecycle.take(arrives, size=len(data), detail=data.decode())

    # -- turns

    async def take_turn(self, put: Callable[[bytes], None], data: bytes) -> None:
        """Send it after all that was sent before: at once if there is room, else when its turn has come."""
        if not self.is_active:
            await anyio.lowlevel.checkpoint()
            self.check()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self.waiting < self.high_water:
            self._bring_all()
            put(data)
            await self._give_way(len(data))
        else:
            await self._wait_for_turn(partial(put, data), len(data))
        # What a feed brings fills the buffer unseen, so that with one each event has to look.
        self._set_room(0 if self._feeds else self.room_for(None))

    async def _give_way(self, size: int) -> None:
        """Let the other tasks run: at least once in 64 KiB, since who sends may wait for nothing else."""
        self._unyielded += size
        if not self._feeds or self._unyielded >= HIGH_WATER:
            self._unyielded = 0
            await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_for_turn(self, put: Callable[[], None], size: int) -> None:
        turn = Turn(put, size, {feed: feed.hold() for feed in self._feeds})
        self._turns = (*self._turns, turn)
        self._set_room(0)
        try:
            while self.is_active and not turn.is_over:
                await self._come_closer(turn)
        finally:
            self._forget(turn)
        if not turn.is_over:
            self.check()

    async def _come_closer(self, turn: Turn) -> None:
        """Wait until no other turn is before it, and there is room; then bring what was sent before it, and take it."""
        if self._turns[0] is not turn:
            await turn.wait(anyio.sleep_forever)
            return
        await turn.wait(self.connection.drain)
        await anyio.lowlevel.checkpoint()
        if not self.is_active or turn.is_over:
            return
        if self.connection.buffered < self.high_water and all(
            feed.bring(place) for feed, place in tuple(turn.places.items())
        ):
            turn.take()

    def _forget(self, turn: Turn) -> None:
        """It was taken, or given up: let go on who waits behind it."""
        self._turns = tuple(other for other in self._turns if other is not turn)
        for feed in self._feeds:
            feed.go_on()
        if self._turns:
            self._turns[0].look_again()

    def _bring_all(self) -> None:
        """Take all turns, each in its place, and bring what was sent through feeds so far."""
        turns, self._turns = self._turns, ()
        for turn in turns:
            for feed, place in turn.places.items():
                while not feed.bring(place):
                    pass
            turn.take()
            turn.look_again()
        for feed in self._feeds:
            while not feed.bring():
                pass
            feed.go_on()

    def _set_room(self, room: int) -> None:
        self._size += room - self.room
        self.room = room

    # -- the head that it stays behind

    def follow_head(self) -> None:
        """The head has left: what was sent meanwhile follows it, unless the client has left, too."""
        waiting = self.connection
        assert isinstance(waiting, BehindHead), "a head leaves once"
        if self.lifecycle.reason is Reason.CLIENT_GONE:
            self.drop_body()
            return
        self.connection = waiting.connection
        for arrives, event in waiting.arrivals:
            self._record_arrival(arrives, event)
        if data := waiting.let_go():
            self.connection.write_chunk(data)

    def drop_body(self) -> None:
        """The head can't be sent, or is all that there is to send: nothing follows it."""
        waiting = self.connection
        assert isinstance(waiting, BehindHead), "a head leaves once, or never"
        self._size -= len(waiting.let_go())

    async def until_headed(self) -> None:
        """Wait until the head has left, or it is known that it never will."""
        if isinstance(self.connection, BehindHead):
            await self.connection.drain()

    # -- its feeds

    def room_for(self, feed: Feed | None) -> int:
        """Bytes that can be sent, for sure and in their place, before anybody has to look, or to give way."""
        if not self.is_active or self._turns or any(other is not feed for other in self._feeds):
            return 0
        return min(HIGH_WATER, self.high_water - self.connection.buffered)

    def place_of(self, feed: Feed) -> int | None:
        """The place, as `Feed.hold` returned it, before which a feed has to stop: there another's turn is.

        None if nobody waits; -1 for a feed that came after who waits.
        """
        return self._turns[0].places.get(feed, -1) if self._turns else None

    def add_feed(self, feed: Feed) -> None:
        """Have a feed asked for what it still holds before the stream ends; again: does nothing."""
        if not any(other is feed for other in self._feeds):
            for other in self._feeds:
                other.bring_sent()
            self._feeds = (*self._feeds, feed)
        self._set_room(0)

    def remove_feed(self, feed: Feed) -> None:
        """The feed brings its rest, and nothing more; what it has brought stays counted. Again: does nothing."""
        if any(other is feed for other in self._feeds):
            if self._turns and self.is_active:
                self._bring_all()
            self._feeds = tuple(other for other in self._feeds if other is not feed)
            self._part_with(feed, rest=True)

    def _part_with(self, feed: Feed, *, rest: bool) -> None:
        if rest:
            feed.bring_rest()
        feed.end()
        self.count += feed.taken
        self._size += feed.taken_size
        for turn in self._turns:
            turn.places.pop(feed, None)

    # -- its end

    def close(self, reason: Reason = Reason.COMPLETE, step: trace.Step = trace.CLOSE) -> bool:
        """Take nothing any more; who streams comes by itself, or is told by `cancel`. False if it was closed already.

        To cancel a task costs as much as all else that is done at a stream's end.
        """
        if self.lifecycle.state is State.CLOSED:
            return False
        self.take_last(step, reason=reason)
        return True

    def take_last(self, step: trace.Step, *, reason: Reason | None = None, detail: str | None = None) -> None:
        """Take a step that closes the exchange, when its feeds have brought their rest.

        Who has left, or is too slow, has had enough.
        """
        self.part_with_feeds(rest=step is not trace.DISCONNECT and reason is not Reason.SLOW_CONSUMER)
        self.lifecycle.take(step, reason=reason, detail=detail)

    def part_with_feeds(self, *, rest: bool) -> None:
        """The stream ends now: tell its feeds, and all who wait to send."""
        self._set_room(0)
        feeds, self._feeds = self._feeds, ()
        for feed in feeds:
            self._part_with(feed, rest=rest)
        for turn in self._turns:
            if turn.task != self.host.task:  # that is cancelled: once, and for that reason
                turn.look_again()

    def say_farewell(self, data: bytes) -> None:
        """Take an encoded event as the last one."""
        if self.is_active:
            self.part_with_feeds(rest=True)
            self.put(data)

    def cancel(self) -> None:
        """Cancel the code that streams, unless it is that which calls."""
        self.host.cancel_from_outside()

    def stop(self, reason: Reason, step: trace.Step = trace.CLOSE) -> None:
        """Close it from outside, and cancel the code that streams, which brings about the connection's end."""
        if self.close(reason, step):
            self.cancel()

    async def end(self) -> None:
        """Bring a closed stream's connection to the end that its reason asks for; returns when it is there."""
        if self.is_ended:
            return
        timeout = self._close_timeout + 1  # the port bounds the time; this is for an adapter that does not
        with anyio.move_on_after(timeout, shield=True):
            if self._ended is not None:
                await self._ended.wait()
                return
            self._ended = anyio.Event()
            try:
                await self._end_connection()
            except Exception as error:
                log.warning("%r could not be ended: %s", self, error)
            finally:
                self._ended.set()

    async def _end_connection(self) -> None:
        await self.until_headed()
        connection, self.connection = self.connection, ENDED
        reason = self.lifecycle.reason
        if reason is Reason.CLIENT_GONE:
            await connection.close()
            return
        if reason is Reason.ERROR or reason is Reason.SLOW_CONSUMER:
            self.lifecycle.take(trace.CUTS_CONNECTION)
            await connection.cut()
        else:
            self.lifecycle.take(trace.CLOSES_CONNECTION)
            await connection.close()
        self.lifecycle.take(trace.CONNECTION_CLOSED)

    async def close_and_end(self) -> None:
        """Close it, and bring its connection to its end, for the code that streams: nothing of its own is cancelled."""
        self.close()
        await self.end()

    async def leave(self, error: BaseException) -> None:
        """A writer's `with` is left by an exception: the stream has failed; by a cancellation, that is told later."""
        if isinstance(error, anyio.get_cancelled_exc_class()):
            self.is_cut_short = True
        else:
            self.take_last(trace.FAILS, detail=type(error).__name__)
            await self.end()

    def __repr__(self) -> str:
        return f"<Stream of {self._owner!r}, {self.event_count} events>"


def encode(event: SSEEvent | str) -> bytes:
    """The bytes of an event, or of a str as an event's data."""
    return (event if isinstance(event, SSEEvent) else SSEEvent(event)).encode()
