"""What happens to a chat room in several processes: a server is killed, Redis restarts, and all is deployed anew."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio

from ..recorder import Recording
from .chart import Process, draw, lives
from .people import PATIENCE, Reader, Verdict, Writer, until_all_hear
from .programs import Program, balancer, redis_server, redis_url, server

APP: Final = "h3ref.examples.chat:app"
NAMES: Final = ("ann", "bob", "cid", "dora", "eve", "fay", "gus", "hal")
"""Of those who read."""

TRACE: Final = "trace.ndjson"


class Cluster:
    """Redis, servers of several processes each, and nginx before them.

    Args:
        folder: where they run, and write what they record.
        servers: how many there are, all on this machine.
        processes: of each.

    Raises:
        Missing: a program is not on this machine.

    Attributes:
        servers: each as its processes.
        marks: what was done to them, and when, by the clock of the recordings.
    """

    def __init__(self, folder: Path, *, servers: int = 2, processes: int = 2) -> None:
        self.redis = redis_server(folder / "redis")
        environment = {"REDIS_URL": redis_url(self.redis)}
        options = ["--trace", TRACE, "--grace", "5"]
        self.servers = [
            [
                server(
                    f"server {number}, process {part}",
                    APP,
                    folder / f"{number}-{part}",
                    *options,
                    environment=environment,
                )
                for part in range(1, processes + 1)
            ]
            for number in range(1, servers + 1)
        ]
        self._all = [program for programs in self.servers for program in programs]
        self.nginx = balancer(self._all, folder / "nginx")
        self.marks: dict[str, float] = {}
        self._deaths: dict[Program, list[float]] = {program: [] for program in self._all}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start all of it; on leaving, end it in order, or kill it after an error."""
        programs = [self.redis, *self._all, self.nginx]
        try:
            await self.redis.start()
            await _each(Program.start, [*self._all, self.nginx])
            yield
            await self.nginx.end()
            await _each(Program.end, self._all)
            await self.redis.end()
        finally:
            for program in programs:
                program.kill()

    def mark(self, text: str) -> None:
        """Note what is done now."""
        self.marks[text] = time.monotonic()

    def kill(self, programs: Sequence[Program]) -> None:
        """Kill processes without a word, as a machine that fails does."""
        for program in programs:
            program.kill()
            self._deaths[program].append(time.monotonic())

    async def deploy(self, programs: Sequence[Program]) -> None:
        """Have processes end in order, and start them anew, one after the other."""
        for program in programs:
            await program.end()
            await program.start()

    def processes(self) -> list[Process]:
        """Return what all of them have recorded."""
        return [
            process
            for program in self._all
            for process in lives(program.name, Recording.load(program.folder / TRACE), self._deaths[program])
        ]


async def _each(call: Callable[[Program], Coroutine[Any, Any, None]], programs: Sequence[Program]) -> None:
    async with anyio.create_task_group() as tasks:
        for program in programs:
            tasks.start_soon(call, program)


async def play(cluster: Cluster, readers: Sequence[Reader], writer: Writer) -> None:
    """Let happen what happens, and each time wait until everybody has heard what was written since.

    Raises:
        TimeoutError: somebody does not.
    """
    in_time = True
    async with anyio.create_task_group() as tasks:
        for reader in readers:
            tasks.start_soon(reader.run)
        tasks.start_soon(writer.run)
        try:
            await _scenes(cluster, readers, writer)
        except TimeoutError:
            in_time = False  # raised where no group wraps it
        tasks.cancel_scope.cancel()
    if not in_time:
        raise TimeoutError(f"not everybody has heard all messages, {PATIENCE:g} s after: {list(cluster.marks)[-1:]}")


async def _scenes(cluster: Cluster, readers: Sequence[Reader], writer: Writer) -> None:
    await until_all_hear(writer, readers)
    first = cluster.servers[0]
    cluster.mark("server 1 is killed")
    cluster.kill(first)
    await until_all_hear(writer, readers)
    cluster.mark("server 1 is there again")
    await _each(Program.start, first)
    await until_all_hear(writer, readers)
    cluster.mark("Redis is killed, and restarts")
    cluster.redis.kill()
    await cluster.redis.start()
    await until_all_hear(writer, readers)
    for number, programs in enumerate(cluster.servers, 1):
        cluster.mark(f"server {number} is deployed anew")
        await cluster.deploy(programs)
        await until_all_hear(writer, readers)


def demo(*, columns: int | None = None) -> bool:
    """Play it on this machine, and print the timeline and what became of the messages; return whether all came.

    Raises:
        Missing: a program is not on this machine; the text says how to get it.
        Failed: a program does not start, or does not end.
        TimeoutError: a message does not reach everybody in time.
    """
    return anyio.run(_demo, columns or shutil.get_terminal_size().columns)


async def _demo(columns: int) -> bool:
    with TemporaryDirectory(prefix="h3ref-cluster-") as folder:
        cluster = Cluster(Path(folder))
        readers, writer = [Reader(name, cluster.nginx.url) for name in NAMES], Writer(cluster.nginx.url)
        _say(f"Starting Redis, {len(cluster.servers)} servers of 2 processes each, and nginx before them …")
        async with cluster.running():
            _say(f"{len(readers)} people read the chat, and one writes; meanwhile servers and Redis go and come …\n")
            await play(cluster, readers, writer)
        verdict = Verdict(writer, readers)
        _say(draw(cluster.processes(), cluster.marks, columns=columns))
        _say("\nA letter is the process that has the stream, a small one where no event came; a dot is no stream.\n")
        _say(verdict.tell(writer, readers))
        return verdict.is_good


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
