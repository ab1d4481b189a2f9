"""Worker threads: plain `def` handlers, hooks and streams run on them, each counted until it has really ended."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from enum import Enum, auto
from inspect import isawaitable, iscoroutine
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..errors import LifecycleError, TooManyStreams
from ..lifecycle import Lifecycle, State
from ..limits import Limits
from .callables import name_of
from .parking import caller_from_threads

log = logging.getLogger("h3ref.threads")

HAS_THREADS: Final = sys.platform != "emscripten"
"""Whether threads can be started. In a browser they can't: there a plain `def` runs on the event loop, in one piece."""


class Places:
    """A number of places for handlers and hooks. A call that finds none waits in one of two lines, which take turns.

    So a hook, whose exchange has begun, does not wait for all the handlers whose exchange has not, and a flood of hooks
    holds no handler up for long.

    Args:
        most: how many there are.

    Attributes:
        taken: how many are taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0
        self._hooks: deque[anyio.Event] = deque()
        self._handlers: deque[anyio.Event] = deque()
        self._turns = (self._hooks, self._handlers)  # the one whose turn it is comes first

    async def take(self, *, is_hook: bool) -> None:
        """Take a place, as soon as there is one."""
        if self.taken < self._most:  # then nothing waits: a place that becomes free goes to a waiting call
            self.taken += 1
            return
        event, waiting = anyio.Event(), self._hooks if is_hook else self._handlers
        waiting.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.release()
            else:
                waiting.remove(event)
            raise

    def release(self) -> None:
        """Give a place to a call that waits for one, or leave it free."""
        now, then = self._turns
        if now:
            self._turns = (then, now)
            now.popleft().set()
        elif then:
            then.popleft().set()
        else:
            self.taken -= 1


class ThreadPool:
    """The threads of one server. Only an exchange that has a place runs any, by its `ThreadUse`.

    Args:
        limits: how many there may be.
        refused: counts refusals by limit.

    Attributes:
        handlers: the places of plain `def` handlers and hooks.
        streams: those that have a place for a plain `def` stream; one that finds none is refused.
        abandoned: those whose stream is over while a thread still runs: they leave their places to others.
        busy: the threads that run the user's code.
    """

    def __init__(self, limits: Limits, refused: Counter[str]) -> None:
        self._refused = refused
        self._most_streams = limits.stream_threads
        self._most_abandoned = limits.abandoned_threads
        self.handlers = Places(limits.handler_threads)
        self.streams: set[ThreadUse] = set()
        self.abandoned: set[ThreadUse] = set()
        self.busy: set[threading.Thread] = set()  # each adds and discards itself
        self.unlimited = anyio.CapacityLimiter(math.inf)  # it runs them; on asyncio it forgets one that is left alone

    def admit(self, use: ThreadUse) -> None:
        """Give a place to a stream.

        Raises:
            TooManyStreams: there is none.
        """
        if len(self.streams) >= self._most_streams:
            over = {other for other in self.streams if other.is_over}
            self.streams -= over
            self.abandoned |= over
        if len(self.streams) >= self._most_streams:
            self._refused["stream_threads"] += 1
            raise TooManyStreams(f"all {self._most_streams} threads for blocking streams are taken; try again later")
        most = self._most_streams + self._most_abandoned
        if len(self.streams) + len(self.abandoned) >= most:
            self._refused["abandoned_threads"] += 1
            raise TooManyStreams(f"{most} threads of blocking streams still run, most after their end; try again later")
        self.streams.add(use)

    def discard(self, use: ThreadUse) -> None:
        """A stream's last thread has ended."""
        self.streams.discard(use)
        self.abandoned.discard(use)


class Kind(Enum):
    """What an exchange's place is for."""

    HANDLER = auto()
    STREAM = auto()


class ThreadUse:
    """The threads that one exchange uses. They share one place: a handler's first, a stream's once it streams.

    The exchange keeps it from one thread to the next, so that none waits for a second one: neither an error's hook in
    the line of handlers, nor the hook for which another thread of the exchange waits. It becomes free when the exchange
    no longer needs it and the last thread has ended, even one that was left to itself.

    Args:
        pool: all threads of the server.
        lifecycle: the exchange's.
    """

    __slots__ = ("_is_kept", "_lifecycle", "_pool", "_running", "_takes", "_waits")

    def __init__(self, pool: ThreadPool, lifecycle: Lifecycle) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self._takes: Kind | None = None  # the place that it has
        self._is_kept = False  # whether the exchange needs it even while no thread runs
        self._running = 0
        self._waits: tuple[_Wait, ...] = ()  # for those that run

    @property
    def is_running(self) -> bool:
        """Whether a thread runs for this exchange."""
        return self._running > 0

    @property
    def is_over(self) -> bool:
        """Whether nobody gets anything from its threads any more."""
        return self._lifecycle.state is State.CLOSED

    async def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        is_hook: bool = False,
        begin: Callable[[], None] | None = None,
    ) -> None:
        """Run a plain def on a thread and wait for its end; only `abandon` ends the waiting.

        Args:
            function: the plain def.
            args: its arguments.
            is_hook: in which line it waits for a place.
            begin: called before it runs, once its end can be reported.

        Raises:
            TypeError: it returned an awaitable, which nobody would await.
        """
        await self._take_place(is_hook=is_hook)
        wait = _Wait()
        self._waits = (*self._waits, wait)
        with wait.scope:
            try:
                if begin is not None:
                    begin()
                await self._run(function, args)
            finally:
                self._waits = tuple(other for other in self._waits if other is not wait)
                for call in wait.told:
                    call()
        if wait.scope.cancelled_caught:
            # The exchange may be cancelled: what comes next must not run as if this had ended.
            await anyio.lowlevel.checkpoint_if_cancelled()

    async def run_hook(self, function: Callable[..., Any], *args: Any) -> None:
        """As `run`, for a hook at the end of an exchange: a cancellation leaves its thread to itself."""
        await self._take_place(is_hook=True)
        await self._run(function, args)

    async def _take_place(self, *, is_hook: bool) -> None:
        if self._takes is None:
            await self._pool.handlers.take(is_hook=is_hook)
            if self._takes is None:
                self._takes = Kind.HANDLER
            else:  # another task of the exchange has got one meanwhile
                self._pool.handlers.release()
        self._is_kept = True

    async def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        call = _Call(self, self._pool, function, args)
        self._running += 1
        try:
            if HAS_THREADS:
                await anyio.to_thread.run_sync(call.run, abandon_on_cancel=True, limiter=self._pool.unlimited)
            else:
                await anyio.lowlevel.checkpoint()
                call.run()
        finally:
            if call.abandon():
                self.ended()

    def ended(self) -> None:
        """One of its threads has ended."""
        self._running -= 1
        self._free()

    def tell_ended(self, call: Callable[[], None]) -> bool:
        """Call a function, which raises nothing, when nobody waits for the thread any more; False if there is none."""
        if not self._waits:
            return False
        self._waits[0].told.append(call)
        return True

    def count_as_stream(self) -> None:
        """Count the thread, or the one that will be needed, as a stream's.

        Raises:
            TooManyStreams: all threads for streams are taken.
            RuntimeError: there are no threads.
        """
        if not HAS_THREADS:
            raise RuntimeError(
                "a plain def streams on its own thread, and there are none here, as in a browser: make it async def"
            )
        if self._takes is not Kind.STREAM:
            self._pool.admit(self)
            if self._takes is Kind.HANDLER:
                self._pool.handlers.release()
            self._takes = Kind.STREAM
        self._is_kept = True

    def rest(self) -> None:
        """No thread is needed for now: a handler's place is free for others, a stream's is its own to its end."""
        if self._takes is Kind.HANDLER:
            self.release()

    def release(self) -> None:
        """No thread is needed any more."""
        self._is_kept = False
        self._free()

    def _free(self) -> None:
        if self._is_kept or self._running:
            return
        takes, self._takes = self._takes, None
        if takes is Kind.HANDLER:
            self._pool.handlers.release()
        elif takes is Kind.STREAM:
            self._pool.discard(self)

    def abandon(self) -> None:
        """Leave the thread to itself."""
        for wait in self._waits:
            wait.scope.cancel()


class _Wait:
    """The wait for one run of a thread.

    Attributes:
        scope: what only `abandon` cancels: a thread can't be cancelled, it learns of the end at its next send.
        told: called when it is over.
    """

    __slots__ = ("scope", "told")

    def __init__(self) -> None:
        self.scope = anyio.CancelScope(shield=True)
        self.told: list[Callable[[], None]] = []


class _Stage(Enum):
    """How far a call has come."""

    WAITS = auto()
    RUNS = auto()
    ABANDONED = auto()  # nobody waits for it any more: a call that has not begun never will
    OVER = auto()


class _Call:
    """One call on a thread. If nobody waits for it any more, the thread itself reports its end."""

    __slots__ = ("_args", "_function", "_lock", "_pool", "_stage", "_tell", "_use")

    def __init__(self, use: ThreadUse, pool: ThreadPool, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._use = use
        self._pool = pool
        self._function = function
        self._args = args
        self._lock = threading.Lock()
        self._stage = _Stage.WAITS
        self._tell: Callable[[Callable[[], None]], bool]  # made when it is abandoned

    def run(self) -> None:
        """Call it, on the thread."""
        with self._lock:
            if self._stage is _Stage.ABANDONED:
                return
            self._stage = _Stage.RUNS
        thread = threading.current_thread()
        self._pool.busy.add(thread)
        try:
            _check_result(self._function, self._function(*self._args))
        except Exception as error:
            self._log_alone(error)
            raise
        finally:
            self._pool.busy.discard(thread)
            with self._lock:
                stage, self._stage = self._stage, _Stage.OVER
            if stage is _Stage.ABANDONED:
                self._tell(self._use.ended)

    def abandon(self) -> bool:
        """Stop waiting for it, on the event loop; return whether no thread runs it now, or ever will."""
        with self._lock:
            if self._stage is _Stage.RUNS:
                self._tell = caller_from_threads()
                self._stage = _Stage.ABANDONED
                return False
            self._stage = _Stage.ABANDONED
            return True

    def _log_alone(self, error: Exception) -> None:
        """Log an error that nobody waits for; that the stream is over is no error."""
        if self._stage is _Stage.ABANDONED and not isinstance(error, LifecycleError | CancelledError):
            name = name_of(self._function)
            log.error("%s raised %s after its time was up", name, type(error).__name__, exc_info=error)


def _check_result(function: Callable[..., Any], result: object) -> None:
    if isawaitable(result):
        if iscoroutine(result):
            result.close()
        name = name_of(function)
        raise TypeError(f"{name} is a plain def that returned an awaitable, which nobody awaits: make it async def")
