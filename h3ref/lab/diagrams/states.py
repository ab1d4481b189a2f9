"""The state machine, drawn from the lifecycle's table: what is legal above the states, what was rejected below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from matplotlib.figure import Figure

from h3ref.errors import LifecycleError
from h3ref.lifecycle import TABLE, TRIGGERS, Lifecycle, State
from h3ref.trace import Record

from .marks import Marks, Rejection
from .style import (
    CARD,
    DASHES,
    FAINT,
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
    Weight,
    badge_width,
    cut,
    plain,
    shown,
    width_of,
)
from .words import of_machine

LIMIT = 8
"""The most rejections that are listed at a state; more are counted."""

_WIDE, _HIGH, _APART, _LAST_APART = 114.0, 58.0, 104.0, 64.0
_LEFT, _RIGHT = 84.0, 110.0
_ROW = 16.0
_EXIT, _LOOP = -34.0, 28.0  # where they leave the upper side of a box, from its middle

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
    """The sheet with its five boxes, and all that goes from one to another."""

    def __init__(self, marks: Marks, title: str) -> None:
        self.marks = marks
        heading = 34.0 if title else 0.0
        listed = max((min(len(found), LIMIT + 1) for found in marks.rejected.values()), default=0)
        self.answer_y = heading + 40.0  # the line of a plain answer, then that of the ends that all states have
        self.end_y = self.answer_y + 38
        self.top = self.end_y + 82
        self.middle = self.top + _HIGH / 2
        below = 36.0 if marks.current is not None else 14.0
        depth = below + (listed * 2 * _ROW + listed * 6 + 12 if listed else 0)
        self.below = self.top + _HIGH + below
        self.last_apart = max(_LAST_APART, self._widest_loop(State.STREAMING) - 58)
        width = self._x(State.CLOSED) + _WIDE / 2 + max(_RIGHT, self._widest_loop(State.CLOSED) + 52)
        legend = bool(marks.steps or marks.rejected)
        height = self.top + _HIGH + depth + (38 if legend else 12)
        self.sheet = Sheet(width, height, of_machine(marks, title))
        if title:
            self.sheet.text(22, 30, cut(title, width - 44, TITLE, "Sans-Bold"), size=TITLE, weight="Sans-Bold")
        self._forward()
        self._loops()
        self._ends()
        for state in State:
            self._state(state)
            self._rejections(state)
        self._begin()
        if legend:
            self._legend(height - 24)
        self.figure = self.sheet.figure

    def _x(self, state: State) -> float:
        """The middle of its box."""
        x = _LEFT + _WIDE / 2 + list(State).index(state) * (_WIDE + _APART)
        return x - (_APART - self.last_apart) if state is State.CLOSED else x

    def _widest_loop(self, state: State) -> float:
        return max(self._label_width(state, name) for name in TRIGGERS if TABLE[state, name].outcome is state)

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

    def _label(
        self,
        state: State,
        trigger: str,
        x: float,
        y: float,
        align: Align = "center",
        *,
        on_line: tuple[float, float] | None = None,
    ) -> None:
        """A trigger's name, with the number that it has in the path before it, or on the line."""
        numbers = self.marks.numbers(state, trigger)
        words = self._words(state, trigger)
        weight: Weight = "Sans-Bold" if numbers else "Sans"
        colour = PATH if numbers else INK
        if not numbers:
            self.sheet.text(x, y, words, colour=colour, align=align)
            return
        if on_line:
            self.sheet.badge(*on_line, numbers)
            self.sheet.text(x, y, words, weight=weight, colour=colour, align=align)
            return
        badge = badge_width(numbers)
        left = x if align == "left" else x - self._label_width(state, trigger)
        self.sheet.badge(left + badge / 2, y, numbers)
        self.sheet.text(left + badge + 5, y, words, weight=weight, colour=colour)

    def _state(self, state: State) -> None:
        marks, x = self.marks, self._x(state)
        visited = any(state in (before, TABLE[before, trigger].outcome) for before, trigger, _ in marks.steps)
        current = state is marks.current
        left = x - _WIDE / 2
        if current:
            self.sheet.box(left - 5, self.top - 5, _WIDE + 10, _HIGH + 10, line=PATH, thick=2.2, radius=12, order=3)
        self.sheet.box(
            left, self.top, _WIDE, _HIGH, fill=PATH_TINT if current or visited else "#f6f8fa",
            line=PATH if current or visited else FAINT, thick=2 if current or visited else 1.4, radius=8, order=3,
        )  # fmt: skip
        self.sheet.box(left + 10, self.top + _HIGH - 11, _WIDE - 20, 4, fill=STATE_COLOURS[state], radius=2, order=4)
        reason = marks.reason if state is State.CLOSED and marks.reason else ""
        self.sheet.text(x, self.middle - (11 if reason else 4), state, size=13, weight="Sans-Bold", align="center")
        if reason:
            self.sheet.text(x, self.middle + 6, reason, size=SMALL, colour=SOFT, align="center")
        if current:
            wide = width_of(marks.tag, SMALL, "Sans-Bold") + 16
            y = self.top + _HIGH + 19
            self.sheet.box(x - wide / 2, y - 9, wide, 18, fill=PATH, radius=9, order=4)
            self.sheet.text(x, y, marks.tag, size=SMALL, weight="Sans-Bold", colour=CARD, align="center")

    def _begin(self) -> None:
        left = self._x(State.REQUESTED) - _WIDE / 2
        self.sheet.line([(left - 48, self.middle), (left - 10, self.middle)], colour=INK)
        self.sheet.head(left - 7, self.middle, "right")
        self.sheet.box(left - 56, self.middle - 5, 10, 10, fill=INK, radius=5, order=4)
        self.sheet.text(left - 51, self.middle + 17, "request", size=SMALL, colour=SOFT, align="center")

    def _forward(self) -> None:
        """The way to a stream: from each state to the next."""
        for before, after in zip(State, list(State)[1:], strict=False):
            triggers = [name for name in TRIGGERS if TABLE[before, name].outcome is after and after is not State.CLOSED]
            for number, trigger in enumerate(triggers):
                colour, thick = self._look((before, trigger))
                start, end = self._x(before) + _WIDE / 2, self._x(after) - _WIDE / 2
                self.sheet.line([(start + 1, self.middle), (end - 13, self.middle)], colour=colour, thick=thick)
                self.sheet.head(end - 7, self.middle, "right", colour=colour, size=10 if thick > 2 else 8)
                middle = (start + end) / 2
                self._label(
                    before, trigger, middle, self.middle - 17 - number * _ROW, on_line=(middle - 4, self.middle)
                )

    def _loops(self) -> None:
        """What leaves a state as it is: a loop on its upper side; at the last state on its right."""
        for state in State:
            triggers = [name for name in TRIGGERS if TABLE[state, name].outcome is state]
            if not triggers:
                continue
            colour, thick = self._look(*((state, name) for name in triggers))
            if state is State.CLOSED:
                x = self._x(state) + _WIDE / 2
                y = self.middle - 12
                self.sheet.curve([(x, y), (x + 26, y), (x + 26, y + 24), (x + 14, y + 24)], colour=colour, thick=thick)
                self.sheet.head(x + 7, y + 24, "left", colour=colour)
                first = self.middle - (len(triggers) - 1) * _ROW / 2
                for number, trigger in enumerate(triggers):
                    self._label(state, trigger, x + 33, first + number * _ROW, "left")
                self.sheet.text(x + 33, first + len(triggers) * _ROW, "(first reason", size=9.5, colour=SOFT)
                self.sheet.text(x + 33, first + len(triggers) * _ROW + 12, "stays)", size=9.5, colour=SOFT)
                continue
            x, y = self._x(state) + _LOOP, self.top
            self.sheet.curve(
                [(x - 13, y), (x - 13, y - 24), (x + 13, y - 24), (x + 13, y - 13)], colour=colour, thick=thick
            )
            self.sheet.head(x + 13, y - 7, "down", colour=colour)
            for number, trigger in enumerate(reversed(triggers)):
                self._label(state, trigger, x - 16, y - 36 - number * 18, "left")

    def _ends(self) -> None:
        """What closes from everywhere goes over one line; a plain answer, which only one state gives, over its own."""
        common = [name for name in TRIGGERS if all(TABLE[state, name].outcome is State.CLOSED for state in State)]
        target = self._x(State.CLOSED)
        for state in list(State)[:-1]:
            only = [name for name in TRIGGERS if TABLE[state, name].outcome is State.CLOSED and name not in common]
            inner = self._x(state) + (_EXIT if not only else 0.0)  # so that the two lines of one state don't cross
            for name in self._end(state, common, inner, self.end_y, target + _EXIT):
                self._label(state, name, inner + (10 if only else -10), self.top - 24, "left" if only else "right")
            for name in only:
                outer, beside = self._x(state) + _EXIT, self._x(state) + _WIDE / 2 + 22
                self._end(state, [name], outer, self.answer_y, target)
                self._label(state, name, beside, self.answer_y - 11, "left", on_line=(outer, self.end_y))
        x = self._x(State.REQUESTED) + _WIDE / 2 + 22
        words = " · ".join(common)
        self.sheet.text(x, self.end_y - 11, words)
        self.sheet.text(x + width_of(words) + 10, self.end_y - 11, "from every state", colour=SOFT)

    def _end(self, state: State, triggers: Sequence[str], at: float, y: float, end: float) -> list[str]:
        """Draw the line of one state's ends, up from its box and over to the last one; return those that were taken."""
        colour, thick = self._look(*((state, name) for name in triggers))
        taken = [name for name in triggers if self.marks.numbers(state, name)]
        points = [(at, self.top - (1 if taken else 0)), (at, y), (end, y), (end, self.top - 16)]
        if taken or state is State.REQUESTED:
            self.sheet.curve(points, colour=colour, thick=thick, order=2.5 if taken else 2)
            self.sheet.head(end, self.top - 7, "down", colour=colour, size=10 if taken else 8)
        else:
            self.sheet.line(points[:2], colour=colour, thick=thick, order=1.5)
        return taken

    def _rejections(self, state: State) -> None:
        found = self.marks.rejected.get(state, [])
        if not found:
            return
        x, y = self._x(state), self.below
        room = _WIDE + _APART - 14
        shown_ones: list[Rejection] = found if len(found) <= LIMIT else found[:LIMIT]
        texts = [(shown(r.name), shown(f"{r.error} · {r.rule}")) for r in shown_ones]
        wide = min(room, max(max(width_of(a, SMALL, "Sans-Bold") + 16, width_of(b, SMALL)) for a, b in texts))
        left = x - wide / 2
        self.sheet.line(
            [(x, self.top + _HIGH + 1 if state is not self.marks.current else y - 8), (x, y + 2)],
            colour=WRONG,
            thick=1.6,
            dash=DASHES,
            order=1,
        )
        y += 14
        for name, error in texts:
            self.sheet.cross(left + 4, y, size=4, thick=2.2)
            self.sheet.text(
                left + 15, y, cut(name, room - 15, SMALL, "Sans-Bold"), size=SMALL, weight="Sans-Bold", colour=WRONG
            )
            self.sheet.text(left, y + _ROW, cut(error, room, SMALL), size=SMALL, colour=WRONG)
            y += 2 * _ROW + 6
        if len(found) > LIMIT:
            self.sheet.text(x, y, f"… and {len(found) - LIMIT} more", size=SMALL, colour=SOFT, align="center")

    def _legend(self, y: float) -> None:
        x = MARGIN
        if self.marks.steps:
            self.sheet.line([(x, y), (x + 26, y)], colour=PATH, thick=2.6)
            self.sheet.badge(x + 13, y, "1")
            self.sheet.text(x + 34, y, "the path taken, step by step", size=SMALL, colour=SOFT)
            x += 34 + width_of("the path taken, step by step", SMALL) + 26
        if self.marks.rejected:
            self.sheet.cross(x + 5, y, size=4, thick=2.2)
            self.sheet.text(x + 17, y, "rejected in this state, with the rule that says so", size=SMALL, colour=SOFT)
