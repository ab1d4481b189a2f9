"""`Tasks`: the tasks that answer requests, one for each complete request, all owned by the server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskGroup

from ..._core.parking import Parking, asyncio_loop

if TYPE_CHECKING:
    import asyncio

    import trio


class Tasks:
    """The tasks of one server, started by the code that has read a request.

    Each begins in the context that the server was started in, no matter what starts it: what one request sets in its
    context stays its own.

    On trio they belong to the nursery that the task group is made of: anyio would give each a scope and an event. On
    asyncio they are plain tasks, since those of a task group take 2 KB more each, and three times as long to start;
    what the task group would do for them is done here.

    Args:
        group: the server's, just entered by the task that calls; it is left only when none of them runs any more.
        cancelled: called when the server is cancelled from outside.
    """

    def __init__(self, group: TaskGroup, cancelled: Callable[[], None]) -> None:
        self._group = group
        self._loop = asyncio_loop()
        self._running: set[asyncio.Task[None]] = set()
        self._tell = self._done  # one for all tasks
        self._context = copy_context()
        self._failures: list[BaseException] = []
        self._failed = Parking()
        self._nursery: trio.Nursery
        if self._loop is not None:
            group.start_soon(self._pass_on, cancelled)
        else:
            from trio import lowlevel

            self._nursery = lowlevel.current_task().child_nurseries[-1]

    def start(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Start a task, on the loop's thread."""
        if self._loop is None:
            self._context.run(self._nursery.start_soon, function, *args)  # which copies it
        else:
            task = self._loop.create_task(function(*args), context=self._context.copy())
            self._running.add(task)
            task.add_done_callback(self._tell, context=self._context)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                # The event loop itself has raised it. A second time would break off what ends in order because of it.
                self._group.cancel_scope.cancel()
            else:
                self._failures.append(failure)
                self._failed.wake()

    async def _pass_on(self, cancelled: Callable[[], None]) -> None:
        try:
            await self._failed.wait()
            raise self._failures.pop()
        finally:
            cancelled()
