"""`Answer`: the bytes of a plain answer, or of a refusal, on their way to a client that may read slowly."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress

import anyio

from ..._core.service import Service
from .loop import Loop
from .sockets import bound_silence, in_flight, reset_when_closed

log = logging.getLogger(__name__)


class Answer:
    """Bytes outside of a stream, on their way to one client.

    What waits for a client that does not read is counted in full until the end: no part of a body is released early. If
    the answer is cut, all of it is released at once; so the pieces are taken out of the list, and held only here.

    Args:
        sock: the client's.
        loop: the server's.
        service: has the limits, and counts a client that is cut.
        whole: the pieces, which are taken out of it.

    Attributes:
        unsent: its bytes that have not left, even after it was cut.
    """

    __slots__ = ("_loop", "_pieces", "_service", "_sock", "unsent")

    def __init__(self, sock: socket.socket, loop: Loop, service: Service, whole: list[bytes]) -> None:
        self._sock = sock
        self._loop = loop
        self._service = service
        self._pieces = [memoryview(piece) for piece in whole if piece]
        self.unsent = sum(map(len, self._pieces))
        whole.clear()

    async def send(self) -> None:
        """Send it; a client that left, or does not read, is not an error, but gets nothing further."""
        pieces, size, took = self._pieces, self.unsent, False
        try:
            while pieces:
                try:
                    sent = self._sock.sendmsg(pieces)
                except BlockingIOError:
                    self._loop.backlog.put(self, size, took=took)
                    took = await self._has_taken()
                else:
                    took = True
                    self.unsent -= sent
                    while pieces and sent >= pieces[0].nbytes:
                        sent -= pieces.pop(0).nbytes
                    if sent:
                        pieces[0] = pieces[0][sent:]
        except OSError as error:
            log.debug("a client left: %s", error)
        finally:
            self._loop.backlog.discard(self)

    async def _has_taken(self) -> bool:
        """Wait until the socket takes bytes, or long enough; return whether the reader took some meanwhile.

        Raises:
            TimeoutError: the reader took none, and the socket takes none.
        """
        queued, seconds = in_flight(self._sock), self._service.limits.send_timeout
        bound_silence(self._sock, None)  # as the watcher does: we look ourselves whether it reads
        try:
            with anyio.move_on_after(seconds) as bounded:
                await anyio.wait_writable(self._sock)
        finally:
            bound_silence(self._sock, seconds)
        took = in_flight(self._sock) < queued
        if bounded.cancelled_caught and not took:
            self._service.refused["send_timeout"] += 1
            log.info("a client does not read its answer: it is cut")
            raise TimeoutError("it does not read")
        return took

    def cut_now(self) -> None:
        """`Holder`: drop what this and the socket hold, since the reader does not read."""
        self._service.refused["server_buffer"] += 1
        self._pieces.clear()  # now: its task is only woken, and meanwhile others may make bodies of their own
        reset_when_closed(self._sock)
        with suppress(OSError):  # the client has left already
            self._sock.shutdown(socket.SHUT_RDWR)
