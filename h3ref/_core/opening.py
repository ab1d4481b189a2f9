"""`Opening`: how a handler's own call opens its stream, once, and with what outcome."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
import anyio.from_thread
from anyio.lowlevel import EventLoopToken

from .. import trace
from ..blocking import BlockingSSEWriter, mailbox_of
from ..errors import H3Error, TooManyStreams
from ..event import H3Event
from ..lifecycle import Lifecycle, State
from ..writer import SSEWriter
from . import threads
from .direct import Running
from .parking import current_task_id
from .threads import ThreadUse

CALLBACK_TOO = (
    "a stream callback is set, and the handler asks for the writer too: one of the two would never stream; "
    "keep the callback and return, or keep the await and set none"
)
CUT_SHORT = (
    "the stream's opening was cancelled half-way, and there is only one: put a time limit around all that the handler "
    "does with its stream, not around await event.await_sse_writer() alone"
)


class Opener(Protocol):
    """What an opening asks of its exchange."""

    lifecycle: Lifecycle
    event: H3Event

    task: int

    @property
    def running(self) -> Running: ...

    @property
    def uses_thread(self) -> bool: ...

    @property
    def loop_thread(self) -> int: ...

    @property
    def threads(self) -> ThreadUse: ...

    @property
    def token(self) -> EventLoopToken: ...

    def get_writer(self) -> SSEWriter: ...

    def close_failed(self, error: Exception) -> None: ...


class Opening:
    """A stream's opening: by the handler's own call, in the order of a flow. Each call names its exchange.

    Attributes:
        awaited: what `event.await_sse_writer()` does while the handler runs; None if it is rejected.
        blocking: what `event.start_sse_blocking()` does while the handler runs; None if it is rejected.
        failure: why the stream can't be opened, until that is reported.
    """

    __slots__ = ("_over", "_task", "awaited", "blocking", "failure")

    def __init__(self) -> None:
        self.awaited: Callable[[Any], Awaitable[SSEWriter]] | None = None
        self.blocking: Callable[[Any], Awaitable[BlockingSSEWriter]] | None = None
        self.failure: Exception | None = None
        self._task = -1  # the task that opens it, while that is under way
        self._over: anyio.Event | None = None  # where the others wait for the end of that; made by the first of them

    def keep_failure(self, exchange: Opener, error: BaseException) -> None:
        """A step of the opening failed: keep the reason, for later callers and for the report at the end.

        A cancellation before the head decides nothing yet: the handler may go on, or the server may be shutting down.
        Once the head was let out, no other answer is possible: code that has the writer, or asks for it, must hear that
        it failed.
        """
        if exchange.lifecycle.state is State.CLOSED:
            return  # the cause is known, and this is what came of it
        if isinstance(error, Exception):
            self.failure = error
            exchange.close_failed(error)
        else:
            self.failure = H3Error(CUT_SHORT)
            if exchange.lifecycle.state is not State.SSE_STARTED:
                exchange.close_failed(self.failure)

    def raise_failure(self) -> None:
        """Raise why the stream can't be opened, if that is known."""
        if self.failure is not None:
            raise self.failure

    async def open(self, exchange: Opener) -> SSEWriter:
        """Do what `event.await_sse_writer()` promises."""
        if self._task != -1 and self._task != current_task_id():
            if self._over is None:
                self._over = anyio.Event()
            await self._over.wait()
        state = exchange.lifecycle.state
        if state is not State.REQUESTED:
            self.raise_failure()
        if state is not State.SSE_STARTED or self._task != -1 or self.awaited is None:
            # It is open; or the call is rejected: a hook of the opening made it, or this flow hands over no writer.
            return exchange.get_writer()
        if exchange.event.stream_callback is not None:
            raise H3Error(CALLBACK_TOO)
        if exchange.uses_thread:  # which is the one that asks, by anyio.from_thread.run
            self._count_thread_as_stream(exchange)
        writer: SSEWriter = await self._run(exchange, trace.AWAIT_SSE_WRITER, self.awaited)
        return writer

    def open_blocking(self, exchange: Opener) -> BlockingSSEWriter:
        """Do what `event.start_sse_blocking()` promises."""
        if threading.get_ident() == exchange.loop_thread:
            if not threads.HAS_THREADS:
                raise RuntimeError(
                    "start_sse_blocking() needs a thread to block, and there are none here, as in a browser: "
                    "call start_sse() and set_stream_callback(callback)"
                )
            raise RuntimeError(
                "start_sse_blocking() would block the event loop; it is for plain def handlers: "
                "in an async def call start_sse() and await event.await_sse_writer()"
            )
        return anyio.from_thread.run(self._open_for_thread, exchange, token=exchange.token)

    async def _open_for_thread(self, exchange: Opener) -> BlockingSSEWriter:
        if exchange.lifecycle.state is State.CLOSED:
            exchange.lifecycle.take(trace.START_SSE)  # rejected
        event = exchange.event
        if self.blocking is None or event.state is not State.REQUESTED:
            event.start_sse()  # rejected before a thread is counted, if it is not the first
            return BlockingSSEWriter(event.get_sse_writer())  # rejected, as above
        if event.stream_callback is not None:
            raise H3Error(CALLBACK_TOO)
        self._count_thread_as_stream(exchange)
        writer: BlockingSSEWriter = await self._run(exchange, trace.START_SSE_BLOCKING, self.blocking)
        mailbox_of(writer).make_room()  # now, or it would ask for that with its first event
        return writer

    async def _run(self, exchange: Opener, step: trace.Step, order: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do what the handler's call does in this flow; meanwhile other tasks wait for its end."""
        self._task = exchange.task if exchange.running.turn > 0 else current_task_id()
        try:
            exchange.lifecycle.take(step)
            return await order(exchange)
        finally:
            self._task = -1
            if self._over is not None:
                self._over.set()
                self._over = None

    def _count_thread_as_stream(self, exchange: Opener) -> None:
        """If there is no thread, the handler may still answer otherwise; if it does not, that failure is the answer."""
        try:
            exchange.threads.count_as_stream()
        except TooManyStreams as error:
            self.failure = error
            raise
