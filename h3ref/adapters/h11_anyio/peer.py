"""`ClientConnection`: one client's socket, and `H11Transport`, each request on it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import anyio
import anyio.lowlevel
import h11

from ...connection import RawHeaders, Request, Response
from ...errors import BodyTooLarge, RequestError
from ...event import phrase
from ...exchange import Service
from .guard import Guard, Refused
from .loop import Loop
from .stream import StreamConnection
from .wire import HeaderLines, origin_form, respond, with_host

log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024
READS_AT_CLOSE = 16
"""So that a client that never stops sending can't hold up the loop."""

LINGER = 1.0
"""Seconds that a client gets to stop sending, so that it can read the answer that refused its body."""

_OF_BODIES = {b"content-length", b"transfer-encoding"}
"""The headers that only a request with a body has."""

_UNREAD = (h11.SEND_BODY, h11.ERROR)
"""The parser's states in which a request's body was not read to its end, so that no other request can follow."""


class Home(Protocol):
    """What a client's connection asks of the server."""

    @property
    def service(self) -> Service: ...

    @property
    def loop(self) -> Loop: ...

    def answer(self, client: ClientConnection, request: h11.Request | h11.RemoteProtocolError) -> None:
        """Start a task that answers a request, or refuses one, and then sees to it that the client goes on."""

    def left(self, client: ClientConnection) -> None:
        """The client's socket is closed."""


class ClientConnection:
    """One client's socket: requests one after another, until one of them was a stream, or either side ends it.

    Who waits for a request has no task: the watcher calls when there is something to read.
    """

    __slots__ = ("_home", "_is_waiting", "_parser", "_sending", "_sock", "_stream", "guard")

    def __init__(self, sock: socket.socket, home: Home) -> None:
        self._home = home
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        limits = home.service.limits
        self.guard = Guard(limits.head_size, limits.target_size)
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_size)
        self._is_waiting = False  # for a request, in the watcher
        self._stream: StreamConnection | None = None
        self._sending = memoryview(b"")  # what is left of the bytes that are being sent

    @property
    def service(self) -> Service:
        """What all exchanges of the server share."""
        return self._home.service

    @property
    def loop(self) -> Loop:
        """What all connections of the server share."""
        return self._home.loop

    def begin(self) -> None:
        """Read the first request; most often it is there already."""
        try:
            request = self._read_request()
        except h11.RemoteProtocolError as error:
            self._home.answer(self, error)
        except OSError as error:
            self._end(error)
        else:
            if isinstance(request, h11.Request):
                self._home.answer(self, request)
            elif request is h11.NEED_DATA:
                self._wait()
            else:
                self._end()

    def _wait(self) -> None:
        self._is_waiting = True
        self.loop.watcher.watch(self._sock, self._readable)
        self.loop.deadlines.put(self)

    def _readable(self) -> None:
        try:
            request = self._read_request()
            if request is h11.NEED_DATA:
                return
        except h11.RemoteProtocolError as error:
            self._stop_waiting()
            self._home.answer(self, error)
        except OSError as error:
            self._end(error)
        else:
            self._stop_waiting()
            if isinstance(request, h11.Request):
                self._home.answer(self, request)
            else:
                self._end()

    def _stop_waiting(self) -> None:
        self._is_waiting = False
        self.loop.watcher.forget(self._sock)
        self.loop.deadlines.discard(self)

    def expire(self) -> None:
        """No request has come in time."""
        self._end()

    def stop_waiting(self) -> None:
        """Wait for no further request."""
        if self._is_waiting:
            self._end()

    def _end(self, error: OSError | None = None) -> None:
        if error is not None:
            log.debug("a client left: %s", error)
        self.close()

    def _read_request(self) -> h11.Request | type[h11.NEED_DATA] | None:
        """Return the next request, NEED_DATA if it has not come whole, or None if none will come.

        Raises:
            h11.RemoteProtocolError: it can't be one.
            OSError: the client left.
        """
        event = self._parser.next_event()
        if event is h11.NEED_DATA:
            try:
                data = self._sock.recv(READ_SIZE)
            except BlockingIOError:
                return h11.NEED_DATA
            self.feed(data)
            event = self._parser.next_event()
        if isinstance(event, h11.Request):
            return event
        return h11.NEED_DATA if event is h11.NEED_DATA else None

    def _next_request(self) -> h11.Request | type[h11.NEED_DATA] | None:
        """As `_read_request`, after another request: with what was sent ahead."""
        if passed := self.guard.next_request():
            self._parser.receive_data(passed)
        return self._read_request()

    async def serve(self, request: h11.Request | h11.RemoteProtocolError) -> None:
        """Answer a request, and those that have come meanwhile; then wait for the next without a task, or close."""
        try:
            while True:
                if isinstance(request, h11.RemoteProtocolError):
                    raise request
                transport = H11Transport(self, request, self._parser)
                del request  # a stream's headers, as the parser keeps them, would take a tenth of its memory
                await self.service.answer(transport)
                if self._stream is not None or not await self._is_reusable():
                    return
                self._parser.start_next_cycle()
                await anyio.lowlevel.checkpoint()  # one who pipelines without end leaves time for the others
                found = self._next_request() if self.loop.accepting else None
                if not isinstance(found, h11.Request):
                    if found is h11.NEED_DATA:
                        self._wait()
                    return
                request = found
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
        except OSError as error:
            log.debug("a client left: %s", error)
        except Exception:
            log.exception("serving a connection failed")
        finally:
            if not self._is_waiting:
                self.close()

    def feed(self, data: bytes) -> None:
        """Let the parser have what has arrived, as far as the guard lets it; b"" is the client's end.

        Raises:
            Refused: a request's head.
        """
        passed = self.guard.receive(data)
        if passed or not data:
            self._parser.receive_data(passed)

    async def _is_reusable(self) -> bool:
        """Whether another request may follow; if the last one was not read to its end, let the client notice."""
        if self._sending:
            return False  # an answer was given up midway: what followed would be read as the rest of it
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            return self.loop.accepting
        if self._parser.their_state in _UNREAD:
            await self._linger()
        return False

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        log.info("a request was refused: %s", error)
        if self._parser.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            text = f"{phrase(status)}: {error}" if isinstance(error, Refused) else phrase(status)
            response = Response(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())
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

    def forget_parser(self) -> None:
        """There will be no further request: what parsing needs takes more memory than all the rest."""
        del self._parser, self.guard

    def open_stream(
        self, gone: Callable[[], None], opened: Callable[[], None], *, chunked: bool, bodiless: bool
    ) -> StreamConnection:
        """Give the socket to a stream; there will be no further request on it."""
        self._stream = StreamConnection(self._sock, self.loop, gone, opened, chunked=chunked, bodiless=bodiless)
        return self._stream

    def abort(self) -> None:
        """Let whatever still waits to send give up."""
        if self._stream is not None:
            self._stream.abort()
        else:
            with suppress(OSError):  # the client has left already
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket: with FIN, since what the client has sent so far is read first."""
        if self._sock.fileno() < 0:
            return
        if self._is_waiting:
            self._stop_waiting()
        else:
            self.loop.watcher.forget(self._sock)
        with suppress(OSError):
            # Unread bytes would make it RST, which can cost the client what it has not read.
            for _ in range(READS_AT_CLOSE):
                if not self._sock.recv(READ_SIZE):
                    break
        self._sock.close()
        self._home.left(self)


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
        target = request.target.decode("latin-1")
        headers: RawHeaders = request.headers
        if target[:1] != "/":
            target, headers = origin_form(target), with_host(headers, target)
        self.request = Request(request.method.decode(), target, HeaderLines(headers), request.http_version.decode())

    def _take_arrived(self) -> None:
        """Take what the parser has of the body: it is asked when somebody wants to know, which no stream does."""
        try:
            while isinstance(event := self._parser.next_event(), h11.Data):
                self._parts.append(bytes(event.data))
                self._size += len(event.data)
            self._client.guard.check()
        except h11.RemoteProtocolError as error:
            self._broken = error

    async def read_body(self) -> bytes:
        limit = self._client.service.limits.body_size
        declared = dict(self.request.headers).get(b"content-length", b"0")
        if int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared)} bytes, the limit is {limit}")
        if self._gone is not None:
            self._client.unwatch()  # who waits for the body sees the client's end
        self._take_arrived()
        try:
            while self._parser.their_state is h11.SEND_BODY and self._size <= limit and self._broken is None:
                if self._parser.they_are_waiting_for_100_continue:
                    go_on = self._parser.send(
                        h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    )
                    await self._client.send(go_on or b"")
                data = await self._client.receive()
                if not data and self._gone is not None:
                    self._gone()
                self._client.feed(data)
                self._take_arrived()
        except OSError as error:
            raise RequestError(f"the body broke off: {error}") from error
        if self._broken is not None:
            why = f": {self._broken}" if isinstance(self._broken, Refused) else ""
            raise RequestError(f"the body is malformed or broke off{why}") from self._broken
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
        if not self._client.is_streaming and self._parser.their_state is h11.SEND_BODY and self._size <= limit:
            self._client.feed(data)
            self._take_arrived()

    async def send_response(self, response: Response) -> int:
        self._take_arrived()
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
            self._opened,
            chunked=self.request.http_version != "1.0",
            bodiless=self.request.method == "HEAD",
        )

    def _opened(self) -> None:
        """The head is sent: the parser, which takes more memory than all the rest, is not needed any more."""
        if not any(name in _OF_BODIES for name, _ in self.request.headers):  # else somebody may be reading the body
            del self._parser
            self._client.forget_parser()
