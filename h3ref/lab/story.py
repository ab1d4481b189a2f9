"""What the records of one exchange tell, row by row: text, drawing and Mermaid show the same rows.

What the seeds write beside their arrows is concluded here: a connection that is ready when the handler has returned
without leaving a callback is ready "too late!", and hangs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from h3ref import trace
from h3ref.trace import LANES, STEPS, Record

ALREADY_EXITED = ("(handler", "already", "exited!)")
TOO_LATE = "(too late!)"
CALLBACK = "Callback"
HANGS = "[No events sent - connection hangs]"

_CARRIED = {  # told as one arrow after the other in the same row
    trace.SEND_EVENT.name: trace.DATA.name,
    trace.SEND_KEEP_ALIVE.name: trace.DATA.name,
    trace.CLOSE.name: trace.CLOSES_CONNECTION.name,
}


@dataclass(frozen=True, slots=True)
class Arrow:
    """A step between two lanes, or of one lane alone.

    Attributes:
        record: the step.
        words: what stands on the arrow.
        note: what stands below it in brackets, or "".
        times: how often it was rejected alike, one time after the other.
    """

    record: Record
    words: str
    note: str = ""
    times: int = 1

    @property
    def often(self) -> str:
        """How often, where that is more than once, to be said after something else."""
        return f", {self.times} times" if self.times > 1 else ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row with an arrow, or with a step and the one that carries it on.

    Attributes:
        time: of its first record.
        arrows: one or two.
        records: how many records it tells.
        absent: the handler has returned before.
        too_late: the connection is ready, and nobody is left to write to it.
    """

    time: float
    arrows: tuple[Arrow, ...]
    records: int
    absent: bool = False
    too_late: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """A row of words: the callback begins, the connection hangs, or rows were left out.

    Attributes:
        time: when it begins.
        text: the words.
        absent: the handler has returned before.
    """

    time: float
    text: str
    absent: bool


Row = Line | Remark


def tell(records: Sequence[Record], *, limit: int | None = None) -> list[Row]:
    """Return the rows that tell the records of one exchange.

    Args:
        records: of one exchange, in the order in which they were recorded.
        limit: the most rows, at least 5; when there are more, rows of the middle are left out, and one says how many.

    Raises:
        ValueError: the records are of several exchanges, or one is between lanes that don't exist.
    """
    if len({record.exchange for record in records}) > 1:
        raise ValueError("the records belong to several exchanges: draw one at a time")
    for record in records:
        if record.who not in LANES or record.to not in LANES:
            raise ValueError(f"step {record.step}: the lanes are {', '.join(LANES)}, not {record.who} and {record.to}")
    rows = list(_rows(records))
    return rows if limit is None or len(rows) <= limit else _shortened(rows, max(limit, 5))


def _rows(records: Sequence[Record]) -> Iterator[Row]:
    registered = hanging = absent = False
    events, hung_since = 0, 0.0
    for same in _groups(records):
        first = same[0]
        registered = registered or first.step == trace.SET_STREAM_CALLBACK.name
        events += first.step == trace.EVENT.name
        if first.step == trace.CALLS_CALLBACK.name and first.error is None:
            absent = False
            yield Remark(first.time, CALLBACK, absent)
        if hanging:
            yield Remark(hung_since, HANGS, absent)
        hanging, hung_since = first.step == trace.CONNECTION_READY.name and absent and not registered, first.time
        yield Line(first.time, _arrows(same, events), len(same), absent, too_late=hanging)
        absent = absent or first.step == trace.RETURNS.name
    if hanging:
        yield Remark(hung_since, HANGS, absent)


def _arrows(same: Sequence[Record], events: int) -> tuple[Arrow, ...]:
    first, last = same[0], same[-1]
    if _CARRIED.get(first.step) == last.step:
        return Arrow(first, *_words(first, events)), Arrow(last, *_words(last, events))
    return (Arrow(first, *_words(first, events), times=len(same)),)


def _groups(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records that share a row: rejected alike one after the other, or one carried on by the next."""
    carried = {id(after) for before, after in pairwise(records) if _CARRIED.get(before.step) == after.step}
    numbered: list[tuple[object, Record]] = []
    for record in records:
        key = (record.step, record.before, record.error) if record.error else id(record)
        numbered.append((numbered[-1][0] if id(record) in carried else key, record))
    for _, same in groupby(numbered, key=lambda pair: pair[0]):
        yield [record for _, record in same]


def printable(text: str) -> str:
    """The text in one line, and � for what would do something to a terminal."""
    return "".join(sign if sign.isprintable() else "�" for sign in " ".join(text.split()))


def _words(record: Record, events: int) -> tuple[str, str]:
    """What stands on the arrow, and what below it."""
    if record.step == trace.REQUEST.name and record.detail:
        return printable(record.detail.partition("?")[0]), ""
    step = STEPS.get(record.step)
    words = step.words if step else printable(record.step)
    if record.step == trace.EVENT.name:
        words = f"{words} {events}"
    elif record.trigger == "fail" and record.detail:
        words = f"{words} {printable(record.detail)}"
    if record.who == "connection" and record.size is not None:
        words = f"{words}, {record.size} bytes"
    words, bracket, note = words.partition(" (")
    return words, f"({note}" if bracket else ""


def _shortened(rows: Sequence[Row], limit: int) -> list[Row]:
    """Keep the beginning, where a stream is set up, and the end."""
    after = max(2, limit // 3)
    begin, end = limit - 1 - after, len(rows) - after
    while begin > 1 and _goes_on(rows[begin - 1]):  # what is sent stays together with what goes out
        begin -= 1
    while end < len(rows) - 1 and _goes_on(rows[end - 1]):
        end += 1
    head, out, tail = rows[:begin], rows[begin:end], rows[end:]
    lines = [row for row in out if isinstance(row, Line)]
    steps = sum(line.records for line in lines)
    arrows = [arrow for line in lines for arrow in line.arrows]
    events = sum(arrow.record.step == trace.EVENT.name for arrow in arrows)
    rejected = sum(arrow.times for arrow in arrows if arrow.record.error)
    more = [f"{events} events" if events else "", f"{rejected} rejected" if rejected else ""]
    among = f", {' and '.join(filter(None, more))} among them," if any(more) else ""
    return [*head, Remark(out[0].time, f"… {steps} steps{among} left out …", out[0].absent), *tail]


def _goes_on(row: Row) -> bool:
    """Whether a row sends what the next one receives."""
    return isinstance(row, Line) and len(row.arrows) > 1
