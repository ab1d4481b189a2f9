"""`Stream`: the events of one exchange on their way to its connection. The writers are its faces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final

import anyio
import anyio.lowlevel

from .. import trace
from ..connection import HIGH_WATER, Connection
from ..errors import BackpressureDetected, WriterClosed
from ..lifecycle import Lifecycle, Reason, State
from ..sse import SSEEvent
from .direct import Direct, Running
from .order import Order
from .standins import ENDED, BehindHead
from .stream_host import StreamHost

log = logging.getLogger("h3ref.stream")

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment and the blank line that ends its block: the standard needs none, but many readers split at blank lines.

Without it, one that looks for "data: " where a block begins loses the next event, and a relay of whole blocks holds the
comment back.
"""

_STREAMING = State.STREAMING

COULD_NOT_END: Final = "%r could not be ended: %s"


class End(Enum):
    """How far the end of a stream's connection has come."""

    NONE = auto()
    ENDING = auto()
    ENDED = auto()


class Stream(Order):
    """The events of one exchange on their way: what is sent, behind its head and in its order, up to the end.

    Args:
        host: the exchange, as the stream sees it.
        owner: whose stream it is, for the log.
        lifecycle: where the exchange is in its life.
        connection: carries the bytes, behind the head.
        high_water: bytes that may wait for the reader: from there on, senders have to wait.
        close_timeout: seconds within which the connection has to reach its end.
        keep_alive: seconds of silence after which it is shown alive; None for never.
        comment: makes the bytes that show it.
        send_timeout: seconds within which its reader has to take some of what waits for it; None for no limit.

    Attributes:
        connection: what takes the bytes now.
        comment_count: keep-alives.
        direct: how the task that streams can send by itself, from its head to its end; None where it can't.
        is_traced: whether each event has to be recorded, so that it must come through `put`.
        is_cut_short: whether a cancellation left a writer's `async with`.
    """

    __slots__ = (
        "_close_timeout",
        "_end",
        "_ended",
        "_owner",
        "_running",
        "_turn",
        "comment",
        "comment_count",
        "direct",
        "host",
        "is_cut_short",
        "is_traced",
        "keep_alive",
        "send_timeout",
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
        send_timeout: float | None = None,
    ) -> None:
        super().__init__(lifecycle, BehindHead(connection), high_water)
        self.host = host
        self._owner = owner
        self._close_timeout = close_timeout
        self.keep_alive = keep_alive
        self.comment = comment
        self.send_timeout = send_timeout
        self.is_traced = lifecycle.traced
        self.comment_count = 0
        self.direct: Direct | None = None
        self._running: Running  # of a host that has a direct one
        self._turn = 0  # the one of its turns in which something last left directly
        self.is_cut_short = False
        self._end = End.NONE
        self._ended: anyio.Event | None = None  # made by a task that waits while another ends the connection

    # -- what it is

    @property
    def is_ending(self) -> bool:
        """Whether the end of its connection has begun."""
        return self._end is not End.NONE

    @property
    def is_ended(self) -> bool:
        """Whether its connection has come to its end."""
        return self._end is End.ENDED

    # -- sending

    def put(self, data: bytes) -> None:
        """Take an encoded event, for which there is room. `SSEWriter.send_event` does the same in place."""
        if self.is_traced:
            self.record(trace.SEND_EVENT, trace.EVENT, data)
        self.connection.write_chunk(data)
        self.room -= len(data)
        self.count += 1

    async def take_turn(self, put: Callable[[bytes], None], data: bytes) -> None:
        """As `Order.take_turn`; where the connection is a direct one, the task that streams sends by itself."""
        if self.direct is not None and self._running.turn > 0 and put == self.put:
            waits = self.send_here(data)
            if waits is not None:
                await waits
        else:
            await super().take_turn(put, data)

    def send_here(self, data: bytes) -> Coroutine[Any, Any, None] | None:
        """As `send`, in the task that streams: the first event since it last waited leaves directly, others join.

        Returns what that task has to await, if anything.
        """
        direct = self.direct
        if direct is None or self._feeds or self._turns:
            return Order.take_turn(self, self.put, data)
        turn = self._running.turn
        if turn == self._turn and direct.is_free:
            if direct.buffered >= HIGH_WATER:
                return self._send_joined(direct, data)
            self.put(data)
            return None
        if self.is_traced and direct.is_free:
            self.record(trace.SEND_EVENT, trace.EVENT, data)
        waits = direct.send_now(data)
        if waits is False:
            return Order.take_turn(self, self.put, data)
        self._turn = turn
        self._size += len(data)
        self.count += 1
        return waits

    async def _send_joined(self, direct: Direct, data: bytes) -> None:
        """Send what has joined, and give way to other tasks: the code that streams may wait for nothing else."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self.check()
        self.put(data)
        if waits := direct.send_now(b""):
            await waits
        await anyio.lowlevel.cancel_shielded_checkpoint()

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
                self._put_keep_alive(self._made_comment())

    def _made_comment(self) -> bytes:
        """A comment from the stream's own function; one that raises must not stop those of other streams."""
        try:
            return (self.comment and self.comment()) or KEEP_ALIVE
        except Exception:
            log.exception("%r: the function that makes its comments raised; the usual one is sent instead", self)
            return KEEP_ALIVE

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
        """Tell the listener of an event, and of its arrival when its connection takes it."""
        self.lifecycle.take(sends, detail=data.decode())
        if isinstance(self.connection, BehindHead):
            self.connection.arrivals.append((arrives, data))
        else:
            self._record_arrival(arrives, data)

    def _record_arrival(self, arrives: trace.Step, data: bytes) -> None:
        self.lifecycle.take(trace.DATA, size=len(data))
        self.lifecycle.take(arrives, size=len(data), detail=data.decode())

    # -- the head that it stays behind

    def follow_head(self) -> None:
        """The head has left: what was sent meanwhile follows it, unless the client has left, too."""
        waiting = self.connection
        assert isinstance(waiting, BehindHead), "a head leaves once"
        if self.lifecycle.reason is Reason.CLIENT_GONE:
            self.discard_body()
            return
        self.connection = waiting.connection
        direct = getattr(self.connection, "direct", None)
        if direct is not None and self.lifecycle.state is not State.CLOSED:
            self.direct = direct
            self._running = self.host.running
            self._set_room(0)  # senders have to look
        for arrives, event in waiting.arrivals:
            self._record_arrival(arrives, event)
        if data := waiting.take_all():
            self.connection.write_chunk(data)

    def discard_body(self) -> None:
        """The head can't be sent, or is all that there is to send: nothing follows it."""
        waiting = self.connection
        assert isinstance(waiting, BehindHead), "a head leaves once, or never"
        self._size -= len(waiting.take_all())

    async def until_headed(self) -> None:
        """Wait until the head has left, or it is known that it never will."""
        if isinstance(self.connection, BehindHead):
            await self.connection.drain()

    # -- its end

    def close(self, reason: Reason = Reason.COMPLETE) -> bool:
        """Take nothing any more; the code that streams notices by itself, or is told by `cancel`. False if it was
        closed already.

        Cancelling a task costs as much as everything else at a stream's end.
        """
        if self.lifecycle.state is State.CLOSED:
            return False
        self.take_last(trace.CLOSE, reason=reason)
        return True

    def close_without_loop(self) -> None:
        """Close it, on any thread, when its event loop has ended: nobody is left to take anything, or to close it."""
        if self.lifecycle.state is not State.CLOSED:
            self._set_room(0)
            self.direct = None
            self.lifecycle.take(trace.CLOSES, reason=Reason.SHUTDOWN)

    def take_last(self, step: trace.Step, *, reason: Reason | None = None, detail: str | None = None) -> None:
        """Take a step that closes the exchange, after its feeds have brought their rest.

        A client that has left, or is too slow, gets no rest.
        """
        self.close_feeds(self.host.task, rest=step is not trace.DISCONNECT and reason is not Reason.SLOW_CONSUMER)
        self.direct = None
        self.lifecycle.take(step, reason=reason, detail=detail)

    def say_farewell(self, data: bytes) -> None:
        """Take an encoded event as the last one."""
        if self.is_active:
            self.close_feeds(self.host.task, rest=True)
            self.put(data)

    def cancel(self) -> None:
        """Cancel the code that streams, unless it makes this call itself."""
        self.host.cancel_from_outside()

    def stop(self, reason: Reason) -> None:
        """Close it, and cancel the code that streams, which ends it, unless that code makes this call itself."""
        if self.close(reason):
            self.cancel()

    async def end(self) -> None:
        """Bring a closed stream's connection to the end that its reason asks for; returns when it is there."""
        if (waits := self.begin_end()) is not None:
            await waits

    def begin_end(self) -> Coroutine[Any, Any, None] | None:
        """As `end`, as far as that goes without waiting; returns what waits for the rest, if there is any."""
        if self._end is End.ENDED:
            return None
        connection: Any = self.connection
        if self._end is End.ENDING or not getattr(connection, "can_end", False):  # see `Direct`
            return self._end_in_time()
        self._end, self.connection = End.ENDING, ENDED
        waits: Coroutine[Any, Any, None] | None = None
        try:
            waits = connection.end_now(cut=self._take_end())
            if waits is None:
                self._record_end()
        except Exception as error:
            log.warning(COULD_NOT_END, self, error)
        finally:
            if waits is None:
                self._has_ended()
        return None if waits is None else self._until_over(waits)

    async def _until_over(self, waits: Coroutine[Any, Any, None]) -> None:
        try:
            await waits
            self._record_end()
        except Exception as error:
            log.warning(COULD_NOT_END, self, error)
        finally:
            self._has_ended()

    async def _end_in_time(self) -> None:
        timeout = self._close_timeout + 1  # the port bounds the time; this is for an adapter that does not
        with anyio.move_on_after(timeout, shield=True):
            if self._end is End.NONE:
                self._end = End.ENDING
                await self._end_connection()
            else:
                if self._ended is None:
                    self._ended = anyio.Event()
                await self._ended.wait()

    async def _end_connection(self) -> None:
        try:
            if isinstance(self.connection, BehindHead):
                await self.until_headed()
            connection, self.connection = self.connection, ENDED
            if self._take_end():
                await connection.cut()
            else:
                await connection.close()
            self._record_end()
        except Exception as error:
            log.warning(COULD_NOT_END, self, error)
        finally:
            self._has_ended()

    def _take_end(self) -> bool:
        """Its connection is ended now, which is recorded; return whether it is cut."""
        reason = self.lifecycle.reason
        if reason is Reason.CLIENT_GONE:
            return False
        cuts = reason is Reason.ERROR or reason is Reason.SLOW_CONSUMER
        self.lifecycle.take(trace.CUTS_CONNECTION if cuts else trace.CLOSES_CONNECTION)
        return cuts

    def _record_end(self) -> None:
        if self.lifecycle.reason is not Reason.CLIENT_GONE:
            self.lifecycle.take(trace.CONNECTION_CLOSED)

    def _has_ended(self) -> None:
        self._end = End.ENDED
        if self._ended is not None:
            self._ended.set()

    async def close_and_end(self) -> None:
        """Close it, and bring its connection to its end, for the code that streams: nothing of its own is cancelled."""
        self.close()
        await self.end()

    async def fail(self, error: BaseException) -> None:
        """An exception has left a writer's `with`: the stream has failed; a cancellation is reported later."""
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
