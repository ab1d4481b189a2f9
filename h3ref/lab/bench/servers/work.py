"""What every server sends, and a fan-out for servers that have none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

SIZE: Final = 64
"""Characters of an event's data."""

TYPE: Final = "tick"

QUEUE_SIZE: Final = 64
"""Events that wait for one subscriber, before the publisher has to."""


def data() -> str:
    """An event's data: the time now, in nanoseconds, filled up to `SIZE`."""
    return f"t={time.time_ns()} ".ljust(SIZE, "x")


async def paced(
    count: int, rate: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[int]:
    """Count, that many times a second; at a rate of 0 give way to other tasks after each number."""
    start = time.perf_counter()
    for number in range(count):
        yield number
        await sleep(max(start + (number + 1) / rate - time.perf_counter(), 0) if rate else 0)


class Audience:
    """A queue for each subscriber, as the peers' own documentation does it: none of them has a fan-out."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[tuple[int, str] | None], None] = {}

    def __len__(self) -> int:
        return len(self._queues)

    async def events(self) -> AsyncIterator[tuple[int, str]]:
        """Subscribe, and yield the number and the data of each event until they end."""
        queue: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue(QUEUE_SIZE)
        self._queues[queue] = None
        try:
            while (item := await queue.get()) is not None:
                yield item
        finally:
            del self._queues[queue]

    async def publish(self, count: int, rate: float) -> None:
        """Publish to all that are there now."""
        queues = list(self._queues)
        async for number in paced(count, rate):
            item = (number, data())
            for queue in queues:
                await queue.put(item)

    async def end(self) -> None:
        """End all that are there now."""
        for queue in list(self._queues):
            await queue.put(None)
