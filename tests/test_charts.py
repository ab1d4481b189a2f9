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

FEW = {"as a stream": [0.8 + n / 25 for n in range(20)], "as one response": [2.0] * 20}

SENT, READ = [0.0] * 4 + [2.0, 2.0, 3.0], [2.0, 2.0, 3.0, 4.0, 4.0]

ALL = [
    lambda: charts.arrivals(FEW, what="tokens"),
    lambda: charts.arrivals(FEW, title="Tokens"),
    lambda: charts.buffered(SENT, READ, limit=4),
    lambda: charts.arrivals({"fixed": FEW["as a stream"], "broken": []}, until=2),
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


def test_a_staircase_has_a_step_for_each_arrival() -> None:
    axes = charts.arrivals(FEW, what="tokens").axes[0]
    staircase = axes.lines[0]

    xs, ys = xs_of(staircase), ys_of(staircase)
    assert xs[1:-1] == FEW["as a stream"]
    assert ys == [0, *range(1, 21), 20]
    assert axes.get_ylabel() == "tokens received"


def test_a_chart_says_in_words_what_it_shows() -> None:
    assert charts.arrivals(FEW, what="tokens").get_label() == (
        "when tokens came: as a stream, 20 from 0.8 s to 1.56 s; as one response, 20 from 2 s to 2 s"
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.arrivals({}),
        lambda: charts.arrivals({"none": []}),
        lambda: charts.arrivals({str(n): [0.1] for n in range(5)}),
    ],
)
def test_what_cant_be_drawn_is_refused(draw: Callable[[], Figure]) -> None:
    with pytest.raises(ValueError, match=r"nothing to draw|no value to draw|told apart"):
        draw()


def test_series_differ_in_more_than_their_colour() -> None:
    colours, dashes, marks = (set(parts) for parts in zip(*charts.SERIES, strict=True))

    assert len(colours) == len(dashes) == len(marks) == len(charts.SERIES)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0.5, "0.5 µs"), (31.2, "31.2 µs"), (999.4, "999 µs"), (999.6, "1 ms"), (3040, "3.04 ms"), (2e6, "2 s")],
)
def test_times_are_in_the_unit_that_suits_them(microseconds: float, text: str) -> None:
    assert charts.time_text(microseconds) == text


def test_what_had_nothing_is_a_flat_line_as_far_as_it_was_watched() -> None:
    figure = charts.arrivals({"fixed": [0.5, 1.0], "broken": []}, until=2)
    assert str(figure.get_label()) == "when events came: fixed, 2 from 0.5 s to 1 s; broken, none in 2 s"
    [axes] = figure.axes
    flat = [line for line in axes.get_lines() if xs_of(line) == [0, 2] and set(ys_of(line)) == {0}]
    assert len(flat) == 1
    assert "broken: nothing in 2 s" in [text.get_text() for text in axes.texts]
    with pytest.raises(ValueError, match="broken has no value to draw"):
        charts.arrivals({"fixed": [1.0], "broken": []})


def test_between_what_was_sent_and_what_was_received_is_what_waits() -> None:
    figure = charts.buffered(SENT, READ, limit=4)
    assert str(figure.get_label()) == (
        "A slow reader: at most 4 events wait for it; 7 sent from 0 s to 3 s, 5 received"
    )
    sent, received = figure.axes[0].get_lines()
    assert [(xs_of(line), ys_of(line)) for line in (sent, received)] == [
        ([0, 2, 3, 4], [4, 6, 7, 7]),
        ([0, 2, 3, 4], [0, 2, 3, 5]),
    ]
    for sent_at, read_at in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match=f"{len(read_at)} of {len(sent_at)} events were received"):
            charts.buffered(sent_at, read_at, limit=4)
