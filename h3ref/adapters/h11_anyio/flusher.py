"""`Flusher`: sends what streams have pending, in rounds that give way to the rest of the event loop."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import anyio
import anyio.lowlevel

from ..._core.parking import Parking
from .turns import EndsOfTurns

log = logging.getLogger(__name__)

SENDS_A_TURN = 64
"""System calls after which the flusher gives way: a round over thousands of streams must not hold up the loop."""


FEW = 16
"""The most streams looked at before a pause: finding out whether they are quiet must cost next to nothing."""


class Flushable(Protocol):
    """Something that has bytes to send."""

    @property
    def size(self) -> int:
        """How many bytes it was given since it last sent."""

    def flush_now(self) -> int:
        """Send them, as far as the sockets take them; return the number of system calls."""


class Flusher:
    """Sends what streams have pending: the first after quiet at once, then in rounds a least interval apart.

    There is no interval while nobody has more to send: a few streams that send now and then do not wait for it.

    The beginning of a stream leaves at the end of the loop's turn, with everything that it has sent by then, and starts
    no interval.

    Args:
        turns: the loop's.
        gap: seconds between two rounds; with 0 there is a round in each turn of the event loop.
    """

    def __init__(self, turns: EndsOfTurns, gap: float) -> None:
        self._turns = turns
        self._gap = gap
        self._new: dict[Flushable, None] = {}
        self._due: dict[Flushable, None] = {}
        self._last = -1.0
        self._parking: Parking | None = None  # while there is a task to wake

    def put(self, stream: Flushable) -> None:
        """Send what the stream has pending: now if all has been quiet, else with the next round."""
        if not self._due and self._gap:
            now = time.monotonic()
            if now - self._last >= self._gap:
                self._last = now
                stream.flush_now()
                return
        self.put_later(stream)

    def put_later(self, stream: Flushable) -> None:
        """Send what the stream has pending with the next round, which comes with the loop's next turn after quiet."""
        if not self._due and self._parking is not None:
            self._parking.wake()
        self._due[stream] = None

    def put_new(self, stream: Flushable) -> None:
        """Send what the stream has pending when this turn of the loop is over."""
        if not self._new:
            self._turns.add(self._send_new)
        self._new[stream] = None

    def _send_new(self) -> None:
        new, self._new = self._new, {}
        self._send(new)
        for stream in new:  # more than may be sent to in one turn
            self.put_later(stream)

    def discard(self, stream: Flushable) -> None:
        """The stream has nothing to send any more."""
        self._due.pop(stream, None)
        self._new.pop(stream, None)

    async def run(self) -> None:
        """Serve until cancelled."""
        parking = self._parking = Parking()
        if self._due:
            parking.wake()
        while True:
            await parking.wait()
            while self._due:
                await self._pause()
                round, self._due = self._due, {}
                while round:
                    self._send(round)
                    if round or self._due:  # else it waits next
                        await anyio.lowlevel.checkpoint()
                self._last = time.monotonic()

    async def _pause(self) -> None:
        if self._last + self._gap <= time.monotonic() or await self._are_quiet():
            return
        pause = self._last + self._gap - time.monotonic()
        if pause > 0:
            await anyio.sleep(pause)

    async def _are_quiet(self) -> bool:
        """Whether the streams that are due, if they are few, have nothing more to send in this turn of the loop."""
        if len(self._due) > FEW:
            return False
        sizes = self._sizes()
        await anyio.lowlevel.checkpoint()
        return self._sizes() == sizes

    def _sizes(self) -> list[int]:
        return [stream.size for stream in self._due]

    def _send(self, round: dict[Flushable, None]) -> None:
        """A function of its own, so that the task that sleeps keeps no stream alive."""
        left = SENDS_A_TURN
        while round and left > 0:
            stream = next(iter(round))
            del round[stream]
            try:
                left -= stream.flush_now()
            except Exception:  # one stream's failure must not end the task that serves them all
                log.exception("sending a stream's bytes failed")
