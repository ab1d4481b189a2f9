"""`AsyncTestClient`: an app, without a socket, in the event loop of the test; what `TestClient` is made of."""

# ruff: noqa: ASYNC109 (a timeout of ours says what came instead; `anyio.fail_after` can be used as well)

from __future__ import annotations

import json as json_module
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote, urlencode

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from ..adapters.asgi import ASGIApp
from ..app import H3App
from ..connection import End
from ..errors import H3Error
from ..event import H3Event
from ..exchange import Flow
from ..headers import Headers
from ..lifecycle import State
from ..limits import Limits
from ..sse import EventStreamParser, MessageEvent
from ..trace import Record
from .clock import awaits, settle

T = TypeVar("T")
Message = MutableMapping[str, Any]
ASGI = Callable[[Any, Any, Any], Awaitable[None]]
HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]

PATIENCE: Final = 60.0
"""Seconds, on the loop's clock, that a wait takes at most when it is told no other timeout."""

UNREAD: Final = 256 * 1024
"""Bytes of events that may lie unread before the app's next send has to wait."""


class StreamEnded(H3Error):
    """There is no next event: the stream has ended; the text says how, and what came before."""


class NotAStream(H3Error):
    """An event was asked for, but the answer is no event stream; the text has the answer."""


class TimedOut(H3Error, TimeoutError):
    """What was waited for did not happen in time; the text says what happened instead."""


class Stuck(TimedOut):
    """The app did not get on in real time; the text says where it is. Its loop may have to be left behind."""


class Arrival(NamedTuple):
    """Something that came by a stream.

    Attributes:
        at: when, in seconds since the client was entered.
        item: the event; or, of a comment such as a keep-alive, its text.
    """

    at: float
    item: MessageEvent | str


class Response(NamedTuple):
    """A whole response.

    Attributes:
        status: the HTTP status.
        headers: looked up in any case.
        body: the bytes, empty if there are none.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, in the charset that the content type names, or UTF-8."""
        return self.body.decode(_charset(self.headers), "replace")

    def json(self) -> Any:
        """Return the body read as JSON.

        Raises:
            ValueError: it is not JSON (`json.JSONDecodeError`).
        """
        return json_module.loads(self.body)


class _Left(OSError):
    """What a send gets once the client has left, as ASGI says since its version 2.4."""


_current: ContextVar[AsyncStream] = ContextVar("h3ref_testing_stream")


class AsyncStream:
    """One request with its response; `AsyncTestClient.stream` makes it. `Stream` has the same, blocking.

    Attributes:
        status: the HTTP status.
        headers: looked up in any case.
        end: how the body ended, `End.PROPER` or `End.CUT`; None while it goes on.
        is_closed: whether the app has finished with this request.
        arrivals: all events and comments that came, read or not, each with its time.
        records: of an `H3App`: the steps that it took, as a `trace` listener gets them.
    """

    def __init__(self, client: AsyncTestClient, scope: Message, body: bytes, *, keeps: bool) -> None:
        self.status = 0
        self.headers = Headers(())
        self.end: End | None = None
        self.is_closed = False
        self.arrivals: list[Arrival] = []
        self.records: list[Record] = []
        self._client = client
        self._scope = scope
        self._request: bytes | None = body
        self._keeps = keeps  # the bytes of an event stream too, which may be endless
        self._parser = EventStreamParser()
        self._line = b""
        self._events: deque[MessageEvent] = deque()
        self._unread = 0
        self._body = bytearray()
        self._is_gone = False
        self._failure: BaseException | None = None
        self._is_told = False  # the failure has been raised
        self._changed = anyio.Event()
        self._task = anyio.CancelScope()
        self._answering: Awaitable[None] | None = None

    # -- reading

    @property
    def state(self) -> State | None:
        """Where the connection of an `H3App` is in its life; None for other apps."""
        return State(self.records[-1].after) if self.records else None

    @property
    def comments(self) -> list[str]:
        """The comments that came, such as keep-alives, each as its text."""
        return [item for _, item in self.arrivals if isinstance(item, str)]

    @property
    def last_event_id(self) -> str:
        """The last event ID, as of the events that came: what a client that comes back would send."""
        return self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time that the app set, in milliseconds, or None."""
        return self._parser.retry

    async def next_event(self, timeout: float | None = None) -> MessageEvent:
        """Wait for the next event and return it.

        Args:
            timeout: seconds to wait at most, on the loop's clock; None for the client's.

        Raises:
            StreamEnded: there is none.
            TimedOut: none came in time.
            NotAStream: the answer is no event stream.
            Exception: the one that the app raised, if the client was not told to keep it.
        """
        self._check_is_stream()

        async def event() -> MessageEvent:
            while not self._events:
                if self.end is not None or self._is_gone:
                    self._raise_failure()
                    raise StreamEnded(f"{self._how_it_ended()}: {self.describe()}")
                await self._changed.wait()
            event = self._events.popleft()
            if not self._events:
                self._unread = 0
                self._change()
            return event

        return await self._in_time(event, timeout, "no event came")

    async def take(self, count: int, timeout: float | None = None) -> list[MessageEvent]:
        """Return the next so many events; the timeout holds for each. Raises as `next_event` does."""
        return [await self.next_event(timeout) for _ in range(count)]

    async def events(self, timeout: float | None = None) -> AsyncIterator[MessageEvent]:
        """Yield the events until the stream has ended; the timeout holds for each. Raises as `next_event` does."""
        with suppress(StreamEnded):
            while True:
                yield await self.next_event(timeout)

    async def read(self, timeout: float | None = None) -> bytes:
        """Wait for the end of a body that is no event stream, and return all of it.

        Raises:
            TimedOut: it did not end in time.
            Exception: the one that the app raised, if the client was not told to keep it.
        """

        async def body() -> bytes:
            while self.end is None and not self._is_gone:
                self._events.clear()
                self._unread = 0
                self._change()
                await self._changed.wait()
            if self.end is End.CUT:
                self._raise_failure()
            return bytes(self._body)

        return await self._in_time(body, timeout, "the body did not end (an endless one is for client.stream())")

    # -- leaving

    def disconnect(self) -> None:
        """Leave, as a client that closes its socket; what has come can still be read."""
        if not self._is_gone:
            self._is_gone = True
            self._change()

    async def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the app has finished with this request, its cleanup included.

        Raises:
            TimedOut: it has not in time.
            Exception: the one that the app raised, if the client was not told to keep it.
        """
        await self._in_time(self._closed, timeout, "the app has not finished")
        self._raise_failure()

    async def leave(self) -> None:
        """Disconnect, and give the app the client's timeout to finish; then it is cancelled."""
        self.disconnect()
        try:
            with anyio.move_on_after(self._client.timeout):
                await self._closed()
        finally:
            await self.cancel()

    async def cancel(self) -> None:
        """Disconnect, and cancel the app's task."""
        self.disconnect()
        self._task.cancel()
        with anyio.move_on_after(self._client.timeout, shield=True):
            await self._closed()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.leave()
        if error is None:
            self._raise_failure()

    # -- telling

    def describe(self, now: float | None = None) -> str:
        """What is known of this exchange, in one line, for errors."""
        if now is None:
            now = self._client.now()
        parts = [f"{self._scope['method']} {self._scope['path']}"]
        parts.append(f"status {self.status}" if self.status else "no answer yet")
        events = [(at, item) for at, item in self.arrivals if not isinstance(item, str)]
        if events:
            at, last = events[-1]
            parts.append(f"{_count(len(events), 'event')}, the last {last.type} {last.data[:60]!r} at {at:g} s")
        elif self._is_stream():
            parts.append("no event")
        if comments := len(self.arrivals) - len(events):
            parts.append(_count(comments, "comment"))
        if self.state is not None:
            reason = self.records[-1].reason
            parts.append(f"state {self.state}" + (f" ({reason})" if reason else ""))
        if self._failure is not None:
            parts.append(f"the app raised {self._failure!r}")
        place = awaits(self._answering)
        running = f"the app is still running, in {place}" if place else "the app is still running"
        parts.append("the app has finished" if self.is_closed else running)
        return ", ".join(parts) + f", at {now:g} s"

    def _how_it_ended(self) -> str:
        if self.end is End.PROPER:
            return "the stream has ended"
        return "the client has left" if self._is_gone else "the stream was cut, without its proper end"

    def _check_is_stream(self) -> None:
        if not self._is_stream():
            kind = self.headers.get("content-type", "no content type")
            start = bytes(self._body[:200]).decode("utf-8", "replace")
            raise NotAStream(f"not an event stream but {kind}: {self.describe()}; it begins {start!r}")

    def _is_stream(self) -> bool:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"

    def _raise_failure(self) -> None:
        """Raise what the app raised, once."""
        if self._failure is None or self._is_told or not self._client.raise_app_exceptions:
            return
        if self.status and self.status < 500 and not self._is_stream():
            return  # a hook has made an answer of it
        self._is_told = True
        raise self._failure

    # -- waiting

    async def _headed(self) -> None:
        while not self.status and not self.is_closed:
            await self._changed.wait()
        if self.status >= 500 or self.is_closed:
            # Who answers with an error raises it next, if at all; a body that waits to be read must not hold it back.
            while not self.is_closed and not self._is_stream() and self.end is None:
                await self._changed.wait()
            self._raise_failure()

    async def _closed(self) -> None:
        while not self.is_closed:
            await self._changed.wait()

    async def _in_time(self, happens: Callable[[], Awaitable[T]], timeout: float | None, otherwise: str) -> T:
        seconds = self._client.timeout if timeout is None else timeout
        with anyio.move_on_after(seconds):
            return await happens()
        with anyio.move_on_after(1):  # an app that never rests, never settles
            await settle()  # what was due at that very moment is in time
        with anyio.move_on_after(0):
            return await happens()
        raise TimedOut(f"{otherwise} within {seconds:g} s: {self.describe()}")

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    # -- the app's side

    async def _run(self, app: ASGI) -> None:
        _current.set(self)
        try:
            with self._task:
                self._answering = app(self._scope, self._receive, self._send)
                await self._answering
                if not self.status and not self._is_gone and self._failure is None:
                    self._failure = RuntimeError("the app returned without an answer")
        except Exception as error:
            if not _is_leaving(error):
                self._failure = error
        finally:
            if not self.status and self._failure is not None:
                self.status = 500  # what a server would answer
            if self.end is None:
                self.end = End.CUT
            self.is_closed = True
            self._answering = None
            self._change()

    async def _receive(self) -> Message:
        if self._request is not None:
            body, self._request = self._request, None
            return {"type": "http.request", "body": body, "more_body": False}
        while not self._is_gone and self.end is None:
            await self._changed.wait()
        await anyio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"] == "http.response.start" and not self.status:
            if not self._is_gone:
                pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
                self.status, self.headers = message["status"], Headers(pairs)
                self._change()
            return
        if message["type"] != "http.response.body" or not self.status or self.end is not None:
            if not self._is_gone:
                raise RuntimeError(f"the app sent {message['type']!r} out of turn: {self.describe()}")
            raise _Left("the client has left")
        while self._unread >= self._client.unread and not self._is_gone:
            await self._changed.wait()  # a client that does not read is a slow one
        if self._is_gone:
            raise _Left("the client has left")
        self._take(message.get("body", b""))
        if not message.get("more_body", False):
            self.end = End.PROPER
        self._change()

    def _take(self, data: bytes) -> None:
        if self._keeps or not self._is_stream():
            self._body += data
        if not self._is_stream():
            self._unread += len(data)
            return
        lines = _LINE.findall(self._line + data)
        self._line = (self._line + data)[sum(map(len, lines)) :]
        for line in lines:
            if line.startswith(b":"):
                self.arrivals.append(Arrival(self._client.now(), _text(line)))
            for event in self._parser.feed(line):
                self.arrivals.append(Arrival(self._client.now(), event))
                self._events.append(event)
                self._unread += len(event.data) + len(event.type)


_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)")


def _text(comment: bytes) -> str:
    return comment[1:].decode("utf-8", "replace").removeprefix(" ").rstrip("\r\n")


def _is_leaving(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_leaving, error.exceptions))
    return isinstance(error, _Left)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _charset(headers: Headers) -> str:
    found = re.search(r'charset="?([\w.:-]+)', headers.get("content-type", ""))
    return found[1] if found else "utf-8"


class AsyncTestClient:
    """Drives an app in the event loop of the test, without a socket.

        async with AsyncTestClient(app) as client:
            async with await client.stream("GET", "/events") as stream:
                event = await stream.next_event()

    Time is that of the loop: virtual if the loop's is, as with `virtual_backends()`. `TestClient` brings a
    loop with virtual time of its own, and says what the arguments mean.
    """

    __test__ = False  # no test of pytest's

    def __init__(
        self,
        app: H3App | ASGI,
        *,
        headers: HeaderFields | None = None,
        timeout: float = PATIENCE,
        raise_app_exceptions: bool = True,
        lifespan: bool = True,
        unread: int = UNREAD,
        flow: Flow | None = None,
        limits: Limits | None = None,
    ) -> None:
        if not isinstance(app, H3App) and (flow is not None or limits is not None):
            raise TypeError("flow and limits are for an H3App; any other app has its own")
        self.timeout = timeout
        self.raise_app_exceptions = raise_app_exceptions
        self.unread = unread
        self.streams: list[AsyncStream] = []
        self._given = app
        self._app: ASGI = ASGIApp(app, flow=flow, limits=limits, trace=_listen) if isinstance(app, H3App) else app
        self._headers = _pairs(headers)
        self._wants_lifespan = lifespan
        self._lifespan: _Lifespan | None = None
        self._tasks: TaskGroup
        self._began = 0.0

    def now(self) -> float:
        """The seconds since the client was entered, on the loop's clock."""
        return round(anyio.current_time() - self._began, 9)

    async def advance(self, seconds: float) -> None:
        """Let time pass, and what is due in it happen."""
        await anyio.sleep(seconds)
        await settle()

    async def stream(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderFields | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncStream:
        """Send a request and return its stream as soon as the head is there; see `TestClient.stream`."""
        return await self._open(self._request(method, target, headers, params, json, body), timeout, keeps=False)

    async def _open(self, request: tuple[Message, bytes], timeout: float | None, *, keeps: bool) -> AsyncStream:
        stream = AsyncStream(self, *request, keeps=keeps)
        self.streams.append(stream)
        self._tasks.start_soon(stream._run, self._app)
        try:
            await stream._in_time(stream._headed, timeout, "no answer came")
        except BaseException:
            await stream.cancel()
            raise
        return stream

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderFields | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return the whole response; see `TestClient.request`."""
        stream = await self._open(self._request(method, target, headers, params, json, body), timeout, keeps=True)
        async with stream:
            content = await stream.read(timeout)
        return Response(stream.status, stream.headers, content)

    async def __aenter__(self) -> AsyncTestClient:
        self._began = anyio.current_time()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        if isinstance(self._given, H3App):
            self._given.error_hooks.append(_keep_failure)
        try:
            if self._wants_lifespan:
                self._lifespan = _Lifespan(self._app)
                self._tasks.start_soon(self._lifespan.run)
                await self._lifespan.pass_on("startup", self.timeout)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            async with anyio.create_task_group() as leaving:
                for stream in self.streams:
                    leaving.start_soon(stream.leave)
            if self._lifespan is not None:
                await self._lifespan.pass_on("shutdown", self.timeout)
        finally:
            await self._end()
        if error is None:
            for stream in self.streams:
                stream._raise_failure()

    async def _end(self) -> None:
        if isinstance(self._given, H3App):
            self._given.error_hooks.remove(_keep_failure)
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    def _request(
        self,
        method: str,
        target: str,
        headers: HeaderFields | None,
        params: Mapping[str, str] | None,
        json: Any,
        body: bytes,
    ) -> tuple[Message, bytes]:
        if not target.startswith("/"):
            raise ValueError(f"a target is a path such as '/events', not {target!r}")
        path, _, query = target.partition("?")
        if params:
            query = "&".join(filter(None, (query, urlencode(params))))
        fields = {"host": "testserver", "accept": "*/*", "user-agent": "h3ref-testing"}
        if json is not None:
            body = json_module.dumps(json).encode()
            fields["content-type"] = "application/json"
        if body:
            fields["content-length"] = str(len(body))
        given = [*self._headers, *_pairs(headers)]
        named = {name for name, _ in given}
        sent = [*((name, value) for name, value in fields.items() if name not in named), *given]
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},  # uvicorn's, which decides how Starlette listens
            "http_version": "1.1",
            "method": method.upper(),
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent],
            "client": ("testclient", 50000),
            "server": ("testserver", 80),
            "extensions": {},
        }
        if self._lifespan is not None:
            scope["state"] = dict(self._lifespan.state)
        return scope, body


def _pairs(headers: HeaderFields | None) -> list[tuple[str, str]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(name.lower(), value) for name, value in pairs]


def _listen(record: Record) -> None:
    if stream := _current.get(None):
        stream.records.append(record)


async def _keep_failure(event: H3Event, error: Exception) -> None:
    """An H3App's hook: what a handler or callback raised; what is but an answer to the client is not kept."""
    stream = _current.get(None)
    if stream is not None and not (isinstance(error, H3Error) and error.status not in (500, 502)):
        stream._failure = stream._failure or error


class _Lifespan:
    """The app's own lifespan, which runs in one task from the first message to the last."""

    def __init__(self, app: ASGI) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._asked: deque[str] = deque()
        self._answers: dict[str, str] = {}
        self._is_over = False
        self._failure: Exception | None = None
        self._changed = anyio.Event()

    async def run(self) -> None:
        try:
            await self._app(
                {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state},
                self._receive,
                self._send,
            )
        except Exception as error:
            self._failure = error  # with no answer before it: an app that knows no lifespan
        finally:
            self._is_over = True
            self._change()

    async def pass_on(self, what: str, timeout: float) -> None:
        """Tell the app of startup or shutdown, and wait until it is done."""
        if self._has_answered(what):
            return
        self._asked.append(f"lifespan.{what}")
        self._change()
        with anyio.move_on_after(timeout) as scope:
            while not self._has_answered(what):
                await self._changed.wait()
        if (message := self._answers.get(f"lifespan.{what}.failed")) is not None:
            raise self._failure or RuntimeError(f"the app's {what} failed: {message}")
        if self._answers and self._failure is not None:
            raise self._failure
        if scope.cancelled_caught:
            raise TimedOut(f"the app's lifespan has not finished its {what} within {timeout:g} s")

    def _has_answered(self, what: str) -> bool:
        return self._is_over or f"lifespan.{what}.complete" in self._answers

    async def _receive(self) -> Message:
        while not self._asked:
            await self._changed.wait()
        return {"type": self._asked.popleft()}

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if not message["type"].startswith("lifespan."):
            raise RuntimeError(f"a lifespan takes no {message['type']!r}")
        self._answers[message["type"]] = message.get("message", "")
        self._change()

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
