"""What tests wait for: that something is so, that all others wait, or that bytes have come."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel

LONGER = (0.3, 3, 30)
"""Seconds for what has to end by itself, but not before something else has happened: where that comes too late, as on
a machine that stands still for a while, a test tries again with the next of them."""


def runs_on_asyncio() -> bool:
    """Whether the event loop is asyncio's."""
    try:
        return bool(asyncio.get_running_loop())
    except RuntimeError:
        return False


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so, for 30 s of real time: a virtual clock stands still while a task runs."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it does not come"
        await anyio.lowlevel.checkpoint()


def blocking_until(condition: Callable[[], object]) -> None:
    """`until` where there is no event loop."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.001)


async def wait_all_tasks_blocked() -> None:
    """anyio's, which on asyncio looks again after 0.1 s; this one does after 1 ms, in which it waits, too."""
    if not runs_on_asyncio():
        await anyio.wait_all_tasks_blocked()
        return
    await anyio.lowlevel.checkpoint()
    this, end = asyncio.current_task(), time.monotonic() + 30
    while not all(task is this or _is_blocked(task) for task in asyncio.all_tasks()):
        assert time.monotonic() < end, "they do not come to rest"
        await anyio.sleep(0.001)


def _is_blocked(task: asyncio.Task[object]) -> bool:
    waits_for = task._fut_waiter  # type: ignore[attr-defined]
    return waits_for is not None and not waits_for.done()


async def read_until(sock: socket.socket, text: bytes, times: int = 1) -> bytes:
    """Read from a non-blocking socket until a text has come, so many times, and return all that has."""
    data = b""
    while data.count(text) < times:
        try:
            part = sock.recv(65536)
            assert part, data
            data += part
        except BlockingIOError:
            await anyio.wait_readable(sock)
    return data
