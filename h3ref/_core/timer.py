"""`Timer`: calls a function at a given time of the event loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

import anyio

from .parking import asyncio_loop, loop_context, start_task

if TYPE_CHECKING:
    import asyncio


class Timer:
    """Calls a function at the time that it was set to. While it is not set, there is neither a task nor a timeout.

    It belongs to the loop, and ends with it. The function is called with an empty context, since it is no one's own.

    Args:
        call: what is called; it may set the timer again.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._context = Context().run(loop_context)
        self._loop = asyncio_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._scope: anyio.CancelScope | None = None  # on trio, the one in which its task sleeps
        self._task: object = None
        self.when = math.inf

    def set(self, when: float) -> None:
        """Call the function at this time, by the loop's clock, unless it is already set to an earlier one."""
        if when >= self.when:
            return
        self.when = when
        if self._loop is not None:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self._loop.call_at(when, self._ring, context=self._context)
        elif self._scope is not None:
            self._scope.deadline = when
        elif self._task is None:
            self._task = self._context.copy().run(start_task, self._sleep)

    def _ring(self) -> None:
        self.when = math.inf
        self._handle = None
        self._call()

    async def _sleep(self) -> None:
        while self.when < math.inf:
            with anyio.CancelScope(deadline=self.when) as self._scope:
                await anyio.sleep_forever()
            self._scope = None
            self._ring()
        self._task = None
