"""`Keeper`: where an ASGI application's streams are looked after, since ASGI gives it no task of its own."""

from __future__ import annotations

from contextvars import Context

from anyio.abc import TaskGroup

from ..._core.upkeep import Upkeep


class Keeper:
    """Runs `Upkeep.run` in the task group of one stream's request; when that is over, in another one's.

    Args:
        streams: those of all requests in this event loop.
    """

    def __init__(self, streams: Upkeep) -> None:
        self._streams = streams
        self._groups: dict[TaskGroup, None] = {}
        self._host: TaskGroup | None = None  # where it runs

    def add(self, tasks: TaskGroup) -> None:
        """A stream's request has begun."""
        self._groups[tasks] = None
        if self._host is None:
            self._run_in(tasks)

    def discard(self, tasks: TaskGroup) -> None:
        """A request is over, and its tasks are about to be cancelled; one that was no stream is no error."""
        self._groups.pop(tasks, None)
        if self._host is tasks:
            self._host = None
            for other in self._groups:
                self._run_in(other)
                return

    def _run_in(self, tasks: TaskGroup) -> None:
        self._host = tasks
        Context().run(tasks.start_soon, self._streams.run)  # it serves all requests, so it has no one's context
