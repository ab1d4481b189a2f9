"""Trials: single measurements of what a soak does not reach, each on a server process of its own."""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

import anyio

from h3ref.connection import HIGH_WATER

from .app import BULK
from .faults import Client
from .server import ServerProcess, SoakFailure, server_process

EVENTS: Final = 1_000_000
STREAMS: Final = 10_000
AT_ONCE: Final = 100
STALLED: Final = 2000
READERS: Final = 50
SECONDS: Final = 5.0

GROWTH: Final = 4 * 2**20
"""Bytes that may remain of a trial: what an allocator keeps."""

SLOWER: Final = 2.0
"""By how much stalled readers may delay the others' events, at the 99th percentile."""

PER_STREAM: Final = 16 * 1024
"""Bytes of a stream besides its buffer: its task, its socket's objects, what the allocator rounds up."""

Say = Callable[[str], None]


async def many_events(backend: str, say: Say, events: int = EVENTS) -> None:
    """A million events on one stream: all arrive, and nothing remains of them.

    Raises:
        SoakFailure: some were lost, or the server's memory grew.
    """
    what = f"{events:,} events on one stream"
    await _leaves_nothing(backend, say, what, _read_burst, 10_000, events)


async def _leaves_nothing(
    backend: str, say: Say, what: str, do: Callable[[ServerProcess, int], Awaitable[None]], few: int, many: int
) -> None:
    """Do something few times, so that the server takes what it keeps for good, then many times, and see its memory."""
    async with server_process(backend) as server:
        await do(server, min(many, few))
        before = await _memory(server)
        started = time.monotonic()
        await do(server, many)
        seconds = time.monotonic() - started
        grown = await _memory(server) - before
        say(f"{backend}: {what} in {seconds:.1f} s, memory {_signed(grown)}")
        if grown > GROWTH:
            raise SoakFailure(f"{what} left {_signed(grown)} behind")
        await server.end()


async def _read_burst(server: ServerProcess, events: int) -> None:
    with Client(server, f"/burst?count={events}") as client:
        await client.connect()
        received, end = 0, b""
        while part := await client.read(1 << 20):
            # Each event's line begins after another's end, or after a chunk's: an overlap of five bytes finds them all.
            received += (end + part).count(b"data:") - end.count(b"data:")
            end = (end + part)[-5:]
    if received != events:
        raise SoakFailure(f"of {events:,} events {received:,} arrived")
    if not end.endswith(b"0\r\n\r\n"):
        raise SoakFailure("the burst had no proper end")


async def many_streams(backend: str, say: Say, streams: int = STREAMS) -> None:
    """Ten thousand streams opened and left: nothing remains of them.

    Raises:
        SoakFailure: the server's memory grew, or a callback was not told.
    """
    what = f"{streams:,} streams opened and left"
    await _leaves_nothing(backend, say, what, _open_and_leave, 1000, streams)


async def _open_and_leave(server: ServerProcess, streams: int) -> None:
    for _ in range(0, streams, AT_ONCE):
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(server, "/times")) for _ in range(AT_ONCE)]
            for client in clients:
                await client.connect()
            for client in clients:
                await client.read_event()
    await server.settled(0)


async def stalled_readers(backend: str, say: Say, stalled: int = STALLED, seconds: float = SECONDS) -> None:
    """Two thousand readers that stopped reading: memory within its bound, the others' events as soon as before.

    Raises:
        SoakFailure: memory passed its bound, or the 99th percentile more than doubled.
    """
    _allow_descriptors(2 * stalled)
    async with server_process(backend) as server:
        server.limit_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        undisturbed = await _percentile(server, seconds)
        before = await _memory(server)
        with ExitStack() as stack:
            for _ in range(stalled):
                client = stack.enter_context(Client(server, "/bulk", window=4096))
                await client.connect()
            await _until_flat(server)
            disturbed = await _percentile(server, seconds)
            grown = await _memory(server) - before
        await server.settled(0)
        bound = stalled * (2 * HIGH_WATER + 2 * len(BULK) + PER_STREAM)
        say(
            f"{backend}: {stalled:,} stalled readers: memory {_signed(grown)}, the bound {_signed(bound)}; "
            f"p99 of the others {disturbed * 1000:.2f} ms, undisturbed {undisturbed * 1000:.2f} ms"
        )
        if grown > bound:
            raise SoakFailure(f"{stalled:,} stalled readers took {_signed(grown)}, more than {_signed(bound)}")
        if disturbed > SLOWER * undisturbed:
            raise SoakFailure(f"the others' p99 rose from {undisturbed * 1000:.2f} to {disturbed * 1000:.2f} ms")
        await server.end()


async def _until_flat(server: ServerProcess) -> None:
    """Wait until the stalled readers' buffers are full: memory no longer grows."""
    last = -1
    while (now := await _memory(server)) > last + 2**20:
        last = now
        await anyio.sleep(0.5)


async def _percentile(server: ServerProcess, seconds: float) -> float:
    """The 99th percentile of the seconds from sending to receiving, over some paced streams."""
    delays: list[float] = []

    async def read() -> None:
        with Client(server, "/times") as client:
            await client.connect()
            while True:
                data = await client.read()
                now = time.monotonic_ns()
                delays.extend((now - int(line[6:])) / 1e9 for line in data.split(b"\n") if line[:6] == b"data: ")

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for _ in range(READERS):
                tasks.start_soon(read)
    if not delays:
        raise SoakFailure("no event arrived to be timed")
    return sorted(delays)[len(delays) * 99 // 100]


async def _memory(server: ServerProcess) -> int:
    return int((await server.figures())["memory"])


def _allow_descriptors(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number + 100:
        wanted = number + 100 if hard == resource.RLIM_INFINITY else min(number + 100, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _signed(size: int) -> str:
    return f"{size / 2**20:+.1f} MiB"


TRIALS: Final = {trial.__name__.replace("_", "-"): trial for trial in (many_events, many_streams, stalled_readers)}
