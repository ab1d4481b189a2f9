"""`TestClient`: an app in an event loop of its own, driven from plain functions and notebooks."""

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
    """One request with its response; `TestClient.stream` makes it. On leaving it disconnects."""

    def __init__(self, runner: Runner | InlineRunner, stream: AsyncStream) -> None:
        self._runner = runner
        self._stream = stream

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._stream.status

    @property
    def headers(self) -> Headers:
        """The response's headers, looked up in any case."""
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
        """The comments that came, such as keep-alives, each as its text."""
        return self._stream.comments

    @property
    def last_event_id(self) -> str:
        """The last event ID, as of the events that came, which a client that comes back would send."""
        return self._stream.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time that the app set, in milliseconds, or None."""
        return self._stream.retry

    @property
    def state(self) -> State | None:
        """Where the connection of an `H3App` is in its life; None for other apps."""
        return self._stream.state

    @property
    def records(self) -> list[Record]:
        """The steps that an `H3App` took, as a `trace` listener gets them; none of other apps."""
        return self._stream.records

    def next_event(self, timeout: float | None = None) -> MessageEvent:
        """Wait for the next event and return it.

        Args:
            timeout: seconds to wait at most, virtual if the client's time is; None for the client's.

        Raises:
            StreamEnded: there is none.
            TimedOut: none came in time; `Stuck` if the app did not get on in real time.
            NotAStream: the answer is no event stream.
            Exception: the one that the app raised, if the client was not told to keep it.
        """
        return self._runner.call(lambda: self._stream.next_event(timeout), timeout, self._stream)

    def take(self, count: int, timeout: float | None = None) -> list[MessageEvent]:
        """Return the next `count` events; the timeout holds for each. Raises as `next_event` does."""
        return [self.next_event(timeout) for _ in range(count)]

    def events(self, timeout: float | None = None) -> Iterator[MessageEvent]:
        """Yield the events until the stream has ended; the timeout holds for each. Raises as `next_event` does."""
        with suppress(StreamEnded):
            while True:
                yield self.next_event(timeout)

    def read(self, timeout: float | None = None) -> bytes:
        """Wait for the end of a body that is no event stream, and return all of it. Raises as `wait_closed` does."""
        return self._runner.call(lambda: self._stream.read(timeout), timeout, self._stream)

    def disconnect(self) -> None:
        """Leave, as a client that closes its socket; what has come can still be read."""

        async def disconnect() -> None:
            self._stream.disconnect()

        self._runner.call(disconnect, 0, self._stream)

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the app has finished with this request, its cleanup included.

        Raises:
            TimedOut: it has not in time; `Stuck` if it did not get on in real time.
            Exception: the one that the app raised, if the client was not told to keep it.
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

    The app runs in an event loop of its own, on a thread, so that it does not matter whether the caller has
    a loop. Its clock is virtual: it stands between calls, and jumps while a call waits. On leaving, streams
    are disconnected, the app's lifespan ends, and neither task, thread nor loop is left.

    Args:
        app: an `H3App`, or any other ASGI 3 application.
        backend: the event loop; trio has to be installed.
        virtual: whether time is virtual; an app that talks to other machines needs real time.
        outside: real seconds of silence after which virtual time jumps while something outside of the event loop may
            wake it: a thread of the app's own, a socket, a process. 0 for none.
        headers: sent with every request.
        timeout: seconds that a wait takes at most, virtual if time is; None for 60, or in real time for
            `real_timeout`.
        real_timeout: real seconds after which an app that does not get on is given up; ten times as many if
            virtual time passes meanwhile.
        raise_app_exceptions: whether what the app raises is raised in the test: by the call that waits, or
            at the latest on leaving. An `H3App` answers a failure before the headers with a 500 all the same.
        lifespan: whether the app's lifespan runs.
        unread: bytes of events that may lie unread before the app's next send has to wait.
        flow: of an `H3App`: None for the default, or `flows.broken`.
        limits: of an `H3App`: how much is taken on.

    Raises:
        ValueError: a timeout that is no time, or an unknown backend.
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
            raise ValueError('without threads, as in a browser, time is virtual, and the backend is "asyncio"')
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
        """Let time pass, and what is due in it happen.

        Raises:
            ValueError: less than 0 seconds.
            Stuck: the app did not get on in real time.
        """
        if not seconds >= 0:
            raise ValueError(f"time goes forward only, not {seconds!r} seconds")
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
            params: what is added to the query.
            json: what is sent as JSON.
            body: or the bytes that are sent.
            timeout: seconds to wait for the head at most; None for the client's.

        Raises:
            TimedOut: no head came in time; `Stuck` if the app did not get on in real time.
            Exception: the one that the app raised, if the client was not told to keep it.
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
