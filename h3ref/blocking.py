"""`BlockingSSEWriter`: the twin of `SSEWriter` for worker threads."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ._core.mailbox import Mailbox
from ._core.stream import encode
from .sse import SSEEvent
from .writer import SSEWriter, stream_of

if TYPE_CHECKING:
    from .event import H3Event


class BlockingSSEWriter:
    """`SSEWriter` for a plain `def` on a worker thread: the same methods, which block that thread only.

    The event loop takes over what you send: at once after a quiet spell, otherwise within half a millisecond. You learn
    that a client has left at the next send, which raises `WriterClosed`; so does a send after the event loop has ended.

    Any thread may call it, even one that you started, and several at once: each event is sent whole. Only on the event
    loop's own thread, which it would block, a call that may wait raises `RuntimeError`.

    Attributes:
        event: the `H3Event` whose stream this is.
    """

    __slots__ = ("_mailbox", "_stream", "event")

    def __init__(self, writer: SSEWriter) -> None:
        self.event: H3Event = writer.event
        self._stream = stream_of(writer)
        self._mailbox = Mailbox(self._stream)

    @property
    def event_count(self) -> int:
        """Events taken so far; keep-alives are not counted."""
        return self._stream.event_count

    @property
    def is_active(self) -> bool:
        """Whether the stream can still be written to."""
        return self._stream.is_active

    def send_event(self, event: SSEEvent | str) -> None:
        """As `SSEWriter.send_event`."""
        self._mailbox.send(event.encode() if event.__class__ is SSEEvent else encode(event))

    def send_nowait(self, event: SSEEvent | str) -> None:
        """As `SSEWriter.send_nowait`."""
        self._mailbox.send_nowait(encode(event))

    def send_keep_alive(self) -> None:
        """As `SSEWriter.send_keep_alive`."""
        self._mailbox.send_keep_alive()

    def flush(self) -> None:
        """As `SSEWriter.flush`."""
        self._mailbox.flush()

    def close(self) -> None:
        """As `SSEWriter.close`."""
        self._mailbox.close_stream()

    def __enter__(self) -> BlockingSSEWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            self._mailbox.close_stream()
        else:
            self._mailbox.fail_stream(error)

    def __repr__(self) -> str:
        return f"<BlockingSSEWriter of {self.event!r}, {self.event_count} events>"


def mailbox_of(writer: BlockingSSEWriter) -> Mailbox:
    """The mailbox in which a writer leaves its events."""
    return writer._mailbox
