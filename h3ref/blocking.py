"""`BlockingSSEWriter`, `SSEWriter`'s twin for worker threads."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread

from . import trace
from ._core.parking import ThreadParking, runs_loop
from .lifecycle import Reason, State
from .sse import SSEEvent
from .writer import SSEWriter, encode

if TYPE_CHECKING:
    from .event import H3Event

PAUSE = 0.0005
"""Seconds between two looks at what a busy thread has sent: to be woken for each event would take longer than it."""


ON_THE_LOOP = (
    "a BlockingSSEWriter would block the event loop, on whose thread this is: send from another thread, "
    "or here with writer.event.get_sse_writer(), whose send_nowait() never waits"
)

_STREAMING = State.STREAMING


class BlockingSSEWriter:
    """`SSEWriter` for a plain `def` on a worker thread: the same methods, which block that thread only.

    What it sends is taken over by the event loop at once after quiet, else within half a millisecond. A client that
    left is noticed at the next send, which raises `WriterClosed`; so does one after the event loop has ended.

    Any thread may call it, also one that the user has started, and several at once: each event is sent whole. Only on
    the event loop's own thread, which it would block, a call that may wait is a `RuntimeError`.
    """

    __slots__ = (
        "_count",
        "_is_awake",
        "_lifecycle",
        "_lock",
        "_loop_thread",
        "_mail",
        "_parking",
        "_room",
        "_size",
        "_writer",
    )

    def __init__(self, writer: SSEWriter) -> None:
        self._writer = writer
        self._lifecycle = writer.event._host.lifecycle
        self._loop_thread = writer.event._host.loop_thread
        self._lock = threading.Lock()
        self._mail: list[bytes] = []  # events that the loop has not taken over yet
        self._count = 0  # of all that were ever put there
        self._size = 0  # bytes of those that the loop has taken over
        self._room = 0  # bytes that fit for sure; without room the thread asks the loop, and waits for its answer
        self._is_awake = False  # whether the loop will look for mail by itself
        self._parking: ThreadParking | None = None  # where the task that looks for it sleeps, once there is one

    @property
    def event(self) -> H3Event:
        """The `H3Event` whose stream this is."""
        return self._writer.event

    @property
    def event_count(self) -> int:
        """Events taken so far; keep-alives are not counted."""
        return self._writer.event_count

    @property
    def is_active(self) -> bool:
        """Whether the stream can still be written to."""
        return self._writer.is_active

    def send_event(self, event: SSEEvent | str) -> None:
        """As `SSEWriter.send_event`."""
        data = event._wire if event.__class__ is SSEEvent else encode(event)
        if self._lifecycle._state is not _STREAMING or get_ident() == self._loop_thread:
            self._check()
        if not self._put(data) and not self._ask(self._send, data):
            self._check()

    def send_nowait(self, event: SSEEvent | str) -> None:
        """As `SSEWriter.send_nowait`."""
        data = encode(event)
        if self._lifecycle._state is not _STREAMING or get_ident() == self._loop_thread:
            self._check()
        if not self._put(data) and not self._ask(self._send_nowait, event):
            self._check()

    def send_keep_alive(self) -> None:
        """As `SSEWriter.send_keep_alive`."""
        self._check()
        if not self._ask(self._after_mail, self._writer.send_keep_alive):
            self._check()

    def flush(self) -> None:
        """As `SSEWriter.flush`."""
        self._ask(self._after_mail, self._writer.flush)

    def close(self) -> None:
        """As `SSEWriter.close`."""
        if not self._writer.is_ending:
            self._ask(self._after_mail, self._writer.close_from_thread)

    def __enter__(self) -> BlockingSSEWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif not self._writer.is_ending:
            self._ask(self._after_mail, self._writer.__aexit__, kind, error, where)

    # -- on the thread

    def _put(self, data: bytes) -> bool:
        """Leave an event for the loop, and wake it if it sleeps; False if it might not fit."""
        with self._lock:
            if self._room <= 0:
                return False
            self._mail.append(data)
            self._room -= len(data)
            self._count += 1
            if self._is_awake:
                return True
            self._is_awake = True
            parking = self._parking
        assert parking is not None, "there is room only while there is a task to wake"
        return parking.wake_from_thread()

    def _ask(self, function: Callable[..., Awaitable[object]], *args: object) -> bool:
        """Have the loop run it, and wait for that; False if the loop ends instead, and the stream with it."""
        self._check_thread()
        try:
            return anyio.from_thread.run(self._answer, function, args, token=self._writer.event._host.token)
        except anyio.RunFinishedError:
            if self._lifecycle.state is not State.CLOSED:  # nobody else is left to close it
                self._lifecycle.take(trace.CLOSES, reason=Reason.SHUTDOWN)
            return False

    def _check(self) -> None:
        """Raise what is wrong with a send, if anything is."""
        self._writer.check()
        self._check_thread()

    def _check_thread(self) -> None:
        if get_ident() == self._loop_thread and runs_loop():  # one that has ended, or its thread, blocks nobody
            raise RuntimeError(ON_THE_LOOP)

    # -- on the loop

    async def _answer(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> bool:
        try:
            await function(*args)
        except anyio.get_cancelled_exc_class():  # not passed on: this task ends here, and the thread asked for no task
            self._writer.mark_closed(Reason.SHUTDOWN)
            return False
        return True

    async def _send(self, data: bytes) -> None:
        self._take_over()
        await self._writer.send_encoded(data)
        self._make_room()

    async def _send_nowait(self, event: SSEEvent | str) -> None:
        self._take_over()
        self._writer.send_nowait(event)
        self._make_room()

    async def _after_mail(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        with self._lock:
            self._room = 0  # what the thread sends next comes after this
        self._take_over()
        await function(*args)

    def _make_room(self) -> None:
        """Let the thread go on by itself, as far as the buffer reaches; a traced stream records each event in turn."""
        writer = self._writer
        if writer.is_traced or not writer.is_active:
            return
        if self._parking is None:
            parking = ThreadParking()
            if not writer.event._host.run_beside_thread(self._look_for_mail, parking):
                return  # a thread of the user's own: each event is taken over before its call returns
            self._parking = parking
            writer.add_feed(self)
        with self._lock:
            self._room = writer.room_for(self)

    async def _look_for_mail(self, parking: ThreadParking) -> None:
        try:
            while True:
                await parking.wait()
                while self._take_over():  # noqa: ASYNC110  # to be woken for each event is what this avoids
                    await anyio.sleep(PAUSE)
        finally:
            with self._lock:
                self._room = 0  # should another thread go on, it asks the loop
            self._parking = None
            self._take_over()

    def _take_over(self) -> bool:
        """Give the stream what the thread has sent; whether that was anything."""
        with self._lock:
            if not self._mail or not self._writer.is_active:
                self._is_awake = False
                return False
            mail, self._mail = self._mail, []
        self._relay(mail)
        return True

    def _relay(self, mail: list[bytes]) -> None:
        data = b"".join(mail)
        self._size += len(data)
        self._writer.relay(data, mail)

    @property
    def taken(self) -> int:
        """`Feed`: how many events the thread has sent by itself."""
        return self._count

    @property
    def taken_size(self) -> int:
        """`Feed`: how many bytes these have."""
        return self._size

    @property
    def waiting(self) -> int:
        """`Feed`: nothing that is known for sure, and less than there is room for."""
        return 0

    def bring_sent(self) -> None:
        """`Feed`: pass on what the thread has sent so far; from its next send on it asks the loop."""
        with self._lock:
            self._room = 0
        self._take_over()

    def hold(self) -> int:
        """`Feed`: all that the thread sends by itself is before all places."""
        self.bring_sent()
        return 0

    def bring(self, place: int | None = None) -> bool:
        """`Feed`: pass on what the thread has sent."""
        self._take_over()
        return True

    def go_on(self) -> None:
        """`Feed`: the thread asks in any case."""

    def bring_rest(self) -> None:
        """`Feed`: pass on what the thread has sent, and the loop has not taken over."""
        self.bring_sent()

    def end(self) -> None:
        """`Feed`: what the thread has sent, and the loop has not taken over, was sent to nobody."""
        with self._lock:
            self._room = 0
            self._count -= len(self._mail)
            self._mail = []

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._writer)[1:]}"
