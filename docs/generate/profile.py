"""Where an event's time goes: h3ref's server under load, and which part of it has the processor.

    python -m docs.generate.profile FILE         some seconds; writes the profile as JSON

The server notes where its main thread is, each so often of CPU time (`servers.leash`), so that nothing is made slower
by being watched. A look counts for the innermost function that is h3ref's or h11's: what it called of the standard
library, of anyio or of the kernel is its own cost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from h3ref.lab.bench.load import Load, LoadError
from h3ref.lab.bench.machine import machine
from h3ref.lab.bench.process import Clocks, ServerFailed, ServerProcess
from h3ref.lab.bench.sections import publishing, until_subscribed
from h3ref.lab.bench.servers.leash import allow_files

LOOP: Final = "the event loop itself"

PARTS: Final = {
    "the benchmark's own handler": ("lab/bench/servers/",),
    "`SSEEvent`: its values checked, and encoded": ("sse/event.py",),
    "the writer": (
        *("writer.py", "blocking.py", "_core/stream.py", "_core/order.py", "_core/turn.py"),
        *("_core/standins.py", "_core/mailbox.py"),
    ),
    "the channel: its log, groups and subscriptions": ("channel/", "group.py"),
    "framing, and the system call that sends": ("h11_anyio/stream.py", "h11_anyio/wire.py"),
    "rounds of sending, deadlines, watching for a client that leaves": (
        *("h11_anyio/loop.py", "h11_anyio/watcher.py", "h11_anyio/flusher.py", "h11_anyio/turns.py"),
        *("h11_anyio/deadlines.py", "h11_anyio/backlog.py"),
    ),
    "accepting, reading and closing": (
        *(
            "h11_anyio/server.py",
            "h11_anyio/acceptor.py",
            "h11_anyio/listeners.py",
            "h11_anyio/peer.py",
            "h11_anyio/tasks.py",
        ),
        *("h11_anyio/transport.py", "h11_anyio/answer.py", "h11_anyio/sockets.py"),
    ),
    "the guard, and h11": (
        *("h11_anyio/guard.py", "h11_anyio/grammar.py", "h11_anyio/framing.py", "h11_anyio/refused.py"),
        "/h11/",
    ),
    "the state machine": ("lifecycle.py",),
    "the application, the exchange and its flow": ("",),
}
"""What the parts are called, and the files that each is; the first that fits."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is done each time: events to one stream; streams and deliveries to all of them together; requests."""

    events: int = 200_000
    streams: int = 500
    deliveries: int = 500_000
    requests: int = 2000


AMOUNTS = Amounts()


class Workload(NamedTuple):
    """One kind of load.

    Attributes:
        name, unit: for people: what is done, and what of it is counted.
        times: how often it is repeated, so that there is enough to see.
        run: does it once; returns how many units that were, and the CPU time of them in seconds.
    """

    name: str
    unit: str
    times: int
    run: Callable[[ServerProcess, Callable[[], object]], tuple[int, float]]


class Profile(NamedTuple):
    """What one workload showed.

    Attributes:
        name, unit: of the workload.
        cost: microseconds of CPU a unit.
        looks: how many there were.
        parts: how many of them were in which part.
    """

    name: str
    unit: str
    cost: float
    looks: int
    parts: dict[str, int]


def stream(server: ServerProcess, begin: Callable[[], object]) -> tuple[int, float]:
    """One stream, its events as fast as they can be sent."""
    count = AMOUNTS.events
    with Load(server.port) as load:
        begin()
        before = server.clocks()
        load.open(1, f"/stream?count={count}")
        load.receive(count)
        load.finish()
        return count, _cpu(before, server.clocks())


def fan_out(server: ServerProcess, begin: Callable[[], object]) -> tuple[int, float]:
    """Events published to many streams, each as soon as the one before it is."""
    streams, count = AMOUNTS.streams, AMOUNTS.deliveries // AMOUNTS.streams
    with Load(server.port) as load:
        load.open(streams, "/fan")
        until_subscribed(server.port, streams)
        begin()
        before = server.clocks()
        with publishing(server.port, count, 0):
            load.receive(streams * count)
            return streams * count, _cpu(before, server.clocks())


def first(server: ServerProcess, begin: Callable[[], object]) -> tuple[int, float]:
    """New connections, 50 at a time, with one event each."""
    count = AMOUNTS.requests
    with Load(server.port) as load:
        begin()
        before = server.clocks()
        load.requests("/first", count, 50)
        return count, _cpu(before, server.clocks())


def _cpu(before: Clocks, after: Clocks) -> float:
    return after.cpu - before.cpu


WORKLOADS: Final = (
    Workload("one stream", "event", 10, stream),
    Workload("fan-out to 500", "delivery", 20, fan_out),
    Workload("a request with one event", "request", 8, first),
)


def profile(workload: Workload) -> Profile:
    """Start a server, and look where it is under this load.

    Raises:
        ServerFailed, LoadError: it did not do its part.
    """
    parts: Counter[str] = Counter()
    units, seconds = 0, 0.0
    with ServerProcess("h3ref", ["ours", "--sample"]) as server:
        workload.run(server, lambda: None)  # to warm up
        for _ in range(workload.times):
            done, took = workload.run(server, server.samples)
            units, seconds = units + done, seconds + took
            for stack, count in server.samples():
                parts[part_of(stack)] += count
    order = [*PARTS, LOOP]
    found = {part: parts[part] for part in sorted(parts, key=order.index)}
    return Profile(workload.name, workload.unit, round(seconds / units * 1e6, 3), parts.total(), found)


def part_of(stack: Sequence[str]) -> str:
    """The part that a stack, innermost function first, counts for."""
    for frame in stack:
        file = frame.rpartition(":")[0].replace("\\", "/")
        if "/h3ref/" in file or "/h11/" in file:
            inside = file.rpartition("/h3ref/")[2]
            if not inside.endswith("lab/bench/servers/__main__.py"):
                return next(part for part, names in PARTS.items() if any(name in inside for name in names))
    return LOOP


def run() -> dict[str, Any]:
    """All profiles, as JSON has them."""
    return {"machine": machine(), "profiles": [profile(workload)._asdict() for workload in WORKLOADS]}


def load(path: Path) -> list[Profile]:
    """Read what `main` wrote.

    Raises:
        OSError: it can't be read.
        ValueError: it is no profile.
    """
    try:
        return [Profile(**one) for one in json.loads(path.read_text(encoding="utf-8"))["profiles"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no profile: {type(error).__name__}: {error}") from error


def lines(profiles: Sequence[Profile]) -> Iterator[str]:
    """A profile as lines of text."""
    for one in profiles:
        yield f"{one.name}: {one.cost:.3g} us of CPU {a_unit(one.unit)}; {one.looks} looks"
        for part, count in sorted(one.parts.items(), key=lambda found: -found[1]):
            yield f"{count / one.looks:8.1%}  {part}"


def a_unit(unit: str) -> str:
    """The unit with its article."""
    return f"an {unit}" if unit[0] in "aeiou" else f"a {unit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile, write the file, print what was found; the exit status is 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.profile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write the JSON")
    path: Path = parser.parse_args(arguments).file
    allow_files()
    try:
        found = run()
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print("\n".join(lines(load(path))))
    except (ServerFailed, LoadError, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
