"""`Runner`: an event loop on a thread of its own, for calls from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.abc

from .asynchronous import AsyncTestClient
from .clock import Pace, SettlingLoop, VirtualLoop, _virtual_clock, settle, where, workers
from .outside import OURS
from .results import Stuck
from .stream import AsyncStream

T = TypeVar("T")

SETTLES: Final = 1.0
"""Real seconds that the other tasks get, after each call, to come to rest; one that never rests is not waited for."""

PAUSES: Final = 10
"""The fewest looks at a call's progress within its `real_timeout`."""

LONGER: Final = 10
"""How many times `real_timeout` a call may take while virtual time passes."""

STUCK_ENDS: Final = 0.5
"""Real seconds that a thread gets to end once everything in it is cancelled; then it is left behind."""


class Runner:
    """An event loop on a thread of its own, in which a client is entered, and calls from other threads run.

    Args:
        client: entered when the loop begins, and left before it ends.
        backend, virtual, outside, real_timeout: as in `TestClient`.
    """

    def __init__(
        self, client: AsyncTestClient, *, backend: str, virtual: bool, outside: float, real_timeout: float
    ) -> None:
        self.is_open = False
        self._client = client
        self._backend = backend
        self._virtual = virtual
        self._outside = outside
        self._real_timeout = real_timeout
        self._pace = Pace()
        self._pace.held = virtual
        self._is_stuck = False
        self._read_clock: Callable[[], float] = lambda: 0.0
        self._loop: SettlingLoop | None = None  # asyncio's

    # -- on the caller's thread

    def now(self) -> float:
        """The seconds since the client was entered, on the loop's clock."""
        return round(self._read_clock() - self._client._began, 9)

    def begin(self) -> None:
        """Start the thread, and return once the client is entered.

        Raises:
            RuntimeError: it has begun and not ended, or its app has stuck before.
            Exception: what the client raised when it was entered.
        """
        if self.is_open or self._is_stuck:
            raise RuntimeError("a TestClient is entered once at a time, and never again after Stuck")
        self._calls: deque[_Call[Any]] = deque()
        self._begun: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=OURS, daemon=True)
        self._thread.start()
        try:
            self._result(self._begun, self._real_timeout + self._real(None))
        except BaseException:
            self.end()
            raise
        self.is_open = True

    def call(self, function: Callable[[], Awaitable[T]], timeout: float | None, stream: AsyncStream | None = None) -> T:
        """Run a function in the loop, and let the app come to rest after it.

        Args:
            function: the function to run.
            timeout: the most seconds, on the loop's clock, that the function takes; None for the client's timeout.
            stream: the stream that `Stuck` tells of; None for all that are open.

        Raises:
            RuntimeError: it has not begun, or has ended.
            Stuck: the app made no progress in real time.
            Exception: whatever the function raised.
        """
        if not self.is_open:
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

    def end(self) -> BaseException | None:
        """Leave the client, and end the thread; return what went wrong on the way."""
        self.is_open = False
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

    def _real(self, timeout: float | None) -> float:
        """The most real seconds that a wait takes; a call may wait twice, for an answer and for its end."""
        return 0.0 if self._virtual else 2 * (self._client.timeout if timeout is None else timeout)

    def _result(self, future: Future[T], seconds: float, stream: AsyncStream | None = None) -> T:
        """Wait for a result; what gets on, since virtual time passes, gets `LONGER` times as many real seconds.

        They are counted in pauses: where the whole process stands still, that is one, however long it takes.
        """
        pause = min(0.5, seconds / PAUSES)
        pauses = since_moved = 0
        now = self.now()
        while True:
            try:
                return future.result(pause)
            except TimeoutError:
                if future.done():  # just now, or that was its own
                    return future.result()
            if not self._thread.is_alive() and not future.done():
                raise RuntimeError("the app's event loop has died")
            before, now = now, self.now()
            pauses, since_moved = pauses + 1, 0 if self._virtual and now != before else since_moved + 1
            if since_moved * pause >= seconds or pauses * pause >= seconds * LONGER:
                self._is_stuck = True
                raise Stuck(f"the app made no progress for {seconds:g} s of real time: {self._what_it_does(stream)}")

    def _what_it_does(self, stream: AsyncStream | None) -> str:
        found = where(self._thread)
        doing = [f"its event loop is in {found}" if found else "its event loop waits, or turns without rest"]
        doing += [f"a worker thread is in {place}" for thread in workers(self._loop) if (place := where(thread))]
        streams = [stream] if stream else [one for one in self._client.streams if not one.is_closed]
        return "; ".join([*doing, *(one.describe(self.now()) for one in streams)])

    def _post(self, function: Callable[[], Any]) -> None:
        """Call a function on the loop's thread, soon, and never wait for it."""
        with suppress(RuntimeError, AttributeError):  # the loop has ended, or not begun
            self._call_soon(function)

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
    """A function that the caller's thread waits for; None means the end."""

    def __init__(self, function: Callable[[], Awaitable[T]] | None) -> None:
        self.function = function
        self.result: Future[T] = Future()
        self.is_settled = threading.Event()
        self._scope: anyio.CancelScope | None = None

    def cancel(self) -> None:
        """Give the call up, since nobody waits for it any more; called on the loop's thread."""
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
