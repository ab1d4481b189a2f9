"""The benchmark's figures: everything that was measured is in them, in words too, and no text is cut or overlaps."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import log10

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from h3ref.lab.bench.plots import FLOWS, LOOKS, MAIN, PEERS, cdf, ratios, scaling
from h3ref.lab.bench.results import Distribution, Measurement, Results, SectionNote
from h3ref.lab.bench.sentences import absent, within
from h3ref.lab.bench.systems import TITLES
from h3ref.lab.diagrams.files import svg
from h3ref.lab.diagrams.palette import PALETTE, colours_of
from tests.test_bench import results


def measured() -> Results:
    """Results with every system in every section, each twice as slow as the one before."""
    found: list[Measurement] = []
    for number, system in enumerate(TITLES):
        cost, ratio = 2.0**number, 2.0**number
        broken = system == "h3ref-broken"
        delays = [] if broken else [100 * cost * (1 + step / 100) for step in range(200)]
        for section in ("first", "pace"):
            runs: tuple[float, ...] = () if broken else (150 * cost,)
            multiples = () if broken else (ratio,)
            distribution = Distribution.of(delays, 3 if broken else 0)
            found.append(Measurement(section, "alone", "p50", "us", system, runs, multiples, 1, distribution))
        if not broken:
            for size in (100, 500, 2000, 5000):
                runs = (cost, cost * 1.1, cost * 0.9)
                found.append(Measurement("fanout", str(size), "cpu", "us", system, runs, (ratio,), size))
    notes = tuple(SectionNote(name, name, "some work", "raw") for name in ("fanout", "first", "pace"))
    return replace(results(), titles=TITLES, sections=notes, measurements=tuple(found))


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def assert_readable(figure: Figure) -> None:
    """All texts lie on the sheet, and none on another."""
    figure.draw_without_rendering()
    sheet = figure.bbox
    [axes] = figure.axes
    [legend] = figure.legends
    assert figure.get_suptitle()
    shown = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        marks = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        shown += [label for label, place in marks if low <= place <= high]
    texts = [*shown, axes.xaxis.label, axes.yaxis.label, *legend.get_texts()]
    boxes = [(one.get_text(), one.get_window_extent()) for one in texts if one.get_text()]
    for text, box in boxes:
        assert sheet.x0 - 1 <= box.x0, text
        assert box.x1 <= sheet.x1 + 1, text
        assert sheet.y0 - 1 <= box.y0, text
        assert box.y1 <= sheet.y1 + 1, text
    for (text, box), (other, another) in combinations(boxes, 2):
        assert not box.padded(-1).overlaps(another.padded(-1)), f"{text!r} lies on {other!r}"


def test_the_distributions_say_p50_and_p99_of_each_system() -> None:
    figure = cdf(measured(), "pace")
    assert_readable(figure)
    said = words(figure)
    assert "raw asyncio: p50 200 µs, p99 297 µs" in said
    assert sum(": p50 " in text for text in said) == len(MAIN)
    assert "raw asyncio: p50 200 µs, p99 297 µs; h3ref: p50 399 µs" in str(figure.get_label())


def test_the_axis_goes_on_to_what_is_as_rare_as_was_measured() -> None:
    figure = cdf(measured(), "pace")
    assert {"p50", "p90", "p99", "p99.9"} <= set(words(figure))
    [axes] = figure.axes
    of_each = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    longest = [heights for heights in of_each if len(heights) > 20]
    assert len(longest) == len(MAIN)
    for heights in longest:
        assert heights.max() == pytest.approx(-log10(1 / 200))  # the rarest of 200


@pytest.mark.parametrize("draw", [lambda found: cdf(found, "pace"), scaling, ratios])
def test_each_figure_says_which_run_it_shows(draw: Callable[[Results], Figure]) -> None:
    found = replace(measured(), quick=False, date="2026-01-02T03:04:05+00:00")
    [said] = [text for text in words(draw(found)) if text.startswith("full run of 2026-01-02; ")]
    assert said.endswith(f"; {found.machine['processor']}, {found.machine['cores']} cores")
    assert re.search(r"; (200 delays of each|1|\d to \d|3 turns)", said)
    assert said in str(draw(found).get_label())


def test_a_short_run_is_drawn_into_the_full_one() -> None:
    found = measured()
    alone = len(cdf(found, "pace").axes[0].get_lines())
    both = cdf(found, "pace", live=found)
    assert_readable(both)
    assert len(both.axes[0].get_lines()) == alone + len(MAIN)
    assert "strokes below p50: medians of the short run" in " ".join(words(both))
    assert "short run of" in str(both.get_label())
    assert_readable(scaling(found, live=found))
    elsewhere = replace(found, measurements=())
    assert len(cdf(found, "pace", live=elsewhere).axes[0].get_lines()) == alone


def test_nothing_but_the_broken_flow_has_its_colour() -> None:
    broken = LOOKS["h3ref-broken"].colour
    assert [name for name, look in LOOKS.items() if look.colour == broken] == ["h3ref-broken"]
    ours = {look.colour for name, look in LOOKS.items() if name.startswith("h3ref")}
    assert not ours & {look.colour for name, look in LOOKS.items() if not name.startswith("h3ref")}


def test_sentences_say_what_came_in_time_and_what_is_absent() -> None:
    found = measured()
    assert (
        within(found, "pace", "raw", 200) == "raw asyncio: 50.0% of 200 came within 200 µs, half of them within 200 µs."
    )
    assert within(found, "pace", "raw", 1) == "raw asyncio: 0.0% of 200 came within 1 µs, half of them within 200 µs."
    with pytest.raises(ValueError, match="no delays of h3ref-broken in pace"):
        within(found, "pace", "h3ref-broken", 1)
    assert absent(found, FLOWS + PEERS) == "Every system that the figures name is in this run."
    fewer = replace(found, measurements=(), missing={"fastapi": ["fastapi", "uvicorn"]})
    assert absent(fewer, ["fastapi", "raw", "raw"]) == (
        "Not in this run: FastAPI's own (pip install fastapi uvicorn), raw asyncio (it was not asked for)."
    )


def test_the_broken_flow_is_drawn_as_what_never_comes() -> None:
    figure = cdf(measured(), "first", systems=FLOWS + PEERS)
    assert_readable(figure)
    assert "h3ref, broken flow: none of 3 had one" in words(figure)


def test_scaling_has_every_size() -> None:
    figure = scaling(measured())
    assert_readable(figure)
    assert {"100", "500", "2,000", "5,000"} <= set(words(figure))


def test_ratios_have_every_section() -> None:
    figure = ratios(measured())
    assert_readable(figure)
    assert {"fanout, 100: CPU", "fanout, 5000: CPU", "first: median", "pace: median"} <= set(words(figure))


def test_every_system_has_a_look_of_its_own() -> None:
    assert set(LOOKS) == set(TITLES)
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_nothing_to_draw_is_said() -> None:
    empty = replace(measured(), measurements=())
    with pytest.raises(ValueError, match="no delays of pace, any case, were measured for these systems"):
        cdf(empty, "pace")
    with pytest.raises(ValueError, match="no fan-out was measured"):
        scaling(empty)
    with pytest.raises(ValueError, match="no ratio to the floor was measured"):
        ratios(empty)


@pytest.mark.parametrize(
    "draw", [lambda: cdf(measured(), "pace"), lambda: scaling(measured()), lambda: ratios(measured())]
)
def test_each_colour_has_one_for_a_dark_page(draw: Callable[[], Figure]) -> None:
    assert colours_of(svg(draw())) <= PALETTE.keys()


def test_each_look_has_a_colour_for_a_dark_page() -> None:
    assert {look.colour for look in LOOKS.values()} <= PALETTE.keys()
