"""The state machine, drawn from the lifecycle's table, with one state below the other, so that it fits a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from matplotlib.figure import Figure

from h3ref.errors import LifecycleError
from h3ref.lifecycle import TABLE, TRIGGERS, Lifecycle, State
from h3ref.trace import Record

from .marks import Marks
from .style import (
    BOX,
    CARD,
    FAINT,
    HEAD,
    INK,
    MARGIN,
    PATH,
    PATH_TINT,
    SMALL,
    SOFT,
    STATE_COLOURS,
    TEXT,
    TITLE,
    WRONG,
    Sheet,
    badge_width,
    cut,
    plain,
    shown,
    width_of,
)
from .words import of_machine

LIMIT = 8
"""The most rejections that are listed at a state; more are counted."""

_WIDE, _HIGH, _APART = 112.0, 48.0, 46.0
_EDGE, _LOOP, _STUB = 10.0, 32.0, 18.0
_ROW = 17.0
_EVERYWHERE = ("from every", "state")
_STAYS = "(first reason stays)"
_TAKEN, _REJECTED = "the path taken, step by step", "rejected in this state, with its rule"
_MOST_RIGHT = 230.0

Align = Literal["left", "center", "right"]


def machine(
    subject: Lifecycle | Sequence[Record] | None = None,
    *,
    rejected: Iterable[LifecycleError] = (),
    title: str = "",
) -> Figure:
    """Draw the state machine.

    Args:
        subject: a lifecycle, whose state is marked; or the records of one exchange: the path that it took is numbered,
            and each trigger that was rejected stands at its state; or None for the machine alone.
        rejected: more rejections to mark, as they were raised.
        title: a heading.

    Raises:
        ValueError: the records are of several exchanges, or name a state that does not exist.
    """
    marks = Marks.of(subject, rejected)
    with plain():
        return _Drawing(marks, shown(title)).figure


class _Drawing:
    """The sheet with its five boxes, one below the other, and all that goes from one to another.

    Left of the boxes is what only one of them has, a plain answer and the loops; right of them what was rejected, and
    the one line to the end from everywhere.
    """

    def __init__(self, marks: Marks, title: str) -> None:
        self.marks = marks
        self.common = [name for name in TRIGGERS if all(TABLE[state, name].outcome is State.CLOSED for state in State)]
        self.answers = {
            state: [name for name in TRIGGERS if name not in self.common and self._leads(state, name, State.CLOSED)]
            for state in list(State)[:-1]
        }
        self.x = _EDGE + self._left_side() + _WIDE / 2
        self.end_x = self.x + _WIDE / 2 + self._right_side()
        told = max(width_of(text) for text in [*self.common, *_EVERYWHERE])
        last = max(self._label_width(State.CLOSED, name) for name in self._loops_of(State.CLOSED))
        legend = [text for text, wanted in ((_TAKEN, marks.steps), (_REJECTED, marks.rejected)) if wanted]
        width = max(self.end_x + 8 + told, self.x + 28 + max(last, width_of(_STAYS)))
        width = max([width, *(_EDGE + 40 + width_of(text, SMALL) for text in legend)]) + _EDGE
        y = (34.0 if title else 0.0) + 50
        self.tops: dict[State, float] = {}
        for state in State:
            self.tops[state] = y
            y += _HIGH + self._below(state)
        self.sheet = Sheet(width, y + _ROW * len(legend) + (8 if legend else 0), of_machine(marks, title))
        if title:
            room = width - 2 * MARGIN
            self.sheet.text(MARGIN, 26, cut(title, room, TITLE, "Sans-Bold"), size=TITLE, weight="Sans-Bold")
        self._begin()
        self._forward()
        self._loops()
        self._ends()
        for state in State:
            self._state(state)
            self._rejections(state)
        for number, text in enumerate(legend):
            self._legend(y + number * _ROW, text)
        self.figure = self.sheet.figure

    @staticmethod
    def _leads(state: State, trigger: str, to: State) -> bool:
        return TABLE[state, trigger].outcome is to

    def _loops_of(self, state: State) -> list[str]:
        return [name for name in TRIGGERS if self._leads(state, name, state)]

    def _left_side(self) -> float:
        """Pixels left of the boxes: for the loops, and for a plain answer and its line."""
        loops = [self._label_width(state, name) for state in list(State)[:-1] for name in self._loops_of(state)]
        answers = [self._label_width(state, name) for state, names in self.answers.items() for name in names]
        forward = [self._label_width(before, name) - _WIDE / 2 for before, _, name in self._ways()]
        return max(max(loops) + _LOOP + 10, max(answers) + 8, max(forward) + 26)

    def _right_side(self) -> float:
        """Pixels from the boxes to the line of all ends: for what was rejected, and for the end that was taken."""
        taken = [
            self._label_width(state, name) + 20
            for state in list(State)[:-1]
            for name in self.common
            if self.marks.numbers(state, name)
        ]
        listed = [
            max(width_of(name, SMALL, "Sans-Bold") + 16, width_of(error, SMALL)) + 26 - _WIDE / 2
            for state in self.marks.rejected
            for name, error in self._told(state)
        ]
        return min(max([_STUB, *taken, *listed]), _MOST_RIGHT)

    def _below(self, state: State) -> float:
        """Pixels below a box: its mark, what it rejected, and the arrow to the next; at the last one its loops."""
        found = self.marks.rejected.get(state, [])
        listed = min(len(found), LIMIT) * (2 * _ROW + 6) + (_ROW if len(found) > LIMIT else 0)
        mark = 24.0 if state is self.marks.current else 0.0
        if state is State.CLOSED:
            return 26 + _ROW * (len(self._loops_of(state)) + 1) + max(mark, 0) + (listed + 12 if listed else 0)
        return max(_APART + mark, listed + 24)

    def _told(self, state: State) -> list[tuple[str, str]]:
        found = self.marks.rejected.get(state, [])
        return [(shown(one.name), shown(f"{one.error} · {one.rule}")) for one in found[:LIMIT]]

    def _look(self, *edges: tuple[State, str]) -> tuple[str, float]:
        """Colour and thickness of a line: those of the path where one of these edges was taken."""
        taken = any(self.marks.numbers(*edge) for edge in edges)
        return (PATH, 2.6) if taken else (SOFT, 1.2)

    def _words(self, state: State, trigger: str) -> str:
        times = self.marks.times(state, trigger)
        return f"{trigger} ×{times}" if times > 1 else trigger

    def _label_width(self, state: State, trigger: str) -> float:
        numbers = self.marks.numbers(state, trigger)
        if not numbers:
            return width_of(self._words(state, trigger))
        return badge_width(numbers) + 5 + width_of(self._words(state, trigger), TEXT, "Sans-Bold")

    def _label(self, state: State, trigger: str, x: float, y: float, align: Align) -> None:
        """A trigger's name, with the number that it has in the path before it."""
        numbers = self.marks.numbers(state, trigger)
        words = self._words(state, trigger)
        if not numbers:
            self.sheet.text(x, y, words, align=align)
            return
        badge = badge_width(numbers)
        left = x if align == "left" else x - self._label_width(state, trigger)
        self.sheet.badge(left + badge / 2, y, numbers)
        self.sheet.text(left + badge + 5, y, words, weight="Sans-Bold", colour=PATH)

    def _state(self, state: State) -> None:
        marks, x, top = self.marks, self.x, self.tops[state]
        visited = any(state in (before, TABLE[before, trigger].outcome) for before, trigger, _ in marks.steps)
        current = state is marks.current
        left = x - _WIDE / 2
        if current:
            self.sheet.box(left - 5, top - 5, _WIDE + 10, _HIGH + 10, line=PATH, thick=2.2, radius=12, order=3)
        self.sheet.box(
            left, top, _WIDE, _HIGH, fill=PATH_TINT if current or visited else BOX,
            line=PATH if current or visited else FAINT, thick=2 if current or visited else 1.4, radius=8, order=3,
        )  # fmt: skip
        self.sheet.box(left + 10, top + _HIGH - 9, _WIDE - 20, 4, fill=STATE_COLOURS[state], radius=2, order=4)
        reason = marks.reason if state is State.CLOSED and marks.reason else ""
        y = top + _HIGH / 2 - 4
        self.sheet.text(x, y - (8 if reason else 0), state, size=HEAD, weight="Sans-Bold", align="center")
        if reason:
            self.sheet.text(x, y + 8, cut(reason, _WIDE - 8, SMALL), size=SMALL, colour=SOFT, align="center")
        if current:
            wide = width_of(marks.tag, SMALL, "Sans-Bold") + 16
            y = top + _HIGH + 18
            self.sheet.box(x - 16 - wide, y - 10, wide, 20, fill=PATH, radius=10, order=4)
            self.sheet.text(
                x - 16 - wide / 2, y, marks.tag, size=SMALL, weight="Sans-Bold", colour=CARD, align="center"
            )

    def _begin(self) -> None:
        top = self.tops[State.REQUESTED]
        self.sheet.line([(self.x, top - 30), (self.x, top - 10)], colour=INK)
        self.sheet.head(self.x, top - 6, "down")
        self.sheet.box(self.x - 5, top - 38, 10, 10, fill=INK, radius=5, order=4)
        self.sheet.text(self.x + 13, top - 31, "request", size=SMALL, colour=SOFT)

    def _ways(self) -> list[tuple[State, State, str]]:
        """The way to a stream: from each state to the next, by which trigger."""
        return [
            (before, after, name)
            for before, after in zip(State, list(State)[1:], strict=False)
            for name in TRIGGERS
            if self._leads(before, name, after) and after is not State.CLOSED
        ]

    def _forward(self) -> None:
        for before, after, trigger in self._ways():
            colour, thick = self._look((before, trigger))
            start, end = self.tops[before] + _HIGH, self.tops[after]
            self.sheet.line([(self.x, start + 1), (self.x, end - 13)], colour=colour, thick=thick)
            self.sheet.head(self.x, end - 6, "down", colour=colour, size=10 if thick > 2 else 8)
            self._label(before, trigger, self.x - 12, end - 25, "right")

    def _loops(self) -> None:
        """What leaves a state as it is: a loop on its left side; at the last state below it."""
        for state in State:
            triggers = self._loops_of(state)
            if not triggers:
                continue
            colour, thick = self._look(*((state, name) for name in triggers))
            if state is State.CLOSED:
                x, y = self.x, self.tops[state] + _HIGH
                self.sheet.curve(
                    [(x - 8, y), (x - 8, y + 24), (x + 14, y + 24), (x + 14, y + 14)], colour=colour, thick=thick
                )
                self.sheet.head(x + 14, y + 7, "up", colour=colour)
                for number, trigger in enumerate(triggers):
                    self._label(state, trigger, x + 28, y + 18 + number * _ROW, "left")
                self.sheet.text(x + 28, y + 18 + len(triggers) * _ROW, _STAYS, size=SMALL, colour=SOFT)
                continue
            x, y = self.x - _WIDE / 2, self.tops[state] + _HIGH / 2
            self.sheet.curve(
                [(x, y - 10), (x - 24, y - 10), (x - 24, y + 10), (x - 13, y + 10)], colour=colour, thick=thick
            )
            self.sheet.head(x - 7, y + 10, "right", colour=colour)
            first = y - (len(triggers) - 1) * 19 / 2
            for number, trigger in enumerate(triggers):
                self._label(state, trigger, x - _LOOP, first + number * 19, "right")

    def _ends(self) -> None:
        """What closes from everywhere goes down one line on the right; a plain answer one on the left."""
        target = self.tops[State.CLOSED] + _HIGH / 2
        for state in list(State)[:-1]:
            y = self.tops[state] + _HIGH / 2
            for name in self._end(state, self.common, 1, y, self.end_x, target):
                self._label(state, name, self.x + _WIDE / 2 + 10, y - 13, "left")
            for name in self.answers[state]:
                self._end(state, [name], -1, y, _EDGE, target)
                self._label(state, name, self.x - _WIDE / 2 - 8, y - 13, "right")
        y = (self.tops[State.REQUESTED] + self.tops[State.SSE_STARTED] + _HIGH) / 2
        for number, text in enumerate([*self.common, *_EVERYWHERE]):
            colour = INK if text in self.common else SOFT
            self.sheet.text(self.end_x + 8, y + (number - 2) * _ROW, text, colour=colour)

    def _end(self, state: State, triggers: Sequence[str], side: int, y: float, x: float, target: float) -> list[str]:
        """Draw the line of one state's ends, out of its side and down to the last one; return those that were taken."""
        colour, thick = self._look(*((state, name) for name in triggers))
        taken = [name for name in triggers if self.marks.numbers(state, name)]
        edge = self.x + side * _WIDE / 2
        points = [(edge, y), (x, y), (x, target), (edge + side * 14, target)]
        if taken or state is State.REQUESTED:
            self.sheet.curve(points, colour=colour, thick=thick, order=2.5 if taken else 2)
            direction: Literal["left", "right"] = "left" if side > 0 else "right"
            self.sheet.head(edge + side * 7, target, direction, colour=colour, size=10 if taken else 8)
        else:
            self.sheet.line(points[:2], colour=colour, thick=thick, order=1.5)
        return taken

    def _rejections(self, state: State) -> None:
        found = self.marks.rejected.get(state, [])
        if not found:
            return
        room = self.end_x - self.x - 22
        y = self.tops[state] + _HIGH
        if state is State.CLOSED:
            y += 26 + _ROW * (len(self._loops_of(state)) + 1)
        left = self.x + 14
        y += 20
        for name, error in self._told(state):
            self.sheet.cross(left + 4, y, size=4, thick=2.2)
            self.sheet.text(
                left + 15, y, cut(name, room - 15, SMALL, "Sans-Bold"), size=SMALL, weight="Sans-Bold", colour=WRONG
            )
            self.sheet.text(left, y + _ROW, cut(error, room, SMALL), size=SMALL, colour=WRONG)
            y += 2 * _ROW + 6
        if len(found) > LIMIT:
            self.sheet.text(left, y, f"… and {len(found) - LIMIT} more", size=SMALL, colour=SOFT)

    def _legend(self, y: float, text: str) -> None:
        if text == _TAKEN:
            self.sheet.line([(_EDGE + 4, y), (_EDGE + 30, y)], colour=PATH, thick=2.6)
            self.sheet.badge(_EDGE + 17, y, "1")
        else:
            self.sheet.cross(_EDGE + 17, y, size=4, thick=2.2)
        self.sheet.text(_EDGE + 40, y, text, size=SMALL, colour=SOFT)
