"""Silence: whether nothing comes from a server in the same process."""

from __future__ import annotations

from typing import Final

import anyio
from anyio.abc import SocketStream

PARTS: Final = 10


async def receive_within(stream: SocketStream, seconds: float) -> bytes | None:
    """Return what comes next, b"" at the end of the connection, or None after that many seconds of silence.

    They are counted in parts: when the process stands still for a while, so does its server, and that is no silence.
    """
    for _ in range(PARTS):
        with anyio.move_on_after(seconds / PARTS):
            try:
                return await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return b""
    return None
