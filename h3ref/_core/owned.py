"""`Owned`: a context in its own task, which may be left in a different task from the one that entered it."""

from __future__ import annotations

import logging
import signal
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from .failure import parts_of
from .parking import asyncio_loop, asyncio_task, start_task

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("h3ref.owned")

T = TypeVar("T")


class Owned(Generic[T]):
    """Enters a context, and leaves it, in one task that does nothing else.

    A task group belongs to the task that entered it. Fixtures of pytest-asyncio, cells of a notebook and exit stacks
    leave in a task other than the one they entered in: with this they may. A cancellation in the body, or while
    entering or leaving, cancels the context, too. If the body raises, the context is left in order.

    A context that fails by itself is logged, and raises on leaving. On asyncio it also cancels the task that entered
    it, as a task group does; on trio no task can cancel another, so the body goes on.

    The task belongs to the loop, on trio as a system task: if the context is never left, it ends with the loop.

    Args:
        context: what is entered; it gets none of the body's exceptions.
    """

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context
        self._value: T
        self._task: object  # kept, as `start_task` requires
        self._begun = anyio.Event()
        self._left = anyio.Event()
        self._over = anyio.Event()
        self._failure: BaseException | None = None
        self._scope = anyio.CancelScope()  # of the task that owns it
        self._body: asyncio.Task[object] | None = None  # the asyncio task in which the body runs, while it does
        self._cancelled: asyncio.Task[object] | None = None  # the same, once the failure has cancelled it

    async def __aenter__(self) -> T:
        self._task = start_task(self._own)
        await self._passing_on(self._begun)
        if self._failure is not None:
            raise self._failure
        self._body = asyncio_task()
        return self._value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._body = None
        cancelled = anyio.get_cancelled_exc_class()
        if error is not None and any(isinstance(part, cancelled) for part in parts_of(error)):
            self._scope.cancel()
        self._left.set()
        try:
            await self._passing_on(self._over)
        finally:
            if self._cancelled is not None:
                self._cancelled.uncancel()
            if self._failure is not None:
                raise self._failure

    async def _passing_on(self, event: anyio.Event) -> None:
        """Wait for an event; pass a cancellation on to the owner, and wait for its end."""
        try:
            await event.wait()
        except anyio.get_cancelled_exc_class():
            self._scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._over.wait()
            raise

    async def _own(self) -> None:
        try:
            with self._scope:
                async with self._context as self._value:
                    self._begun.set()
                    await self._left.wait()
        except anyio.get_cancelled_exc_class():
            raise  # the loop ends
        except BaseException as error:
            self._failure = error
            if self._begun.is_set() and not self._left.is_set():
                self._tell(error)
        finally:
            self._over.set()
            self._begun.set()

    def _tell(self, failure: BaseException) -> None:
        log.error("a background task has failed by itself, and has ended", exc_info=failure)
        if self._body is not None:
            if not self._body.done():
                self._body.cancel()
                self._cancelled = self._body
        elif asyncio_loop() is None and not isinstance(failure, Exception):
            signal.raise_signal(signal.SIGINT)  # Ctrl-C came here: trio passes it on to the main task
