"""`BlockingSSEWriter`, `SSEWriter`'s twin for worker threads."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread

from .parking import ThreadParking
from .sse import SSEEvent
from .writer import SSEWriter, encode

if TYPE_CHECKING:
    from .event import H3Event

PAUSE = 0.0005
"""Seconds between two looks at what a busy thread has sent: to be woken for each event would take longer than it."""


class BlockingSSEWriter:
    """`SSEWriter` for a plain `def` on a worker thread: the same methods, which block that thread only.

    What it sends is taken over by the event loop at once after quiet, else within half a millisecond. A client that
    left is noticed at the next send, which raises `WriterClosed`.
    """

    __slots__ = ("_count", "_is_awake", "_lock", "_mail", "_parking", "_room", "_size", "_writer")

    def __init__(self, writer: SSEWriter) -> None:
        self._writer = writer
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
        data = encode(event)
        self._writer.check()  # also when the loop has ended and the thread has not
        if not self._put(data):
            anyio.from_thread.run(self._send, data)

    def send_nowait(self, event: SSEEvent | str) -> None:
        """As `SSEWriter.send_nowait`."""
        data = encode(event)
        self._writer.check()
        if not self._put(data):
            anyio.from_thread.run(self._send_nowait, event)

    def send_keep_alive(self) -> None:
        """As `SSEWriter.send_keep_alive`."""
        self._writer.check()
        anyio.from_thread.run(self._after_mail, self._writer.send_keep_alive)

    def flush(self) -> None:
        """As `SSEWriter.flush`."""
        anyio.from_thread.run(self._after_mail, self._writer.flush)

    def close(self) -> None:
        """As `SSEWriter.close`."""
        if not self._writer.is_ending:
            anyio.from_thread.run(self._after_mail, self._writer.close_from_thread)

    def __enter__(self) -> BlockingSSEWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif not self._writer.is_ending:
            anyio.from_thread.run(self._after_mail, self._writer.__aexit__, kind, error, where)

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
        parking.wake_from_thread()
        return True

    # -- on the loop

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
            self._room = writer.event._host.stream_buffer - writer.buffered

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

    def bring_sent(self) -> None:
        """`Feed`: pass on what the thread has sent so far."""
        self._take_over()

    def bring_rest(self) -> None:
        """`Feed`: pass on what the thread has sent, and the loop has not taken over."""
        with self._lock:
            self._room = 0
            mail, self._mail = self._mail, []
        self._relay(mail)

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._writer)[1:]}"
