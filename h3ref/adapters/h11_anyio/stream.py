"""`StreamConnection`: one stream's way out. Bytes wait in a buffer until the flusher, or a full buffer, sends them."""

from __future__ import annotations

import socket
from collections.abc import Callable

import anyio
import anyio.lowlevel

from ...connection import HIGH_WATER, StreamHead
from .loop import Loop
from .wire import LAST_CHUNK, chunk, stream_head


class StreamConnection:
    """Carries a stream over a socket: chunked for HTTP/1.1, unframed for HTTP/1.0 and for raw heads."""

    adapter_type = "h11_anyio"

    __slots__ = ("_bodiless", "_chunked", "_gone", "_loop", "_pending", "_progress", "_size", "_sock", "_unsent")

    def __init__(
        self, sock: socket.socket, loop: Loop, gone: Callable[[], None], *, chunked: bool, bodiless: bool
    ) -> None:
        self._sock: socket.socket | None = sock  # None once the peer has left, or the body has ended
        self._loop = loop
        self._gone = gone
        self._chunked = chunked
        self._bodiless = bodiless
        self._pending: list[bytes] = []
        self._size = 0  # of what is pending
        self._unsent = memoryview(b"")  # framed, and refused by a full socket
        self._progress: anyio.Event | None = None  # set when bytes have left; made only by one who waits

    @property
    def buffered(self) -> int:
        return self._size + len(self._unsent)

    async def send_headers(self, head: StreamHead) -> int:
        if head.wire is not None:
            self._chunked = False
        data = head.wire or stream_head(head.headers, chunked=self._chunked)
        self._send(data)
        return len(data)

    def write_chunk(self, data: bytes) -> None:
        if self._sock is None or not data:
            return
        self._pending.append(data)
        self._size += len(data)
        if self._size >= HIGH_WATER:
            self.flush_now()
        elif len(self._pending) == 1:
            self._loop.flusher.put(self)

    def flush_now(self) -> None:
        """Send all that is pending as one chunk; what the socket refuses goes when it takes bytes again."""
        if self._pending and not self._unsent:
            self._send(self._take_pending())

    def _take_pending(self) -> bytes:
        data = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        return chunk(data) if self._chunked else data

    def _send(self, data: bytes | memoryview) -> None:
        if self._sock is None:
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._gone()
            self.abort()
            return
        self._unsent = memoryview(data)[sent:]
        if self._unsent:
            self._loop.watcher.await_write(self._sock, self._resume)
        self._tell_waiters()

    def _resume(self) -> None:
        if self._sock is not None:
            self._loop.watcher.forget_write(self._sock)
            self._send(self._unsent)
            self.flush_now()

    async def drain(self) -> None:
        await self._until_below(HIGH_WATER)

    async def flush(self) -> None:
        self.flush_now()
        await self._until_below(1)

    async def _until_below(self, mark: int) -> None:
        while self._sock is not None and self.buffered >= mark:
            if self._progress is None:
                self._progress = anyio.Event()
            await self._progress.wait()

    def _tell_waiters(self) -> None:
        if self._progress is not None:
            self._progress.set()
            self._progress = None

    async def close(self) -> None:
        if self._chunked and not self._bodiless:
            await self._end(LAST_CHUNK)
        else:
            await self._end(b"")

    async def cut(self) -> None:
        await self._end(b"")

    async def _end(self, last: bytes) -> None:
        if self._sock is None:
            return
        data = (self._take_pending() if self._pending else b"") + last
        if self._unsent:
            self._unsent = memoryview(bytes(self._unsent) + data)
        elif data:
            self._send(data)
        with anyio.move_on_after(self._loop.close_timeout):
            await self._until_below(1)
        self.abort()

    def abort(self) -> None:
        """Send nothing more; whoever waits goes on. The socket's owner closes it."""
        if self._unsent and self._sock is not None:
            self._loop.watcher.forget_write(self._sock)
        self._sock = None
        self._pending.clear()
        self._size = 0
        self._unsent = memoryview(b"")
        self._tell_waiters()
