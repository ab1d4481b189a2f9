"""`Loop`: two tasks that serve all streams of a server, `Watcher` and `Flusher`."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.lowlevel

log = logging.getLogger(__name__)


class Watcher:
    """Waits on the sockets of all streams at once, in a selector that is itself waited on by one task.

    A socket's entry is a pair of callables: what to do when it can be read, and when it can be written.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()  # a plain def handler may start a stream on its worker thread

    def watch(self, sock: socket.socket, readable: Callable[[], None]) -> None:
        """Call `readable` on the loop's thread whenever the socket has bytes or an end to read."""
        self._add(sock, selectors.EVENT_READ, readable)

    def await_write(self, sock: socket.socket, writable: Callable[[], None]) -> None:
        """Call `writable` on the loop's thread, once, when the socket takes bytes again."""
        self._add(sock, selectors.EVENT_WRITE, writable)

    def forget(self, sock: socket.socket, mask: int = selectors.EVENT_READ | selectors.EVENT_WRITE) -> None:
        """Stop waiting for reading, writing or both; do so before the socket is closed."""
        with self._lock:
            key = self._selector.get_map().get(sock)
            if key is None:
                return
            if key.events & ~mask:
                self._selector.modify(sock, key.events & ~mask, key.data)
            else:
                self._selector.unregister(sock)

    def forget_write(self, sock: socket.socket) -> None:
        """Stop waiting until the socket takes bytes."""
        self.forget(sock, selectors.EVENT_WRITE)

    def _add(self, sock: socket.socket, event: int, call: Callable[[], None]) -> None:
        with self._lock:
            key = self._selector.get_map().get(sock)
            if key is None:
                self._selector.register(sock, event, {event: call})
            else:
                self._selector.modify(sock, key.events | event, {**key.data, event: call})

    async def run(self) -> None:
        """Serve until cancelled."""
        fileno = getattr(self._selector, "fileno", None)
        assert fileno is not None, "the platform's selector has no descriptor to wait on"
        while True:
            await anyio.wait_readable(fileno())
            self._turn()
            await anyio.lowlevel.checkpoint()

    def _turn(self) -> None:
        """A function of its own, so that the task that waits keeps no stream alive."""
        with self._lock:
            ready = self._selector.select(0)
        for key, events in ready:
            for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                if events & event:
                    _call(key.data.get(event))

    def close(self) -> None:
        """Release the selector's descriptor."""
        self._selector.close()


class Flushable(Protocol):
    """What has bytes to send."""

    def flush_now(self) -> None: ...


class Flusher:
    """Sends what streams have pending: the first after quiet at once, then in rounds, a least gap apart.

    Args:
        gap: seconds between two rounds; with 0 a round comes with each turn of the event loop.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._due: dict[Flushable, None] = {}
        self._last = -1.0
        self._sleeping: anyio.Event | None = None

    def put(self, stream: Flushable) -> None:
        """Send what the stream has pending, now or with the next round."""
        if not self._due and self._gap and time.monotonic() - self._last >= self._gap:
            stream.flush_now()
            self._last = time.monotonic()
            return
        self._due[stream] = None
        if self._sleeping is not None:
            self._sleeping.set()
            self._sleeping = None

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            if not self._due:
                self._sleeping = anyio.Event()
                await self._sleeping.wait()
            await anyio.sleep(self._gap)
            self._round()

    def _round(self) -> None:
        """A function of its own, so that the task that sleeps keeps no stream alive."""
        due, self._due = self._due, {}
        for stream in due:
            _call(stream.flush_now)
        self._last = time.monotonic()


class Loop:
    """What all connections of a server share: the two tasks, and whether further requests are taken."""

    def __init__(self, flush_gap: float, close_timeout: float) -> None:
        self.watcher = Watcher()
        self.flusher = Flusher(flush_gap)
        self.close_timeout = close_timeout
        self.accepting = True
        self._scope = anyio.CancelScope(shield=True)

    async def run(self) -> None:
        """Serve until `stop`, also when the server is cancelled from outside: its streams have to end in order."""
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.watcher.run)
                tasks.start_soon(self.flusher.run)

    def stop(self) -> None:
        """Serve no longer: there are no streams any more."""
        self._scope.cancel()


def _call(function: Callable[[], None] | None) -> None:
    """One stream's failure must not end the task that serves them all."""
    if function is not None:
        try:
            function()
        except Exception:
            log.exception("serving a stream failed")
