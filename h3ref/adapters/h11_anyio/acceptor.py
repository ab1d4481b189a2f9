"""`Acceptor`: makes the watcher accept the connections to one of a server's listening sockets."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import anyio

from ..._core.parking import Parking
from .watcher import Watcher

log = logging.getLogger(__name__)

ACCEPTS_A_TURN = 64

PAUSE = 0.1
"""Seconds before another attempt when the system is out of descriptors or memory."""


class Acceptor:
    """Accepts connections as they come, through the watcher, until it is stopped.

    Args:
        listener: the socket that they come to.
        watcher: waits for them.
        begin: called with each connection, and with the address that it comes from.
    """

    def __init__(self, listener: socket.socket, watcher: Watcher, begin: Callable[[socket.socket, Any], None]) -> None:
        self._listener = listener
        self._watcher = watcher
        self._begin = begin
        self._failed = Parking()
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Serve until `stop`; this task only waits for accepting to fail."""
        with self._scope:
            while True:
                self._watcher.watch(self._listener, self._take)
                await self._failed.wait()
                # Those who wait in the backlog are served when there is room again.
                await anyio.sleep(PAUSE)

    def stop(self) -> None:
        """Accept no more, at once. The socket goes on listening until it is closed."""
        self._watcher.discard(self._listener)
        self._scope.cancel()

    def _take(self) -> None:
        try:
            for _ in range(ACCEPTS_A_TURN):
                self._begin(*self._listener.accept())
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("accepting a connection failed: %s", error)
            self._watcher.discard(self._listener)
            self._failed.wake()
