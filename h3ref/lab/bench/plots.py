"""Figures of `Results`: how delays are distributed, what fan-out costs by the number of streams, and all the ratios.

    results = Results.load(Path("results.json"))
    cdf(results, "pace")                                 # how old events are when they arrive
    cdf(results, "first", systems=FLOWS + PEERS)         # the broken flow and the fixed ones, and the peers
    scaling(results)
    ratios(results)

They are plain matplotlib figures, without pyplot's state. Colours are those of Okabe and Ito, which people tell apart
who see no red or no green; each line has a marker and a dash of its own besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .results import PROBABILITIES, Measurement, Results
from .systems import FLOOR

FLOWS: Final = ("h3ref", "h3ref-awaited", "h3ref-blocking", "h3ref-generated", "h3ref-broken")
PEERS: Final = ("raw", "starlette", "sse-starlette", "aiohttp-sse", "fastapi")
MAIN: Final = ("raw", "h3ref", "h3ref-uvicorn", "starlette", "sse-starlette", "aiohttp-sse", "fastapi")
"""One of each kind: what fits into a figure without crowding it."""

INK, SOFT, FAINT = "#1f2328", "#59636e", "#d1d9e0"


class Look(NamedTuple):
    """How a system is drawn, the same in every figure."""

    colour: str
    marker: str
    dash: Any = "-"
    width: float = 1.5
    size: float = 8


LOOKS: Final = {
    "raw": Look("#1f2328", "s", (0, (4, 2))),
    "h3ref": Look("#0072b2", "o", width=2.6),
    "h3ref-gapless": Look("#56b4e9", "^"),
    "h3ref-trio": Look("#0072b2", "v", (0, (1, 1))),
    "h3ref-uvicorn": Look("#009e73", "D", (0, (6, 2))),
    "h3ref-awaited": Look("#56b4e9", "<"),
    "h3ref-blocking": Look("#009e73", ">", (0, (6, 2))),
    "h3ref-generated": Look("#e69f00", "d", (0, (3, 1, 1, 1))),
    "h3ref-broken": Look("#d55e00", "x", width=2.6),
    "starlette": Look("#e69f00", "p"),
    "sse-starlette": Look("#d55e00", "P"),
    "sse-starlette-fast": Look("#d55e00", "X", (0, (4, 2))),
    "aiohttp-sse": Look("#cc79a7", "*", (0, (6, 1, 1, 1)), size=11),
    "fastapi": Look("#7f7f7f", "h", (0, (2, 1))),
}
OTHER: Final = Look("#7f7f7f", ".")


def cdf(
    results: Results,
    section: str,
    *,
    case: str | None = None,
    systems: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """What part of all delays is at most so long, with the median and the 99th percentile marked.

    Args:
        section: "first" or "pace".
        case: of the section; the first one it has, if not told.
        systems: which to draw, of those that were measured; `MAIN` if not told.
        title: above the figure; what the section's work was, if not told.

    Raises:
        ValueError: there is nothing to draw.
    """
    measured = [one for one in results.of(section, quantity="p50") if one.distribution is not None]
    if measured and case is None:
        case = measured[0].case
    measured = _in_order([one for one in measured if one.case == case], MAIN if systems is None else systems)
    if not measured:
        raise ValueError(f"no delays of {section}, {case or 'any case'}, were measured for these systems")
    figure, axes = _sheet(title or _title(results, section, case))
    drawn = [one.distribution for one in measured if one.distribution and one.distribution.quantiles]
    longest = max((one.at(0.998) for one in drawn), default=1e3)  # a single straggler shall not press all together
    shortest = min((one.at(0.001) for one in drawn), default=1e2)
    axes.set_xscale("log")
    axes.set_xlim(shortest * 0.8, longest * 1.6)
    axes.set_ylim(-0.02, 1.04)
    for level in (0.5, 0.99):
        axes.axhline(level, color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    for one in measured:
        _draw_distribution(axes, results, one)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.99], ["0 %", "25 %", "p50", "75 %", "p99"])
    axes.set_ylabel("part of all that took at most so long")
    axes.set_xlabel("delay")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: time_text(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _legend(axes, "p50 (filled), p99 (hollow)")
    return figure


def _draw_distribution(axes: Axes, results: Results, one: Measurement) -> None:
    look, found = LOOKS.get(one.system, OTHER), one.distribution
    name = results.title(one.system)
    if found is None or not found.quantiles:
        none = f"{name}: none of {found.given_up if found else 0} had one"
        low, high = axes.get_xlim()
        marks = [low * (high / low) ** (number / 12) for number in range(1, 12, 2)]
        axes.plot([low, high], [0, 0], color=look.colour, linewidth=look.width, zorder=3)
        axes.plot(marks, [0] * len(marks), color=look.colour, marker=look.marker, markeredgewidth=2, linestyle="none")
        axes.plot([], [], color=look.colour, marker=look.marker, markeredgewidth=2, linewidth=look.width, label=none)
        return
    middle, tail = found.at(0.5), found.at(0.99)
    label = f"{name}: {time_text(middle)}, {time_text(tail)}"
    axes.plot(found.quantiles, PROBABILITIES, color=look.colour, linestyle=look.dash, linewidth=look.width, zorder=2)
    for delay, level, fill in ((middle, 0.5, look.colour), (tail, 0.99, "white")):
        axes.plot(
            [delay],
            [level],
            marker=look.marker,
            color=look.colour,
            markerfacecolor=fill,
            markersize=look.size,
            linestyle="none",
            zorder=4,
        )
    axes.plot([], [], color=look.colour, linestyle=look.dash, linewidth=look.width, marker=look.marker, label=label)


def scaling(results: Results, *, systems: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """What a delivery costs the server by the number of streams; the bars reach from the least to the most run.

    Raises:
        ValueError: no fan-out was measured for these systems.
    """
    measured = _in_order(results.of("fanout", quantity="cpu"), MAIN if systems is None else systems)
    measured = [one for one in measured if one.runs]
    if not measured:
        raise ValueError("no fan-out was measured for these systems")
    figure, axes = _sheet(title or "Fan-out: what a delivery costs, by the number of streams")
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted({one.size for one in measured})
    for system in dict.fromkeys(one.system for one in measured):
        look = LOOKS.get(system, OTHER)
        points = sorted((one for one in measured if one.system == system), key=lambda one: one.size)
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
            label=f"{results.title(system)}: {_range(middles)} us",
        )
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(sizes[0] / 1.2, sizes[-1] * 1.2)
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("streams")
    axes.set_ylabel("CPU of the server, us a delivery")
    _legend(axes, "least to most, by size")
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
            if section.name in ("first", "pace") and quantity == "p99":
                continue
            name = ", ".join([section.title, *([case] if len({case for case, _ in kinds}) > 1 else [])])
            what = {"p50": "median", "cpu": "CPU", "memory": ""}.get(quantity, quantity)
            found = _in_order([one for one in measured if (one.case, one.quantity) == (case, quantity)], wanted)
            if found := [one for one in found if one.ratio]:
                rows[f"{name}\n{what}" if what else name] = found
    if not rows:
        raise ValueError("no ratio to the floor was measured for these systems")
    figure, axes = _sheet(title or f"Cost as a multiple of {results.title(FLOOR)}", height=0.42 * len(rows) + 1.5)
    axes.set_xscale("log")
    axes.axvline(1, color=INK, linewidth=1.2)
    names: dict[str, None] = {}
    for number, found in enumerate(rows.values()):
        axes.axhline(number, color=FAINT, linewidth=0.8, zorder=1)
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
                label=None if one.system in names else results.title(one.system),
            )
            names[one.system] = None
    axes.set_yticks(range(len(rows)), [name.replace("\n", ": ") for name in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(False, axis="y")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"times {results.title(FLOOR)}; less is better")
    _legend(axes, None)
    return figure


def time_text(microseconds: float) -> str:
    """A delay in the unit that suits it."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} us"


def _sheet(title: str, height: float = 4.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.6, height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _legend(axes: Axes, title: str | None) -> None:
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9.5, title=title, handlelength=3
    )
    legend.get_title().set_color(SOFT)
    legend.set_alignment("left")


def _title(results: Results, section: str, case: str | None) -> str:
    for one in results.sections:
        if one.name == section:
            cases = {measurement.case for measurement in results.of(section)}
            title = {"first": "Time to first event", "pace": "Paced fan-out: age of an event when it arrives"}
            words = "one request at a time" if case == "alone" else case
            return title.get(section, one.title) + (f", {words}" if len(cases) > 1 else "")
    return section


def _in_order(measured: Iterable[Measurement], systems: Sequence[str]) -> list[Measurement]:
    found = [one for one in measured if one.system in systems]
    return sorted(found, key=lambda one: systems.index(one.system))


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
