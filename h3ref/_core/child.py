"""`Child`: code in its own task, started by a task that does something else meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import TYPE_CHECKING, Any

import anyio

from .parking import Parking, asyncio_loop, asyncio_task

if TYPE_CHECKING:
    import asyncio


class Child:
    """Code in a task of its own. The task that starts it attends to it until its end, and can't leave it otherwise.

    A task group does the same for any number of tasks, at ten times the cost. On asyncio this is a plain task, and
    the attending task is interrupted by a cancellation that is taken back; on trio it is a system task, and a scope.

    Args:
        code: what runs, from the loop's next turn on.
        context: the one in which it runs.
        cancelled: called each time the attending task is cancelled: the code has to come to its end.
        loop: the asyncio loop that runs here, if it is known.

    Attributes:
        code: the same.
        is_over: whether it has come to its end.
    """

    __slots__ = ("_cancelled", "_failure", "_listening", "_loop", "_parking", "_task", "code", "is_over")

    def __init__(
        self,
        code: Coroutine[Any, Any, None],
        context: Context,
        cancelled: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.code = code
        self._cancelled = cancelled
        self._failure: BaseException | None = None
        self._parking: Parking | None = None  # where the attending task waits
        self._listening: asyncio.Task[object] | anyio.CancelScope | None = None  # what the end of the code interrupts
        self.is_over = False
        self._loop = asyncio_loop() if loop is None else loop
        self._task: asyncio.Task[None]
        if self._loop is not None:
            self._task = self._loop.create_task(code, context=context)
        else:
            from trio import lowlevel

            # Named for what it runs, as asyncio does.
            name = f"{__package__}.{getattr(code, '__qualname__', 'code')}"
            lowlevel.spawn_system_task(self._run, code, name=name, context=context)

    def attend(self, meanwhile: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
        """Run `meanwhile` until it returns or the code is over, and wait for the code in any case.

        A cancellation is raised only once the code is over.

        Raises:
            BaseException: what the code raised.
        """
        return self.attend_on_trio(meanwhile) if self._loop is None else self.attend_on_asyncio(meanwhile)

    async def attend_on_trio(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """As `attend`, in a scope that the end of the code cancels."""
        try:
            if not self.is_over:
                with anyio.CancelScope() as self._listening:
                    await meanwhile()
                self._listening = None
            await self._over()
        except anyio.get_cancelled_exc_class():
            await self._until_over()
            raise
        if self._failure is not None:
            raise self._failure

    async def attend_on_asyncio(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """As `attend`: the end of the code cancels the calling task, which takes that back."""
        import asyncio

        try:
            # Much code is over within one turn, and by then anything else begun here would have to be interrupted.
            try:
                await _turn()
            finally:
                if self._task.done():
                    self._done(self._task)
                else:
                    self._task.add_done_callback(self._done)
            if not self.is_over:
                task = self._listening = asyncio_task()
                assert task is not None, "a task attends"
                try:
                    await meanwhile()
                except asyncio.CancelledError:
                    if self._listening is not None or task.uncancel():  # somebody else has cancelled it, too
                        raise
                else:
                    if self._listening is None:
                        task.uncancel()
                finally:
                    self._listening = None
                await self._over()
        except asyncio.CancelledError:
            await self._until_over()
            raise
        if self._failure is not None:
            raise self._failure

    async def _until_over(self) -> None:
        """Wait for the end of the code, and pass each further cancellation on."""
        self._listening = None
        self._cancelled()
        with anyio.CancelScope(shield=True):
            while not self.is_over:
                try:
                    await self._over()
                except anyio.get_cancelled_exc_class():
                    self._cancelled()

    async def _over(self) -> None:
        while not self.is_over:
            if self._parking is None:
                self._parking = Parking()
            await self._parking.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            import asyncio

            self._end(asyncio.CancelledError())
        else:
            self._end(task.exception())

    async def _run(self, code: Coroutine[Any, Any, None]) -> None:
        failure: BaseException | None = None
        try:
            await code
        except BaseException as error:  # a system task that raises ends the loop; the attending task raises it
            failure = error
        self._end(failure)

    def _end(self, failure: BaseException | None) -> None:
        self._failure = failure
        self.is_over = True
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
        elif self._parking is not None:
            self._parking.wake()


@coroutine
def _turn() -> Generator[None, None, None]:
    """Let one turn of asyncio's loop go by."""
    yield
