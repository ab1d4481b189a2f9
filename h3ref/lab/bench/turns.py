"""Small work timed in this process: all contenders do the same, in turns, round by round."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

from .results import Measurement

OURS = "h3ref"
"""What the ratios of the in-process sections are to."""

Run = Callable[[], int]
Tell = Callable[[str], None]


def in_turns(runs: Mapping[str, Run], amount: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds for one of the `amount` that each run does, round by round; a round before them warms up.

    Each round begins with another contender, so that what slows the machine slows them all.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    collects = gc.isenabled()
    gc.disable()  # garbage of one contender shall not be collected on another's time
    try:
        for number in range(rounds + 1):
            for name in order:
                begin = time.perf_counter()
                runs[name]()
                if number:
                    times[name].append((time.perf_counter() - begin) / amount * 1e6)
                gc.collect(0)
            order.append(order.pop(0))
    finally:
        if collects:
            gc.enable()
    return times


def measurements(
    section: str, case: str, quantity: str, times: Mapping[str, list[float]], base: str = OURS
) -> list[Measurement]:
    """The measurements of what `in_turns` returned, with the ratios to a base."""
    return [
        Measurement(
            section,
            case,
            quantity,
            "us",
            name,
            tuple(runs),
            tuple(run / of_base for run, of_base in zip(runs, times.get(base, ()), strict=False)),
        )
        for name, runs in times.items()
    ]
