"""`Keeper`: where an ASGI application's streams are looked after, since ASGI gives it no task of its own."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING

from anyio.abc import TaskGroup

from ..._core.parking import asyncio_loop, loop_context
from ..._core.service import Service
from .ending import Endings

if TYPE_CHECKING:
    import asyncio


class Keeper:
    """Runs `Upkeep` and `Endings` in the task group of one stream's request; when that is over, in another one's.

    Args:
        service: whose streams are looked after, those of all requests in this event loop.
        after: seconds before it begins, so that streams that are over before cost no task; on asyncio, where that is
            cheap.
    """

    def __init__(self, service: Service, *, after: float = 0.0) -> None:
        self._after = after
        self._context = Context().run(loop_context)  # it serves all requests, so it has no one's context
        self._begins: asyncio.TimerHandle | None = None
        self._streams = service.streams
        self._endings = Endings(service)
        self._groups: dict[TaskGroup, None] = {}
        self._host: TaskGroup | None = None  # where it runs

    def add(self, tasks: TaskGroup) -> None:
        """A stream's request has begun."""
        self._groups[tasks] = None
        self._endings.wake()
        if self._host is None:
            self._begin()

    def discard(self, tasks: TaskGroup) -> None:
        """A request is over, and its tasks are about to be cancelled; one that was no stream is no error."""
        self._groups.pop(tasks, None)
        if self._host is tasks:
            self._host = None
            if self._groups:
                self._begin()

    def _begin(self) -> None:
        loop = asyncio_loop() if self._after else None
        if loop is None:
            self._run_somewhere()
        elif self._begins is None:
            self._begins = loop.call_later(self._after, self._run_somewhere, context=self._context)

    def _run_somewhere(self) -> None:
        self._begins = None
        for tasks in self._groups:
            self._run_in(tasks)
            return

    def _run_in(self, tasks: TaskGroup) -> None:
        self._host = tasks
        for run in (self._streams.run, self._endings.run):
            self._context.copy().run(tasks.start_soon, run)
