"""Charts of measured times: when events came, how long they took, and what many streams cost.

Each takes plain data, such as `latency` measures, and returns a matplotlib `Figure`. They look as the diagrams do:
a light card, the same colours, and beside each colour a word, a mark or a dash that says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter

from .diagrams.style import CARD, EDGE, FAINT, INK, PIXELS_PER_INCH, SOFT, TEXT, WRONG, font, plain
from .latency import Delivery, percentile

SERIES: Final = (("#0072b2", "-", "o"), ("#e69f00", "--", "s"), ("#009e73", ":", "^"), ("#cc79a7", "-.", "D"))
"""Colour, dash and mark of the first series, the second, and so on."""

POINTS: Final = 72 / PIXELS_PER_INCH
"""Matplotlib's sizes are in points, ours in pixels."""


def arrivals(curves: Mapping[str, Sequence[float]], *, what: str = "events", title: str = "") -> Figure:
    """How many had come by when: a staircase for each way of sending, with a mark where its first one came.

    Args:
        curves: by name, the seconds at which each came, in order.
        what: what is counted, in the plural.

    Raises:
        ValueError: there is nothing to draw, or a curve without a single arrival.
    """
    _check(curves)
    came = [f"{name}, {len(times)} from {times[0]:.3g} s to {times[-1]:.3g} s" for name, times in curves.items()]
    words = f"when {what} came: {'; '.join(came)}"
    with plain():
        figure, axes = _chart(height=300, words=words, title=title)
        end = max(times[-1] for times in curves.values()) * 1.08
        for (colour, dash, mark), (name, times) in zip(_series(curves), curves.items(), strict=True):
            steps = [(0.0, 0), *((time, count) for count, time in enumerate(times, 1)), (end, len(times))]
            axes.step(*zip(*steps, strict=True), where="post", color=colour, linestyle=dash, linewidth=1.8, label=name)
            axes.plot(times[0], 1, mark, color=colour, markersize=7, markeredgecolor=CARD, zorder=4)
        axes.set(xlim=(0, end), ylim=(0, None))
        axes.set_xlabel("seconds after the request")
        axes.set_ylabel(f"{what} received")
        _legend(axes, loc="upper left")
    return figure


def first_events(waits: Mapping[str, Sequence[float]], *, deadline: float, title: str = "") -> Figure:
    """How long each flow let its client wait for the first event: a mark for each request, and the median.

    Args:
        waits: by name, the seconds of each request; none for a flow that brought no event before the deadline.
        deadline: the seconds after which a client gave up.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not waits:
        raise ValueError("there is nothing to draw")
    names = list(waits)
    labels = {
        name: f"median {_time(percentile(times, 50) * 1000)}" if times else f"no event within {_time(deadline * 1000)}"
        for name, times in waits.items()
    }
    words = f"time to the first event: {_listed(labels)}"
    with plain():
        figure, axes = _chart(height=80 + 42 * len(names), words=words, title=title)
        least = min((min(times) for times in waits.values() if times), default=deadline / 1000)
        left, right = least * 1000 / 1.6, deadline * 1000 * 1.6
        axes.set_xscale("log")
        axes.set(xlim=(left, right), ylim=(len(names) - 0.4, -0.6))
        axes.axvline(deadline * 1000, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        for row, name in enumerate(names):
            if not waits[name]:
                axes.plot([left, deadline * 1000], [row, row], color=WRONG, linewidth=1.6, linestyle=(0, (4, 3)))
                axes.plot(deadline * 1000, row, "x", color=WRONG, markersize=9, markeredgewidth=2.4, clip_on=False)
                _write(axes, (left * right) ** 0.5, row - 0.3, labels[name], colour=WRONG, align="center")
                continue
            shown = [seconds * 1000 for seconds in waits[name]]
            axes.plot(shown, [row] * len(shown), "|", color=SERIES[0][0], markersize=11, alpha=0.35)
            axes.plot(percentile(shown, 50), row, "D", color=SERIES[0][0], markersize=7, markeredgecolor=CARD, zorder=4)
            _write(axes, max(shown) * 1.25, row, labels[name])
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time from the request to the first event")
        _times_on(axes.xaxis)
    return figure


def distribution(measured: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """The part of all events that had arrived after so long, with the 50th and the 99th percentile marked.

    Args:
        measured: by name, the seconds that each event took.

    Raises:
        ValueError: there is nothing to draw, or a series without a value.
    """
    _check(measured)
    labels = {
        name: ", ".join(f"p{percent} {_time(percentile(series, percent) * 1000)}" for percent in (50, 99))
        for name, series in measured.items()
    }
    words = f"how long events took: {_listed(labels)}"
    with plain():
        figure, axes = _chart(height=300 + 20 * len(measured), words=words, title=title)
        axes.set_xscale("log")
        everything = [seconds * 1000 for series in measured.values() for seconds in series]
        right = percentile(everything, 99.9) * 1.5
        for (colour, dash, mark), (name, series) in zip(_series(measured), measured.items(), strict=True):
            shown = sorted(seconds * 1000 for seconds in series)
            parts = [number / len(shown) for number in range(1, len(shown) + 1)]
            axes.step(shown, parts, where="post", color=colour, linestyle=dash, linewidth=1.8)
            p50, p99 = percentile(shown, 50), percentile(shown, 99)
            label = f"{name}: {labels[name]}"
            axes.plot([p50, p99], [0.5, 0.99], mark, color=colour, markersize=7, markeredgecolor=CARD, label=label)
        for part in (0.5, 0.99):
            axes.axhline(part, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.set(xlim=(min(everything) / 1.2, right), ylim=(0, 1.04))
        axes.set_yticks((0, 0.25, 0.5, 0.75, 0.99), ("0", "25 %", "50 %", "75 %", "99 %"))
        axes.set_xlabel("time from sending to the client")
        axes.set_ylabel("of the events are there")
        _times_on(axes.xaxis)
        _legend(figure, loc="outside upper left")
    return figure


def against_streams(deliveries: Sequence[Delivery], *, title: str = "") -> Figure:
    """What happens as streams become more: how long an event takes to reach them, and what each delivery costs.

    Args:
        deliveries: one for each number of streams.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not deliveries:
        raise ValueError("there is nothing to draw")
    ordered = sorted(deliveries, key=lambda delivery: delivery.streams)
    counts = [delivery.streams for delivery in ordered]
    labels = {
        f"{delivery.streams} open": f"p50 {_time(percentile(delivery.seconds, 50) * 1000)}"
        f", {delivery.cpu * 1e6:.0f} µs of CPU a delivery"
        for delivery in ordered
    }
    with plain():
        figure, _ = _chart(height=300, words=f"latency and cost of streams: {_listed(labels)}", title=title)
        figure.clear()
        times, costs = figure.subplots(1, 2)
        for axes in (times, costs):
            _dress(axes)
            axes.set_xscale("log")
            axes.set_xticks(counts, [str(count) for count in counts])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(which="minor", length=0)
            axes.set_xlabel("streams open at once")
        for (colour, dash, mark), percent, side in zip(SERIES, (50, 99), ("top", "bottom"), strict=False):
            shown = [percentile(delivery.seconds, percent) * 1000 for delivery in ordered]
            times.plot(counts, shown, dash, marker=mark, color=colour, markeredgecolor=CARD, markersize=7)
            _write(times, counts[-1] * 1.3, shown[-1], f"p{percent}", side=side)  # apart, however near they are
        times.set_yscale("log")
        times.set_xlim(counts[0] / 1.3, counts[-1] * 3)
        times.set_ylabel("until a client has an event")
        _times_on(times.yaxis)
        colour, dash, mark = SERIES[2]
        shown = [delivery.cpu * 1e6 for delivery in ordered]
        costs.plot(counts, shown, dash, marker=mark, color=colour, markeredgecolor=CARD, markersize=7)
        costs.set(xlim=(counts[0] / 1.3, counts[-1] * 1.3), ylim=(0, max(shown) * 1.15))
        costs.set_ylabel("µs of CPU for each delivery")
    return figure


# -- how all of them look


def _chart(*, height: float, words: str, title: str, width: float = 700) -> tuple[Figure, Axes]:
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
    _dress(axes)
    return figure, axes


def _dress(axes: Axes) -> None:
    axes.set_facecolor(CARD)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", colors=SOFT, labelsize=TEXT * POINTS * 0.92)
    axes.xaxis.label.set(color=SOFT, fontsize=TEXT * POINTS)
    axes.yaxis.label.set(color=SOFT, fontsize=TEXT * POINTS)
    axes.grid(visible=True, color=EDGE, linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(place: Axes | Figure, *, loc: Any) -> None:
    legend = place.legend(loc=loc, frameon=False, fontsize=TEXT * POINTS)
    for text in legend.get_texts():
        text.set_color(INK)


def _write(
    axes: Axes, x: float, y: float, text: str, *, colour: str = INK, align: Any = "left", side: Any = "center"
) -> None:
    axes.text(x, y, text, fontproperties=font(TEXT), color=colour, va=side, ha=align)


def _times_on(axis: Any) -> None:
    """Label a logarithmic axis of milliseconds in the unit that fits."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axis.set_minor_formatter(NullFormatter())


def _time(milliseconds: float) -> str:
    """A time in the unit that fits it, to two digits.

    >>> _time(0.0312), _time(0.5), _time(3.04), _time(1000)
    ('31 µs', '500 µs', '3 ms', '1 s')
    """
    for factor, unit in ((1000, "µs"), (1, "ms"), (0.001, "s")):
        if abs(value := milliseconds * factor) < 999.5 or unit == "s":
            break
    return f"{float(f'{value:.2g}'):g} {unit}"


def _listed(labels: Mapping[str, str]) -> str:
    return "; ".join(f"{name}, {label}" for name, label in labels.items())


def _series(names: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
    if len(names) > len(SERIES):
        raise ValueError(f"at most {len(SERIES)} series can be told apart in one chart, not {len(names)}")
    return SERIES[: len(names)]


def _check(series: Mapping[str, Sequence[float]]) -> None:
    if not series:
        raise ValueError("there is nothing to draw")
    for name, values in series.items():
        if not values:
            raise ValueError(f"{name} has no value to draw")
