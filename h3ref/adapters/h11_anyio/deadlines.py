"""`Deadlines`: calls those whose time is up, such as a client that is silent for too long."""

from __future__ import annotations

import logging
from typing import Protocol

import anyio

from ..._core.parking import Parking, clock_here

log = logging.getLogger(__name__)


class Waiting(Protocol):
    """Something that waits for something that may never come."""

    def expire(self) -> None:
        """The time is up."""


class Deadlines:
    """Calls those that have waited for a certain time, which is the same for all, so that the oldest is always next.

    It belongs to the event loop in which it is made, and counts by its clock.

    Args:
        seconds: how long each may wait; None for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._now = clock_here()
        self._due: dict[Waiting, float] = {}
        self._parking: Parking | None = None

    def put(self, waiting: Waiting) -> None:
        """Count the time from now on, even if it was counted before."""
        if self._seconds is None:
            return
        if not self._due and self._parking is not None:
            self._parking.wake()
        self._due.pop(waiting, None)  # one that is put anew comes last
        self._due[waiting] = self._now() + self._seconds

    def discard(self, waiting: Waiting) -> None:
        """Stop counting: it has come, or nobody waits any more."""
        self._due.pop(waiting, None)

    def __contains__(self, waiting: Waiting) -> bool:
        return waiting in self._due

    async def run(self) -> None:
        """Serve until cancelled."""
        parking = self._parking = Parking()
        while True:
            if self._due:
                await anyio.sleep(self._expire())
            else:
                await parking.wait()

    def _expire(self) -> float:
        """Call those whose time is up; return the seconds until the next one's is."""
        now = self._now()
        while self._due:
            first = next(iter(self._due))
            if self._due[first] > now:
                return self._due[first] - now
            del self._due[first]
            try:
                first.expire()
            except Exception:  # one connection's failure must not end the task that serves them all
                log.exception("serving a connection failed")
        return 0
