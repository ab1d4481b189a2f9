"""`accompanied`: runs code, and something else beside it until the code is over."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from . import scopes
from .child import Child
from .parking import Parking
from .steps import begin

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("h3ref.companion")


def accompanied(
    code: Coroutine[Any, Any, None],
    context: Context,
    cancelled: Callable[[], None],
    meanwhile: Callable[[], Awaitable[None]],
    loop: asyncio.AbstractEventLoop | None = None,
    patience: float = 5.0,
) -> Coroutine[Any, Any, None]:
    """Run code to its end, and `meanwhile` beside it until that returns.

    On asyncio the code is a `Child`. On trio a task costs three times as much, so the code runs in the calling task,
    and `meanwhile` in a `Companion`, which begins when the code first waits. A cancellation is raised only once the
    code is over.

    Args:
        code: what runs.
        context: the one in which it runs as a `Child`.
        cancelled: called when the calling task is cancelled: the code has to come to its end.
        meanwhile: what runs beside it.
        loop: the asyncio loop that runs here, if it is known.
        patience: seconds that a `Companion` gets to end once the code is over; it may shield itself.

    Raises:
        BaseException: what the code raised, or else what `meanwhile` raised.
    """
    base = scopes.base() if loop is None else None
    if base is None:
        return Child(code, context, cancelled, loop).attend(meanwhile)
    return in_this_task(code, base, cancelled, meanwhile, patience)


async def in_this_task(
    code: Coroutine[Any, Any, None],
    base: object,
    cancelled: Callable[[], None],
    meanwhile: Callable[[], Awaitable[None]],
    patience: float,
) -> None:
    from trio import CancelScope, move_on_after

    with CancelScope(shield=True):
        steps = begin(code)
        if steps is None:
            return
        companion = Companion(meanwhile, cancelled, base)
        try:
            await steps.follow()
        finally:
            with move_on_after(patience) as bounded:
                await companion.end()
            if bounded.cancelled_caught:
                log.warning("%r does not end %g s after its cancellation: it is left to itself", meanwhile, patience)
    await anyio.lowlevel.checkpoint_if_cancelled()
    if companion.failure is not None:
        raise companion.failure


class Companion:
    """A trio system task beside the shielded code of another task. It hears what that code can't: a cancellation.

    To hear it, it is in the same scope as that task. It raises nothing, since that would end the loop.

    Args:
        meanwhile: what it runs, until that returns.
        cancelled: called when the scope is cancelled, or `meanwhile` has failed.
        base: what trio knows of the scope.

    Attributes:
        failure: the exception that it failed with.
    """

    __slots__ = ("_cancelled", "_is_over", "_parking", "_scope", "failure")

    def __init__(self, meanwhile: Callable[[], Awaitable[None]], cancelled: Callable[[], None], base: object) -> None:
        from trio import CancelScope, lowlevel

        self._cancelled: Callable[[], None] | None = cancelled
        self._parking = Parking()
        self._scope = CancelScope()
        self._is_over = False
        self.failure: BaseException | None = None
        task = lowlevel.spawn_system_task(self._run, meanwhile, name=meanwhile, context=copy_context())
        scopes.adopt(task, base)

    async def end(self) -> None:
        """Cancel it, and wait until it has ended."""
        self._cancelled = None
        if not self._is_over:
            self._scope.cancel()
        while not self._is_over:
            await self._parking.wait()

    async def _run(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        try:
            try:
                with self._scope:
                    await meanwhile()
            except anyio.get_cancelled_exc_class():
                self._tell()
        except BaseException as error:
            self.failure = error
            with suppress(Exception):
                self._tell()
        finally:
            self._is_over = True
            self._parking.wake()

    def _tell(self) -> None:
        if self._cancelled is not None:
            self._cancelled()
