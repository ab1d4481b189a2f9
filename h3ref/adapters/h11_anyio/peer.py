"""`ClientConnection`: one client's socket, and `H11Transport`, each request on it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.lowlevel
import h11

from ...connection import Request, Response
from ...errors import BodyTooLarge, RequestError
from ...event import phrase
from ...exchange import Service
from .loop import Loop
from .stream import StreamConnection
from .wire import origin_form, respond

log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024
READS_AT_CLOSE = 16
"""So that a client that never stops sending can't hold up the loop."""

LINGER = 1.0
"""Seconds that a client gets to stop sending, so that it can read the answer that refused its body."""

_TWO_LENGTHS = {b"content-length", b"transfer-encoding"}
"""RFC 9112, section 6.1: a request with both may be an attempt to smuggle another one in."""

_UNREAD = (h11.SEND_BODY, h11.ERROR)
"""The parser's states in which a request's body was not read to its end, so that no other request can follow."""


class ClientConnection:
    """One client's socket: requests one after another, until one of them was a stream, or either side ends it."""

    __slots__ = ("_parser", "_sending", "_sock", "_stream", "_waiting", "loop", "service")

    def __init__(self, sock: socket.socket, service: Service, loop: Loop) -> None:
        self.service = service
        self.loop = loop
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=service.limits.head_size)
        self._waiting: anyio.CancelScope | None = None  # for the next request
        self._stream: StreamConnection | None = None
        self._sending = memoryview(b"")  # what is left of the bytes that are being sent

    async def serve(self) -> None:
        """Answer requests until there are no more."""
        while self.loop.accepting and (request := await self._next_request()):
            transport = H11Transport(self, request, self._parser)
            await self.service.answer(transport)
            if self._stream is not None or not await self._is_reusable():
                return
            self._parser.start_next_cycle()
            await anyio.lowlevel.checkpoint()  # one who pipelines without end leaves time for the others

    async def _next_request(self) -> h11.Request | None:
        try:
            with anyio.move_on_after(self.service.limits.keep_alive) as self._waiting:
                while (event := self._parser.next_event()) is h11.NEED_DATA:
                    self._parser.receive_data(await self.receive())
                if not isinstance(event, h11.Request):
                    return None
                self._check(event)
                return event
        except h11.RemoteProtocolError as error:
            log.info("a request was refused: %s", error)
            await self._refuse(error.error_status_hint)
        except OSError as error:
            log.debug("a client left: %s", error)
        finally:
            self._waiting = None
        return None

    def _check(self, request: h11.Request) -> None:
        """Refuse what h11 lets through: an unknown version, a head too large that came in one go, two lengths."""
        if request.http_version not in (b"1.0", b"1.1"):
            raise h11.RemoteProtocolError("an unknown HTTP version", error_status_hint=505)
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self.service.limits.head_size:
            raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
        if {name for name, _ in request.headers} >= _TWO_LENGTHS:
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")

    async def _is_reusable(self) -> bool:
        """Whether another request may follow; if the last one was not read to its end, let the client notice."""
        if self._sending:
            return False  # an answer was given up midway: what followed would be read as the rest of it
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            return self.loop.accepting
        if self._parser.their_state in _UNREAD:
            await self._linger()
        return False

    async def _refuse(self, status: int) -> None:
        if self._parser.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = phrase(status).encode()
            response = Response(status, [("Content-Type", "text/plain; charset=utf-8")], text)
            await self.send(respond(self._parser, response, close=True))
            await self._linger()

    async def _linger(self) -> None:
        """RFC 9112, section 9.6: closing at once could cost the client the answer that it has not read yet."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
            with anyio.move_on_after(LINGER):
                while await self.receive():
                    await anyio.lowlevel.checkpoint()
        except OSError:
            return

    async def receive(self) -> bytes:
        """Wait for bytes from the client; b"" at its end."""
        while True:
            try:
                return self._sock.recv(READ_SIZE)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)

    async def send(self, data: bytes) -> None:
        """Send bytes outside of a stream; a client that left is no error, but gets no further answer."""
        self._sending = memoryview(data)
        while self._sending:
            try:
                self._sending = self._sending[self._sock.send(self._sending) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)
            except OSError as error:
                log.debug("a client left: %s", error)
                return

    def watch(self, gone: Callable[[], None], take: Callable[[bytes], None]) -> None:
        """Call `gone` once when the client leaves, and `take` with what it sends until then."""
        sock, watcher = self._sock, self.loop.watcher

        def readable() -> None:
            try:
                if data := sock.recv(READ_SIZE):
                    take(data)
                    return
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("a client left: %s", error)
            watcher.forget(sock)
            gone()
            if self._stream is not None:
                self._stream.abort()

        watcher.watch(sock, readable)

    @property
    def is_streaming(self) -> bool:
        """Whether the socket belongs to a stream."""
        return self._stream is not None

    def unwatch(self) -> None:
        """Leave it to somebody else to read from the client."""
        self.loop.watcher.forget(self._sock)

    def open_stream(self, gone: Callable[[], None], *, chunked: bool, bodiless: bool) -> StreamConnection:
        """Give the socket to a stream; there will be no further request on it."""
        self._stream = StreamConnection(self._sock, self.loop, gone, chunked=chunked, bodiless=bodiless)
        return self._stream

    def stop_waiting(self) -> None:
        """Wait for no further request."""
        if self._waiting is not None:
            self._waiting.cancel()

    def abort(self) -> None:
        """Let whatever still waits to send give up."""
        if self._stream is not None:
            self._stream.abort()
        else:
            with suppress(OSError):  # the client has left already
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket: with FIN, since what the client has sent so far is read first."""
        self.loop.watcher.forget(self._sock)
        with suppress(OSError):
            # Unread bytes would make it RST, which can cost the client what it has not read.
            for _ in range(READS_AT_CLOSE):
                if not self._sock.recv(READ_SIZE):
                    break
        self._sock.close()


class H11Transport:
    """One request on a client's connection."""

    __slots__ = ("_broken", "_client", "_gone", "_parser", "_parts", "_size", "request")

    def __init__(self, client: ClientConnection, request: h11.Request, parser: h11.Connection) -> None:
        self._client = client
        self._parser = parser
        self._gone: Callable[[], None] | None = None
        self._parts: list[bytes] = []  # of the body, as far as it has come
        self._size = 0  # of the parts
        self._broken: h11.RemoteProtocolError | None = None  # why the body can't be read to its end
        target = origin_form(request.target.decode("latin-1"))
        self.request = Request(request.method.decode(), target, request.headers, request.http_version.decode())
        self._take_arrived()

    def _take_arrived(self) -> None:
        """Take what the parser has of the body."""
        try:
            while isinstance(event := self._parser.next_event(), h11.Data):
                self._parts.append(bytes(event.data))
                self._size += len(event.data)
        except h11.RemoteProtocolError as error:
            self._broken = error

    async def read_body(self) -> bytes:
        limit = self._client.service.limits.body_size
        declared = dict(self.request.headers).get(b"content-length", b"0")
        if int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared)} bytes, the limit is {limit}")
        if self._gone is not None:
            self._client.unwatch()  # who waits for the body sees the client's end
        try:
            while self._parser.their_state is h11.SEND_BODY and self._size <= limit:
                if self._parser.they_are_waiting_for_100_continue:
                    go_on = self._parser.send(
                        h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    )
                    await self._client.send(go_on or b"")
                data = await self._client.receive()
                if not data and self._gone is not None:
                    self._gone()
                self._parser.receive_data(data)
                self._take_arrived()
        except OSError as error:
            raise RequestError(f"the body broke off: {error}") from error
        if self._broken is not None:
            raise RequestError("the body is malformed or broke off") from self._broken
        if self._size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        if self._gone is not None:
            self._client.watch(self._gone, self._take)
        return b"".join(self._parts)

    def watch(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        self._client.watch(gone, self._take)

    def _take(self, data: bytes) -> None:
        """Keep what belongs to the body while it may still be asked for; throw away the rest."""
        limit = self._client.service.limits.body_size
        if self._parser.their_state is h11.SEND_BODY and self._size <= limit and not self._client.is_streaming:
            self._parser.receive_data(data)
            self._take_arrived()

    async def send_response(self, response: Response) -> int:
        unread = self._parser.their_state in _UNREAD
        watched = self._gone is not None  # since then what the client sent was thrown away, requests too
        close = unread or watched or not self._client.loop.accepting
        data = respond(self._parser, response, close=close, bodiless=self.request.method == "HEAD")
        await self._client.send(data)
        return len(data)

    def create_connection(self) -> StreamConnection:
        assert self._gone is not None, "start_sse watches first, or the machine rejects this"
        return self._client.open_stream(
            self._gone,
            chunked=self.request.http_version != "1.0",
            bodiless=self.request.method == "HEAD",
        )
