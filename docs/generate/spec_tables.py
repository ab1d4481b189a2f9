"""The generated parts of the pages in `spec/`, written from `spec/lifecycle.json` and `h3ref/trace.py`.

`python -m docs.generate.spec_tables` rewrites them; with `--check` it changes nothing and exits 1 when one of
them has drifted. How a part is marked stands in `generated`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from h3ref.trace import STEPS

from .generated import table, update

SPEC = Path(__file__).resolve().parents[2] / "spec"

Spec = dict[str, Any]
Cell = dict[str, Any]


def names(spec: Spec) -> Iterator[str]:
    """The states, the reasons and the errors, each with its sentence."""
    for title, key in (("State", "states"), ("Reason", "reasons"), ("Error", "errors")):
        yield from table([title, "meaning"], ([f"`{item['name']}`", item["means"]] for item in spec[key]))
        yield ""


def matrix(spec: Spec) -> Iterator[str]:
    """The whole machine at a glance: a row for each trigger, a column for each state."""
    states = [state["name"] for state in spec["states"]]
    cells = {(cell["state"], cell["trigger"]): cell for cell in spec["cells"]}
    rows = (
        [f"`{name}` ({trigger['who']})", *(_short(cells[state, name]) for state in states)]
        for trigger in spec["triggers"]
        for name in [trigger["name"]]
    )
    yield from table(["trigger (who)", *states], rows)


def rules(spec: Spec) -> Iterator[str]:
    """Each rule as a sentence, with its reason."""
    for trigger in spec["triggers"]:
        yield f"### {trigger['name']}"
        yield ""
        yield f"{trigger['means']} {_closing_words(trigger)}"
        yield ""
        for cell in spec["cells"]:
            if cell["trigger"] == trigger["name"]:
                yield f"- {_anchored(cell['id'])} In `{cell['state']}` it {_verdict(cell)}. {cell['why']}"
        yield ""


def steps(spec: Spec) -> Iterator[str]:
    """The names that `step` may have in a line of a trace."""
    rows = (
        [_code(step["name"]), step["who"], step["to"], _code(step["trigger"] or ""), STEPS[step["name"]].words]
        for step in spec["steps"]
    )
    yield from table(["step", "who", "to", "trigger", "in a drawing"], rows)


def orders(spec: Spec) -> Iterator[str]:
    """Each rule for the records of one exchange, as a sentence, with its reason."""
    for order in spec["orders"]:
        yield f"- {_anchored(order['id'])} {order.get('means') or _ordered(order)} {order['why']}"


PAGES: dict[str, tuple[Callable[[Spec], Iterator[str]], ...]] = {
    "machine.md": (names, matrix),
    "rules.md": (rules, orders),
    "formats.md": (steps,),
}
"""Each page's generated parts, named as their functions are."""


def parts_of(spec: Spec, page: str) -> dict[str, list[str]]:
    """The lines of a page's generated parts, by name."""
    return {part.__name__: list(part(spec)) for part in PAGES[page]}


def _anchored(rule: str) -> str:
    """A rule's id as the place that links lead to, in the site and on a code host."""
    return f'<a id="{rule}"></a>**{rule}**'


def _ordered(order: Cell) -> str:
    several = len(order["steps"]) > 1
    them = _either(order["steps"], "and")
    match order:
        case {"after": names}:
            return f"{them} {'come' if several else 'comes'} after {_either(names)}."
        case {"each": names}:
            return f"For each {_either(names)} there is at most one {_either(order['steps'])}, after it."
        case {"not_after": names}:
            return f"{them} never {'come' if several else 'comes'} after {_either(names)}."
        case {"in": states}:
            return f"{them} {'are' if several else 'is'} taken in {_either(states)}."
        case {"reasons": reasons}:
            return f"{them} {'are' if several else 'is'} for an exchange that is closed for {_either(reasons)}."
        case {"not_reasons": reasons}:
            return f"{them} never {'come' if several else 'comes'} once the exchange is closed for {_either(reasons)}."
        case {"only": {"before": before, "reason": reason, "method": method}}:
            are = "are" if several else "is"
            return f"{them} with {_code(reason)}, taken in {_code(before)}, {are} for {method} alone."
    raise ValueError(f"{order['id']} is of no kind that can be told")


def _either(names: Sequence[str], word: str = "or") -> str:
    *most, last = map(_code, names)
    return f"{', '.join(most)} {word} {last}" if most else last


def _code(name: str) -> str:
    return f"`{name}`" if name else ""


def _short(cell: Cell) -> str:
    rule = f"([{cell['id']}](rules.md#{cell['id']}))"
    if "error" in cell:
        return f"{cell['error']} {rule}"
    answers = "".join(f", {status} for {', '.join(reasons)}" for status, reasons in _answers(cell).items())
    kept = ", reason kept" if cell.get("keeps_reason") else ""
    return f"`{cell['next']}`{answers}{kept} {rule}"


def _verdict(cell: Cell) -> str:
    if "error" in cell:
        return f"is rejected: `{cell['error']}`"
    if cell.get("keeps_reason"):
        return "changes nothing, and the first reason stays"
    answers = " and ".join(f"{status} for {_either(reasons, 'and')}" for status, reasons in _answers(cell).items())
    told = f", and the client gets {answers}" if answers else ""
    return f"{'stays in' if cell['next'] == cell['state'] else 'leads to'} `{cell['next']}`{told}"


def _answers(cell: Cell) -> dict[int, list[str]]:
    """The statuses that a client gets because of a cell, each with the reasons for it."""
    reasons: dict[int, list[str]] = {}
    for reason, status in cell.get("answer", {}).items():
        reasons.setdefault(status, []).append(reason)
    return reasons


def _closing_words(trigger: dict[str, Any]) -> str:
    pulled = f"Pulled by: {trigger['who']}."
    if "may_be_told" in trigger:
        others = ", ".join(f"`{reason}`" for reason in trigger["may_be_told"] if reason != trigger["gives"])
        return f"{pulled} It closes with the reason `{trigger['gives']}`, unless it is told one of {others}."
    return f"{pulled} It closes with the reason `{trigger['gives']}`." if trigger["gives"] else pulled


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the pages, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.generate.spec_tables", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a part has drifted")
    parser.add_argument("--spec", type=Path, default=SPEC, help="the directory with lifecycle.json and the pages")
    options = parser.parse_args(arguments)

    def parts(page: str) -> dict[str, list[str]]:
        return parts_of(json.loads((options.spec / "lifecycle.json").read_text(encoding="utf-8")), page)

    command = "python -m docs.generate.spec_tables"
    return max(
        update(options.spec / page, partial(parts, page), check=options.check, command=command) for page in PAGES
    )


if __name__ == "__main__":
    sys.exit(main())
