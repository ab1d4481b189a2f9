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
    """A table of flows and adapters, each cell the number of its order; then each order, written out."""
    adapters = list(next(iter(orders.values())))
    numbered: list[list[str]] = []
    yield f"| flow | {' | '.join(adapters)} |"
    yield "| --- " * (len(adapters) + 1) + "|"
    for flow, recorded in orders.items():
        cells = []
        for adapter in adapters:
            if recorded[adapter] not in numbered:
                numbered.append(recorded[adapter])
            cells.append(f"order {numbered.index(recorded[adapter]) + 1}")
        yield f"| {flow} | {' | '.join(cells)} |"
    for number, order in enumerate(numbered, 1):
        yield ""
        yield f"Order {number}: {' → '.join(f'`{step}`' for step in order)}"
