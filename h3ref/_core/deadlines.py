"""`Deadlines`: things due after some seconds, unless they are discarded first, as nearly all of them are."""

from __future__ import annotations

import math
from typing import Protocol


class Due(Protocol):
    """An object that is told when its time has come."""

    def due(self) -> None: ...


class Deadlines:
    """What is due, and when. All with the same number of seconds stand in one line, which needs no sorting."""

    def __init__(self) -> None:
        self._lines: dict[float, dict[Due, float]] = {}

    def __bool__(self) -> bool:
        return any(self._lines.values())

    def add(self, due: Due, seconds: float, now: float) -> float:
        """Have it told after this many seconds; return when that will be."""
        when = now + seconds
        self._lines.setdefault(seconds, {})[due] = when
        return when

    def discard(self, due: Due, seconds: float) -> None:
        """Forget it; it is no error if it was told already."""
        line = self._lines.get(seconds)
        if line is not None:
            line.pop(due, None)
            if not line:
                del self._lines[seconds]

    def look(self, now: float) -> float:
        """Tell all whose time has come; return when the next one is due."""
        for line in tuple(self._lines.values()):
            for due in [due for due, when in _until(line, now)]:
                line.pop(due, None)
                due.due()
        self._lines = {seconds: line for seconds, line in self._lines.items() if line}
        return min((next(iter(line.values())) for line in self._lines.values()), default=math.inf)


def _until(line: dict[Due, float], now: float) -> list[tuple[Due, float]]:
    found = []
    for due, when in line.items():
        if when > now:
            break
        found.append((due, when))
    return found
