"""`ASGITransport` and `ASGIConnection`: the port's two halves over ASGI's `receive` and `send`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
from anyio.abc import TaskGroup

from ..._core.parking import Parking, loop_context
from ..._core.service import Service
from ...connection import Request, Response, StreamHead
from ...errors import BodyTimeout, BodyTooLarge, RequestError, WriteError
from ...limits import Limits
from .ending import Origin
from .keeper import Keeper
from .target import target_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)


class ASGITransport:
    """One request of the http scope.

    Only one task at a time calls `receive`: who reads the body, or, once the client is watched, a listener that keeps
    the body for who reads it.
    """

    def __init__(
        self,
        scope: Message,
        receive: Receive,
        send: Send,
        tasks: TaskGroup,
        service: Service,
        keeper: Keeper | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.origin = origin or Origin(receive, send)
        headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
        self.request = Request(scope["method"], target_of(scope), headers, scope.get("http_version", "1.1"))
        self.client: str = (scope.get("client") or ("",))[0]
        self._receive = receive
        self._send = send
        self._tasks = tasks
        self._service = service
        self._keeper = keeper
        self._token = anyio.lowlevel.current_token()
        # Hypercorn, the server that offers push, forgets an HTTP/2 stream whose application returns without the last
        # message: its client would wait for ever.
        self._can_cut = "http.response.push" not in (scope.get("extensions") or {})
        self._gone: Callable[[], None] | None = None
        self._connection: ASGIConnection | None = None
        self._more_body = _may_have_body(self.request)
        self._body = bytearray()  # as far as it has come
        self._size = 0  # of all that came of the body, up to the first part past the limit
        self._unwanted = False  # nobody will begin to read the body any more
        self._is_read = False  # while somebody waits for it
        self._left = False  # the client
        self._reading = False
        self._listening = False
        self._arrived: anyio.Event | None = None  # made by who reads while the listener receives

    async def read_body(self) -> bytes:
        limit = self._service.limits.body_size
        declared = dict(self.request.headers).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared)} bytes, the limit is {limit}")
        self._reading = not self._listening
        self._is_read = True
        try:
            with anyio.move_on_after(self._service.limits.body_timeout) as bounded:
                while self._more_body and not self._left and self._size <= limit:
                    if self._reading:
                        self._take(await self._receive())
                    else:
                        self._arrived = anyio.Event()
                        await self._arrived.wait()
            body = self._body
        finally:
            self._reading = self._is_read = False
            if self._unwanted:
                self._body = bytearray()
            if self._gone is not None:
                self._start_listening()
        if bounded.cancelled_caught and self._more_body:
            raise BodyTimeout(f"the body did not come in {self._service.limits.body_timeout:g} s")
        if self._size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        if self._more_body:
            raise RequestError("the body broke off: the client has left")
        self._body = bytearray()
        return bytes(body)

    def watch(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        if self._left:
            gone()
        elif threading.get_ident() == self._service.loop_thread:
            self._start_listening()
        else:
            anyio.from_thread.run_sync(self._start_listening, token=self._token)

    def _start_listening(self) -> None:
        if not self._listening and not self._reading:
            self._listening = True
            self._tasks.start_soon(self._listen)

    async def _listen(self) -> None:
        """Take what comes, until the client leaves."""
        while not self._left:
            try:
                message = await self._receive()
            except Exception as error:
                log.debug("receive raised %r: taken for a client that left", error)
                message = {"type": "http.disconnect"}
            self._take(message)
            await anyio.lowlevel.checkpoint()  # some middleware replays a body without ever waiting

    def _take(self, message: Message) -> None:
        """Keep a part of the body while somebody may want it, or tell that the client has left."""
        if message["type"] == "http.disconnect":
            self._left = True
            self._lost()
        elif self._more_body:
            self._more_body = message.get("more_body", False)
            if (self._is_read or not self._unwanted) and self._size <= self._service.limits.body_size:
                part = message.get("body", b"")
                self._body += part
                self._size += len(part)
        if self._arrived is not None:
            self._arrived.set()

    def _throw_away_the_rest(self) -> None:
        self._unwanted = True
        if not self._is_read:
            self._body.clear()
        self._start_listening()

    async def send_response(self, response: Response) -> int:
        headers = list(response.headers)
        if response.status not in (204, 304):
            headers.append(("Content-Length", str(len(response.body))))
        body = b"" if self.request.method == "HEAD" else response.body
        try:
            await self._send(_start(response.status, headers))
            if self._more_body:
                self._throw_away_the_rest()  # a queue of it would keep hypercorn from taking the last message
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        except OSError:
            return 0  # the client has left
        return _head_size(response.status, headers) + len(body)

    def create_connection(self) -> ASGIConnection:
        self._throw_away_the_rest()
        if self._keeper is not None:
            self._keeper.add(self._tasks)
        limits = self._service.limits
        self._connection = ASGIConnection(
            self._send, self._tasks, limits, self._lost, self.origin, can_cut=self._can_cut
        )
        return self._connection

    def release(self) -> None:
        """The client's connection is the server's, and goes when the application returns."""

    def _lost(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        if self._gone is not None:
            self._gone()


class ASGIConnection:
    """Carries a stream by `http.response.body` messages.

    What is pending is sent by a task that starts with the first event and is parked between two: one for each event
    would cost more than to send it. A silent stream has none. Whoever writes, or ends the stream, `send` is called by a
    task of the stream's own request, with its context: it may be a middleware's.
    """

    adapter_type = "asgi"
    sharing = None

    __slots__ = (
        "_can_cut",
        "_context",
        "_limits",
        "_lost",
        "_origin",
        "_over",
        "_parking",
        "_pending",
        "_progress",
        "_pump_scope",
        "_send",
        "_size",
        "_tasks",
        "stalled_since",
    )

    def __init__(
        self,
        send: Send,
        tasks: TaskGroup,
        limits: Limits,
        lost: Callable[[], None],
        origin: Origin | None = None,
        *,
        can_cut: bool = True,
    ) -> None:
        self._origin = origin
        self._can_cut = can_cut
        self._send = send
        self._tasks = tasks
        self._limits = limits
        self._lost = lost
        self._context = loop_context()
        self._pending: list[bytes] = []
        self._size = 0  # of what is pending, and of what the server has not taken yet
        self._pump_scope: anyio.CancelScope | None = None  # there while the head is sent, or the pump lives
        self._parking: Parking | None = None  # where the pump waits for what is next
        self._progress: anyio.Event | None = None  # set when bytes have left; made only by one who waits
        self._over = False
        self.stalled_since: float | None = None  # while the server has something that it has not taken

    @property
    def buffered(self) -> int:
        return self._size

    async def send_headers(self, head: StreamHead) -> int:
        size = len(head.wire) if head.wire else _head_size(200, head.headers)
        self._size += size  # what is written, and the end, goes behind it
        # Shielded, so that a head is sent whole or not at all: a disconnect ends the wait as well.
        with anyio.move_on_after(self._limits.close_timeout, shield=True) as self._pump_scope:
            try:
                self._note()
                await self._send(_start(200, head.headers))
                # Some servers keep the head until the first message of the body comes.
                await self._send(_part(b""))
                self._note()
            except OSError:
                self._lost()
            except Exception as error:
                self.abort()
                raise WriteError(f"the server refused the head: {error}") from error
        given_up, self._pump_scope = self._pump_scope.cancelled_caught, None
        if given_up and not self._over:
            self.abort()
            raise WriteError(f"the server did not take the head within {self._limits.close_timeout:g} s")
        if not self._over:
            self._size -= size
            self._tell_waiters()
            if self._pending:
                self._start_pump()
        return size

    def _note(self) -> None:
        if self._origin is not None:
            self._origin.note()

    def write_chunk(self, data: bytes) -> None:
        if data and not self._over:
            self._pending.append(data)
            self._size += len(data)
            if self._pump_scope is None:
                self._start_pump()
            elif self._parking is not None:
                self._parking.wake()

    def _start_pump(self) -> None:
        # Only abort ends it: close still needs it.
        self._pump_scope = self._context.run(lambda: anyio.CancelScope(shield=True))
        self._start(self._pump, self._pump_scope)

    def _start(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self._context.copy().run(self._tasks.start_soon, function, *args)

    async def drain(self) -> None:
        await self._until_below(self._limits.stream_buffer)

    async def flush(self) -> None:
        await self._until_below(1)

    async def close(self) -> None:
        await self._end(proper=True)

    async def cut(self) -> None:
        # An application that returns without the last message tells the server to cut; one that raises does so too,
        # but servers log that with a traceback, and the failure is logged already.
        await self._end(proper=not self._can_cut)

    async def _end(self, *, proper: bool) -> None:
        if not self._over:
            with anyio.move_on_after(self._limits.close_timeout):
                await self._until_below(1)
                if proper and not self._over:
                    await self._send_end()
            self.abort()

    async def _send_end(self) -> None:
        """Send the last message; a server that says in the middle of it that the client has left does not end it."""
        scope, over = anyio.CancelScope(shield=True), anyio.Event()

        async def send() -> None:
            with scope:
                await self._pass_on(_part(b"", more=False))
            over.set()

        self._start(send)
        try:
            await over.wait()
        finally:
            scope.cancel()

    async def _pump(self, scope: anyio.CancelScope) -> None:
        self._parking = parking = Parking()
        try:
            with scope:
                while True:
                    while self._pending:
                        data = b"".join(self._pending)
                        self._pending.clear()
                        self.stalled_since = anyio.current_time()
                        if not await self._pass_on(_part(data)):
                            return
                        self._size -= len(data)
                        self._tell_waiters()
                    self.stalled_since = None
                    scope.shield = False  # with nothing to send, it ends with the request's other tasks
                    await parking.wait()
                    scope.shield = True
        finally:
            self._pump_scope = self._parking = None
            if self._pending:  # they came just when it was cancelled
                self._start_pump()

    async def _pass_on(self, message: Message) -> bool:
        """Send a message; a server that can't is taken for a client that left."""
        try:
            await self._send(message)
        except OSError:
            pass
        except Exception as error:
            if not self._over:
                log.warning("the server refused a message: %r", error)
        else:
            return not self._over
        self._lost()
        return False

    def abort(self) -> None:
        """Take nothing more; whoever waits goes on."""
        self._over = True
        self._pending.clear()
        self._size = 0
        if self._pump_scope is not None:
            self._pump_scope.cancel()
        self._tell_waiters()

    async def _until_below(self, mark: int) -> None:
        while self._size >= mark:
            if self._progress is None:
                self._progress = anyio.Event()
            await self._progress.wait()

    def _tell_waiters(self) -> None:
        if self._progress is not None:
            self._progress.set()
            self._progress = None


def _may_have_body(request: Request) -> bool:
    """Whether a body may come; HTTP/1.1 announces it (RFC 9112, section 6.3), HTTP/2 need not."""
    named = dict(request.headers)
    if b"content-length" in named:
        return named[b"content-length"] != b"0"
    return b"transfer-encoding" in named or (
        not request.http_version.startswith("1") and request.method not in ("GET", "HEAD")
    )


def _start(status: int, headers: list[tuple[str, str]]) -> dict[str, Any]:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": raw}


def _part(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _head_size(status: int, headers: list[tuple[str, str]]) -> int:
    """The size that the head has in HTTP/1.1, without what the server adds."""
    return len(f"HTTP/1.1 {status} OK\r\n\r\n") + sum(len(name) + len(value) + 4 for name, value in headers)
