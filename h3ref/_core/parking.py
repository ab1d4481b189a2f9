"""`Parking`: where one task waits until it is woken. An `anyio.Event` would do, at four times the memory.

Neither loop is imported here: a program that runs one has imported it, and one that runs none need not wait for the
import of asyncio, which takes as long as all the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Parking:
    """One task waits here at a time; a wake that comes before it waits is not lost.

    On asyncio it is a future, on trio a task that waits to be rescheduled.
    """

    __slots__ = ("_awake", "_future", "_loop", "_task")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None  # asyncio's, from the first wait on
        self._future: asyncio.Future[None] | None = None  # on asyncio, while a task waits
        self._task: Any = None  # trio's, while it waits
        self._awake = False  # whether a wake came while nobody waited

    async def wait(self) -> None:
        """Wait until woken; at once, if that has happened since the last wait."""
        if not self._awake:
            if self._loop is None:
                self._loop = asyncio_loop()
            try:
                if self._loop is not None:
                    self._future = self._loop.create_future()
                    await self._future
                else:  # in place, not in a coroutine of its own, which would take memory for each waiting task
                    from trio import lowlevel

                    self._task = lowlevel.current_task()
                    await lowlevel.wait_task_rescheduled(self._abort)
            finally:
                self._future = self._task = None
        self._awake = False

    def _abort(self, _: Any) -> Any:
        """Trio cancels the task that waits."""
        from trio import lowlevel

        self._task = None
        return lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """Let the task that waits, or the next that does, go on. On the loop's thread only."""
        future, self._future = self._future, None
        task, self._task = self._task, None
        if task is not None:
            from trio import lowlevel

            lowlevel.reschedule(task)
        elif future is None or future.done():
            self._awake = True  # cancelled just now: the next wait is told
        else:
            future.set_result(None)


class ThreadParking(Parking):
    """A parking that can be woken from any thread."""

    __slots__ = ("_call",)

    def __init__(self) -> None:
        super().__init__()
        self._call = caller_from_threads()

    def wake_from_thread(self) -> bool:
        """As `wake`, from any thread and without waiting for the loop; False if that has ended."""
        return self._call(self.wake)


def caller_from_threads() -> Callable[[Callable[[], object]], bool]:
    """Return a way, for any thread, to have the loop that runs here call a function soon; False if it has ended."""
    loop = asyncio_loop()
    if loop is not None:
        call: Callable[..., object] = loop.call_soon_threadsafe
    else:
        from trio import lowlevel

        call = lowlevel.current_trio_token().run_sync_soon

    def call_soon(function: Callable[[], object]) -> bool:
        try:
            call(function)
        except RuntimeError:  # asyncio's and trio's way to say that the loop has ended
            return False
        return True

    return call_soon


_NO_ASYNCIO: Final = (RuntimeError, KeyError, AttributeError)
"""No asyncio loop runs here; asyncio has not been imported; or another thread is just importing it."""


def asyncio_task() -> asyncio.Task[object] | None:
    """The asyncio task that runs here; None on trio, and in a callback of the loop."""
    try:
        return sys.modules["asyncio"].current_task()  # type: ignore[no-any-return]
    except _NO_ASYNCIO:
        return None


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The asyncio loop that runs here; None on trio, also where trio is a guest of asyncio."""
    try:
        loop: asyncio.AbstractEventLoop = sys.modules["asyncio"].get_running_loop()
    except _NO_ASYNCIO:
        return None
    lowlevel = sys.modules.get("trio.lowlevel")
    if lowlevel is not None and lowlevel.in_trio_run() and asyncio_task() is None:
        return None
    return loop


class LoopValue(Generic[T]):
    """A value for each event loop, by an `anyio.RunVar` that is asked only when the loop is not the same as last time.

    Args:
        name: that variable's name.
        made: makes the value, in the loop that it is for.
    """

    def __init__(self, name: str, made: Callable[[], T]) -> None:
        self._variable: RunVar[T] = RunVar(name)
        self._made = made
        self._last: tuple[object, T] | None = None  # asyncio's loop, and its value

    def get(self) -> T:
        """Return the value of the loop that runs here."""
        loop = asyncio_loop()
        last = self._last
        if last is not None and last[0] is loop:
            return last[1]
        value = self._variable.get(None)
        return self.set(self._made()) if value is None else self._remember(value)

    def set(self, value: T) -> T:
        """Set the value of the loop that runs here, and return it."""
        self._variable.set(value)
        return self._remember(value)

    def _remember(self, value: T) -> T:
        loop = asyncio_loop()
        if loop is not None:
            self._last = loop, value
        return value


def trio_task() -> Any:
    """The trio task that runs here; None on asyncio, and in a callback of the loop."""
    lowlevel = sys.modules.get("trio.lowlevel")
    return lowlevel.current_task() if lowlevel is not None and lowlevel.in_trio_task() else None


def now() -> float:
    """The time of the loop that runs here, as `anyio.current_time`, but also in a callback of the loop."""
    return clock_here()()


def clock_here() -> Callable[[], float]:
    """Return the clock of the loop that runs here, for code that asks it often."""
    if (loop := asyncio_loop()) is not None:
        return loop.time
    from trio import current_time

    return current_time


def loop_context(loop: asyncio.AbstractEventLoop | None = None) -> Context:
    """A copy of the context that runs here, in which anyio knows the loop even in a callback of the loop.

    Such a callback is in no task. Where sniffio is installed, anyio asks it, and it knows asyncio by the running task,
    or by what `anyio.run` has told it: `asyncio.run`, which pytest-asyncio and notebooks use, tells it nothing.

    Args:
        loop: the asyncio loop that runs here, if it is known.
    """
    context = copy_context()
    sniffio = sys.modules.get("sniffio")
    if (
        sniffio is not None
        and context.get(sniffio.current_async_library_cvar) != "asyncio"
        and (loop or asyncio_loop())
    ):
        context.run(sniffio.current_async_library_cvar.set, "asyncio")
    return context


def start_task(
    function: Callable[..., Coroutine[Any, Any, None]], *args: Any, context: Context | None = None
) -> object:
    """Start a task that belongs to the loop, and to no task group; keep what this returns, or asyncio may collect it.

    Args:
        function: what it runs; on trio it must raise nothing.
        args: the function's arguments.
        context: the one in which it runs; a copy of the current one, if left out.
    """
    if context is None:
        context = loop_context()
    if (loop := asyncio_loop()) is not None:
        return loop.create_task(function(*args), context=context)
    from trio import lowlevel

    return lowlevel.spawn_system_task(function, *args, context=context.copy())  # which may be the current one


def runs_loop() -> bool:
    """Whether an event loop runs on this thread."""
    lowlevel = sys.modules.get("trio.lowlevel")
    return asyncio_loop() is not None or (lowlevel is not None and bool(lowlevel.in_trio_run()))


def current_task_id() -> int:
    """A number that only the task that runs here has; 0 in a callback of the loop, which is in no task.

    An `anyio.TaskInfo` says the same at twenty times the cost.
    """
    task = running_task()
    return 0 if task is None else id(task)


def running_task() -> object:
    """The task that runs here, asyncio's or trio's; None in a callback of the loop."""
    return asyncio_task() or trio_task()
