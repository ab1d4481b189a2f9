"""The codec beside its peers: how long it takes to build and encode an event, and to parse one.

In every round each contender does the same work in turn, so that what slows the machine slows them all. A peer's
ratio is its time divided by ours in the same round: at 2 we are twice as fast.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, cast

from h3ref.sse import EventStreamParser, SSEEvent

from .results import Measurement
from .turns import OURS, Run, Tell, in_turns, measurements

CHUNK_SIZE: Final = 16 * 1024


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

# The contenders: each does all its public way asks for, and no more.


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


def bench_encode(contenders: Sequence[Contender], events: int, rounds: int, tell: Tell) -> Iterator[Measurement]:
    """Time building an event and encoding it, and encoding alone."""
    for workload in ENCODE_WORKLOADS:
        fields = [workload.fields(number) for number in range(events)]
        for task, prepare in (("build and encode", build_and_encode), ("encode", encode_only)):
            tell(f"{task}, {workload.name}")
            runs = {one.package: prepare(one.build, fields) for one in contenders if one.build}
            yield from measurements("encode", workload.name, task, in_turns(runs, events, rounds))


def bench_parse(contenders: Sequence[Contender], events: int, rounds: int, tell: Tell) -> Iterator[Measurement]:
    """Time parsing; a parser that finds another number of events than were sent is an error.

    Raises:
        RuntimeError: a parser that can't be compared, since it does other work than ours.
    """
    for workload in PARSE_WORKLOADS:
        tell(workload.name)
        chunks = wire(workload, events)
        runs = {one.package: one.parse(chunks) for one in contenders if one.parse}
        for package, run in runs.items():
            if (count := run()) != events:
                raise RuntimeError(f"{package} found {count} events in a stream of {events}")
        yield from measurements("parse", workload.name, "parse", in_turns(runs, events, rounds))
