"""The generated part of docs/adapters.md: the order of steps of each flow, as each adapter recorded it.

`H3REF_WRITE_DOCS=1 pytest tests/test_asgi.py -k order` rewrites it; without the variable the test compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "adapters.md"

Orders = Mapping[str, Mapping[str, list[str]]]
"""Flow to adapter to the steps that were recorded."""

_PART = re.compile(r"^<!-- generated: orders -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)


def render(page: str, orders: Orders) -> str:
    """Return the page with its generated part made new.

    Raises:
        ValueError: the page has no such part, or several.
    """
    if len(_PART.findall(page)) != 1:
        raise ValueError("the page must have one part between <!-- generated: orders --> and <!-- end -->")
    body = "\n".join(_lines(orders))
    return _PART.sub(lambda _: f"<!-- generated: orders -->\n\n{body}\n\n<!-- end -->", page)


def _lines(orders: Orders) -> Iterator[str]:
    """One grid: a row for each step, a column for each flow, and one more for each adapter that differs from the first.

    A cell says when the step is taken; one that is not taken by all is marked.
    """
    adapters = list(next(iter(orders.values())))
    columns: dict[str, list[str]] = {}
    for flow, recorded in orders.items():
        columns[flow] = recorded[adapters[0]]
        for adapter in adapters[1:]:
            if recorded[adapter] != columns[flow]:
                columns[f"{flow}, {adapter}"] = recorded[adapter]
    same = "all alike" if len(columns) == len(orders) else "but for those that have a column of their own"
    yield f"Recorded on {'; '.join(adapters)}: {same}."
    yield ""
    yield '<div class="table-wrapper"><table class="orders">'
    yield f"<thead><tr><th>step</th>{''.join(f'<th>{name}</th>' for name in columns)}</tr></thead>"
    yield "<tbody>"
    for step in _merged(list(columns.values())):
        everywhere = all(step in taken for taken in columns.values())
        cells = "".join(_cell(_places(step, taken), everywhere) for taken in columns.values())
        yield f"<tr><th><code>{step}</code></th>{cells}</tr>"
    yield "</tbody></table></div>"


def _cell(places: str, everywhere: bool) -> str:
    return f"<td>{places}</td>" if everywhere or places == "–" else f'<td class="differs">{places}</td>'


def _places(step: str, taken: list[str]) -> str:
    return ", ".join(str(place) for place, one in enumerate(taken, 1) if one == step) or "–"


def _merged(orders: list[list[str]]) -> list[str]:
    """Each step once, before those that come after it in the orders that have it, as far as the orders agree."""
    found: list[str] = []
    for order in orders:
        at = 0
        for step in order:
            if step in found:
                at = max(at, found.index(step) + 1)
            else:
                found.insert(at, step)
                at += 1
    return found
