"""`Worker`: one process that serves, as its parent sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread

from ..errors import AppNotFound, StartupFailed
from .lines import Lines, Message
from .signals import PARENTS
from .task import Task


class Worker:
    """A process that serves.

    Args:
        task: what it does; its descriptors are open here.
        generation: how many hang-ups there were before it was started.

    Raises:
        OSError: the system can't start another process.

    Attributes:
        number: the number of its share of the place.
        generation: as above.
        failure: what it said has kept it from starting; otherwise None.
        began: the loop's time at which it began to serve; None before that.
        settled: set once it serves, or is over.
        over: set once it is over, and `status` says how.
    """

    def __init__(self, task: Task, generation: int) -> None:
        self.number = task.number
        self.generation = generation
        self.failure: StartupFailed | None = None
        self.began: float | None = None
        self.settled = anyio.Event()
        self.over = anyio.Event()
        self.status = 0
        message = task.message()
        ours, theirs = socket.socketpair()
        shared = {descriptor for share in task.shares for descriptor in share}
        with theirs, _signals_held():
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "h3ref.server.work", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(), *shared),
                    stdin=subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._lines = Lines(ours)
        self.tell(**message)

    @property
    def process(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def why_not(self) -> StartupFailed:
        """What has kept it from starting."""
        return self.failure or StartupFailed(f"a worker did not start: its process {self.ending}")

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.status >= 0:
            return f"has ended with status {self.status}"
        try:
            return f"was ended by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"was ended by signal {-self.status}"

    def tell(self, **message: Any) -> None:
        """Tell it something."""
        self._lines.send(**message)

    async def attend(self, hear: Callable[[Worker, Message], None]) -> None:
        """Pass on what it says, until it is over."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, hear)
            self.status = await self._ended()
            tasks.cancel_scope.cancel()
        self._lines.close()
        self.over.set()
        self.settled.set()

    async def _listen(self, hear: Callable[[Worker, Message], None]) -> None:
        async for message in self._lines.messages():
            match message:
                case {"ready": _}:
                    self.began = anyio.current_time()
                    self.settled.set()
                case {"failed": text, "is_missing": is_missing}:
                    self.failure = (AppNotFound if is_missing else StartupFailed)(text)
                case _:
                    hear(self, message)

    async def _ended(self) -> int:
        if hasattr(os, "pidfd_open"):
            descriptor = os.pidfd_open(self.process)
            try:
                await anyio.wait_readable(descriptor)
            finally:
                os.close(descriptor)
            return self._process.wait()
        return await anyio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    def reap(self) -> None:
        """End it, as the last thing: it leaves no zombie."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep these signals from a new process until it has its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
