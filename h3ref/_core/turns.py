"""`Turns`: functions to call when a turn of asyncio's loop is over, all in one callback of the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from .parking import asyncio_loop, loop_context

if TYPE_CHECKING:
    import asyncio


class Turns:
    """Calls functions when the turn of the loop is over. Used on the loop's thread only."""

    __slots__ = ("_calls", "_context", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = Context().run(loop_context)
        self._calls: list[Callable[[], None]] = []

    def add(self, call: Callable[[], None]) -> None:
        """Call a function, which raises nothing, when this turn is over."""
        if not self._calls:
            self._loop.call_soon(self._over, context=self._context)
        self._calls.append(call)

    def _over(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()


def turns_here() -> Turns | None:
    """The turns of the loop that runs here; None on trio, where one turn can't be told from the next."""
    loop = asyncio_loop()
    return None if loop is None else Turns(loop)
