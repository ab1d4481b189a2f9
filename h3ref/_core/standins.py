"""Stand-ins for a stream's connection, while its head is on its way and once its end has begun."""

from __future__ import annotations

import anyio

from .. import trace
from ..connection import Connection


class Ended:
    """Stands for the connection of a stream whose end has begun: it takes nothing and holds nothing."""

    adapter_type = "ended"
    stalled_since = sharing = None
    buffered = 0

    async def send_headers(self, head: object) -> int:
        return 0  # pragma: no cover  # the port requires the method; a stream that ends has had its head

    def write_chunk(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    async def flush(self) -> None: ...

    async def close(self) -> None: ...

    async def cut(self) -> None: ...


ENDED = Ended()


class BehindHead:
    """Stands for the connection of a stream whose head is on its way: what is sent meanwhile waits for that.

    Attributes:
        connection: whose head it is.
        arrivals: what to record when the waiting bytes leave.
    """

    __slots__ = ("_chunks", "_over", "arrivals", "buffered", "connection", "is_waiting")

    adapter_type = "behind its head"
    stalled_since = sharing = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arrivals: list[tuple[trace.Step, bytes]] = []
        self.buffered = 0
        self.is_waiting = True
        self._chunks: list[bytes] = []
        self._over: anyio.Event | None = None  # set when it waits no longer; made only when a task waits for that

    async def send_headers(self, head: object) -> int:
        return 0  # pragma: no cover  # the port requires the method; the flow sends them over the connection itself

    def write_chunk(self, data: bytes) -> None:
        if self.is_waiting:  # else there is no body
            self._chunks.append(data)
            self.buffered += len(data)

    def take_all(self) -> bytes:
        """Wait no longer; return what was sent meanwhile."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.buffered = 0
        self.is_waiting = False
        if self._over is not None:
            self._over.set()
        return data

    async def drain(self) -> None:
        if self.is_waiting:
            if self._over is None:
                self._over = anyio.Event()
            await self._over.wait()

    async def flush(self) -> None:
        await self.drain()
        await self.connection.flush()

    async def close(self) -> None:
        await self.connection.close()

    async def cut(self) -> None:
        await self.connection.cut()
