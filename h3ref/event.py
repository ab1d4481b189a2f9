"""`H3Event`: the context of one request: what a handler reads and how it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, unquote

import anyio

from . import trace
from ._core.answer import Answer, phrase
from ._core.callables import is_generator, name_of
from ._core.deadlines import Due
from ._core.expiry import checked_seconds, seconds_until, wall_clock_skew
from ._core.farewell import encoded_farewell
from ._core.logs import printable
from .blocking import BlockingSSEWriter
from .connection import Request
from .errors import H3Error, RequestError
from .headers import Headers, MultiMapping, check_header, check_media_type, is_hop_by_hop
from .lifecycle import Lifecycle, Reason, State
from .sse import SSEEvent
from .stats import Stats
from .writer import SSEWriter

StreamCallback = Callable[[SSEWriter], Any] | Callable[[BlockingSSEWriter], Any]

REDIRECTS = (301, 302, 303, 307, 308)

_NOTHING: Mapping[str, str] = {}


class EventHost(Protocol):
    """What an event asks of its exchange."""

    lifecycle: Lifecycle
    answer: Answer
    source: object
    keep_alive: float | None
    comment: Callable[[], bytes | None] | None
    farewell: bytes | None
    send_timeout: float | None

    @property
    def writer(self) -> SSEWriter | None: ...

    def will_stream(self) -> None: ...

    def get_writer(self) -> SSEWriter: ...

    @property
    def has_head(self) -> bool: ...

    def stream_started(self) -> None: ...

    def header_ignored(self, name: str) -> None: ...

    async def open_stream(self) -> SSEWriter: ...

    def open_stream_blocking(self) -> BlockingSSEWriter: ...

    async def stream_on_thread(self, function: Callable[..., Any], *args: Any) -> None: ...

    def fail(self, error: Exception) -> None: ...

    def set_expiry(self, seconds: float, skew: float | None, farewell: bytes | None) -> None: ...

    async def read_body(self) -> bytes: ...

    def stats(self) -> Stats: ...

    async def all_stats(self) -> list[Stats]: ...

    def when_waiting(self, call: Callable[[], None]) -> None: ...

    def call_after(self, due: Due, seconds: float) -> None: ...

    def call_never(self, due: Due, seconds: float) -> None: ...


class H3Event:
    """One request, given to its handler, which answers it plainly or with a stream.

    Attributes:
        method: the request's method, such as "GET".
        params: the values that the route's pattern matched: ":id" under "id", "/*" under "*".
    """

    __slots__ = (
        "_body",
        "_context",
        "_headers",
        "_host",
        "_query",
        "_request",
        "method",
        "params",
        "reading",
        "stream_callback",
    )

    def __init__(self, host: EventHost, request: Request) -> None:
        self._host = host
        self._request = request
        self.method = request.method
        self.params: Mapping[str, str] = _NOTHING
        self.stream_callback: StreamCallback | None = None
        self._context: dict[str, Any] | None = None
        self._query: MultiMapping | None = None
        self._headers: Headers | None = None
        self._body: bytes | RequestError | None = None
        self.reading: anyio.Event | None = None  # while somebody reads the body, and set when that is over

    # -- what the request says

    @property
    def context(self) -> dict[str, Any]:
        """A dict for this request, shared by hooks, handler and callback."""
        if self._context is None:
            self._context = {}
        return self._context

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return unquote(self._request.target.partition("?")[0])

    @property
    def target(self) -> str:
        """The request's target as it came: path and query, still encoded."""
        return self._request.target

    @property
    def query(self) -> MultiMapping:
        """The query's names and values, decoded; the last value of a name wins, `query.getlist(name)` has them all."""
        if self._query is None:
            self._query = MultiMapping(parse_qsl(self._request.target.partition("?")[2], keep_blank_values=True))
        return self._query

    @property
    def headers(self) -> Headers:
        """The request's headers; names match in any case, and the last value of a name wins."""
        if self._headers is None:
            self._headers = Headers((n.decode("latin-1"), v.decode("latin-1")) for n, v in self._request.headers)
        return self._headers

    @property
    def last_event_id(self) -> str:
        """The id of the last event that a reconnecting client received; "" for a new client.

        WHATWG HTML, section 9.2.4: the header's value is UTF-8.
        """
        values = [value for name, value in self._request.headers if name == b"last-event-id"]
        return values[-1].decode("utf-8", "replace") if values else ""

    @property
    def state(self) -> State:
        """The connection's state in its lifecycle."""
        return self._host.lifecycle.state

    @property
    def reason(self) -> Reason | None:
        """Why the connection is closed; None while it is not."""
        return self._host.lifecycle.reason

    def stats(self) -> Stats:
        """Return the figures of the server that answers this request, for a route that shows them."""
        return self._host.stats()

    async def all_stats(self) -> list[Stats]:
        """Return `stats` of each worker of `serve(workers=...)` replying within a second; else just this server's."""
        return await self._host.all_stats()

    async def read_body(self) -> bytes:
        """Return the request's body, the same on each call. In a plain def: `anyio.from_thread.run(event.read_body)`.

        Raises:
            RequestError: the body is too large (413), or broke off (400). Let the error out, and the client is told.
            H3Error: the stream is open; read the body before you start it.
        """
        while self._body is None and self.reading is not None:  # by another task; if that is cancelled, by this one
            await self.reading.wait()
        if isinstance(self._body, RequestError):
            raise self._body
        if self._body is None:
            reading = self.reading = anyio.Event()
            try:
                self._body = await self._host.read_body()
            except RequestError as error:
                self._body = error
                raise
            finally:
                self.reading = None
                reading.set()
        return self._body

    async def read_json(self) -> Any:
        """Return the request's body read as JSON.

        Raises:
            RequestError: as `read_body`; or the body is not JSON in UTF-8 (400).
        """
        body = await self.read_body()
        try:
            return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the body is not JSON: {error}") from error

    # -- a plain answer

    @property
    def answered(self) -> bool:
        """Whether there is a plain answer that has not been sent yet."""
        return self._host.answer.is_plain

    def set_status(self, status: int) -> None:
        """Set the response's status, from 200 to 599. A stream's is always 200.

        Raises:
            ValueError: it is not a final status, or the response is a stream and it is not 200.
        """
        if not _is_whole(status) or not 200 <= status <= 599:
            raise ValueError(f"a response's status is from 200 to 599, not {status!r}")
        answer = self._host.answer
        if self.state is not State.REQUESTED and status != answer.status:
            self._check_head("set_status")
            raise ValueError(f"the answer is decided: its status stays {answer.status}; call set_status before it")
        answer.status = int(status)

    def set_header(self, name: str, value: str, *, append: bool = False) -> None:
        """Set a header of the response, plain or stream; it replaces any header of that name.

        Headers about the connection belong to the server: Connection, Keep-Alive, Proxy-Connection, TE, Trailer,
        Transfer-Encoding and Upgrade are ignored, and the log says so once for each.

        Args:
            name: a token. Not Content-Length or Date, which belong to the server, too.
            value: Latin-1 text on one line. A stream's Content-Type is text/event-stream, with parameters if you like.
            append: keep headers of the same name, as Set-Cookie needs.

        Raises:
            TypeError, ValueError: the header can't be sent; the text says why.
            H3Error: the head of a stream is already on its way.
        """
        check_header(name, value)
        self._check_head("set_header")
        if is_hop_by_hop(name):
            self._host.header_ignored(name)
            return
        if name.lower() == "content-type" and self.state is State.SSE_STARTED:
            check_media_type(value)
        self._host.answer.set_header(name, value, append=append)

    def _check_head(self, call: str) -> None:
        if self._host.has_head:
            raise H3Error(f"{call}: the head is on its way already; set status and headers before the stream starts")

    def send_text(self, text: str) -> None:
        """Answer with plain text.

        Raises:
            ResponseAlreadySent: the request has been answered.
            SSEAlreadyStarted: the handler has started a stream.
        """
        self._answer("text/plain; charset=utf-8", text.encode())

    def send_html(self, html: str) -> None:
        """Answer with HTML. Raises as `send_text` does."""
        self._answer("text/html; charset=utf-8", html.encode())

    def send_json(self, value: Any) -> None:
        """Answer with a value as JSON. Raises as `send_text` does, and TypeError or ValueError if it can't be JSON."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._answer("application/json", text.encode())

    def send_bytes(self, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Answer with bytes of a given media type. Raises as `send_text` does."""
        check_header("Content-Type", content_type)
        self._answer(content_type, data if type(data) is bytes else bytes(memoryview(data)))

    def redirect(self, location: str, status: int = 302) -> None:
        """Answer with a redirect; characters that a URL can't hold are percent-encoded.

        Raises:
            ValueError: the status is not a redirect's, or the location holds CR, LF or NUL.
            ResponseAlreadySent, SSEAlreadyStarted: as `send_text`.
        """
        if not _is_whole(status) or status not in REDIRECTS:
            raise ValueError(f"a redirect's status is one of {REDIRECTS}, not {status!r}")
        check_header("Location", location.encode().decode("latin-1"))
        self._answer(None, b"", status, ("Location", quote(location, safe="!#$%&'()*+,/:;=?@[]~")))

    def send_error(self, status: int, message: str | None = None) -> None:
        """Answer with an error status, from 400 to 599.

        Args:
            status: the status.
            message: the body's text; left out, the status's own phrase.

        Raises:
            ValueError: it is not an error status.
            ResponseAlreadySent, SSEAlreadyStarted: as `send_text`. Send errors before `start_sse`.
        """
        if not _is_whole(status) or not 400 <= status <= 599:
            raise ValueError(f"an error's status is from 400 to 599, not {status!r}")
        self._answer("text/plain; charset=utf-8", (message if message is not None else phrase(status)).encode(), status)

    def _answer(
        self, content_type: str | None, body: bytes, status: int | None = None, header: tuple[str, str] | None = None
    ) -> None:
        self._host.lifecycle.take(trace.SEND_RESPONSE)
        answer = self._host.answer
        if status is not None:
            answer.status = status
        if header is not None:
            answer.set_header(*header)
        answer.set_body(content_type, body)

    # -- a stream

    def start_sse(self) -> None:
        """Turn this request's response into a stream. From now on it ends when the client leaves.

        Then either call `set_stream_callback` and return, or `await await_sse_writer()`.

        Raises:
            ValueError: the status was set to one other than 200, or Content-Type to one other than text/event-stream.
            SSEAlreadyStarted: this is a second call.
            ResponseAlreadySent: the request has been answered.
        """
        if self.state is State.REQUESTED:
            self._host.answer.check_stream()
        self._host.lifecycle.take(trace.START_SSE)
        self._host.stream_started()

    def set_stream_callback(self, callback: StreamCallback) -> None:
        """Register the callback that streams once the writer is ready; the last call wins.

        Args:
            callback: takes the writer. An `async def` gets an `SSEWriter`; a plain `def` runs on a worker thread and
                gets a `BlockingSSEWriter`. If the callback, or the object whose method it is, has an attribute
                `is_over` that is True before the headers leave, there is nothing to stream and never will be: the
                client gets a 204, and stays away. A closed `Channel` is such an object.

        Raises:
            TypeError: it can't be called, or is a generator, which would send nothing.
            ConnectionLost: the client has left, or the server is shutting down.
            H3Error: the stream is open, or there was an answer, so the callback would never be called.
        """
        if not callable(callback):
            raise TypeError(f"a stream callback is a callable that takes the writer, not {callback!r}")
        if is_generator(callback):
            raise TypeError(
                f"{name_of(callback)} is a generator, so calling it would send nothing: "
                "send with writer.send_event(), or register the generator with app.sse(pattern)"
            )
        if self.state is State.CLOSED and self._host.lifecycle.reason is not Reason.RESPONDED:
            self._host.lifecycle.trigger("get_writer")  # rejected: it is no mistake of the handler's
        if self.state not in (State.REQUESTED, State.SSE_STARTED):
            raise H3Error(f"the connection is {self.state}: a stream callback set now would never be called")
        self._host.lifecycle.take(trace.SET_STREAM_CALLBACK)
        self.stream_callback = callback

    def expires_at(self, when: datetime | float, *, farewell: SSEEvent | None = None) -> None:
        """End the stream properly at a wall-clock time, as when a permission expires: `expires_at(claims["exp"])`.

        The stream closes with the reason `timeout`, as at `Limits.stream_age`, and its client may come back. If the
        time has passed when the headers are about to leave, the client gets a 403 instead; once they have left, the
        stream ends at once. The last call counts, `expires_in` included, so you can renew a permission. For a plain
        answer, or once the stream has ended, it does nothing. Any thread may call it, and so may a hook.

        Args:
            when: seconds since the epoch, as a JWT's "exp" (RFC 7519, section 4.1.4), or an aware datetime. If the
                clock is set meanwhile, that is noticed within 4 seconds.
            farewell: the stream's last event, sent before its proper end.

        Raises:
            TypeError: `when` is neither a number nor a datetime, or the farewell is not an `SSEEvent`.
            ValueError: a datetime without a time zone, or a number that is not finite.
        """
        self._host.set_expiry(seconds_until(when), wall_clock_skew(), encoded_farewell(farewell))

    def expires_in(self, seconds: float, *, farewell: SSEEvent | None = None) -> None:
        """As `expires_at`, but in seconds from now, whatever happens to the wall clock."""
        self._host.set_expiry(checked_seconds(seconds), None, encoded_farewell(farewell))

    async def await_sse_writer(self) -> SSEWriter:
        """Wait until the headers are sent, and return the writer: use it with `async with`.

        A stream is opened once. If that fails, the exchange is closed, and the client gets the answer that the failure
        calls for, even if the handler swallows it; a further call raises the same failure. The same holds if a timeout
        around this call ends it half-way.

        Raises:
            SSENotStarted: `start_sse` was not called.
            ConnectionLost: the client has left, or the request was HEAD: there is nobody to write to.
            TooManyStreams: no more streams are allowed; let it out, and the client gets a 503.
            PermissionExpired: the time that `expires_at` set has passed; let it out, and the client gets a 403.
            H3Error: a stream callback is set, which would never be called; or the opening was cancelled half-way.
            WriteError: the adapter can't send the headers.
            Exception: whatever an on_response hook raised.
        """
        return await self._host.open_stream()

    def start_sse_blocking(self) -> BlockingSSEWriter:
        """Start a stream from a plain `def` handler, `start_sse` included; blocks its thread until the writer is ready.

        Raises:
            RuntimeError: called on the event loop's thread, which it would block.
            TooManyStreams: no more streams, or threads for them, are allowed; let it out, and the client gets a 503.
            ConnectionLost: the client has left, or the request was HEAD.
            ResponseAlreadySent, SSEAlreadyStarted, ValueError: as `start_sse`.
            PermissionExpired, WriteError, Exception: as `await_sse_writer`.
        """
        return self._host.open_stream_blocking()

    def get_sse_writer(self) -> SSEWriter:
        """Return the writer if the headers have been sent; they never are before the handler waits or returns.

        They may still be on their way: events that you send meanwhile follow them.

        Raises:
            ConnectionNotReady: the headers have not been sent; the text says what to do instead.
            SSENotStarted: `start_sse` was not called.
            ConnectionLost: the stream has ended.
        """
        return self._host.get_writer()

    def __repr__(self) -> str:
        # Logs show it: no query, which may hold a token, and nothing that could forge a line.
        path = self.target.partition("?")[0]
        return f"<H3Event {printable(self.method)} {printable(path)}, {self.state}>"


def _is_whole(status: object) -> bool:
    return type(status) is int or isinstance(status, HTTPStatus)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def host_of(event: H3Event) -> EventHost:
    """The exchange behind an event, for code that builds on it; not for handlers."""
    return event._host
