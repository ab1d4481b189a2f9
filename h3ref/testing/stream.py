"""`AsyncStream`: one request with its response, and the app's side of it."""

# ruff: noqa: ASYNC109 (a timeout of ours says what came instead; `anyio.fail_after` can be used as well)

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol, TypeVar

import anyio
import anyio.lowlevel

from .._core.failure import parts_of
from ..connection import End
from ..errors import H3Error
from ..event import H3Event
from ..headers import Headers, is_event_stream
from ..lifecycle import State
from ..sse import EventStreamParser, MessageEvent
from ..trace import Record
from .clock import awaits, settle, what_time_passed_over
from .results import Arrival, NotAStream, StreamEnded, TimedOut

T = TypeVar("T")
Message = MutableMapping[str, Any]
ASGI = Callable[[Any, Any, Any], Awaitable[None]]


class _Left(OSError):
    """Raised by a send once the client has left, as in ASGI since its version 2.4."""


class _Client(Protocol):
    """What a stream asks of the `AsyncTestClient` that made it."""

    timeout: float
    raise_app_exceptions: bool
    unread: int

    def now(self) -> float: ...


_current: ContextVar[AsyncStream] = ContextVar("h3ref_testing_stream")


class AsyncStream:
    """One request with its response, made by `AsyncTestClient.stream`. `Stream` is the same, but blocking.

    Attributes:
        status: the HTTP status.
        headers: the headers; names match in any case.
        end: how the body ended, `End.PROPER` or `End.CUT`; None while it goes on.
        is_closed: whether the app has finished with this request.
        arrivals: all events and comments that came, read or not, each with its time.
        records: for an `H3App`: the steps that it took, as a `trace` listener gets them.
    """

    def __init__(self, client: _Client, scope: Message, body: bytes, *, keeps: bool) -> None:
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
        """The state of the connection of an `H3App`; None for other apps."""
        return State(self.records[-1].after) if self.records else None

    @property
    def comments(self) -> list[str]:
        """The texts of the comments that came, such as keep-alives."""
        return [item for _, item in self.arrivals if isinstance(item, str)]

    @property
    def last_event_id(self) -> str:
        """The last event ID as of the events that came, which a client that comes back would send."""
        return self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time that the app set, in milliseconds, or None."""
        return self._parser.retry

    async def next_event(self, timeout: float | None = None) -> MessageEvent:
        """Wait for the next event and return it.

        Args:
            timeout: the most seconds to wait, on the loop's clock; None for the client's timeout.

        Raises:
            StreamEnded: there is none.
            TimedOut: none came in time.
            NotAStream: the answer is not an event stream.
            Exception: whatever the app raised, unless `raise_app_exceptions` is False.
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
        """Return the next `count` events; the timeout applies to each. Raises as `next_event` does."""
        return [await self.next_event(timeout) for _ in range(count)]

    async def events(self, timeout: float | None = None) -> AsyncIterator[MessageEvent]:
        """Yield events until the stream has ended; the timeout applies to each. Raises as `next_event` does."""
        with suppress(StreamEnded):
            while True:
                yield await self.next_event(timeout)

    async def read(self, timeout: float | None = None) -> bytes:
        """Wait for the end of a body that is not an event stream, and return it all.

        Raises:
            TimedOut: it did not end in time.
            Exception: whatever the app raised, unless `raise_app_exceptions` is False.
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
        """Leave, like a client that closes its socket; you can still read what has come."""
        if not self._is_gone:
            self._is_gone = True
            self._change()

    async def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the app has finished with this request, its cleanup included.

        Raises:
            TimedOut: it has not finished in time.
            Exception: whatever the app raised, unless `raise_app_exceptions` is False.
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
        return is_event_stream(self.headers.get("content-type", ""))

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
            # Whoever answers with an error raises it next, if at all; a body that waits to be read must not hold it
            # back.
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
        raise TimedOut(f"{otherwise} within {seconds:g} s: {self.describe()}{what_time_passed_over()}")

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
            if not all(isinstance(part, _Left) for part in parts_of(error)):
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
        try:
            if message["type"] == "http.response.start" and not self.status:
                self._take_head(message)
            else:
                await self._take_part(message)
        finally:
            # Behind it: a server has what it is given, also of an app that is cancelled in this moment.
            await anyio.lowlevel.checkpoint()

    def _take_head(self, message: Message) -> None:
        if not self._is_gone:
            pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
            self.status, self.headers = message["status"], Headers(pairs)
            self._change()

    async def _take_part(self, message: Message) -> None:
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


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def listen(record: Record) -> None:
    if stream := _current.get(None):
        stream.records.append(record)


async def keep_failure(event: H3Event, error: Exception) -> None:
    """An H3App's hook: keeps what a handler or callback raised, unless it is merely an answer to the client."""
    stream = _current.get(None)
    if stream is not None and not (isinstance(error, H3Error) and error.status not in (500, 502)):
        stream._failure = stream._failure or error
