"""Streams of several processes as a timeline in text: a row for each client says who served it when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from h3ref import trace
from h3ref.lifecycle import State
from h3ref.trace import Record

from ..recorder import Recording

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
"""What processes are called in a timeline: no more can be told apart."""

PARAMETER: Final = "user"
"""What a client calls itself by, in the query of its stream's request."""


class Process(NamedTuple):
    """A process, and what it has recorded.

    Attributes:
        name: what it is called.
        recording: its steps; of all processes by one clock.
        died: when it was killed, if it was.
    """

    name: str
    recording: Recording
    died: float = math.inf


def lives(name: str, recording: Recording, deaths: Sequence[float] = ()) -> list[Process]:
    """Return the processes that have recorded into one file, one after the other.

    Args:
        name: what the first is called.
        recording: of all of them.
        deaths: when each of them was killed, the last one perhaps not.
    """
    found = []
    begin = -math.inf
    for number, end in enumerate([*deaths, math.inf]):
        records = Recording(record for record in recording if begin <= record.time < end)
        if records:
            found.append(Process(f"{name}, restarted" if number else name, records, end))
        begin = end
    return found


class Stay(NamedTuple):
    """A client's time on one process.

    Attributes:
        client: the client's name.
        process: that of its process, as a number.
        begin: when the headers were sent.
        end: when the stream was closed, or its process killed; infinity if neither.
        events: when events were sent.
    """

    client: str
    process: int
    begin: float
    end: float
    events: tuple[float, ...]


def stays(processes: Sequence[Process]) -> list[Stay]:
    """Return all streams, in the order in which they began."""
    found = [
        stay
        for number, process in enumerate(processes)
        for exchange in process.recording.exchanges
        if (stay := _stay(exchange, number, process.died)) is not None
    ]
    return sorted(found, key=lambda stay: stay.begin)


def _stay(records: Sequence[Record], process: int, died: float) -> Stay | None:
    begin = next((record.time for record in records if record.step == trace.HEADERS.name), None)
    if begin is None:
        return None
    end = next((record.time for record in records if record.after == State.CLOSED), died)
    events = tuple(record.time for record in records if record.step == trace.EVENT.name)
    return Stay(client_of(records), process, begin, end, events)


def client_of(records: Sequence[Record]) -> str:
    """The name of the client whose stream this is; "?" for one without a name."""
    return parse_qs(urlsplit((records[0].detail or "").partition(" ")[2]).query).get(PARAMETER, ["?"])[0]


def draw(processes: Sequence[Process], marks: Mapping[str, float], *, columns: int = 100) -> str:
    """Draw a row for each client: a letter for the process that it has a stream of, a large one where events came.

    Args:
        processes: with their recordings.
        marks: what happened meanwhile, and when.
        columns: of the terminal.

    Raises:
        ValueError: there is no stream, or there are more processes with streams than letters.
    """
    found = stays(processes)
    if not found:
        raise ValueError("no stream was recorded, so there is nothing to draw")
    serving = sorted({stay.process for stay in found})
    if len(serving) > len(LETTERS):
        raise ValueError(f"{len(serving)} processes have streams; at most {len(LETTERS)} can be told apart")
    letters = dict(zip(serving, LETTERS, strict=False))
    clients = sorted({stay.client for stay in found})
    margin = max(map(len, clients)) + 2
    times = [time for stay in found for time in (stay.begin, stay.end, *stay.events) if time < math.inf]
    scale = _Scale(min(times), max([*times, *marks.values()]), max(columns - margin, 20))
    lines = [" " * margin + scale.heads()]
    for text, when in marks.items():
        at = scale.column(when)
        lines.append(" " * margin + (f"{'':{at}}▼ {text}" if at + len(text) + 2 <= scale.columns else _left(text, at)))
    for client in clients:
        lines.append(f"{client:{margin}}" + scale.row([stay for stay in found if stay.client == client], letters))
    lines.append("")
    lines += [f"{letters[number]}  {processes[number].name}" for number in serving]
    return "\n".join(line.rstrip() for line in lines)


def _left(text: str, at: int) -> str:
    return f"{text} ▼".rjust(at + 1)


class _Scale(NamedTuple):
    begin: float
    end: float
    columns: int

    def column(self, time: float) -> int:
        """Where a time is; what lies beyond the last event is at the end."""
        part = (min(time, self.end) - self.begin) / ((self.end - self.begin) or 1.0)
        return min(max(int(part * self.columns), 0), self.columns - 1)

    def heads(self) -> str:
        """Seconds, as many as have room."""
        seconds = self.end - self.begin
        step = next(step for step in (0.5, 1, 2, 5, 10, 30, 60, math.inf) if step * self.columns / (seconds or 1) >= 8)
        row = [" "] * (self.columns + 8)
        number = 0
        while number * step <= seconds:
            text = f"{number * step:g} s"
            row[(at := self.column(self.begin + number * step)) : at + len(text)] = text
            number += 1
        return "".join(row).rstrip()

    def row(self, stays: Sequence[Stay], letters: Mapping[int, str]) -> str:
        row = ["·"] * self.columns
        for stay in stays:
            letter = letters[stay.process]
            for at in range(self.column(stay.begin), self.column(stay.end) + 1):
                row[at] = letter
            for time in stay.events:
                row[self.column(time)] = letter.upper()
        return "".join(row)
