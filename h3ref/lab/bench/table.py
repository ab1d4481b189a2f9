"""The results as lines of text, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from .results import Measurement, Results, SectionNote
from .systems import FLOOR

WIDTH = 100
_NAME, _CELL = 28, 20
COLUMNS = 3
"""Figures side by side."""

_LONG_NAME, _LONG_CELL = 52, 16


def table(results: Results) -> Iterator[str]:
    """What was found, section by section; ratios are medians of the ratios in the same repetition."""
    for section in results.sections:
        measured = list(results.of(section.name))
        if not measured:
            continue
        yield ""
        yield from _folded(f"{section.title}: {section.work}")
        yield from (_by_system if section.base == FLOOR else _by_case)(results, section, measured)
        yield from _spread(section, measured, results)
    for failure in results.failures:
        what = ", ".join(filter(None, [failure.section, failure.case]))
        yield from _folded(f"failed: {results.title(failure.system)} ({what}): {failure.why}")
    yield ""
    yield from _folded(about(results))
    for note in results.notes:
        yield from _folded(f"note: {note}")


def missing(results: Results) -> Iterator[str]:
    """A line for each system that is not installed."""
    for system, packages in results.missing.items():
        yield f"not installed, so left out: {system} (pip install {' '.join(packages)})"


def changes(before: Results, after: Results) -> Iterator[str]:
    """How the ratios have changed since an earlier run: h3ref's, and in encode, parse and lifecycle the others'."""
    then = {_key(one): one.ratio for one in before.measurements}
    bases = {section.name: section.base for section in after.sections}
    head = f"{'ratio':{_LONG_NAME + 18}}{'then':>8}{'now':>8}{'change':>10}"
    for one in after.measurements:
        base, old, new = bases[one.section], then.get(_key(one)), one.ratio
        ours = one.system.startswith("h3ref") if base == FLOOR else one.system != base
        if ours and old and new:
            if head:
                yield ""
                if before.quick != after.quick:
                    yield "note: one of the two was --quick, the other not: they did not do the same work"
                yield head
                head = ""
            name = f"{one.section}, {one.case}, {one.quantity}"
            shown = f"{name[:_LONG_NAME]:{_LONG_NAME}}{after.title(one.system)[:17]:18}"
            yield f"{shown}{_ratio(old):>8}{_ratio(new):>8}{new / old - 1:>+10.0%}"


def _key(one: Measurement) -> tuple[str, str, str, str]:
    return one.section, one.case, one.quantity, one.system


def _by_system(results: Results, section: SectionNote, measured: Sequence[Measurement]) -> Iterator[str]:
    """Blocks with a row for each system: one for each case, or cases side by side where each has one figure."""
    quantities: dict[str, list[str]] = {}
    for one in measured:
        quantities.setdefault(one.case, [])
        if one.quantity not in quantities[one.case]:
            quantities[one.case].append(one.quantity)
    alone = all(len(found) == 1 for found in quantities.values())
    blocks = [[(case, quantity) for quantity in found] for case, found in quantities.items()]
    if alone:
        columns = [column for block in blocks for column in block]
        blocks = [columns[start : start + COLUMNS] for start in range(0, len(columns), COLUMNS)]
    for number, block in enumerate(blocks):
        if number:
            yield ""
        for start in range(0, len(block), COLUMNS):
            yield from _block(results, measured, block[start : start + COLUMNS], len(quantities) > 1, alone)


def _block(
    results: Results, measured: Sequence[Measurement], columns: Sequence[tuple[str, str]], named: bool, alone: bool
) -> Iterator[str]:
    cells = {(one.system, one.case, one.quantity): one for one in measured}
    of_column = {column: [one for one in measured if (one.case, one.quantity) == column] for column in columns}
    units = {column: _unit(found) for column, found in of_column.items()}
    heads = [f"{quantity}, {units[case, quantity]}" for case, quantity in columns]
    if alone and named:
        yield " " * _NAME + "".join(f"{case:>{_CELL}}" for case, _ in columns).rstrip()
    yield f"{'' if alone or not named else columns[0][0]:{_NAME}}" + "".join(f"{head:>{_CELL}}" for head in heads)
    for system in dict.fromkeys(one.system for found in of_column.values() for one in found):
        row = f"{results.title(system)[: _NAME - 1]:{_NAME}}"
        for column in columns:
            row += f"{_cell(cells.get((system, *column)), units[column], spread=True):>{_CELL}}"
        yield row.rstrip()


def _by_case(results: Results, section: SectionNote, measured: Sequence[Measurement]) -> Iterator[str]:
    """A row for each case and quantity, a column for each contender."""
    columns = list(dict.fromkeys(one.system for one in measured))
    cells = {(one.system, one.case, one.quantity): one for one in measured}
    for number, name in enumerate(columns):  # names may be longer than columns are wide: one a line, each over its own
        yield f"{name:>{_LONG_NAME + (number + 1) * _LONG_CELL}}"
    for case, quantity in dict.fromkeys((one.case, one.quantity) for one in measured):
        name = case if quantity in (section.name, "time") and section.name != "encode" else f"{quantity}: {case}"
        row = "".join(f"{_cell(cells.get((column, case, quantity)), 'us'):>{_LONG_CELL}}" for column in columns)
        yield f"{name[: _LONG_NAME - 1]:{_LONG_NAME}}{row}".rstrip()


def _unit(measured: Sequence[Measurement]) -> str:
    figures = [one.median for one in measured if one.median is not None]
    return "ms" if figures and measured[0].unit == "us" and median(figures) >= 1000 else measured[0].unit


def _cell(one: Measurement | None, unit: str, *, spread: bool = False) -> str:
    if one is None:
        return ""
    if one.median is None:
        return "none    -" + " " * (8 if spread else 2)
    value = _number(one.median / 1000 if (one.unit, unit) == ("us", "ms") else one.median)
    times = "" if one.ratio is None else f"x{_ratio(one.ratio)}"
    if not spread:
        return f"{value} {times:>6}"
    within = f"±{one.ratio_spread:.0%}" if len(one.ratios) > 1 else ""
    return f"{value} {times:>6} {within:>6}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(ratio: float) -> str:
    return _number(ratio) if ratio >= 0.1 else f"{ratio:.2g}"


def _spread(section: SectionNote, measured: Sequence[Measurement], results: Results) -> Iterator[str]:
    if not any(one.ratios for one in measured):
        return  # the base was not measured
    text = f"  x: times {results.title(section.base)}, in the same turn"
    if any(len(one.ratios) > 1 for one in measured):
        text += "; ±: how near half of the turns lie"
    yield text


def about(results: Results) -> str:
    """What the figures were taken on, and when."""
    taken_on = results.machine
    commit = f", commit {taken_on['commit']}" if taken_on.get("commit") else ""
    return (
        f"{taken_on['processor']}, {taken_on['cores']} cores, {taken_on['system']}, {taken_on['python']}; h3ref "
        f"{results.versions.get('h3ref', '?')}{commit}; {results.date[:10]}, {results.seconds:.0f} s"
        + (", quick: expect noise" if results.quick else "")
    )


def _folded(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            yield line
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    yield line
