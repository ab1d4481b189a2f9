"""`Watcher`: waits on all of a server's sockets at once: for bytes, for clients that leave, for room to send."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel

from ..._core.parking import asyncio_loop, loop_context
from .sockets import bound_silence
from .turns import EndsOfTurns

log = logging.getLogger(__name__)

Ready = Callable[[], None]

_NOTHING: tuple[None, None] = (None, None)


class Watcher:
    """Waits on the sockets of all connections at once, in a selector that the event loop itself waits on.

    A socket's entry is a pair of functions: one to call when it can be read, and one when it can be written.

    Args:
        turns: the loop's.
        send_timeout: seconds that a full socket may take nothing, which the waiting code checks; or None.
    """

    def __init__(self, turns: EndsOfTurns, send_timeout: float | None = None) -> None:
        self._turns = turns
        self._send_timeout = send_timeout
        self._selector = selectors.DefaultSelector()
        self._entries: dict[int, tuple[Ready | None, Ready | None]] = {}  # by descriptor
        self._new: dict[socket.socket, Ready] = {}  # what is watched from the end of this turn on
        self._lock = threading.Lock()  # a plain def handler may start a stream on its worker thread

    def watch(self, sock: socket.socket, readable: Ready) -> None:
        """Call `readable` on the loop's thread whenever the socket has bytes or an end to read."""
        with self._lock:
            self._new.pop(sock, None)
            self._enter(sock.fileno(), readable, self._entries.get(sock.fileno(), _NOTHING)[1])

    def watch_soon(self, sock: socket.socket, readable: Ready) -> None:
        """As `watch`, on the loop's thread, from the end of this turn on: many streams are over by then."""
        with self._lock:
            if not self._new:
                self._turns.add(self._watch_new)
            self._new[sock] = readable

    def _watch_new(self) -> None:
        for sock, readable in tuple(self._new.items()):
            _call(partial(self.watch, sock, readable))

    def await_write(self, sock: socket.socket, writable: Ready) -> None:
        """Call `writable` on the loop's thread, until `discard_write`, when the socket takes bytes again."""
        # The system's clock runs on for a peer with a small window though it reads; ours sees that it does.
        bound_silence(sock, None)
        with self._lock:
            self._enter(sock.fileno(), self._entries.get(sock.fileno(), _NOTHING)[0], writable)

    def discard(self, sock: socket.socket) -> None:
        """Stop waiting; do so before the socket is closed."""
        with self._lock:
            self._new.pop(sock, None)
            self._enter(sock.fileno(), None, None)

    def discard_write(self, sock: socket.socket) -> None:
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

    def release(self) -> None:
        """Give back the selector's descriptor."""
        self._selector.close()


def _call(function: Ready | None) -> None:
    """One connection's failure must not end the task that serves them all."""
    if function is not None:
        try:
            function()
        except Exception:
            log.exception("serving a connection failed")
