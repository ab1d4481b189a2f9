"""A recorded exchange as a sequence diagram in text: the seeds' four lanes, an arrow for each step.

    print(draw(records))
    print(beside(draw(broken), draw(fixed), columns=shutil.get_terminal_size().columns))

What the rows say comes from `story`, as in the drawn diagrams.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from h3ref.trace import LANES, Record

from . import story
from .story import Arrow, Line, printable

LANE_GAPS = (18, 26, 23)
"""Columns from each lane to the next, so that the longest words of its steps fit."""

WIDTH = 79
"""Columns of a diagram with times; two and a gap fill 160."""

SIDE_BY_SIDE = 2 * WIDTH + 2

_TIME_COLUMN = 8
_HANDLER, _ADAPTER = LANES.index("handler"), LANES.index("adapter")


def draw(records: Sequence[Record], *, title: str = "", times: bool = False) -> str:
    """Return the diagram of one exchange.

    Args:
        records: of one exchange, in the order in which they were recorded.
        title: a line above the lanes.
        times: begin each line with the milliseconds since the first record.

    Raises:
        ValueError: the records are of several exchanges, or one is between lanes that don't exist.
    """
    return "\n".join([*([title] if title else []), *_Diagram(times).lines(story.tell(records))])


def beside(left: str, right: str, *, columns: int) -> str:
    """Return two diagrams side by side where they fit, else one below the other."""
    if columns < SIDE_BY_SIDE:
        return f"{left}\n\n{right}"
    rows_left, rows_right = left.split("\n"), right.split("\n")
    height = max(len(rows_left), len(rows_right))
    rows_left += [""] * (height - len(rows_left))
    rows_right += [""] * (height - len(rows_right))
    return "\n".join(f"{a:{WIDTH}}  {b}".rstrip() for a, b in zip(rows_left, rows_right, strict=True))


class _Diagram:
    """Lines of text with four lanes through them."""

    def __init__(self, times: bool) -> None:
        margin = _TIME_COLUMN if times else 0
        self._times = times
        self._lanes = [margin + 1 + sum(LANE_GAPS[:lane]) for lane in range(len(LANES))]
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
                yield self._note((self._lanes[0] + self._lanes[-1] - len(text)) // 2, text)

    def _heads(self) -> str:
        row = [" "] * (self._lanes[-1] + 3)
        for lane, (name, column) in enumerate(zip(LANES, self._lanes, strict=True)):
            start = column - 1 if lane == 0 else column - 2 if lane < len(LANES) - 1 else len(row) - len(name)
            _put(row, start, name.title())
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


def _put(row: list[str], column: int, text: str) -> None:
    row[column : column + len(text)] = text
