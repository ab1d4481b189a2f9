"""`SSEWriter`: what a stream is written with."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from . import trace
from ._core.stream import Stream, encode
from .sse import SSEEvent

if TYPE_CHECKING:
    from .event import H3Event


class SSEWriter:
    """Sends events on one stream. Flows hand it out when the headers are sent; nobody builds one.

    Whoever takes it while they are still on their way may send: what is sent then goes behind them. Events leave in the
    order of the calls, those of channels that stream to it included: what has to wait for the reader keeps its place,
    and what is sent or published after it waits behind it.

    As an `async with` it closes the stream on leaving; left by an exception, it fails the stream
    instead, so that the client sees a body without its proper end. Left by a cancellation, that is told when the
    handler is over: one that goes on was cut short by a time limit of its own, which fails the stream; one that
    does not was cancelled by a server that ends, which ends it properly.

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
            BackpressureDetected: `Limits.stream_buffer` bytes wait for the reader; this event was not taken.
            WriterClosed, TypeError, ValueError: as `send_event`.
        """
        self._stream.send_nowait(encode(event))

    async def send_keep_alive(self) -> None:
        """Send a comment that clients ignore, to show a silent connection alive. Raises as `send_event` does.

        By default the server does so by itself, `Limits.stream_keep_alive`.
        """
        await self._stream.send_keep_alive()

    async def flush(self) -> None:
        """Wait until all that was sent has left for the client, or the stream has ended."""
        await self._stream.flush()

    async def close(self) -> None:
        """End the stream: what is buffered is sent, then the body's proper end. Again: does nothing.

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
    """The stream that a writer is the face of."""
    return writer._stream
