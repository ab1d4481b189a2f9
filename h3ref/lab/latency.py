"""How long an event takes: short live measurements on real sockets of this machine.

    waits = await measure_first_events()                    # {"broken": [], "callback": [0.0005, ...], ...}
    delivery = await measure_delivery(streams=10)
    print(percentile(delivery.seconds, 99))

Server and clients share this process and its event loop, which is asyncio's, so each waits for the other: the numbers
are upper bounds, good for comparing one with another on the same machine. Nothing here draws; `charts` does, from this
plain data.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

import anyio

from h3ref import Channel, H3App, H3Event, SSEEvent, SSEWriter, flows, running
from h3ref.examples import callback as example
from h3ref.server import DEFAULT_FLUSH_GAP

FLOWS: Final = ("broken", "callback", "awaited", "blocking")
"""The paths of the example in which the same four events are asked for in four ways."""


class Delivery(NamedTuple):
    """What it took to bring events to streams.

    Attributes:
        streams: how many streams each event went to.
        seconds: of each event at each stream, from the call that sends it to its last byte at the client.
        cpu: seconds of CPU for each event at each stream, the server's and the clients' together.
    """

    streams: int
    seconds: list[float]
    cpu: float


async def measure_first_events(requests: int = 100, *, deadline: float = 1.0) -> dict[str, list[float]]:
    """Return, for each flow, the seconds from each request to its first event, each on a new connection.

    A flow that brings none before the deadline has an empty list, and is asked once only.

    Args:
        requests: how many requests each flow gets.
        deadline: seconds after which a client gives up.
    """
    waits: dict[str, list[float]] = {}
    for name in FLOWS:
        waits[name] = []
        async with running(example.app, flow=flows.broken if name == "broken" else None) as server:
            for _ in range(requests):
                seconds = await _first_event(server.port, f"/{name}", deadline)
                if seconds is None:
                    break
                waits[name].append(seconds)
    return waits


async def _first_event(port: int, path: str, deadline: float) -> float | None:
    async with _connected(port) as reader:
        begin = time.perf_counter()
        reader.request(path)
        with anyio.move_on_after(deadline):
            await reader.until(1)
            return reader.times[0] - begin
    return None


async def measure_delivery(
    streams: int = 1, *, events: int = 500, gap: float = 0.002, flush_gap: float = DEFAULT_FLUSH_GAP
) -> Delivery:
    """Publish events to streams on real sockets, and measure until each has arrived.

    Args:
        streams: how many clients listen.
        events: how many events are published.
        gap: seconds between one and the next. Should be longer than an event takes to reach all, or the
            waiting of one behind the other is measured.
        flush_gap: as `running` takes it.
    """
    app, channel = H3App(), Channel()

    @app.get("/events")
    def listen(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(subscribe)

    async def subscribe(writer: SSEWriter) -> None:
        await writer.send_event("subscribed")  # at once: when it arrives, so will all that is published
        await channel.stream(writer)

    sent: list[float] = []
    async with running(app, flush_gap=flush_gap) as server, AsyncExitStack() as clients:
        readers = [await clients.enter_async_context(_connected(server.port)) for _ in range(streams)]
        for reader in readers:
            reader.request("/events")
            await reader.until(1)
        cpu = time.process_time()
        for number in range(events):
            sent.append(time.perf_counter())
            await channel.publish(SSEEvent("an event of some length, as they are", id=str(number)))
            await anyio.sleep(gap)
        for reader in readers:
            await reader.until(events + 1)
        cpu = time.process_time() - cpu
    seconds = [at - begin for reader in readers for begin, at in zip(sent, reader.times[1:], strict=True)]
    return Delivery(streams, seconds, cpu / len(seconds))


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many percent of all are not above (nearest rank).

    >>> percentile([3.0, 1.0, 2.0, 4.0], 50)
    2.0

    Raises:
        ValueError: there are no values, or percent is not above 0 and at most 100.
    """
    if not values:
        raise ValueError("no values have no percentile")
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile is above 0 and at most 100, not {percent!r}")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


class _Reader(asyncio.Protocol):
    """A client that costs little: it notes when the end of each event came, and keeps nothing."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._transport: asyncio.Transport
        self._last = b""
        self._changed = anyio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def request(self, path: str) -> None:
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        # The head ends in CRLF CRLF and chunks are framed by CRLF, so two LFs are the end of an event.
        now = time.perf_counter()
        data = self._last + data
        self.times += [now] * data.count(b"\n\n")
        self._last = b"" if data.endswith(b"\n\n") else data[-1:]
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, count: int) -> None:
        """Wait for so many events."""
        while len(self.times) < count:
            await self._changed.wait()

    def close(self) -> None:
        self._transport.abort()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[_Reader]:
    _, reader = await asyncio.get_running_loop().create_connection(_Reader, "127.0.0.1", port)
    try:
        yield reader
    finally:
        reader.close()
