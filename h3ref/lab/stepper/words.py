"""The stepper's words: times, what a client has, and what a column says at one place of the slider."""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise

from h3ref.lifecycle import Reason
from h3ref.trace import Record

from ..story import Arrow, printable
from .columns import Row
from .frames import Moment

_ID = re.compile(r"\b([LT]-\d\d)\b")


def clock(seconds: float) -> str:
    """A time or a duration, in the unit that suits it."""
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.{0 if seconds >= 0.00995 else 1}f} ms"
    return f"{seconds:.1f}".removesuffix(".0") + " s"


def count(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def whole(text: str) -> str:
    """A text as HTML in which no line ends within the id of a rule; `stepper.js` writes its texts so, too."""
    return _ID.sub(r'<span class="h3step-whole">\1</span>', escape(text))


def label(row: Row, arrow: Arrow) -> str:
    """What stands on an arrow."""
    words = arrow.words
    if row.times > 1 and words.split(",")[0][-1:].isdigit() and row.received:  # "Event 1, 9 bytes": of several, all
        return f"{words.split()[0]} × {row.times}, {sum(record.size or 0 for record in row.received)} bytes"
    times = arrow.times * row.times
    return f"{words} × {times}" if times > 1 else words


def below(arrow: Arrow) -> str:
    """What stands below an arrow: the rule that rejected it, or what it does."""
    record = arrow.record
    if record.error:
        return f"{printable(record.error)}, rule {printable(record.rule or 'unknown')}"
    return arrow.note


def has(moment: Moment) -> str:
    """What a client has so far."""
    if not moment.size and not moment.events:
        return "nothing yet"
    return f"{count(moment.size, 'byte')}, {count(moment.events, 'event')}"


def status(moment: Moment, row: Row | None) -> str:
    """How a column stands: what its client has, or its silence, and its end."""
    has = count(moment.events, "event") if moment.events else ""
    if moment.silence and not moment.events:
        has = f"{clock(moment.silence)} of silence"
    if moment.closed is not None:
        why = "the client left" if moment.closed == Reason.CLIENT_GONE else printable(moment.closed)
        return f"{has}, {why}" if has else f"closed: {why}"
    if row is not None and row.too_late and not has:
        return "nobody is left to write"
    return has or ("waits" if moment.waits else "")


def sentence(title: str, moment: Moment, row: Row | None) -> str:
    """One column in one sentence, as a screen reader says it."""
    if row is None:
        return f"{title}: nothing yet."
    if moment.waits:
        said = status(moment, row)
    elif row.arrows:
        said = ", then ".join(_told(row, arrow) for arrow in row.arrows)
        said = f"{said}; too late, the handler has left" if row.too_late else said
        said = f"{said}; {status(moment, row)}" if moment.closed is not None else said
    else:
        said = row.words
    return f"{title}: {said}."


def _told(row: Row, arrow: Arrow) -> str:
    note = below(arrow)
    return f"{label(row, arrow)}{f' ({note})' if arrow.record.error else ''}"


def summary(rows: list[Row], last: Moment) -> str:
    """What a whole recording tells, in a sentence or two."""
    found = []
    rejected: dict[str, tuple[Record, int]] = {}
    for row in rows:
        for record in row.records:
            if record.error:
                first, times = rejected.get(record.step, (record, 0))
                rejected[record.step] = (first, times + 1)
    for record, times in rejected.values():
        often = f" {times} times" if times > 1 else ""
        found.append(f"`{printable(record.step)}` is refused{often} by rule {printable(record.rule or 'unknown')}.")
    longest = _longest_silence(rows)
    silent = f" The client hears nothing for {clock(longest)}." if longest >= 1 and not last.events else ""
    end = f"; the stream is closed: {printable(last.closed)}" if last.closed else "; the stream is still open"
    return " ".join([*found, f"The client has {has(last)}{end}.{silent}"])


def _longest_silence(rows: list[Row]) -> float:
    times = [row.time for row in rows if row.received] + ([rows[-1].time] if rows else [])
    return max((after - before for before, after in pairwise(times)), default=0.0)
