"""`recorded` makes a recording of a path's steps, which `h3ref trace` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable

from h3ref.lab.recorder import Recording
from h3ref.trace import STEPS, Record

from .spin import MODEL, Step


class Names:
    """The numbers by which the generated part of the model calls states, reasons, errors and steps."""

    def __init__(self) -> None:
        spec = json.loads((MODEL.parent / "lifecycle.json").read_text(encoding="utf-8"))
        self.steps: list[str] = [step["name"] for step in spec["steps"]]
        self.states: list[str] = [state["name"] for state in spec["states"]]
        self.reasons: list[str | None] = [None, *(reason["name"] for reason in spec["reasons"])]
        self.errors: list[str | None] = [None, *(error["name"] for error in spec["errors"])]
        self.rules = {(cell["state"], cell["trigger"]): cell for cell in spec["cells"]}


def recorded(path: Iterable[Step], *, target: str = "/events") -> Recording:
    """Return a recording of the steps of a path; the model has no clock, so each step takes a millisecond."""
    names = Names()
    return Recording(_record(names, index, step, target) for index, step in enumerate(path))


def _record(names: Names, index: int, step: Step, target: str) -> Record:
    taken = STEPS[names.steps[step.number]]
    before, error = names.states[step.before], names.errors[step.error]
    method = "HEAD" if step.is_head_request else "GET"
    return Record(
        time=index / 1000,
        exchange=1,
        step=taken.name,
        who=taken.who,
        to=taken.to,
        trigger=taken.trigger,
        before=before,
        after=names.states[step.after],
        error=error,
        rule=names.rules[before, taken.trigger]["id"] if error and taken.trigger else None,
        reason=names.reasons[step.reason],
        detail=f"{method} {target}" if index == 0 else None,
    )
