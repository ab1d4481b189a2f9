"""How charts of measurements look; and `arrivals`, which shows when events came.

They are plain matplotlib figures, without pyplot's state, and look as the diagrams do: a card, the same colours,
and beside each colour a word, a mark or a dash that says the same. The benchmark's are in `bench.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .diagrams.style import CARD, EDGE, FAINT, INK, PIXELS_PER_INCH, SOFT, TEXT, WIDTH, font, plain

SERIES: Final = (("#0072b2", "-", "o"), ("#e69f00", "--", "s"), ("#009e73", ":", "^"), ("#cc79a7", "-.", "D"))
"""Colour, dash and mark of the first series, the second, and so on."""

POINTS: Final = 72 / PIXELS_PER_INCH
"""Matplotlib's sizes are in points, ours in pixels."""

LEGEND: Final[dict[str, Any]] = {"frameon": False, "fontsize": TEXT * POINTS, "labelcolor": INK}
"""What every legend is made with."""


def arrivals(
    curves: Mapping[str, Sequence[float]], *, what: str = "events", title: str = "", until: float | None = None
) -> Figure:
    """How many had come by when: a staircase for each way of sending, with a mark where its first one came.

    Args:
        curves: by name, the seconds at which each came, in order; none only where `until` is told.
        what: what is counted, in the plural.
        until: seconds for which all were watched; one that had nothing is a flat line up to there.

    Raises:
        ValueError: there is nothing to draw, or a curve without a single arrival.
    """
    if not curves:
        raise ValueError("there is nothing to draw")
    for name, times in curves.items():
        if not times and until is None:
            raise ValueError(f"{name} has no value to draw")
    if len(curves) > len(SERIES):
        raise ValueError(f"at most {len(SERIES)} series can be told apart in one chart, not {len(curves)}")
    came = [f"{name}, {_came(times, until)}" for name, times in curves.items()]
    words = f"when {what} came: {'; '.join(came)}"
    with plain():
        figure, axes = chart(300, words, title)
        end = max([until or 0.0, *(times[-1] * 1.08 for times in curves.values() if times)])
        for (colour, dash, mark), (name, times) in zip(SERIES, curves.items(), strict=False):
            steps = [(0.0, 0), *((time, count) for count, time in enumerate(times, 1)), (end, len(times))]
            thick = 1.8 if times else 3.5
            axes.step(
                *zip(*steps, strict=True), where="post", color=colour, linestyle=dash, linewidth=thick, label=name
            )
            if not times:
                axes.annotate(
                    f"{name}: nothing in {end:.3g} s", (end, 0), (-4, 7), textcoords="offset points", ha="right",
                    color=INK, fontsize=TEXT * POINTS,
                )  # fmt: skip
                continue
            axes.plot(times[0], 1, mark, color=colour, markersize=7, markeredgecolor=CARD, zorder=4)
        axes.set(xlim=(0, end), ylim=(0 if all(curves.values()) else -0.4, None))
        axes.set_xlabel("seconds after the request")
        axes.set_ylabel(f"{what} received")
        axes.legend(loc="upper left", **LEGEND)
    return figure


def buffered(sent: Sequence[float], received: Sequence[float], *, limit: int, what: str = "events") -> Figure:
    """How many had been sent by when, how many received, and between them what waited for its reader.

    Args:
        sent, received: the seconds at which each was, in order.
        limit: how many may wait before the sender has to wait, too.
        what: what is counted, in the plural.

    Raises:
        ValueError: nothing was sent, or more was received than was sent.
    """
    if not sent or len(received) > len(sent):
        raise ValueError(f"{len(received)} of {len(sent)} {what} were received: there is nothing to draw")
    times = sorted({0.0, *sent, *received})
    taken = [sum(at <= time for at in sent) for time in times]
    had = [sum(at <= time for at in received) for time in times]
    most = max(one - other for one, other in zip(taken, had, strict=True))
    title = f"A slow reader: at most {most} {what} wait for it"
    words = f"{title}; {len(sent)} sent from {sent[0]:.3g} s to {sent[-1]:.3g} s, {len(received)} received"
    with plain():
        figure, axes = chart(300, words, title)
        for (colour, dash, _), name, counts in zip(SERIES, ("sent", "received"), (taken, had), strict=False):
            axes.step(times, counts, where="post", color=colour, linestyle=dash, linewidth=1.8, label=name)
        axes.fill_between(times, had, taken, step="post", color=EDGE, label=f"in the buffer, which is full at {limit}")
        axes.set(xlim=(0, times[-1] * 1.04 or 1), ylim=(0, None))
        axes.set_xlabel("seconds after the request")
        axes.set_ylabel(what)
        axes.legend(loc="upper left", **LEGEND)
    return figure


def _came(times: Sequence[float], until: float | None) -> str:
    if not times:
        return f"none in {until:.3g} s"
    return f"{len(times)} from {times[0]:.3g} s to {times[-1]:.3g} s"


# -- how all of them look


def chart(height: float, words: str, title: str = "", *, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A card with axes on it.

    Args:
        height, width: in pixels.
        words: what the chart shows, in words, for readers who can't see it.
        title: above it, if there is one.
    """
    figure = Figure(
        figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH),
        dpi=PIXELS_PER_INCH,
        facecolor=CARD,
        edgecolor=EDGE,
        linewidth=1.5,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12),
    )
    FigureCanvasAgg(figure)
    figure.set_label(words)
    if title:
        figure.suptitle(title, fontproperties=font(TEXT + 1, "Sans-Bold"), color=INK)
    axes = figure.subplots()
    axes.set_facecolor(CARD)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", colors=SOFT, labelsize=TEXT * POINTS)
    axes.xaxis.label.set(color=SOFT, fontsize=TEXT * POINTS)
    axes.yaxis.label.set(color=SOFT, fontsize=TEXT * POINTS)
    axes.grid(visible=True, color=EDGE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def time_text(microseconds: float) -> str:
    """A time in the unit that suits it, to three digits at most.

    >>> time_text(31.2), time_text(500), time_text(3040), time_text(1e6)
    ('31.2 µs', '500 µs', '3.04 ms', '1 s')
    """
    for size, unit in ((1, "µs"), (1e3, "ms"), (1e6, "s")):
        if abs(value := microseconds / size) < 999.5 or unit == "s":
            break
    return f"{float(f'{value:.3g}'):g} {unit}"
