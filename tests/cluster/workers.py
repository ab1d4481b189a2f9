"""What a second worker brings: `python -m tests.cluster.workers FILE` measures one worker of `h3ref serve` and two.

Both get the same load: streams of a channel on which each worker publishes at a fixed rate. It is far below what a
worker can do, so that the process that reads it does not take the cores away; the CPU time that each worker needs says
what it could do. How much more two deliver is limited by the busier one: the system spreads connections by chance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from h3ref.lab.bench.machine import load_average, machine

from .fanout import RATE
from .figures import LOOPS, cpu_seconds_of
from .process import PATIENCE
from .servers import HOST


class Worker:
    """A worker between two looks: CPU seconds, events that its streams took, and memory in MiB."""

    def __init__(self, told: dict[str, int]) -> None:
        self.pid = told["pid"]
        self._before = (cpu_seconds_of(self.pid), told["events"])
        self.cpu = self.events = self.memory = 0.0

    def look(self, told: dict[str, int]) -> None:
        """Take what it has done since."""
        cpu, events = self._before
        self.cpu, self.events = cpu_seconds_of(self.pid) - cpu, told["events"] - events
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.memory = int(status.split("VmRSS:")[1].split()[0]) / 1024


async def measure(loop: str, workers: int, streams: int, seconds: float) -> list[Worker]:
    """Serve so many streams with so many workers, and see what each of these does meanwhile."""
    async with _serving(loop, workers) as port, httpx2.AsyncClient(base_url=f"http://{HOST}:{port}") as client:

        async def look() -> list[dict[str, int]]:
            found: list[dict[str, int]] = (await client.get("/figures")).json()
            return found

        command = [sys.executable, "-m", "tests.cluster.figures", "--drain", str(port), str(streams)]
        async with await anyio.open_process(command, stdout=None, stderr=None) as drain:
            try:
                while sum(told["streams"] for told in await look()) < streams:  # noqa: ASYNC110
                    await anyio.sleep(0.1)
                found = [Worker(told) for told in await look()]
                await anyio.sleep(seconds)
                for worker, told in zip(found, await look(), strict=True):
                    worker.look(told)
            finally:
                drain.kill()
    return found


@asynccontextmanager
async def _serving(loop: str, workers: int) -> AsyncIterator[int]:
    command = [sys.executable, "-m", "h3ref", "serve", "tests.cluster.fanout:app", "--port", "0", "--backend", loop]
    command += ["--workers", str(workers), "--no-access-log"]
    async with await anyio.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield await _port(process)
        finally:
            process.terminate()
            with anyio.move_on_after(PATIENCE, shield=True):
                await process.wait()
            if process.returncode is None:
                process.kill()


async def _port(process: Process) -> int:
    assert process.stdout is not None
    said = ""
    with anyio.fail_after(PATIENCE):
        async for text in TextReceiveStream(process.stdout):
            said += text
            if f"http://{HOST}:" in said and "\n" in said.partition(f"http://{HOST}:")[2]:
                return int(said.partition(f"http://{HOST}:")[2].split()[0])
    raise RuntimeError(f"it did not serve: {said}")


def more(one: list[Worker], two: list[Worker]) -> float:
    """How many times the events of one worker two could deliver: as many as the busier one allows."""
    alone = one[0].events / one[0].cpu
    both = sum(worker.events for worker in two) / max(worker.cpu for worker in two)
    return both / alone


def main() -> int:
    """Measure, and write the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.workers", description=main.__doc__)
    parser.add_argument("file", type=Path, help="where to")
    parser.add_argument("--streams", type=int, default=1000, help="of all workers (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="for each measurement (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="of one worker and two (%(default)s)")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "about": {"date": date.today().isoformat(), "machine": machine(), "load": load_average()},
        "streams": options.streams,
        "rate": RATE,
        "turns": options.turns,
        "figures": {},
    }
    for loop in LOOPS:
        ratios, memory, costs = [], [], []
        for _ in range(options.turns):
            one, two = [
                anyio.run(measure, loop, workers, options.streams, options.seconds, backend=loop) for workers in (1, 2)
            ]
            ratios.append(more(one, two))
            memory += [worker.memory for worker in two]
            costs.append(one[0].cpu / one[0].events * 1e6)
            print(
                f"{loop:8} one: {one[0].cpu:.2f} s, two: {', '.join(f'{w.cpu:.2f} s' for w in two)}; x{ratios[-1]:.2f}"
            )
        result["figures"][loop] = {
            "value": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
            "memory MiB": round(statistics.median(memory), 1),
            "one us": round(statistics.median(costs), 3),
        }
    options.file.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
