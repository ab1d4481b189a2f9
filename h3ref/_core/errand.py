"""`Errand`: one step in its own task, which goes on even if the task that waits for it gives up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

from .parking import asyncio_loop, now, start_task
from .steps import begin

Step = Callable[[], Coroutine[Any, Any, None]]


class Errand:
    """Runs a function once, in a task that its owner ends by `cancel`; a waiting task may give up and come back.

    A task group would have to be entered and left by one task, around everything in between, which a generator that
    iterates a source can't do. So this task belongs to the event loop, and to its owner.
    """

    def __init__(self, step: Step) -> None:
        self.is_awaited = False
        self._over = anyio.Event()
        self._scope = anyio.CancelScope()
        self._failure: BaseException | None = None
        self._task = start_task(self._run, step)  # kept, as that requires

    async def wait(self) -> None:
        """Wait until it is over."""
        self.is_awaited = True
        try:
            await self._over.wait()
        finally:
            self.is_awaited = False

    async def cancel(self) -> None:
        """Cancel it, and wait until it has ended."""
        self.abandon()
        await self._over.wait()

    def abandon(self) -> None:
        """Cancel it, and wait no longer: a step that shields itself ends when it likes."""
        self._scope.cancel()

    def result(self) -> None:
        """Raise what it raised."""
        if self._failure is not None:
            raise self._failure

    async def _run(self, step: Step) -> None:
        try:
            with self._scope:
                await step()
        except anyio.get_cancelled_exc_class():  # the event loop ends
            raise
        except BaseException as failure:  # for the task that waits: a trio system task may raise nothing
            self._failure = failure
        finally:
            self._over.set()


async def within(call: Awaitable[object], seconds: float | None) -> bool:
    """Await a call to foreign code, and give it up when it waits for too long, even if it shields itself.

    Args:
        call: what is awaited. What it raises after it was given up is lost.
        seconds: the most that it may wait; None for no limit.

    Returns:
        Whether it was given up.

    Raises:
        BaseException: what it raises.
    """
    if asyncio_loop() is not None:
        steps = begin(call)
        return steps is not None and await steps.go_on(None if seconds is None else now() + seconds)
    errand = Errand(lambda: _awaiting(call))
    try:
        with anyio.move_on_after(seconds) as bounded:
            await errand.wait()
    finally:
        errand.abandon()
    if bounded.cancelled_caught:
        return True
    errand.result()
    return False


async def _awaiting(call: Awaitable[object]) -> None:
    await call
