"""Errors: what can be refused, and why; one exception for each kind of rejection, named as in H3Z."""

from __future__ import annotations

from typing import ClassVar


class H3Error(Exception):
    """The base class of every exception that h3ref raises on purpose.

    `status` is the HTTP status that a client gets when a handler lets the exception out before the headers are sent;
    `explains` says whether the client may see its text.
    """

    status: ClassVar[int] = 500
    explains: ClassVar[bool] = True


class LifecycleError(H3Error):
    """The state machine rejects a trigger (`spec/lifecycle.json`).

    Attributes:
        state: the state that the connection was in.
        trigger: the rejected trigger.
        rule: the id of the rule that rejects it, such as "L-17".
        reason: why the connection was closed, if it was.
    """

    explains = False
    remedy: ClassVar[str]

    def __init__(self, state: str, trigger: str, rule: str, reason: str | None = None) -> None:
        self.state, self.trigger, self.rule, self.reason = state, trigger, rule, reason
        why = f", closed because: {reason}" if reason else ""
        super().__init__(f"{trigger} is rejected in state {state} (rule {rule}{why}): {self.remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.state, self.trigger, self.rule, self.reason)


class ResponseAlreadySent(LifecycleError):
    """The request has been answered already."""

    remedy = "a request is answered once; return from the handler when it has been answered or given up"


class SSEAlreadyStarted(LifecycleError):
    """`start_sse` was called a second time, or a plain answer was given after it."""

    remedy = "call start_sse() once, and send a plain response or an error before it, never after"


class SSENotStarted(LifecycleError):
    """A step of a stream was taken before `start_sse`."""

    remedy = "call event.start_sse() first"


class ConnectionNotReady(LifecycleError):
    """The writer was asked for before the headers were sent: H3Z's bug, rejected."""

    remedy = (
        "the writer is handed over once the headers are sent; register the stream with "
        "event.set_stream_callback(callback), or wait for it with await event.await_sse_writer(), "
        "or in a plain def with event.start_sse_blocking()"
    )


class ConnectionLost(LifecycleError):
    """The stream has ended, so there is no connection to write to."""

    remedy = "there is nobody to write to any more; release what the stream holds and return"


class WriterClosed(LifecycleError):
    """Something was sent after the stream was closed."""

    remedy = "stop sending when writer.is_active is false; a new request gets a new writer"


class BackpressureDetected(H3Error):
    """`send_nowait` found the buffer full: the event was not taken, and the stream stays open.

    Attributes:
        buffered: the bytes that wait to be sent.
        limit: the number of waiting bytes from which on nothing more is taken.
    """

    def __init__(self, buffered: int, limit: int) -> None:
        self.buffered, self.limit = buffered, limit
        super().__init__(
            f"{buffered} bytes wait to be sent, and the limit is {limit}: the event was not taken; "
            "use await writer.send_event(), which waits for the reader"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.buffered, self.limit)


class WriteError(H3Error):
    """A write failed, though the peer is not known to have left; the cause is chained."""

    explains = False


class Unanswered(H3Error):
    """A handler returned, and nothing that it did will ever answer its request."""


class ChannelClosed(H3Error, ValueError):
    """An event was published to a channel that is closed for good, or a callback of yours tried to stream from it."""

    explains = False


class EngineError(H3Error):
    """A channel's engine did not do what it was asked to, or can't be sure that it did."""

    explains = False


class EngineUnavailable(EngineError):
    """The engine could not be reached, so nothing was done. A handler that lets it out is answered with 503."""

    status = 503


class EngineUncertain(EngineError):
    """The engine did not answer, or too few copies of an event were made: the event may be published, or not.

    A handler that lets it out is answered with 503.
    """

    status = 503


class EngineRefused(EngineError):
    """The engine refuses, and will go on refusing, as with a wrong password or a full memory: nothing was done."""


class RequestError(H3Error):
    """The client's request can't be used as it is: answered with 400, or with the status of a subclass."""

    status = 400


class PermissionExpired(RequestError):
    """The time set by `H3Event.expires_at` or `expires_in` passed before the stream's head: answered with 403.

    A 401 would have to say how to authenticate (RFC 9110, section 15.5.2), which only the app knows.
    """

    status = 403

    def __init__(self) -> None:
        super().__init__("the permission for this stream has expired; come back with a new one")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()


class BodyTooLarge(RequestError):
    """The request's body is larger than the server's limit: answered with 413."""

    status = 413


class BodyTimeout(RequestError):
    """The request's body did not come in time: answered with 408."""

    status = 408


class TooManyStreams(H3Error):
    """As many streams are open as the server allows, or all threads for plain `def` streams are taken: a 503."""

    status = 503


class StartupFailed(H3Error):
    """An app's lifespan raised when `serve` entered it; the cause is chained."""

    explains = False


class AppNotFound(StartupFailed):
    """What "module:app" names does not exist, can't be imported, or is not an `H3App`."""


class ShuttingDown(H3Error):
    """The server shuts down before the request is answered: answered with 503."""

    status = 503

    def __init__(self) -> None:
        super().__init__("the server is shutting down; try again")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()
