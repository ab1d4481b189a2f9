"""`Mailbox`: takes a thread's events to a stream, without asking the event loop for each of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from threading import get_ident

import anyio
import anyio.from_thread

from ..lifecycle import Reason
from .parking import caller_from_threads, loop_context, now, runs_loop
from .stream import Stream
from .timer import Timer

PAUSE = 0.0005
"""Seconds between two looks at what a busy thread has sent: a wake-up for each event would take longer than it."""


ON_THE_LOOP = (
    "a BlockingSSEWriter would block the event loop, whose thread this is: send from another thread, "
    "or here with writer.event.get_sse_writer(), whose send_nowait() never waits"
)


class Mailbox:
    """Where threads leave events for a stream, as one of its feeds, and ask its loop for everything else.

    Args:
        stream: what the events are for.
    """

    __slots__ = (
        "_again",
        "_count",
        "_is_awake",
        "_lock",
        "_looked_at",
        "_loop_thread",
        "_mail",
        "_room",
        "_size",
        "_stream",
        "_wake",
    )

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._loop_thread = stream.host.loop_thread
        self._lock = threading.Lock()
        self._mail: list[bytes] = []  # events that the loop has not taken over yet
        self._count = 0  # of all that were ever put there
        self._size = 0  # bytes of those that the loop has taken over
        # Bytes that fit for sure, none once the stream is closed; without room the thread asks the loop, and waits.
        self._room = 0
        self._is_awake = False  # whether the loop will look for mail by itself
        self._wake: Callable[[], bool] | None = None  # has the loop look for mail, while there is a thread that streams
        self._again: Timer | None = None  # when it looks for more; made for a thread that is busy
        self._looked_at = -math.inf  # when it last took something over

    # -- on the thread

    def send(self, data: bytes) -> None:
        """Send an encoded event. Raises as `SSEWriter.send_event` does."""
        if not self._put(data):
            self._ask_to(self._send, data)

    def send_nowait(self, data: bytes) -> None:
        """Send an encoded event without waiting for the reader. Raises as `SSEWriter.send_nowait` does."""
        if not self._put(data):
            self._ask_to(self._send_nowait, data)

    def send_keep_alive(self) -> None:
        """Send a comment that clients ignore. Raises as `SSEWriter.send_event` does."""
        self._ask_to(self._after_mail, self._stream.send_keep_alive)

    def flush(self) -> None:
        """Wait until all that was sent has left, or the stream has ended."""
        self._ask(self._after_mail, self._stream.flush)

    def close_stream(self) -> None:
        """Close the stream, and wait for its end; the thread itself is not cancelled."""
        if not self._stream.is_ending:
            self._ask(self._after_mail, self._stream.close_and_end)

    def fail_stream(self, error: BaseException) -> None:
        """As `Stream.fail`."""
        if not self._stream.is_ending:
            self._ask(self._after_mail, self._stream.fail, error)

    def _put(self, data: bytes) -> bool:
        """Leave an event for the loop, and wake it if it sleeps; False if it might not fit."""
        if get_ident() == self._loop_thread:
            self._check()
        with self._lock:
            if self._room <= 0:
                return False
            self._mail.append(data)
            self._room -= len(data)
            self._count += 1
            if self._is_awake:
                return True
            self._is_awake = True
            wake = self._wake
        assert wake is not None, "there is room only while there is somebody to wake"
        return wake()

    def _ask_to(self, send: Callable[..., Awaitable[object]], *args: object) -> None:
        """Have the loop send something, unless the stream is closed: then the loop may be busy, or about to end."""
        self._check()
        if not self._ask(send, *args):
            self._check()

    def _ask(self, function: Callable[..., Awaitable[object]], *args: object) -> bool:
        """Have the loop run it, and wait for that; False if the loop ends instead, and the stream with it."""
        self._check_thread()
        try:
            return anyio.from_thread.run(self._answer, function, args, token=self._stream.host.token)
        except anyio.RunFinishedError:
            with self._lock:
                self._room = 0
            self._stream.close_without_loop()
            return False

    def _check(self) -> None:
        """Raise what is wrong with a send, if anything is."""
        self._stream.check()
        self._check_thread()

    def _check_thread(self) -> None:
        if get_ident() == self._loop_thread and runs_loop():  # else the loop or its thread has ended: nobody is blocked
            raise RuntimeError(ON_THE_LOOP)

    # -- on the loop

    async def _answer(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> bool:
        try:
            await function(*args)
        except anyio.get_cancelled_exc_class():  # not passed on: this task ends here, and the thread asked for no task
            self._stream.close(Reason.SHUTDOWN)
            return False
        return True

    async def _send(self, data: bytes) -> None:
        self._take_over()
        await self._stream.send(data)
        self.make_room()

    async def _send_nowait(self, data: bytes) -> None:
        self._take_over()
        self._stream.send_nowait(data)
        self.make_room()

    async def _after_mail(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        with self._lock:
            self._room = 0  # what the thread sends next comes after this
        self._take_over()
        await function(*args)

    def make_room(self) -> None:
        """Let the thread go on by itself, as far as the buffer has room; a traced stream records each event in turn."""
        stream = self._stream
        if stream.is_traced or not stream.is_active:
            return
        if self._wake is None:
            if not stream.host.tell_thread_ended(self._thread_ended):
                return  # a thread of the user's own: each event is taken over before its call returns
            # An empty context: no matter who calls, what it looks for is no one's own.
            self._wake = partial(caller_from_threads(), partial(Context().run(loop_context).run, self._woken))
            stream.add_feed(self)
        with self._lock:
            self._room = stream.room_for(self)

    def _woken(self) -> None:
        """A thread has sent after a quiet time: take that over. One that sends again soon is busy: it waits a pause."""
        if self._wake is not None and now() < self._looked_at + PAUSE:
            self._look_at(self._looked_at + PAUSE)
        else:
            self._look_for_mail(is_busy=False)

    def _look_at(self, when: float) -> None:
        if self._again is None:
            self._again = Timer(self._look_for_mail)
        self._again.set(when)

    def _look_for_mail(self, *, is_busy: bool = True) -> None:
        """Take it over, and look again after a pause if a busy thread has sent; else its next event wakes the loop."""
        try:
            if self._wake is not None and self._take_over():
                self._looked_at = now()
                if is_busy or self._take_over():
                    self._look_at(self._looked_at + PAUSE)
        except Exception as error:  # no adapter's `write_chunk` may raise; one that does must not end the loop
            self._stream.host.fail(error)

    def _thread_ended(self) -> None:
        with self._lock:
            self._room = 0  # should another thread go on, it asks the loop
            self._is_awake = False
        self._wake = self._again = None
        self._take_over()

    def _take_over(self) -> bool:
        """Give the stream what the thread has sent; return whether there was anything."""
        with self._lock:
            if not self._mail or not self._stream.is_active:
                self._is_awake = False
                return False
            mail, self._mail = self._mail, []
        data = b"".join(mail)
        self._size += len(data)
        self._stream.relay(data, mail)
        return True

    # -- as a feed

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
        """`Feed`: all that the thread sends by itself comes before every place."""
        self.bring_sent()
        return 0

    def bring(self, place: int | None = None) -> bool:
        """`Feed`: pass on what the thread has sent."""
        self._take_over()
        return True

    def go_on(self) -> None:
        """`Feed`: the thread asks in any case."""

    def bring_rest(self) -> None:
        """`Feed`: pass on what the thread has sent but the loop has not taken over."""
        self.bring_sent()

    def close(self) -> None:
        """`Feed`: what the thread has sent but the loop has not taken over was sent to nobody."""
        with self._lock:
            self._room = 0
            self._count -= len(self._mail)
            self._mail = []
