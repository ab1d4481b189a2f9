"""Sequence diagrams: the seeds' four lanes, an arrow for each step, one or two recordings on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

from matplotlib.figure import Figure

from h3ref import trace
from h3ref.trace import Record

from ..story import Line, Row
from .axis import Scale
from .column import COLUMN, Column, between
from .panel import LEADER, Block, Panel
from .style import DASHES, DOTS, EDGE, MARGIN, SMALL, SOFT, WIRE, WRONG, Drawing, Sheet, plain, width_of
from .words import of_sequence

LIMIT = 44
"""The most rows that are drawn; more are told as left out."""

_BETWEEN, _APART, _SAMPLE = 36.0, 10.0, 19.0
_MOST_GAPS = (124.0, 180.0, 156.0)
_MOST_GAPS_OF_TWO = (112.0, 180.0, 156.0)


def sequence(
    recording: Sequence[Record], *, title: str = "", scale: bool = False, times: bool = True, limit: int = LIMIT
) -> Figure:
    """Draw the steps of one exchange between its four lanes.

    Args:
        recording: the records of one exchange.
        title: a heading; without one, the request.
        scale: place the steps to the scale of time, as near as they can be read.
        times: with an even spacing, begin each row with the milliseconds since the first record.
        limit: the most rows; when there are more, those of the middle are left out, and one row says how many.

    Raises:
        ValueError: the records are of several exchanges, or one is between lanes that don't exist.
    """
    with plain():
        panel = Panel(recording, title or _request_of(recording), limit, _MOST_GAPS, states=True)
        return _draw([panel], scale, times, of_sequence(recording, title))


def side_by_side(
    left: Sequence[Record],
    right: Sequence[Record],
    *,
    titles: tuple[str, str] = ("broken", "fixed"),
    scale: bool = False,
    times: bool = False,
    limit: int = LIMIT,
) -> Figure:
    """Draw the steps of two exchanges next to each other, in columns that a page has room for.

    The figure is a `Drawing`, whose parts are the two columns, for a page that may have room for one only. With a scale
    or times each has lanes as wide as in `sequence`, and there are no parts.

    Args:
        left, right: the records of one exchange each.
        titles: their headings.
        scale: place the steps to the scale of time, the same in both.
        times, limit: as in `sequence`.

    Raises:
        ValueError: as in `sequence`.
    """
    told = [of_sequence(records, title) for records, title in zip((left, right), titles, strict=True)]
    if not scale and not times:
        with plain():
            return _columns([Column(one, title, limit) for one, title in zip((left, right), titles, strict=True)], told)
    with plain():
        panels = [
            Panel(records, title, limit, _MOST_GAPS_OF_TWO, states=False)
            for records, title in zip((left, right), titles, strict=True)
        ]
        for panel in panels:
            panel.gaps = [max(gaps) for gaps in zip(*(other.gaps for other in panels), strict=True)]
        if not scale:
            _align(*(panel.blocks for panel in panels))
        return _draw(panels, scale, times, "; ".join(told))


def _columns(columns: Sequence[Column], told: Sequence[str]) -> Drawing:
    """Two columns on one sheet, and as its parts each on a sheet of its own, as high as the other."""
    _align(*(column.blocks for column in columns))
    head = max(column.head for column in columns)
    depth = max(column.depth for column in columns)
    legends = [_legend_of(column.rows) for column in columns]
    height = head + depth + 14 + max(len(legend) for legend in legends) * _SAMPLE + 8
    whole = Sheet(len(columns) * COLUMN + _APART, height, "; ".join(told))
    parts = []
    for number, (column, legend, words) in enumerate(zip(columns, legends, told, strict=True)):
        part = Sheet(COLUMN, height, words)
        for sheet, x in ((whole, number * (COLUMN + _APART)), (part, 0.0)):
            column.draw(sheet, x, depth)
            for place, sample in enumerate(legend):
                _draw_legend(sheet, [sample], head + depth + 20 + place * _SAMPLE, x + 14)
        parts.append(part.figure)
    between(whole, COLUMN + _APART / 2, height - 14)
    whole.figure.parts = tuple(parts)
    return whole.figure


def _align(left: Sequence[Block], right: Sequence[Block]) -> None:
    """Put the steps that both have on one height: the one that comes sooner gets more room above."""
    first, second = ([_key(block.row) for block in blocks] for blocks in (left, right))
    found = SequenceMatcher(a=first, b=second, autojunk=False)
    pairs = [(run.a + i, run.b + i) for run in found.get_matching_blocks() for i in range(run.size)]
    at = [0.0, 0.0]
    done = [0, 0]
    for pair in pairs:
        sides = (left, right)
        for side, place in enumerate(pair):
            at[side] += sum(block.up + block.down for block in sides[side][done[side] : place]) + sides[side][place].up
            done[side] = place + 1
        for side, place in enumerate(pair):
            sides[side][place].up += max(at) - at[side]
        at = [max(at) + sides[side][place].down for side, place in enumerate(pair)]


def _key(row: Row) -> str:
    return row.arrows[0].record.step if isinstance(row, Line) else row.text


def _request_of(records: Sequence[Record]) -> str:
    return next((record.detail or "" for record in records if record.step == trace.REQUEST.name), "")


def _draw(panels: Sequence[Panel], scale: bool, times: bool, words: str) -> Figure:
    margins = _margins(panels, scale, times)
    heading = 34.0 if any(panel.title for panel in panels) else 0.0
    top = MARGIN + heading + 44
    span = max(panel.span for panel in panels)
    depth = max(panel.depth for panel in panels)
    if scale and span:
        depth = max(depth * 1.25, min(depth * 1.8, depth + 260))
    widths = [margin + panel.width for margin, panel in zip(margins, panels, strict=True)]
    legend = _legend_of([row for panel in panels for row in panel.rows])
    width = 2 * MARGIN + sum(widths) + _BETWEEN * (len(panels) - 1)
    height = top + depth + 18 + (26 if legend else 0) + 12
    sheet = Sheet(width, height, words)
    x = MARGIN
    for panel, margin, panel_width in zip(panels, margins, widths, strict=True):
        panel.draw(sheet, x, top, depth, margin, Scale(top + 4, depth - 8, span) if scale and span else None, times)
        if x > MARGIN:
            sheet.line([(x - _BETWEEN / 2, MARGIN), (x - _BETWEEN / 2, top + depth + 8)], colour=EDGE)
        x += panel_width + _BETWEEN
    _draw_legend(sheet, legend, height - 26)
    return sheet.figure


def _margins(panels: Sequence[Panel], scale: bool, times: bool) -> list[float]:
    """The pixels for the time, left of each panel; on one scale only the first has the words."""
    times = times and any(len(set(panel.times)) > 1 for panel in panels)
    words = 14 + max(width_of(text, SMALL) for panel in panels for text in panel.times) if scale or times else 0.0
    if not scale:
        return [words] * len(panels)
    return [(words if panel is panels[0] else 20) + LEADER for panel in panels]


_Sample = Literal["absent", "wire", "rejected"]
_MEANS: dict[_Sample, str] = {
    "absent": "the handler has returned",
    "wire": "on the wire",
    "rejected": "rejected by the state machine",
}


def _legend_of(rows: Sequence[Row]) -> list[_Sample]:
    records = [arrow.record for row in rows if isinstance(row, Line) for arrow in row.arrows]
    found: list[_Sample] = []
    if any(row.absent for row in rows):
        found.append("absent")
    if any("client" in (record.who, record.to) for record in records):
        found.append("wire")
    if any(record.error for record in records):
        found.append("rejected")
    return found


def _draw_legend(sheet: Sheet, legend: Sequence[_Sample], y: float, x: float = MARGIN) -> None:
    for sample in legend:
        if sample == "absent":
            sheet.line([(x, y), (x + 26, y)], colour=SOFT, thick=1.6, dash=DOTS)
        elif sample == "wire":
            sheet.line([(x, y), (x + 20, y)], colour=WIRE, thick=2)
            sheet.head(x + 26, y, "right", colour=WIRE)
        else:
            sheet.line([(x, y), (x + 18, y)], colour=WRONG, thick=2, dash=DASHES)
            sheet.cross(x + 22, y, size=4)
        sheet.text(x + 33, y, _MEANS[sample], size=SMALL, colour=SOFT)
        x += 33 + width_of(_MEANS[sample], SMALL) + 26
