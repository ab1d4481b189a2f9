"""Charts: what they show is what they were given, and no text leaves the picture or covers another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from h3ref.lab import charts
from h3ref.lab.latency import Delivery

FEW = {"as a stream": [0.8 + n / 25 for n in range(20)], "as one response": [2.0] * 20}
WAITS = {"broken": [], "callback": [0.0004, 0.0005, 0.002], "awaited": [0.0003], "blocking": [0.0008, 0.001]}
TIMES = {
    "1 stream": [0.0001 * n for n in range(1, 101)],
    "100 streams": [0.002, 0.003, 0.004],
    "100 streams, and something about them": [0.0123, 0.0456],
    "1000 streams, and something about them": [0.123, 0.456],
}
DELIVERIES = [Delivery(100, [0.002, 0.003], 24e-6), Delivery(1, [0.0001], 130e-6), Delivery(300, [0.01, 0.02], 21e-6)]

ALL = [
    lambda: charts.arrivals(FEW, what="tokens"),
    lambda: charts.arrivals(FEW, title="Tokens"),
    lambda: charts.first_events(WAITS, deadline=1.0),
    lambda: charts.first_events({"broken": []}, deadline=1.0),
    lambda: charts.distribution(TIMES),
    lambda: charts.distribution({"one value": [0.001]}),
    lambda: charts.against_streams(DELIVERIES),
    lambda: charts.against_streams(DELIVERIES[:1]),
    lambda: charts.against_streams([Delivery(1, [0.001], 1e-4), Delivery(10, [0.002], 1e-4)]),
]


@pytest.mark.parametrize("draw", ALL)
def test_every_text_is_inside_and_covers_no_other(draw: Callable[[], Figure]) -> None:
    figure = draw()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()  # type: ignore[no-untyped-call]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]

    assert len(boxes) > 3
    for text, box in boxes:
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1, f"{text!r} is cut"
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.y1, f"{text!r} is cut"
    for (one, box), (other, second) in combinations(boxes, 2):
        assert not box.padded(-0.5).overlaps(second), f"{one!r} covers {other!r}"


def texts_of(figure: Figure) -> list[Text]:
    """All that is written on a figure; a label of a tick beyond its axis is not."""
    found = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        found += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
        if (legend := axes.get_legend()) is not None:
            found += legend.get_texts()
        for number, axis in enumerate((axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            found += [label for label in axis.get_ticklabels() if low <= label.get_position()[number] <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def xs_of(line: Line2D) -> list[float]:
    return [float(x) for x in np.asarray(line.get_xdata())]


def ys_of(line: Line2D) -> list[float]:
    return [float(y) for y in np.asarray(line.get_ydata())]


def written(figure: Figure) -> set[str]:
    return {text.get_text() for text in texts_of(figure)}


def test_a_staircase_has_a_step_for_each_arrival() -> None:
    axes = charts.arrivals(FEW, what="tokens").axes[0]
    staircase = axes.lines[0]

    xs, ys = xs_of(staircase), ys_of(staircase)
    assert xs[1:-1] == FEW["as a stream"]
    assert ys == [0, *range(1, 21), 20]
    assert axes.get_ylabel() == "tokens received"


def test_what_never_came_is_drawn_up_to_the_deadline_and_said_so() -> None:
    figure = charts.first_events(WAITS, deadline=1.0)

    assert "no event within 1 s" in written(figure)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [xs_of(line) for line in crosses] == [[1000.0]]
    assert {"broken", "callback", "awaited", "blocking"} <= written(figure)


def test_medians_and_percentiles_are_written() -> None:
    assert {"median 500 µs", "median 300 µs"} <= written(charts.first_events(WAITS, deadline=1.0))
    assert "1 stream: p50 5 ms, p99 9.9 ms" in written(charts.distribution(TIMES))


def test_a_distribution_ends_where_all_have_arrived() -> None:
    curve = charts.distribution({"all": [0.003, 0.001, 0.002]}).axes[0].lines[0]

    assert xs_of(curve) == pytest.approx([1.0, 2.0, 3.0])
    assert ys_of(curve) == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_streams_are_drawn_in_order_whatever_order_they_were_measured_in() -> None:
    times, costs = charts.against_streams(DELIVERIES).axes

    assert xs_of(times.lines[0]) == [1, 100, 300]
    assert ys_of(costs.lines[0]) == pytest.approx([130, 24, 21])


def test_a_chart_says_in_words_what_it_shows() -> None:
    assert charts.arrivals(FEW, what="tokens").get_label() == (
        "when tokens came: as a stream, 20 from 0.8 s to 1.56 s; as one response, 20 from 2 s to 2 s"
    )
    assert "broken, no event within 1 s; callback, median 500 µs" in str(
        charts.first_events(WAITS, deadline=1.0).get_label()
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.arrivals({}),
        lambda: charts.arrivals({"none": []}),
        lambda: charts.first_events({}, deadline=1.0),
        lambda: charts.distribution({}),
        lambda: charts.distribution({"none": []}),
        lambda: charts.against_streams([]),
        lambda: charts.distribution({str(n): [0.1] for n in range(5)}),
    ],
)
def test_what_cant_be_drawn_is_refused(draw: Callable[[], Figure]) -> None:
    with pytest.raises(ValueError, match=r"nothing to draw|no value to draw|told apart"):
        draw()


def test_series_differ_in_more_than_their_colour() -> None:
    colours, dashes, marks = (set(parts) for parts in zip(*charts.SERIES, strict=True))

    assert len(colours) == len(dashes) == len(marks) == len(charts.SERIES)


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0.0312, "31 µs"), (0.5, "500 µs"), (0.9996, "1 ms"), (3.04, "3 ms"), (1000, "1 s")]
)
def test_times_are_in_the_unit_that_fits(milliseconds: float, text: str) -> None:
    assert charts._time(milliseconds) == text
