"""`Loop`: what all connections of a server share, and the tasks that serve them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from ...connection import Group
from ...limits import Limits
from .backlog import Backlog
from .deadlines import Deadlines
from .flusher import Flusher
from .group import StreamGroup
from .turns import TaskTurns, loop_turns
from .watcher import Watcher


class Loop:
    """What all connections of a server share.

    Args:
        flush_gap: seconds, as in `Flusher`.
        limits: the server's.
        stop: called with a stream that has to be cut because its reader does not read.

    Attributes:
        watcher: waits on every socket.
        flusher: sends what is due.
        idle: how long a client may be silent between two requests.
        heads: how long the head of a request may take to come.
        backlog: what slow readers have not taken.
    """

    def __init__(self, flush_gap: float, limits: Limits, stop: Callable[[Any], None]) -> None:
        self._turns = loop_turns()
        self.watcher = Watcher(self._turns, limits.send_timeout)
        self.flusher = Flusher(self._turns, flush_gap)
        self.idle = Deadlines(limits.keep_alive)
        self.heads = Deadlines(limits.head_timeout)
        self.backlog = Backlog(limits.server_buffer, stop)
        self.limits = limits
        self._scope = anyio.CancelScope(shield=True)

    def create_group(self, mark: int, slow: Callable[[object], None]) -> Group:
        """`Sharing`: streams of one server can get the same bytes."""
        return StreamGroup(self.flusher, min(mark, self.limits.stream_buffer), slow)

    async def run(self) -> None:
        """Serve until `stop`, even if the server is cancelled from outside: its streams have to end in order."""
        with self._scope:
            async with anyio.create_task_group() as tasks:
                for serve in (self.watcher.run, self.flusher.run, self.idle.run, self.heads.run):
                    tasks.start_soon(serve)
                if isinstance(self._turns, TaskTurns):
                    tasks.start_soon(self._turns.run)

    def stop(self) -> None:
        """Stop serving, once there are no streams any more."""
        self._scope.cancel()
