"""What happens to a chat room in several processes: a server is killed, Redis restarts, and all is deployed anew."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ..recorder import Recording
from .chart import Process, draw
from .people import Reader, Verdict, Writer, until_all_hear
from .programs import HOST, Program, balancer, redis_server, server

APP: Final = "h3ref.examples.chat:app"
NAMES: Final = ("ann", "bob", "cid", "dora", "eve", "fay", "gus", "hal")
"""Of those who read."""


class Cluster:
    """Redis, servers of several workers each, and nginx before them.

    Args:
        folder: where they run, and write what they record.
        servers: how many there are, all on this machine.
        workers: processes of each.

    Raises:
        Missing: a program is not on this machine.

    Attributes:
        marks: what was done to it, and when, by the clock of the recordings.
    """

    def __init__(self, folder: Path, *, servers: int = 2, workers: int = 2) -> None:
        self.redis = redis_server(folder / "redis")
        url = f"redis://{HOST}:{self.redis.port}"
        options = ["--workers", str(workers), "--trace", "trace.ndjson", "--grace", "5"]
        self.servers = [
            server(f"server {number}", APP, folder / f"server-{number}", *options, environment={"REDIS_URL": url})
            for number in range(1, servers + 1)
        ]
        self.nginx = balancer(self.servers, folder / "nginx")
        self.marks: dict[str, float] = {}
        self._died: dict[Path, float] = {}  # when the processes that recorded into a file were killed

    @property
    def url(self) -> str:
        """Where nginx is."""
        return f"http://{HOST}:{self.nginx.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start all of it; on leaving, end it in order, or kill it after an error."""
        programs = [self.redis, *self.servers, self.nginx]
        try:
            for program in programs:
                await program.start()
            yield
            for program in reversed(programs):
                await program.end()
        finally:
            for program in programs:
                program.kill()

    def mark(self, text: str) -> None:
        """Note what is done now."""
        self.marks[text] = time.monotonic()

    def kill(self, program: Program) -> None:
        """Kill a program, and its workers with it."""
        self.mark(f"{program.name} is killed")
        program.kill()
        for path in self._traces(program):
            self._died.setdefault(path, time.monotonic())

    def processes(self) -> list[Process]:
        """Return what each worker has recorded, those of the first server first."""
        return [
            Process(
                f"{program.name}, worker {path.stem.rpartition('-')[2]}",
                Recording.load(path),
                self._died.get(path, math.inf),
            )
            for program in self.servers
            for path in self._traces(program)
            if path.stat().st_size
        ]

    def _traces(self, program: Program) -> list[Path]:
        return sorted(program.folder.glob("trace*.ndjson"), key=lambda path: path.stat().st_mtime)


async def play(cluster: Cluster, readers: Sequence[Reader], writer: Writer, tasks: TaskGroup) -> None:
    """Let happen what happens, and each time wait until everybody has heard what was written since.

    Raises:
        TimeoutError: somebody does not.
    """
    for reader in readers:
        tasks.start_soon(reader.run)
    tasks.start_soon(writer.run)
    await until_all_hear(writer, readers)
    first = cluster.servers[0]
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
        one.tell(signal.SIGHUP)
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
        readers, writer = [Reader(name, cluster.url) for name in NAMES], Writer(cluster.url)
        _say(f"Starting Redis, {len(cluster.servers)} servers of 2 workers each, and nginx before them …")
        async with cluster.running(), anyio.create_task_group() as tasks:
            _say(f"{len(readers)} people read the chat, and one writes; meanwhile servers and Redis go and come …\n")
            await play(cluster, readers, writer, tasks)
            tasks.cancel_scope.cancel()
        verdict = Verdict(writer, readers)
        _say(draw(cluster.processes(), cluster.marks, columns=columns))
        _say("\nA letter is the process that has the stream, a large one an event; a dot is no stream.\n")
        _say(verdict.tell(writer, readers))
        return verdict.is_good


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
