"""What channels of several processes cost and take, measured side by side: `python -m tests.cluster.figures FILE`.

Each figure is taken on both event loops and both kinds of servers. What is compared, as one process with two, takes
turns in one run. `docs.generate.performance_tables` writes them beside what was to be reached.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import httpx2

from h3ref import Channel
from h3ref.lab.bench.machine import load_average, machine
from h3ref.redis import RedisEngine

from .oracle import Told
from .process import ServerProcess, server_process
from .servers import HOST, Kind
from .trial import Trial, open_trial, until

LOOPS: Final = ("asyncio", "trio")
KINDS: Final[tuple[Kind, ...]] = ("redis", "valkey")

Figures = dict[str, float]


async def latency(trial: Trial, loop: str) -> Figures:
    """From publish to the client's socket: one process without an engine, and from one process to another by one."""
    server = trial.servers.start()
    times: dict[str, list[float]] = {"one": [], "two": []}
    async with AsyncExitStack() as stack:
        alone = await stack.enter_async_context(server_process(loop))
        pair = [await stack.enter_async_context(server_process(loop, server.url)) for _ in range(2)]
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=60))
        for turn in range(5):
            for name, process, to in (("one", alone, alone), ("two", pair[0], pair[1])):
                sock = _stream(to.port)
                while not (await _figures(client, to))["streams"]:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
                async with anyio.create_task_group() as both:
                    url = f"http://{HOST}:{process.port}/burst?number=100&pause=0.005&size=80"
                    both.start_soon(client.post, url)
                    found = await _times_of(sock, 100)
                sock.close()
                times[name] += found if turn else []  # the first turn warms up
                while (await _figures(client, to))["streams"]:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
    one, two = (statistics.median(times[name]) for name in ("one", "two"))
    return {"one p50 ms": one, "two p50 ms": two, "value": two - one}


async def _times_of(sock: socket.socket, number: int) -> list[float]:
    """Milliseconds that events took which say when they were published."""
    found: list[float] = []
    rest = b""
    while len(found) < number:
        await anyio.wait_readable(sock)
        rest += sock.recv(65536)
        now = time.monotonic_ns()
        *lines, rest = rest.split(b"\n")
        found += [(now - int(line[6:])) / 1e6 for line in lines if line.startswith(b"data: ")]
    return found


def _stream(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port))
    sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    sock.setblocking(False)
    return sock


async def cpu(trial: Trial, loop: str, streams: int = 500, events: int = 60) -> Figures:
    """CPU a delivery of one process with 500 streams and no engine, and of two processes with 500 each."""
    server = trial.servers.start()
    found: dict[str, list[float]] = {"one": [], "two": []}
    async with AsyncExitStack() as stack:
        alone = await stack.enter_async_context(_served(loop, "", streams))
        pair = [await stack.enter_async_context(_served(loop, server.url, streams)) for _ in range(2)]
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=120))
        for turn in range(6):
            for name, processes in (("one", [alone]), ("two", pair)):
                before = [await _figures(client, process) for process in processes]
                url = f"http://{HOST}:{processes[turn % len(processes)].port}/burst?number={events}&pause=0.01&size=80"
                (await client.post(url)).raise_for_status()
                after = [await _figures(client, process) for process in processes]
                while not _have_delivered(streams * events, before, after):
                    await anyio.sleep(0.05)
                    after = [await _figures(client, process) for process in processes]
                took = sum(new["cpu"] - old["cpu"] for new, old in zip(after, before, strict=True))
                found[name].append(took / (streams * events * len(processes)) * 1e6)
    one, two = (values[1:] for values in found.values())  # the first turn warms up
    ratios = [later / earlier for earlier, later in zip(one, two, strict=True)]
    return {
        "one us": statistics.median(one),
        "two us": statistics.median(two),
        "value": statistics.median(ratios),
    }


def _have_delivered(number: int, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> bool:
    return all(new["delivered"] - old["delivered"] >= number for new, old in zip(after, before, strict=True))


@asynccontextmanager
async def _served(loop: str, url: str, streams: int) -> AsyncIterator[ServerProcess]:
    """A process with so many streams, which are read and thrown away by another process."""
    async with server_process(loop, url) as process, httpx2.AsyncClient() as client:
        command = [sys.executable, "-m", "tests.cluster.figures", "--drain", str(process.port), str(streams)]
        async with await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=None) as drain:
            try:
                while (await _figures(client, process))["streams"] < streams:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
                yield process
            finally:
                drain.kill()


async def _figures(client: httpx2.AsyncClient, process: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"http://{HOST}:{process.port}/figures")).json()
    return found


def drain(port: int, streams: int) -> None:
    """Read streams, and throw away what comes."""
    with selectors.DefaultSelector() as selector:
        for _ in range(streams):
            selector.register(_stream(port), selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv(1 << 20):
                    selector.unregister(key.fileobj)


async def publishes(trial: Trial, loop: str, number: int = 10_000) -> Figures:
    """Events that a process publishes a second, 50 at once, while a stream reads them."""
    server = trial.servers.start()
    node = await trial.node(server.url)
    await node.reader()

    async def publish(times: int) -> None:
        for _ in range(times):
            await node.channel.publish("x" * 80)

    began, cpu = anyio.current_time(), time.process_time()
    async with anyio.create_task_group() as publishing:
        for _ in range(50):
            publishing.start_soon(publish, number // 50)
    took, cpu = anyio.current_time() - began, time.process_time() - cpu
    trial.readers.clear()
    return {"value": number / took, "cpu us": cpu / number * 1e6}


async def recovery(trial: Trial, loop: str, times: int = 20) -> Figures:
    """Milliseconds from a server that answers again to what is published by it, seen in another process."""
    server = trial.servers.start("--appendonly", "yes")
    one, two = await trial.node(server.url), await trial.node(server.url)
    reader, voice = await two.reader(), one.publisher("a")
    found = []
    for _ in range(times):
        await voice.publish(5)
        await reader.until_seen(voice.last)
        async with trial.publishing(voice):
            server.kill()
            await anyio.to_thread.run_sync(server.start)
            ready, seen = anyio.current_time(), len(reader.seen)
            await reader.until_more(1)
            found.append((reader.times[seen] - ready) * 1000)
    await trial.judge()
    found.sort()
    return {"p50 ms": statistics.median(found), "value": found[int(0.95 * len(found))]}


async def channels(trial: Trial, loop: str, number: int = 3000) -> Figures:
    """Seconds from the first connection after a cut until all channels have what they missed."""
    server = trial.servers.start()
    proxy = await trial.proxy(server.port)
    engines = [RedisEngine(url, timeout=5, patience=30) for url in (server.url, proxy.url)]
    near, far = [
        [Channel(10, name=f"channel {count}", engine=engine, gap="gap") for count in range(number)]
        for engine in engines
    ]
    async with engines[0], engines[1]:
        nodes = await trial.nodes_of(far)
        readers = [await node.reader() for node in nodes]
        await _publish_all(near, "first")
        for reader in readers:
            await reader.until_seen("first")
        await proxy.refuse()
        await _publish_all(near, "missed")
        before = proxy.accepted
        await proxy.accept()
        await until(lambda: proxy.accepted > before)
        began, cpu = anyio.current_time(), time.process_time()
        for reader in readers:
            await reader.until_seen("missed")
        cpu = time.process_time() - cpu
        took = max(reader.times[reader.seen.index("missed")] for reader in readers) - began
        assert not any(reader.gaps for reader in readers)
        trial.readers.clear()
    return {"value": took, "cpu s": cpu}


async def _publish_all(channels: list[Channel], data: str) -> None:
    async def publish(some: list[Channel]) -> None:
        for channel in some:
            await channel.publish(data)

    async with anyio.create_task_group() as publishing:
        for start in range(20):
            publishing.start_soon(publish, channels[start::20])


async def server_cpu(trial: Trial, loop: str, number: int = 5000) -> Figures:
    """The server's CPU an event, where 5,000 channels are listened to, against one."""
    server = trial.servers.start()
    engines = [RedisEngine(server.url, timeout=5, patience=30) for _ in range(2)]
    found: Figures = {}
    async with engines[0], engines[1]:
        for name, count in (("one", 1), ("many", number)):
            here, there = [
                [Channel(10, name=f"{name} {one}", engine=engine) for one in range(count)] for engine in engines
            ]
            readers = [await node.reader() for node in await trial.nodes_of(there)]
            await _publish_all(here * (number // count), "warm")
            before = cpu_seconds_of(server.pid)
            await _publish_all(here * (2 * number // count), "x")
            found[f"{name} us"] = (cpu_seconds_of(server.pid) - before) / (2 * number) * 1e6
            for reader in readers:
                await reader.until_more(3 * number // count - len(reader.seen))
        trial.readers.clear()
    return found | {"value": found["many us"] / found["one us"]}


def cpu_seconds_of(pid: int) -> float:
    """Seconds that all threads of a process have run, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def failover(trial: Trial, loop: str, down_after: float = 1.0) -> Figures:
    """The longest publish, in seconds beyond the time after which the sentinels take a server for dead."""
    primary = trial.servers.start()
    for _ in range(2):
        await anyio.to_thread.run_sync(trial.servers.start_replica, primary.port)
    start = trial.servers.start_sentinels
    sentinels = await anyio.to_thread.run_sync(start, primary, "service", down_after)
    addresses = [(HOST, sentinel.port) for sentinel in sentinels]
    nodes = [await trial.node(sentinels=addresses, service="service") for _ in range(2)]
    reader, voice = await nodes[1].reader(), nodes[0].publisher("a")
    async with trial.publishing(voice):
        await reader.until_more(100)
        primary.kill()
        await reader.until_more(50)
    await trial.judge()
    assert Told.REFUSED not in voice.told.values()
    return {"longest s": voice.longest, "value": voice.longest - down_after}


ALL: Final[dict[str, Callable[[Trial, str], Awaitable[Figures]]]] = {
    "latency": latency,
    "cpu": cpu,
    "publishes": publishes,
    "recovery": recovery,
    "channels": channels,
    "server": server_cpu,
    "failover": failover,
}


async def measure(name: str, kind: Kind, loop: str) -> Figures:
    """Take one figure."""
    async with open_trial(kind) as trial:
        return await ALL[name](trial, loop)


def main() -> int:
    """Measure, and write the figures as JSON."""
    if sys.argv[1:2] == ["--drain"]:
        drain(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.figures", description=main.__doc__)
    parser.add_argument("file", type=Path, help="where to; figures that it has of others are kept")
    parser.add_argument("--only", choices=ALL, action="append", help="these figures (all)")
    parser.add_argument("--server", choices=KINDS, action="append", help="on these servers (both)")
    parser.add_argument("--loop", choices=LOOPS, action="append", help="on these event loops (both)")
    options = parser.parse_args()
    kept = json.loads(options.file.read_text())["figures"] if options.file.exists() else {}
    about = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "load": load_average(),
        "versions": {name: version(name) for name in ("anyio", "coredis", "trio")},
    }
    for name in options.only or ALL:
        for kind in options.server or KINDS:
            for loop in options.loop or LOOPS:
                found = anyio.run(measure, name, kind, loop, backend=loop)
                kept.setdefault(name, {})[f"{kind} {loop}"] = {key: round(one, 4) for key, one in found.items()}
                print(f"{name:10} {kind:7} {loop:8}", kept[name][f"{kind} {loop}"], flush=True)
                options.file.write_text(json.dumps({"about": about, "figures": kept}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
