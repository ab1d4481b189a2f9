"""The sections that measure servers: what each asks of a server, and what it reads from it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from .amounts import Amounts
from .load import HOST, PATIENCE, Load, LoadError, ask
from .process import Clocks, ServerProcess
from .results import quantile
from .systems import System

GIVE_UP: Final = 0.5
"""Seconds after which a first event is no longer waited for, from a system that sends none."""

GIVEN_UP: Final = 3
"""How many requests such a system gets."""

SELDOM: Final = ((5000, 1), (2000, 2))
"""The number of streams from which on opening them takes most of the time, and the most repetitions from there on."""

LONG: Final = 3
"""How often at most what takes seconds each time is repeated."""

BUSY: Final = ("raw", "h3ref", "h3ref-trio", "starlette-fast", "drop-in-fast", "aiohttp-sse")
"""Who gets many events to many streams: the others would need more than a core for it."""

GROWN: Final = ("raw", "h3ref", "starlette-fast", "drop-in-fast")
"""Whose growth is measured: each case needs a server of its own, so that it is not done with all."""

FEW: Final = 20
"""Streams that are soon open, so that what is done with them is repeated as often as anything."""

SPARE_FILES: Final = 100
"""Files that a process has open besides its streams."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a section does.

    Attributes:
        streams: how many there are, or requests at a time.
        count: of events to each stream, or of requests.
        rate: events a second; 0: one after the other.
        most: how often it is repeated at most; 0: as often as is asked for.
    """

    name: str
    streams: int = 1
    count: int = 1
    rate: float = 0.0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """What one repetition found; delays in microseconds, where they were taken."""

    quantity: str
    unit: str
    value: float | None
    delays: Sequence[float] | None = None
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the benchmark.

    Attributes:
        fresh: it needs a server that has done nothing before.
        systems: the only systems that take part in it; empty: all.
        measure: does one case once; raises `LoadError` or `ServerFailed` when the server does not do its part.
    """

    name: str
    title: str
    work: str
    cases: tuple[Case, ...]
    measure: Callable[[ServerProcess, Case, bool], list[Figure]]
    fresh: bool = False
    systems: tuple[str, ...] = ()

    def takes(self, system: System) -> bool:
        """Whether a system takes part in it."""
        return (not self.systems or system.name in self.systems) and (
            not system.sections or self.name in system.sections
        )


def used(before: Clocks, after: Clocks, count: int) -> list[Figure]:
    """What each has cost the server: its CPU, and its instructions where they are counted."""
    figures = [Figure("cpu", "us", (after.cpu - before.cpu) / count * 1e6)]
    if before.instructions is not None and after.instructions is not None:
        figures.append(Figure("instructions", "k", (after.instructions - before.instructions) / count / 1000))
    return figures


def stream(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
    """One stream, its events as fast as they can be sent."""
    return _stream(server, f"/stream?count={case.count}", case.count)


def yielding(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
    """The same, giving way after each event."""
    return _stream(server, f"/stream?count={case.count}&yield=1", case.count)


def _stream(server: ServerProcess, path: str, count: int) -> list[Figure]:
    server.settle()
    before = server.clocks()
    with Load(server.port) as load:
        load.open(1, path)
        load.receive(count)
        load.finish()
        after = server.clocks()
    return used(before, after, count)


def fan_out(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
    """Events published to many streams, the next as soon as the last is published."""
    return _fan_out(server, case, None)[0]


def paced(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
    """Events published to many streams at a steady rate: how old they are when they arrive."""
    figures, delays = _fan_out(server, case, [])
    return [Figure("p50", "us", median(delays), delays), Figure("p99", "us", quantile(delays, 0.99)), *figures]


def growing(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
    """What a process with that many streams holds, and what it takes to feed all of them at that rate."""
    with Load(server.port) as load:
        load.requests("/first", 20, 5)  # so that what is only made once is there
    empty = server.clocks().memory
    held: list[int | None] = []
    figures, delays = _fan_out(server, case, [], lambda: held.append(server.clocks().memory))
    return [
        *figures,
        Figure("p50", "us", median(delays), delays),
        Figure("p99", "us", quantile(delays, 0.99)),
        Figure("memory", "KB", _grown(empty, held[0]) / case.streams / 1024),
    ]


def _fan_out(
    server: ServerProcess, case: Case, delays: list[int] | None, opened: Callable[[], None] = lambda: None
) -> tuple[list[Figure], list[float]]:
    with Load(server.port) as load:
        load.open(case.streams, "/fan", delays=delays)
        until_subscribed(server.port, case.streams)
        opened()
        server.settle()
        before = server.clocks()
        with publishing(server.port, case.count, case.rate):
            load.receive(case.streams * case.count)
            after = server.clocks()
        ask(server.port, "POST", "/end")  # only now: ending a stream is no delivery
        load.finish()
    return used(before, after, case.streams * case.count), [delay / 1000 for delay in delays or ()]


def until_subscribed(port: int, streams: int, patience: float = PATIENCE) -> None:
    """Ask until all streams are on the fan-out: a head may leave before that."""
    deadline = time.monotonic() + patience
    while (there := ask(port, "GET", "/subscribers")) != str(streams):
        if time.monotonic() > deadline:
            raise LoadError(f"{there} streams are on its fan-out, not {streams}")


@contextmanager
def publishing(port: int, count: int, rate: float) -> Iterator[None]:
    """Let the server publish while the body runs; it answers when it is done."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("POST", f"/go?count={count}&rate={rate}")
        yield
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"publishing failed: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LoadError(f"publishing was answered {response.status}")


def first(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
    """New connections, one event each: the time from connecting until it is there."""
    count = GIVEN_UP if silent else case.count
    server.settle()
    before = server.clocks()
    with Load(server.port) as load:
        delays = load.requests("/first", count, case.streams, GIVE_UP if silent else None)
        after = server.clocks()
    times = [delay / 1000 for delay in delays]
    if not silent and len(times) < count:
        raise LoadError(f"{count - len(times)} of {count} streams ended without an event")
    return [
        Figure("p50", "us", median(times) if times else None, times, count - len(times)),
        Figure("p99", "us", quantile(times, 0.99) if times else None),
        *(used(before, after, count) if times else [Figure("cpu", "us", None)]),
    ]


def memory(server: ServerProcess, case: Case, silent: bool) -> list[Figure]:
    """What the server's memory grows by when silent streams are open, divided by their number."""
    with Load(server.port) as load:
        load.requests("/first", 20, 5)  # so that what is only made once is there
        before = server.clocks().memory
        load.open(case.streams, "/silent")
        ask(server.port, "GET", "/subscribers")  # and what was to do when the heads were out is done
        after = server.clocks().memory
    return [Figure("memory", "KB", _grown(before, after) / case.streams / 1024)]


def _grown(before: int | None, after: int | None) -> int:
    if before is None or after is None:
        raise LoadError("this operating system does not tell how much memory a process uses")
    return after - before


def server_sections(amounts: Amounts, files: int) -> tuple[list[Section], list[str]]:
    """The sections, and notes on what had to be left out.

    Args:
        files: how many a process may have open.
    """
    most = files - SPARE_FILES
    fans = [size for size in amounts.fans if size <= most]
    notes = []
    if left_out := [str(size) for size in amounts.fans if size > most]:
        notes.append(f"no fan-out to {', '.join(left_out)} streams: a process may open {files} files here (ulimit -n)")
    silent, pace = min(amounts.silent, most), min(amounts.paced, most)
    if silent < amounts.silent:
        notes.append(f"memory of {silent} silent streams, not {amounts.silent}, for the same reason")
    if pace < amounts.paced:
        notes.append(f"paced fan-out to {pace} streams, not {amounts.paced}, for the same reason")
    paces = [(pace, amounts.rate, amounts.seconds)]
    paces += [(size, rate, amounts.few_seconds) for size, rate in amounts.few]
    grown = [size for size in amounts.grown if size <= most]
    work = "; ".join(f"{rate:g} events a second to {_streams(size)}" for size, rate, _ in paces)
    return [
        Section(
            "stream",
            "one stream",
            f"{amounts.events} events, sent without giving way: CPU an event",
            (Case("one", count=amounts.events, most=LONG),),
            stream,
        ),
        Section(
            "yield",
            "one stream, yielding",
            f"{amounts.yielding} events, giving way after each: CPU an event",
            (Case("one", count=amounts.yielding),),
            yielding,
        ),
        Section(
            "fanout",
            "fan-out",
            f"about {amounts.deliveries} deliveries, by the number of streams: CPU a delivery",
            tuple(Case(str(size), size, max(1, amounts.deliveries // size), most=_turns(size)) for size in fans),
            fan_out,
        ),
        Section(
            "first",
            "time to first event",
            f"from connecting; {amounts.alone} requests one at a time, {amounts.together} at {amounts.at_once} a time",
            (
                Case("alone", 1, amounts.alone),
                Case(f"{amounts.at_once} at once", amounts.at_once, amounts.together),
            ),
            first,
        ),
        Section(
            "memory",
            "memory of a silent stream",
            f"growth of the server by {silent} open streams, a stream",
            (Case("silent", silent, most=_turns(silent)),),
            memory,
            fresh=True,
        ),
        Section(
            "pace",
            "paced fan-out",
            f"age of an event on arrival; {work}",
            tuple(
                Case(_streams(size), size, max(1, round(rate * seconds)), rate, most=LONG if size > FEW else 0)
                for size, rate, seconds in paces
            ),
            paced,
        ),
        Section(
            "busy",
            "busy fan-out",
            f"age of an event on arrival; {amounts.busy:g} events a second to {_streams(pace)}",
            (Case(_streams(pace), pace, max(1, round(amounts.busy * amounts.seconds)), amounts.busy),),
            paced,
            systems=BUSY,
        ),
        Section(
            "grow",
            "growth",
            f"{amounts.steady:g} deliveries a second, by the number of streams: CPU, age on arrival, memory a stream",
            tuple(
                Case(
                    _streams(size),
                    size,
                    max(1, round(amounts.steady / size * amounts.lasting)),
                    amounts.steady / size,
                    most=_turns(size),
                )
                for size in grown
            ),
            growing,
            fresh=True,
            systems=GROWN,
        ),
    ], notes


def _turns(streams: int) -> int:
    return next((most for size, most in SELDOM if streams >= size), LONG)


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"
