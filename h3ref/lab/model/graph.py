"""`edges` counts the steps of a flow on all of its paths, and `draw` draws them between the states."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from matplotlib.figure import Figure

from h3ref.lifecycle import State

from ..diagrams.style import BOX, CARD, DASHES, FAINT, INK, SOFT, TITLE, Sheet, plain
from .path import Names
from .runs import Run
from .spin import prepared, verify

_HEADER: Final = """#include <stdlib.h>
static unsigned long graph_edges[64][8][8][16];
static int graph_begun;
static void graph_tell(void) {
    for (int step = 0; step < 64; step++)
        for (int before = 0; before < 8; before++)
            for (int after = 0; after < 8; after++)
                for (int error = 0; error < 16; error++)
                    if (graph_edges[step][before][after][error])
                        printf("edge %d %d %d %d %lu\\n", step, before, after, error,
                            graph_edges[step][before][after][error]);
}
static void graph_took(int step, int before, int after, int error) {
    if (!graph_begun) {
        graph_begun = 1;
        atexit(graph_tell);
    }
    graph_edges[step][before][after][error]++;
}
"""


class Edge(NamedTuple):
    """A step between two states of the lifecycle.

    Attributes:
        step: its name.
        before: the state in which it was taken.
        after: the state that it led to.
        error: what rejected it, or None.
        number: how many transitions of the model take it so.
    """

    step: str
    before: str
    after: str
    error: str | None
    number: int


def edges(one: Run) -> list[Edge]:
    """Every step of a run's paths, with how often it is taken between which states.

    Raises:
        Missing: this machine lacks what the checker needs.
    """
    names = Names()
    with prepared({"graph.h": _HEADER}) as folder:
        (verdict,) = verify(folder, one.model, [*one.defines(is_full=False), "-DGRAPH"])
    found = re.findall(r"^edge (\d+) (\d+) (\d+) (\d+) (\d+)$", verdict.said, re.MULTILINE)
    return [
        Edge(names.steps[step], names.states[before], names.states[after], names.errors[error], count)
        for step, before, after, error, count in (map(int, numbers) for numbers in found)
    ]


def draw(graphs: Mapping[str, Iterable[Edge]]) -> Figure:
    """The states of the lifecycle for each flow, with the steps that lead from one to another, and how often."""
    words = "; ".join(f"{name}: {_told(found)}" for name, found in graphs.items())
    with plain():
        sheet = Sheet(_WIDE, _HIGH * len(graphs) + 12, f"the steps that each flow takes between the states: {words}")
        for number, (name, found) in enumerate(graphs.items()):
            _draw_one(sheet, number * _HIGH, name, list(found))
    return sheet.figure


def _told(found: Iterable[Edge]) -> str:
    """A flow in words: the states that it comes to."""
    states = {state for edge in found for state in (edge.before, edge.after)}
    return ", ".join(state for state in _PLACES if state in states)


_WIDE, _HIGH, _BOX, _TALL = 690.0, 300.0, 138.0, 48.0
_PLACES: Final = {
    **{state: (85.0 + 173 * number, 118.0) for number, state in enumerate(list(State)[:-1])},
    State.CLOSED: (_WIDE / 2, 262.0),
}


def _draw_one(sheet: Sheet, top: float, name: str, found: list[Edge]) -> None:
    between: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    taken: defaultdict[str, int] = defaultdict(int)
    for edge in found:
        taken[edge.before] += edge.number
        if edge.before != edge.after:
            between[edge.before, edge.after].add(edge.step)
    sheet.text(16, top + 28, name, size=TITLE, weight="Sans-Bold")
    for (before, after), steps in between.items():
        if after == State.CLOSED:
            _end(sheet, top, before, steps)
        else:
            _way(sheet, top, before, after, sorted(steps))
    for state, (x, y) in _PLACES.items():
        reached = bool(taken[state]) or any(edge.after == state for edge in found)
        count = f"{taken[state]:,} steps" if taken[state] else "here it ends" if reached else "never reached"
        sheet.box(
            x - _BOX / 2, top + y - _TALL / 2, _BOX, _TALL, fill=BOX if reached else CARD,
            line=SOFT if reached else FAINT, dash=() if reached else DASHES, radius=8, order=3,
        )  # fmt: skip
        sheet.text(x, top + y - 9, state, weight="Sans-Bold", colour=INK if reached else SOFT, align="center")
        sheet.text(x, top + y + 10, count, colour=SOFT, align="center")


def _way(sheet: Sheet, top: float, before: str, after: str, steps: list[str]) -> None:
    """An arrow to the next state, with its steps above it."""
    (start, y), (end, _) = _PLACES[State(before)], _PLACES[State(after)]
    sheet.line([(start + _BOX / 2, top + y), (end - _BOX / 2 - 8, top + y)], colour=SOFT)
    sheet.head(end - _BOX / 2 - 2, top + y, "right", colour=SOFT)
    for number, step in enumerate(reversed(steps)):
        sheet.text((start + end) / 2, top + y - _TALL / 2 - 12 - 17 * number, step, align="center")


def _end(sheet: Sheet, top: float, before: str, steps: set[str]) -> None:
    """An arrow down to the end, with the name of its step, or how many there are."""
    (x, y), (end_x, end_y) = _PLACES[State(before)], _PLACES[State.CLOSED]
    x, y = x + (end_x - x) * 0.1, y + _TALL / 2
    end_x, end_y = end_x + (x - end_x) * 0.18, end_y - _TALL / 2
    sheet.line([(x, top + y), (end_x, top + end_y - 14), (end_x, top + end_y - 8)], colour=SOFT)
    sheet.head(end_x, top + end_y - 2, "down", colour=SOFT)
    at = 0.3 if abs(x - end_x) > _BOX else 0.35
    text = next(iter(steps)) if len(steps) == 1 else f"{len(steps)} steps"
    middle, left = x + (end_x - x) * at, x < end_x
    sheet.text(
        middle + (-8 if left else 8), top + y + (end_y - y) * at + 6, text,
        align="right" if left else "left", ground=CARD,
    )  # fmt: skip
