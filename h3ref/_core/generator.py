"""Generator routes: a handler made of a generator, whose items are the stream.

The headers wait for the first item, at most `commit_after` seconds, so that an early failure is a real 500
and a slow first token still opens the stream.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import closing
from typing import Any, Final

import anyio
import anyio.from_thread

from ..blocking import BlockingSSEWriter
from ..errors import H3Error
from ..event import H3Event, host_of
from ..lifecycle import State
from ..sse import SSEEvent
from ..writer import SSEWriter, stream_of
from .callables import is_async_generator, is_generator, name_of
from .stream import encode

DEFAULT_COMMIT_AFTER: Final = 1.0

LIMIT_AROUND_YIELD: Final = (
    "a time limit or task group of the generator's own was cancelled while it stood at a yield, where its item waits "
    "for the reader: the generator can't go on from there; put them around what it awaits, not around a yield"
)

Item = SSEEvent | str


def event_of_value(value: object) -> SSEEvent:
    """The event of a value that was yielded as one: an `SSEEvent` is one already, all else is the JSON in one."""
    return value if isinstance(value, SSEEvent) else SSEEvent.json(value)


def generator_handler(
    function: Callable[[H3Event], Any], commit_after: float, json: bool = False
) -> Callable[[H3Event], Coroutine[Any, Any, None]]:
    """Return the handler that streams what the generator function yields: events, or with `json` any values.

    Raises:
        TypeError: it is no generator function.
        ValueError: `commit_after` is negative.
    """
    if not commit_after >= 0:
        raise ValueError(f"commit_after is seconds from 0 on, not {commit_after!r}")
    stream: Callable[[Any, _Commit, bool], Coroutine[Any, Any, None]]
    if is_async_generator(function):
        stream = _stream_async
    elif is_generator(function):
        stream = _stream_on_thread
    else:
        raise TypeError(f"{name_of(function)} yields nothing; register it with app.get() or another method's")

    async def handler(event: H3Event) -> None:
        commit = _Commit(event)
        if event.method == "HEAD":
            await commit.writer()  # the headers are the whole answer: the generator never runs
        failure: Exception | None = None
        is_cut = False
        async with anyio.create_task_group() as tasks:  # outermost, so that no scope of the generator's crosses it
            tasks.start_soon(commit.after, commit_after)
            try:
                await stream(function(event), commit, json)
            except Exception as error:  # carried past the task group, which would wrap it
                failure = error
            except anyio.get_cancelled_exc_class():
                is_cut = True
                raise  # past the task group it is ours, or the server's: one of the generator's own ends there
            finally:
                commit.timer.cancel()
        if is_cut and event.state is not State.CLOSED:
            failure = H3Error(LIMIT_AROUND_YIELD)
        if failure is not None:
            raise failure

    return handler


class _Commit:
    """Opens the stream once: at the first item, or when the time is up, whichever comes first.

    Attributes:
        failure: why it could not be opened when the time was up.
        timer: what waits for that time, until it is cancelled. It is shielded: cancelled together with the generator,
            it would have its task group cancel that again, which then had no time to clean up.
    """

    def __init__(self, event: H3Event) -> None:
        self.event = event
        self.failure: Exception | None = None
        self.timer = anyio.CancelScope(shield=True)
        self._writer: SSEWriter | None = None

    async def writer(self) -> SSEWriter:
        if self._writer is None:
            if self.event.state is State.REQUESTED:
                self.event.start_sse()
            self._writer = await self.event.await_sse_writer()
        return self._writer

    async def after(self, seconds: float) -> None:
        """Open the stream when the time is up; a generator whose stream can't be opened is stopped."""
        with self.timer:
            await anyio.sleep(seconds)
            while self.event.reading is not None:
                await self.event.reading.wait()  # an open stream throws the rest of the body away
            if self.event.state is State.REQUESTED:
                try:
                    await self.writer()
                except Exception as error:
                    self.failure = error
                    host_of(self.event).fail(error)


async def _stream_async(items: AsyncGenerator[Any, None], commit: _Commit, json: bool) -> None:
    try:
        async for item in items:
            data = encode(
                event_of_value(item) if json else item
            )  # refused before it commits, a bad first item is a real 500
            writer = await commit.writer()
            await stream_of(writer).send(data)
    finally:
        await close_generator(items)
    await _open_if_empty(commit)


async def close_generator(items: AsyncGenerator[Any, None]) -> None:
    """Close a generator, so that its cleanup runs now.

    A task group that it holds over a `yield` wraps the GeneratorExit that closes it in a group, which is no failure.
    """
    try:
        await items.aclose()
    except BaseExceptionGroup as group:
        rest = group.split(GeneratorExit)[1]
        if rest is not None:
            raise rest from None


async def _stream_on_thread(items: Generator[Any, None, None], commit: _Commit, json: bool) -> None:
    await host_of(commit.event).stream_on_thread(_drive, items, commit, json)
    await _open_if_empty(commit)


def _drive(items: Generator[Any, None, None], commit: _Commit, json: bool) -> None:
    writer: BlockingSSEWriter | None = None
    with closing(items):
        for item in items:
            event: Item = event_of_value(item) if json else item
            if writer is None:
                encode(event)
                try:
                    writer = BlockingSSEWriter(anyio.from_thread.run(commit.writer))
                except Exception:
                    if commit.failure is not None:
                        return  # the client has been told, and nobody waits for this thread
                    raise
            writer.send_event(event)


async def _open_if_empty(commit: _Commit) -> None:
    """A generator that ended without an item is an empty stream, unless it has answered otherwise."""
    if commit.event.state in (State.REQUESTED, State.SSE_STARTED):  # or the timer is opening it just now
        await commit.writer()
