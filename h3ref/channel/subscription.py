"""`Subscription`: one stream's place in a channel's log; `Each`, the group for streams whose adapter has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .._core.parking import Parking
from .._core.stream import Stream
from ..connection import Connection
from .log import Log


class Subscription:
    """One stream's place in a channel's log.

    While it is live, its connection gets events as they come. Otherwise it reads the log at its own pace.

    Args:
        channel: the channel that it subscribes to.
        stream: the stream itself.
        log: the channel's log.
        cursor: the number of the first event that it gets.
        preface: an event of its own that it gets first.
    """

    __slots__ = (
        *("_base", "_channel", "_cursor", "_joined", "_log", "_offset", "_preface", "connection", "dropped"),
        *("is_live", "parking", "stream"),
    )

    def __init__(self, channel: Home, stream: Stream, log: Log, cursor: int, preface: bytes = b"") -> None:
        self._channel = channel
        self.stream = stream
        self.connection: Connection = stream.connection
        self.parking = Parking()
        self.is_live = False
        self.dropped = 0
        self._log = log
        self._base = self._cursor = cursor
        self._offset = log.offset(cursor)  # the bytes that the log had before its first event, and those dropped
        self._joined = log.size
        self._preface = preface

    @property
    def cursor(self) -> int:
        """The number of the next event that it gets."""
        return self._log.end if self.is_live else self._cursor

    @property
    def taken(self) -> int:
        """How many events its connection has been given."""
        return self.cursor - self._base - self.dropped

    @property
    def taken_size(self) -> int:
        """How many bytes they have."""
        return self._log.offset(self.cursor) - self._offset

    @property
    def waiting(self) -> int:
        """How many bytes are in the log, or before it, that its connection has not been given."""
        return 0 if self.is_live else self._log.size - self._log.offset(self._cursor) + len(self._preface)

    @property
    def is_even(self) -> bool:
        """Whether it has been given everything, and nothing sent before the next event waits."""
        return self.is_live or (not self.waiting and self.stream.place_of(self) is None)

    @property
    def lag(self) -> int:
        """Bytes published since it came that have not left; what it replays from earlier does not count."""
        if self.is_live:
            return self.connection.buffered
        return self._log.size - max(self._log.offset(self._cursor), self._joined) + self.connection.buffered

    def go_live(self) -> None:
        """From here on, pass events on to it as they come."""
        self.is_live = True

    def fall_behind(self) -> None:
        """From here on it reads the log: its connection has all that was published, but could not send it."""
        self._cursor = self._log.end
        self.is_live = False
        self.parking.wake()

    def hold(self) -> int:
        """`Feed`: read the log from here on."""
        if self.is_live:
            self._channel.hold(self)
        return self._log.end

    def bring(self, place: int | None = None) -> bool:
        """`Feed`: pass on the next events before a number, as many as a connection takes at a time; whether all."""
        stop = self._log.end if place is None else place
        if not self.is_live and self._cursor <= stop:
            self._bring_preface()
            if self._cursor < stop:
                data, end = self._log.read(self._cursor, self._channel.mark_for(self.stream), stop)
                self.stream.relay(data, self._log.events(self._cursor, end))
                self._cursor = end
                self._channel.tell_moved()
        return self.cursor >= stop

    def _bring_preface(self) -> None:
        if self._preface:
            preface, self._preface = self._preface, b""
            self.stream.offer(preface)

    def bring_before_turns(self) -> bool:
        """Pass on the next events, up to where something else that was sent waits for its turn; whether all."""
        return self.bring(self.stream.place_of(self))

    def go_on(self) -> None:
        """`Feed`: the task that reads the log looks again."""
        if not self.is_live:
            self.parking.wake()

    def drop(self, limit: int) -> None:
        """Pass over the oldest events that it has not got, until less than the limit waits, or only one event."""
        cursor = self._log.number_at(self._log.size + self.connection.buffered - limit + 1)
        cursor = max(self._cursor, min(cursor, self._log.end - 1))
        self.dropped += cursor - self._cursor
        self._offset += self._log.offset(cursor) - self._log.offset(self._cursor)
        self._cursor = cursor

    def bring_sent(self) -> None:
        """`Feed`: nothing was sent by this stream's own tasks or threads."""

    def bring_rest(self) -> None:
        """`Feed`: pass on all that it has not read."""
        if self.stream.is_active:
            self._bring_preface()
            for data, stop in self._log.blocks(self.cursor):
                self.stream.relay(data, self._log.events(self._cursor, stop))
                self._cursor = stop

    def close(self) -> None:
        """`Feed`: leave the channel; later events are not for this stream."""
        self._cursor, self.is_live = self.cursor, False
        self._channel.discard(self)
        self.parking.wake()


class Home(Protocol):
    """What a subscription asks of its channel."""

    def mark_for(self, stream: Stream) -> int: ...

    def hold(self, subscription: Subscription) -> None: ...

    def discard(self, subscription: Subscription) -> None: ...

    def tell_moved(self) -> None: ...


class Each:
    """A group of streams that are written to one by one, whatever their adapter.

    Args:
        mark: bytes that a connection may hold before it counts as slow.
        slow: called with a connection that holds more, once it has been discarded.
    """

    def __init__(self, mark: int, slow: Callable[[Subscription], None]) -> None:
        self._mark = mark
        self._slow = slow
        self._members: dict[Subscription, None] = {}  # in the order of their coming

    def add(self, connection: Subscription) -> bool:
        self._members[connection] = None
        return True

    def discard(self, connection: Subscription) -> None:
        self._members.pop(connection, None)

    def write_chunk(self, data: bytes) -> None:
        self.write_events(data, (data,))

    def write_events(self, data: bytes, events: Sequence[bytes]) -> None:
        """Write events that come together, as their joined bytes."""
        for subscription in tuple(self._members):
            subscription.stream.relay(data, events)
            if subscription.connection.buffered >= min(self._mark, subscription.stream.high_water):
                self.discard(subscription)
                self._slow(subscription)
