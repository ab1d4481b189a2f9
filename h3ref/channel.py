"""`Channel`: one sender, many streams."""

from __future__ import annotations

from collections import deque
from typing import Literal

import anyio
import anyio.lowlevel

from .connection import HIGH_WATER
from .sse import SSEEvent
from .writer import SSEWriter

Newcomers = Literal["live", "history"]


class Channel:
    """A named fan-out of events to many streams: each event is encoded once, and sent to every subscriber.

    Its policy for slow consumers is "wait": `publish` waits for the slowest subscriber whose 64 KiB buffer
    is full, so that nobody loses an event. Cancelled while it waits, it has published nothing.

    Args:
        history: how many past events are kept for those who reconnect; they resume after the event whose `id` is their
            Last-Event-ID, so give the events ids.
        name: what logs and `repr` call it.
        newcomers: what a subscriber without a last event ID gets first: "live", nothing, or "history", all
            that is kept.

    Raises:
        ValueError: a negative `history`, or another word for `newcomers`.
    """

    def __init__(self, history: int = 0, *, name: str = "channel", newcomers: Newcomers = "live") -> None:
        if history < 0:
            raise ValueError(f"history is the number of events to keep, from 0 on, not {history}")
        if newcomers not in ("live", "history"):
            raise ValueError(f'newcomers get "live" or "history", not {newcomers!r}')
        self.name = name
        self._newcomers = newcomers
        self._history: deque[tuple[str | None, bytes]] = deque(maxlen=history)
        self._writers: dict[SSEWriter, None] = {}  # in the order of their coming
        self._unyielded = 0  # bytes published since the publisher last gave way to other tasks
        self._open = True

    def __len__(self) -> int:
        """The number of subscribers."""
        return len(self._writers)

    def __bool__(self) -> bool:
        return True  # a channel that nobody listens to is a channel all the same

    async def publish(self, event: SSEEvent | str) -> None:
        """Send an event to every subscriber, waiting for those whose buffer is full.

        Raises:
            ValueError: the channel is closed; or, with TypeError, what `SSEEvent` refuses.
        """
        self._check_open()
        event = event if isinstance(event, SSEEvent) else SSEEvent(event)
        data = event.encode()
        self._unyielded += len(data)
        if self._unyielded >= HIGH_WATER:
            self._unyielded = 0
            await anyio.lowlevel.checkpoint()
        while full := [writer for writer in self._writers if not writer.has_room]:
            for writer in full:
                await writer.drained()
        self._check_open()  # again: it may have been closed meanwhile
        # No await from here on: all subscribers, and the history, see the events in the same order.
        self._history.append((event.id, data))
        for writer in self._writers:
            writer.offer_encoded(data)

    def _check_open(self) -> None:
        if not self._open:
            raise ValueError(f"{self!r}: nothing can be published any more")

    async def stream(self, writer: SSEWriter) -> None:
        """The stream callback: subscribe, replay what the client missed, and stay until one of both closes.

        A client that reconnects gets what followed its `Last-Event-ID`, without gap or double, as far back as
        the history reaches; with an id that the history does not hold, all of the history.
        """
        for data in self._missed_by(writer.event.last_event_id):
            writer.offer_encoded(data)
        # No await since the history was read: what is published next reaches this subscriber live.
        if self._open:
            self._writers[writer] = None
            try:
                await anyio.sleep_forever()  # until close() closes the writer, or whatever else does
            finally:
                self._writers.pop(writer, None)

    def _missed_by(self, last_event_id: str) -> list[bytes]:
        if not last_event_id:
            return [data for _, data in self._history] if self._newcomers == "history" else []
        missed: list[bytes] = []
        for id, data in reversed(self._history):
            if id == last_event_id:
                break
            missed.append(data)
        return missed[::-1]

    async def close(self) -> None:
        """End every subscriber's stream properly; a second call does nothing."""
        self._open = False
        async with anyio.create_task_group() as ends:
            for writer in self._writers:
                ends.start_soon(writer.close)

    def __repr__(self) -> str:
        return f"<Channel {self.name}, {f'{len(self)} subscribers' if self._open else 'closed'}>"
