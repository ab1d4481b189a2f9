"""`edges` counts the steps that a flow takes in all of its paths, and `draw` draws them between the states."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from .path import Names
from .runs import Run
from .spin import prepared, verify

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 2.5 * len(graphs)), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(len(graphs), squeeze=False)[:, 0], graphs.items(), strict=True):
        _draw_one(axes, name, list(found))
    return figure


_PLACES: Final = {
    **{"requested": (0, 1), "sse_started": (1, 1), "headers_sent": (2, 1), "streaming": (3, 1)},
    "closed": (1.5, 0),
}


def _draw_one(axes: Axes, name: str, found: list[Edge]) -> None:
    between: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    taken: defaultdict[str, int] = defaultdict(int)
    for edge in found:
        taken[edge.before] += edge.number
        if edge.before != edge.after:
            between[edge.before, edge.after].add(edge.step)
    for (before, after), steps in between.items():
        (x, y), (to_x, to_y) = _PLACES[before], _PLACES[after]
        axes.annotate(
            "",
            xy=(to_x, to_y),
            xytext=(x, y),
            arrowprops={"arrowstyle": "-|>", "shrinkA": 40, "shrinkB": 40, "color": "0.4", "lw": 0.9},
        )
        text = "\n".join(sorted(steps)) if len(steps) < 4 else f"{len(steps)} steps"
        at = (x + (to_x - x) * 0.45, y + (to_y - y) * 0.45)
        axes.text(*at, text, ha="center", va="center", fontsize=6.5, bbox={"fc": "white", "ec": "none", "pad": 0.6})
    for state, (x, y) in _PLACES.items():
        count = f"{taken[state]:,} steps taken" if taken[state] else "never reached"
        style = {"boxstyle": "round,pad=0.45", "fc": "white" if taken[state] else "0.92", "ec": "0.2"}
        axes.text(x, y, f"{state}\n{count}", ha="center", va="center", fontsize=8, bbox=style)
    axes.set_title(name, loc="left", fontsize=9, fontweight="bold")
    axes.set_xlim(-0.5, 3.5)
    axes.set_ylim(-0.35, 1.35)
    axes.set_axis_off()
