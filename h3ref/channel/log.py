"""`Log`: events in the order of their publishing, kept once for all who read them at their own pace."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

BLOCK: Final = 64 * 1024
"""Bytes of the blocks in which the rest of the log is read."""


class Log:
    """Encoded events, numbered from 0; a reader is a number, and its unread part a subtraction.

    Attributes:
        end: the number that the next event gets.
        size: bytes of all events so far.
        last_id: the id of the last event that has one.
        start: the number of the first event that is still kept.
    """

    __slots__ = (
        "_after",
        "_blocks",
        "_data",
        "_ends",
        "_ids",
        "_last_forgotten",
        "_slice",
        "end",
        "last_id",
        "size",
        "start",
    )

    def __init__(self) -> None:
        self.start = self.end = self.size = 0
        self.last_id: str | None = None
        self._data: list[bytes] = []
        self._ends: list[int] = []  # what `size` was after each
        self._ids: list[str | None] = []
        self._after: dict[str, int] = {}  # of each id that is kept, the number that follows its last event
        self._last_forgotten: str | None = None  # the id of the event right before `start`
        self._blocks: dict[tuple[int, int], bytes] = {}  # those of a rest, until the log grows
        self._slice: tuple[int, int, bytes] = (0, 0, b"")  # the last one read: readers tend to be at the same place

    def append(self, id: str | None, data: bytes) -> None:
        """Keep an event."""
        if self._blocks:
            self._blocks.clear()
        self.end += 1
        self.size += len(data)
        self._data.append(data)
        self._ends.append(self.size)
        self._ids.append(id)
        if id is not None:
            self._after[id] = self.end
            self.last_id = id

    def skip(self, id: str | None, data: bytes) -> None:
        """Count an event that nobody will read later, and keep nothing any more."""
        self._last_forgotten = id
        self.last_id = id or self.last_id
        self.end += 1
        self.size += len(data)
        if self._data:
            self._forget_all()
        self.start = self.end

    def _forget_all(self) -> None:
        for kept in (self._data, self._ends, self._ids):
            kept.clear()
        self._after.clear()
        self._blocks.clear()
        self._slice = (0, 0, b"")

    def offset(self, number: int) -> int:
        """How many bytes there were before an event that is kept, or before the next one."""
        if number >= self.end:
            return self.size
        return self._ends[number - self.start] - len(self._data[number - self.start])

    def number_at(self, offset: int) -> int:
        """The first kept event that begins at the offset or after it; `end` if none does."""
        place = bisect_right(self._ends, offset)
        if place == len(self._ends):
            return self.end
        return self.start + place + (self._ends[place] - len(self._data[place]) < offset)

    def number_after(self, id: str) -> int | None:
        """The number after the last event with an id; None if that is not known any more.

        It is a look-up, since a client asks, with any id that it likes.
        """
        return self._after.get(id, self.start if id == self._last_forgotten else None)

    def read(self, number: int, most: int, before: int | None = None) -> tuple[bytes, int]:
        """Return events from a number on, joined, up to `most` bytes but at least one, and the number that follows.

        None of them is from the number `before` on.
        """
        stop = max(number + 1, self.start + bisect_right(self._ends, self.offset(number) + most))
        if before is not None:
            stop = min(stop, before)
        if self._slice[:2] != (number, stop):
            self._slice = (number, stop, b"".join(self._data[number - self.start : stop - self.start]))
        return self._slice[2], stop

    def blocks(self, number: int) -> Iterator[tuple[bytes, int]]:
        """Yield all events from a number on as `read` returns them, in blocks that are cut at the same places for all.

        So readers that read to the end share all but the first block, wherever they begin.
        """
        begin = number
        while number < self.end:
            boundary = (self.offset(number) // BLOCK + 1) * BLOCK
            stop = min(self.end, self.start + bisect_left(self._ends, boundary) + 1)
            data = self._blocks.get((number, stop))
            if data is None:
                data = b"".join(self.events(number, stop))
                if number != begin:
                    self._blocks[number, stop] = data
            yield data, stop
            number = stop

    def events(self, number: int, stop: int) -> list[bytes]:
        """Return the events from a number up to another, one by one."""
        return self._data[number - self.start : stop - self.start]

    def __len__(self) -> int:
        """How many events are kept."""
        return len(self._data)

    def forget_before(self, number: int) -> None:
        """Forget everything before a number."""
        count = number - self.start
        if count > 0:
            self._last_forgotten = self._ids[count - 1]
            for after, id in enumerate(self._ids[:count], self.start + 1):
                if id is not None and self._after[id] == after:  # else it was used again
                    del self._after[id]
            for kept in (self._data, self._ends, self._ids):
                del kept[:count]
            self.start = number
