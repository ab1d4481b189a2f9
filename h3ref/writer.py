"""`SSEWriter`, what a stream sends with."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel

from . import trace
from ._core.parking import current_task_id
from .connection import HIGH_WATER, Connection
from .errors import BackpressureDetected, WriterClosed
from .lifecycle import Lifecycle, Reason, State
from .sse import SSEEvent

if TYPE_CHECKING:
    from .event import H3Event

log = logging.getLogger(__name__)

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment and the blank line that ends its block: the standard needs none, but many a reader splits at blank lines.

Without it, one that looks for "data: " where a block begins loses the next event, and a relay of whole blocks holds the
comment back.
"""

_STREAMING = State.STREAMING


class Feed(Protocol):
    """What brings a stream events besides the writer's own methods, such as a subscription to a channel."""

    @property
    def taken(self) -> int:
        """How many events it has brought."""

    @property
    def taken_size(self) -> int:
        """How many bytes these have."""

    @property
    def waiting(self) -> int:
        """How many bytes were sent through it that it has not brought."""

    def bring_sent(self) -> None:
        """Bring what a thread has sent through it by itself, by `relay`: something is to be sent after it."""

    def hold(self) -> int:
        """Something else is sent now, and waits for its turn: bring nothing by itself that comes after it.

        Returns the place of that, for `bring`.
        """

    def bring(self, place: int | None = None) -> bool:
        """Bring some of what was sent through it before a place, or so far, by `relay`; whether that was all."""

    def go_on(self) -> None:
        """A turn has come, or was given up; `SSEWriter.place_of` says whether there is another."""

    def bring_rest(self) -> None:
        """Bring all that it still holds for the stream, by `relay`."""

    def end(self) -> None:
        """The stream has ended, or wants nothing of it any more: bring nothing from now on, and count nothing."""


class Turn:
    """What is sent, and has to wait; what is sent after it waits behind it.

    Attributes:
        size: how many bytes it has.
        places: where it stands among what each feed brings.
        task: the number of the task that waits.
    """

    __slots__ = ("_put", "_waits", "is_over", "places", "size", "task")

    def __init__(self, put: Callable[[], None], size: int, places: dict[Feed, int]) -> None:
        self._put = put
        self.size = size
        self.places = places
        self._waits = anyio.CancelScope()
        self.is_over = False
        self.task = current_task_id()

    async def wait(self, function: Callable[[], Awaitable[object]]) -> None:
        """Wait until a function returns, or `look_again` is called."""
        with anyio.CancelScope() as self._waits:
            await function()

    def look_again(self) -> None:
        """Something has changed: have the task that waits look at it."""
        self._waits.cancel()

    def take(self) -> None:
        """Send it."""
        self.is_over = True
        self._put()


class SSEWriter:
    """Sends events on one stream. Flows hand it out when the headers are sent; nobody builds one.

    Who takes it while they are still on their way may send: what is sent then goes behind them. Events leave in the
    order of the calls, those of channels that stream to it included: what has to wait for the reader keeps its place,
    and what is sent or published after it waits behind it.

    As an `async with` it closes the stream on leaving; left by an exception, it fails the stream
    instead, so that the client sees a body without its proper end. Left by a cancellation, that is told when the
    handler is over: one that goes on was cut short by a time limit of its own, which fails the stream; one that
    does not was cancelled by a server that ends, which ends it properly.

    Attributes:
        event: the `H3Event` whose stream this is.
    """

    __slots__ = (
        "_connection",
        "_count",
        "_ended",
        "_feeds",
        "_interrupt",
        "_lifecycle",
        "_room",
        "_size",
        "_turns",
        "_unyielded",
        "comment_count",
        "cut_short",
        "event",
    )

    def __init__(
        self, event: H3Event, lifecycle: Lifecycle, connection: Connection, interrupt: Callable[[], None]
    ) -> None:
        self.event = event
        self._count = 0
        self.comment_count = 0  # keep-alives
        self._lifecycle = lifecycle
        self._connection: Connection = _BehindHead(connection)
        self._interrupt = interrupt
        self.cut_short = False  # whether a cancellation left `async with`
        self._ended: anyio.Event | None = None  # made by the first who ends the connection, for the others to wait for
        self._feeds: tuple[Feed, ...] = ()  # what else brings it events
        self._turns: tuple[Turn, ...] = ()  # what waits, in the order of the calls
        self._unyielded = 0  # bytes sent beside feeds since other tasks were given way to
        # Bytes that fit for sure before anybody needs to look at the buffer, or to give way to other tasks.
        self._room = min(HIGH_WATER, event._host.stream_buffer)
        self._size = self._room  # so that it less the room is how many bytes were sent: they are counted just once

    @property
    def event_count(self) -> int:
        """Events taken so far; keep-alives are not counted."""
        return self._count + (sum(feed.taken for feed in self._feeds) if self._feeds else 0)

    @property
    def byte_count(self) -> int:
        """Bytes of the events and keep-alives taken so far, without what frames them on the way."""
        return self._size - self._room + (sum(feed.taken_size for feed in self._feeds) if self._feeds else 0)

    @property
    def is_active(self) -> bool:
        """Whether the stream can still be written to."""
        return self._lifecycle.state is _STREAMING

    @property
    def is_ending(self) -> bool:
        """Whether somebody has begun to end the stream's connection."""
        return self._ended is not None

    @property
    def is_ended(self) -> bool:
        """Whether the stream's connection has come to its end."""
        return self._ended is not None and self._ended.is_set()

    async def send_event(self, event: SSEEvent | str) -> None:
        """Send an event, or a str as an event's data. Waits while `Limits.stream_buffer` bytes wait for the reader.

        Raises:
            WriterClosed: the stream has ended; `reason` says why.
            WriteError: the adapter can't write, though the client is not known to have left.
            TypeError, ValueError: what `SSEEvent` refuses.
        """
        data = event._wire if event.__class__ is SSEEvent else encode(event)
        # As send_encoded, in place: it is called for each event.
        size = len(data)
        if self._room < size or self._lifecycle._state is not _STREAMING:
            await self._take_turn(self._put, data)
            return
        if self._lifecycle._listener is not None:
            self._record(trace.SEND_EVENT, trace.EVENT, data)
        self._connection.write_chunk(data)
        self._room -= size
        self._count += 1

    def send_nowait(self, event: SSEEvent | str) -> None:
        """Send an event without waiting.

        Raises:
            BackpressureDetected: `Limits.stream_buffer` bytes wait for the reader; this event was not taken.
            WriterClosed, TypeError, ValueError: as `send_event`.
        """
        data = encode(event)
        self.check()
        if self.waiting >= self.high_water:
            raise BackpressureDetected(self.waiting, self.high_water)
        self._bring_all()
        self._put(data)

    async def send_encoded(self, data: bytes) -> None:
        """Send an event that is encoded already. Raises as `send_event` does."""
        if self._room < len(data) or self._lifecycle._state is not _STREAMING:
            await self._take_turn(self._put, data)
        else:
            self._put(data)

    def offer_encoded(self, data: bytes) -> None:
        """Take an encoded event without waiting or raising, before what waits; a stream that has ended takes none."""
        if self._lifecycle._state is _STREAMING:
            for feed in self._feeds:
                feed.bring_sent()
            self._put(data)

    async def send_keep_alive(self) -> None:
        """Send a comment that clients ignore, to show a silent connection alive. Raises as `send_event` does.

        By default the server does so by itself, `Limits.stream_keep_alive`.
        """
        if self._room <= 0 or self.waiting >= self.high_water or self._lifecycle._state is not _STREAMING:
            await self._take_turn(self._put_keep_alive, KEEP_ALIVE)
        else:
            self._put_keep_alive()

    def offer_keep_alive(self) -> None:
        """Send such a comment without waiting or raising; a stream that has ended takes none."""
        if self._lifecycle._state is _STREAMING:
            with suppress(WriterClosed):  # a thread may close it just now
                self._put_keep_alive()

    async def flush(self) -> None:
        """Wait until all that was sent has left for the client, or the stream has ended."""
        await self._connection.flush()

    async def close(self) -> None:
        """End the stream: what is buffered is sent, then the body's proper end. Again: does nothing.

        Called by another task than the one that streams, it also cancels the stream's callback.
        """
        await self.close_for(Reason.COMPLETE)

    async def close_for(self, reason: Reason) -> None:
        """End the stream as `close` does, for another reason than that it is complete."""
        self.begin_close(reason)
        await self.end()

    async def close_from_thread(self) -> None:
        """End the stream as `close` does, for the thread that streams: nothing of its own is cancelled."""
        self.mark_closed(Reason.COMPLETE)
        await self.end()

    async def end(self) -> None:
        """Bring a closed stream's connection to the end that its reason asks for; returns when it is there."""
        if self.is_ended:
            return
        timeout = self.event._host.close_timeout + 1  # the port bounds the time; this is for an adapter that does not
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
        connection, self._connection = self._connection, _ENDED
        reason = self._lifecycle.reason
        if reason is Reason.CLIENT_GONE:
            await connection.close()
            return
        if reason is Reason.ERROR or reason is Reason.SLOW_CONSUMER:
            self._lifecycle.take(trace.CUTS_CONNECTION)
            await connection.cut()
        else:
            self._lifecycle.take(trace.CLOSES_CONNECTION)
            await connection.close()
        self._lifecycle.take(trace.CONNECTION_CLOSED)

    async def __aenter__(self) -> SSEWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        elif isinstance(error, anyio.get_cancelled_exc_class()):
            self.cut_short = True
        else:
            self.wind_up()
            self._lifecycle.take(trace.FAILS, detail=type(error).__name__)
            await self.end()

    def _put(self, data: bytes) -> None:
        if self._lifecycle._listener is not None:
            self._record(trace.SEND_EVENT, trace.EVENT, data)
        self._connection.write_chunk(data)
        self._room -= len(data)
        self._count += 1

    def _put_keep_alive(self, data: bytes = KEEP_ALIVE) -> None:
        if self._lifecycle.traced:
            self._record(trace.SEND_KEEP_ALIVE, trace.COMMENT, data)
        self._connection.write_chunk(data)
        self._room -= len(data)
        self.comment_count += 1

    def _record(self, sends: trace.Step, arrives: trace.Step, data: bytes) -> None:
        self._lifecycle.take(sends, detail=data.decode())
        if isinstance(self._connection, _BehindHead):
            self._connection.arrivals.append((arrives, data))
        else:
            self._record_arrival(arrives, data)

    def _record_arrival(self, arrives: trace.Step, data: bytes) -> None:
        self._lifecycle.take(trace.DATA, size=len(data))
        self._lifecycle.take(arrives, size=len(data), detail=data.decode())

    async def _take_turn(self, put: Callable[[bytes], None], data: bytes) -> None:
        """Send it after all that was sent before: at once if there is room, else when its turn has come."""
        if self._lifecycle._state is not _STREAMING:
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
            while self._lifecycle._state is _STREAMING and not turn.is_over:
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
        await turn.wait(self._connection.drain)
        await anyio.lowlevel.checkpoint()
        if self._lifecycle._state is not _STREAMING or turn.is_over:
            return
        if self._connection.buffered < self.high_water and all(
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
        self._size += room - self._room
        self._room = room

    # -- the head that it stays behind

    def follow_head(self) -> None:
        """The head has left: what was sent meanwhile follows it, unless the client has left, too."""
        waiting = self._connection
        assert isinstance(waiting, _BehindHead), "a head leaves once"
        if self._lifecycle.reason is Reason.CLIENT_GONE:
            self.drop_body()
            return
        self._connection = waiting.connection
        for arrives, event in waiting.arrivals:
            self._record_arrival(arrives, event)
        if data := waiting.let_go():
            self._connection.write_chunk(data)

    def drop_body(self) -> None:
        """The head can't be sent, or is all that there is to send: nothing follows it."""
        waiting = self._connection
        assert isinstance(waiting, _BehindHead), "a head leaves once, or never"
        self._size -= len(waiting.let_go())

    async def until_headed(self) -> None:
        """Wait until the head has left, or it is known that it never will."""
        if isinstance(self._connection, _BehindHead):
            await self._connection.drain()

    # -- what a channel, or another feed, does with it

    @property
    def waiting(self) -> int:
        """Bytes that wait for the reader, in its connection, in a feed, or for their turn."""
        size = self._connection.buffered
        for feed in self._feeds:
            size += feed.waiting
        for turn in self._turns:
            size += turn.size
        return size

    @property
    def buffered(self) -> int:
        """Bytes that wait for the reader in its connection."""
        return self._connection.buffered

    @property
    def high_water(self) -> int:
        """Bytes that may wait for the reader: from there on, who sends has to wait."""
        return self.event._host.stream_buffer

    def room_for(self, feed: Feed | None) -> int:
        """Bytes that can be sent, for sure and in their place, before anybody has to look, or to give way."""
        if self._turns or any(other is not feed for other in self._feeds):
            return 0
        return min(HIGH_WATER, self.high_water - self._connection.buffered)

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

    def wind_up(self, reason: Reason | None = None) -> None:
        """The stream ends now: tell its feeds, whose rest is sent first, and all who wait to send.

        It is given up for one who has left, or is too slow, and so has had enough.
        """
        rest = reason not in (Reason.CLIENT_GONE, Reason.SLOW_CONSUMER)
        feeds, self._feeds = self._feeds, ()
        for feed in feeds:
            self._part_with(feed, rest=rest)
        for turn in self._turns:
            if turn.task != self.event._host.task:  # that is cancelled: once, and for that reason
                turn.look_again()

    def _part_with(self, feed: Feed, *, rest: bool) -> None:
        if rest:
            feed.bring_rest()
        feed.end()
        self._count += feed.taken
        self._size += feed.taken_size
        for turn in self._turns:
            turn.places.pop(feed, None)

    def check(self) -> None:
        """Raise what a send would raise now, a stream that has ended above all."""
        if self._lifecycle.state is not _STREAMING:
            self._lifecycle.take(trace.SEND_EVENT)  # raises, and records the rejection

    @property
    def is_traced(self) -> bool:
        """Whether each event has to be recorded, so that it must come through this writer."""
        return self._lifecycle.traced

    def relay(self, data: bytes, events: Sequence[bytes]) -> None:
        """Take events that a feed brings and counts, as their joined bytes; a stream that has ended takes nothing."""
        if self._lifecycle._state is _STREAMING:
            if self._lifecycle._listener is not None:
                for event in events:
                    self._record(trace.SEND_EVENT, trace.EVENT, event)
            self._connection.write_chunk(data)

    def begin_close(self, reason: Reason) -> None:
        """Close the stream without waiting for its end, which its own task brings about."""
        if self.mark_closed(reason):
            self._interrupt()

    def mark_closed(self, reason: Reason) -> bool:
        """As `begin_close`, but the stream's task has to come by itself; `interrupt` is for one that does not.

        To cancel a task costs as much as all else that is done at a stream's end. False if it was closed already.
        """
        if self._lifecycle.state is State.CLOSED:
            return False
        self.wind_up(reason)
        self._lifecycle.take(trace.CLOSE, reason=reason)
        return True

    def interrupt(self) -> None:
        """Cancel the stream's callback, unless it is that which calls."""
        self._interrupt()

    def __repr__(self) -> str:
        return f"<SSEWriter of {self.event!r}, {self.event_count} events>"


def encode(event: SSEEvent | str) -> bytes:
    """The bytes of an event, or of a str as an event's data."""
    return (event if isinstance(event, SSEEvent) else SSEEvent(event)).encode()


class _Ended:
    """Stands for the connection of a stream whose end has begun: it takes nothing and holds nothing."""

    adapter_type = "ended"
    buffered = 0
    stalled_since = sharing = None

    async def send_headers(self, head: object) -> int:
        return 0  # pragma: no cover  # the port wants the method; a stream that ends has had its head

    def write_chunk(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    async def flush(self) -> None: ...

    async def close(self) -> None: ...

    async def cut(self) -> None: ...


_ENDED = _Ended()


class _BehindHead:
    """Stands for the connection of a stream whose head is on its way: what is sent meanwhile waits for that.

    Attributes:
        connection: whose head it is.
        arrivals: what there is to record when what was sent leaves.
    """

    __slots__ = ("_chunks", "_over", "arrivals", "buffered", "connection", "is_waiting")

    adapter_type = "behind its head"
    stalled_since = sharing = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arrivals: list[tuple[trace.Step, bytes]] = []
        self.buffered = 0
        self.is_waiting = True
        self._chunks: list[bytes] = []
        self._over: anyio.Event | None = None  # set when it waits no longer; made only by one who waits for that

    async def send_headers(self, head: object) -> int:
        return 0  # pragma: no cover  # the port wants the method; the flow sends them over the connection itself

    def write_chunk(self, data: bytes) -> None:
        if self.is_waiting:  # else there is no body
            self._chunks.append(data)
            self.buffered += len(data)

    def let_go(self) -> bytes:
        """Wait no longer; return what was sent meanwhile."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.buffered = 0
        self.is_waiting = False
        if self._over is not None:
            self._over.set()
        return data

    async def drain(self) -> None:
        if self.is_waiting:
            if self._over is None:
                self._over = anyio.Event()
            await self._over.wait()

    async def flush(self) -> None:
        await self.drain()
        await self.connection.flush()

    async def close(self) -> None:
        await self.connection.close()

    async def cut(self) -> None:
        await self.connection.cut()
