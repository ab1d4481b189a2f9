"""`Column`: one recording and what stands beside it, in rows; rows of one kind are folded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from h3ref import trace
from h3ref.trace import Record

from .. import story
from ..story import Arrow, Line, Remark

LIMIT = 44
"""The most rows of a column; of more, those in the middle are told as left out."""

FOLDED = 4
"""Repetitions of the same steps, in a row, that become one row with their number."""

TO_CLIENT = {step.name for step in trace.STEPS.values() if (step.who, step.to) == ("connection", "client")}

Code = str | Callable[..., Any] | Sequence[Callable[..., Any]]


@dataclass(frozen=True)
class Column:
    """One recording, as a column of the stepper.

    Attributes:
        title: its heading; "broken" and "fixed" are marked as such.
        records: the records of one exchange.
        head: the head of the answer as its client had it, or "" if nobody kept it.
        code: what answers, as text or as functions: the line that a step comes from is lit. A line with "the bug" or
            "the fix" in its comment is marked.
        says: what it shows, in a sentence or two, with code between backticks; "" for what the recording tells.
    """

    title: str
    records: Sequence[Record]
    head: str = ""
    code: Code = ""
    says: str = ""

    @property
    def source(self) -> list[str]:
        """The lines of its code."""
        if isinstance(self.code, str):
            return self.code.strip("\n").splitlines()
        functions = [self.code] if callable(self.code) else self.code
        return "\n\n".join(inspect.getsource(function).strip("\n") for function in functions).splitlines()


@dataclass(frozen=True)
class Row:
    """A row of a column.

    Attributes:
        time: seconds from the first record to the last of this row.
        arrows: one or two; none in a row that only says something.
        records: what it tells; of steps that are folded, all.
        words: what it says, of a row without arrows.
        times: how often the same was done.
        absent: the handler has returned before.
        too_late: the connection is ready, and nobody is left to write to it.
    """

    time: float
    arrows: tuple[Arrow, ...]
    records: tuple[Record, ...]
    words: str = ""
    times: int = 1
    absent: bool = False
    too_late: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """What is the same for the same steps."""
        return tuple(arrow.record.step for arrow in self.arrows) or (self.words,)

    @property
    def received(self) -> tuple[Record, ...]:
        """What came to the client."""
        return tuple(record for record in self.records if record.step in TO_CLIENT)


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Return the rows that tell the records of one exchange, in order.

    Raises:
        ValueError: as `story.tell`.
    """
    start = records[0].time if records else 0.0
    left = iter(records)
    told = story.tell(records, limit=LIMIT)
    counts = [row.records if isinstance(row, Line) else 0 for row in told]
    left_out = len(records) - sum(counts)
    found: list[Row] = []
    for row, count in zip(told, counts, strict=True):
        if isinstance(row, Remark) and row.text in (story.CALLBACK, story.HANGS):
            continue  # the column says so itself
        out = isinstance(row, Remark)
        those = tuple(islice(left, left_out if out else count))
        time = (those[-1].time if those else row.time) - start
        if isinstance(row, Line):
            found.append(Row(time, row.arrows, those, absent=row.absent, too_late=row.too_late))
        else:
            found.append(Row(time, (), those, words=row.text, absent=row.absent))
    return list(_folded(found))


def _folded(rows: Sequence[Row]) -> Iterator[Row]:
    at = 0
    while at < len(rows):
        for period in (1, 2):
            times = _repeats(rows, at, period)
            if times >= FOLDED:
                for place in range(period):
                    yield _joined(rows[at + place : at + period * times : period])
                at += period * times
                break
        else:
            yield rows[at]
            at += 1


def _repeats(rows: Sequence[Row], at: int, period: int) -> int:
    """How often the rows from here on come, one after the other."""
    keys = [row.key for row in rows[at : at + period] if row.arrows]
    times = 1
    while len(keys) == period and keys == [row.key for row in rows[at + times * period :][:period]]:
        times += 1
    return times


def _joined(rows: Sequence[Row]) -> Row:
    first, last = rows[0], rows[-1]
    records = tuple(record for row in rows for record in row.records)
    return Row(last.time, first.arrows, records, times=len(rows), absent=first.absent, too_late=last.too_late)
