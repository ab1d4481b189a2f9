"""What a commit costs: each row of the benchmark beside its parent's, and beside what the parent differs from itself.

    python -m tests.bench_guard                              HEAD beside its parent, some minutes
    python -m tests.bench_guard --base v0.1.0 --rounds 20    HEAD beside another commit, more finely
    python -m tests.bench_guard --only trio --only first     only rows in whose names one of these words stands

In each round every system is started three times, in another order each round: of the one commit, of the other, and of
the first once more. So a round has two ratios for each row, the change and the noise: what stands twice differs by
nothing but the machine. A row has moved when the change's interval and the noise's don't meet; each interval has the
median of what was measured within it, in 95 of 100 cases. Counted are instructions where the processor tells them, else
CPU time, and memory. Nothing here is asserted by a test: a machine is what it is.

The exit status is 0 when no row has risen, 1 when one has, 2 when it could not be measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import comb
from statistics import median
from typing import Final

from docs.generate.history import checked_out
from h3ref.lab.bench.amounts import Amounts
from h3ref.lab.bench.load import LoadError
from h3ref.lab.bench.process import ServerFailed, ServerProcess
from h3ref.lab.bench.progress import Progress, shown
from h3ref.lab.bench.sections import Figure, Section, server_sections
from h3ref.lab.bench.servers.leash import allow_files
from h3ref.lab.bench.systems import System

AMOUNTS: Final = Amounts(
    events=20_000,
    yielding=5_000,
    fans=(500,),
    deliveries=10_000,
    alone=150,
    together=200,
    silent=300,
    paced=100,
    rate=20.0,
    seconds=1.0,
    few=(),
    grown=(),
)
ROUNDS: Final = 12
SECTIONS: Final = ("memory", "stream", "yield", "fanout", "first", "pace")
"""Memory first: it needs a server that has done nothing."""

SYSTEMS: Final = {
    "h3ref": ("ours",),
    "trio": ("ours", "--backend", "trio"),
    "EventSourceResponse": ("drop_in", "--fast"),
}


@dataclass(slots=True)
class Row:
    """One figure of one system, in every round.

    Attributes:
        base, changes, noise: the base's figure, and what head's and the base's own second one were to it.
    """

    name: str
    unit: str
    base: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)

    @property
    def moved(self) -> float:
        """By what part the figure has risen (or, below 0, fallen); 0.0 where the noise is as much."""
        (low, high), (least, most) = interval(self.changes), interval(self.noise)
        return median(self.changes) - 1 if low > most or high < least else 0.0


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Two of the values, between which the median of whatever they come from lies in 95 of 100 cases.

    Fewer than six values can't say so much: then it is the least and the greatest.
    """
    ordered, total, below = sorted(values), 2 ** len(values), 0
    place = 0
    while (below := below + comb(len(values), place)) <= 0.025 * total:
        place += 1
    place = max(place - 1, 0)
    return ordered[place], ordered[-1 - place]


def guard(
    base: str,
    head: str,
    rounds: int,
    only: Sequence[str] = (),
    *,
    progress: Progress | None = None,
) -> list[Row]:
    """Measure two commits.

    Args:
        only: words, of which one stands in each row's name; all rows for none.

    Raises:
        OSError: there is no such commit; the text is git's.
        ServerFailed, LoadError: a server did not do its part.
    """
    known, _ = server_sections(AMOUNTS, allow_files())
    sections = sorted((one for one in known if one.name in SECTIONS), key=lambda one: SECTIONS.index(one.name))
    rows: dict[str, Row] = {}
    told = progress or Progress()
    told.begin(rounds * len(SYSTEMS) * 3)
    try:
        with checked_out([base, head]) as (before, after):
            for number in range(rounds):
                for name, arguments in SYSTEMS.items():
                    turns = [("base", before), ("head", after), ("again", before)]
                    turns = turns[number % 3 :] + turns[: number % 3]
                    found: dict[str, dict[str, Figure]] = {}
                    for turn, tree in turns:
                        told.step(f"{name}: round {number + 1} of {rounds}, {tree.name}")
                        system = System(name, name, arguments, home=tree.home)
                        found[turn] = dict(_figures(system, sections, only))
                    _note(rows, found)
    finally:
        told.end()
    return list(rows.values())


def _figures(system: System, sections: Sequence[Section], only: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    with ExitStack() as stack:
        server: ServerProcess | None = None
        for section in sections:
            for case in section.cases:
                what = f"{system.title}: {section.title}" + (f", {case.name}" if len(section.cases) > 1 else "")
                if only and not any(word in what for word in only):
                    continue
                if server is None:
                    server = stack.enter_context(ServerProcess(system.title, system.arguments, system.home))
                figures = section.measure(server, case, False)
                counted = any(one.quantity == "instructions" for one in figures)
                for one in figures:
                    if one.quantity in ("memory", "instructions" if counted else "cpu"):
                        yield f"{what}: {one.quantity}", one


def _note(rows: dict[str, Row], found: dict[str, dict[str, Figure]]) -> None:
    for name, figure in found["base"].items():
        base, head, again = (found[turn][name].value for turn in ("base", "head", "again"))
        if base and head and again:
            row = rows.setdefault(name, Row(name, figure.unit))
            row.base.append(base)
            row.changes.append(head / base)
            row.noise.append(again / base)


def lines(rows: Sequence[Row], base: str, head: str) -> Iterator[str]:
    """What was found, as text."""
    wide = max((len(row.name) for row in rows), default=0) + 2
    yield f"{'':{wide}}{base:>14}{head:>18}{'noise':>16}"
    for row in rows:
        (low, high), (least, most) = interval(row.changes), interval(row.noise)
        moved = row.moved
        verdict = f"  {'risen' if moved > 0 else 'fallen'} by {abs(moved):.1%}" if moved else ""
        cells = (f"{median(row.base):.4g} {row.unit}", f"x{low:.3f} to {high:.3f}", f"{least:.3f} to {most:.3f}")
        yield "{:{wide}}{:>14}{:>18}{:>16}".format(row.name, *cells, wide=wide) + verdict
    risen = sum(row.moved > 0 for row in rows)
    fallen = sum(row.moved < 0 for row in rows)
    yield f"{len(rows)} rows: {risen} risen and {fallen} fallen by more than their noise"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench_guard", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", default="HEAD^", metavar="REVISION", help="what to compare with (%(default)s)")
    parser.add_argument("--head", default="HEAD", metavar="REVISION", help="what is compared (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="how often (%(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="rows with this word in their name")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"rounds are at least 1, not {options.rounds}")
    try:
        rows = guard(options.base, options.head, options.rounds, options.only, progress=shown())
    except (OSError, ServerFailed, LoadError) as error:
        print(f"it could not be measured: {error}", file=sys.stderr)
        return 2
    if not rows:
        print(f"no row has one of these words in its name: {', '.join(options.only)}", file=sys.stderr)
        return 2
    print("\n".join(lines(rows, options.base, options.head)))
    return 1 if any(row.moved > 0 for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
