"""`Outside`: what may wake a waiting event loop besides its tasks: threads, sockets, processes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

PAUSE: Final = 0.05
"""Real seconds of silence after which virtual time jumps even if there is something outside."""

OURS: Final = "h3ref TestClient"
"""The name of the threads on which clients have their event loops."""


class Outside:
    """What there is outside one event loop with virtual time.

    Args:
        pause: real seconds of silence that time waits for it before it jumps.
        files: counts the sockets, pipes and processes that the loop waits for.
        workers: the threads that the clock already heeds.

    Attributes:
        passed_over: what was there when time jumped, in words.
    """

    def __init__(
        self, pause: float, files: Callable[[], int], workers: Callable[[], set[threading.Thread]] = set
    ) -> None:
        self.passed_over: set[str] = set()
        self._pause = pause
        self._files = files
        self._workers = workers
        self._before: WeakSet[threading.Thread] = WeakSet()
        self.begin()

    def begin(self) -> None:
        """The loop begins: what is there now has nothing to do with it."""
        self.passed_over.clear()
        self._before = WeakSet(threading.enumerate())

    def silence(self) -> float:
        """The real seconds of silence that have to pass before time jumps; 0 if nothing is outside."""
        return self._pause if self._found() else 0.0

    def pass_over(self) -> None:
        """Time jumps."""
        self.passed_over.update(self._found())

    def describe(self) -> str:
        """What virtual time did not wait for, as a remark after an error; "" if there was nothing."""
        if not self.passed_over:
            return ""
        passed_over = ", ".join(sorted(self.passed_over))
        return (
            f"; time was virtual, and waited only {self._pause:g} s at a time for {passed_over}: "
            "virtual=False makes it real, a larger outside= makes it wait longer"
        )

    def _found(self) -> list[str]:
        workers = self._workers()
        found = [
            f"the thread {thread.name!r}"
            for thread in threading.enumerate()
            if thread not in self._before and thread not in workers and not _is_of_a_loop(thread)
        ]
        return [*found, "sockets or processes"] if self._files() else found


def _is_of_a_loop(thread: threading.Thread) -> bool:
    """Whether a thread belongs to some event loop, as anyio's and trio's workers and clients' own threads do."""
    return thread.name == OURS or hasattr(thread, "idle_workers") or _is_cached_by_trio(thread)


def _is_cached_by_trio(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and not frame.f_code.co_filename.endswith("_thread_cache.py"):
        frame = frame.f_back
    return frame is not None
