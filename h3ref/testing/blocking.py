"""`TestClient`: drives an app, in an event loop of its own, from plain functions and notebooks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Literal

import anyio

from .._core import threads
from .._core.exchange import Flow
from ..app import H3App
from ..connection import End
from ..headers import Headers
from ..lifecycle import State
from ..limits import Limits
from ..sse import MessageEvent
from ..trace import Record
from .asynchronous import PATIENCE, UNREAD, AsyncTestClient, HeaderFields
from .inline import InlineRunner
from .outside import PAUSE
from .results import Arrival, Response, StreamEnded, Stuck
from .runner import Runner
from .stream import ASGI, AsyncStream


class Clock:
    """The client's clock. Virtual time passes only while a call waits for something, never between calls."""

    def __init__(self, runner: Runner | InlineRunner) -> None:
        self._runner = runner

    def now(self) -> float:
        """The seconds since the client was entered."""
        return self._runner.now()


class Stream:
    """One request with its response, made by `TestClient.stream`. Leaving it disconnects."""

    def __init__(self, runner: Runner | InlineRunner, stream: AsyncStream) -> None:
        self._runner = runner
        self._stream = stream

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._stream.status

    @property
    def headers(self) -> Headers:
        """The response's headers; names match in any case."""
        return self._stream.headers

    @property
    def end(self) -> End | None:
        """How the body ended, `End.PROPER` or `End.CUT`; None while it goes on."""
        return self._stream.end

    @property
    def is_closed(self) -> bool:
        """Whether the app has finished with this request."""
        return self._stream.is_closed

    @property
    def arrivals(self) -> list[Arrival]:
        """All events and comments that came, read or not, each with its time."""
        return self._stream.arrivals

    @property
    def comments(self) -> list[str]:
        """The texts of the comments that came, such as keep-alives."""
        return self._stream.comments

    @property
    def last_event_id(self) -> str:
        """The last event ID as of the events that came, which a client that comes back would send."""
        return self._stream.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time that the app set, in milliseconds, or None."""
        return self._stream.retry

    @property
    def state(self) -> State | None:
        """The state of the connection of an `H3App`; None for other apps."""
        return self._stream.state

    @property
    def records(self) -> list[Record]:
        """The steps that an `H3App` took, as a `trace` listener gets them; none for other apps."""
        return self._stream.records

    def next_event(self, timeout: float | None = None) -> MessageEvent:
        """Wait for the next event and return it.

        Args:
            timeout: the most seconds to wait, virtual if the client's time is; None for the client's timeout.

        Raises:
            StreamEnded: there is none.
            TimedOut: none came in time; `Stuck` if the app made no progress in real time.
            NotAStream: the answer is not an event stream.
            Exception: whatever the app raised, unless `raise_app_exceptions` is False.
        """
        return self._runner.call(lambda: self._stream.next_event(timeout), timeout, self._stream)

    def take(self, count: int, timeout: float | None = None) -> list[MessageEvent]:
        """Return the next `count` events; the timeout applies to each. Raises as `next_event` does."""
        return [self.next_event(timeout) for _ in range(count)]

    def events(self, timeout: float | None = None) -> Iterator[MessageEvent]:
        """Yield events until the stream has ended; the timeout applies to each. Raises as `next_event` does."""
        with suppress(StreamEnded):
            while True:
                yield self.next_event(timeout)

    def read(self, timeout: float | None = None) -> bytes:
        """Wait for the end of a body that is not an event stream, and return it all. Raises as `wait_closed` does."""
        return self._runner.call(lambda: self._stream.read(timeout), timeout, self._stream)

    def disconnect(self) -> None:
        """Leave, like a client that closes its socket; you can still read what has come."""

        async def disconnect() -> None:
            self._stream.disconnect()

        self._runner.call(disconnect, 0, self._stream)

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the app has finished with this request, its cleanup included.

        Raises:
            TimedOut: it has not finished in time; `Stuck` if it made no progress in real time.
            Exception: whatever the app raised, unless `raise_app_exceptions` is False.
        """
        self._runner.call(lambda: self._stream.wait_closed(timeout), timeout, self._stream)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        async def leave() -> None:
            await self._stream.__aexit__(kind, error, where)

        if self._runner.is_open and not isinstance(error, Stuck):
            self._runner.call(leave, None, self._stream)

    def __repr__(self) -> str:
        return f"<Stream {self._stream.describe(self._runner.now())}>"


class TestClient:
    """Drives an app without a socket, from plain test functions and notebooks.

        with TestClient(app) as client:
            with client.stream("GET", "/events") as stream:
                assert stream.next_event().data == "0"

    The app runs in an event loop of its own, on a thread, so it does not matter whether the caller has a loop. Its
    clock is virtual: it stands still between calls, and jumps while a call waits. On leaving, streams are disconnected,
    the app's lifespan ends, and no task, thread or loop is left behind.

    Args:
        app: an `H3App`, or any other ASGI 3 app.
        backend: the event loop, "asyncio" or "trio"; trio has to be installed.
        virtual: whether time is virtual; an app that talks to other machines needs real time.
        outside: real seconds of silence after which virtual time jumps even if something outside the event loop may
            wake it: a thread of the app's own, a socket, a process. 0 for none.
        headers: sent with every request.
        timeout: the most seconds that a wait takes, virtual if time is; None for 60, or in real time for
            `real_timeout`.
        real_timeout: real seconds without progress after which an app is given up; ten times as many if virtual time
            passes meanwhile.
        raise_app_exceptions: whether what the app raises is raised in the test: by the call that waits, or at the
            latest on leaving. An `H3App` answers a failure before the headers with a 500 in any case.
        lifespan: whether the app's lifespan runs.
        unread: bytes of events that may lie unread before the app's next send has to wait.
        flow: for an `H3App`: None for the default, or `flows.broken`.
        limits: for an `H3App`: how much it takes on.

    Raises:
        ValueError: a timeout that is not a positive number, or an unknown backend.
        TypeError: `flow` or `limits` for an app other than an `H3App`.
        ImportError: trio is asked for, and not installed.
    """

    __test__ = False  # no test of pytest's

    def __init__(
        self,
        app: H3App | ASGI,
        *,
        backend: Literal["asyncio", "trio"] = "asyncio",
        virtual: bool = True,
        outside: float = PAUSE,
        headers: HeaderFields | None = None,
        timeout: float | None = None,
        real_timeout: float = 10.0,
        raise_app_exceptions: bool = True,
        lifespan: bool = True,
        unread: int = UNREAD,
        flow: Flow | None = None,
        limits: Limits | None = None,
    ) -> None:
        if backend not in ("asyncio", "trio"):
            raise ValueError(f'backend is "asyncio" or "trio", not {backend!r}')
        if not threads.HAS_THREADS and not (backend == "asyncio" and virtual):
            raise ValueError('without threads, as in a browser, use virtual time and the backend "asyncio"')
        if backend == "trio" and find_spec("trio") is None:
            raise ImportError('backend="trio" needs trio: pip install trio', name="trio")
        if timeout is None:
            timeout = PATIENCE if virtual else real_timeout
        for name, seconds in (("timeout", timeout), ("real_timeout", real_timeout)):
            if not 0 < seconds < math.inf:
                raise ValueError(f"{name} is more than 0 seconds, not {seconds!r}")
        if not 0 <= outside < math.inf:
            raise ValueError(f"outside must be seconds, 0 or more, not {outside!r}")
        self._client = AsyncTestClient(
            app,
            headers=headers,
            timeout=timeout,
            raise_app_exceptions=raise_app_exceptions,
            lifespan=lifespan,
            unread=unread,
            flow=flow,
            limits=limits,
        )
        self._runner: Runner | InlineRunner = (
            Runner(self._client, backend=backend, virtual=virtual, outside=outside, real_timeout=real_timeout)
            if threads.HAS_THREADS
            else InlineRunner(self._client)
        )
        self.clock = Clock(self._runner)

    def advance(self, seconds: float) -> None:
        """Let time pass; whatever falls due in it happens.

        Raises:
            ValueError: a negative number of seconds.
            Stuck: the app made no progress in real time.
        """
        if not seconds >= 0:
            raise ValueError(f"time only goes forward: seconds is 0 or more, not {seconds!r}")
        self._runner.call(lambda: anyio.sleep(seconds), seconds)

    def stream(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderFields | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> Stream:
        """Send a request and return its stream as soon as the head is there.

        Args:
            method: such as "GET".
            target: the path, with or without a query.
            headers: names and values.
            params: added to the query.
            json: a value to send as JSON.
            body: bytes to send instead.
            timeout: the most seconds to wait for the head; None for the client's timeout.

        Raises:
            TimedOut: no head came in time; `Stuck` if the app made no progress in real time.
            Exception: whatever the app raised, unless `raise_app_exceptions` is False.
        """

        async def stream() -> AsyncStream:
            return await self._client.stream(
                method, target, headers=headers, params=params, json=json, body=body, timeout=timeout
            )

        return Stream(self._runner, self._runner.call(stream, timeout))

    def request(
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
        """Send a request and return the whole response; arguments and exceptions are those of `stream`."""

        async def request() -> Response:
            return await self._client.request(
                method, target, headers=headers, params=params, json=json, body=body, timeout=timeout
            )

        return self._runner.call(request, timeout)

    def __enter__(self) -> TestClient:
        self._runner.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        failure = self._runner.end()
        if error is None and failure is not None:
            raise failure
