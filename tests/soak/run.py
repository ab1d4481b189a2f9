"""`soak`: two servers, steady readers on both, faults on the one, SIGTERM on the other, until the time is over."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from .faults import FAULTS
from .readers import Reader, Tally
from .server import PATIENCE, ServerProcess, SoakFailure, server_process

PATHS: Final = ("/count", "/generated", "/blocking", "/feed")
PUBLISHING: Final = 0.02
"""Seconds between two events of the feed."""

RESTART: Final = "SIGTERM at a random moment"
GROWTH: Final = 4 * 2**20
"""Bytes that the server's memory may grow by in the second half: what an allocator keeps, not what a leak takes."""


@dataclass
class Figures:
    """What a soak measured.

    Attributes:
        seconds: how long it ran.
        faults: how often each was made.
        tally: what the steady readers saw.
        begun: callbacks that were called.
        told: callbacks that were told that their stream is over.
        memory: resident bytes of the server with the faults, after each fault.
    """

    backend: str
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    begun: int = 0
    told: int = 0
    memory: list[int] = field(default_factory=list)

    @property
    def first(self) -> int:
        """Where in `memory` every fault had been made once."""
        return min(len(FAULTS), len(self.memory)) - 1

    @property
    def growth(self) -> int:
        """By how many bytes the memory grew in the second half, from its first quarter's median to its last one's.

        In the first half a server takes what it keeps for good: the feed's history, and room for the largest crowd.
        """
        half = self.memory[max(self.first, len(self.memory) // 2) :]
        quarter = math.ceil(len(half) / 4)
        return round(median(half[-quarter:]) - median(half[:quarter]))

    def check(self) -> None:
        """See that nothing was lost or doubled, and that memory is flat.

        Raises:
            SoakFailure: something was, or it is not.
        """
        if self.tally.lost or self.tally.doubled:
            raise SoakFailure(f"steady readers lost {self.tally.lost} events and got {self.tally.doubled} twice")
        if self.growth > GROWTH:
            raise SoakFailure(f"the server's memory grew by {self.growth / 2**20:.1f} MiB in the second half")

    def report(self) -> str:
        """The figures for a reader."""
        first, half, last = (self.memory[place] / 2**20 for place in (self.first, len(self.memory) // 2, -1))
        lines = [
            f"{self.backend}, {self.seconds:.0f} s, {self.faults.total()} faults",
            f"  events received  {self.tally.events:,} over {self.tally.connections:,} connections",
            f"  lost, doubled    {self.tally.lost}, {self.tally.doubled}",
            f"  callbacks        {self.begun:,} begun, {self.told:,} told",
            f"  memory           {first:.1f} MiB after the first round of faults, {half:.1f} MiB at half time, "
            f"{last:.1f} MiB at the end",
            f"  its growth       {self.growth / 2**20:+.1f} MiB in the second half",
            *(f"  {count:6}  {name}" for name, count in sorted(self.faults.items())),
        ]
        return "\n".join(lines)


async def soak(backend: str, seconds: float, seed: int, progress: Callable[[Figures], None]) -> Figures:
    """Run faults for a time, each kind at least once, and return the figures.

    Args:
        backend: the servers' event loop, "asyncio" or "trio".
        seconds: how long; the fault that is running then is brought to its end.
        seed: for what is done at random.
        progress: called after each fault.

    Raises:
        SoakFailure: what was promised did not hold.
    """
    figures, chance = Figures(backend), random.Random(seed)
    started = time.monotonic()
    async with server_process(backend) as server, _readers(server.port, figures.tally) as tasks:
        restarts = _Restarts(backend, chance, figures)
        await tasks.start(restarts.run)
        tasks.start_soon(_publish, server)
        faults: list[str] = []
        while time.monotonic() < started + seconds or not FAULTS.keys() <= figures.faults.keys():
            if not faults:
                faults = chance.sample(sorted(FAULTS), len(FAULTS))
            name = faults.pop()
            try:
                with anyio.fail_after(2 * PATIENCE):
                    await FAULTS[name](server, chance)
                await server.get("/hello")
                found = await server.settled(len(PATHS))
            except Exception as error:
                raise SoakFailure(f"{name}: {error}") from error
            figures.faults[name] += 1
            figures.seconds = time.monotonic() - started
            _note(figures, found)
            progress(figures)
        await restarts.end()
        tasks.cancel_scope.cancel()
    figures.check()
    return figures


def _note(figures: Figures, found: dict[str, Any]) -> None:
    figures.begun, figures.told = found["begun"], found["told"]
    figures.memory.append(found["memory"])


@asynccontextmanager
async def _readers(port: int, tally: Tally) -> AsyncIterator[TaskGroup]:
    async with anyio.create_task_group() as tasks:
        for path in PATHS:
            tasks.start_soon(Reader(port, path, tally).run)
        yield tasks


async def _publish(server: ServerProcess) -> None:
    while True:
        with suppress(SoakFailure):  # it is out of descriptors, or stands still, by a fault; that fault is checked
            await server.get("/feed", "POST")
        await anyio.sleep(PUBLISHING)


class _Restarts:
    """The second server: ended at random moments in the middle of its streams, and started again on its port."""

    def __init__(self, backend: str, chance: random.Random, figures: Figures) -> None:
        self._backend = backend
        self._chance = chance
        self._figures = figures
        self._ending = anyio.Event()
        self._ended = anyio.Event()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run until `end`."""
        port = 0
        async with anyio.create_task_group() as tasks:
            while not self._ending.is_set():
                async with server_process(self._backend, port) as server:
                    if port == 0:
                        port = server.port
                        for path in PATHS[:3]:
                            tasks.start_soon(Reader(port, path, self._figures.tally).run)
                        task_status.started()
                    with anyio.move_on_after(self._chance.uniform(0.5, 3.0)):
                        await self._ending.wait()
                    await server.end()
                self._figures.faults[RESTART] += 1
            tasks.cancel_scope.cancel()
        self._ended.set()

    async def end(self) -> None:
        """End the server a last time."""
        self._ending.set()
        await self._ended.wait()
