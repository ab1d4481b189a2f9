"""One recording as a narrow column, for a phone or beside another: four thin lanes, with the words on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from h3ref.trace import LANES, Record

from .. import story
from ..story import Arrow, Line, Row
from .panel import Block
from .style import (
    CARD,
    DASHES,
    DOTS,
    EDGE,
    FAINT,
    INK,
    PATH_TINT,
    SMALL,
    SOFT,
    TEXT,
    TITLE,
    WIRE,
    WRONG,
    WRONG_TINT,
    Sheet,
    Weight,
    cut,
    shown,
    width_of,
    wrap,
)

COLUMN = 340.0
"""How many pixels wide a column is: what a telephone has, and half of what a page has."""

_HANDLER, _CONNECTION = LANES.index("handler"), len(LANES) - 1
_MARGIN, _FIRST, _APART, _BESIDE = 12.0, 24.0, 30.0, 20.0
_NAME, _ROW = 19.0, 17.0
_WORDS = _FIRST + _APART * _CONNECTION + _BESIDE
_ROOM = COLUMN - _WORDS - _MARGIN


class Said(NamedTuple):
    """A line of words beside the lanes."""

    text: str
    colour: str = INK
    weight: Weight = "Sans"


class Column:
    """One recording, laid out for a sheet."""

    def __init__(self, records: Sequence[Record], title: str, limit: int) -> None:
        self.records = records
        self.title = shown(title)
        self.rows = story.tell(records, limit=limit)
        self.said = [_said(row) for row in self.rows]
        self.blocks = [_block(row, said) for row, said in zip(self.rows, self.said, strict=True)]

    @property
    def head(self) -> float:
        """Pixels above the first row."""
        return 12 + (28 if self.title else 0) + _NAME * len(LANES) + 8

    @property
    def depth(self) -> float:
        """Pixels that the rows take."""
        return max(40.0, sum(block.up + block.down for block in self.blocks))

    def draw(self, sheet: Sheet, x: float, depth: float) -> None:
        """Draw it with its left side at x, to the given depth in pixels, below its title and its lanes' names."""
        self.sheet = sheet
        self.x = x
        self.lanes = [x + _FIRST + _APART * lane for lane in range(len(LANES))]
        if self.title:
            room = COLUMN - 2 * _MARGIN
            sheet.text(x + _MARGIN, 24, cut(self.title, room, TITLE, "Sans-Bold"), size=TITLE, weight="Sans-Bold")
        y = self.head
        for block in self.blocks:
            block.y = y + block.up
            y = block.y + block.down
        self._lifelines(self.head + depth)
        if not self.records:
            sheet.text(x + _WORDS, self.head + 14, "nothing was recorded", colour=SOFT)
        for block, said in zip(self.blocks, self.said, strict=True):
            if isinstance(block.row, Line):
                self._line(block.row, said, block.y)
            else:
                self._remark(block.row.text, said, block.y)

    def _lifelines(self, bottom: float) -> None:
        """A name for each lane, a step lower than the one before, and its line, dotted while nobody is there."""
        first = self.head - _NAME * len(LANES) - 2
        for number, (lane, name) in enumerate(zip(self.lanes, LANES, strict=True)):
            y = first + _NAME * (number + 0.5)
            self.sheet.text(lane - 8, y, name.title(), weight="Sans-Bold")
            if number != _HANDLER:
                self.sheet.line([(lane, y + 10), (lane, bottom)], colour=FAINT, thick=1.4)
        lane, y, absent = self.lanes[_HANDLER], first + _NAME * 1.5 + 10, False
        for block in [*self.blocks, None]:
            if block is None or block.row.absent != absent:
                end = bottom if block is None else block.y - block.up if block.row.absent else block.y
                look = {"thick": 1.8, "dash": DOTS} if absent else {"thick": 2.4}
                self.sheet.line([(lane, y), (lane, end)], colour=SOFT, **look)
                if block is not None and block.row.absent:
                    self.sheet.line([(lane - 6, end), (lane + 6, end)], colour=SOFT, thick=2.4)
                y, absent = end, block is not None and block.row.absent

    def _line(self, line: Line, said: Sequence[Said], y: float) -> None:
        for arrow in line.arrows:
            if arrow.record.who == arrow.record.to:
                self._own(arrow, y)
            else:
                self._arrow(arrow, y)
        self._words(said, y)

    def _words(self, said: Sequence[Said], y: float) -> None:
        for number, one in enumerate(said):
            self.sheet.text(
                self.x + _WORDS, y + number * _ROW, one.text, colour=one.colour, weight=one.weight, size=TEXT
            )

    def _arrow(self, arrow: Arrow, y: float) -> None:
        start, end = (self.lanes[LANES.index(lane)] for lane in (arrow.record.who, arrow.record.to))
        sign = 1 if end > start else -1
        colour, thick = _look(arrow)
        if arrow.record.error:
            end = start + sign * (_APART - 9)
            self.sheet.line([(start, y), (end - sign * 6, y)], colour=colour, thick=thick, dash=DASHES)
            self.sheet.cross(end, y, size=4.5)
            return
        self.sheet.line([(start, y), (end - sign * 7, y)], colour=colour, thick=thick, order=3)
        self.sheet.head(end - sign, y, "right" if sign > 0 else "left", colour=colour)

    def _own(self, arrow: Arrow, y: float) -> None:
        """A step of one lane alone: a hook that comes back to it."""
        x = self.lanes[LANES.index(arrow.record.who)]
        colour, _ = _look(arrow)
        self.sheet.curve([(x, y - 5), (x + 13, y - 5), (x + 13, y + 5), (x + 7, y + 5)], colour=colour, thick=1.4)
        self.sheet.head(x + 1, y + 5, "left", colour=colour)
        if arrow.record.error:
            self.sheet.cross(x + 13, y, size=4)

    def _remark(self, text: str, said: Sequence[Said], y: float) -> None:
        if text == story.CALLBACK:
            self.sheet.box(
                self.x + _WORDS - 6, y - 11, width_of(text, TEXT, "Sans-Bold") + 12, 22, fill=PATH_TINT, line=WIRE
            )
        else:
            hangs = text == story.HANGS
            self.sheet.box(
                self.x + _MARGIN, y - 14, COLUMN - 2 * _MARGIN, len(said) * _ROW + 11,
                fill=WRONG_TINT if hangs else CARD, line=WRONG if hangs else FAINT, dash=DASHES, order=4,
            )  # fmt: skip
            for number, one in enumerate(said):
                self.sheet.text(
                    self.x + COLUMN / 2,
                    y + number * _ROW,
                    one.text,
                    colour=one.colour,
                    weight=one.weight,
                    align="center",
                )
            return
        self._words(said, y)


def _said(row: Row) -> list[Said]:
    if not isinstance(row, Line):
        hangs = row.text == story.HANGS
        weight: Weight = "Sans" if not hangs and row.text != story.CALLBACK else "Sans-Bold"
        colour = WRONG if hangs else WIRE if row.text == story.CALLBACK else SOFT
        return [Said(text, colour, weight) for text in wrap(shown(row.text), COLUMN - 2 * _MARGIN - 16, TEXT, weight)]
    found: list[Said] = []
    colour, _ = _look(row.arrows[0])
    words = ", ".join(arrow.words for arrow in row.arrows)
    found += [Said(text, colour) for text in wrap(shown(words), _ROOM)]
    for arrow in row.arrows:
        found += [Said(text, SOFT) for text in wrap(shown(arrow.note), _ROOM, SMALL)]
        if arrow.record.error:
            found.append(Said(cut(shown(arrow.record.error), _ROOM, SMALL, "Sans-Bold"), WRONG, "Sans-Bold"))
            found += [Said(text, WRONG) for text in wrap(shown(f"rule {arrow.record.rule}{arrow.often}"), _ROOM, SMALL)]
    if row.too_late:
        told = f"{story.TOO_LATE} {' '.join(story.ALREADY_EXITED)}"
        found += [Said(text, WRONG, "Sans-Bold") for text in wrap(told, _ROOM, SMALL, "Sans-Bold")]
    return found


def _block(row: Row, said: Sequence[Said]) -> Block:
    more = (len(said) - 1) * _ROW
    if isinstance(row, Line) or row.text == story.CALLBACK:
        return Block(row, [], [], row.time, 13.0, 11.0 + more)
    return Block(row, [], [], row.time, 18.0, 16.0 + more)


def _look(arrow: Arrow) -> tuple[str, float]:
    """Colour and thickness of an arrow."""
    if arrow.record.error:
        return WRONG, 2.0
    return (WIRE, 2.2) if "client" in (arrow.record.who, arrow.record.to) else (INK, 1.5)


def between(sheet: Sheet, x: float, depth: float) -> None:
    """The line between two columns of one sheet."""
    sheet.line([(x, 14), (x, depth)], colour=EDGE)
