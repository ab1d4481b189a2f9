"""What servers may leave behind: descriptors, objects and tasks, counted so that nobody else's count."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from tests.waits import until


@asynccontextmanager
async def nothing_left_behind(*kinds: type) -> AsyncIterator[None]:
    """Wait, on leaving, until descriptors, objects of these kinds and tasks are no more than they were.

    They may be fewer: what an earlier test has left may go at any time.
    """

    def count() -> tuple[int, int, int]:
        gc.collect()
        alive = sum(isinstance(thing, kinds) for thing in gc.get_objects())
        return _descriptors(), alive, len(anyio.get_running_tasks())

    before = count()
    yield
    await until(lambda: all(now <= earlier for now, earlier in zip(count(), before, strict=True)))


def _descriptors() -> int:
    """How many are open, where the system tells; elsewhere none."""
    opened = Path("/proc/self/fd")
    return len(list(opened.iterdir())) if opened.exists() else 0
