"""Results as sentences: how much of something came in time, and which systems are not in a run."""

from __future__ import annotations

from collections.abc import Sequence

from ..charts import time_text
from .results import PROBABILITIES, Results
from .systems import TITLES


def within(results: Results, section: str, system: str, microseconds: float) -> str:
    """Say what share of a system's delays came within a time, in the first case of a section.

    Raises:
        ValueError: no delays of it were measured.
    """
    for one in results.of(section, quantity="p50"):
        found = one.distribution
        if one.system == system and found is not None and found.quantiles:
            part = max((part for part in PROBABILITIES if found.at(part) <= microseconds), default=0.0)
            return (
                f"{results.title(system)}: {part:.1%} of {found.count:,} came within {time_text(microseconds)}, "
                f"half of them within {time_text(found.at(0.5))}."
            )
    raise ValueError(f"no delays of {system} in {section} were measured")


def absent(results: Results, systems: Sequence[str]) -> str:
    """Which of these systems are not in a run, and what would bring them."""
    there = {one.system for one in results.measurements}
    gone = [name for name in dict.fromkeys(systems) if name not in there]
    if not gone:
        return "Every system that the figures name is in this run."
    return f"Not in this run: {', '.join(_why(results, name) for name in gone)}."


def _why(results: Results, name: str) -> str:
    packages = results.missing.get(name)
    why = f"pip install {' '.join(packages)}" if packages else "it was not asked for"
    return f"{TITLES.get(name, name)} ({why})"
