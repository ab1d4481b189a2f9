"""The codec beside its peers: how long an event takes to build and encode, and to parse.

    python -m h3ref.lab.bench.codec [--json FILE] [--rounds N] [--events N]

In every round each contender does the same work in turn, so that what slows the machine slows them all. A
peer's ratio is its time divided by ours in the same round: at 2 we are twice as fast. The median tells what
to expect; the least is the round that was the worst for us.
"""

from __future__ import annotations

import argparse
import codecs
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

from h3ref.sse import EventStreamParser, SSEEvent

CHUNK_SIZE: Final = 16 * 1024
OURS: Final = "h3ref"

Run = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Fields:
    """One event of a workload."""

    data: str
    event: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """What every contender has to do."""

    name: str
    fields: Callable[[int], Fields]
    chunk_size: int | None = CHUNK_SIZE  # None: a chunk for each event, as it comes from a live stream


@dataclass(frozen=True, slots=True)
class Contender:
    """A package, and how to make it ready for a list of events; None where it has no such part."""

    package: str
    build: Callable[[Fields], Any] | None = None  # an event, which has `.encode()`
    parse: Callable[[Sequence[bytes]], Run] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One contender at one workload; times are microseconds an event."""

    task: str
    workload: str
    package: str
    best: float
    median: float
    ratio_min: float
    ratio_median: float


TEXT: Final = "The quick brown fox jumps over the lazy dog, then over the fence"
TYPICAL: Final = Workload("event, id and 64 bytes of data", lambda number: Fields(TEXT, "tick", str(number)))
ENCODE_WORKLOADS: Final = (
    TYPICAL,
    Workload("64 bytes of data", lambda number: Fields(TEXT)),
    Workload("a token", lambda number: Fields(" fox")),
    Workload("4 lines of 64 bytes", lambda number: Fields("\n".join([TEXT] * 4))),
    Workload("1 KiB of data", lambda number: Fields(TEXT * 16, "tick", str(number))),
    Workload("8 KiB of data", lambda number: Fields(TEXT * 128, "tick", str(number))),
)
PARSE_WORKLOADS: Final = (
    TYPICAL,
    Workload("64 bytes of data", lambda number: Fields(TEXT)),
    Workload("4 lines of 64 bytes", lambda number: Fields("\n".join([TEXT] * 4))),
    Workload("characters beyond ASCII", lambda number: Fields("Größe 20 €, 東京 " * 4, "tick", str(number))),
    Workload("the same as the first, an event a chunk", TYPICAL.fields, None),
    Workload("the same as the first, 100 bytes a chunk", TYPICAL.fields, 100),
)


# -- the contenders: each does all its public way asks for, and no more


def h3ref_build(fields: Fields) -> Any:
    return SSEEvent(fields.data, event=fields.event, id=fields.id)


def h3ref_parse(chunks: Sequence[bytes]) -> Run:
    def run() -> int:
        parser = EventStreamParser()
        return sum([len(parser.feed(chunk)) for chunk in chunks]) + len(parser.close())

    return run


def sse_starlette_build(fields: Fields) -> Any:
    event_class = cast(Any, import_module("sse_starlette.event")).ServerSentEvent
    return event_class(fields.data, event=fields.event, id=fields.id)


def httpx_sse_parse(chunks: Sequence[bytes]) -> Run:
    """Its two decoders, as its `EventSource` joins them, behind the text decoder that httpx has there."""
    decoders: Any = import_module("httpx_sse._decoders")

    def run() -> int:
        text = codecs.getincrementaldecoder("utf-8")("replace")
        lines, events = decoders.SSELineDecoder(), decoders.SSEDecoder()
        count = 0
        for chunk in chunks:
            for line in lines.decode(text.decode(chunk)):
                if events.decode(line.rstrip("\n")) is not None:
                    count += 1
        return count

    return run


def encode_only(build: Callable[[Fields], Any], events: Sequence[Fields]) -> Run:
    """Encode events that are there already, as when one goes to many, each once: ours pays when it is built."""
    built = [build(fields) for fields in events]

    def run() -> int:
        return sum([len(event.encode()) for event in built])

    return run


def build_and_encode(build: Callable[[Fields], Any], events: Sequence[Fields]) -> Run:
    """What an event costs from its fields to its bytes."""
    event_class: Any = type(build(events[0]))
    arguments = [(fields.data, {"event": fields.event, "id": fields.id}) for fields in events]

    def run() -> int:
        return sum([len(event_class(data, **named).encode()) for data, named in arguments])

    return run


CONTENDERS: Final = (
    Contender(OURS, h3ref_build, h3ref_parse),
    Contender("sse-starlette", build=sse_starlette_build),
    Contender("httpx-sse", parse=httpx_sse_parse),
)


# -- the measurement


def measure(
    task: str, workload: Workload, runs: dict[str, Run], events: int, rounds: int, tell: Callable[[str], None]
) -> Iterator[Result]:
    """Run all in turn, round by round, and yield a result for each."""
    times: dict[str, list[float]] = {package: [] for package in runs}
    order = list(runs)
    for number in range(rounds + 1):
        tell(f"{task}, {workload.name}: round {number} of {rounds}")
        for package in order:
            begin = time.perf_counter()
            runs[package]()
            if number:  # round 0 warms up
                times[package].append((time.perf_counter() - begin) / events * 1e6)
        order.append(order.pop(0))
    ours = times[OURS]
    for package, theirs in times.items():
        ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
        yield Result(task, workload.name, package, min(theirs), median(theirs), min(ratios), median(ratios))


def installed() -> tuple[list[Contender], list[str]]:
    """The contenders that are on this machine, and the names of those that are not."""
    there, missing = [], []
    for contender in CONTENDERS:
        try:
            if contender.build is not None:
                contender.build(Fields(""))
            if contender.parse is not None:
                contender.parse([])
        except ImportError:
            missing.append(contender.package)
        else:
            there.append(contender)
    return there, missing


def wire(workload: Workload, events: int) -> list[bytes]:
    """A workload's stream, cut into its chunks."""
    fields = [workload.fields(number) for number in range(events)]
    encoded = [SSEEvent(one.data, event=one.event, id=one.id).encode() for one in fields]
    if workload.chunk_size is None:
        return encoded
    stream = b"".join(encoded)
    return [stream[at : at + workload.chunk_size] for at in range(0, len(stream), workload.chunk_size)]


def bench(contenders: Sequence[Contender], events: int, rounds: int, tell: Callable[[str], None]) -> Iterator[Result]:
    """Measure every workload; a parser that finds another number of events than were sent is an error.

    Raises:
        RuntimeError: a parser that can't be compared, since it does other work than ours.
    """
    for workload in ENCODE_WORKLOADS:
        fields = [workload.fields(number) for number in range(events)]
        for task, prepare in (("build and encode", build_and_encode), ("encode", encode_only)):
            runs = {one.package: prepare(one.build, fields) for one in contenders if one.build}
            yield from measure(task, workload, runs, events, rounds, tell)
    for workload in PARSE_WORKLOADS:
        chunks = wire(workload, events)
        runs = {one.package: one.parse(chunks) for one in contenders if one.parse}
        for package, run in runs.items():
            if (count := run()) != events:
                raise RuntimeError(f"{package} found {count} events in a stream of {events}")
        yield from measure("parse", workload, runs, events, rounds, tell)


def table(results: Sequence[Result]) -> Iterator[str]:
    """The results as lines of text."""
    task = ""
    for result in results:
        if f"{result.task}: {result.workload}" != task:
            task = f"{result.task}: {result.workload}"
            yield ""
            yield f"{task:52}{'us an event':>12}{'':>10}{'ratio to h3ref':>20}"
            yield f"{'':52}{'min':>12}{'median':>10}{'min':>10}{'median':>10}"
        name = f"  {result.package}"
        times = f"{result.best:12.3f}{result.median:10.3f}"
        ratios = "" if result.package == OURS else f"{result.ratio_min:10.2f}{result.ratio_median:10.2f}"
        yield f"{name:52}{times}{ratios}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m h3ref.lab.bench.codec", description="Times the codec beside its peers."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file, too")
    parser.add_argument(
        "--rounds", type=_positive, default=15, help="how often each workload is measured (%(default)s)"
    )
    parser.add_argument("--events", type=_positive, default=5000, help="events in a round (%(default)s)")
    options = parser.parse_args(arguments)
    contenders, missing = installed()
    if missing:
        print(f"not installed, so not measured: {', '.join(missing)}; pip install 'h3ref[bench]'", file=sys.stderr)

    def tell(step: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{step}", end="", file=sys.stderr, flush=True)
        elif "round 0" in step:
            print(step.partition(": round")[0], file=sys.stderr, flush=True)

    results = list(bench(contenders, options.events, options.rounds, tell))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print("\n".join(table(results)))
    if options.json:
        document = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "events": options.events,
            "rounds": options.rounds,
            "versions": {one.package: _version(one.package) for one in contenders},
            "missing": missing,
            "results": [asdict(result) for result in results],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None  # a checkout that is on the path, not installed


if __name__ == "__main__":
    sys.exit(main())
