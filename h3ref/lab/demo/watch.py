"""What the page knows of an endless stream: its first steps, how many events followed, and its end."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from h3ref import trace
from h3ref.trace import Record

from .ticks import PREFIX

EVENTS = 3
"""How many events of a stream are kept with all their steps."""

_OF_EVENTS = (trace.SEND_EVENT.name, trace.DATA.name, trace.EVENT.name)


@dataclass(slots=True)
class Stream:
    """One stream of the page.

    Attributes:
        records: its steps, but those of later events.
        more: how many later events have been sent.
    """

    records: list[Record] = field(default_factory=list)
    more: int = 0
    _events: int = 0

    def add(self, record: Record) -> None:
        """Keep a step, or count it."""
        self._events += record.step == trace.SEND_EVENT.name
        if record.step not in _OF_EVENTS or self._events <= EVENTS:
            self.records.append(record)
        elif record.step == trace.EVENT.name:
            self.more += 1


class Watch:
    """A trace listener that keeps the streams of the page, and passes every step on to another listener.

    Args:
        listener: gets every step.
        keep: how many streams are kept, the latest ones.
    """

    def __init__(self, listener: trace.Listener, *, keep: int) -> None:
        self._listener = listener
        self._keep = keep
        self._lock = threading.Lock()
        self._streams: dict[str, Stream] = {}  # by what was asked for, as "/ticks/callback?stream=7"
        self._targets: dict[int, str] = {}

    def __call__(self, record: Record) -> None:
        """Keep a step."""
        self._listener(record)
        with self._lock:
            target = (record.detail or "").partition(" ")[2]
            if record.step == trace.REQUEST.name and target.startswith(PREFIX):
                self._begin(record.exchange, target)
            if record.exchange in self._targets:
                self._streams[self._targets[record.exchange]].add(record)

    def _begin(self, exchange: int, target: str) -> None:
        if len(self._targets) >= self._keep:
            oldest = next(iter(self._targets))
            self._streams.pop(self._targets.pop(oldest), None)
        self._streams[target] = Stream()
        self._targets[exchange] = target

    def of(self, target: str) -> Stream:
        """Return what is known of a stream so far, as it is now; nothing, if it has not begun, or was too long ago."""
        with self._lock:
            found = self._streams.get(target, Stream())
            return Stream([*found.records], found.more)
