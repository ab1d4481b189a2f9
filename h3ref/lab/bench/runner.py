"""`run`: all sections and systems, in turns, to `Results`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Final, TypeVar

from . import codec, lifecycle
from .amounts import FULL, Amounts
from .load import LoadError, check, stamps_arrivals
from .machine import load_average, machine
from .process import ServerFailed, ServerProcess
from .progress import Progress
from .results import Distribution, Failure, Measurement, Results, SectionNote
from .sections import Case, Figure, Section, server_sections
from .servers.leash import allow_files
from .systems import FLOOR, SYSTEMS, TITLES, System, versions_of
from .turns import OURS

T = TypeVar("T")

IN_PROCESS: Final = ("encode", "parse", "lifecycle")
SERVERS: Final = ("stream", "yield", "fanout", "first", "memory", "pace", "busy", "grow")
SECTIONS: Final = (*SERVERS, *IN_PROCESS)
STARTS: Final = "start"
"""The section of a failure that kept a system from everything."""

REPEAT: Final = 5
QUICK_REPEAT: Final = 1

QUIET: Final = 0.5
"""A load average above this is noted."""


def run(
    sections: Sequence[str] = SECTIONS,
    systems: Sequence[System] = SYSTEMS,
    *,
    amounts: Amounts = FULL,
    repeat: int = REPEAT,
    quick: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Measure, and return what was found. Servers that fail are reported in it, and the others go on.

    Args:
        sections: of `SECTIONS`.
        systems: of `SYSTEMS`; those whose packages are not installed are named in the results.
        amounts: how much of everything.
        repeat: how often everything is measured, all systems in turns.
        quick: only noted, for readers of the results.
        progress: is told each step.

    Raises:
        ValueError: an unknown section.
    """
    if unknown := [name for name in sections if name not in SECTIONS]:
        raise ValueError(f"there is no section {unknown[0]!r}: there are {', '.join(SECTIONS)}")
    return _Run(sections, systems, amounts, repeat, progress or Progress()).results(quick)


class _Run:
    """One run of the benchmark."""

    def __init__(
        self, names: Sequence[str], systems: Sequence[System], amounts: Amounts, repeat: int, progress: Progress
    ) -> None:
        self._names = [name for name in SECTIONS if name in names]
        known, self._notes = server_sections(amounts, allow_files())
        self._sections = [section for section in known if section.name in names]
        if not self._sections:
            self._notes = []
        self._missing = {one.name: one.missing() for one in systems if self._sections and one.missing()}
        self._systems = [one for one in systems if one.name not in self._missing and self._takes_part(one)]
        self._amounts, self._repeat, self._progress = amounts, repeat, progress
        self._measurements: list[Measurement] = []
        self._failures: list[Failure] = []
        self._contenders, self._absent = codec.installed()
        if {"encode", "parse"} & set(names):
            self._missing |= {package: [package] for package in self._absent}

    def _takes_part(self, system: System) -> bool:
        return any(section.takes(system) for section in self._sections)

    def results(self, quick: bool) -> Results:
        begin, date, busy = time.monotonic(), datetime.now(UTC), load_average()
        self._progress.begin(self._steps())
        try:
            self._measure_servers()
            self._measure_in_process()
        finally:
            self._progress.end()
        if self._sections:
            self._notes.append(
                "arrivals are timed by the kernel" if stamps_arrivals() else "arrivals are timed by the client"
            )
        if busy is not None and busy > QUIET:
            self._notes.append(f"other work was going on when it began: the load average was {busy:.1f}")
        packages = {package for one in self._systems for package in one.packages}
        packages |= {one.package for one in self._contenders if {"encode", "parse"} & set(self._names)}
        return Results(
            date=date.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - begin, 1),
            quick=quick,
            repeat=self._repeat,
            machine=machine(),
            versions=versions_of(packages),
            titles={one.name: TITLES.get(one.name, one.title) for one in self._systems},
            sections=tuple(self._about()),
            measurements=tuple(self._measurements),
            missing=self._missing,
            failures=tuple(self._failures),
            notes=tuple(self._notes),
        )

    def _about(self) -> Iterator[SectionNote]:
        for section in self._sections:
            yield SectionNote(section.name, section.title, section.work, FLOOR)
        texts = {"encode": "an event to its bytes", "parse": "bytes to events", "lifecycle": "the state machine"}
        for name in self._names:
            if name in texts:
                yield SectionNote(name, name, f"{texts[name]}, in this process: time for one", OURS)

    def _steps(self) -> int:
        in_servers = sum(
            self._turns(case) * len(self._of(section)) for section in self._sections for case in section.cases
        ) + len(self._systems)
        local = {
            "encode": 2 * len(codec.ENCODE_WORKLOADS),
            "parse": len(codec.PARSE_WORKLOADS),
            "lifecycle": len(lifecycle.CASES),
        }
        return in_servers + sum(local.get(name, 0) for name in self._names)

    def _turns(self, case: Case) -> int:
        return min(self._repeat, case.most or self._repeat)

    def _of(self, section: Section) -> list[System]:
        return [one for one in self._systems if section.takes(one)]

    # -- servers

    def _measure_servers(self) -> None:
        with ExitStack() as stack:
            servers: dict[str, ServerProcess] = {}
            kept = {one.name for section in self._sections if not section.fresh for one in self._of(section)}
            for system in list(self._systems):
                self._progress.step(f"starting {system.title}")
                server = ServerProcess(system.title, system.arguments, system.home)
                stack.callback(server.stop)
                if self._attempt(STARTS, "", system, lambda: _started(server, system)) is None:  # noqa: B023
                    self._systems.remove(system)
                elif system.name in kept:
                    servers[system.name] = server
                else:  # it was only to be seen whether it works
                    server.stop()
            for section in self._sections:
                for case in section.cases:
                    self._measure_case(section, case, servers)

    def _measure_case(self, section: Section, case: Case, servers: dict[str, ServerProcess]) -> None:
        order = self._of(section)
        found: dict[str, list[list[Figure]]] = {system.name: [] for system in order}
        turns = self._turns(case)
        for number in range(turns):
            for system in list(order):
                what = section.title + (f", {case.name}" if len(section.cases) > 1 else "")
                turn = f" ({number + 1} of {turns})" if turns > 1 else ""
                self._progress.step(f"{what}: {system.title}{turn}")
                kept = None if section.fresh else servers[system.name]
                figures = self._attempt(
                    section.name,
                    case.name,
                    system,
                    lambda: _measured(section, case, system, kept),  # noqa: B023  # called at once
                )
                if figures is not None:
                    found[system.name].append(figures)
                    continue
                order.remove(system)
                if kept is not None:
                    self._renew(system, kept)
            order = order[1:] + order[:1]
        self._measurements += collected(section.name, case, found)

    def _renew(self, system: System, server: ServerProcess) -> None:
        """Start a server anew that has failed: what it is left with would spoil what comes next."""
        try:
            server.start()
        except ServerFailed:
            self._systems.remove(system)  # the failure that led here is noted

    def _attempt(self, section: str, case: str, system: System, action: Callable[[], T]) -> T | None:
        """Do it; where the server fails, note that and return None."""
        try:
            return action()
        except (ServerFailed, LoadError) as error:
            failure = Failure(section, case, system.name, " ".join(str(error).split()))
            self._failures.append(failure)
            self._progress.say(f"{system.title}: {failure.why}")
            return None

    # -- this process

    def _measure_in_process(self) -> None:
        amounts, tell = self._amounts, self._progress.step
        local: dict[str, Callable[[], Iterator[Measurement]]] = {
            "encode": lambda: codec.bench_encode(self._contenders, amounts.codec, amounts.rounds, tell),
            "parse": lambda: codec.bench_parse(self._contenders, amounts.codec, amounts.rounds, tell),
            "lifecycle": lambda: lifecycle.bench(amounts.triggers, amounts.rounds, tell),
        }
        for name in self._names:
            if name in local:
                self._measurements += local[name]()


def collected(section: str, case: Case, found: dict[str, list[list[Figure]]]) -> Iterator[Measurement]:
    """The measurements of one case, from the figures of each system's repetitions."""
    for system, repetitions in found.items():
        for number, sample in enumerate(repetitions[0] if repetitions else ()):
            figures = [repetition[number] for repetition in repetitions]
            floor = [repetition[number].value for repetition in found.get(FLOOR, ())]
            runs = [one.value for one in figures if one.value is not None]
            ratios = [run / of_floor for run, of_floor in zip(runs, floor, strict=False) if of_floor]
            delays = [delay for one in figures for delay in one.delays or ()]
            taken = sample.delays is not None
            yield Measurement(
                section,
                case.name,
                sample.quantity,
                sample.unit,
                system,
                tuple(runs),
                tuple(ratios),
                size=case.streams,
                distribution=Distribution.of(delays, sum(one.given_up for one in figures)) if taken else None,
            )


def _started(server: ServerProcess, system: System) -> ServerProcess:
    server.start()
    if not system.silent:
        check(server.port)
    return server


def _measured(section: Section, case: Case, system: System, server: ServerProcess | None) -> list[Figure]:
    """Do a case once, on a server of its own if none is given."""
    with ExitStack() as stack:
        if server is None:
            server = stack.enter_context(ServerProcess(system.title, system.arguments, system.home))
        with _no_collections():
            return section.measure(server, case, system.silent)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keep the garbage collector of this process, which is the client, out of the times."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
