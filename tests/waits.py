"""What tests wait for: that something is so, or that bytes have come."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so, for 30 s of real time: a virtual clock stands still while a task runs."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it does not come"
        await anyio.lowlevel.checkpoint()


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
