"""`Server`: accepts connections, reads requests from them, and answers each through the service."""

from __future__ import annotations

import errno
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import h11
from anyio.abc import TaskGroup

from ...connection import Request, Response
from ...errors import BodyTooLarge, RequestError
from ...event import phrase
from ...exchange import Service
from ...lifecycle import State
from .loop import Flusher, Watcher
from .stream import StreamConnection
from .wire import date

log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024
ACCEPTS_A_TURN = 64
BACKLOG = 4096
LINGER = 1.0
"""Seconds that a client gets to stop sending, so that it can read the answer that refused its body."""

_TWO_LENGTHS = {b"content-length", b"transfer-encoding"}
"""RFC 9112, section 6.1: a request with both may be an attempt to smuggle another one in."""

_UNREAD = (h11.SEND_BODY, h11.ERROR)
"""The parser's states in which a request's body was not read to its end, so that no other request can follow."""


class Server:
    """An app on a port of this machine, HTTP/1.1 in the clear.

    Attributes:
        host: the host it was told to listen on.
        port: the port it listens on.
    """

    def __init__(self, service: Service, host: str, port: int, flush_gap: float) -> None:
        self._listeners = _listen(host, port)
        self.service = service
        self.host = host
        self.flusher = Flusher(flush_gap)
        self.watcher = Watcher()
        self.port: int = self._listeners[0].getsockname()[1]
        self._clients: set[ClientConnection] = set()
        self._changed = anyio.Event()

    @property
    def url(self) -> str:
        """Where a client on this machine finds it, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_accepting(self) -> bool:
        """Whether it takes new connections, and further requests on those it has."""
        return bool(self._listeners)

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @asynccontextmanager
    async def serving(self, grace: float) -> AsyncIterator[None]:
        """Serve while the body runs, then shut down within `grace` seconds."""
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.watcher.run)
                tasks.start_soon(self.flusher.run)
                for listener in self._listeners:
                    tasks.start_soon(self._accept, listener, tasks)
                try:
                    yield
                except Exception as error:  # carried past the task group, which would wrap it
                    failure = error
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._shut_down(grace)
                    tasks.cancel_scope.cancel()
        finally:
            self.watcher.close()
        if failure is not None:
            raise failure

    async def _accept(self, listener: socket.socket, tasks: TaskGroup) -> None:
        while self.is_accepting:
            try:
                await anyio.wait_readable(listener)
                for _ in range(ACCEPTS_A_TURN):
                    sock, _ = listener.accept()
                    tasks.start_soon(self._serve, sock)
            except BlockingIOError:
                continue
            except (OSError, anyio.ClosedResourceError) as error:
                if not self.is_accepting:
                    return
                # Out of descriptors or memory: those who wait in the backlog are served when some are free again.
                log.warning("accepting a connection failed: %s", error)
                await anyio.sleep(0.1)

    async def _serve(self, sock: socket.socket) -> None:
        client = ClientConnection(self, sock)
        self._clients.add(client)
        try:
            await client.serve()
        except Exception:
            log.exception("serving a connection failed")
        finally:
            client.close()
            self._clients.discard(client)
            changed, self._changed = self._changed, anyio.Event()
            changed.set()

    async def _shut_down(self, grace: float) -> None:
        """Stop accepting; end the streams; let plain handlers finish; then leave what is left."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            anyio.notify_closing(listener)
            listener.close()
        for client in self._clients:
            client.stop_waiting()
        for exchange in list(self.service.live):
            if exchange.state is not State.REQUESTED:
                exchange.shut_down()
        with anyio.move_on_after(grace * 0.8):
            await self._until_no_clients()
        if self._clients:
            log.warning("%d connections are still open after %g s: they are cut", len(self._clients), grace * 0.8)
            for exchange in list(self.service.live):
                exchange.shut_down()
                exchange.abandon()
            with anyio.move_on_after(grace * 0.1):
                await self._until_no_clients()
            for client in self._clients:
                client.abort()
            await self._until_no_clients()

    async def _until_no_clients(self) -> None:
        while self._clients:
            await self._changed.wait()

    def __repr__(self) -> str:
        return f"<Server {self.url}, {len(self._clients)} connections>"


class ClientConnection:
    """One client's socket: requests one after another, until one of them was a stream, or either side ends it."""

    __slots__ = ("_parser", "_sock", "_stream", "_waiting", "server")

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=server.service.limits.head_size)
        self._waiting: anyio.CancelScope | None = None  # for the next request
        self._stream: StreamConnection | None = None

    async def serve(self) -> None:
        """Answer requests until there are no more."""
        while self.server.is_accepting and (request := await self._next_request()):
            transport = H11Transport(self, request, self._parser)
            await self.server.service.answer(transport)
            if self._stream is not None or not await self._is_reusable():
                return
            self._parser.start_next_cycle()

    async def _next_request(self) -> h11.Request | None:
        try:
            with anyio.move_on_after(self.server.service.limits.keep_alive) as self._waiting:
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
        """Refuse what h11 lets through: a head too large that came in one go, and a body with two lengths."""
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self.server.service.limits.head_size:
            raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
        if {name for name, _ in request.headers} >= _TWO_LENGTHS:
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")

    async def _is_reusable(self) -> bool:
        """Whether another request may follow; if the last one was not read to its end, let the client notice."""
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            return self.server.is_accepting
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
                    pass
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
        """Send bytes outside of a stream; a client that left is no error."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)
            except OSError as error:
                log.debug("a client left: %s", error)
                return

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` once when the client leaves; what else it sends is thrown away."""
        sock, watcher = self._sock, self.server.watcher

        def readable() -> None:
            try:
                if sock.recv(READ_SIZE):
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

    def open_stream(self, gone: Callable[[], None], *, chunked: bool, bodiless: bool) -> StreamConnection:
        """Give the socket to a stream; there will be no further request on it."""
        self._stream = StreamConnection(self._sock, self.server, gone, chunked=chunked, bodiless=bodiless)
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
        self.server.watcher.forget(self._sock)
        with suppress(OSError):
            while self._sock.recv(READ_SIZE):
                pass  # unread bytes would make it RST, which can cost the client what it has not read
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
        limit = self._client.server.service.limits.body_size
        declared = dict(self.request.headers).get(b"content-length", b"0")
        if int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared)} bytes, the limit is {limit}")
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
            raise RequestError(f"the body is malformed or broke off: {self._broken}") from self._broken
        if self._size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        body = b"".join(self._parts)
        if self._gone is not None:
            self._client.watch(self._gone)
        return body

    def watch(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        if self._parser.their_state is not h11.SEND_BODY:  # else who reads the body sees the client's end
            self._client.watch(gone)

    async def send_response(self, response: Response) -> int:
        unread = self._parser.their_state in _UNREAD
        watched = self._gone is not None  # since then what the client sent was thrown away, requests too
        close = unread or watched or not self._client.server.is_accepting
        data = respond(self._parser, response, close=close, bodiless=self.request.method == "HEAD")
        await self._client.send(data)
        return len(data)

    def create_connection(self) -> StreamConnection:
        assert self._gone is not None, "start_sse watches first, or the machine rejects this"
        if self._parser.their_state in _UNREAD:
            self._client.watch(self._gone)  # nobody reads the rest of the body any more
        return self._client.open_stream(
            self._gone,
            chunked=self.request.http_version != "1.0",
            bodiless=self.request.method == "HEAD",
        )


def origin_form(target: str) -> str:
    """Return path and query of a target in absolute form, which every server accepts (RFC 9112, section 3.2.2)."""
    scheme, found, rest = target.partition("://")
    if not found or not scheme.isalnum():
        return target
    authority = re.match("[^/?]*", rest)
    assert authority is not None, "the pattern matches even nothing"
    path = rest[authority.end() :]
    return path if path.startswith("/") else f"/{path}"


def respond(parser: h11.Connection, response: Response, *, close: bool, bodiless: bool = False) -> bytes:
    """Frame a plain response; the one to a HEAD is bodiless, though it says how long the body would be."""
    headers = [("Date", date()), *response.headers]
    if response.status not in (204, 304):
        headers.append(("Content-Length", str(len(response.body))))
    if close:
        headers.append(("Connection", "close"))
    head = h11.Response(
        status_code=response.status,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
        reason=phrase(response.status).encode(),
    )
    data = parser.send(head) or b""
    if response.body and not bodiless:
        data += parser.send(h11.Data(data=response.body)) or b""
    return data + (parser.send(h11.EndOfMessage()) or b"")


def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that the host stands for.

    Raises:
        OSError: it can't; the text says which address, why, and what to do.
        ValueError: there is no such port.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is from 0 to 65535, not {port!r}")
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address[0]) for family, _, _, _, address in found):
            bound = (address, listeners[0].getsockname()[1] if listeners else port)
            try:
                listener = socket.create_server(bound, family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # as ::1 for "localhost" where IPv6 is switched off
            else:
                listener.setblocking(False)
                listeners.append(listener)
        if not listeners and missing is not None:
            raise missing
    except OSError as error:
        for listener in listeners:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, f"port {port} on {host} is taken; choose another, or 0 for a free one") from None
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror or error}") from None
    return listeners
