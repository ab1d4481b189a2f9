"""`ClientConnection`: one client's socket, and the requests on it, one after another."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import anyio
import anyio.lowlevel
import h11

from ..._core.answer import phrase
from ..._core.parking import Parking
from ..._core.service import Service
from ...connection import Response
from .answer import Answer
from .guard import Guard, Head
from .loop import Loop
from .refused import Refused
from .sockets import READ_SIZE
from .stream import StreamConnection
from .transport import UNREAD, H11Transport
from .wire import respond

log = logging.getLogger(__name__)

READS_AT_CLOSE = 16
"""A limit on reads in a row, so that a client that never stops sending can't hold up the loop."""

LINGER = 1.0
"""Seconds that a client gets to stop sending, so that it can read the answer that refused its body."""


class Home(Protocol):
    """What a client's connection asks of the server."""

    @property
    def service(self) -> Service: ...

    @property
    def loop(self) -> Loop: ...

    @property
    def is_accepting(self) -> bool:
        """Whether it takes further requests."""

    def answer(self, client: ClientConnection, request: Head | h11.RemoteProtocolError) -> None:
        """Start a task that answers a request, or refuses one, and then sees to it that the client goes on."""

    def tell_changed(self) -> None:
        """Note that a client's stream has begun."""

    def discard(self, client: ClientConnection) -> None:
        """Note that the client's socket is closed; and once more, when its task is over, too."""


class ClientConnection:
    """One client's socket: one request after another, until one of them was a stream, or either side ends it.

    A client that is between requests has no task: the watcher calls when there is something to read.

    Args:
        sock: the client's.
        home: the server.
        address: what it is counted by among the connections of one address.

    Attributes:
        is_streaming: whether the head of a stream has been sent; otherwise a request is awaited, or being answered.
    """

    __slots__ = (
        "_home",
        "_is_waiting",
        "_parser",
        "_requests",
        "_sock",
        "_stream",
        "_take",
        "_unparsed",
        "_unsent",
        "address",
        "guard",
        "is_streaming",
    )

    def __init__(self, sock: socket.socket, home: Home, address: str | None = None) -> None:
        self._home = home
        self.address = address
        self._sock = sock
        limits = home.service.limits
        self.guard = Guard(limits.head_size, limits.target_size, limits.headers)
        self._parser: h11.Connection | None = None
        self._unparsed = b""  # what has come of a request, until somebody asks the parser
        self._requests = 0  # that have come
        self._is_waiting = False  # for a request, in the watcher
        self.is_streaming = False
        self._take: Callable[[bytes], None] = _nobody  # has what the client sends, while that is no request
        self._stream: StreamConnection | None = None
        self._unsent = 0  # bytes of the last answer, if it was cut

    @property
    def service(self) -> Service:
        """What all exchanges of the server share."""
        return self._home.service

    @property
    def loop(self) -> Loop:
        """What all connections of the server share."""
        return self._home.loop

    @property
    def client(self) -> str:
        """The client's address, or "" if it has left; looked up and not kept, since most servers never want to know."""
        try:
            peer = self._sock.getpeername()
        except OSError:
            return ""
        return peer[0] if isinstance(peer, tuple) else ""

    def begin(self) -> None:
        """Read the first request; most often it is there already."""
        self._go_on(self._read_request)

    def _go_on(self, read: Callable[[], Head | type[h11.NEED_DATA] | None]) -> None:
        """Have the next request answered, or refused, in a task of its own; or wait for it; or close."""
        try:
            request = read()
        except h11.RemoteProtocolError as error:
            self._home.answer(self, error)
        except OSError as error:
            self._disconnected(error)
        else:
            if isinstance(request, Head):
                self._home.answer(self, request)
            elif request is h11.NEED_DATA:
                self._wait()
            else:
                self.release()

    def _wait(self) -> None:
        """Wait for a request: for its first byte as long as a connection may be idle, then for the rest of its head."""
        self._is_waiting = True
        self.loop.watcher.watch(self._sock, self._readable)
        if self._requests and not self.guard.has_begun:
            self.loop.idle.put(self)
        else:
            self.loop.heads.put(self)

    def _readable(self) -> None:
        try:
            request = self._read_request()
            if request is h11.NEED_DATA:
                if self.guard.has_begun and self not in self.loop.heads:  # its further bytes renew nothing
                    self.loop.idle.discard(self)
                    self.loop.heads.put(self)
                return
        except h11.RemoteProtocolError as error:
            self._stop_waiting()
            self._home.answer(self, error)
        except OSError as error:
            self._disconnected(error)
        else:
            self._stop_waiting()
            if isinstance(request, Head):
                self._home.answer(self, request)
            else:
                self.release()

    def _stop_waiting(self) -> None:
        self._is_waiting = False
        self.loop.watcher.discard(self._sock)
        self.loop.idle.discard(self)
        self.loop.heads.discard(self)

    def expire(self) -> None:
        """No request has come in time: one that has begun is refused, and one that never came is counted.

        What is there and has not been read yet has come in time, as far as anybody can tell: the process stood still.
        """
        had_begun = self.guard.has_begun
        self._readable()
        if not self._is_waiting:
            return
        if had_begun:
            self._stop_waiting()
            self._home.answer(self, Refused(408, "the head did not come in time", "head_timeout"))
        elif not self.guard.has_begun:  # else its head has its time from now on
            if not self._requests:  # else it was idle, which refuses it nothing
                self.service.refused["head_timeout"] += 1
            self.release()

    def release_if_idle(self) -> None:
        """Stop waiting if it waits for a request."""
        if self._is_waiting:
            self.release()

    def _disconnected(self, error: OSError) -> None:
        log.debug("a client left: %s", error)
        self.release()

    def _read_request(self) -> Head | type[h11.NEED_DATA] | None:
        """Return the next request, NEED_DATA if it is not complete, or None if none will come.

        Raises:
            h11.RemoteProtocolError: it can't be a request.
            OSError: the client left.
        """
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return h11.NEED_DATA
        self._unparsed = self.guard.receive(data)
        if not data:
            return None
        return self.guard.head or h11.NEED_DATA

    def _next_request(self) -> Head | type[h11.NEED_DATA] | None:
        """As `_read_request`, after another request, with what was sent ahead."""
        self._unparsed = self.guard.next_request()
        return self.guard.head or self._read_request()

    @property
    def parser(self) -> h11.Connection:
        """What reads a body, and frames a plain answer; made on first need, which a stream hardly ever has.

        It sees a request's head then, and not before.
        """
        if self._parser is None:
            limits = self.service.limits
            self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_size)
        if self._unparsed:
            self._parser.receive_data(self._unparsed)
            self._unparsed = b""
            head = self._parser.next_event()
            assert isinstance(head, h11.Request), "what the guard lets pass the parser reads"
        return self._parser

    async def serve(self, request: Head | h11.RemoteProtocolError) -> None:
        """Answer a request, or refuse it; then start the next one in a task of its own, or close.

        An app tells its requests apart by their tasks and contexts, so no two requests share one.
        """
        is_over = True
        try:
            if isinstance(request, h11.RemoteProtocolError):
                await self._refuse(request)
                return
            self._requests += 1
            transport = H11Transport(self, request)
            del request  # it would be kept as long as its stream
            try:
                await self.service.answer(transport)
            finally:
                transport.keep_nothing()
            if self._stream is None and await self._is_reusable():
                self.parser.start_next_cycle()
                await anyio.lowlevel.checkpoint()  # one who pipelines without end leaves time for the others
                if not self.service.stopping:
                    is_over = False
                    self._go_on(self._next_request)
        except OSError as error:
            log.debug("a client left: %s", error)
        except Exception:
            is_over = True
            log.exception("serving a connection failed")
        finally:
            if is_over:
                self.release()

    @property
    def is_last_request(self) -> bool:
        """Whether this connection has had as many requests as it may, or its server takes no more."""
        most = self.service.limits.requests
        return not self._home.is_accepting or (most is not None and self._requests >= most)

    def feed(self, data: bytes) -> None:
        """Give the parser what has arrived, as far as the guard allows; b"" is the client's end.

        Raises:
            Refused: a request's head.
        """
        passed = self.guard.receive(data)
        if passed or not data:
            self.parser.receive_data(passed)

    async def _is_reusable(self) -> bool:
        """Whether another request may follow; if the last one was not read to its end, let the client notice."""
        if self._unsent:
            return False  # an answer was cut: what followed would be read as the rest of it
        if self.parser.our_state is h11.DONE and self.parser.their_state is h11.DONE:
            return not self.service.stopping
        if self.parser.their_state in UNREAD:
            await self._linger()
        return False

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        log.info("a request was refused: %s", error)
        if isinstance(error, Refused) and error.limit is not None:
            self.service.refused[error.limit] += 1
        if self.parser.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            text = f"{phrase(status)}: {error}" if isinstance(error, Refused) else phrase(status)
            response = Response(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())
            pieces = respond(self.parser, response, close=True)
            self.service.log_refusal(self.client, status, sum(map(len, pieces)))
            await self.send(pieces)
            await self._linger()

    async def _linger(self) -> None:
        """RFC 9112, section 9.6: closing at once could cost the client the answer that it has not read yet."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        over = Parking()
        self.read(lambda data: None if data else over.wake())
        with anyio.move_on_after(LINGER):
            await over.wait()

    async def send(self, whole: list[bytes]) -> None:
        """Send bytes outside of a stream, which are taken out of the list; whoever left, or does not read, is no
        error."""
        answer = Answer(self._sock, self.loop, self.service, whole)
        try:
            await answer.send()
        finally:
            self._unsent = answer.unsent

    def read(self, take: Callable[[bytes], None]) -> None:
        """From now on give what the client sends to `take`, b"" at its end, and no longer to the one before.

        It may be called on any thread; `take` is called on the loop's.
        """
        self._take = take
        if threading.get_ident() == self.service.loop_thread:
            self.loop.watcher.watch_soon(self._sock, self._read)
        else:
            self.loop.watcher.watch(self._sock, self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("a client left: %s", error)
            data = b""
        if not data:
            self.loop.watcher.discard(self._sock)
        self._take(data)
        if not data and self._stream is not None:
            self._stream.release()

    def stop_reading(self) -> None:
        """Leave to the system what the client sends."""
        self._take = _nobody
        self.loop.watcher.discard(self._sock)

    def release_parser(self) -> None:
        """Drop what parsing needs, which takes more memory than the rest: after a stream there is no request."""
        del self._parser, self._unparsed, self.guard
        self.is_streaming = True
        self._home.tell_changed()

    def open_stream(
        self, gone: Callable[[], None], opened: Callable[[], None], *, chunked: bool, bodiless: bool
    ) -> StreamConnection:
        """Give the socket to a stream; there will be no further request on it."""
        self._stream = StreamConnection(self._sock, self.loop, gone, opened, chunked=chunked, bodiless=bodiless)
        return self._stream

    def cut(self) -> None:
        """Cut its stream or its answer, and wake what waits to send. What the system has taken still leaves."""
        if self._stream is not None:
            self._stream.release()
        else:
            with suppress(OSError):  # the client has left already
                self._sock.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the socket: with FIN, since what the client has sent is read first. Again: says so once more."""
        if self._sock.fileno() >= 0:
            self._close_socket()
        self._home.discard(self)

    def _close_socket(self) -> None:
        if self._is_waiting:
            self._stop_waiting()
        else:
            self.stop_reading()
        if self._stream is not None:
            self._stream.flush_now()  # where its end could not be brought about
        with suppress(OSError):
            # Unread bytes would make it RST, which can cost the client what it has not read.
            for _ in range(READS_AT_CLOSE):
                if not self._sock.recv(READ_SIZE):
                    break
        self._sock.close()


def _nobody(data: bytes) -> None:
    """Nobody has what the client sends; held in place of the one that had it, which holds the connection."""
