"""A recorded exchange as a sequence diagram in text: the seeds' four lanes, an arrow for each step.

    print(draw(records))
    print(beside(broken, fixed, columns=shutil.get_terminal_size().columns))

What the rows say comes from `story`, as in the drawn diagrams. Words stand on the arrows, or, where a diagram must be
narrow, beside the lanes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from h3ref import trace
from h3ref.trace import LANES, Record

from . import story
from .story import Arrow, Line, printable

LANE_GAPS = (18, 26, 23)
"""Columns from each lane to the next, so that the longest words of its steps fit."""

WIDTH = 79
"""Columns of a diagram with times."""

_NARROW_GAP, _WORDS = 8, 23
NARROW_WIDTH = 58
"""Columns of a narrow one with times: the lanes are closer, and the words have 23 columns of their own."""

SIDE_BY_SIDE = 2 * NARROW_WIDTH + 2

_TIME_COLUMN = 8
_IMPLIED = (trace.DATA.name, trace.CLOSES_CONNECTION.name)
"""Steps that say no more than the one they carry on."""

_HANDLER, _ADAPTER = LANES.index("handler"), LANES.index("adapter")


def draw(records: Sequence[Record], *, title: str = "", times: bool = False, narrow: bool = False) -> str:
    """Return the diagram of one exchange.

    Args:
        records: of one exchange, in the order in which they were recorded.
        title: a line above the lanes.
        times: begin each line with the milliseconds since the first record.
        narrow: have the words beside the lanes, so that two diagrams fit side by side.

    Raises:
        ValueError: the records are of several exchanges, or one is between lanes that don't exist.
    """
    diagram = _Narrow(times) if narrow else _Diagram(times)
    return "\n".join([*([title] if title else []), *diagram.lines(story.tell(records))])


def beside(left: Sequence[Record], right: Sequence[Record], *, titles: tuple[str, str] = ("", ""), columns: int) -> str:
    """Return the diagrams of two exchanges with their times, side by side where they fit, else one below the other.

    Args:
        left, right: the records of each, as `draw` takes them.
        titles: a line above each.
        columns: of the terminal; `SIDE_BY_SIDE` are enough.
    """
    fits = columns >= SIDE_BY_SIDE
    drawn = [
        draw(records, title=title, times=True, narrow=fits)
        for records, title in zip((left, right), titles, strict=True)
    ]
    if not fits:
        return "\n\n".join(drawn)
    rows = zip_longest(*(one.split("\n") for one in drawn), fillvalue="")
    return "\n".join(f"{ours:{NARROW_WIDTH}}  {theirs}".rstrip() for ours, theirs in rows)


class _Diagram:
    """Lines of text with four lanes through them."""

    gaps: Sequence[int] = LANE_GAPS

    def __init__(self, times: bool) -> None:
        margin = _TIME_COLUMN if times else 0
        self._times = times
        self._lanes = [margin + 1 + sum(self.gaps[:lane]) for lane in range(len(LANES))]
        self._absent = False  # the handler has returned: its lane is dotted

    def lines(self, rows: Sequence[story.Row]) -> Iterator[str]:
        """The names of the lanes, then the rows."""
        yield self._heads()
        for row in rows:
            self._absent = row.absent
            if isinstance(row, Line):
                time = f"{(row.time - rows[0].time) * 1000:6.1f}" if self._times else ""
                for drawn in self._drawn(row):
                    yield (time + "".join(drawn)[len(time) :]).rstrip()
                    time = ""
            elif row.text == story.CALLBACK:
                yield self._note(self._lanes[_HANDLER] - 2, row.text)
            else:
                text = f" {row.text} "
                yield self._note(max(self._lanes[0] + 1, (self._lanes[0] + self._lanes[-1] - len(text)) // 2), text)

    def _heads(self) -> str:
        row = [" "] * (self._lanes[-1] + 3)
        for lane, (name, column) in enumerate(zip(LANES, self._lanes, strict=True)):
            start = column - 1 if lane == 0 else column - 2 if lane < len(LANES) - 1 else len(row) - len(name)
            _put(row, start, name.title())
        return self._with_unit(row)

    def _with_unit(self, row: list[str]) -> str:
        if self._times:
            _put(row, 4, "ms")
        return "".join(row)

    def _empty(self) -> list[str]:
        row = [" "] * (self._lanes[-1] + 3)
        for lane, column in enumerate(self._lanes):
            row[column] = "┊" if lane == _HANDLER and self._absent else "│"
        return row

    def _drawn(self, line: Line) -> list[list[str]]:
        rows = [self._empty()]
        for arrow in reversed(line.arrows):  # the notes of the first stand below it
            self._arrow(rows, arrow)
        return self._too_late(rows) if line.too_late else rows

    def _arrow(self, rows: list[list[str]], arrow: Arrow) -> None:
        record = arrow.record
        start, end = LANES.index(record.who), LANES.index(record.to)
        own, last = start == end, len(LANES) - 1
        rightward = start < end or (own and start < last)  # a step of the last lane's own has its words on its left
        left, right = min(start, end), max(start, end)
        low = self._lanes[left - 1 if own and start == last else left]
        high = self._lanes[right + 1 if own and start < last else right]
        rejected = record.error is not None
        room = high - low - 1  # between the lanes
        on_arrow, *below = self._wrapped(arrow, room - (5 if rejected else 4))
        notes = [" ".join(below), arrow.note]
        if rejected:
            notes += [printable(str(record.error)), printable(f"(rule {record.rule})") + arrow.often]
        row = rows[0]
        if own:
            _put(row, *((low, f"├─ {on_arrow}") if rightward else (high - len(on_arrow) - 2, f"{on_arrow} ─┤")))
        elif rejected:
            _put(row, *((low, f"├─ {on_arrow} ─X") if rightward else (high - len(on_arrow) - 5, f"X─ {on_arrow} ─┤")))
        else:
            shaft = room - len(on_arrow) - 4
            tail = "─" if shaft else ""  # what little there is belongs to the head
            shaft = shaft or 1
            if rightward:
                _put(row, low, f"├{tail} {on_arrow} {'─' * shaft}>")
            else:
                _put(row, low + 1, f"<{'─' * shaft} {on_arrow} {tail}┤")
        for text in [line for note in notes for line in textwrap.wrap(note, room - 3)]:
            rows.append(self._empty())
            _put(rows[-1], low + 4 if rightward else high - 2 - len(text), text)

    def _wrapped(self, arrow: Arrow, room: int) -> list[str]:
        """The words in lines that fit; a request's stay on one line, cut where they must be."""
        if arrow.record.who == "client" and len(arrow.words) > room:
            return [f"{arrow.words[: room - 1]}…"]
        return textwrap.wrap(arrow.words, room) or [""]

    def _too_late(self, rows: list[list[str]]) -> list[list[str]]:
        """Write the seeds' two remarks: the handler is not there any more, so the arrow comes too late."""
        rows = [*rows, self._empty(), self._empty()]
        column = self._lanes[_HANDLER] - 3
        for row, text in zip(rows, story.ALREADY_EXITED, strict=False):
            row[self._lanes[_HANDLER]] = " "
            _put(row, column, text if text.startswith("(") else f" {text}")
        _put(rows[1], self._lanes[_ADAPTER] + 4, story.TOO_LATE)
        return rows

    def _note(self, column: int, text: str) -> str:
        row = self._empty()
        _put(row, column, text)
        return "".join(row).rstrip()


class _Narrow(_Diagram):
    """Lanes that are close together, and the words beside them."""

    gaps = (_NARROW_GAP,) * 3

    def _heads(self) -> str:
        row = [" "] * (self._lanes[-1] + 8)
        for name, column in zip(LANES, self._lanes, strict=True):
            _put(row, column - 1, name.title())
        return self._with_unit(row)

    def _drawn(self, line: Line) -> list[list[str]]:
        rows = [self._empty()]
        words = ", ".join(arrow.words for arrow in line.arrows if arrow.record.step not in _IMPLIED)
        notes = [arrow.note for arrow in line.arrows]
        for arrow in line.arrows:
            self._arrow(rows, arrow)
            if arrow.record.error:
                notes += [printable(str(arrow.record.error)), printable(f"(rule {arrow.record.rule})") + arrow.often]
        if line.too_late:
            notes += [story.TOO_LATE, " ".join(story.ALREADY_EXITED)]
        beside = [part for text in (words, *notes) for part in textwrap.wrap(text, _WORDS, break_long_words=False)]
        rows += [self._empty() for _ in beside[1:]]
        for row, text in zip(rows, beside, strict=False):
            _put(row, self._lanes[-1] + 3, f"{text[: _WORDS - 1]}…" if len(text) > _WORDS else text)
        return rows

    def _arrow(self, rows: list[list[str]], arrow: Arrow) -> None:
        start, end = (self._lanes[LANES.index(lane)] for lane in (arrow.record.who, arrow.record.to))
        row, high = rows[0], max(start, end)
        rejected = arrow.record.error is not None
        if start == end:
            row[start] = "■"
        elif start < end:
            _put(row, start, "├───X" if rejected else f"├{'─' * (high - start - 2)}>")
        elif rejected:
            _put(row, start - 4, "X───┤")
        else:
            _put(row, end + 1, f"<{'─' * (high - end - 2)}┤")


def _put(row: list[str], column: int, text: str) -> None:
    row[column : column + len(text)] = text
