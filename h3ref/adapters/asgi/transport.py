"""`ASGITransport`: the port's request over ASGI's `receive` and `send`, and `answer`, which answers one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Final, Protocol

from ..._core import scopes
from ..._core.companion import accompanied
from ..._core.errand import within
from ..._core.exchange import Exchange
from ..._core.parking import asyncio_loop, loop_context, trio_task
from ..._core.service import Service
from ...connection import Request, Response
from ...event import H3Event
from ...lifecycle import Reason
from .clock import Clock
from .connection import ASGIConnection
from .ending import Endings, Origin
from .incoming import Incoming
from .messages import Message, Receive, ScopeHeaders, Send, part, start
from .shielding import ShieldingConnection
from .target import target_of

log = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST: Final = 499
"""Nginx's status, for logs: it is never sent."""

PART: Final = 64 * 1024
"""Bytes of a plain answer in one message: a client that takes none of so few within `send_timeout` does not read."""


class ASGILoop:
    """What all requests of an application share in one event loop.

    Args:
        service: what their exchanges share.

    Attributes:
        asyncio: that loop, if it is asyncio's; else None.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.clock = Clock(service.streams, Endings(service).look)
        self.asyncio = asyncio_loop()


class Reply(Protocol):
    """What answers one request in place of an app's routes."""

    def prepare(self, receive: Receive, incoming: Incoming) -> None:
        """Take note of what comes from the client, before anything of it is received."""

    async def handle(self, event: H3Event) -> None:
        """Answer as any handler does."""

    async def respond(self, message: Message) -> None:
        """Send a message of a plain response."""


class ASGITransport:
    """One request of the http scope.

    Args:
        scope, receive, send: as an ASGI server gives them.
        loop: what it shares with the others.
        origin: where it comes from.
        context: of the task that answers it.
        reply: what answers it in place of the app's routes; None where they do.
    """

    __slots__ = (
        "_cancelled",
        "_gone",
        "_loop",
        "_scope",
        "_send",
        "connection",
        "context",
        "exchange",
        "incoming",
        "limits",
        "origin",
        "reply",
        "request",
    )

    def __init__(
        self,
        scope: Message,
        receive: Receive,
        send: Send,
        loop: ASGILoop,
        origin: Origin,
        context: Context,
        reply: Reply | None = None,
    ) -> None:
        headers = ScopeHeaders(scope["headers"])
        self.request = Request(scope["method"], target_of(scope), headers, scope.get("http_version", "1.1"))
        self.incoming = Incoming(receive, self.request, headers.announce_body(), loop.service)
        self.origin = origin
        self.exchange: Exchange | None = None
        self.connection: ASGIConnection | None = None
        self._scope = scope
        self._send = send
        self.reply = reply
        self._loop = loop
        self.context = context
        self.limits = loop.service.limits
        self._gone: Callable[[], None] | None = None
        self._cancelled = 0  # how often

    @property
    def client(self) -> str:
        client: str = (self._scope.get("client") or ("",))[0]
        return client

    @property
    def can_cut(self) -> bool:
        # Hypercorn, the server that offers push, forgets an HTTP/2 stream whose application returns without the last
        # message: its client would wait for ever.
        return "http.response.push" not in (self._scope.get("extensions") or ())

    async def read_body(self) -> bytes:
        return await self.incoming.read_body()

    def watch(self, gone: Callable[[], None]) -> None:
        if self._gone is not None:
            return  # a request that can only be a stream is watched from its beginning
        self._gone = gone
        self.incoming.watch(self.lost, self._loop.service.token)

    async def send_response(self, response: Response) -> int:
        headers = list(response.headers)
        if response.status not in (204, 304):
            headers.append(("Content-Length", str(len(response.body))))
        body = b"" if self.request.method == "HEAD" else response.body
        try:
            message, size = start(response.status, headers)
            await self._pass_on(message)
            self.incoming.throw_away_the_rest()  # a queue of it would keep hypercorn from taking the last message
            for begins in range(0, len(body) or 1, PART):
                ends = begins + PART
                await self._pass_on(part(body[begins:ends], more=ends < len(body)))
        except OSError as error:
            log.debug("a client left: %s", error)
            return 0
        return size + len(body)

    async def answer_nobody(self) -> None:
        """The client has left before there was an answer: some middlewares fail if none comes."""
        with suppress(OSError):
            await self._pass_on(start(CLIENT_CLOSED_REQUEST, [("Content-Length", "0")])[0])
            await self._pass_on(part(b"", more=False))

    async def _pass_on(self, message: Message) -> None:
        """Give the server a message of a plain answer.

        Raises:
            TimeoutError: the server made it wait for `send_timeout`.
        """
        sending = self._send(message) if self.reply is None else self.reply.respond(message)
        if await within(sending, self._loop.service.limits.send_timeout):
            self._loop.service.refused["send_timeout"] += 1
            log.info("a client does not read its answer: it is cut")
            raise TimeoutError("it does not read")

    def create_connection(self) -> ASGIConnection:
        self.incoming.throw_away_the_rest()
        self._loop.clock.run()
        assert self.exchange is not None, "it creates one"
        turns, flow = self.exchange.running, self.origin.flow
        if self._loop.asyncio is not None:
            self.connection = ASGIConnection(self._send, self, turns=turns, flow=flow)
        elif scopes.base() is None:
            self.connection = ASGIConnection(self._send, self, turns=None, flow=flow)
        else:
            streams = self._loop.service.streams
            self.connection = ShieldingConnection(streams, self._send, self, turns=turns, flow=flow)
        return self.connection

    def cancelled(self) -> None:
        """The server has cancelled the task that answers the request: a second time waits for no cleanup."""
        self._cancelled += 1
        if self.exchange is not None:
            end = self.exchange.cancel if self._cancelled == 1 else self.exchange.abandon
            end()

    def release(self) -> None:
        """The client's connection is the server's, and goes when the application returns."""

    def keep_nothing(self) -> None:
        """It is over: drop what refers back to it, or both would stay until the garbage collector finds the cycle."""
        self.exchange = self.connection = self._gone = None

    # -- what its connection asks and tells

    @property
    def task(self) -> int:
        return -1 if self.exchange is None else self.exchange.task

    def note(self) -> None:
        self.origin.note()

    def opened(self) -> None:
        self.incoming.opened()

    def lost(self) -> None:
        if self.connection is not None:
            self.connection.abort()
        if self._gone is not None:
            self._gone()


async def answer(
    loop: ASGILoop,
    scope: Message,
    receive: Receive,
    send: Send,
    origin: Origin,
    reply: Reply | None = None,
) -> None:
    """Answer one request of the http scope.

    On asyncio the exchange has a task of its own, whose suspensions do not pass through everything around the
    application, and the server's task listens; on trio it is the other way round, see `accompanied`.

    Args:
        loop: what the request shares with the others.
        scope, receive, send: as an ASGI server gives them.
        origin: where the request comes from.
        reply: what answers it in place of the app's routes; None where they do.
    """
    has_task = loop.asyncio is not None or scopes.base() is None
    context = loop_context(loop.asyncio) if has_task else trio_task().context
    transport = ASGITransport(scope, receive, send, loop, origin, context, reply)
    exchange = transport.exchange = loop.service.begin(
        transport, None if loop.asyncio is None else context, None if reply is None else reply.handle
    )
    if reply is not None:
        reply.prepare(receive, transport.incoming)
    try:
        await accompanied(
            loop.service.run(exchange),
            context,
            transport.cancelled,
            transport.incoming.listen,
            loop.asyncio,
            loop.service.limits.close_timeout,
        )
        if exchange.lifecycle.reason is Reason.CLIENT_GONE and transport.connection is None:
            await transport.answer_nobody()
    finally:
        transport.incoming.close()
        if transport.connection is not None and (waits := transport.connection.release()) is not None:
            await waits
        transport.keep_nothing()
