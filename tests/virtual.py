"""Virtual time: an event loop whose clock jumps to the next deadline as soon as nothing else can happen."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import trio.testing

A_DAY = 24 * 3600
"""What asyncio waits at most at a time, so that it stands for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls; where a loop would sleep, it tells how long that would have been."""

    slept = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None or timeout >= A_DAY:
            return super().select(None)  # no deadline, or that of a sleep for ever: only I/O, or a thread, can go on
        self.slept += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in which hours of sleep take no time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.slept


def virtual_backends() -> list[Any]:
    """The parameters for pytest's `anyio_backend`: both event loops, each with virtual time."""
    return [
        ("asyncio", {"loop_factory": VirtualLoop}),
        ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}),
    ]
