"""`Cells`: the matrix of states and triggers; each cell's colour shows the outcome, and each rule is a link."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from h3ref.lifecycle import TRIGGERS, State

from .themed import style

ACCEPTED, REFUSED, NOTHING = "accepted", "refused", "no-op"
_SIGNS: Final = {ACCEPTED: "→", REFUSED: "✗", NOTHING: "="}

_RULES: Final = """\
.h3cells { overflow-x: auto; margin: 8px 0; }
.h3cells table { border-collapse: separate; border-spacing: 3px; margin: 0; width: 100%; min-width: 640px;
  font: 13px/1.4 system-ui, sans-serif; }
.h3lab.h3cells table :is(th, td) { text-align: left; padding: 5px; border: 0; color: var(--h3lab-ink); background: none;
  vertical-align: top; }
.h3lab.h3cells table th { font: 600 13px/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; }
.h3lab.h3cells table tr:nth-child(n):nth-child(n) { background: none; }
.h3lab.h3cells table td, .h3cells p span { border-left: 4px solid; border-radius: 3px; }
.h3lab.h3cells :is(td, span).accepted { background: var(--h3lab-good-tint); border-color: var(--h3lab-good); }
.h3lab.h3cells :is(td, span).refused { background: var(--h3lab-bad-tint); border-color: var(--h3lab-bad); }
.h3lab.h3cells :is(td, span).no-op { background: var(--h3lab-calm-tint); border-color: var(--h3lab-soft); }
.h3cells a { color: inherit; text-decoration: underline; }
.h3cells p { font: 13px/1.4 system-ui, sans-serif; margin: 0 0 6px; }
.h3cells p span { display: inline-block; padding: 2px 8px; margin: 0 4px 4px 0; }
@media (max-width: 760px) {
  .h3cells table { min-width: 0; }
  .h3cells :is(tr, th[scope="row"]) { display: block; }
  .h3cells tr:first-child { display: none; }
  .h3lab.h3cells table th[scope="row"] { padding-top: 10px; }
  .h3cells td { display: flex; gap: 6px; margin-top: 3px; }
  .h3cells td::before { content: attr(data-state); flex: 0 0 13ch; color: var(--h3lab-soft); }
  .h3cells td br { display: none; }
  .h3cells td a { margin-left: auto; white-space: nowrap; }
}
"""
"""On a page narrower than 760 pixels a row becomes a list, in which each cell names its state."""


class Cells:
    """What was tried: a row for each trigger, a column for each state. As the last value of a cell it shows itself.

    Args:
        tried: by state and trigger, the next state or the error, and the rule that refused it or "".
        rules: by state and trigger, the rule's id, to which the cell leads: an anchor such as `#L-17`.

    Raises:
        ValueError: a cell was not tried.
    """

    def __init__(self, tried: Mapping[tuple[str, str], tuple[str, str]], rules: Mapping[tuple[str, str], str]) -> None:
        wanted = {(str(state), trigger) for state in State for trigger in TRIGGERS}
        if missing := sorted(wanted - {(str(state), trigger) for state, trigger in tried}):
            raise ValueError(f"{len(missing)} cells were not tried, such as {missing[0][1]} in {missing[0][0]}")
        self._tried, self._rules = tried, rules

    def _kind(self, state: str, trigger: str) -> str:
        outcome, rule = self._tried[state, trigger]
        return REFUSED if rule else NOTHING if outcome == state == State.CLOSED else ACCEPTED

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{state}</th>' for state in State)
        rows = "\n".join(
            f'<tr><th scope="row">{trigger}</th>{"".join(self._cell(state, trigger) for state in State)}</tr>'
            for trigger in TRIGGERS
        )
        counts = {kind: sum(self._kind(*cell) == kind for cell in self._tried) for kind in _SIGNS}
        legend = " ".join(
            f'<span class="{kind}">{_SIGNS[kind]} {count} {kind}</span>' for kind, count in counts.items()
        )
        return (
            f'{style(_RULES)}\n<div class="h3lab h3cells" tabindex="0" role="group" '
            f'aria-label="each trigger in each state">\n<p>{legend}</p>\n'
            f"<table>\n<tr><th></th>{head}</tr>\n{rows}\n</table>\n</div>"
        )

    def _cell(self, state: str, trigger: str) -> str:
        kind, (outcome, _) = self._kind(state, trigger), self._tried[state, trigger]
        rule = self._rules[state, trigger]
        link = f'<a href="#{escape(rule)}">{escape(rule)}</a>'
        return (
            f'<td class="{kind}" data-state="{state}"><span>{_SIGNS[kind]} {_breakable(outcome)}</span><br>{link}</td>'
        )

    def __repr__(self) -> str:
        """The same as text."""
        lines = []
        for trigger in TRIGGERS:
            told = [
                f"{state}: {_SIGNS[self._kind(state, trigger)]} {self._tried[state, trigger][0]}" for state in State
            ]
            lines.append(f"{trigger:13} " + "; ".join(told))
        return "\n".join(lines)


def _breakable(name: str) -> str:
    """A name that may be broken where a word begins, and nowhere else."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=_)", "<wbr>", escape(name))


class Reasons:
    """Why each cell is as it is: a list, each rule an anchor with its id, which leads to the specification.

    Args:
        cells: of `spec/lifecycle.json`.
        page: the specification's page of rules.
    """

    def __init__(self, cells: Sequence[Mapping[str, Any]], *, page: str = "../spec/rules.md") -> None:
        self._cells, self._page = cells, page

    def _repr_markdown_(self) -> str:
        return "\n".join(
            f'- <a id="{cell["id"]}"></a>**[{cell["id"]}]({self._page}#{cell["id"]})** {said} {cell["why"]}'
            for cell, said in zip(self._cells, self._said("`"), strict=True)
        )

    def _said(self, quote: str = "") -> Iterator[str]:
        for cell in self._cells:
            place = f"{quote}{cell['trigger']}{quote} in {quote}{cell['state']}{quote}"
            if "error" in cell:
                yield f"{place}: refused, {quote}{cell['error']}{quote}."
            else:
                yield f"{place}: {quote}{cell['next']}{quote}."

    def __repr__(self) -> str:
        """The same as text."""
        return "\n".join(
            f"{cell['id']}  {said} {cell['why']}" for cell, said in zip(self._cells, self._said(), strict=True)
        )
