"""`Subscription`: one stream's place in a channel's log; `Each`, the group of streams whose adapter has none."""

from __future__ import annotations

from collections.abc import Callable

from .connection import Connection
from .log import Log
from .parking import Parking
from .writer import SSEWriter


class Subscription:
    """One stream's place in a channel's log.

    While it is live, events are passed on to its connection as they come. Else it reads the log at its own pace.

    Args:
        writer: the stream's.
        log: the channel's.
        cursor: the number of the first event that it gets.
    """

    __slots__ = (
        *("_base", "_cursor", "_joined", "_log", "_offset", "connection", "dropped", "is_live", "parking"),
        "writer",
    )

    def __init__(self, writer: SSEWriter, log: Log, cursor: int) -> None:
        self.writer = writer
        self.connection: Connection = writer._connection
        self.parking = Parking()
        self.is_live = False
        self.dropped = 0
        self._log = log
        self._base = self._cursor = cursor
        self._offset = log.offset(cursor)  # the bytes that the log had before its first event, and those dropped
        self._joined = log.size

    @property
    def cursor(self) -> int:
        """The number of the next event that it gets."""
        return self._log.end if self.is_live else self._cursor

    @property
    def taken(self) -> int:
        """How many events its connection was given."""
        return self.cursor - self._base - self.dropped

    @property
    def taken_size(self) -> int:
        """How many bytes these have."""
        return self._log.offset(self.cursor) - self._offset

    @property
    def lag(self) -> int:
        """Bytes published since it came that have not left; what it replays from before then does not count."""
        if self.is_live:
            return self.connection.buffered
        return self._log.size - max(self._log.offset(self._cursor), self._joined) + self.connection.buffered

    def go_live(self) -> None:
        """From here on events are passed on to it as they come."""
        self.is_live = True

    def fall_behind(self) -> None:
        """From here on it reads the log: its connection has all that was published so far, but could not send it."""
        self._cursor = self._log.end
        self.is_live = False
        self.parking.wake()

    def read(self, most: int) -> None:
        """Pass on the next events, if there are any: up to so many bytes, but at least one."""
        if self.cursor == self._log.end:
            return
        data, stop = self._log.read(self._cursor, most)
        self.writer.relay(data, self._log.events(self._cursor, stop))
        self._cursor = stop

    def drop(self, limit: int) -> None:
        """Pass over the oldest events that it has not got: then less than the limit waits, or one event only."""
        cursor = self._log.number_at(self._log.size + self.connection.buffered - limit + 1)
        cursor = max(self._cursor, min(cursor, self._log.end - 1))
        self.dropped += cursor - self._cursor
        self._offset += self._log.offset(cursor) - self._log.offset(self._cursor)
        self._cursor = cursor

    def bring_sent(self) -> None:
        """`Feed`: nothing was sent by this stream's own tasks or threads."""

    def bring_rest(self) -> None:
        """`Feed`: pass on all that it has not read; it gets nothing any more."""
        if self.writer.is_active:
            for data, stop in self._log.blocks(self.cursor):
                self.writer.relay(data, self._log.events(self._cursor, stop))
                self._cursor = stop
        if not self.is_live:
            self.pass_over()
        self.parking.wake()

    def pass_over(self) -> None:
        """It gets nothing of what it has not read, and that is not counted: its stream has ended."""
        self._base += self._log.end - self._cursor
        self._offset += self._log.size - self._log.offset(self._cursor)
        self._cursor = self._log.end


class Each:
    """A group of streams that are written to one by one, whatever their adapter.

    Args:
        mark: bytes that a connection may hold before it counts as slow.
        slow: called with one that holds more, when it has been discarded.
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
        for subscription in tuple(self._members):
            subscription.writer.relay(data, (data,))
            if subscription.connection.buffered >= min(self._mark, subscription.writer.high_water):
                self.discard(subscription)
                self._slow(subscription)
