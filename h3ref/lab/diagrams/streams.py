"""Timelines of many streams: a row for each, with a bar that widens as the stream gets on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from h3ref import trace
from h3ref.lifecycle import State
from h3ref.trace import Record

from .axis import Scale
from .style import (
    CARD,
    DASHES,
    EDGE,
    FAINT,
    INK,
    MARGIN,
    SMALL,
    SOFT,
    STATE_COLOURS,
    TITLE,
    WIDTH,
    WIRE,
    WRONG,
    Sheet,
    cut,
    plain,
    shown,
    width_of,
)
from .words import end_of, of_timeline

LIMIT = 60
"""The most rows that are drawn; more streams are counted."""

_ROW, _LEAST_BARS = 24.0, 300.0
_ID_HIGH, _ARROW_HIGH = 18.0, 22.0
"""What a row is higher where events have ids, and where arrows lead from one row to the next."""

_LONGEST_ID = 12
"""Characters: a longer id, such as an engine's, says little to a reader and would lie on others, so it is not drawn."""

_MOST_NAME, _MOST_END = 170.0, 170.0
_STROKE = 10.0
_MARK_HIGH = 17.0
_HEIGHTS = {State.REQUESTED: 3.0, State.SSE_STARTED: 6.0, State.HEADERS_SENT: 10.0, State.STREAMING: 15.0}
"""A bar tells its state by its height too."""


class _Stream(NamedTuple):
    records: Sequence[Record]
    start: float
    number: str
    request: str
    killed: float | None = None

    @property
    def times(self) -> list[float]:
        """Seconds since the zero of the axis."""
        return [record.time - self.start for record in self.records]

    def states(self, end: float) -> Iterator[tuple[str, float, float]]:
        """Yield each state that lasted, until it was closed or to the end of the axis."""
        begin, state = self.times[0], self.records[0].before
        changes = [(time, record.after) for time, record in zip(self.times, self.records, strict=True)]
        for time, after in [*changes, (end if self.killed is None else self.killed, "")]:
            if after != state:
                if time > begin and state != State.CLOSED:
                    yield state, begin, time
                begin, state = time, after

    @property
    def is_closed(self) -> bool:
        return any(record.after == State.CLOSED for record in self.records)

    @property
    def is_killed(self) -> bool:
        return self.killed is not None and not self.is_closed

    @property
    def is_cut(self) -> bool:
        return any(record.step == trace.CUTS_CONNECTION.name for record in self.records)

    @property
    def events(self) -> list[tuple[float, str]]:
        """When each event left, and its id or ""."""
        return [
            (time, _id(record))
            for time, record in zip(self.times, self.records, strict=True)
            if record.step == trace.EVENT.name
        ]

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        return "killed" if self.is_killed else end_of(self.records)


class _Missed(NamedTuple):
    """An event that nobody had when it was published: when that was, and the rows and the time of its replay."""

    id: str
    time: float
    row: int
    replayed: float


def timeline(
    recordings: Sequence[Record] | Iterable[Sequence[Record]],
    *,
    title: str = "",
    names: Sequence[str] = (),
    marks: Mapping[str, float] | None = None,
    killed: Mapping[int, float] | None = None,
    missed: Mapping[str, float] | None = None,
    limit: int = LIMIT,
) -> Figure:
    """Draw a row for each exchange: its states, its events with their short ids, what was rejected, and how it ended.

    Args:
        recordings: a recording; or several, which then begin at the same point, since clocks may differ.
        title: a heading.
        names: what to call each row, in the order in which the exchanges began; by default its number and request.
        marks: what else happened, and when, by the clock of the records; only with a single recording.
        killed: by the number of an exchange, when its process was killed, if it was: nothing was recorded from then on.
        missed: by the id of an event, when it was published and nobody had it, by the clock of the records: there
            stands a hollow stroke, from which an arrow leads to where it was sent; only with a single recording.
        limit: the most rows; when there are more, the first are drawn, and the others are counted.

    Raises:
        ValueError: there are names, but not one for each exchange; or marks or what was missed, and several recordings;
            or what was missed is in no row but the first.
    """
    with plain():
        streams = list(_streams(recordings))
        ends = killed or {}
        streams = [
            one._replace(killed=ends[number] - one.start) if (number := one.records[0].exchange) in ends else one
            for one in streams
        ]
        if (marks or missed) and len({stream.start for stream in streams}) > 1:
            raise ValueError("marks are times of one clock: draw one recording, such as Recording.merged makes")
        gone = [_missed(streams, name, when) for name, when in (missed or {}).items()]
        if names:
            if len(names) != len(streams):
                raise ValueError(f"names is one for each of the {len(streams)} exchanges, not {len(names)}")
            streams = [
                stream._replace(number="", request=shown(name)) for stream, name in zip(streams, names, strict=True)
            ]
        return _draw(
            streams[:limit],
            len(streams) - limit,
            shown(title),
            of_timeline([_told_end(stream) for stream in streams], title, len(gone)),
            {shown(text): when - streams[0].start for text, when in (marks or {}).items()} if streams else {},
            gone,
        )


def _streams(recordings: Sequence[Record] | Iterable[Sequence[Record]]) -> Iterable[_Stream]:
    given: list[Any] = list(recordings)
    several: list[list[Record]] = [given] if given and isinstance(given[0], Record) else [list(part) for part in given]
    for records in several:
        for exchange in split(records):
            yield _Stream(exchange, records[0].time, str(exchange[0].exchange), _request(exchange))


def split(records: Iterable[Record]) -> list[list[Record]]:
    """The records of each exchange, in the order in which they began.

    A request begins one, also where its number was used before: by an earlier run of the server.
    """
    found: list[list[Record]] = []
    latest: dict[int, list[Record]] = {}
    for record in records:
        if record.exchange not in latest or record.step == trace.REQUEST.name:
            latest[record.exchange] = []
            found.append(latest[record.exchange])
        latest[record.exchange].append(record)
    return found


def _missed(streams: Sequence[_Stream], name: str, when: float) -> _Missed:
    for row, stream in enumerate(streams):
        for time, found in stream.events if row else ():
            if found == name:
                return _Missed(name, when - stream.start, row, time)
    raise ValueError(f"the event {name} is said to be missed, but no stream except the first sent it later")


def _id(record: Record) -> str:
    """The id of a sent event, or ""."""
    found = re.search(r"^id: ?(.*)$", record.detail or "", re.MULTILINE)
    return shown(found[1]) if found else ""


def _told_end(stream: _Stream) -> str:
    return f"{stream.ending}, cut" if stream.is_cut else stream.ending


def _request(records: Sequence[Record]) -> str:
    return shown(next((record.detail or "" for record in records if record.step == trace.REQUEST.name), ""))


def _draw(
    streams: Sequence[_Stream], more: int, title: str, words: str, marks: Mapping[str, float], missed: Sequence[_Missed]
) -> Figure:
    numbers = max([0.0, *(width_of(stream.number, SMALL) + 8 for stream in streams if stream.number)])
    names = numbers + max([100.0, *(min(width_of(stream.request, SMALL), _MOST_NAME) for stream in streams)])
    ends = {id(stream.records): _end(stream) for stream in streams}
    ending = max([40.0, *(min(width_of(text, SMALL), _MOST_END) for text in ends.values())])
    left = MARGIN + names + 14
    bars = max(_LEAST_BARS, WIDTH - left - 16 - ending - MARGIN)
    width = left + bars + 16 + ending + MARGIN
    span = max([0.0, *(time for stream in streams for time in stream.times), *marks.values()])
    samples = _legend_of(streams, span, width - MARGIN, bool(missed))
    top = MARGIN + (30 if title else 0) + len(samples) * _LEGEND_HIGH + 14 + len(marks) * _MARK_HIGH
    ids = any(0 < len(name) <= _LONGEST_ID for stream in streams for _, name in stream.events)
    row = _ROW + ids * _ID_HIGH + bool(missed) * _ARROW_HIGH
    depth = max(1.0, len(streams) * row / _ROW + (more > 0)) * _ROW
    sheet = Sheet(width, top + depth + 44, words)
    if title:
        sheet.text(
            MARGIN, MARGIN + 8, cut(title, width - 2 * MARGIN, TITLE, "Sans-Bold"), size=TITLE, weight="Sans-Bold"
        )
    _legend(sheet, MARGIN + (30 if title else 0) + 6, samples)
    scale = Scale(left, bars, span or 1.0)
    bottom = top + depth + 6
    for seconds, text in scale.ticks(apart=90):
        x = scale.y(seconds)
        sheet.line([(x, top - 6), (x, bottom)], colour=EDGE, order=1.1)
        sheet.text(x, bottom + 12, text, size=SMALL, colour=SOFT, align="center")
    _marks(sheet, marks, scale, (left, left + bars), top - 10 - len(marks) * _MARK_HIGH, bottom)
    if not streams:
        sheet.text(left + bars / 2, top + _ROW / 2, "nothing was recorded", colour=SOFT, align="center", ground=CARD)
    for number, stream in enumerate(streams):
        y = top + (number + 1) * row - _ROW / 2
        sheet.text(MARGIN + numbers - 8, y, stream.number, size=SMALL, colour=SOFT, align="right")
        sheet.text(MARGIN + numbers, y, cut(stream.request, _MOST_NAME, SMALL), size=SMALL)
        _row(sheet, stream, scale, y, span)
        _ids(sheet, [(scale.y(time), name) for time, name in stream.events], y)
        _arrows(sheet, [one for one in missed if one.row == number], scale, y - row, y)
        text = cut(ends[id(stream.records)], _MOST_END, SMALL)
        sheet.text(left + bars + 16, y, text, size=SMALL, colour=SOFT)
    if more > 0:
        sheet.text(
            left, top + depth - _ROW / 2, f"… and {more} more that {'is' if more == 1 else 'are'} not drawn",
            size=SMALL, colour=SOFT,
        )  # fmt: skip
    return sheet.figure


def _row(sheet: Sheet, stream: _Stream, scale: Scale, y: float, span: float) -> None:
    times = stream.times
    records = stream.records
    for state, begin, end in stream.states(span):
        _bar(sheet, scale.y(begin), scale.y(end), y, state)
    for time, record in zip(times, records, strict=True):
        if record.step == trace.EVENT.name:
            x = scale.y(time)
            sheet.line([(x, y - _STROKE), (x, y + _STROKE)], colour=CARD, thick=6, order=4)
            sheet.line([(x, y - _STROKE), (x, y + _STROKE)], colour=INK, thick=2, order=4.1)
        if record.error:
            sheet.cross(scale.y(time), y, size=5, colour=CARD, thick=5)
            sheet.cross(scale.y(time), y, size=4.5)
    closed = next((time for time, record in zip(times, records, strict=True) if record.after == State.CLOSED), None)
    if closed is None and stream.killed is not None:
        sheet.cross(scale.y(stream.killed), y, size=5, colour=CARD, thick=5)
        sheet.cross(scale.y(stream.killed), y, size=4.5)
    elif closed is None:
        sheet.head(scale.y(span) + 9, y, "right", colour=SOFT)
    elif stream.is_cut:
        _tear(sheet, scale.y(closed), y)
    else:
        _stop(sheet, scale.y(closed), y)


def _ids(sheet: Sheet, events: Sequence[tuple[float, str]], y: float) -> None:
    """Write ids above their strokes; those that would touch are one, from the first to the last."""
    runs: list[list[tuple[float, str]]] = []
    for x, name in events:
        if not 0 < len(name) <= _LONGEST_ID:
            continue
        room = width_of(_span([*runs[-1], (x, name)]), SMALL) if runs else 0.0
        if runs and x - runs[-1][-1][0] < room / 2 + width_of(name, SMALL) / 2 + 6:
            runs[-1].append((x, name))
        else:
            runs.append([(x, name)])
    for run in runs:
        sheet.text((run[0][0] + run[-1][0]) / 2, y - _STROKE - 9, _span(run), size=SMALL, colour=INK, align="center")


def _span(run: Sequence[tuple[float, str]]) -> str:
    return run[0][1] if len(run) == 1 else f"{run[0][1]}–{run[-1][1]}"


def _arrows(sheet: Sheet, missed: Sequence[_Missed], scale: Scale, before: float, y: float) -> None:
    """A hollow stroke in the row before for each that was missed, and an arrow to its replay."""
    for one in missed:
        x, end = scale.y(one.time), scale.y(one.replayed)
        _hollow(sheet, x, before)
        sheet.line([(x, before + _STROKE + 2), (end, y - _STROKE - 24)], colour=WIRE, thick=1.4, dash=DASHES, order=3.6)
    for end in {scale.y(one.replayed) for one in missed}:
        sheet.head(end, y - _STROKE - 17, "down", colour=WIRE)
    _ids(sheet, [(scale.y(one.time), one.id) for one in missed], before)


def _hollow(sheet: Sheet, x: float, y: float) -> None:
    sheet.box(x - 3, y - _STROKE, 6, 2 * _STROKE, fill=CARD, line=INK, thick=1.2, radius=1, order=4)


def _tear(sheet: Sheet, x: float, y: float) -> None:
    """The end of a stream that was cut: no clean edge."""
    edge = [(x + side, y + step * 4 - 10) for step, side in enumerate((-3, 3, -3, 3, -3, 3))]
    sheet.line(edge, colour=CARD, thick=6, order=4.4)
    sheet.line(edge, colour=WRONG, thick=2.2, order=4.5)


def _bar(sheet: Sheet, start: float, end: float, y: float, state: str) -> None:
    high = _HEIGHTS.get(State(state), 3.0) if state in set(State) else 3.0
    colour = STATE_COLOURS[State(state)] if state in set(State) else FAINT
    sheet.box(start, y - high / 2, end - start, high, fill=colour, radius=0, order=3)


def _marks(
    sheet: Sheet, marks: Mapping[str, float], scale: Scale, sides: tuple[float, float], top: float, bottom: float
) -> None:
    """A line through all rows for each, which its words stand beside, one below the other."""
    for number, (text, seconds) in enumerate(marks.items()):
        x, y = min(max(scale.y(seconds), sides[0]), sides[1]), top + (number + 0.5) * _MARK_HIGH
        sheet.line([(x, y - 5), (x, bottom)], colour=WRONG, thick=1.4, dash=DASHES, order=3.5)
        is_left = x + 8 + width_of(text, SMALL) > sides[1]
        words = {"align": "right"} if is_left else {"align": "left"}
        sheet.text(x - 6 if is_left else x + 6, y, text, size=SMALL, colour=WRONG, ground=CARD, **words)  # type: ignore[arg-type]


def _stop(sheet: Sheet, x: float, y: float) -> None:
    sheet.box(x - 2.5, y - 7.5, 5, 15, fill=STATE_COLOURS[State.CLOSED], line=CARD, thick=1, radius=0, order=4.5)


def _end(stream: _Stream) -> str:
    records = stream.records
    events = sum(record.step == trace.EVENT.name for record in records)
    told = [shown(_told_end(stream)), f"{events} event{'' if events == 1 else 's'}"]
    return ", ".join(told if events else told[:1])


_LEGEND_HIGH = 24.0

_MISSED = "missed, and sent later"
_OTHERS = {
    "event": 14.0, _MISSED: 16.0, "killed": 17.0, "rejected": 17.0, "closed": 14.0, "cut": 16.0, "still open": 14.0,
}  # fmt: skip
"""Pixels from a sample to its words; those of a state take 33."""


def _legend_of(streams: Sequence[_Stream], span: float, room: float, missed: bool) -> list[list[str]]:
    """What there is to be seen, and no more, in rows that fit the room."""
    lasted = {state for stream in streams for state, _, _ in stream.states(span)}
    records = [record for stream in streams for record in stream.records]
    there = {
        "event": any(record.step == trace.EVENT.name for record in records),
        _MISSED: missed,
        "killed": any(stream.is_killed for stream in streams),
        "rejected": any(record.error for record in records),
        "closed": any(stream.is_closed and not stream.is_cut for stream in streams),
        "cut": any(stream.is_cut for stream in streams),
        "still open": not all(stream.is_closed or stream.is_killed for stream in streams),
    }
    rows: list[list[str]] = [[]]
    for sample in [*(state for state in _HEIGHTS if state in lasted), *(name for name in _OTHERS if there[name])]:
        if rows[-1] and sum(map(_sample_width, [*rows[-1], sample])) > room:
            rows.append([])
        rows[-1].append(sample)
    return rows


def _sample_width(sample: str) -> float:
    return _OTHERS.get(sample, 33.0) + width_of(sample, SMALL) + 20


def _legend(sheet: Sheet, y: float, rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        x = MARGIN
        for sample in row:
            _draw_sample(sheet, x, y + number * _LEGEND_HIGH, sample)
            sheet.text(x + _OTHERS.get(sample, 33.0), y + number * _LEGEND_HIGH, sample, size=SMALL, colour=SOFT)
            x += _sample_width(sample)


def _draw_sample(sheet: Sheet, x: float, y: float, sample: str) -> None:
    match sample:
        case "event":
            sheet.line([(x + 6, y - _STROKE), (x + 6, y + _STROKE)], thick=2)
        case "killed" | "rejected":
            sheet.cross(x + 6, y, size=4.5)
        case "closed":
            _stop(sheet, x + 4, y)
        case "cut":
            _tear(sheet, x + 6, y)
        case _ if sample == _MISSED:
            _hollow(sheet, x + 6, y)
        case "still open":
            sheet.head(x + 8, y, "right", colour=SOFT)
        case _:
            _bar(sheet, x, x + 26, y, sample)
