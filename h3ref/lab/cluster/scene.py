"""What a chat room in several processes goes through: a server is killed, Redis restarts, all is deployed anew."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio

from ..recorder import Recording
from .chart import Process, draw
from .people import PATIENCE, Reader, Verdict, Writer, until_all_hear
from .programs import Program, balancer, is_running, redis_server, redis_url, server

APP: Final = "h3ref.examples.chat:app"
NAMES: Final = ("ann", "bob", "cid", "dora", "eve", "fay", "gus", "hal")
"""Of those who read."""

TRACE: Final = "trace.ndjson"


class Cluster:
    """Redis, servers of several workers each, and nginx before them.

    Args:
        folder: where they run, and write what they record.
        servers: how many there are, all on this machine.
        workers: processes of each.

    Raises:
        Missing: a program is not on this machine.

    Attributes:
        marks: what was done to them, and when, by the clock of the recordings.
    """

    def __init__(self, folder: Path, *, servers: int = 2, workers: int = 2) -> None:
        self.redis = redis_server(folder / "redis")
        environment = {"REDIS_URL": redis_url(self.redis)}
        options = ["--workers", str(workers), "--trace", TRACE, "--grace", "5"]
        self.servers = [
            server(f"server {number}", APP, folder / f"server-{number}", *options, environment=environment)
            for number in range(1, servers + 1)
        ]
        self.nginx = balancer(self.servers, folder / "nginx")
        self.marks: dict[str, float] = {}
        self._deaths: dict[Path, float] = {}  # by the file that a process has recorded into

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start all of it; on leaving, end it in order, or kill it after an error."""
        programs = [self.redis, *self.servers, self.nginx]
        try:
            await self.redis.start()
            await _each(Program.start, [*self.servers, self.nginx])
            yield
            await self.nginx.end()
            await _each(Program.end, self.servers)
            await self.redis.end()
        finally:
            for program in programs:
                program.kill()

    def mark(self, text: str) -> None:
        """Note what is done now."""
        self.marks[text] = time.monotonic()

    def kill(self, program: Program) -> None:
        """Kill a server with its workers, without a word, as a machine that fails does."""
        workers, now = _workers(program), time.monotonic()
        program.kill()
        for pid in workers:  # which would otherwise notice that their parent is gone, and end in order
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in _traces(program):
            self._deaths.setdefault(path, now)

    async def deploy(self, program: Program) -> None:
        """Have a server replace its workers one by one, and wait until those that there were are gone.

        Raises:
            TimeoutError: they stay.
        """
        before = _workers(program)
        program.tell(signal.SIGHUP)
        with anyio.fail_after(PATIENCE):
            while True:
                if not any(map(is_running, before)):
                    return
                await anyio.sleep(0.05)

    def processes(self) -> list[Process]:
        """Return what all workers have recorded: those of a server in the order of their first records."""
        found = []
        for program in self.servers:
            traces = [(path, Recording.load(path)) for path in _traces(program)]
            recorded = sorted((pair for pair in traces if pair[1]), key=lambda pair: pair[1][0].time)
            for number, (path, recording) in enumerate(recorded, 1):
                died = self._deaths.get(path, math.inf)
                found.append(Process(f"{program.name}, worker {number}", recording, died))
        return found


def _traces(program: Program) -> list[Path]:
    """The files that a server's workers have recorded into: each has its process's number in its name."""
    return sorted(program.folder.glob("trace-*.ndjson"))


def _workers(program: Program) -> list[int]:
    """The numbers of a server's workers that run now."""
    return [pid for path in _traces(program) if is_running(pid := int(path.stem.rpartition("-")[2]))]


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
    cluster.mark(f"{first.name} is killed")
    cluster.kill(first)
    await until_all_hear(writer, readers)
    cluster.mark(f"{first.name} is there again")
    await first.start()
    await until_all_hear(writer, readers)
    cluster.mark("Redis is killed, and restarts")
    cluster.redis.kill()
    await cluster.redis.start()
    await until_all_hear(writer, readers)
    for one in cluster.servers:
        cluster.mark(f"{one.name} is deployed anew")
        await cluster.deploy(one)
        await until_all_hear(writer, readers)


def demo(*, columns: int | None = None) -> bool:
    """Play it on this machine, and print the timeline and what became of the messages; return whether all came.

    Raises:
        Missing: a program is not on this machine; the text says how to get it.
        Failed: a program does not start, or does not end.
        TimeoutError: a message does not reach everybody in time.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing that was started stays
    try:
        return anyio.run(_demo, columns or shutil.get_terminal_size().columns)
    finally:
        signal.signal(signal.SIGTERM, before)


async def _demo(columns: int) -> bool:
    with TemporaryDirectory(prefix="h3ref-cluster-") as folder:
        cluster = Cluster(Path(folder))
        readers, writer = [Reader(name, cluster.nginx.url) for name in NAMES], Writer(cluster.nginx.url)
        _say(f"Starting Redis, {len(cluster.servers)} servers of 2 workers each, and nginx before them …")
        async with cluster.running():
            _say(f"{len(readers)} people read the chat, and one writes; meanwhile servers and Redis go and come …\n")
            await play(cluster, readers, writer)
        verdict = Verdict(writer, readers)
        _say(draw(cluster.processes(), cluster.marks, columns=columns))
        _say("\nA letter is the process that has the stream, in lower case while no event came; a dot is no stream.\n")
        _say(verdict.tell(writer, readers))
        return verdict.is_good


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
