"""The benchmark's figures: everything that was measured is in them, in words too, and no text is cut or overlaps."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from h3ref.lab.bench.plots import FLOWS, LOOKS, MAIN, PEERS, cdf, ratios, scaling
from h3ref.lab.bench.results import Distribution, Measurement, Results, SectionNote
from h3ref.lab.bench.systems import TITLES
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
