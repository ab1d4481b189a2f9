"""`SSEWriter`: writes a stream."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from . import trace
from ._core.stream import Stream, encode
from .sse import SSEEvent

if TYPE_CHECKING:
    from .event import H3Event


class SSEWriter:
    """Sends events on one stream. You get it from a flow, once the headers are sent; you never construct one.

    You may send while the headers are still on their way: the events follow them. Events leave in the order of the
    calls, together with those of channels that stream to this writer: an event that has to wait for the reader keeps
    its place, and later ones wait behind it.

    As an `async with` it closes the stream on leaving. If an exception leaves the block, it fails the stream instead,
    so that the client sees a body without its proper end. If a cancellation leaves it, the end is decided once the
    handler is over: a handler that went on was cut short by a timeout of its own, which fails the stream; one that did
    not was cancelled by a server that shuts down, which ends the stream properly.

    Attributes:
        event: the `H3Event` whose stream this is.
    """

    __slots__ = ("_stream", "event")

    def __init__(self, event: H3Event, stream: Stream) -> None:
        self.event = event
        self._stream = stream

    @property
    def event_count(self) -> int:
        """Events taken so far; keep-alives are not counted."""
        return self._stream.event_count

    @property
    def is_active(self) -> bool:
        """Whether the stream can still be written to."""
        return self._stream.is_active

    async def send_event(self, event: SSEEvent | str) -> None:
        """Send an event, or a str as an event's data. Waits while `Limits.stream_buffer` bytes wait for the reader.

        Raises:
            WriterClosed: the stream has ended; `reason` says why.
            WriteError: the adapter can't write, though the client is not known to have left.
            TypeError, ValueError: what `SSEEvent` refuses.
        """
        data = event.encode() if event.__class__ is SSEEvent else encode(event)
        stream = self._stream
        size = len(data)
        if stream.room < size:
            await stream.take_turn(stream.put, data)
            return
        # As Stream.put, in place: it is done for each event.
        if stream.is_traced:
            stream.record(trace.SEND_EVENT, trace.EVENT, data)
        stream.connection.write_chunk(data)
        stream.room -= size
        stream.count += 1

    def send_nowait(self, event: SSEEvent | str) -> None:
        """Send an event without waiting.

        Raises:
            BackpressureDetected: `Limits.stream_buffer` bytes wait for the reader; the event was not taken.
            WriterClosed, TypeError, ValueError: as `send_event`.
        """
        self._stream.send_nowait(encode(event))

    async def send_keep_alive(self) -> None:
        """Send a comment, which clients ignore, to show that a silent connection is alive. Raises as `send_event` does.

        By default the server does this itself; see `Limits.stream_keep_alive`.
        """
        await self._stream.send_keep_alive()

    async def flush(self) -> None:
        """Wait until everything that was sent has left for the client, or the stream has ended."""
        await self._stream.flush()

    async def close(self) -> None:
        """End the stream: send what is buffered, then the body's proper end. A second call does nothing.

        Called by a task other than the one that streams, it also cancels the stream's callback.
        """
        if self._stream.close():
            self._stream.cancel()
        await self._stream.end()

    async def __aenter__(self) -> SSEWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self._stream.fail(error)

    def __repr__(self) -> str:
        return f"<SSEWriter of {self.event!r}, {self.event_count} events>"


def stream_of(writer: SSEWriter) -> Stream:
    """The stream behind a writer."""
    return writer._stream
