"""Steady readers: clients that behave, and count what they get, lose or get twice."""

from __future__ import annotations

from dataclasses import dataclass

from h3ref import EventSource, MessageEvent

from .server import HOST


@dataclass
class Tally:
    """What steady readers saw.

    Attributes:
        events: received.
        lost: never received, though a later one was.
        doubled: received again.
        connections: opened, the first ones included.
    """

    events: int = 0
    lost: int = 0
    doubled: int = 0
    connections: int = 0

    def count(self, before: int | None, now: int) -> None:
        """Count an event by its number; `before` is the one before it, if any."""
        self.events += 1
        if before is not None:
            self.lost += max(0, now - before - 1)
            self.doubled += now <= before


class Reader:
    """Reads one stream for as long as it is not cancelled; whatever ends it, it comes back with its last event ID."""

    def __init__(self, port: int, path: str, tally: Tally) -> None:
        self._source = EventSource(
            f"http://{HOST}:{port}{path}",
            reconnect=True,
            patient=True,
            reconnection_time=0.05,
            max_reconnection_time=0.2,
            retry_statuses=(500, 503),
            on_open=self._opened,
        )
        self._tally = tally
        self._epoch = ""
        self._number: int | None = None

    def _opened(self, response: object) -> None:
        self._tally.connections += 1

    async def run(self) -> None:
        """Read until cancelled."""
        async with self._source as source:
            async for message in source:
                self.take(message)

    def take(self, message: MessageEvent) -> None:
        """Count a message."""
        epoch, _, _ = message.last_event_id.rpartition("-")
        if epoch != self._epoch:  # another process, whose events begin anew
            self._epoch, self._number = epoch, None
        number = int(message.data)
        self._tally.count(self._number, number)
        self._number = number
