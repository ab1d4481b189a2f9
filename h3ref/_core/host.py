"""`Host`: an exchange as its event, its stream and the server see it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

import anyio
import anyio.from_thread
from anyio.lowlevel import EventLoopToken

from .. import trace
from ..blocking import BlockingSSEWriter
from ..connection import Connection, Transport
from ..errors import BodyTimeout, BodyTooLarge, H3Error, TooManyStreams, Unanswered
from ..event import H3Event
from ..lifecycle import Lifecycle, Reason, State
from ..stats import Access, Stats
from ..writer import SSEWriter
from .answer import Answer
from .cleanup import Cleanup
from .deadlines import Due
from .expiry import Expiry
from .opening import Opening
from .parking import current_task_id, now
from .router import Handler
from .shared import Shared
from .stream import Stream
from .threads import ThreadUse

log = logging.getLogger("h3ref.exchange")

BODY_TOO_LATE = (
    "the headers are on their way, and from then on the request's body is thrown away: "
    "await event.read_body() or read_json() before the stream opens"
)


class Host:
    """One request with its response: what belongs to it, and what comes to it from outside.

    Args:
        service: what it shares with the server's other exchanges.
        transport: the request, and the way back to its client.
        number: how many exchanges there have been, this one included.
        context: that of the asyncio task made for it; None if another task runs it.
        handler: answers it in place of the app's routes; None where they do.

    Attributes:
        answer: the status, headers and plain body, as the handler has set them.
        connection: the stream's, from the moment it is created.
        event: what the handler gets, until the exchange is over.
        context: the stream's: what other tasks start for it runs in this one, and not in theirs.
        source: what will stream, if that is known and is not the event's callback.
        keep_alive: seconds of silence after which its stream, once open, is shown alive; None for never.
        comment: makes the bytes that show it; None for the usual comment.
        farewell: the bytes of an event that its stream gets last when the server shuts down; None for none.
        send_timeout: seconds within which its reader has to take some of what waits, or it is cut; None for never.
        expiry: when its stream's permission is over; None if it has no limit.
        task: the number of the task that answers the request, and streams.
        stream: the events on their way to the connection, from the moment the head is on its way.
        writer: the stream's face, from the same moment.
    """

    __slots__ = (
        "_answered",
        "_cleanup",
        "_has_begun",
        "_opening",
        "_own_context",
        "_response_hooks",
        "_threads",
        "answer",
        "comment",
        "connection",
        "context",
        "event",
        "expiry",
        "farewell",
        "handler",
        "keep_alive",
        "lifecycle",
        "send_timeout",
        "service",
        "source",
        "stream",
        "task",
        "transport",
        "writer",
    )

    def __init__(
        self,
        service: Shared,
        transport: Transport,
        number: int,
        context: Context | None = None,
        handler: Handler | None = None,
    ) -> None:
        self.service = service
        self.transport = transport
        self.lifecycle = Lifecycle(service.trace, number, service.clock)
        self.answer = Answer()
        self.event = H3Event(self, transport.request)
        hooks = service.app.response_hooks
        self._response_hooks = iter(hooks) if hooks else ()  # each runs once, even when one of them fails
        # Runs the user's code, which a disconnect, or a close from outside, cancels.
        self._cleanup = Cleanup(self.event, service.limits.cleanup_timeout, self._end_beside)
        self._own_context = context
        self.handler = handler
        self.context: Context
        self._threads: ThreadUse | None = None  # made when one is first needed
        self._opening = Opening()
        self.connection: Connection | None = None
        self.stream: Stream | None = None
        self.writer: SSEWriter | None = None
        self.source: object = None
        self.keep_alive = service.limits.stream_keep_alive
        self.farewell = service.farewell
        self.send_timeout = service.limits.send_timeout
        self.comment: Callable[[], bytes | None] | None = None
        self.expiry: Expiry | None = None
        self.task = -1
        self._has_begun = False  # whether its request was recorded
        self._answered = (0, 0)  # the status that was sent, and the bytes of the head, or of the whole plain answer

    # -- what it is

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        return self.lifecycle.state

    @property
    def has_head(self) -> bool:
        """Whether the head of its answer is on its way, or was sent."""
        return self.writer is not None or self._answered[0] > 0

    @property
    def event_count(self) -> int:
        """Events that its stream has taken."""
        return 0 if self.stream is None else self.stream.event_count

    @property
    def byte_count(self) -> int:
        """Bytes of its answer that were taken for sending so far."""
        return self._answered[1] + (0 if self.stream is None else self.stream.byte_count)

    def describe(self, client: str, seconds: float) -> Access:
        """What the access log says about it, once it is over."""
        method, path = self.event.method, self.event.target.partition("?")[0]
        reason = self.lifecycle.reason
        assert reason is not None, "an exchange that is over is closed"
        size = self.byte_count
        return Access(client, method, path, self._answered[0], reason.value, self.event_count, size, seconds)

    # -- from outside

    def begin(self) -> None:
        """Record the request, once and before all else: a server may cancel a task that has not run at all."""
        if not self._has_begun:
            self._has_begun = True
            request = f"{self.event.method} {self.event.target}" if self.lifecycle.traced else None
            self.lifecycle.take(trace.REQUEST, detail=request)

    def disconnect(self) -> None:
        """The client has left: the callback is cancelled now, and cleans up; a thread learns of it at its next send."""
        if threading.get_ident() != self.service.loop_thread:
            anyio.from_thread.run_sync(self.disconnect, token=self.token)
        elif self.state is not State.CLOSED:
            self._close(trace.DISCONNECT)
            self._cancel()

    def shut_down(self) -> None:
        """The server is shutting down: a stream gets its proper end, an exchange without headers yet a 503."""
        if self.farewell is not None and self.stream is not None:
            self.stream.say_farewell(self.farewell)
        self.stop(Reason.SHUTDOWN)

    def expire(self) -> None:
        """The stream's permission is over: it gets its last event, and its proper end."""
        if self.expiry is not None and self.expiry.farewell is not None and self.stream is not None:
            self.stream.say_farewell(self.expiry.farewell)
        self.stop(Reason.TIMEOUT, detail="expired")

    def stop(self, reason: Reason, *, detail: str | None = None) -> None:
        """Close the stream, or the request, and cancel what runs for it; a thread learns of it at its next send."""
        if self.state is not State.CLOSED:
            self._close(trace.CLOSES, reason=reason, detail=detail)
            self._cancel()

    def cancel_from_outside(self) -> None:
        """Cancel what streams, unless it makes this call itself: a close by its own task is its own affair."""
        if current_task_id() != self.task:
            self._cancel()

    def _cancel(self) -> None:
        """Cancel what streams; the client, and all that its stream holds, do not wait for a thread to learn of it."""
        self._cleanup.cancel()
        if self.uses_thread and self.stream is not None:
            self.service.streams.end_soon(self.stream)

    def release(self) -> None:
        """The stream has ended, while its thread may never end: nothing held for the client waits for that."""
        if self.connection is not None:
            self.service.streams.discard(self.connection)
        try:
            self.transport.release()
        except Exception:  # this is called in the task that looks after all other streams, too
            log.exception("release() of %r raised; the server goes on", self.transport)

    def cancel(self) -> None:
        """The server is cancelled from outside: whatever waits is cancelled, and the stream ends in order."""
        self.begin()
        self.stop(Reason.SHUTDOWN)
        self._cleanup.cancel()  # even the code of a handler that has answered and still runs

    def abandon(self, within: float = 0.0) -> None:
        """The time is up: leave a worker thread to itself, and give code that cleans up no more than some seconds."""
        self._cleanup.hurry(within)
        self._cleanup.cancel()
        self._abandon_threads()

    def _abandon_threads(self) -> None:
        if self._threads is not None:
            self._threads.abandon()

    def _end_beside(self) -> None:
        """What was cancelled is cleaning up: the client, if there still is one, need not wait for that."""
        if self.state is State.CLOSED and self.lifecycle.reason is not Reason.CLIENT_GONE and self.stream is not None:
            self.service.streams.end_soon(self.stream)

    # -- closing

    def keep_nothing(self) -> None:
        """It is over: drop what refers back to it, or both would stay until the garbage collector finds the cycle."""
        self.stream = self.writer = self.connection = None
        del self.event

    def close_failed(self, error: Exception) -> None:
        gave_up = isinstance(error, Unanswered | TooManyStreams)
        self._close(trace.GIVES_UP if gave_up else trace.FAILS, detail=type(error).__name__)

    def _close(self, step: trace.Step, *, reason: Reason | None = None, detail: str | None = None) -> None:
        """Take a step that closes the exchange, with its stream if there is one."""
        if self.stream is not None:
            self.stream.take_last(step, reason=reason, detail=detail)
        else:
            self.lifecycle.take(step, reason=reason, detail=detail)

    # -- what an H3Event asks of it

    @property
    def running(self) -> Cleanup:
        """What streams, as it runs."""
        return self._cleanup

    @property
    def threads(self) -> ThreadUse:
        """The worker threads that it uses."""
        if self._threads is None:
            self._threads = ThreadUse(self.service.threads, self.lifecycle)
        return self._threads

    @property
    def uses_thread(self) -> bool:
        """Whether any of its code runs on a worker thread, which can't be cancelled."""
        return self._threads is not None and self._threads.is_running

    def rest(self) -> None:
        """No thread is needed for now."""
        if self._threads is not None:
            self._threads.rest()

    @property
    def loop_thread(self) -> int:
        """The thread of the event loop."""
        return self.service.loop_thread

    @property
    def token(self) -> EventLoopToken:
        """The event loop's, for a thread that anyio did not start."""
        return self.service.token

    @property
    def is_one_of_several(self) -> bool:
        return self.service.is_one_of_several

    def stats(self) -> Stats:
        return self.service.stats()

    async def all_stats(self) -> list[Stats]:
        return await self.service.all_stats()

    def when_waiting(self, call: Callable[[], None]) -> None:
        self._cleanup.add(call)

    def call_after(self, due: Due, seconds: float) -> None:
        self.service.streams.add_deadline(due, seconds)

    def call_never(self, due: Due, seconds: float) -> None:
        self.service.streams.discard_deadline(due, seconds)

    def set_expiry(self, seconds: float, skew: float | None, farewell: bytes | None) -> None:
        if threading.get_ident() != self.service.loop_thread:
            with suppress(anyio.RunFinishedError):  # the loop has ended, and all streams with it
                anyio.from_thread.run_sync(self.set_expiry, seconds, skew, farewell, token=self.token)
        else:
            self.expiry = Expiry(now() + seconds, skew, farewell)
            if self.connection is not None:
                self.service.streams.expiry_changed(self.connection)

    def header_ignored(self, name: str) -> None:
        self.service.header_ignored(name)

    def will_stream(self) -> None:
        """Only a stream or a failure can be the answer: a client that leaves is noticed from now on."""
        self.transport.watch(self.disconnect)

    def stream_started(self) -> None:
        self._opening.failure = None  # there was no thread for a stream, and this is another way to have one
        self.transport.watch(self.disconnect)
        if self.service.stopping and threading.get_ident() == self.service.loop_thread:
            self._cleanup.cancel()  # for code that waits from here on; any other, such as a thread, gets no connection

    def get_writer(self) -> SSEWriter:
        self.lifecycle.take(trace.GET_SSE_WRITER)
        assert self.writer is not None, "headers are sent only through a connection, which has its writer"
        return self.writer

    def open_stream(self) -> Coroutine[Any, Any, SSEWriter]:
        return self._opening.open(self)

    def open_stream_blocking(self) -> BlockingSSEWriter:
        return self._opening.open_blocking(self)

    async def stream_on_thread(self, function: Callable[..., Any], *args: Any) -> None:
        self.threads.count_as_stream()
        await self.threads.run(function, *args)

    def fail(self, error: Exception) -> None:
        """What streams can't go on, since a step beside it has failed: it is cancelled, and the error is reported."""
        self._opening.keep_failure(self, error)
        self._cleanup.cancel()
        self._abandon_threads()

    def tell_thread_ended(self, call: Callable[[], None]) -> bool:
        return self._threads is not None and self._threads.tell_ended(call)

    async def read_body(self) -> bytes:
        if self.has_head:
            raise H3Error(BODY_TOO_LATE)
        try:
            return await self.transport.read_body()
        except (BodyTooLarge, BodyTimeout) as error:
            self.service.refused["body_size" if isinstance(error, BodyTooLarge) else "body_timeout"] += 1
            raise
