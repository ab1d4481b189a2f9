"""Results as lines of text, as wide as the reader's terminal: a block for each case, and no name cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from statistics import median

from .results import Measurement, Results, SectionNote
from .systems import FLOOR

WIDTH, LEAST = 100, 80
"""Columns of what is printed where nothing else is asked for, and the least that can be asked for."""

_NAME = 26
_CELL, _SPREAD = 13, 5
_LONG_CELL = 14
_LEAST_NAME = 20


def table(results: Results, *, columns: int = WIDTH) -> Iterator[str]:
    """What was found, section by section; ratios are medians of the ratios in the same repetition.

    Args:
        columns: of the terminal; where a block has no room for how ratios are spread, they are left out.
    """
    columns = max(columns, LEAST)
    for section in results.sections:
        measured = list(results.of(section.name))
        if not measured:
            continue
        yield ""
        yield from _folded(f"{section.title}: {section.work}", columns)
        by_system = section.base == FLOOR
        lines = [*(_by_system if by_system else _by_case)(results, section, measured, columns)]
        yield from lines
        yield from _legend(section, measured, results, any("±" in line for line in lines), columns)
    for failure in results.failures:
        what = ", ".join(filter(None, [failure.section, failure.case]))
        yield from _folded(f"failed: {results.title(failure.system)} ({what}): {failure.why}", columns)
    yield ""
    yield from _folded(about(results), columns)
    for note in results.notes:
        yield from _folded(f"note: {note}", columns)


def missing(results: Results, *, columns: int = WIDTH) -> Iterator[str]:
    """What is said of each system that is not installed."""
    for system, packages in results.missing.items():
        yield from _folded(f"not installed, so left out: {system} (pip install {' '.join(packages)})", columns)


def changes(before: Results, after: Results, *, columns: int = WIDTH) -> Iterator[str]:
    """How the ratios have changed since an earlier run: h3ref's, and in encode, parse and lifecycle the others'."""
    columns = max(columns, LEAST)
    then = {_key(one): one.ratio for one in before.measurements}
    bases = {section.name: section.base for section in after.sections}
    room = min(columns, WIDTH) - 8 - 8 - 10
    is_first = True
    for one in after.measurements:
        base, old, new = bases[one.section], then.get(_key(one)), one.ratio
        ours = one.system.startswith("h3ref") if base == FLOOR else one.system != base
        if ours and old and new:
            if is_first:
                yield ""
                if before.quick != after.quick:
                    yield from _folded(
                        "note: one of the two was --quick, the other not: they did not do the same work", columns
                    )
                yield f"{'ratio':{room}}{'then':>8}{'now':>8}{'change':>10}"
                is_first = False
            name = f"{one.section}, {one.case}, {one.quantity}: {after.title(one.system)}"
            yield from _row(name, f"{_ratio(old):>8}{_ratio(new):>8}{new / old - 1:>+10.0%}", room)


def _key(one: Measurement) -> tuple[str, str, str, str]:
    return one.section, one.case, one.quantity, one.system


def _row(name: str, figures: str, room: int) -> Iterator[str]:
    """A row whose name goes on below it, where it is too long."""
    first, *rest = _filled(name, room, "  ") or [""]
    yield f"{first:{room}}{figures}".rstrip()
    yield from rest


def _by_system(results: Results, section: SectionNote, measured: Sequence[Measurement], width: int) -> Iterator[str]:
    """Blocks with a row for each system: one for each case, or one of all cases where each has one figure."""
    quantities: dict[str, list[str]] = {}
    for one in measured:
        quantities.setdefault(one.case, [])
        if one.quantity not in quantities[one.case]:
            quantities[one.case].append(one.quantity)
    blocks = [[(case, quantity) for quantity in found] for case, found in quantities.items()]
    alone = all(len(block) == 1 for block in blocks)
    if alone:
        blocks = [[column for block in blocks for column in block]]
    most = (width - _NAME) // _CELL
    parts = [block[start : start + most] for block in blocks for start in range(0, len(block), most)]
    for number, block in enumerate(parts):
        if number:
            yield ""
        yield from _block(results, measured, block, len(quantities) > 1, alone, width)


def _block(
    results: Results,
    measured: Sequence[Measurement],
    columns: Sequence[tuple[str, str]],
    named: bool,
    alone: bool,
    width: int,
) -> Iterator[str]:
    cells = {(one.system, one.case, one.quantity): one for one in measured}
    of_column = {column: [one for one in measured if (one.case, one.quantity) == column] for column in columns}
    units = {column: _unit(found) for column, found in of_column.items()}
    heads = [f"{quantity}, {units[case, quantity]}" for case, quantity in columns]
    spread = _NAME + (_CELL + _SPREAD) * len(columns) <= width
    after = " " * _SPREAD if spread else ""
    if alone and named:
        yield (" " * _NAME + "".join(f"{case:>{_CELL}}{after}" for case, _ in columns)).rstrip()
    yield (
        f"{'' if alone or not named else columns[0][0]:{_NAME}}"
        + "".join(f"{head:>{_CELL}}{after}" for head in heads).rstrip()
    )
    for system in dict.fromkeys(one.system for found in of_column.values() for one in found):
        shown = "".join(_cell(cells.get((system, *column)), units[column], _CELL, spread=spread) for column in columns)
        yield from _row(results.title(system), shown, _NAME)


def _by_case(results: Results, section: SectionNote, measured: Sequence[Measurement], width: int) -> Iterator[str]:
    """A row for each case and quantity, a column for each contender, whose name stands above it, folded."""
    columns = list(dict.fromkeys(one.system for one in measured))
    cells = {(one.system, one.case, one.quantity): one for one in measured}
    rows = {
        (case, quantity): case
        if quantity in (section.name, "time") and section.name != "encode"
        else f"{quantity}: {case}"
        for case, quantity in dict.fromkeys((one.case, one.quantity) for one in measured)
    }
    room = min(width - _LONG_CELL * len(columns), max([_LEAST_NAME, *map(len, rows.values())]) + 1)
    heads = [_filled(name, _LONG_CELL - 1) for name in columns]
    for number in range(deepest := max(map(len, heads), default=0)):
        parts = (head[number - deepest + len(head)] if number >= deepest - len(head) else "" for head in heads)
        yield " " * room + "".join(f"{part:>{_LONG_CELL}}" for part in parts)
    for (case, quantity), name in rows.items():
        shown = "".join(_cell(cells.get((column, case, quantity)), "us", _LONG_CELL) for column in columns)
        yield from _row(name, shown, room)


def _unit(measured: Sequence[Measurement]) -> str:
    figures = [one.median for one in measured if one.median is not None]
    return "ms" if figures and measured[0].unit == "us" and median(figures) >= 1000 else measured[0].unit


def _cell(one: Measurement | None, unit: str, wide: int, *, spread: bool = False) -> str:
    """A figure and its ratio, and how ratios are spread where there is room."""
    after = f"{'':{_SPREAD}}" if spread else ""
    if one is None:
        return " " * wide + after
    if one.median is None:
        return f"{'none':>{wide}}{after}"
    value = _number(one.median / 1000 if (one.unit, unit) == ("us", "ms") else one.median)
    times = "" if one.ratio is None else f"x{_ratio(one.ratio)}"
    if spread:
        after = f"{f'±{min(one.ratio_spread, 9.99):.0%}' if len(one.ratios) > 1 else '':>{_SPREAD}}"
    return f"{f'{value} {times:>6}':>{wide}}{after}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(ratio: float) -> str:
    return _number(ratio) if ratio >= 0.1 else f"{ratio:.2g}"


def _legend(
    section: SectionNote, measured: Sequence[Measurement], results: Results, spread: bool, width: int
) -> Iterator[str]:
    if not any(one.ratios for one in measured):
        return  # the base was not measured
    text = f"x: times {results.title(section.base)}, in the same turn"
    if spread:
        text += "; ±: how near half of the turns lie"
    yield f"  {text}"


def about(results: Results) -> str:
    """What the figures were taken on, and when."""
    taken_on = results.machine
    commit = f", commit {taken_on['commit']}" if taken_on.get("commit") else ""
    return (
        f"{taken_on['processor']}, {taken_on['cores']} cores, {taken_on['system']}, {taken_on['python']}; h3ref "
        f"{results.versions.get('h3ref', '?')}{commit}; {results.date[:10]}, {results.seconds:.0f} s"
        + (", quick: expect noise" if results.quick else "")
    )


def _folded(text: str, width: int) -> Iterator[str]:
    yield from _filled(" ".join(text.split()), width, "  ")


def _filled(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
