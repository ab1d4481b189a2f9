"""`TaskTurns`: functions to call when a turn of the loop is over, on trio, whose loop calls nothing itself."""

from __future__ import annotations

from collections.abc import Callable

from ..._core.parking import Parking
from ..._core.turns import Turns, turns_here


class TaskTurns:
    """As `Turns`, with a task: everything that runs in this turn of trio's has run before it gets its own."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._parking: Parking | None = None  # while there is a task to wake

    def add(self, call: Callable[[], None]) -> None:
        """Call a function, which raises nothing, when this turn is over."""
        if not self._calls and self._parking is not None:
            self._parking.wake()
        self._calls.append(call)

    async def run(self) -> None:
        """Serve until cancelled."""
        parking = self._parking = Parking()
        if self._calls:
            parking.wake()
        while True:
            await parking.wait()
            calls, self._calls = self._calls, []
            for call in calls:
                call()


EndsOfTurns = Turns | TaskTurns


def loop_turns() -> EndsOfTurns:
    """The turns of the loop that runs here."""
    return turns_here() or TaskTurns()
