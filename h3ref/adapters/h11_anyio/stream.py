"""`StreamConnection`: one stream's way out. Bytes wait in a buffer until the flusher, or a full buffer, sends them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from ..._core.outflow import Outflow
from ..._core.parking import now
from ...connection import HIGH_WATER, StreamHead
from .loop import Loop
from .sockets import in_flight, reset_when_closed
from .wire import LAST_CHUNK, chunk, stream_head

if TYPE_CHECKING:
    from .group import Shard


LARGE = HIGH_WATER
"""The size from which on it pays to keep only the rest of bytes that a socket has taken in part, and not all."""


class StreamConnection(Outflow):
    """Carries a stream over a socket: chunked for HTTP/1.1, unframed for HTTP/1.0 and for raw heads."""

    adapter_type = "h11_anyio"

    __slots__ = (
        "_bodiless",
        "_gone",
        "_head",
        "_last",
        "_opened",
        "_pending",
        "_queued",
        "_read_up_to",
        "_sock",
        "_stalled_since",
        "_unsent",
        "group",
        "is_chunked",
        "sharing",
        "size",
    )

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        gone: Callable[[], None],
        opened: Callable[[], None],
        *,
        chunked: bool,
        bodiless: bool,
    ) -> None:
        super().__init__()
        self.sharing = loop
        self.is_chunked = chunked
        self.group: Shard | None = None
        self._read_up_to = 0  # how many of its group's pending pieces it has taken already
        self._sock: socket.socket | None = sock  # None once the peer has left, or the body has ended
        self._gone = gone
        self._opened: Callable[[], None] | None = opened  # until the head is sent
        self._bodiless = bodiless
        self._head = b""  # until it leaves, together with the first bytes of the body
        self._last = b""  # what ends the body, behind all that is pending
        self._pending: list[bytes] = []
        self.size = 0  # of what is pending
        self._unsent: bytes | memoryview = b""  # framed, and refused by a full socket
        self._stalled_since: float | None = None  # while there is something that the socket refused
        self._queued = 0  # what the system had still to deliver when it was looked at last

    @property
    def buffered(self) -> int:
        return self.size + len(self._unsent) + len(self._head) + len(self._last)

    @property
    def stalled_since(self) -> float | None:
        """Since when the reader has taken nothing of what waits for it; None while nothing waits.

        A socket takes bytes again only when much of its buffer is free, so the system is asked what it still holds.
        """
        if self._stalled_since is not None and self._sock is not None:
            queued, before = in_flight(self._sock), self._queued
            self._queued = queued
            if queued < before:
                self._stalled_since = now()
        return self._stalled_since

    async def send_headers(self, head: StreamHead) -> int:
        if head.wire is not None:
            self.is_chunked = False
        data = head.wire or stream_head(head.headers, chunked=self.is_chunked)
        if self._opened is not None:
            self._opened()
            self._opened = None
        if self._sock is not None:
            self._head = data
            self.sharing.flusher.put_new(self)
        return len(data)

    def write_chunk(self, data: bytes) -> None:
        pending = self._pending
        if pending and not self._unsent and self.group is None:  # one more, as most are: it goes with the others
            pending.append(data)
            self.size += len(data)
            if self.size >= HIGH_WATER:
                self.flush_now()
            return
        if self._sock is None or not data:
            return
        if self.group is not None:
            self._catch_up(self.group)  # what was published before goes first
        self._pending.append(data)
        self.size += len(data)
        if self._unsent:
            self.sharing.backlog.put(self, self.buffered, took=False)
        elif self.size >= HIGH_WATER:
            self.flush_now()
        elif len(self._pending) == 1 and not self._head:  # else it leaves with that
            self.sharing.flusher.put(self)

    def _catch_up(self, group: Shard) -> None:
        """Take what the group has pending, so that everything goes out in the order in which it was written."""
        if self._read_up_to < len(group.pending):
            behind = group.since(self._read_up_to)
            self._read_up_to = len(group.pending)
            self._pending.append(behind)
            self.size += len(behind)

    def flush_now(self) -> int:
        """Send everything pending as one chunk; what the socket refuses goes when it takes bytes again."""
        if self._unsent or not (self._pending or self._head or self._last):
            return 0
        self._send(self._take_pending())
        return 1

    def take_shared(self, pieces: list[bytes], framed: bytes) -> bool:
        """Send what a group has pending; return whether all of it could be sent at once."""
        if self._pending or self._unsent or self._head or self._read_up_to:
            self._pending += pieces[self._read_up_to :]
            self.size = sum(map(len, self._pending))
            self._read_up_to = 0
            self.flush_now()
        elif self._sock is not None:
            try:
                sent = self._sock.send(framed)
                if sent == len(framed):
                    return True
                self._keep(memoryview(framed)[sent:], took=True)
            except BlockingIOError:
                self._keep(framed, took=False)
            except OSError:
                self._disconnected()
        return not self._unsent

    def _take_pending(self) -> bytes:
        """Everything pending, framed, after the head and before the end."""
        data, head, last = b"".join(self._pending), self._head, self._last
        self._head = self._last = b""
        self._pending.clear()
        self.size = 0
        if data and self.is_chunked:
            data = chunk(data)
        return head + data + last if head or last else data

    def _send(self, data: bytes | memoryview) -> None:
        if self._sock is None:
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._disconnected()
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:], took=sent > 0)
        elif self._unsent:
            self._unsent = b""
            self._stalled_since = None
            self.sharing.backlog.discard(self)
        if self._progress is not None:
            self._tell_waiters()

    def _keep(self, data: bytes | memoryview, *, took: bool) -> None:
        """Hold what the socket refused until it takes bytes again; whether it has just taken some counts."""
        assert self._sock is not None, "only what a socket refused is kept"
        if isinstance(data, memoryview) and data.nbytes + LARGE < len(data.obj) / 2:  # type: ignore[arg-type]
            data = bytes(data)  # else the whole of it would be kept for the rest
        self._unsent = data
        if took or self._stalled_since is None:
            self._stalled_since = now()
        self.sharing.watcher.await_write(self._sock, self._resume)
        self.sharing.backlog.put(self, self.buffered, took=took)

    def _disconnected(self) -> None:
        self._gone()
        self.release()

    def _resume(self) -> None:
        if self._sock is not None:
            self.sharing.watcher.discard_write(self._sock)
            self._send(self._unsent)
            self.flush_now()

    def joined(self, group: Shard, read_up_to: int) -> None:
        """`Member`: note that it is in a group now, with the given number of pending pieces that are not for it."""
        self.group = group
        self._read_up_to = read_up_to

    def discarded(self, group: Shard) -> None:
        """`Member`: note that it is in no group any more; what it had pending still leaves."""
        if self._sock is not None:
            self._catch_up(group)
            if self._pending:
                self.sharing.flusher.put_later(self)
        self.group = None
        self._read_up_to = 0

    async def drain(self) -> None:
        await self._until_below(self.sharing.limits.stream_buffer)

    async def flush(self) -> None:
        if self.group is not None:
            self._catch_up(self.group)
        self.flush_now()
        await self._until_below(1)

    @property
    def can_end(self) -> bool:
        """`Direct`: whether it ends at once, unless its reader falls behind at that moment."""
        return self._stalled_since is None

    async def close(self) -> None:
        if (waits := self.end_now(cut=False)) is not None:
            await waits

    async def cut(self) -> None:
        if (waits := self.end_now(cut=True)) is not None:
            await waits

    def end_now(self, *, cut: bool) -> Coroutine[Any, Any, None] | None:
        """`Direct`: as `close`, or `cut`, as far as that goes without waiting; returns what waits for the reader."""
        if self._sock is None:
            return None
        if self.group is not None:
            self.group.discard(self)
        self._last = LAST_CHUNK if self.is_chunked and not self._bodiless and not cut else b""
        shows_end = bool(self._last) or self._bodiless
        self.flush_now()  # a full socket gets it later: nothing is copied for whoever may never read
        if self._stalled_since is not None:
            return self._end_slowly(shows_end)
        self._hang_up(shows_end)
        return None

    async def _end_slowly(self, shows_end: bool) -> None:
        try:
            with anyio.move_on_after(self.sharing.limits.close_timeout, shield=True):
                await self._until_taken()
        finally:
            self._hang_up(shows_end)

    def _hang_up(self, shows_end: bool) -> None:
        if not shows_end and self._sock is not None:
            with suppress(OSError):  # the peer has left already
                self._sock.shutdown(socket.SHUT_WR)  # its end is EOF: now, since whoever closes may still clean up
        self.release()

    async def _until_taken(self) -> None:
        """Wait until its reader has taken everything, or has not read for too long."""
        limits = self.sharing.limits
        since = self.stalled_since or 0.0
        if limits.send_timeout is None or now() < since + limits.send_timeout:
            await self._until_below(1)
        else:
            self.cut_now()

    def cut_now(self) -> None:
        """Cut a reader that does not read: drop what this and the socket hold."""
        if self._sock is not None:
            reset_when_closed(self._sock)
        self.release()

    def release(self) -> None:
        """Give back the socket, which its owner closes, and all that it holds; tasks that wait go on."""
        if self._sock is None:
            return
        if self._unsent:
            self.sharing.watcher.discard_write(self._sock)
            self.sharing.backlog.discard(self)
        self._stalled_since = None
        self._sock = None
        self._gone = _nobody
        if self.group is not None:
            self.group.discard(self)
        self.sharing.flusher.discard(self)
        self._head = self._last = self._unsent = b""
        self._pending.clear()
        self.size = 0
        self._tell_waiters()


def _nobody() -> None:
    """Nobody is told that the peer has left; held in place of the one that was, since the exchange holds this
    connection."""
