"""One recording between the four lanes: its rows laid out, and drawn on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from h3ref.lifecycle import State
from h3ref.trace import LANES, Record

from .. import story
from ..story import Arrow, Line, Remark, Row
from .axis import Scale, spread, times_of
from .style import (
    BOX,
    CARD,
    DASHES,
    DOTS,
    FAINT,
    HEAD,
    INK,
    MARGIN,
    PATH_TINT,
    SMALL,
    SOFT,
    STATE_COLOURS,
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

LEADER = 40.0
"""Pixels between the axis of time and the rows, for the lines that lead from one to the other."""

_HANDLER, _CONNECTION = LANES.index("handler"), len(LANES) - 1
_RIGHT, _BESIDE, _NOTE_ROW, _WORDS_ROW = 50.0, 9.0, 17.0, 17.0
_LEAST_GAPS = (98.0, 140.0, 130.0)


class _Note(NamedTuple):
    """A line of small letters below an arrow."""

    text: str
    colour: str = SOFT
    weight: Weight = "Sans"


@dataclass
class Block:
    """A row with its words wrapped; `up` and `down` are the pixels it takes above and below its arrow's line."""

    row: Row
    words: list[list[str]]
    notes: list[_Note]
    time: float
    up: float
    down: float
    y: float = 0.0


class Panel:
    """One recording, laid out for the sheet."""

    def __init__(
        self, records: Sequence[Record], title: str, limit: int, most: tuple[float, float, float], *, states: bool
    ) -> None:
        self.title = shown(title)
        self.records = records
        self.rows = story.tell(records, limit=limit)
        self.start = records[0].time if records else 0.0
        self.gaps = self._gaps(most)
        self.states = states

    @property
    def span(self) -> float:
        """Seconds from the first row to the last."""
        return max((row.time for row in self.rows), default=0.0) - self.start

    @property
    def tags(self) -> float:
        return max(width_of(state, SMALL) for state in State) + 32 if self.states else 24.0

    @property
    def width(self) -> float:
        return self.tags + sum(self.gaps) + _RIGHT

    @property
    def depth(self) -> float:
        blocks = self.blocks
        return max(60.0, sum(block.up + block.down for block in blocks))

    @property
    def times(self) -> list[str]:
        """The time of each row, in words; one at least."""
        return times_of([row.time - self.start for row in self.rows] or [0.0])

    def _gaps(self, most: tuple[float, float, float]) -> list[float]:
        gaps = list(map(min, _LEAST_GAPS, most))
        for row in self.rows:
            for arrow in row.arrows if isinstance(row, Line) else ():
                gap = _gap_of(arrow)
                wide = width_of(shown(arrow.words)) + (38 if arrow.record.error or _is_own(arrow) else 26)
                if arrow.record.error:
                    wide = max(wide, width_of(shown(arrow.record.error), SMALL, "Sans-Bold") + 22)
                gaps[gap] = min(max(gaps[gap], wide), most[gap])
        return gaps

    @cached_property
    def blocks(self) -> list[Block]:
        """The rows with their words; what lasts from one step to the next stands in the middle between them."""
        blocks = [self._block(row) for row in self.rows]
        for block, after in pairwise(blocks):
            if isinstance(block.row, Remark) and block.row.text != story.CALLBACK:
                block.time = (block.time + after.time) / 2
        return blocks

    def _block(self, row: Row) -> Block:
        if not isinstance(row, Line):
            high = 15.0 if row.text == story.CALLBACK else 17.0
            return Block(row, [], [], row.time, high, high)
        words: list[list[str]] = []
        notes: list[_Note] = []
        for arrow in row.arrows:
            room = self.gaps[_gap_of(arrow)] - (24 if _is_own(arrow) else 20)
            words.append(wrap(shown(arrow.words), room))
            below = room + (0 if _is_own(arrow) else 4)
            notes += [_Note(line) for line in wrap(shown(arrow.note), below, SMALL)]
            if arrow.record.error:
                notes.append(_Note(cut(shown(arrow.record.error), below, SMALL, "Sans-Bold"), WRONG, "Sans-Bold"))
                notes += [_Note(line, WRONG) for line in wrap(shown(_rule(arrow)), below, SMALL)]
        if row.too_late:
            notes.append(_Note(story.TOO_LATE, WRONG, "Sans-Bold"))
        own = _is_own(row.arrows[0])
        lines = max(map(len, words))
        up = 14.0 + (lines - 1) * _WORDS_ROW / 2 if own else 8 + lines * _WORDS_ROW
        down = (13.0 + (lines - 1) * _WORDS_ROW / 2 if own else 8.0) + len(notes) * _NOTE_ROW
        if row.too_late:
            down = max(down, 46.0)
        return Block(row, words, notes, row.time, up, down)

    def draw(
        self, sheet: Sheet, x: float, top: float, depth: float, margin: float, scale: Scale | None, times: bool
    ) -> None:
        self.sheet = sheet
        self.left = x + margin
        if scale is None:
            depth = self.depth
        first = self.left + self.tags
        self.lanes = [first + sum(self.gaps[:lane]) for lane in range(len(LANES))]
        blocks = self.blocks
        spread(blocks, top, depth, scale, self.start)
        self._heads(x, top)
        self._lifelines(blocks, top, top + depth + 6)
        if not self.records:
            middle = (self.lanes[0] + self.lanes[-1]) / 2
            sheet.text(middle, top + 30, "nothing was recorded", colour=SOFT, align="center", ground=CARD)
        if self.states and self.records:
            self._states(blocks, top, top + depth + 6)
        if scale:
            self._axis(blocks, scale, words=x + margin < sheet.width / 2)
        elif times and margin:
            before = ""
            for block, text in zip(blocks, self.times, strict=False):
                if isinstance(block.row, Line) and text != before:
                    before = text
                    sheet.text(self.left - 10, block.y, text, size=SMALL, colour=SOFT, align="right")
        for block in blocks:
            if isinstance(block.row, Line):
                self._line(block, block.row)
            else:
                self._remark(block.row.text, block.y)

    def _heads(self, x: float, top: float) -> None:
        if self.title:
            room = self.lanes[-1] + 44 - x
            self.sheet.text(x, MARGIN + 8, cut(self.title, room, TITLE, "Sans-Bold"), size=TITLE, weight="Sans-Bold")
        for lane, name in zip(self.lanes, LANES, strict=True):
            width = width_of(name.title(), HEAD, "Sans-Bold") + 18
            self.sheet.box(lane - width / 2, top - 38, width, 26, fill=BOX, line=FAINT, radius=6)
            self.sheet.text(lane, top - 25, name.title(), size=HEAD, weight="Sans-Bold", align="center")

    def _lifelines(self, blocks: Sequence[Block], top: float, bottom: float) -> None:
        for number, lane in enumerate(self.lanes):
            if number != _HANDLER:
                self.sheet.line([(lane, top - 12), (lane, bottom)], colour=FAINT)
        y, absent = top - 12, False
        changes = [(block.y, block.row.absent) for block in blocks] + [(bottom, None)]
        for at, now_absent in changes:
            if now_absent is None or now_absent != absent:
                edge = at if now_absent is None or not now_absent else self._left_at(blocks, at)
                lane = self.lanes[_HANDLER]
                if absent:
                    self.sheet.line([(lane, y), (lane, edge)], colour=SOFT, thick=1.6, dash=DOTS)
                else:
                    self.sheet.line([(lane, y), (lane, edge)], colour=SOFT, thick=2)
                y, absent = edge, bool(now_absent)

    def _left_at(self, blocks: Sequence[Block], at: float) -> float:
        """Where the handler left: at the arrow before the first row without it."""
        y = max((block.y for block in blocks if block.y < at), default=at)
        lane = self.lanes[_HANDLER]
        self.sheet.line([(lane - 6, y + 5), (lane + 6, y + 5)], colour=SOFT, thick=2)
        return y + 5

    def _states(self, blocks: Sequence[Block], top: float, bottom: float) -> None:
        """The state beside the client's lane: its name where it begins, and a line as wide as it has come far."""
        changes: list[tuple[float, str]] = [(top, str(self.records[0].before))]
        for block in blocks:
            if isinstance(block.row, Line):
                after = block.row.arrows[-1].record.after
                if after != changes[-1][1]:
                    changes.append((block.y, after))
        ends = [y for y, _ in changes[1:]] + [bottom]
        x = self.left + self.tags - 26
        for (y, state), end in zip(changes, ends, strict=True):
            colour = STATE_COLOURS.get(State(state), INK) if state in set(State) else INK
            self.sheet.box(x, y, 5, end - y, fill=colour, radius=0)
            if end - y >= 12:
                self.sheet.text(x - 5, y + 7, state, size=SMALL, colour=INK, align="right")

    def _axis(self, blocks: Sequence[Block], scale: Scale, words: bool) -> None:
        x = self.left
        axis = x - LEADER
        self.sheet.line([(axis, scale.top), (axis, scale.top + scale.depth)], colour=SOFT)
        for seconds, text in scale.ticks():
            y = scale.y(seconds)
            self.sheet.line([(axis - 5, y), (axis, y)], colour=SOFT)
            if words:
                self.sheet.text(axis - 8, y, text, size=SMALL, colour=SOFT, align="right")
        for block in blocks:
            if isinstance(block.row, Line):
                y = scale.y(block.row.time - self.start)
                self.sheet.line(
                    [(axis, y), (axis + 6, y), (x - 14, block.y), (x - 8, block.y)], colour=FAINT, thick=0.9
                )

    def _line(self, block: Block, line: Line) -> None:
        for arrow, words in zip(line.arrows, block.words, strict=True):
            if _is_own(arrow):
                self._own(arrow, words, block.y)
            else:
                self._arrow(arrow, words, block.y)
        first = line.arrows[0]
        rightward = _is_rightward(first)
        start = self.lanes[LANES.index(first.record.who)]
        for number, note in enumerate(block.notes):
            self.sheet.text(
                start + (24 if _is_own(first) else 12) * (1 if rightward else -1),
                block.y + (20 if _is_own(first) else 14) + number * _NOTE_ROW,
                note.text,
                size=SMALL,
                weight=note.weight,
                colour=note.colour,
                align="left" if rightward else "right",
            )
        if line.too_late:
            for number, text in enumerate(story.ALREADY_EXITED):
                self.sheet.text(
                    self.lanes[_HANDLER], block.y - 2 + number * _NOTE_ROW, text,
                    size=SMALL, weight="Sans-Bold", colour=WRONG, align="center", ground=CARD,
                )  # fmt: skip

    def _arrow(self, arrow: Arrow, words: Sequence[str], y: float) -> None:
        record = arrow.record
        start, end = self.lanes[LANES.index(record.who)], self.lanes[LANES.index(record.to)]
        sign = 1 if end > start else -1
        wire = "client" in (record.who, record.to)
        colour = WRONG if record.error else WIRE if wire else INK
        thick = 2.0 if wire or record.error else 1.3
        if record.error:
            gap = self.gaps[_gap_of(arrow)]
            end = start + sign * min(gap - 26, max(width_of(text) for text in words) + 26)
            self.sheet.line([(start, y), (end - sign * 7, y)], colour=colour, thick=thick, dash=DASHES)
            self.sheet.cross(end, y)
        else:
            self.sheet.line([(start, y), (end - sign * 7, y)], colour=colour, thick=thick, order=3)
            self.sheet.head(end - sign, y, "right" if sign > 0 else "left", colour=colour)
        for number, text in enumerate(reversed(words)):
            self.sheet.text(
                start + sign * _BESIDE, y - 10 - number * _WORDS_ROW, text,
                colour=colour, align="left" if sign > 0 else "right",
            )  # fmt: skip

    def _own(self, arrow: Arrow, words: Sequence[str], y: float) -> None:
        """A step of one lane alone: a hook that comes back to it."""
        lane = LANES.index(arrow.record.who)
        sign = -1 if lane == _CONNECTION else 1
        x = self.lanes[lane]
        colour = WRONG if arrow.record.error else INK
        self.sheet.curve(
            [(x, y - 6), (x + sign * 15, y - 6), (x + sign * 15, y + 6), (x + sign * 6, y + 6)], colour=colour
        )
        self.sheet.head(x + sign, y + 6, "left" if sign > 0 else "right", colour=colour)
        if arrow.record.error:
            self.sheet.cross(x + sign * 15, y)
        middle = (len(words) - 1) / 2
        for number, text in enumerate(words):
            self.sheet.text(
                x + sign * 22, y + (number - middle) * _WORDS_ROW, text,
                colour=colour, align="left" if sign > 0 else "right",
            )  # fmt: skip

    def _remark(self, text: str, y: float) -> None:
        if text == story.CALLBACK:
            lane = self.lanes[_HANDLER]
            width = width_of(text, TEXT, "Sans-Bold") + 16
            self.sheet.box(lane - width / 2, y - 10, width, 21, fill=PATH_TINT, line=WIRE, radius=6, order=3)
            self.sheet.text(lane, y, text, weight="Sans-Bold", colour=WIRE, align="center")
            return
        hangs = text == story.HANGS
        low, high = self.lanes[0] + 10, self.lanes[-1] - 10
        self.sheet.box(
            low, y - 13, high - low, 26, fill=WRONG_TINT if hangs else CARD, line=WRONG if hangs else FAINT,
            dash=DASHES, order=4,
        )  # fmt: skip
        self.sheet.text(
            (low + high) / 2, y, cut(text, high - low - 16, TEXT, "Sans-Bold" if hangs else "Sans"),
            weight="Sans-Bold" if hangs else "Sans", colour=WRONG if hangs else SOFT, align="center",
        )  # fmt: skip


def _is_own(arrow: Arrow) -> bool:
    return arrow.record.who == arrow.record.to


def _is_rightward(arrow: Arrow) -> bool:
    who, to = LANES.index(arrow.record.who), LANES.index(arrow.record.to)
    return who < to or (who == to and who < _CONNECTION)


def _gap_of(arrow: Arrow) -> int:
    """The space between lanes that holds the words of an arrow: the one next to its start."""
    who = LANES.index(arrow.record.who)
    return who if _is_rightward(arrow) else who - 1


def _rule(arrow: Arrow) -> str:
    return f"rule {arrow.record.rule}{arrow.often}"
