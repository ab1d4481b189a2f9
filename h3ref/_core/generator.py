"""Generator routes: a handler made from a generator, whose items are the stream.

The headers wait for the first item, at most `commit_after` seconds, so that an early failure is a real 500
and a slow first token still opens the stream.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from enum import Enum, auto
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.lowlevel

from ..errors import H3Error, LifecycleError
from ..event import H3Event, host_of
from ..lifecycle import State
from ..sse import SSEEvent
from ..writer import SSEWriter, stream_of
from .callables import is_async_generator, is_generator, name_of
from .mailbox import Mailbox
from .parking import loop_context, start_task
from .scopes import is_from_outside
from .stream import Stream, encode

DEFAULT_COMMIT_AFTER: Final = 1.0

LIMIT_AROUND_YIELD: Final = (
    "a time limit or task group of the generator's own was cancelled while it stood at a yield, where its item waits "
    "for the reader: the generator can't go on from there; put them around what it awaits, not around a yield"
)


def event_of_value(value: object) -> SSEEvent:
    """The event that a yielded value stands for: an `SSEEvent` itself, or an event with the value as JSON."""
    return value if isinstance(value, SSEEvent) else SSEEvent.json(value)


def encoded_value(value: object) -> bytes:
    """The bytes of that event."""
    return event_of_value(value).encode()


Encoded = Callable[[Any], bytes | None]


def generator_handler(
    function: Callable[[H3Event], Any], commit_after: float, json: bool = False
) -> Callable[[H3Event], Coroutine[Any, Any, None]]:
    """Return the handler that streams what the generator function yields: events, or with `json` any values.

    Raises:
        TypeError: it is no generator function.
        ValueError: `commit_after` is negative.
    """
    is_async = is_async_generator(function)
    if not is_async and not is_generator(function):
        raise TypeError(f"{name_of(function)} yields nothing; register it with app.get() or another method's")
    return items_handler(function, commit_after, encoded_value if json else encode, is_async=is_async)


def items_handler(
    items: Callable[[H3Event], Any], commit_after: float, encoded: Encoded, *, is_async: bool
) -> Callable[[H3Event], Coroutine[Any, Any, None]]:
    """Return the handler that streams an iterator's items.

    Args:
        items: returns the iterator; one that has `aclose`, or `close`, is closed when it is over.
        commit_after: seconds after which the stream opens even if no item has come.
        encoded: returns the bytes of an item, or None for one to skip; an item that it refuses ends the stream.
        is_async: whether the iterator is asynchronous; a plain one runs on a worker thread.

    Raises:
        ValueError: `commit_after` is negative.
    """
    if not commit_after >= 0:
        raise ValueError(f"commit_after must be seconds, 0 or more, not {commit_after!r}")
    return _Items(items, commit_after, encoded, is_async=is_async).stream


class _Items:
    """What `items_handler` returns the method of. An object takes less memory than a function in a function."""

    __slots__ = ("_commit_after", "_encoded", "_is_async", "_items")

    def __init__(
        self, items: Callable[[H3Event], Any], commit_after: float, encoded: Encoded, *, is_async: bool
    ) -> None:
        self._items = items
        self._commit_after = commit_after
        self._encoded = encoded
        self._is_async = is_async

    async def stream(self, event: H3Event) -> None:
        """Stream what the iterator yields."""
        commit = Commit(event, self._commit_after)
        if event.method == "HEAD":
            await commit.writer()  # the headers are the whole answer: the generator never runs
        commit.begin()
        stream: Stream | None = None
        try:
            items = self._items(event)
            if not self._is_async:
                await host_of(event).stream_on_thread(_drive, items, commit, self._encoded)
                await _open_if_empty(commit)
                return
            try:
                async for item in items:
                    data = item.encode() if item.__class__ is SSEEvent else self._encoded(item)
                    if data is None:
                        continue
                    if stream is None:  # refused before the commit, a bad first item is a real 500
                        stream = stream_of(await commit.writer())
                    if stream.room >= len(data):
                        stream.put(data)
                    elif (waits := stream.send_here(data)) is not None:
                        await waits
            except LifecycleError:
                # The stream has ended while the generator stood at a yield. A cancellation on its way arrives here, and
                # not in what the generator awaits while it is closed.
                await anyio.lowlevel.checkpoint_if_cancelled()
                raise
            finally:
                # A generator that has come to its end leaves nothing to close.
                if getattr(items, "ag_frame", items) is not None and hasattr(items, "aclose"):
                    await close_generator(items)
            if stream is None:
                await _open_if_empty(commit)
        except anyio.get_cancelled_exc_class() as error:
            if is_from_outside(error):
                raise
            # A cancellation of the generator's own, which stood at a yield and is closed now, so it can't take it.
            if event.state is not State.CLOSED:
                raise H3Error(LIMIT_AROUND_YIELD) from None
        finally:
            if (waits := commit.end()) is not None:
                await waits


class Time(Enum):
    """How far the time has run after which a stream opens without an item."""

    AHEAD = auto()  # it has not begun
    RUNS = auto()
    OVER = auto()  # also when nothing waits for it any more


class Commit:
    """Opens the stream once: at the first item, or when the time is up, whichever comes first.

    The time begins when the generator first waits: no other task runs before. So a generator whose first item is
    there at once needs no clock.

    Args:
        seconds: the time; the keeper of all streams tells when it is up.

    Attributes:
        event: the request's.
        failure: why the stream could not be opened when the time was up.
    """

    __slots__ = ("_context", "_opening", "_over", "_seconds", "_task", "_time", "_writer", "event", "failure")

    def __init__(self, event: H3Event, seconds: float) -> None:
        self.event = event
        self._seconds = seconds
        self.failure: Exception | None = None
        self._writer: SSEWriter | None = None
        self._time = Time.AHEAD
        self._context: Context | None = None  # of the task that streams, as it was when the time began; while it runs
        # The scope of the task that opens the stream when the time is up. It is shielded from all but its end.
        self._opening: anyio.CancelScope | None = None
        self._over: anyio.Event | None = None  # made by the task that streams, which waits for the end of that
        self._task: object = None

    def begin(self) -> None:
        """Let the time begin when the task that streams first waits."""
        host_of(self.event).when_waiting(self._begins)

    def _begins(self) -> None:
        if self._time is Time.AHEAD:
            self._time = Time.RUNS
            self._context = copy_context()
            host_of(self.event).call_after(self, self._seconds)

    async def writer(self) -> SSEWriter:
        """Open the stream, unless it is open."""
        if self._writer is None:
            self._stop()
            if self.event.state is State.REQUESTED:
                self.event.start_sse()
            self._writer = await host_of(self.event).open_stream()
        return self._writer

    def due(self) -> None:
        """The time is up: open the stream in a task of its own, with the context of the one that streams."""
        if self._time is Time.RUNS:
            self._time = Time.OVER
            self._opening = anyio.CancelScope(shield=True)
            context, self._context = self._context, None
            self._task = start_task(self._open, context=context and context.run(loop_context))

    async def _open(self) -> None:
        """Open the stream; if that fails, stop the generator."""
        try:
            with self._opening or anyio.CancelScope():
                while self.event.reading is not None:
                    await self.event.reading.wait()  # an open stream throws the rest of the body away
                if self.event.state is State.REQUESTED:
                    await self.writer()
        except Exception as error:
            self.failure = error
            host_of(self.event).fail(error)
        finally:
            self._opening = self._task = None
            if self._over is not None:
                self._over.set()

    def _stop(self) -> None:
        was, self._time = self._time, Time.OVER
        if was is Time.RUNS:
            self._context = None
            host_of(self.event).call_never(self, self._seconds)

    def end(self) -> Coroutine[Any, Any, None] | None:
        """The generator is over: nothing opens its stream any more, except a task that already waits for that."""
        self._stop()
        if self._opening is None:
            return None
        self._opening.cancel()
        return self._until_over()

    async def _until_over(self) -> None:
        self._over = anyio.Event()
        with anyio.CancelScope(shield=True):
            await self._over.wait()


async def close_generator(items: AsyncGenerator[Any, None]) -> None:
    """Close a generator, so that its cleanup runs now.

    A task group held open across a `yield` wraps the closing GeneratorExit in a group, which is no failure.
    """
    try:
        await items.aclose()
    except BaseExceptionGroup as group:
        rest = group.split(GeneratorExit)[1]
        if rest is not None:
            raise rest from None


def _drive(items: Iterator[Any], commit: Commit, encoded: Encoded) -> None:
    mailbox: Mailbox | None = None
    try:
        for item in items:
            data = encoded(item)
            if data is None:
                continue
            if mailbox is None:
                try:
                    mailbox = Mailbox(stream_of(anyio.from_thread.run(commit.writer)))
                except Exception:
                    if commit.failure is not None:
                        return  # the client has been told, and nobody waits for this thread
                    raise
            mailbox.send(data)
    finally:
        if hasattr(items, "close"):
            items.close()


async def _open_if_empty(commit: Commit) -> None:
    """A generator that ended without an item is an empty stream, unless it has answered otherwise."""
    if commit.event.state in (State.REQUESTED, State.SSE_STARTED):  # or the timer is opening it just now
        await commit.writer()
