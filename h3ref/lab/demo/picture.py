"""A recorded exchange as SVG in a page's own colours, made without a drawing library: the demo needs the core only.

The rows are those of `story`, as in every diagram. The words stand above their arrows, so that it fits a phone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from h3ref.trace import LANES, Record

from .. import story

WIDTH = 324
"""Pixels that it is meant to be wide, where its text is as large as the page's small print."""

_LANES = dict(zip(LANES, (26, 106, 190, 282), strict=True))
_SIGN, _BOLD = 7.3, 8.3
"""The most pixels that a letter of a line takes on average."""

_TOP, _LINE, _ARROW = 34, 17, 15


def picture(records: Sequence[Record], *, more: int = 0) -> str:
    """Return an `<svg>` that stands in a page; its colours are the page's variables.

    Args:
        records: of one exchange.
        more: how many events followed that are not among them.
    """
    parts: list[str] = []
    y, begin = _TOP, records[0].time if records else 0.0
    rows = story.tell(records)
    last = max((place for place, row in enumerate(rows) if _is_event(row)), default=-1)
    for place, row in enumerate(rows):
        if isinstance(row, story.Line):
            y = _line(parts, row, y, (row.time - begin) * 1000)
        elif row.text != story.CALLBACK:
            parts.append(_text(row.text.strip("[]"), 8, y + 13, "bad"))
            y += _LINE + 6
        if place == last and more:
            parts.append(_text(f"… and {more} more event{'' if more == 1 else 's'}", 8, y + 13, "faint"))
            y += _LINE + 6
    height = y + 8
    lanes = "".join(f'<line x1="{x}" y1="26" x2="{x}" y2="{height}" class="lane"/>' for x in _LANES.values())
    heads = "".join(
        f'<text x="{x}" y="16" text-anchor="middle" class="head">{name.title()}</text>' for name, x in _LANES.items()
    )
    told = escape("; ".join(_told(rows)), {'"': "&quot;"})
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{told}">'
        f"{heads}{lanes}{''.join(parts)}</svg>"
    )


def _is_event(row: story.Row) -> bool:
    return isinstance(row, story.Line) and row.arrows[-1].record.step == "event"


def _told(rows: Sequence[story.Row]) -> Iterator[str]:
    """What it shows, in words."""
    for row in rows:
        if isinstance(row, story.Line):
            first = row.arrows[0]
            rejected = f" rejected, rule {first.record.rule}{first.often}" if first.record.error else ""
            yield f"{first.words}{rejected}{' ' + story.TOO_LATE if row.too_late else ''}"
        else:
            yield row.text.strip("[]")


def _line(parts: list[str], row: story.Line, y: int, ms: float) -> int:
    """Add a row; return where the next one begins."""
    first = row.arrows[0]
    left = min(_LANES[lane] for arrow in row.arrows for lane in (arrow.record.who, arrow.record.to)) + 5
    words = f"{first.words} {story.TOO_LATE}" if row.too_late else first.words
    kind = "bad" if row.too_late or first.record.error else "good" if _is_event(row) else ""
    sign = _BOLD if kind == "bad" else _SIGN
    told = [words]
    if first.record.error:
        told = [f"{words} ✗", f"{first.record.error},", f"rule {first.record.rule}{first.often}"]
    lines = [line for text in told for line in textwrap.wrap(text, int((WIDTH - 60) / sign))]
    for number, line in enumerate(lines):
        time = f'<tspan class="faint"> {ms:.1f}</tspan>' if number == len(lines) - 1 else ""
        wide = len(f"{line} {ms:.1f}" if time else line) * sign
        x = max(4.0, min(left, WIDTH - 4 - wide))
        parts.append(_text(line, x, y + 13, kind, time))
        y += _LINE
    y += 6
    for arrow in row.arrows:
        parts.append(_arrow(arrow, y, kind))
    return y + _ARROW


def _arrow(arrow: story.Arrow, y: int, kind: str) -> str:
    start, end = _LANES[arrow.record.who], _LANES[arrow.record.to]
    shape = f'class="arrow {kind}"'
    if start == end:
        return f'<rect x="{start - 4}" y="{y - 4}" width="8" height="8" {shape}/>'
    toward = 1 if start < end else -1
    if arrow.record.error:
        end = (start + end) // 2
        cross = f"M{end - 5} {y - 5}l10 10m0 -10l-10 10"
        return f'<path d="M{start} {y}H{end}{cross}" {shape}/>'
    return f'<path d="M{start} {y}H{end}m{-6 * toward} -4l{6 * toward} 4l{-6 * toward} 4" {shape}/>'


def _text(words: str, x: float, y: float, kind: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}{more}</text>'
