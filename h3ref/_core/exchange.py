"""`Exchange`: one request with its response, and the steps that a flow puts in order."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import anyio

from .. import trace
from ..blocking import BlockingSSEWriter, mailbox_of
from ..connection import Connection, StreamHead
from ..errors import (
    ChannelClosed,
    H3Error,
    LifecycleError,
    PermissionExpired,
    RequestError,
    ShuttingDown,
    TooManyStreams,
    Unanswered,
)
from ..event import H3Event, StreamCallback
from ..lifecycle import Reason, State
from ..writer import SSEWriter
from .callables import is_async, is_over, name_of
from .failure import failure_of, is_rejection, parts_of
from .host import Host
from .parking import loop_context, now, running_task
from .router import Handler
from .stream import Stream

log = logging.getLogger("h3ref.exchange")

NOBODY_WRITES = (
    "start_sse() was called, but nobody will write: set a stream callback with event.set_stream_callback(callback) "
    "before the handler returns, or take the writer with await event.await_sse_writer()"
)
OPENED_BEFORE = "an exchange has one connection, and this one has had its own: a flow creates it once"
NEVER_STARTED = "a stream callback was set, but start_sse() was never called: call event.start_sse() in the handler"
NOTHING_SENT = "the handler returned without an answer: call event.send_text() or another send, or event.start_sse()"


Flow = Callable[["Exchange"], Awaitable[None]]
"""The order of a whole exchange; what `running(app, flow=...)` takes. The flows are in flows.py."""


class Exchange(Host):
    """One request with its response. The methods in the first part are the steps of flows."""

    __slots__ = ()

    # -- the steps

    async def run_handler(
        self,
        awaited: Callable[[Any], Awaitable[SSEWriter]] | None = None,
        blocking: Callable[[Any], Awaitable[BlockingSSEWriter]] | None = None,
    ) -> None:
        """Run the hooks and the handler until it returns.

        Args:
            awaited: what `event.await_sse_writer()` does meanwhile; if left out, it is rejected.
            blocking: the same for `event.start_sse_blocking()`.
        """
        event = self.event
        self._opening.awaited, self._opening.blocking = awaited, blocking
        self.begin()
        for hook in self.service.app.request_hooks:
            await self._call(hook, event)
        if self.lifecycle.state is State.REQUESTED:
            handler = self.handler or self._find_handler(event)
            if handler is not None:
                await self._call(handler, event)
        self._opening.awaited = self._opening.blocking = None
        self.lifecycle.take(trace.RETURNS)

    def _find_handler(self, event: H3Event) -> Handler | None:
        """The one that the app has for the request; if it has none, that is the answer."""
        handler, event.params, allowed = self.service.app.match(event.method, event.target.partition("?")[0])
        if handler is None:
            if allowed:
                event.set_header("Allow", ", ".join(allowed))
            event.send_error(405 if allowed else 404)
        return handler

    def check_sse_started(self) -> None:
        """Check that the handler asked for a stream and that there is one; if not, what follows is rejected.

        Raises:
            ConnectionLost: what was to stream is over: it is complete before its head, and the client gets a 204.
            Exception: its opening failed earlier, with this exception; there is no second one.
        """
        self._opening.raise_failure()
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
        callback = self.event.stream_callback
        if callback is None:
            raise Unanswered(NOBODY_WRITES)
        if not is_async(callback):
            self.threads.count_as_stream()
        return callback

    def create_connection(self) -> Connection:
        """Let the adapter create the connection, which can send nothing but the headers so far.

        Raises:
            TooManyStreams: as many are open as the server allows.
            ConnectionLost: the server is shutting down; the client gets a 503, and code that waits for the stream is
                told.
            H3Error: the flow has created one already.
        """
        try:
            return self._create_connection()
        except BaseException as error:
            self._opening.keep_failure(self, error)
            raise

    def _create_connection(self) -> Connection:
        if self.connection is not None:
            raise H3Error(OPENED_BEFORE)
        if self.service.stopping:
            self.shut_down()
            self.lifecycle.trigger("send_headers")  # rejected, as it would be once the connection were there
        self.service.streams.check()
        self.lifecycle.take(trace.CREATES_CONNECTION)
        self.context = loop_context() if self._own_context is None else self._own_context
        self.connection = self.transport.create_connection()
        self.service.streams.add(self.connection)
        return self.connection

    async def send_headers(self, connection: Connection, head: StreamHead | None = None) -> int:
        """Send the head and return its size in bytes; for a HEAD request that is all there is to send.

        Raises:
            ConnectionLost: the client has left meanwhile, or the server is shutting down.
            PermissionExpired: the stream's permission is over already.
            WriteError: the adapter can't send it.
            Exception: what an on_response hook raised.
        """
        try:
            if head is None:
                for hook in self._response_hooks:
                    await self._call(hook, self.event, is_hook=True)
                head = StreamHead(self.answer.stream_headers())
            if self.expiry is not None and self.expiry.due_at <= now():
                raise PermissionExpired
            self.rest()
            stream = self._begin_stream(connection)
            try:
                if self.connection is not None:  # which a custom flow may have wrapped
                    self.service.streams.look_after(self.connection, stream)
                size = await connection.send_headers(head)
            except BaseException:
                stream.discard_body()
                raise
            self._answered = (200, size)
            self.lifecycle.take(trace.HEADERS, size=size)
            if self.event.method == "HEAD":
                stream.discard_body()
                self._close(trace.CLOSES)
            else:
                stream.follow_head()
            return size
        except BaseException as error:
            failure = failure_of(error)
            self._opening.keep_failure(self, failure)
            if failure is error:
                raise
            raise failure from error

    def _begin_stream(self, connection: Connection) -> Stream:
        """The writer is there before the machine says so, since other threads may ask for it then."""
        limits = self.service.limits
        stream = self.stream = Stream(
            self,
            self.event,
            self.lifecycle,
            connection,
            high_water=limits.stream_buffer,
            close_timeout=limits.close_timeout,
            keep_alive=self.keep_alive,
            comment=self.comment,
            send_timeout=self.send_timeout,
        )
        self.writer = SSEWriter(self.event, stream)
        try:
            self.lifecycle.take(trace.SENDS_HEADERS)
        except LifecycleError:
            self.stream = self.writer = None
            raise
        return stream

    def connection_ready(self, connection: Connection) -> SSEWriter:
        """Return the writer that belongs to the connection; the machine still says who may have it.

        Raises:
            ConnectionNotReady: the headers have not been sent; rejected, like a handler that asks too early.
        """
        self.lifecycle.take(trace.CONNECTION_READY)
        if self.writer is None:  # the flow has its order wrong; the machine says so, and the trace keeps it
            return self.get_writer()
        return self.writer

    def hand_over(self, writer: SSEWriter) -> SSEWriter:
        """Give the writer to the handler that waits for it."""
        self.lifecycle.take(trace.HANDS_OVER_WRITER)
        return writer

    def run_callback(self, callback: StreamCallback, writer: SSEWriter) -> Awaitable[object]:
        """Call the callback with the writer; awaiting what this returns takes no memory beyond the callback's own."""
        self.lifecycle.take(trace.SCHEDULES_CALLBACK)
        self.lifecycle.take(trace.CALLS_CALLBACK)
        function: Callable[[Any], Any] = callback  # which takes the writer of its kind
        if is_async(function):
            called: Awaitable[object] = function(writer)
            return called
        blocking = BlockingSSEWriter(writer)
        return self.threads.run(function, blocking, begin=mailbox_of(blocking).make_room)

    async def wait_until_closed(self) -> None:
        """Wait for the client to leave or the server to shut down: nothing else will close this one."""
        if self.state is not State.CLOSED:  # as after the head for a HEAD
            await anyio.sleep_forever()

    async def close(self) -> None:
        """End what is still open when handler and callback have returned; send a plain answer.

        Raises:
            Unanswered: nothing was sent, and nothing ever will be.
            Exception: the stream could not be opened, for this reason, and the handler has returned all the same.
        """
        state = self.lifecycle.state
        if state is not State.CLOSED:
            self._opening.raise_failure()
        if state is State.REQUESTED:
            raise Unanswered(NEVER_STARTED if self.event.stream_callback else NOTHING_SENT)
        if state is State.CLOSED:
            await self._respond()
        elif self.stream is not None and self.stream.is_cut_short:
            self._close(trace.FAILS, detail="cancelled")
        else:
            self._close(trace.CLOSES)

    # -- from the first step to the last

    async def run(self, flow: Flow) -> None:
        """Run the flow; whichever way it goes, the lifecycle ends in closed and the connection with it."""
        task = running_task()
        self.task = id(task)
        self.service.note_begin(self)
        try:
            await self._cleanup.run(flow(self), None if self._own_context is None else task)
        except BaseException as error:
            failure = failure_of(error)
            if not isinstance(failure, Exception):
                raise
            await self._fail(failure)
        finally:
            try:
                if self._opening.failure is not None and self.lifecycle.reason is Reason.ERROR:
                    await self._fail(self._opening.failure)  # no call has raised it
                if (waits := self._end()) is not None:
                    await waits
            finally:
                if self._threads is not None:
                    self._threads.release()
                if self.connection is not None:
                    self.service.streams.discard(self.connection)
                self.service.note_end(self)
                self.keep_nothing()

    async def _fail(self, error: Exception) -> None:
        if self.state is State.CLOSED and is_rejection(error) and self._ended_by_others:
            log.debug("%r: %s", self.event, error)  # the code was told that the stream is over, and has ended
            return
        kept, self._opening.failure = self._opening.failure, None
        if kept is None or self.lifecycle.reason is not Reason.ERROR:
            _log_failure(self.event, error, has_stream=self.stream is not None)
        else:  # the kept one closed the exchange, so the client is told of it
            _log_failure(self.event, kept, has_stream=self.stream is not None)
            if error is not kept:
                _log_consequence(self.event, error, kept)
            error = kept
        with anyio.move_on_after(self.service.limits.close_timeout, shield=True) as bounded:
            await self._call_quietly(self.service.app.error_hooks, self.event, error)
        if bounded.cancelled_caught:
            log.warning("%r: an on_error hook was given up after %g s", self.event, self.service.limits.close_timeout)
        if error is not kept or self.state is not State.CLOSED:
            self.close_failed(error)
        if self.stream is None and self.lifecycle.reason is Reason.ERROR:
            self.answer.fail_with(error)

    @property
    def _ended_by_others(self) -> bool:
        """Whether the stream is over through no fault of the handler or callback."""
        return self.lifecycle.reason not in (Reason.RESPONDED, Reason.ERROR)

    def _end(self) -> Coroutine[Any, Any, None] | None:
        """Close what is open and bring the connection to its end; what waits is shielded, and bounded in time."""
        if self.lifecycle.state is not State.CLOSED:
            self._close(trace.CLOSES, reason=Reason.SHUTDOWN)  # cancelled from further out: the server is shutting down
        return self._end_plainly() if self.stream is None else self.stream.begin_end()

    async def _end_plainly(self) -> None:
        if self.lifecycle.reason is Reason.COMPLETE:
            self.answer.end_unopened()
        elif self.lifecycle.reason not in (Reason.RESPONDED, Reason.ERROR, Reason.CLIENT_GONE):
            self.answer.fail_with(ShuttingDown())
        with anyio.move_on_after(self.service.limits.close_timeout, shield=True) as bounded:
            await self._respond()
        if bounded.cancelled_caught:
            log.warning("%r: the answer was given up after %g s", self.event, self.service.limits.close_timeout)

    async def _respond(self) -> None:
        """Send the plain response, if there is one that has not been sent."""
        if self.answer.is_plain and self.lifecycle.reason is not Reason.CLIENT_GONE:
            await self._call_quietly(self._response_hooks, self.event)
            self.rest()
            response, size = self.answer.take(), 0
            status, sending = response.status, self.transport.send_response(response)
            del response  # its body belongs to the adapter alone, which may have to release it at once
            try:
                size = await sending
            finally:  # even when it was given up, it has ended
                self._answered = (status if size else 0, size)
                self.lifecycle.take(trace.RESPONSE, size=size)

    def _call(self, function: Callable[..., Any], *args: Any, is_hook: bool = False) -> Awaitable[object]:
        """Return what to await for a call to the user's code, which is made at once: no extra coroutine wraps it."""
        if is_async(function):
            self.rest()
            called: Awaitable[object] = function(*args)
            return called
        return self.threads.run(function, *args, is_hook=is_hook)

    async def _call_quietly(self, hooks: Iterable[Handler], *args: Any) -> None:
        """Call hooks whose failure must not change an answer that has been decided."""
        for hook in hooks:
            try:
                if is_async(hook):
                    self.rest()
                    await hook(*args)
                else:  # not shielded: when the time is up, its thread is left to itself
                    await self.threads.run_hook(hook, *args)
            except BaseException as error:
                if not isinstance(failure_of(error), Exception):
                    raise
                log.exception("%r: hook %s raised", self.event, name_of(hook))


def _log_failure(owner: object, error: Exception, *, has_stream: bool) -> None:
    """Log what an exchange has failed with, as loudly as it deserves."""
    if isinstance(error, RequestError | TooManyStreams):
        log.info("%r: %s", owner, error)
    elif isinstance(error, ChannelClosed) and has_stream:  # happens as often as a client comes back
        log.warning("%r is cut: %s", owner, error)
    else:
        log.error("%r raised %s", owner, type(error).__name__, exc_info=error)


def _log_consequence(owner: object, error: Exception, first: Exception) -> None:
    """Log what came out of the handler after a failure of its stream's opening, unless it says nothing new."""
    if is_rejection(error) or first in parts_of(error):
        log.debug("%r: %s", owner, error)
    else:
        log.error("%r then raised %s", owner, type(error).__name__, exc_info=error)
