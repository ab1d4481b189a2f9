"""What a second worker brings, from what `python -m tests.cluster.workers` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from .generated import table

REACH: Final = 1.7
"""What two workers should deliver, in multiples of one."""


class Workers(NamedTuple):
    """What was measured: the figures of each event loop, the load that they had, and on what.

    Attributes:
        about: the date and the machine.
        streams: how many all workers had.
        rate: events a second on each of them.
        turns: how often one worker and two took turns.
        figures: by event loop.
    """

    about: dict[str, Any]
    streams: int
    rate: int
    turns: int
    figures: dict[str, dict[str, float]]


def load(path: Path) -> Workers:
    """Read the figures.

    Raises:
        OSError, ValueError: they can't be read, or are of another format.
    """
    try:
        workers = Workers(**json.loads(path.read_text(encoding="utf-8")))
        _ = [one["value"] for one in workers.figures.values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not the figures that tests.cluster.workers writes: {error!r}") from error
    return workers


def lines(workers: Workers) -> Iterator[str]:
    """The table, and what it was measured on."""
    rows = [
        [
            loop,
            f"×{one['value']:.2f} ({one['least']:.2f} to {one['most']:.2f})",
            f"at least ×{REACH}",
            f"{one['one us']:.1f} µs",
            f"{one['memory MiB']:.0f} MiB",
        ]
        for loop, one in workers.figures.items()
    ]
    head = ["", "two workers deliver, to one", "target", "CPU of a delivery", "memory of a worker"]
    yield from table(head, rows, numbers=True)
    yield ""
    about, machine = workers.about, workers.about["machine"]
    yield f"{workers.streams:,} streams with {workers.rate} events a second each; medians of {workers.turns} turns,"
    yield f"with the least and the most. Taken on {about['date']} on {machine['processor']}, {machine['cores']} cores,"
    yield f"{machine['system']}, with {machine['python']}."
