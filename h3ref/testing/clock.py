"""Virtual time: event loops whose clock jumps to the next deadline as soon as nothing else can happen.

The rule is the same on asyncio and on trio. Time jumps only when no task is ready to run, no I/O is there, and no
worker thread of the loop is at work; a thread that itself waits for the loop (`anyio.from_thread.run`) is not at work.
An endless sleep is no deadline. Worker threads are those of `anyio.to_thread` (so those of h3ref, Starlette and
FastAPI), of `loop.run_in_executor` and `asyncio.to_thread`, and of `trio.to_thread`. Only `time.sleep`, `time.time` and
`time.monotonic` stay real.

Nobody can tell what else is at work outside the loop: a thread that was started since the loop began, or a socket or a
process that the loop waits for. If there is one, time jumps after `outside` real seconds of silence. Anything that
takes longer, such as talking to other machines, needs real time.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack

import anyio

from .._core.child import Child
from .._core.cleanup import Cleanup
from .._core.companion import in_this_task
from .outside import PAUSE, Outside

if TYPE_CHECKING:
    from contextvars import Context

    from trio.testing import MockClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

POLL: Final = 0.005
"""Real seconds between two looks at worker threads, which may begin to wait for the loop unnoticed."""


class Pace:
    """Whether virtual time may pass: always, or, once it is held, only inside `turning`."""

    def __init__(self) -> None:
        self.held = False
        self._turning = 0
        self.changed: Callable[[], None] = lambda: None

    @property
    def is_free(self) -> bool:
        """Whether time may pass now."""
        return not self.held or self._turning > 0

    @contextmanager
    def turning(self) -> Iterator[None]:
        """Let time pass meanwhile; used on the loop's thread only."""
        self._turning += 1
        self.changed()
        try:
            yield
        finally:
            self._turning -= 1


class SettlingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop, in real time, that can tell when all its tasks wait for something."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace()
        self._settling: list[asyncio.Event] = []
        # The loop keeps the selector that it chose; only how long it waits there is decided here.
        selector: Any = self._selector  # type: ignore[attr-defined]
        self._poll = selector.select
        selector.select = self._wait

    async def settled(self) -> None:
        """Wait until no task is ready to run; no time passes meanwhile."""
        event = asyncio.Event()
        self._settling.append(event)
        try:
            await event.wait()
        finally:
            if event in self._settling:
                self._settling.remove(event)

    def _wait(self, timeout: float | None) -> Any:
        ready = self._poll(0)
        if ready or timeout == 0:
            return ready
        if self._settling:
            settling, self._settling = self._settling, []
            for event in settling:
                event.set()
            return []
        return self._pass_time(timeout)

    def _pass_time(self, timeout: float | None) -> Any:
        return self._poll(timeout)


class VirtualLoop(SettlingLoop):
    """An asyncio loop in which hours of sleep take no time; `time()` begins at 0.

    Use it as a loop factory: `asyncio.Runner(loop_factory=VirtualLoop)`, or `anyio.run(main,
    backend_options={"loop_factory": VirtualLoop})`.

    Args:
        outside: real seconds of silence before time jumps while threads, sockets or processes may wake the loop.
    """

    def __init__(self, outside: float = PAUSE) -> None:
        self._now = 0.0
        self._executing: set[asyncio.Future[Any]] = set()
        self._executors: set[Any] = set()
        super().__init__()
        self.outside = Outside(outside, self._count_files, self._executors_threads)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in every loop; but a call that is never due, such as the end of an endless sleep, is no deadline."""
        if when == math.inf:
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As in every loop; time stands still until the function has returned."""
        future = super().run_in_executor(executor, func, *args)
        self._executors.add(executor or self._default_executor)  # type: ignore[attr-defined]
        self._executing.add(future)
        future.add_done_callback(self._executing.discard)
        return future

    def is_working(self) -> bool:
        """Whether a worker thread of this loop is at work."""
        return bool(self._executing) or any(not _waits_for_asyncio(thread) for thread in asyncio_workers(self))

    def _pass_time(self, timeout: float | None) -> Any:
        if not self.pace.is_free:
            return self._poll(None)
        if self.is_working():
            return self._poll(POLL)
        if timeout is None:
            # No deadline: only I/O can go on, or a thread that waits and is answered, which is I/O too.
            return self._poll(None)
        # Also what a thread has asked for before it began to wait.
        ready = self._poll(self.outside.silence())
        if not ready:
            self.outside.pass_over()
            self._now += timeout
        return ready

    def _count_files(self) -> int:
        """Count what the loop waits for in its selector, except the pipe that wakes it."""
        return len(self._selector.get_map()) - 1  # type: ignore[attr-defined]

    def _executors_threads(self) -> set[threading.Thread]:
        return {thread for executor in self._executors for thread in getattr(executor, "_threads", ())}


def asyncio_workers(loop: asyncio.AbstractEventLoop) -> list[threading.Thread]:
    """The worker threads of anyio that have something to do; its set of idle ones changes on the loop's thread only."""
    return [
        thread
        for thread in threading.enumerate()
        if getattr(thread, "loop", None) is loop and thread not in getattr(thread, "idle_workers", ())
    ]


def _waits_for_asyncio(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code is Future.result.__code__:
            asks = frame.f_back is not None and frame.f_back.f_code.co_name in _ASKS
            return asks and not frame.f_locals["self"].done()
        frame = frame.f_back
    return False


_ASKS = ("run_async_from_thread", "run_sync_from_thread")  # what anyio.from_thread.run and run_sync are on asyncio


def virtual_clock(outside: float = PAUSE) -> MockClock:
    """A clock for `trio.run(main, clock=virtual_clock())`, in which hours of sleep take no time.

    It is trio's own `MockClock`, which jumps by itself, and here heeds worker threads.

    Args:
        outside: real seconds of silence before time jumps while threads, sockets or processes may wake the loop.
    """
    return _virtual_clock(Pace(), outside)


def _virtual_clock(pace: Pace, pause: float) -> MockClock:
    import trio
    from trio.testing import MockClock, active_thread_count

    clock = MockClock(autojump_threshold=0)
    jump: Callable[[], None] = clock._autojump
    outside = Outside(pause, _count_trios_files)
    waiting_before: set[tuple[int, int]] = set()

    def look_every(seconds: float) -> None:
        if clock.autojump_threshold != seconds:
            clock.autojump_threshold = seconds

    def idle() -> None:
        nonlocal waiting_before
        waiting: set[tuple[int, int]] = set()
        if pace.is_free:
            if active := active_thread_count():
                waiting = _waiting_for_trio(trio.lowlevel.current_trio_token())
            # A thread that was answered a moment ago still looks as if it waited: so it is looked at twice.
            if not active or (len(waiting) == active and waiting == waiting_before):
                if clock.autojump_threshold < (silence := outside.silence()):
                    waiting_before = waiting
                    look_every(silence)
                    return
                before = clock.current_time()
                jump()
                if clock.current_time() > before:
                    outside.pass_over()
                    waiting_before = set()
                    look_every(0 if not active else POLL)
                    return
        waiting_before = waiting
        look_every(POLL)

    start: Callable[[], None] = clock.start_clock

    def begin() -> None:
        outside.begin()
        start()

    # The run loop calls this when nothing has happened for the threshold's time.
    setattr(clock, "_autojump", idle)  # noqa: B010
    setattr(clock, "start_clock", begin)  # noqa: B010
    setattr(clock, "outside", outside)  # noqa: B010
    pace.changed = lambda: look_every(0)
    return clock


def _waiting_for_trio(token: object) -> set[tuple[int, int]]:
    """The threads that wait for an answer from this run's tasks, each with its question."""
    found = set()
    for ident, frame in sys._current_frames().items():
        if frame.f_code.co_name == "_send_message_to_trio":  # what trio.from_thread.run is
            names = frame.f_locals
            if names["trio_token"] is token and names["message_to_trio"].queue.qsize() == 0:
                found.add((ident, id(names["message_to_trio"])))
    return found


def _count_trios_files() -> int:
    """Count what tasks wait for in trio's own selector, except the pipe that wakes it."""
    import trio

    io = trio.lowlevel.current_statistics().io_statistics
    return sum(getattr(io, name, 0) for name in ("tasks_waiting", "tasks_waiting_read", "tasks_waiting_write")) - 1


def virtual_backends(outside: float = PAUSE) -> list[Any]:
    """The parameters for pytest's `anyio_backend`: both event loops, each with virtual time.

    With `@pytest.mark.parametrize("anyio_backend", virtual_backends())` an async test of hours takes no time. Without
    trio there is only asyncio.

    Args:
        outside: real seconds of silence before time jumps while threads, sockets or processes may wake the loop.
    """
    backends: list[Any] = [("asyncio", {"loop_factory": partial(VirtualLoop, outside)})]
    try:
        backends.append(("trio", {"clock": virtual_clock(outside)}))
    except ModuleNotFoundError as error:
        if error.name != "trio":
            raise
    return backends


def what_time_passed_over() -> str:
    """What virtual time did not wait for, as a remark after an error; "" if there was nothing, or time is real."""
    try:
        clock: object = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        clock = trio.lowlevel.current_clock()
    outside = getattr(clock, "outside", None)
    return outside.describe() if isinstance(outside, Outside) else ""


async def settle() -> None:
    """Wait until all other tasks of this event loop wait for something; no virtual time passes meanwhile.

    On an asyncio loop that can't tell, such as uvloop, the tasks get a few turns instead.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio.testing

        await trio.testing.wait_all_tasks_blocked()
        return
    if isinstance(loop, SettlingLoop):
        await loop.settled()
    else:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()


def where(thread: threading.Thread) -> str:
    """The innermost line of user code that a thread is in; "" if there is none."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if _is_users(frame):
            return _place(frame)
        frame = frame.f_back
    return ""


def awaits(awaitable: object) -> str:
    """The innermost line of user code in which a coroutine waits; "" if none can be seen."""
    found = ""
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None)
        if frame is not None and _is_users(frame):
            found = _place(frame)
        awaitable = _awaited(awaitable)
    return found


def _awaited(awaitable: object) -> object:
    """What a coroutine waits for; of the user's, which is run step by step, the step that runs it knows.

    Of one that attends a task of its own, or has company, it is what that runs.
    """
    frame = getattr(awaitable, "cr_frame", None)
    if frame is not None and frame.f_code in _ATTENDS:
        return frame.f_locals["self"].code
    if frame is not None and frame.f_code is in_this_task.__code__:
        return frame.f_locals["code"]
    frame = getattr(awaitable, "gi_frame", None)
    if frame is not None and frame.f_code is Cleanup.run.__code__:
        return frame.f_locals["awaitable"]
    return getattr(awaitable, "cr_await", None)


_ATTENDS = (Child.attend_on_asyncio.__code__, Child.attend_on_trio.__code__)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"


def _is_users(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    is_ours = name.startswith(_HOUSE) and not name.startswith(str(Path(_HOUSE, "examples")))
    return not is_ours and not any(part in name for part in _NOT_THE_USERS)


_HOUSE = str(Path(__file__).parent.parent)
_NOT_THE_USERS = ("/site-packages/", "\\site-packages\\", "/lib/python", "\\Lib\\", "<frozen")


def workers(loop: asyncio.AbstractEventLoop | None) -> list[threading.Thread]:
    """The worker threads at work: those of an asyncio loop or, without one, those of trio."""
    return asyncio_workers(loop) if loop is not None else [*filter(_is_trios, threading.enumerate())]


def _is_trios(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and not frame.f_code.co_filename.endswith("_threads.py"):
        frame = frame.f_back
    return frame is not None
