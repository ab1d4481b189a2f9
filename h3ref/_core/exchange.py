"""`Exchange`: one request with its response, and the steps that a flow puts in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
from anyio.lowlevel import EventLoopToken

from .. import trace
from ..blocking import BlockingSSEWriter
from ..connection import Connection, StreamHead, Transport
from ..errors import (
    BodyTimeout,
    BodyTooLarge,
    ChannelClosed,
    H3Error,
    LifecycleError,
    RequestError,
    ShuttingDown,
    TooManyStreams,
    Unanswered,
)
from ..event import H3Event, StreamCallback
from ..lifecycle import Lifecycle, Reason, State
from ..stats import Access, Stats
from ..writer import SSEWriter
from .callables import is_async, is_over, name_of
from .cleanup import Cleanup
from .failure import failure_of, is_rejection, parts_of
from .parking import current_task_id, loop_context
from .router import Handler
from .threads import ThreadUse

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("h3ref.exchange")

NOBODY_WRITES = (
    "start_sse() was called, but nobody will write: set a stream callback with event.set_stream_callback(callback) "
    "before the handler returns, or take the writer with await event.await_sse_writer()"
)
CALLBACK_TOO = (
    "a stream callback is set, and the handler asks for the writer too: one of the two would never stream; "
    "keep the callback and return, or keep the await and set none"
)
BODY_TOO_LATE = (
    "the headers are on their way, and since then the request's body is thrown away: "
    "await event.read_body() or read_json() before the stream opens"
)
CUT_SHORT = (
    "the stream's opening was cancelled half-way, and there is only one: put a time limit around all that the handler "
    "does with its stream, not around await event.await_sse_writer() alone"
)
OPENED_BEFORE = "an exchange has one connection, and this one has had its own: a flow creates it once"
NEVER_STARTED = "a stream callback was set, but start_sse() was never called: call event.start_sse() in the handler"
NOTHING_SENT = "the handler returned without an answer: call event.send_text() or another send, or event.start_sse()"


Flow = Callable[["Exchange"], Awaitable[None]]
"""The order of a whole exchange; what `running(app, flow=...)` takes. They stand in flows.py."""


class Opening:
    """A stream's opening while it is under way: whose it is, and where the others wait for its end."""

    __slots__ = ("over", "task")

    def __init__(self) -> None:
        self.task = current_task_id()
        self.over = anyio.Event()


class Exchange:
    """One request with its response. The methods in the first part are the steps of flows."""

    __slots__ = (
        "_answered",
        "_callers",
        "_cleanup",
        "_connection",
        "_failure",
        "_opening",
        "_response_hooks",
        "_task",
        "_threads",
        "_writer",
        "context",
        "event",
        "lifecycle",
        "service",
        "source",
        "transport",
    )

    def __init__(self, service: Service, transport: Transport, number: int) -> None:
        self.service = service
        self.transport = transport
        self.lifecycle = Lifecycle(service.trace, number, service.clock)
        self.event = H3Event(self, transport.request)
        self._response_hooks = iter(service.app.response_hooks)  # each runs once, also when one of them fails
        self._callers: tuple[Callable[[Exchange], Awaitable[Any]], ...] = ()
        self._cleanup: Cleanup  # runs the user's code; what a disconnect, or a close from outside, cancels
        self.context: Context  # the stream's: what others start for it runs in this one, and not in theirs
        self._threads = ThreadUse(service.threads, self.lifecycle)
        self._connection: Connection | None = None  # the stream's
        self._writer: SSEWriter | None = None  # from the moment the head is on its way
        self._opening: Opening | None = None  # while the stream is opened
        self._failure: Exception | None = None  # why it can't be, until that is told
        self.source: object = None  # what will stream, where that is known and is no callback of the event's
        self._task = -1
        self._answered = (0, 0)  # the status that was sent, and the bytes of the head, or of the whole plain answer

    # -- the steps

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        return self.lifecycle.state

    async def run_handler(
        self,
        awaited: Callable[[Exchange], Awaitable[SSEWriter]] | None = None,
        blocking: Callable[[Exchange], Awaitable[BlockingSSEWriter]] | None = None,
    ) -> None:
        """Run the hooks and the handler until it returns.

        Args:
            awaited: what `event.await_sse_writer()` does meanwhile; nothing, if left out: it is rejected.
            blocking: the same for `event.start_sse_blocking()`.
        """
        event = self.event
        self._callers = (awaited, blocking) if awaited and blocking else ()
        self.lifecycle.take(trace.REQUEST, detail=f"{event.method} {event.target}" if self.lifecycle.traced else None)
        for hook in self.service.app.request_hooks:
            await self._call(hook, event)
        if self.state is State.REQUESTED:
            handler, event.params, allowed = self.service.app.match(event.method, event.target.partition("?")[0])
            if handler is not None:
                await self._call(handler, event)
            elif allowed:
                event.set_header("Allow", ", ".join(allowed))
                event.send_error(405)
            else:
                event.send_error(404)
        self._callers = ()
        self.lifecycle.take(trace.RETURNS)

    def check_sse_started(self) -> None:
        """Look whether the handler asked for a stream, and there is one; what follows is rejected if not.

        Raises:
            ConnectionLost: what was to stream is over: it is complete before its head, and the client gets a 204.
            Exception: its opening has failed before, with this; there is no second one.
        """
        if self._failure is not None:
            raise self._failure
        self.lifecycle.take(trace.CHECKS_SSE_STARTED)
        if is_over(self.source or self.event.stream_callback):
            self._close(trace.CLOSES)
            self.lifecycle.trigger("send_headers")  # rejected

    def take_callback(self) -> StreamCallback:
        """Return the stream callback, with a thread set aside for it if it is a plain def.

        Raises:
            Unanswered: there is none, so nobody would ever write: a 500 now, not silence for ever.
            TooManyStreams: there is no thread for it.
        """
        stream = self.event.stream_callback
        if stream is None:
            raise Unanswered(NOBODY_WRITES)
        if not is_async(stream):
            self._threads.count_as_stream()
        return stream

    def create_connection(self) -> Connection:
        """Let the adapter create the connection, which can send nothing but the headers yet.

        Raises:
            TooManyStreams: as many are open as the server allows.
            ConnectionLost: the server is shutting down; who waits for the stream is told so, and the client gets a 503.
            H3Error: a flow creates a second one.
        """
        try:
            return self._create_connection()
        except BaseException as error:
            self._keep_failure(error)
            raise

    def _create_connection(self) -> Connection:
        if self._connection is not None:
            raise H3Error(OPENED_BEFORE)
        if self.service.stopping:
            self.shut_down()
            self.lifecycle.trigger("send_headers")  # rejected, as it would be once the connection were there
        self.service.streams.check()
        self.lifecycle.take(trace.CREATES_CONNECTION)
        self.context = loop_context()
        self._connection = self.transport.create_connection()
        self.service.streams.add(self._connection, self)
        return self._connection

    async def send_headers(self, connection: Connection, head: StreamHead | None = None) -> int:
        """Send the head and return its size in bytes; for a HEAD request that is all there is to send.

        Raises:
            ConnectionLost: the client has left meanwhile, or the server ends.
            WriteError: the adapter can't send it.
            Exception: what an on_response hook raised.
        """
        try:
            return await self._send_headers(connection, head)
        except BaseException as error:
            failure = failure_of(error)
            self._keep_failure(failure)
            if failure is error:
                raise
            raise failure from error

    async def _send_headers(self, connection: Connection, head: StreamHead | None) -> int:
        if head is None:
            for hook in self._response_hooks:
                await self._call(hook, self.event, is_hook=True)
            head = StreamHead(self.event.stream_headers())
        self._threads.rest()
        writer = self._begin_stream(connection)
        try:
            size = await connection.send_headers(head)
        except BaseException:
            writer.drop_body()
            raise
        self._answered = (200, size)
        self.lifecycle.take(trace.HEADERS, size=size)
        if self.event.method == "HEAD":
            writer.drop_body()
            self.lifecycle.take(trace.CLOSES)
        else:
            writer.follow_head()
        return size

    def _begin_stream(self, connection: Connection) -> SSEWriter:
        """The writer is there before the machine says so, since other threads may ask for it then."""
        writer = self._writer = SSEWriter(self.event, self.lifecycle, connection, self._interrupt)
        try:
            self.lifecycle.take(trace.SENDS_HEADERS)
        except LifecycleError:
            self._writer = None
            raise
        return writer

    def connection_ready(self, connection: Connection) -> SSEWriter:
        """Return the writer that belongs to the connection; the machine still says who may have it.

        Raises:
            ConnectionNotReady: the headers have not been sent; rejected as a handler that asks too early is.
        """
        self.lifecycle.take(trace.CONNECTION_READY)
        if self._writer is None:  # the flow has its order wrong; the machine says so, and the trace keeps it
            return self.event.get_sse_writer()
        return self._writer

    def hand_over(self, writer: SSEWriter) -> SSEWriter:
        """Give the writer to the handler that waits for it."""
        self.lifecycle.take(trace.HANDS_OVER_WRITER)
        return writer

    async def run_callback(self, stream: StreamCallback, writer: SSEWriter) -> None:
        """Call the callback with the writer, and wait until it returns."""
        self.lifecycle.take(trace.SCHEDULES_CALLBACK)
        self.lifecycle.take(trace.CALLS_CALLBACK)
        function: Callable[[Any], Any] = stream  # which takes the writer of its kind
        if is_async(function):
            await function(writer)
        else:
            await self._threads.run(function, BlockingSSEWriter(writer))

    async def wait_until_closed(self) -> None:
        """Wait for the client to leave or the server to end: nobody else will close this one."""
        if self.state is not State.CLOSED:  # as after the head for a HEAD
            await anyio.sleep_forever()

    async def close(self) -> None:
        """End what is still open when handler and callback have returned; send a plain answer.

        Raises:
            Unanswered: nothing was sent, and nothing ever will be.
            Exception: the stream could not be opened, for this reason, and the handler has returned all the same.
        """
        if self._failure is not None and self.state is not State.CLOSED:
            raise self._failure
        if self.state is State.REQUESTED:
            raise Unanswered(NEVER_STARTED if self.event.stream_callback else NOTHING_SENT)
        if self.state is State.CLOSED:
            await self._respond()
        elif self._writer is not None and self._writer.cut_short:
            self._close(trace.FAILS, detail="cancelled")
        else:
            self._close(trace.CLOSES)

    # -- its figures

    @property
    def event_count(self) -> int:
        """Events that its stream has taken."""
        return 0 if self._writer is None else self._writer.event_count

    @property
    def byte_count(self) -> int:
        """Bytes of its answer, as far as they were taken for sending."""
        return self._answered[1] + (0 if self._writer is None else self._writer.byte_count)

    def describe(self, client: str, seconds: float) -> Access:
        """What the access log says of it, once it is over."""
        method, path = self.event.method, self.event.target.partition("?")[0]
        reason = self.lifecycle.reason
        assert reason is not None, "an exchange that is over is closed"
        size = self.byte_count
        return Access(client, method, path, self._answered[0], reason.value, self.event_count, size, seconds)

    # -- from outside

    def disconnected(self) -> None:
        """The client has left: the callback is cancelled now, and cleans up; a thread learns of it at its next send."""
        if threading.get_ident() != self.service.loop_thread:
            anyio.from_thread.run_sync(self.disconnected, token=self.token)
        elif self.state is not State.CLOSED:
            self.lifecycle.take(trace.DISCONNECT)
            if self._writer is not None:
                self._writer.wind_up(Reason.CLIENT_GONE)
            self._stop()

    def shut_down(self) -> None:
        """The server ends: a stream gets its proper end, what has no headers yet a 503."""
        if self.service.farewell is not None and self._writer is not None and self._writer.is_active:
            self._writer.wind_up()
            self._writer.offer_encoded(self.service.farewell)
        self.end_stream(Reason.SHUTDOWN)

    def end_stream(self, reason: Reason) -> None:
        """Our side ends the stream, or gives up the request; a thread learns of it at its next send."""
        if self.state is not State.CLOSED:
            self._close(trace.CLOSES, reason=reason)
            self._stop()

    def _stop(self) -> None:
        """Cancel what streams; the client, and all that its stream holds, do not wait for a thread to learn of it."""
        self._cleanup.cancel()
        if self.uses_thread:
            self.service.streams.end_soon(self)

    def let_client_go(self) -> None:
        """The stream has come to its end, while its thread may never do so: nothing of the client's waits for that."""
        if self._connection is not None:
            self.service.streams.discard(self._connection)
        self.transport.release()

    def cancel(self) -> None:
        """The server is cancelled from outside: whatever waits is cancelled, and the stream ends in order."""
        self.end_stream(Reason.SHUTDOWN)
        self._cleanup.cancel()  # also of a handler that has answered, and still runs

    def abandon(self, within: float = 0.0) -> None:
        """The time is up: leave a worker thread to itself, and give what cleans up no more than some seconds."""
        self._cleanup.hurry(within)
        self._cleanup.cancel()
        self._threads.abandon()

    def _end_beside(self) -> None:
        """What was cancelled is cleaning up: the client, if there still is one, need not wait for that."""
        if self.state is State.CLOSED and self.lifecycle.reason is not Reason.CLIENT_GONE:
            self.service.streams.end_soon(self)

    # -- what an H3Event asks of it

    @property
    def close_timeout(self) -> float:
        return self.service.limits.close_timeout

    @property
    def stream_buffer(self) -> int:
        return self.service.limits.stream_buffer

    @property
    def uses_thread(self) -> bool:
        """Whether something of it runs on a worker thread, which can't be cancelled."""
        return self._threads.is_running

    @property
    def loop_thread(self) -> int:
        """The thread of the event loop."""
        return self.service.loop_thread

    @property
    def token(self) -> EventLoopToken:
        """The event loop's, for a thread that anyio did not start."""
        return self.service.token

    @property
    def task(self) -> int:
        """The number of the task that answers the request, and streams."""
        return self._task

    @property
    def stream_writer(self) -> SSEWriter | None:
        """The stream's writer, from the moment the head is on its way."""
        return self._writer

    def stats(self) -> Stats:
        return self.service.stats()

    def header_ignored(self, name: str) -> None:
        self.service.header_ignored(name)

    def stream_started(self) -> None:
        self._failure = None  # there was no thread for a stream, and this is another way to have one
        self.transport.watch(self.disconnected)
        if self.service.stopping and threading.get_ident() == self.service.loop_thread:
            self._cleanup.cancel()  # for who waits from here on; anybody else, as a thread, gets no connection

    async def open_stream(self) -> SSEWriter:
        if self._opening is not None and self._opening.task != current_task_id():
            await self._opening.over.wait()
        if self._failure is not None and self.state is not State.REQUESTED:
            raise self._failure
        if self.state is not State.SSE_STARTED or self._opening is not None or not self._callers:
            # It is open; or rejected, since a hook of its opening asks, or this flow never hands a writer over.
            return self.event.get_sse_writer()
        if self.event.stream_callback is not None:
            raise H3Error(CALLBACK_TOO)
        if self.uses_thread:  # which is the one that asks, by anyio.from_thread.run
            self._count_thread_as_stream()
        writer: SSEWriter = await self._open(trace.AWAIT_SSE_WRITER, self._callers[0])
        return writer

    def open_stream_blocking(self) -> BlockingSSEWriter:
        if threading.get_ident() == self.service.loop_thread:
            raise RuntimeError(
                "start_sse_blocking() would block the event loop; it is for plain def handlers: "
                "in an async def call start_sse() and await event.await_sse_writer()"
            )
        return anyio.from_thread.run(self._open_for_thread, token=self.token)

    async def _open_for_thread(self) -> BlockingSSEWriter:
        if not self._callers or self.state is not State.REQUESTED:
            self.event.start_sse()  # rejected before a thread is counted, if it is not the first
            return BlockingSSEWriter(self.event.get_sse_writer())  # rejected, as above
        if self.event.stream_callback is not None:
            raise H3Error(CALLBACK_TOO)
        self._count_thread_as_stream()
        writer: BlockingSSEWriter = await self._open(trace.START_SSE_BLOCKING, self._callers[1])
        return writer

    async def _open(self, step: trace.Step, caller: Callable[[Exchange], Awaitable[Any]]) -> Any:
        """Do what the handler's call does in this flow; meanwhile other tasks wait for its end."""
        opening = self._opening = Opening()
        try:
            self.lifecycle.take(step)
            return await caller(self)
        finally:
            self._opening = None
            opening.over.set()

    def _count_thread_as_stream(self) -> None:
        """Where there is no thread, the handler may still answer otherwise; if it does not, this is the answer."""
        try:
            self._threads.count_as_stream()
        except TooManyStreams as error:
            self._failure = error
            raise

    def _keep_failure(self, error: BaseException) -> None:
        """A step of the opening was not taken to its end: keep why, for all who ask, and for who is told at the end.

        A cancellation decides nothing yet: the handler may go on, or it is the server that ends.
        """
        if self.state is State.CLOSED:
            return  # the cause is known, and this is what came of it
        if isinstance(error, Exception):
            self._failure = error
            self._close_failed(error)
        else:
            self._failure = H3Error(CUT_SHORT)

    async def stream_on_thread(self, function: Callable[..., Any], *args: Any) -> None:
        self._threads.count_as_stream()
        await self._threads.run(function, *args)

    def stop(self, error: Exception) -> None:
        """What streams can't go on, since a step beside it has failed: it is cancelled, and the error is told."""
        self._keep_failure(error)
        self._cleanup.cancel()
        self._threads.abandon()

    def run_beside_thread(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> bool:
        return self._threads.run_beside(function, *args)

    async def read_body(self) -> bytes:
        if self._writer is not None:
            raise H3Error(BODY_TOO_LATE)
        try:
            return await self.transport.read_body()
        except (BodyTooLarge, BodyTimeout) as error:
            self.service.refused["body_size" if isinstance(error, BodyTooLarge) else "body_timeout"] += 1
            raise

    # -- from the first step to the last

    async def run(self) -> None:
        """Run the flow; whichever way it goes, the lifecycle ends in closed and the connection with it."""
        self._task = current_task_id()
        self._cleanup = Cleanup(self.event, self.service.limits.cleanup_timeout, self._end_beside)
        try:
            await self._cleanup.run(self.service.flow(self))
        except BaseException as error:
            failure = failure_of(error)
            if not isinstance(failure, Exception):
                raise
            await self._fail(failure)
        finally:
            try:
                if self._failure is not None and self.lifecycle.reason is Reason.ERROR:
                    await self._fail(self._failure)  # nobody has let it out
                await self._end()
            finally:
                self._threads.release()
                if self._connection is not None:
                    self.service.streams.discard(self._connection)

    async def _fail(self, error: Exception) -> None:
        if self.state is State.CLOSED and is_rejection(error) and self._ended_by_others:
            log.debug("%r: %s", self.event, error)  # it was told that the stream is over, and has left
            return
        kept, self._failure = self._failure, None
        if kept is None or self.lifecycle.reason is not Reason.ERROR:
            self._log(error)
        else:  # it has closed the exchange, so it is what the client is told
            self._log(kept)
            if error is not kept:
                self._log_consequence(error, kept)
            error = kept
        with anyio.move_on_after(self.close_timeout, shield=True) as bounded:
            await self._call_quietly(self.service.app.error_hooks, self.event, error)
        if bounded.cancelled_caught:
            log.warning("%r: an on_error hook was given up after %g s", self.event, self.close_timeout)
        if error is not kept or self.state is not State.CLOSED:
            self._close_failed(error)
        if self._writer is None and self.lifecycle.reason is Reason.ERROR:
            self.event.fail_with(error)

    def _log(self, error: Exception) -> None:
        if isinstance(error, RequestError | TooManyStreams):
            log.info("%r: %s", self.event, error)
        elif isinstance(error, ChannelClosed) and self._writer is not None:  # as often as a client comes back
            log.warning("%r is cut: %s", self.event, error)
        else:
            log.error("%r raised %s", self.event, type(error).__name__, exc_info=error)

    def _log_consequence(self, error: Exception, first: Exception) -> None:
        """Log what came out of the handler after a failure of its stream's opening, unless it says nothing new."""
        if is_rejection(error) or first in parts_of(error):
            log.debug("%r: %s", self.event, error)
        else:
            log.error("%r then raised %s", self.event, type(error).__name__, exc_info=error)

    @property
    def _ended_by_others(self) -> bool:
        """Whether it is no mistake of the handler's or callback's own that the stream is over."""
        return self.lifecycle.reason not in (Reason.RESPONDED, Reason.ERROR)

    async def _end(self) -> None:
        """Close what is open and bring the connection to its end; shielded, so every wait is bounded."""
        if self.state is not State.CLOSED:
            self._close(trace.CLOSES, reason=Reason.SHUTDOWN)  # cancelled from further out: the server ends
        if self._writer is not None:
            await self._writer.end()
            return
        if self.lifecycle.reason is Reason.COMPLETE:
            self.event.end_unopened()
        elif self.lifecycle.reason not in (Reason.RESPONDED, Reason.ERROR, Reason.CLIENT_GONE):
            self.event.fail_with(ShuttingDown())
        with anyio.move_on_after(self.close_timeout, shield=True) as bounded:
            await self._respond()
        if bounded.cancelled_caught:
            log.warning("%r: the answer was given up after %g s", self.event, self.close_timeout)

    def _close_failed(self, error: Exception) -> None:
        gave_up = isinstance(error, Unanswered | TooManyStreams)
        self._close(trace.GIVES_UP if gave_up else trace.FAILS, detail=type(error).__name__)

    def _close(self, step: trace.Step, *, reason: Reason | None = None, detail: str | None = None) -> None:
        if self._writer is not None:
            self._writer.wind_up(reason)
        self.lifecycle.take(step, reason=reason, detail=detail)

    async def _respond(self) -> None:
        """Send the plain response, if there is one that has not been sent."""
        if self.event.answered and self.lifecycle.reason is not Reason.CLIENT_GONE:
            await self._call_quietly(self._response_hooks, self.event)
            self._threads.rest()
            response, size = self.event.take_response(), 0
            status, sending = response.status, self.transport.send_response(response)
            del response  # its body is the adapter's alone, which may have to let go of it at once
            try:
                size = await sending
            finally:  # given up, it has ended all the same
                self._answered = (status if size else 0, size)
                self.lifecycle.take(trace.RESPONSE, size=size)

    # -- calls

    async def _call(self, function: Callable[..., Any], *args: Any, is_hook: bool = False) -> None:
        if is_async(function):
            self._threads.rest()
            await function(*args)
        else:
            await self._threads.run(function, *args, is_hook=is_hook)

    async def _call_quietly(self, hooks: Iterable[Handler], *args: Any) -> None:
        """Call hooks whose failure must not change an answer that is decided."""
        for hook in hooks:
            try:
                if is_async(hook):
                    self._threads.rest()
                    await hook(*args)
                else:  # not shielded: who bounds the time leaves its thread to itself
                    await self._threads.run_hook(hook, *args)
            except BaseException as error:
                if not isinstance(failure_of(error), Exception):
                    raise
                log.exception("%r: hook %s raised", self.event, name_of(hook))

    def _interrupt(self) -> None:
        """A close by the task that streams is its own; by any other task it comes from outside."""
        if current_task_id() != self._task:
            self._cleanup.cancel()
