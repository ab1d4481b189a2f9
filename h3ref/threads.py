"""Worker threads: plain `def` handlers and streams run on them, counted apart, since streams last."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from inspect import isawaitable, iscoroutine
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from .callables import name_of
from .errors import TooManyStreams
from .limits import Limits


class ThreadPool:
    """The threads of one server.

    Args:
        limits: how many there may be.
        refused: counts by limit who was refused.

    Attributes:
        handlers: counts the threads of plain `def` handlers; further ones wait.
        streams: counts those of plain `def` streams; further ones are refused.
        busy: the threads that run something of the user's.
    """

    def __init__(self, limits: Limits, refused: Counter[str]) -> None:
        self.refused = refused
        self.handlers = anyio.CapacityLimiter(limits.handler_threads)
        self.streams = anyio.CapacityLimiter(limits.stream_threads)
        self.busy: set[threading.Thread] = set()  # each adds and discards itself
        self._any = anyio.CapacityLimiter(math.inf)  # the two above count; this one only runs

    async def run(self, function: Callable[..., Any], *args: Any) -> None:
        """Run a plain def on a thread, which a cancellation leaves to itself.

        Raises:
            TypeError: it returned an awaitable, which nobody would await.
        """
        await anyio.to_thread.run_sync(self._run_here, function, args, abandon_on_cancel=True, limiter=self._any)

    def _run_here(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        thread = threading.current_thread()
        self.busy.add(thread)
        try:
            result = function(*args)
        finally:
            self.busy.discard(thread)
        if isawaitable(result):
            if iscoroutine(result):
                result.close()
            name = name_of(function)
            raise TypeError(f"{name} is a plain def that returned an awaitable, which nobody awaits: make it async def")


class ThreadUse:
    """The thread that one exchange uses, if any: counted as a handler's first, as a stream's once it streams."""

    __slots__ = ("_counted_by", "_groups", "_pool")

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._counted_by: anyio.CapacityLimiter | None = None
        self._groups: tuple[TaskGroup, ...] = ()  # what only abandon() cancels

    @property
    def is_counted(self) -> bool:
        """Whether a thread is counted for this exchange."""
        return self._counted_by is not None

    async def run(self, function: Callable[..., Any], *args: Any) -> None:
        """Run a plain def on a thread and wait for its end; only `abandon` ends the waiting."""
        is_first = self._counted_by is None  # else it is a stream's, or a hook's of what runs on a thread already
        if is_first:
            await self._pool.handlers.acquire_on_behalf_of(self)
            self._counted_by = self._pool.handlers
        outer = self._groups
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.cancel_scope.shield = True  # a thread can't be cancelled, it learns of the end at its next send
                self._groups = (*outer, tasks)
                try:
                    await self._pool.run(function, *args)
                except Exception as error:  # carried past the task group, which would wrap it
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            self._groups = outer
            if is_first:
                self.release()
        if failure is not None:
            raise failure

    def run_beside(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> bool:
        """Run a task on the event loop for as long as the thread runs; False if there is none."""
        if not self._groups:
            return False
        self._groups[-1].start_soon(function, *args)
        return True

    def count_as_stream(self) -> None:
        """Count the thread, or the one that will be needed, as a stream's.

        Raises:
            TooManyStreams: all threads for streams are taken.
        """
        streams = self._pool.streams
        if self._counted_by is streams:
            return
        try:
            streams.acquire_on_behalf_of_nowait(self)
        except anyio.WouldBlock:
            self._pool.refused["stream_threads"] += 1
            count = f"{streams.total_tokens:.0f}"
            raise TooManyStreams(f"all {count} threads for blocking streams are taken; try again later") from None
        self.release()
        self._counted_by = streams

    def release(self) -> None:
        """Count no thread for this exchange any more."""
        limiter, self._counted_by = self._counted_by, None
        if limiter is not None:
            limiter.release_on_behalf_of(self)

    def abandon(self) -> None:
        """Leave the thread to itself."""
        for tasks in self._groups:
            tasks.cancel_scope.cancel()
