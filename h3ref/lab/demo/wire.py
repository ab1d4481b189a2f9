"""A client that is nothing but a socket: it receives what was on the wire, byte for byte."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import anyio

from ..silence import receive_within


class Arrival(NamedTuple):
    """What one reading of the socket returned.

    Attributes:
        ms: milliseconds since the request was sent.
        data: the bytes; b"" at the end of the connection, None when nothing came and it is still open.
    """

    ms: float
    data: bytes | None


async def receive(port: int, path: str, *, patience: float) -> AsyncIterator[Arrival]:
    """Send a GET to a port of this machine, and yield what comes until it ends, or nothing comes any more.

    Args:
        patience: seconds of silence after which the client leaves.
    """
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        begin = time.monotonic()
        await stream.send(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        while True:
            data = await receive_within(stream, patience)
            yield Arrival((time.monotonic() - begin) * 1000, data)
            if not data:
                return
