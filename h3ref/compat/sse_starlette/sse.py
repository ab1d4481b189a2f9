"""`EventSourceResponse`: sse-starlette's response, sent by h3ref's own."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio
import anyio.to_thread

from ..._core.generator import close_generator
from ...adapters.asgi import EventSourceResponse as Streaming
from ...adapters.asgi.ending import Origin
from ...headers import EVENT_STREAM
from ...sse import SSEEvent
from .event import DEFAULT_SEPARATOR, ServerSentEvent, ensure_bytes
from .shutdown import AppStatus, Exit
from .way import CloseHandler, SendTimeoutError, Way

try:
    from starlette.datastructures import MutableHeaders
    from starlette.responses import Response
except ModuleNotFoundError as error:
    raise ImportError("EventSourceResponse needs Starlette: pip install starlette") from error

if TYPE_CHECKING:
    from starlette.background import BackgroundTask
    from starlette.types import Receive, Scope, Send

__all__ = ["AppStatus", "EventSourceResponse", "SendTimeoutError", "ServerSentEvent", "ensure_bytes"]

log = logging.getLogger("h3ref.compat.sse_starlette")

_NOTHING: Final = object()
_SCOPE: Final = {"method": "GET", "path": "/", "headers": ()}
"""What an http scope has; a WebSocket's has no method, and one that you build yourself may have less."""


class EventSourceResponse(Response):
    """A stream of events as a Starlette or FastAPI response, with sse-starlette's arguments and bytes.

    The headers are sent at once. An exception that the content raises before it first waits is nevertheless left to the
    framework; after a later one, what was yielded is delivered, the body ends without its proper end, and the exception
    is raised.

    You may change a response until it is called: only then are `headers`, `status_code`, `background`, `ping_interval`
    and `body_iterator` looked at.

    Args:
        content: what to stream: an async iterable; or a plain one, each item of which is fetched on a worker thread. An
            item is anything that `ensure_bytes` takes: bytes are sent as they are, a `ServerSentEvent` or a dict of its
            arguments is an event, and the `str` of anything else is an event's data.
        status_code: the response's status; a browser takes only 200 for a stream.
        headers: further headers. `Cache-Control` is no-store unless it is given here; `Connection: keep-alive` and
            `X-Accel-Buffering: no` are sent whatever is given.
        media_type: the response's media type.
        background: a task that runs after the stream has ended, even if the client has left; not after an error.
        ping: seconds of silence after which a comment is sent; 15 if left out, 0 for never.
        sep: what ends a line: CRLF if left out, CR or LF.
        ping_message_factory: returns what is sent instead of that comment, an item as in `content`.
        data_sender_callable: a coroutine function that runs beside the stream, such as one that feeds a memory object
            stream; it is cancelled when the stream has ended, and if it raises, the stream ends.
        send_timeout: seconds within which the server has to take a part of the body; None for no limit. It has no
            effect on hypercorn with trio, which shields its own send.
        client_close_handler_callable: awaited with the server's message when the client leaves, before the content is
            cancelled.
        shutdown_event: set when the server is about to shut down, or `AppStatus.should_exit` is set, so that the
            content may finish by itself.
        shutdown_grace_period: seconds that the content gets for that; then it is cancelled, and the body has its proper
            end. The server's own limit has to be longer.
        cleanup_timeout: seconds that the content gets to close if it is interrupted at a `yield`; None for no limit.

    Raises:
        ValueError: another `sep`, or a negative number of seconds.
        TypeError: `ping` is not a number.
    """

    DEFAULT_PING_INTERVAL = 15
    DEFAULT_SEPARATOR = DEFAULT_SEPARATOR
    DEFAULT_CLEANUP_TIMEOUT = 30.0

    def __init__(
        self,
        content: AsyncIterable[Any] | Iterable[Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = EVENT_STREAM,
        background: BackgroundTask | None = None,
        ping: float | None = None,
        sep: str | None = None,
        ping_message_factory: Callable[[], Any] | None = None,
        data_sender_callable: Callable[[], Awaitable[None]] | None = None,
        send_timeout: float | None = None,
        client_close_handler_callable: CloseHandler | None = None,
        shutdown_event: anyio.Event | None = None,
        shutdown_grace_period: float = 0,
        cleanup_timeout: float | None = DEFAULT_CLEANUP_TIMEOUT,
    ) -> None:
        if sep not in (None, "\r\n", "\n", "\r"):
            raise ValueError(f"sep is what ends a line: CRLF, LF or CR, not {sep!r}")
        _check_seconds("shutdown_grace_period", shutdown_grace_period)
        if cleanup_timeout is not None:
            _check_seconds("cleanup_timeout", cleanup_timeout)
        self.body_iterator: AsyncIterable[Any]
        if type(content) is AsyncGeneratorType or isinstance(content, AsyncIterable):
            self.body_iterator = content
        else:
            self.body_iterator = _on_thread(content)
        self.status_code = status_code
        self.media_type = media_type
        self.background = background
        self.sep = sep or self.DEFAULT_SEPARATOR
        self.ping_interval = self.DEFAULT_PING_INTERVAL if ping is None else ping
        self.ping_message_factory = ping_message_factory
        self.data_sender_callable = data_sender_callable
        self.send_timeout = send_timeout
        self.client_close_handler_callable = client_close_handler_callable
        self._shutdown_event = shutdown_event
        self._shutdown_grace_period = shutdown_grace_period
        self._cleanup_timeout = cleanup_timeout
        if headers is None and media_type == EVENT_STREAM and type(self) is EventSourceResponse:
            self.raw_headers = list(_default_headers())
        else:
            self._init_headers(headers)

    def _init_headers(self, headers: Mapping[str, str] | None) -> None:
        given = MutableHeaders(headers)
        given.setdefault("Cache-Control", "no-store")
        given.update({"Connection": "keep-alive", "X-Accel-Buffering": "no"})
        self.init_headers(given)

    @property
    def ping_interval(self) -> float:
        """The seconds of silence after which a comment is sent; 0 for never."""
        return self._ping_interval

    @ping_interval.setter
    def ping_interval(self, seconds: float) -> None:
        _check_seconds("ping interval", seconds)
        self._ping_interval = seconds

    def enable_compression(self, force: bool = False) -> NoReturn:
        """Refuse: a compressor would hold events back.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a stream of events is not compressed: it would hold them back")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request that Starlette hands over, or refuse a WebSocket with the stream.

        Raises:
            SendTimeoutError: the server did not take a message in time.
            Exception: what the content, `data_sender_callable`, `client_close_handler_callable` or the server's `send`
                raised.
        """
        denies = scope["type"] == "websocket"
        way = Way(
            receive,
            send,
            (self.status_code, self.raw_headers),
            on_close=self.client_close_handler_callable,
            denies=denies,
            # Servers that keep a head until the body begins, hypercorn and granian, name their extensions. A
            # caller that names none may be a test, and count what is sent.
            wants_empty=bool(scope.get("extensions")),
            is_timed=self.send_timeout is not None,
        )
        if not denies and scope["method"].upper() == "HEAD":
            await way.send_head_alone(self.send_timeout)
        else:
            await self._stream({**_SCOPE, **scope, "type": "http"}, way)
        if self.background is not None:
            await self.background()

    async def _stream(self, scope: Scope, way: Way) -> None:
        """Stream the content, and run what belongs beside it."""
        feed = None if self.data_sender_callable is None else anyio.CancelScope()
        response = _Streamed(
            self._events(feed, way),
            ping=self._ping_interval,
            ping_message_factory=lambda: self._make_ping(way),
            send_timeout=None,  # it would not be reported
            commit_after=0,
            shutdown_grace_period=self._shutdown_grace_period,
        )
        response.shutdown_event = self._shutdown_event
        if self.data_sender_callable is None and self.send_timeout is None:
            await response(scope, way.receive, way.send)
        else:
            await self._stream_beside(response, scope, way, feed)
        if way.failure is not None:
            raise way.failure

    async def _stream_beside(self, response: _Streamed, scope: Scope, way: Way, feed: anyio.CancelScope | None) -> None:
        """The same, beside the task that feeds it, and the one that watches how long the server takes."""
        stream = anyio.CancelScope()
        raised: Exception | None = None
        async with anyio.create_task_group() as tasks:
            if self.data_sender_callable is not None and feed is not None:
                tasks.start_soon(_run_feed, self.data_sender_callable, feed, stream, way)
            if self.send_timeout is not None:
                tasks.start_soon(way.watch, self.send_timeout)
            try:
                with stream:
                    await response(scope, way.receive, way.send)
            except Exception as error:  # carried past the task group, which would wrap it
                raised = error
            tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised

    async def _events(self, feed: anyio.CancelScope | None, way: Way) -> AsyncGenerator[SSEEvent, None]:
        """Yield the content's items, encoded; the next one is asked for when the server has taken the last.

        Interrupted content is closed after the task that feeds it, which would otherwise find its channel broken.
        """
        items = aiter(self.body_iterator)
        try:
            async for item in items:
                yield _Encoded(way.announce(ensure_bytes(item, self.sep)))
                await way.until_taken()
        except BaseException:
            if feed is not None:
                feed.cancel()
            if hasattr(items, "aclose"):
                await self._close(items)
            raise

    async def _close(self, items: Any) -> None:
        with anyio.move_on_after(self._cleanup_timeout, shield=True) as limit:
            try:
                await close_generator(items)
            except Exception:
                log.exception("the content raised while it was closed, after its stream had ended")
        if limit.cancel_called:
            log.warning("the content's cleanup took longer than %s s, and was cancelled", self._cleanup_timeout)

    def _make_ping(self, way: Way) -> SSEEvent:
        if self.ping_message_factory is None:
            ping: Any = {"comment": f"ping - {datetime.now(UTC)}"}
        else:
            ping = self.ping_message_factory()
        return _Encoded(way.announce(ensure_bytes(ping, self.sep)))


@cache
def _default_headers() -> list[tuple[bytes, bytes]]:
    """Those of a response that is given none."""
    return EventSourceResponse((), headers={}).raw_headers


class _Streamed(Streaming):
    """h3ref's own response, which `AppStatus` can end, too."""

    shutdown_event: anyio.Event | None = None

    def origin_of(self, receive: Receive, send: Send) -> Origin:
        return Exit(receive, send, self._grace, self.shutdown_event)


class _Encoded(SSEEvent):
    """Bytes that are sent as they are."""

    __slots__ = ("_bytes",)

    def __init__(self, data: bytes) -> None:
        super().__init__("")
        self._bytes = data

    def encode(self) -> bytes:
        return self._bytes


async def _run_feed(
    feed: Callable[[], Awaitable[None]], its_own: anyio.CancelScope, stream: anyio.CancelScope, way: Way
) -> None:
    """Run what feeds the content; if it raises, the stream ends without its proper end."""
    with its_own:
        try:
            await feed()
        except Exception as error:
            way.fail(error)
            stream.cancel()


async def _on_thread(content: Iterable[Any]) -> AsyncGenerator[Any, None]:
    """Yield the items of a plain iterable, each fetched on a worker thread."""
    items = await anyio.to_thread.run_sync(iter, content)
    try:
        while (item := await anyio.to_thread.run_sync(next, items, _NOTHING)) is not _NOTHING:
            yield item
    finally:
        if hasattr(items, "close"):
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(items.close)


def _check_seconds(name: str, seconds: float) -> None:
    if not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be int or float, not {type(seconds).__name__}")
    if not seconds >= 0:
        raise ValueError(f"{name} must be >= 0 seconds, not {seconds!r}")
