"""Figures of `Results`: how delays are distributed, what fan-out costs by number of streams, and all ratios.

    results = Results.load(Path("results.json"))
    cdf(results, "pace")                                 # how old events are when they arrive
    cdf(results, "first", systems=FLOWS + PEERS)         # the broken flow and the fixed ones, and the peers
    cdf(results, "first", live=run(...))                 # with the medians of a run made here
    scaling(results)
    ratios(results)

They look as all charts of `charts` do, and each says below its title which run it shows: how much was measured, when,
and on what machine. Colours are those of Okabe and Ito, which people tell apart who see no red or no green; each line
has a marker and a dash of its own besides. h3ref is blue or green, and nothing but the broken flow is red.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import log10
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from ..charts import LEGEND, POINTS, chart, time_text
from ..diagrams.style import CARD, EDGE, INK, SOFT, TEXT, WIDTH, plain, width_of
from .results import PROBABILITIES, Distribution, Measurement, Results
from .sections import GROWN
from .systems import FLOOR

FLOWS: Final = ("h3ref", "h3ref-awaited", "h3ref-blocking", "h3ref-broken")
PEERS: Final = ("raw", "drop-in", "starlette", "sse-starlette", "aiohttp-sse", "fastapi")
MAIN: Final = ("raw", "h3ref", "h3ref-uvicorn", "drop-in", "starlette", "sse-starlette", "aiohttp-sse", "fastapi")
"""One of each kind: what fits into a figure without crowding it."""


class Look(NamedTuple):
    """How a system is drawn, the same in every figure."""

    colour: str
    marker: str
    dash: Any = "-"
    width: float = 1.5
    size: float = 8


LOOKS: Final = {
    "raw": Look(INK, "s", (0, (4, 2))),
    "h3ref": Look("#0072b2", "o", width=2.6),
    "h3ref-gapless": Look("#009e73", "^"),
    "h3ref-trio": Look("#0072b2", "v", (0, (1, 1))),
    "h3ref-uvicorn": Look("#009e73", "D", (0, (6, 2))),
    "h3ref-awaited": Look("#0072b2", "<", (0, (3, 1))),
    "h3ref-blocking": Look("#009e73", ">", (0, (6, 2))),
    "h3ref-def": Look("#009e73", "4", (0, (1, 1))),
    "h3ref-generated": Look("#0072b2", "d", (0, (3, 1, 1, 1))),
    "h3ref-broken": Look("#d55e00", "x", width=2.6),
    "starlette": Look("#e69f00", "p"),
    "starlette-fast": Look("#e69f00", "H", (0, (4, 2))),
    "drop-in": Look("#332288", "8", (0, (5, 1))),
    "drop-in-fast": Look("#332288", "1", (0, (1, 2))),
    "sse-starlette": Look("#cc79a7", "P"),
    "sse-starlette-fast": Look("#cc79a7", "X", (0, (4, 2))),
    "aiohttp-sse": Look("#7f7f7f", "*", (0, (6, 1, 1, 1)), size=11),
    "fastapi": Look("#56b4e9", "h", (0, (2, 1))),
}
LEFT_OUT: Final = ("p99", "instructions")
"""What would crowd the figure of all ratios."""

OTHER: Final = Look("#7f7f7f", ".")


LEVELS: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
"""What is marked on the axis of a distribution: its upper end is drawn out, and each step is ten times rarer."""

MARKED: Final = (0.5, 0.99)
NEVER: Final = -0.18
"""Where the line of those stands that never had an event."""


def cdf(
    results: Results,
    section: str,
    *,
    case: str | None = None,
    systems: Sequence[str] | None = None,
    title: str | None = None,
    live: Results | None = None,
) -> Figure:
    """The percentiles of all delays, up to 99.9 %, with the median and the 99th percentile marked.

    Args:
        case: of the section; the first one it has, if not told.
        section: "first" or "pace".
        systems: which to draw, of those that were measured; `MAIN` if not told.
        title: above the figure; what the section is, if not told.
        live: another run, whose medians of the same case are drawn as strokes.

    Raises:
        ValueError: there is nothing to draw.
    """
    measured = [one for one in results.of(section, quantity="p50") if one.distribution is not None]
    if measured and case is None:
        case = measured[0].case
    measured = _in_order([one for one in measured if one.case == case], MAIN if systems is None else systems)
    if not measured:
        raise ValueError(f"no delays of {section}, {case or 'any case'}, were measured for these systems")
    title = title or _title(results, section, case)
    labels = {one.system: _delays(results, one) for one in measured}
    here = {one.system: one for one in (live.of(section, quantity="p50") if live else ()) if one.case == case}
    counts = [one.distribution.count for one in measured if one.distribution and one.distribution.quantiles]
    run = _of_run(results, _number("delays of each", counts), live if here else None)
    with plain():
        words = "; ".join([title, run, *labels.values()])
        figure, axes = chart(350 + _legend_height(labels.values()), words, title)
        _told_below(axes, run)
        drawn = [one.distribution for one in measured if one.distribution and one.distribution.quantiles]
        longest = max((one.at(_end(one)) for one in drawn), default=1e3)
        shortest = min((one.at(0.001) for one in drawn), default=1e2)
        axes.set_xscale("log")
        axes.set_xlim(shortest * 0.8, longest * 1.3)
        axes.set_ylim(NEVER - 0.12 if len(drawn) < len(measured) else -0.08, _rare(0.9995))
        for level in LEVELS.values():
            axes.axhline(_rare(level), color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        for one in measured:
            _draw_distribution(axes, one, labels[one.system], here.get(one.system))
        ticks = {"0 %": 0.0, **LEVELS}
        axes.set_yticks([_rare(level) for level in ticks.values()], list(ticks))
        axes.set_ylabel("percentile")
        strokes = "; strokes below p50: medians of the short run" if here else ""
        axes.set_xlabel(f"delay; filled marks: p50; hollow marks: p99{strokes}")
        subs = (1, 2, 5) if longest / shortest < 200 else (1,)
        axes.xaxis.set_major_locator(LogLocator(10, subs=subs))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: time_text(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _legend(figure, labels.values())
    return figure


def _rare(probability: float) -> float:
    """Where a part of all stands on the axis: how rare what took longer is, in powers of ten."""
    return -log10(1 - probability)


def _end(found: Distribution) -> float:
    """How far a distribution is drawn: of fewer delays than a thousand, nobody knows the slowest one in a thousand."""
    return min(0.999, 1 - 1 / max(found.count, 2))


def _delays(results: Results, one: Measurement) -> str:
    name, found = results.title(one.system), one.distribution
    if found is None or not found.quantiles:
        return f"{name}: none of {found.given_up if found else 0} had one"
    return f"{name}: p50 {time_text(found.at(0.5))}, p99 {time_text(found.at(0.99))}"


def _draw_distribution(axes: Axes, one: Measurement, label: str, here: Measurement | None) -> None:
    look, found = LOOKS.get(one.system, OTHER), one.distribution
    kept: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": look.size}
    if found is None or not found.quantiles:
        low, high = axes.get_xlim()
        marks = [low * (high / low) ** (number / 12) for number in range(1, 12, 2)]
        axes.plot([low, high], [NEVER, NEVER], color=look.colour, linewidth=look.width, zorder=3)
        axes.plot(marks, [NEVER] * len(marks), linestyle="none", markeredgewidth=2, **kept)
        axes.plot([], [], markeredgewidth=2, linewidth=look.width, label=label, **kept)
        return
    shown = [probability for probability in PROBABILITIES if probability < _end(found)] + [_end(found)]
    axes.plot(
        [found.at(probability) for probability in shown], [*map(_rare, shown)],
        color=look.colour, linestyle=look.dash, linewidth=look.width, zorder=2,
    )  # fmt: skip
    for level, fill in zip(MARKED, (look.colour, CARD), strict=True):
        edge = CARD if fill == look.colour else look.colour  # filled marks may lie close to each other
        axes.plot(
            [found.at(level)], [_rare(level)],
            linestyle="none", markerfacecolor=fill, markeredgecolor=edge, zorder=4, **kept,
        )  # fmt: skip
    if here is not None and here.distribution is not None and here.distribution.quantiles:
        low, high = axes.get_xlim()
        if low < (median := here.distribution.at(0.5)) < high:
            axes.plot([median] * 2, [_rare(0.06), _rare(0.32)], color=look.colour, linewidth=2.4, zorder=5)
    axes.plot([], [], linestyle=look.dash, linewidth=look.width, label=label, **kept)


SCALES: Final = {
    ("fanout", "cpu"): (
        "Fan-out: what a delivery costs, by the number of streams",
        "the server's CPU for a delivery",
    ),
    ("grow", "cpu"): ("At a steady pace: what a delivery costs", "the server's CPU for a delivery"),
    ("grow", "p99"): ("At a steady pace: what one event in a hundred is older than", "from publishing to arrival, p99"),
    ("grow", "memory"): ("What an open stream holds", "the server's memory for a stream"),
}
"""What `scaling` draws, by section and quantity: its title, and what its figures are."""


def scaling(
    results: Results,
    *,
    section: str = "fanout",
    quantity: str = "cpu",
    systems: Sequence[str] | None = None,
    title: str | None = None,
    live: Results | None = None,
) -> Figure:
    """What something costs the server by the number of streams; the bars reach from the least to the most run.

    Args:
        section, quantity: one of `SCALES`.
        live: another run, whose figures are drawn as strokes.

    Raises:
        ValueError: it was not measured for these systems.
    """
    measured = _in_order(
        results.of(section, quantity=quantity), (GROWN if section == "grow" else MAIN) if systems is None else systems
    )
    measured = [one for one in measured if one.runs]
    if not measured:
        raise ValueError(
            "no fan-out was measured for these systems"
            if section == "fanout"
            else "no growth was measured for these systems"
        )
    usual, figures = SCALES[section, quantity]
    title = title or usual
    lines = {system: sorted((one for one in measured if one.system == system), key=lambda one: one.size)
             for system in dict.fromkeys(one.system for one in measured)}  # fmt: skip
    told = time_text if measured[0].unit == "us" else lambda figure: f"{figure:.3g} {measured[0].unit}"
    labels = {system: f"{results.title(system)}: {_range(points, told)}" for system, points in lines.items()}
    here = [one for one in (live.of(section, quantity=quantity) if live else ()) if one.system in lines and one.runs]
    run = _of_run(results, _number("turns", [len(one.runs) for one in measured]), live if here else None)
    with plain():
        words = "; ".join([title, run, *labels.values()])
        figure, axes = chart(350 + _legend_height(labels.values()), words, title)
        _told_below(axes, run)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for system, points in lines.items():
            look = LOOKS.get(system, OTHER)
            middles = [one.median or 0.0 for one in points]
            low = [middle - min(one.runs) for middle, one in zip(middles, points, strict=True)]
            high = [max(one.runs) - middle for middle, one in zip(middles, points, strict=True)]
            axes.errorbar(
                [one.size for one in points],
                middles,
                yerr=[low, high],
                color=look.colour,
                marker=look.marker,
                linestyle=look.dash,
                linewidth=look.width,
                elinewidth=0.8,
                capsize=2,
                markersize=look.size - 1,
                label=labels[system],
            )
        for one in here:
            look = LOOKS.get(one.system, OTHER)
            axes.plot(
                [one.size], [one.median or 0.0], marker="_", markersize=15, markeredgewidth=2.4, color=look.colour
            )
        sizes = sorted({one.size for one in [*measured, *here]})
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(sizes[0] / 1.2, sizes[-1] * 1.2)
        least, most = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if most / least < 200 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(value)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("streams; strokes are those of the short run" if here else "streams")
        axes.set_ylabel(figures)
        _legend(figure, labels.values())
    return figure


def ratios(results: Results, *, systems: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Every server section in one figure: each system's cost as a multiple of the floor's.

    Raises:
        ValueError: no ratio to the floor was measured for these systems.
    """
    wanted = [name for name in (MAIN if systems is None else systems) if name != FLOOR]
    rows: dict[str, list[Measurement]] = {}
    for section in results.sections:
        if section.base != FLOOR:
            continue
        measured = list(results.of(section.name))
        kinds = list(dict.fromkeys((one.case, one.quantity) for one in measured))
        for case, quantity in kinds:
            if quantity in LEFT_OUT or section.name == "grow" or (section.name == "pace" and quantity == "cpu"):
                continue
            name = ", ".join([section.title, *([case] if len({case for case, _ in kinds}) > 1 else [])])
            what = {"p50": "median", "cpu": "CPU", "memory": ""}.get(quantity, quantity)
            found = _in_order([one for one in measured if (one.case, one.quantity) == (case, quantity)], wanted)
            if found := [one for one in found if one.ratio]:
                rows[f"{name}: {what}" if what else name] = found
    if not rows:
        raise ValueError("no ratio to the floor was measured for these systems")
    title = title or f"Cost as a multiple of {results.title(FLOOR)}"
    names = list(dict.fromkeys(one.system for found in rows.values() for one in found))
    every = [results.title(name) for name in names]
    ours = [f"{name} ×{one.ratio:.3g}" for name, found in rows.items() for one in found if one.system == "h3ref"]
    run = _of_run(results, _number("turns", [len(one.ratios) for found in rows.values() for one in found]))
    with plain():
        height = 36 * len(rows) + 110 + _legend_height(every)
        figure, axes = chart(height, "; ".join([title, run, *ours]), title)
        _told_below(axes, run)
        axes.set_xscale("log")
        axes.axvline(1, color=INK, linewidth=1.2)
        for number, found in enumerate(rows.values()):
            axes.axhline(number, color=EDGE, linewidth=0.8, zorder=1)
            for one in found:
                look = LOOKS.get(one.system, OTHER)
                axes.plot(
                    [one.ratio or 1.0],
                    [number],
                    marker=look.marker,
                    color=look.colour,
                    markersize=13 if one.system == "h3ref" else look.size,  # behind the others, and to be seen there
                    linestyle="none",
                    zorder=2 if one.system == "h3ref" else 3,
                    label=results.title(one.system) if one.system in names else None,
                )
                if one.system in names:
                    names.remove(one.system)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(
            LogLocator(10, subs=(1, 2, 5) if high / low < 100 else (1, 3) if high / low < 1000 else (1,))
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(f"times {results.title(FLOOR)}; less is better")
        _legend(figure, every)
    return figure


def _number(what: str, counts: Iterable[int]) -> str:
    """How many: "5 turns", or "1 to 5 turns"."""
    found = sorted({*counts})
    return f"{' to '.join(f'{count:,}' for count in dict.fromkeys((found[0], found[-1])))} {what}" if found else ""


def _of_run(results: Results, number: str, live: Results | None = None) -> str:
    """Which run a figure shows: what kind, how much, when, on what."""
    kind = "quick run" if results.quick else "full run"
    machine = results.machine
    told = [f"{kind} of {results.date[:10]}", number, f"{machine['processor']}, {machine['cores']} cores"]
    if live is not None:
        told.append(f"short run of {live.date[:10]}")
    return "; ".join(filter(None, told))


def _told_below(axes: Axes, run: str) -> None:
    """Write below a figure's title which run it is."""
    axes.set_title(run, loc="left", color=SOFT, fontsize=TEXT * POINTS)


def _legend(figure: Figure, labels: Iterable[str]) -> None:
    figure.legend(loc="outside lower left", ncols=_legend_columns(labels), handlelength=3, **LEGEND)


def _legend_columns(labels: Iterable[str]) -> int:
    """Two where each has room for its words and its line."""
    return 2 if max(map(width_of, labels)) + 75 <= WIDTH / 2 else 1


def _legend_height(labels: Collection[str]) -> float:
    return 22.0 * -(-len(labels) // _legend_columns(labels))


def _title(results: Results, section: str, case: str | None) -> str:
    for one in results.sections:
        if one.name == section:
            cases = {measurement.case for measurement in results.of(section)}
            title = {"first": "Time to first event", "pace": "Age of an event when it arrives"}
            words = "one request at a time" if case == "alone" else case
            return title.get(section, one.title) + (f", {words}" if len(cases) > 1 else "")
    return section


def _in_order(measured: Iterable[Measurement], systems: Sequence[str]) -> list[Measurement]:
    found = [one for one in measured if one.system in systems]
    return sorted(found, key=lambda one: systems.index(one.system))


def _range(points: Sequence[Measurement], told: Callable[[float], str]) -> str:
    middles = [one.median or 0.0 for one in points]
    low, high = told(float(f"{min(middles):.3g}")), told(float(f"{max(middles):.3g}"))
    return low if low == high else f"{low} to {high}"
