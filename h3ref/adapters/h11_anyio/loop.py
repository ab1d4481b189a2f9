"""`Loop`: what all connections of a server share, and the tasks that serve them all.

The `Watcher` waits on every socket, the `Flusher` sends what is due, `Deadlines` ends who keeps silent.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from ..._core.parking import Parking, asyncio_loop, loop_context
from ...connection import Group
from ...limits import Limits

log = logging.getLogger(__name__)

SENDS_A_TURN = 64
"""After so many system calls the flusher gives way: a round over thousands of streams must not hold up the loop."""

Ready = Callable[[], None]


def bound_silence(sock: socket.socket, seconds: float | None) -> None:
    """Have the system end a connection whose peer acknowledges nothing, as one that vanished, where it can.

    Accepted sockets have it from their listener. It counts from the moment when the peer's window is full, which is
    before ours, so it is given twice the time. None leaves it to the system, which has patience.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = 0 if seconds is None else min(int(seconds * 2000), 2**31 - 1)
        with suppress(OSError):  # the peer has left already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class Watcher:
    """Waits on the sockets of all connections at once, in a selector that the event loop itself waits on.

    A socket's entry is a pair of callables: what to do when it can be read, and when it can be written.

    Args:
        send_timeout: seconds that a full socket may take nothing, which whoever waits for it looks after; or None.
    """

    def __init__(self, send_timeout: float | None = None) -> None:
        self._send_timeout = send_timeout
        self._selector = selectors.DefaultSelector()
        self._entries: dict[int, tuple[Ready | None, Ready | None]] = {}  # by descriptor
        self._lock = threading.Lock()  # a plain def handler may start a stream on its worker thread

    def watch(self, sock: socket.socket, readable: Ready) -> None:
        """Call `readable` on the loop's thread whenever the socket has bytes or an end to read."""
        with self._lock:
            self._enter(sock.fileno(), readable, self._entries.get(sock.fileno(), _NOTHING)[1])

    def await_write(self, sock: socket.socket, writable: Ready) -> None:
        """Call `writable` on the loop's thread, until `forget_write`, when the socket takes bytes again."""
        # The system's clock runs on for a peer with a small window though it reads; ours sees that it does.
        bound_silence(sock, None)
        with self._lock:
            self._enter(sock.fileno(), self._entries.get(sock.fileno(), _NOTHING)[0], writable)

    def forget(self, sock: socket.socket) -> None:
        """Stop waiting; do so before the socket is closed."""
        with self._lock:
            self._enter(sock.fileno(), None, None)

    def forget_write(self, sock: socket.socket) -> None:
        """Stop waiting until the socket takes bytes."""
        bound_silence(sock, self._send_timeout)
        with self._lock:
            self._enter(sock.fileno(), self._entries.get(sock.fileno(), _NOTHING)[0], None)

    def _enter(self, descriptor: int, readable: Ready | None, writable: Ready | None) -> None:
        known = descriptor in self._entries
        events = (selectors.EVENT_READ if readable else 0) | (selectors.EVENT_WRITE if writable else 0)
        if events:
            self._entries[descriptor] = (readable, writable)
            if known:
                self._selector.modify(descriptor, events)
            else:
                self._selector.register(descriptor, events)
        elif known:
            del self._entries[descriptor]
            self._selector.unregister(descriptor)

    async def run(self) -> None:
        """Serve until cancelled."""
        fileno = getattr(self._selector, "fileno", None)
        assert fileno is not None, "the platform's selector has no descriptor to wait on"
        loop = asyncio_loop()
        if loop is not None and hasattr(loop, "add_reader"):
            # Once and for all: to wait anew for each turn takes a quarter of the time to a stream's first event.
            with suppress(NotImplementedError):
                loop_context().run(loop.add_reader, fileno(), self._turn)
                try:
                    await anyio.sleep_forever()
                finally:
                    loop.remove_reader(fileno())
        while True:
            await anyio.wait_readable(fileno())
            self._turn()
            await anyio.lowlevel.checkpoint()

    def _turn(self) -> None:
        """A function of its own, so that the task that waits keeps no stream alive."""
        with self._lock:
            ready = self._selector.select(0)
        for key, events in ready:
            readable, writable = self._entries.get(key.fd, _NOTHING)
            if events & selectors.EVENT_READ:
                _call(readable)
            if events & selectors.EVENT_WRITE:
                _call(writable)

    def close(self) -> None:
        """Release the selector's descriptor."""
        self._selector.close()


_NOTHING: tuple[None, None] = (None, None)


class Flushable(Protocol):
    """What has bytes to send."""

    def flush_now(self) -> int:
        """Send them, as far as the sockets take them; return the number of system calls that it took."""


class Flusher:
    """Sends what streams have pending: the first after quiet at once, then in rounds, a least gap apart.

    Args:
        gap: seconds between two rounds; with 0 a round comes with each turn of the event loop.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._due: dict[Flushable, None] = {}
        self._last = -1.0
        self._parking: Parking | None = None  # while there is a task to wake

    def put(self, stream: Flushable) -> None:
        """Send what the stream has pending: now if all has been quiet, else with the next round."""
        if not self._due and self._gap:
            now = time.monotonic()
            if now - self._last >= self._gap:
                self._last = now
                stream.flush_now()
                return
        self.put_later(stream)

    def put_later(self, stream: Flushable) -> None:
        """Send what the stream has pending with the next round, which comes with the loop's next turn after quiet."""
        if not self._due and self._parking is not None:
            self._parking.wake()
        self._due[stream] = None

    def discard(self, stream: Flushable) -> None:
        """The stream has nothing to send any more."""
        self._due.pop(stream, None)

    async def run(self) -> None:
        """Serve until cancelled."""
        parking = self._parking = Parking()
        if self._due:
            parking.wake()
        while True:
            await parking.wait()
            while self._due:
                await self._pause()
                round, self._due = self._due, {}
                while round:
                    self._send(round)
                    if round or self._due:  # else it waits next
                        await anyio.lowlevel.checkpoint()
                self._last = time.monotonic()

    async def _pause(self) -> None:
        pause = self._last + self._gap - time.monotonic()
        if pause > 0:
            await anyio.sleep(pause)

    def _send(self, round: dict[Flushable, None]) -> None:
        """A function of its own, so that the task that sleeps keeps no stream alive."""
        left = SENDS_A_TURN
        while round and left > 0:
            stream = next(iter(round))
            del round[stream]
            try:
                left -= stream.flush_now()
            except Exception:  # one stream's failure must not end the task that serves them all
                log.exception("sending a stream's bytes failed")


class Waiting(Protocol):
    """Who waits for something that may never come."""

    def expire(self) -> None:
        """The time is up."""


class Deadlines:
    """Ends those who have waited for some time, always the same, so that the oldest is always the next.

    Args:
        seconds: how long each may wait; None for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._due: dict[Waiting, float] = {}
        self._parking: Parking | None = None

    def put(self, waiting: Waiting) -> None:
        """From now on the time counts, also where it has counted before."""
        if self._seconds is None:
            return
        if not self._due and self._parking is not None:
            self._parking.wake()
        self._due.pop(waiting, None)  # who is put anew comes last
        self._due[waiting] = time.monotonic() + self._seconds

    def discard(self, waiting: Waiting) -> None:
        """It has come, or nobody waits any more."""
        self._due.pop(waiting, None)

    def __contains__(self, waiting: Waiting) -> bool:
        return waiting in self._due

    async def run(self) -> None:
        """Serve until cancelled."""
        parking = self._parking = Parking()
        while True:
            if self._due:
                await anyio.sleep(self._expire())
            else:
                await parking.wait()

    def _expire(self) -> float:
        """Tell those whose time is up; return the seconds until the next one's is."""
        now = time.monotonic()
        while self._due:
            first = next(iter(self._due))
            if self._due[first] > now:
                return self._due[first] - now
            del self._due[first]
            _call(first.expire)
        return 0


class Holder(Protocol):
    """Who holds bytes that its reader has not taken."""

    def drop(self) -> None:
        """Hold nothing any more, and take nothing."""


class Backlog:
    """What all slow readers together have not taken: nothing is counted for those who read.

    Past the limit, who has taken nothing for longest is cut.

    Args:
        limit: bytes, or None.
        give_up: is told who is cut, before that drops what it holds.
    """

    def __init__(self, limit: int | None, give_up: Callable[[Any], None]) -> None:
        self._limit = limit
        self._give_up = give_up
        self._held: dict[Holder, int] = {}  # who took something last comes last
        self.size = 0

    def put(self, holder: Holder, size: int, *, took: bool) -> None:
        """Count so many bytes for one, who has taken some of them just now or has not."""
        known = self._held.get(holder, 0)
        if took:
            self._held.pop(holder, None)
        self._held[holder] = size
        self.size += size - known
        if self._limit is not None and self.size > self._limit:
            self._make_room()

    def discard(self, holder: Holder) -> None:
        """It has taken all, or holds nothing any more."""
        self.size -= self._held.pop(holder, 0)

    def _make_room(self) -> None:
        while self._held and self._limit is not None and self.size > self._limit:
            holder = next(iter(self._held))
            log.info("the buffers of slow readers are full: one that reads nothing is cut")
            self._give_up(holder)
            holder.drop()
            self.discard(holder)


class Loop:
    """What all connections of a server share: the tasks that serve them, and whether further requests are taken.

    Args:
        flush_gap: seconds, as `Flusher` takes them.
        limits: the server's.
        give_up: is told a stream that has to be cut since its reader does not read.
    """

    def __init__(self, flush_gap: float, limits: Limits, give_up: Callable[[Any], None]) -> None:
        self.watcher = Watcher(limits.send_timeout)
        self.flusher = Flusher(flush_gap)
        self.idle = Deadlines(limits.keep_alive)
        self.heads = Deadlines(limits.head_timeout)
        self.backlog = Backlog(limits.server_buffer, give_up)
        self.limits = limits
        self.accepting = True
        self._scope = anyio.CancelScope(shield=True)

    def create_group(self, mark: int, slow: Callable[[object], None]) -> Group:
        """`Sharing`: streams of one server can have the same bytes."""
        from .group import StreamGroup

        return StreamGroup(self.flusher, min(mark, self.limits.stream_buffer), slow)

    async def run(self) -> None:
        """Serve until `stop`, also when the server is cancelled from outside: its streams have to end in order."""
        with self._scope:
            async with anyio.create_task_group() as tasks:
                for serve in (self.watcher.run, self.flusher.run, self.idle.run, self.heads.run):
                    tasks.start_soon(serve)

    def stop(self) -> None:
        """Serve no longer: there are no streams any more."""
        self._scope.cancel()


def _call(function: Ready | None) -> None:
    """One connection's failure must not end the task that serves them all."""
    if function is not None:
        try:
            function()
        except Exception:
            log.exception("serving a connection failed")
