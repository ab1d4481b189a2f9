"""A recorded exchange as a sequence diagram in text: the seeds' four lanes, an arrow for each step.

    print(draw(records))
    print(beside(draw(broken), draw(fixed), columns=shutil.get_terminal_size().columns))

Everything in a diagram comes from the records. What the seeds write beside their arrows is concluded from them: a
connection that is ready when the handler has returned without leaving a callback is ready "too late!", and hangs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from h3ref import trace
from h3ref.trace import LANES, STEPS, Record

LANE_GAPS = (18, 26, 23)
"""Columns from each lane to the next, so that the longest words of its steps fit."""

WIDTH = 79
"""Columns of a diagram with times; two and a gap fill 160."""

SIDE_BY_SIDE = 2 * WIDTH + 2

_TIME_COLUMN = 8
_HANDLER, _ADAPTER = LANES.index("handler"), LANES.index("adapter")
_CARRIED = {  # drawn as one arrow after the other in the same line
    trace.SEND_EVENT.name: trace.DATA.name,
    trace.SEND_KEEP_ALIVE.name: trace.DATA.name,
    trace.CLOSE.name: trace.CLOSES_CONNECTION.name,
}


def draw(records: Sequence[Record], *, title: str = "", times: bool = False) -> str:
    """Return the diagram of one exchange.

    Args:
        records: of one exchange, in the order in which they were recorded.
        title: a line above the lanes.
        times: begin each line with the milliseconds since the first record.

    Raises:
        ValueError: the records are of several exchanges, or one is between lanes that don't exist.
    """
    if len({record.exchange for record in records}) > 1:
        raise ValueError("the records are of several exchanges: draw one at a time")
    for record in records:
        if record.who not in LANES or record.to not in LANES:
            raise ValueError(f"step {record.step}: the lanes are {', '.join(LANES)}, not {record.who} and {record.to}")
    return "\n".join([*([title] if title else []), *_Diagram(times).lines(records)])


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

    def lines(self, records: Sequence[Record]) -> Iterator[str]:
        """The names of the lanes, then the steps."""
        yield self._heads()
        if not records:
            return
        registered = hanging = False
        events = 0
        for same in _groups(records):
            first = same[0]
            registered = registered or first.step == trace.SET_STREAM_CALLBACK.name
            events += first.step == trace.EVENT.name
            if first.step == trace.CALLS_CALLBACK.name:
                self._absent = False
                yield self._note(_HANDLER, "Callback")
            if hanging:
                yield self._hangs()
            rows = self._rows(same, events)
            hanging = first.step == trace.CONNECTION_READY.name and self._absent and not registered
            if hanging:
                rows = self._too_late(rows)
            time = f"{(first.time - records[0].time) * 1000:6.1f}" if self._times else ""
            for row in rows:
                yield (time + "".join(row)[len(time) :]).rstrip()
                time = ""
            self._absent = self._absent or first.step == trace.RETURNS.name
        if hanging:
            yield self._hangs()

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

    def _rows(self, same: Sequence[Record], events: int) -> list[list[str]]:
        """The arrow of a step, of the same step many times over, or of a step and the one that carries it on."""
        rows = [self._empty()]
        first, last = same[0], same[-1]
        if _CARRIED.get(first.step) == last.step:
            self._arrow(rows, last, _words(last, events), 1)
            self._arrow(rows, first, _words(first, events), 1)
        else:
            self._arrow(rows, first, _words(first, events), len(same))
        return rows

    def _arrow(self, rows: list[list[str]], record: Record, words: str, times: int) -> None:
        start, end = LANES.index(record.who), LANES.index(record.to)
        rightward = start <= end
        low = self._lanes[min(start, end)]
        high = self._lanes[max(start, end) if start != end else min(start + 1, len(LANES) - 1)]
        rejected = record.error is not None
        room = high - low - 1  # between the lanes
        words, _, note = words.partition(" (")
        on_arrow, *below = textwrap.wrap(words, room - (5 if rejected else 4)) or [""]
        notes = [" ".join(below), f"({note}" if note else ""]
        if rejected:
            notes += [str(record.error), f"(rule {record.rule})" + (f", {times} times" if times > 1 else "")]
        row = rows[0]
        if start == end:
            _put(row, low, f"├─ {on_arrow}")
        elif rejected:
            _put(row, *((low, f"├─ {on_arrow} ─X") if rightward else (high - len(on_arrow) - 5, f"X─ {on_arrow} ─┤")))
        elif rightward:
            _put(row, low, f"├─ {on_arrow} {'─' * (room - len(on_arrow) - 4)}>")
        else:
            _put(row, low + 1, f"<{'─' * (room - len(on_arrow) - 4)} {on_arrow} ─┤")
        for text in [line for note in notes for line in textwrap.wrap(note, room - 3)]:
            rows.append(self._empty())
            _put(rows[-1], low + 4 if rightward else high - 2 - len(text), text)

    def _too_late(self, rows: list[list[str]]) -> list[list[str]]:
        """Write the seeds' two remarks: the handler is not there any more, so the arrow comes too late."""
        rows = [*rows, self._empty(), self._empty()]
        column = self._lanes[_HANDLER] - 3
        for row, text in zip(rows, ("(handler", " already", " exited!)"), strict=False):
            row[self._lanes[_HANDLER]] = " "
            _put(row, column, text)
        _put(rows[1], self._lanes[_ADAPTER] + 4, "(too late!)")
        return rows

    def _hangs(self) -> str:
        row = self._empty()
        text = " [No events sent - connection hangs] "
        _put(row, (self._lanes[0] + self._lanes[-1] - len(text)) // 2, text)
        return "".join(row).rstrip()

    def _note(self, lane: int, text: str) -> str:
        row = self._empty()
        _put(row, self._lanes[lane] - 2, text)
        return "".join(row).rstrip()


def _groups(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records that share a line: rejected alike one after the other, or one carried on by the next."""
    carried = {id(after) for before, after in pairwise(records) if _CARRIED.get(before.step) == after.step}
    numbered: list[tuple[object, Record]] = []
    for record in records:
        key = (record.step, record.before, record.error) if record.error else id(record)
        numbered.append((numbered[-1][0] if id(record) in carried else key, record))
    for _, same in groupby(numbered, key=lambda pair: pair[0]):
        yield [record for _, record in same]


def _words(record: Record, events: int) -> str:
    step = STEPS.get(record.step)
    words = step.words if step else record.step
    if record.step == trace.REQUEST.name and record.detail:
        line, longest = record.detail.partition("?")[0], LANE_GAPS[0] - 5
        return line if len(line) <= longest else f"{line[: longest - 1]}…"
    if record.step == trace.EVENT.name:
        words = f"{words} {events}"
    elif record.trigger == "fail" and record.detail:
        words = f"{words} {record.detail}"
    if record.who == "connection" and record.size is not None:
        words = f"{words}, {record.size} bytes"
    return words


def _put(row: list[str], column: int, text: str) -> None:
    row[column : column + len(text)] = text
