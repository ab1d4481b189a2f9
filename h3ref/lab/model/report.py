"""The report that `make model` prints and keeps: each run with its verdict, states, depth and seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .runs import Run
from .spin import Verdict

RESULTS: Final = Path(__file__).resolve().parents[3] / "notebooks" / "results" / "model.json"
COUNTEREXAMPLE: Final = Path(__file__).resolve().parents[3] / "spec" / "model" / "counterexample.ndjson"

Row = dict[str, Any]


def row(one: Run, verdicts: Sequence[Verdict]) -> Row:
    """What is kept of a run; several formulas are one row."""
    violated = [verdict.violated for verdict in verdicts if verdict.violated]
    path = next((verdict.path for verdict in verdicts if verdict.path), ())
    return {
        "name": one.name,
        "flow": one.flow,
        "model": one.model,
        "about": one.about,
        "violated": violated[0] if violated else None,
        "steps": len(path) or None,
        "states": sum(verdict.states for verdict in verdicts),
        "transitions": sum(verdict.transitions for verdict in verdicts),
        "depth": max(verdict.depth for verdict in verdicts),
        "seconds": round(sum(verdict.seconds for verdict in verdicts), 2),
        "megabytes": round(max(verdict.megabytes for verdict in verdicts)),
        "is_whole": all(verdict.is_whole for verdict in verdicts),
    }


def line(found: Mapping[str, Any]) -> str:
    """A row in words."""
    if found["violated"]:
        verdict = f"{found['violated']} does not hold"
        if found["steps"]:
            verdict += f", after {found['steps']} steps"
    else:
        verdict = "all holds" if found["is_whole"] else "cut short: the bounds of the search were met"
    size = f"{found['states']:>10,} states, depth {found['depth']:>4}, {found['seconds']:7.2f} s"
    return f"{found['name']:26} {verdict:48} {size}"


def save(path: Path = RESULTS, **found: Any) -> None:
    """Keep what was found under these names, and all else as it was."""
    lines = [f"{json.dumps(name)}: {_lines(value)}" for name, value in {**load(path), **found}.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _lines(value: Any) -> str:
    """A list with a line for each of its items, and an object likewise."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n]"
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {_lines(list(item))}" for name, item in value.items()) + "\n}"


def load(path: Path = RESULTS) -> dict[str, Any]:
    """What was kept; nothing where nothing was."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
