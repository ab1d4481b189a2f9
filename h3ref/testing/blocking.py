"""`TestClient`: an app in an event loop of its own, driven from plain functions and notebooks."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeVar

import anyio
import anyio.abc

from .._core.exchange import Flow
from ..app import H3App
from ..connection import End
from ..headers import Headers
from ..lifecycle import State
from ..limits import Limits
from ..sse import MessageEvent
from ..trace import Record
from .asynchronous import PATIENCE, UNREAD, AsyncTestClient, HeaderFields
from .clock import Pace, SettlingLoop, VirtualLoop, _virtual_clock, settle, where, workers
from .outside import OURS, PAUSE
from .results import Arrival, Response, StreamEnded, Stuck
from .stream import ASGI, AsyncStream

T = TypeVar("T")

SETTLES: Final = 1.0
"""Real seconds that the other tasks get, after each call, to come to rest; one that never rests is not waited for."""


LONGER: Final = 10
"""How many times `real_timeout` a call may take while virtual time passes."""

STUCK_ENDS: Final = 0.5
"""Real seconds that a thread gets to end once everything in it is cancelled; then it is left behind."""


class Clock:
    """The client's clock. Virtual time passes only while a call waits for something, never between calls."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def now(self) -> float:
        """The seconds since the client was entered."""
        return self._client._now()


class Stream:
    """One request with its response; `TestClient.stream` makes it. On leaving it disconnects."""

    def __init__(self, client: TestClient, stream: AsyncStream) -> None:
        self._client = client
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
        """The last event ID, as of the events that came: what a client that comes back would send."""
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
        """Of an `H3App`: the steps that it took, as a `trace` listener gets them."""
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
        return self._client._do(lambda: self._stream.next_event(timeout), timeout, self._stream)

    def take(self, count: int, timeout: float | None = None) -> list[MessageEvent]:
        """Return the next so many events; the timeout holds for each. Raises as `next_event` does."""
        return [self.next_event(timeout) for _ in range(count)]

    def events(self, timeout: float | None = None) -> Iterator[MessageEvent]:
        """Yield the events until the stream has ended; the timeout holds for each. Raises as `next_event` does."""
        with suppress(StreamEnded):
            while True:
                yield self.next_event(timeout)

    def read(self, timeout: float | None = None) -> bytes:
        """Wait for the end of a body that is no event stream, and return all of it. Raises as `wait_closed` does."""
        return self._client._do(lambda: self._stream.read(timeout), timeout, self._stream)

    def disconnect(self) -> None:
        """Leave, as a client that closes its socket; what has come can still be read."""

        async def disconnect() -> None:
            self._stream.disconnect()

        self._client._do(disconnect, 0, self._stream)

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the app has finished with this request, its cleanup included.

        Raises:
            TimedOut: it has not in time; `Stuck` if it did not get on in real time.
            Exception: the one that the app raised, if the client was not told to keep it.
        """
        self._client._do(lambda: self._stream.wait_closed(timeout), timeout, self._stream)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        async def leave() -> None:
            await self._stream.__aexit__(kind, error, where)

        if self._client._is_open and not isinstance(error, Stuck):
            self._client._do(leave, None, self._stream)

    def __repr__(self) -> str:
        return f"<Stream {self._stream.describe(self._client._now())}>"


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
        TypeError: `flow` or `limits` for another app than an `H3App`.
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
        if backend == "trio" and find_spec("trio") is None:
            raise ImportError('backend="trio" needs trio: pip install trio', name="trio")
        if timeout is None:
            timeout = PATIENCE if virtual else real_timeout
        for name, seconds in (("timeout", timeout), ("real_timeout", real_timeout)):
            if not 0 < seconds < math.inf:
                raise ValueError(f"{name} is more than 0 seconds, not {seconds!r}")
        if not 0 <= outside < math.inf:
            raise ValueError(f"outside is seconds from 0 on, not {outside!r}")
        self.clock = Clock(self)
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
        self._backend = backend
        self._virtual = virtual
        self._outside = outside
        self._real_timeout = real_timeout
        self._pace = Pace()
        self._pace.held = virtual
        self._is_open = False
        self._is_stuck = False
        self._read_clock: Callable[[], float] = lambda: 0.0
        self._loop: SettlingLoop | None = None  # asyncio's

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due in it happen.

        Raises:
            ValueError: less than 0 seconds.
            Stuck: the app did not get on in real time.
        """
        if not seconds >= 0:
            raise ValueError(f"time goes forward only, not {seconds!r} seconds")
        self._do(lambda: anyio.sleep(seconds), seconds)

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

        return Stream(self, self._do(stream, timeout))

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

        return self._do(request, timeout)

    def __enter__(self) -> TestClient:
        if self._is_open or self._is_stuck:
            raise RuntimeError("a TestClient is entered once at a time, and never again after Stuck")
        self._calls: deque[_Call[Any]] = deque()
        self._begun: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=OURS, daemon=True)
        self._thread.start()
        try:
            self._result(self._begun, self._real_timeout + self._real(None))
        except BaseException:
            self._finish()
            raise
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._is_open = False
        failure = self._finish()
        if error is None and failure is not None:
            raise failure

    # -- on the caller's thread

    def _do(self, function: Callable[[], Awaitable[T]], timeout: float | None, stream: AsyncStream | None = None) -> T:
        """Run a function in the app's loop, and let the app come to rest after it."""
        if not self._is_open:
            raise RuntimeError("the client is not open: use it inside `with TestClient(app) as client:`")
        call = _Call(function)
        self._calls.append(call)
        self._post(self._be_awake)
        try:
            return self._result(call.result, self._real_timeout + self._real(timeout), stream)
        except BaseException:
            if not call.result.done():
                self._post(call.cancel)
            raise
        finally:
            if call.result.done():
                call.is_settled.wait(SETTLES)

    def _real(self, timeout: float | None) -> float:
        """The real seconds that a wait of so many takes; a call may wait twice, for an answer and for its end."""
        return 0.0 if self._virtual else 2 * (self._client.timeout if timeout is None else timeout)

    def _result(self, future: Future[T], seconds: float, stream: AsyncStream | None = None) -> T:
        """Wait for a result; what gets on, since virtual time passes, gets `LONGER` times as many real seconds."""
        began = moved = time.monotonic()
        now = self._now()
        while True:
            try:
                return future.result(min(0.5, seconds))
            except TimeoutError:
                if future.done():
                    raise
            if not self._thread.is_alive() and not future.done():
                raise RuntimeError("the app's event loop has died")
            before, now = now, self._now()
            if self._virtual and now != before:
                moved = time.monotonic()
            if time.monotonic() - moved >= seconds or time.monotonic() - began >= seconds * LONGER:
                self._is_stuck = True
                raise Stuck(f"the app did not get on for {seconds:g} s of real time: {self._what_it_does(stream)}")

    def _what_it_does(self, stream: AsyncStream | None) -> str:
        found = where(self._thread)
        doing = [f"its event loop is in {found}" if found else "its event loop waits, or turns without rest"]
        doing += [f"a worker thread is in {place}" for thread in workers(self._loop) if (place := where(thread))]
        streams = [stream] if stream else [one for one in self._client.streams if not one.is_closed]
        return "; ".join([*doing, *(one.describe(self._now()) for one in streams)])

    def _post(self, function: Callable[[], Any]) -> None:
        """Call a function on the loop's thread, soon, and never wait for it."""
        with suppress(RuntimeError, AttributeError):  # the loop has ended, or not begun
            self._call_soon(function)

    def _now(self) -> float:
        return round(self._read_clock() - self._client._began, 9)

    def _finish(self) -> BaseException | None:
        """End the thread; return what went wrong on the way."""
        idle = [
            thread for thread in threading.enumerate() if self._loop and getattr(thread, "loop", None) is self._loop
        ]
        self._calls.append(_Call(None))
        self._post(self._be_awake)
        if self._is_stuck or not self._begun.done():
            self._post(lambda: self._everything.cancel())
        self._thread.join(STUCK_ENDS if self._is_stuck else self._real_timeout + self._real(None))
        if self._thread.is_alive() and not self._is_stuck:
            self._post(lambda: self._everything.cancel())
            self._thread.join(STUCK_ENDS)
        if self._thread.is_alive():
            return None if self._is_stuck else self._give_up()
        for worker in idle:
            worker.join(STUCK_ENDS)  # they have been told to end
        return self._ended.exception()

    def _give_up(self) -> Stuck:
        self._is_stuck = True
        return Stuck(f"the app did not end, so its thread is left behind: {self._what_it_does(None)}")

    # -- on the loop's thread

    def _run(self) -> None:
        try:
            anyio.run(self._main, backend=self._backend, backend_options=self._options())
        except BaseException as error:
            if not self._begun.done():
                self._begun.set_exception(error)
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    def _options(self) -> dict[str, Any]:
        if self._backend == "trio":
            return {"clock": _virtual_clock(self._pace, self._outside)} if self._virtual else {}
        return {"loop_factory": partial(VirtualLoop, self._outside) if self._virtual else SettlingLoop}

    async def _main(self) -> None:
        self._wake = anyio.Event()
        with anyio.CancelScope() as self._everything:
            self._take_loop()
            try:
                with self._pace.turning():
                    await self._client.__aenter__()
            except Exception as error:
                self._begun.set_exception(error)
                return
            self._begun.set_result(None)
            try:
                async with anyio.create_task_group() as tasks:
                    while not self._perform(tasks):
                        await self._wake.wait()
                        self._wake = anyio.Event()
                    tasks.cancel_scope.cancel()
            finally:
                with self._pace.turning():
                    await self._client.__aexit__(None, None, None)

    def _take_loop(self) -> None:
        if self._backend == "asyncio":
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SettlingLoop), "_options has named it"
            loop.pace = self._pace
            self._loop = loop
            self._read_clock = loop.time
            self._call_soon: Callable[[Callable[[], Any]], Any] = loop.call_soon_threadsafe
        else:
            import trio

            token = trio.lowlevel.current_trio_token()
            self._read_clock = trio.lowlevel.current_clock().current_time
            self._call_soon = token.run_sync_soon

    def _be_awake(self) -> None:
        self._wake.set()

    def _perform(self, tasks: anyio.abc.TaskGroup) -> bool:
        """Start the calls that have come; whether the last of them was to end."""
        while self._calls:
            call = self._calls.popleft()
            if call.function is None:
                return True
            tasks.start_soon(call.run, self._pace)
        return False


class _Call(Generic[T]):
    """A function that the caller's thread waits for; None is to end."""

    def __init__(self, function: Callable[[], Awaitable[T]] | None) -> None:
        self.function = function
        self.result: Future[T] = Future()
        self.is_settled = threading.Event()
        self._scope: anyio.CancelScope | None = None

    def cancel(self) -> None:
        """Nobody waits for it any more; called on the loop's thread."""
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, pace: Pace) -> None:
        assert self.function is not None
        try:
            with anyio.CancelScope() as self._scope, pace.turning():
                result = await self.function()
                self.result.set_result(result)
        except Exception as error:
            self.result.set_exception(error)
        finally:
            if not self.result.done():
                self.result.set_exception(RuntimeError("the client has ended"))
        await settle()
        self.is_settled.set()
