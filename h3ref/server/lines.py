"""`Lines`: messages between a worker process and its parent, a line of JSON each."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio

log = logging.getLogger("h3ref.server")

READ_SIZE = 64 * 1024

Message = dict[str, Any]


class Lines:
    """One end of the socket between the two: its owner reads it, and any thread may send.

    Args:
        sock: this end; `messages` wants it not to block, `read` to block.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._rest = b""  # of a line that has not come whole

    def send(self, **message: Any) -> None:
        """Send a message; it is lost if nobody reads any more."""
        try:
            with self._lock:
                self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            log.debug("a message to another process was not sent: %s", error)

    def read(self) -> Iterator[Message]:
        """The messages, as they come, until the other end closes. Blocks the thread."""
        while True:
            try:
                data = self._sock.recv(READ_SIZE)
            except OSError:
                return
            if not data:
                return
            yield from self._split(data)

    async def messages(self) -> AsyncIterator[Message]:
        """The same, without blocking the thread."""
        while True:
            try:
                data = self._sock.recv(READ_SIZE)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
                continue
            except OSError:
                return
            if not data:
                return
            for message in self._split(data):
                yield message

    def close(self) -> None:
        """Close this end, and so tell the other."""
        self._sock.close()

    def _split(self, data: bytes) -> Iterator[Message]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:  # the first of two that were run together: its end found no room
                log.warning("only a part of another process's message has come: it is left out")
