"""`Expiry`: when the permission of a stream ends."""

from __future__ import annotations

import time
from datetime import datetime
from math import isfinite
from typing import Final

LAST_SECOND: Final = 253_402_300_800
"""The first second of the year 10000, since the epoch: a later time was meant in milliseconds."""

BETWEEN_TWO_CLOCKS: Final = 0.05
"""Seconds that may pass between readings of the two clocks: half of the smallest step that counts as setting one."""


class Expiry:
    """When a stream's permission is over, by the clock of the loop that answers its request.

    A wall-clock time moves with that clock: when the clock is set, or the machine sleeps, the loop's clock knows
    nothing of it. How far the wall clock is ahead of the process's own steady clock says by how much. The loop's clock
    may be a third one, such as a virtual clock.

    Args:
        at: when, by the loop's time, as the clocks stand now.
        skew: how far the wall clock is ahead, if the time is one of the wall clock's; else None.
        farewell: the bytes of an event that the stream gets last; None for none.
    """

    __slots__ = ("_at", "_skew", "farewell")

    def __init__(self, at: float, skew: float | None, farewell: bytes | None) -> None:
        self._at = at
        self._skew = skew
        self.farewell = farewell

    @property
    def due_at(self) -> float:
        """When it is over, by the loop's time, as the clocks stand now."""
        if self._skew is None:
            return self._at
        return self._at - round(wall_clock_skew() - self._skew, 1)  # smaller differences come from reading two clocks


def wall_clock_skew() -> float:
    """Seconds by which the wall clock is ahead of the process's steady one; on any thread."""
    while True:
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < BETWEEN_TWO_CLOCKS:  # else the process stood still in between, and no clock was set
            return wall - after


def seconds_since_epoch(when: datetime | float) -> float:
    """Return a wall-clock time as seconds since the epoch.

    Raises:
        TypeError: it is neither a datetime nor a number.
        ValueError: a datetime without a time zone, or a number that can't be seconds since the epoch.
    """
    if isinstance(when, datetime):
        if when.utcoffset() is None:
            raise ValueError(
                f"{when!r} has no time zone, so it means another time on another machine: "
                "make it with one, as in datetime.now(UTC) or datetime.fromtimestamp(seconds, UTC)"
            )
        return when.timestamp()
    _check_number("expires_at takes an aware datetime, or seconds since the epoch", when)
    if when >= LAST_SECOND:
        raise ValueError(f"expires_at takes seconds since the epoch, not milliseconds: {when!r} is after the year 9999")
    return when


def seconds_until(when: datetime | float) -> float:
    """Return the seconds from now to a time of the wall clock; below 0 it is over. Raises as `seconds_since_epoch`."""
    return seconds_since_epoch(when) - time.time()


def checked_seconds(seconds: float) -> float:
    """Check a number of seconds from now on, and return it; below 0, that time is over.

    Raises:
        TypeError: not a number.
        ValueError: not a finite one.
    """
    _check_number("expires_in takes seconds", seconds)
    return seconds


def _check_number(rule: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{rule}, not {value!r}")
    if not isfinite(value):
        raise ValueError(f"{rule}, not {value!r}; leave it out for a stream that needs no end")
