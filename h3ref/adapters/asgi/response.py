"""`EventSourceResponse`: a stream that a Starlette or FastAPI endpoint returns.

It goes through the same lifecycle and flows as an `H3App` does: each response is the one handler of an app
that has no routes. What is Starlette's stays Starlette's: an error before the stream has begun is raised, so
that the framework's own exception handlers answer it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, cast, overload

from ..._core.answer import STREAM_HEADERS
from ..._core.expiry import seconds_since_epoch
from ..._core.farewell import encoded_farewell
from ..._core.generator import DEFAULT_COMMIT_AFTER
from ..._core.host import Host
from ..._core.parking import LoopValue
from ..._core.service import Service
from ...app import H3App
from ...errors import PermissionExpired, TooManyStreams
from ...event import H3Event, host_of
from ...flows import check_flow
from ...headers import EVENT_STREAM, check_header, check_media_type
from ...lifecycle import Reason, State
from ...limits import Limits
from ...sse import SSEEvent
from ...writer import stream_of
from .content import encoded_item, handler_for
from .ending import Origin, check_grace
from .incoming import Incoming
from .items import Content, Item, Values
from .messages import HEADERS, Message, Receive, Send
from .transport import ASGILoop, ASGITransport, answer

try:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

    from .requests import give_receive, is_read, request_around, request_in
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "starlette":
        raise  # it is there, and something that it needs is not
    raise ImportError("EventSourceResponse needs Starlette: pip install starlette") from None

if TYPE_CHECKING:
    from starlette.background import BackgroundTask

log = logging.getLogger(__name__)

DEFAULT_PING: Final = 15.0
DEFAULT_SEND_TIMEOUT: Final = Limits().send_timeout

_DEFAULTS: Final = (DEFAULT_PING, DEFAULT_SEND_TIMEOUT, DEFAULT_COMMIT_AFTER)

RAW_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
"""Those of a response that is given none: they need no look."""


class EventSourceResponse(Response):
    """A stream of events as a Starlette or FastAPI response; also as FastAPI's `response_class`: see `event_stream`.

    Nothing is sent before the first item, or `commit_after` seconds, whichever comes first. Until then an
    exception leaves the response as it is, and the framework answers it: an `HTTPException` with its status,
    one that has a handler with the handler's answer, all others with a 500. Later the status has been sent: what
    was yielded before is delivered, the body ends without its proper end, so that the client can tell, and the
    exception goes to the framework to be logged.

    A client that leaves cancels the stream at once; what its `finally` awaits has 5 seconds to go through.

    Args:
        content: what to stream: an async iterable or generator; a plain one, which runs on a worker thread;
            or a stream callback that takes the writer, `async def` or plain `def` (on a worker thread). An item
            is an `SSEEvent`; a str, a number or a UUID, which is an event's data; or a dict of `SSEEvent`'s arguments,
            whose "data" and "id" may be numbers or UUIDs. A dict with an "event" and no data is sent with an empty data
            line, without which no client dispatches it; one that holds nothing is skipped, and the log says so.
        status_code: 200; a client takes no other for a stream.
        headers: further headers, in place of ours where they have the same name. A header about the connection,
            such as `Connection: keep-alive`, is the server's: it is ignored, and the log says so once. If you set
            Cache-Control, keep its "no-transform", without which a compressor on the way may hold events back.
        media_type: "text/event-stream", with parameters if you like.
        background: a task that runs when the stream has ended, also when the client has left; not after an error.
        ping: seconds of silence after which a comment is sent at the latest, so that nothing on the way takes the
            connection for dead; events put it off. None or 0 for never.
        ping_message_factory: returns what is sent instead of that comment, an item as in `content`; called on the
            event loop.
        send_timeout: seconds within which the server has to take what is sent; a client that does not read for that
            long is cut. 30 s if left out, as on the native server; None for no such limit. It can't take effect on
            hypercorn with trio, which shields its own send.
        commit_after: seconds after which the headers are sent even if no item has come. A callback takes the
            writer at once, so it has nothing to wait for.
        json: the items are values instead: everything but an `SSEEvent`, even a str or a dict, is sent as the JSON
            that `SSEEvent.json` makes of it.
        request: the endpoint's Request, if the content reads its body, or asks whether the client has left. It need not
            be given if it is an argument of the generator or callback, or enclosed in its function. An announced body
            for which the response knows no reader may be read until the stream is open; what comes later is lost, and
            the log says so.
        shutdown_grace_period: seconds that the stream gets to finish by itself when the server is about to shut down,
            if the server's own limit allows it; left out, it ends at once. docs/how-to/end-a-server.md says which
            servers show that.
        farewell: an event that the stream gets last then, before its proper end; `SSEEvent(retry=...)` tells clients
            when to come back, and nothing else.
        expires_at: when the stream's permission is over, in seconds since the epoch or as an aware datetime: the stream
            then ends properly, as by `H3Event.expires_at`. If that time has come before the stream has begun, the
            framework answers an `HTTPException` with status 403.
        expiry_farewell: an event that the stream gets last then.

    Raises:
        TypeError: the content can't be streamed, and the text says why; or a farewell is no event, or expiry no time.
        ValueError: a status other than 200, another media type (also as a header), a header that can't be sent,
            Content-Length or Date, a negative number of seconds, or a datetime without a time zone.
    """

    media_type: str | None = EVENT_STREAM

    @overload
    def __init__(
        self,
        content: Content,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        ping: float | None = DEFAULT_PING,
        *,
        ping_message_factory: Callable[[], Item] | None = None,
        send_timeout: float | None = DEFAULT_SEND_TIMEOUT,
        commit_after: float = DEFAULT_COMMIT_AFTER,
        json: Literal[False] = False,
        request: Request | None = None,
        shutdown_grace_period: float = 0.0,
        farewell: SSEEvent | None = None,
        expires_at: datetime | float | None = None,
        expiry_farewell: SSEEvent | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        content: Values,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        ping: float | None = DEFAULT_PING,
        *,
        ping_message_factory: Callable[[], Item] | None = None,
        send_timeout: float | None = DEFAULT_SEND_TIMEOUT,
        commit_after: float = DEFAULT_COMMIT_AFTER,
        json: bool,
        request: Request | None = None,
        shutdown_grace_period: float = 0.0,
        farewell: SSEEvent | None = None,
        expires_at: datetime | float | None = None,
        expiry_farewell: SSEEvent | None = None,
    ) -> None: ...
    def __init__(
        self,
        content: Content | Values,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        ping: float | None = DEFAULT_PING,
        *,
        ping_message_factory: Callable[[], Item] | None = None,
        send_timeout: float | None = DEFAULT_SEND_TIMEOUT,
        commit_after: float = DEFAULT_COMMIT_AFTER,
        json: bool = False,
        request: Request | None = None,
        shutdown_grace_period: float = 0.0,
        farewell: SSEEvent | None = None,
        expires_at: datetime | float | None = None,
        expiry_farewell: SSEEvent | None = None,
    ) -> None:
        if status_code != 200:
            raise ValueError(f"a stream's status is 200, not {status_code}; raise an HTTPException to answer an error")
        if media_type is not None:
            _check_headers({"Content-Type": media_type})
        if headers:
            _check_headers(headers)
        if (ping, send_timeout, commit_after) != _DEFAULTS:
            _check_seconds("ping", ping)
            _check_seconds("send_timeout", send_timeout)
            if send_timeout == 0:
                raise ValueError("send_timeout is more than 0 seconds, or None for no limit")
            _check_seconds("commit_after", commit_after)
        self._grace = check_grace(shutdown_grace_period)
        self._farewell = encoded_farewell(farewell)
        if expires_at is not None:
            seconds_since_epoch(expires_at)  # refused here, where the mistake is
        encoded_farewell(expiry_farewell)
        self._expires_at, self._expiry_farewell = expires_at, expiry_farewell
        if request is not None and not isinstance(request, Request):
            raise TypeError(f"request is the endpoint's Request, or None, not {request!r}")
        self._content = content
        self._request = request
        self._handler = handler_for(content, commit_after, json=json)
        self._ping = ping or None
        self._ping_message_factory = ping_message_factory
        self._send_timeout = send_timeout
        self.status_code = status_code
        self.background = background
        if media_type is None and not headers:
            self.raw_headers = list(RAW_HEADERS)
            return
        if media_type is not None:
            self.media_type = media_type
        self.init_headers(headers)
        for name, value in STREAM_HEADERS:
            self.headers.setdefault(name, value)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer the request that Starlette hands over.

        Raises:
            RuntimeError: not an HTTP request.
            Exception: what the content raised.
        """
        if scope["type"] != "http":
            raise RuntimeError(f"EventSourceResponse answers HTTP requests, not the ASGI scope {scope['type']!r}")
        reply = _Reply(self, send)
        await answer(_LOOP.get(), scope, receive, send, self.origin_of(receive, send), reply)
        if reply.failure is not None:
            raise reply.failure
        if self.background is not None:
            await self.background()

    def origin_of(self, receive: Receive, send: Send) -> Origin:
        """What tells of the end of a request's server; `h3ref.compat` has others."""
        return Origin(receive, send, self._grace)

    def __repr__(self) -> str:
        return f"<EventSourceResponse {self._handler.__qualname__}>"


class _Reply:
    """One call of a response: its handler, and its way to the server."""

    __slots__ = ("_is_replaced", "_response", "_send", "failure")

    def __init__(self, response: EventSourceResponse, send: Send) -> None:
        self.failure: Exception | None = None
        self._response = response
        self._send = send
        self._is_replaced = False  # the framework answers in place of this response

    def prepare(self, receive: Receive, incoming: Incoming) -> None:
        """Give other code that reads the body the same `receive`."""
        response = self._response
        request = response._request or request_in(response._content, receive)
        if request is None and incoming.may_have_body:
            request = request_around(receive)
        if request is None:
            incoming.spare()
        else:
            give_receive(request, incoming.share(is_read=is_read(request)))

    async def handle(self, event: H3Event) -> None:
        """Answer as any handler does; what fails before the stream has begun is left to the framework."""
        response, host = self._response, host_of(event)
        host.will_stream()
        host.keep_alive, host.send_timeout = response._ping, response._send_timeout
        host.farewell = response._farewell
        if response._expires_at is not None:
            event.expires_at(response._expires_at, farewell=response._expiry_farewell)
        if response._ping_message_factory is not None:
            host.comment = self._comment
        try:
            if response.raw_headers == RAW_HEADERS:
                host.answer.stream_defaults = HEADERS
            else:
                for name, value in response.raw_headers:
                    event.set_header(name.decode("latin-1"), value.decode("latin-1"), append=True)
            await response._handler(event)
        except Exception as error:
            writer = host_of(event).writer
            if event.state is State.REQUESTED:
                self.failure = _for_the_framework(error)
                self._is_replaced = True
                event.send_error(500)
            elif writer is not None and event.state is not State.CLOSED:
                self.failure = error
                await stream_of(writer).fail(error)  # cut, not ended properly
            elif event.reason is Reason.ERROR:
                self._keep(event, error)  # the stream is cut already, by a callback's `async with` or at its head
            else:
                raise  # the stream was over already

    async def note(self, event: H3Event, error: Exception) -> None:
        """Take what has ended the stream without the handler being told, such as a head that can't be sent."""
        if event.reason is Reason.ERROR and self.failure is None:
            self._keep(event, error)

    def _keep(self, event: H3Event, error: Exception) -> None:
        """Keep what has ended the exchange; if the permission was over, nothing was sent, and the framework answers."""
        self.failure = error
        if isinstance(error, PermissionExpired) and host_of(event).writer is None:
            self.failure = _for_the_framework(error)
            self._is_replaced = True

    async def respond(self, message: Message) -> None:
        """Pass a plain response on to the server, unless the framework has another one."""
        if self._is_replaced:
            raise ConnectionAbortedError("the framework answers instead")
        await self._send(message)

    def _comment(self) -> bytes | None:
        try:
            assert self._response._ping_message_factory is not None, "else it is not asked"
            return encoded_item(self._response._ping_message_factory())
        except Exception:
            log.exception("the ping_message_factory raised; the usual comment is sent instead")
            return None


# -- what all responses share


class _Responses(H3App):
    """An app without routes: each request is answered by the response that brought it."""

    def __init__(self) -> None:
        super().__init__()

        @self.on_error
        async def note(event: H3Event, error: Exception) -> None:
            transport = cast(Host, host_of(event)).transport
            await cast(_Reply, cast(ASGITransport, transport).reply).note(event, error)


_LIMITS: Final = Limits(streams=None)
"""How many there are is the application's business."""


def _made_loop() -> ASGILoop:
    return ASGILoop(Service(_Responses(), flow=check_flow(None), limits=_LIMITS))


_LOOP: Final = LoopValue("h3ref_event_source_response", _made_loop)


def _service() -> Service:
    return _LOOP.get().service


def _for_the_framework(error: Exception) -> Exception:
    if isinstance(error, TooManyStreams):
        return HTTPException(503, str(error), {"Retry-After": "1"})
    if isinstance(error, PermissionExpired):
        return HTTPException(error.status, str(error))
    return error


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        check_header(name, value)
        if name.lower() == "content-type":
            check_media_type(value)


def _check_seconds(name: str, seconds: float | None) -> None:
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"{name} must be seconds, 0 or more, not {seconds!r}")
