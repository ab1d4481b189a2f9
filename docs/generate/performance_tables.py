"""The generated parts of `docs/performance.md`, written from the results in `notebooks/results`.

`python -m docs.generate.performance_tables` rewrites them; with `--check` it changes nothing and exits 1 when one of
them has drifted. How a part is marked stands in `generated`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from h3ref.lab.bench.plots import MAIN
from h3ref.lab.bench.results import Measurement, Results
from h3ref.lab.bench.systems import FLOOR
from h3ref.lab.charts import time_text

from .cluster import Cluster
from .cluster import lines as lines_of_cluster
from .cluster import load as load_cluster
from .generated import table, update
from .imports import Imports
from .imports import lines as lines_of_imports
from .imports import load as load_imports
from .profile import LOOP, PARTS, Profile, a_unit
from .profile import load as load_profiles
from .workers import Workers
from .workers import lines as lines_of_workers
from .workers import load as load_workers

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "notebooks" / "results"
PAGE: Final = ROOT / "docs" / "performance.md"

GROW: Final = ("raw", "h3ref", "h3ref-gapless", "h3ref-trio")
"""Whose growth is told."""

STEADY: Final = ("raw", "h3ref", "drop-in-fast")
"""Whose growth at a steady pace is told."""

OWN: Final = ("raw", "h3ref", "h3ref-trio", "h3ref-uvicorn", "drop-in")
"""h3ref's own, beside raw asyncio."""

ON_UVICORN: Final = {
    "On uvicorn with uvloop and httptools:": ("starlette-fast", "drop-in-fast", "sse-starlette-fast"),
    "On uvicorn as plain `pip install uvicorn` installs it:": ("starlette", "drop-in", "sse-starlette"),
}
"""Three responses on one server, compared with the first: on a server with all that makes it fast, and without it."""

WAYS: Final = ("h3ref", "h3ref-awaited", "h3ref-generated", "h3ref-def", "h3ref-blocking")
"""The ways of a handler to its stream; the first is what the others are compared with."""

WHAT: Final = {"cpu": "CPU", "p50": "median", "p99": "99th percentile", "memory": "memory"}


class Found(NamedTuple):
    """What the page is written from."""

    bench: Results
    history: Results
    profiles: list[Profile]
    imports: Imports
    cluster: Cluster
    workers: Workers


def found_in(folder: Path) -> Found:
    """Read the results.

    Raises:
        OSError, ValueError: one of them can't be read, or is of another format.
    """
    return Found(
        Results.load(folder / "bench.json"),
        Results.load(folder / "history.json"),
        load_profiles(folder / "profile.json"),
        load_imports(folder / "imports.json"),
        load_cluster(folder / "cluster.json"),
        load_workers(folder / "workers.json"),
    )


def machine(found: Found) -> Iterator[str]:
    """What the figures were taken on, and when."""
    results = found.bench
    about = results.machine
    commit = f" at commit `{about['commit']}`" if about.get("commit") else ""
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items() if name != "h3ref")
    yield f"Taken on {results.date[:10]} on {about['processor']}, {about['cores']} cores, {about['system']}, with"
    yield f"{about['python']} and h3ref {results.versions['h3ref']}{commit}, in {results.seconds / 60:.0f} minutes;"
    yield f"each figure is the median of up to {results.repeat} runs. Beside it: {versions}."
    for note in results.notes:
        yield f"{note[0].upper()}{note[1:]}."


def own(found: Found) -> Iterator[str]:
    """Every case: raw asyncio's cost, and h3ref's as multiples of it."""
    return _to_floor(found.bench, OWN)


def peers(found: Found) -> Iterator[str]:
    """Every case: raw asyncio's cost, and that of h3ref's peers as multiples of it."""
    return _to_floor(found.bench, [one for one in MAIN if one not in OWN[1:]])


def _to_floor(results: Results, wanted: Sequence[str]) -> Iterator[str]:
    systems = [one for one in wanted if one in results.titles]
    rows = []
    for case, row in _cases(results, systems):
        others = [_ratio(row.get(system), spread=True) for system in systems[1:]]
        if any(others):
            rows.append([case, _value(row.get(FLOOR)), *others])
    yield from table(["", *(results.title(system) for system in systems)], rows, numbers=True)


def response(found: Found) -> Iterator[str]:
    """EventSourceResponse and sse-starlette as multiples of Starlette by hand, on the same server."""
    results = found.bench
    for server, (base, *others) in ON_UVICORN.items():
        yield server
        yield ""
        rows = []
        for case, row in _cases(results, (base, *others)):
            if base in row:
                rows.append([case, _value(row[base]), *(_beside(row.get(one), row[base]) for one in others)])
        yield from table(["", *(results.title(system) for system in (base, *others))], rows, numbers=True)
        yield ""


def ways(found: Found) -> Iterator[str]:
    """What each way to a stream takes to its first event, as multiples of a callback's."""
    results = found.bench
    rows = []
    for case, row in _cases(results, WAYS, ("first",)):
        base = row.get(WAYS[0])
        rows.append([case, _value(base), *(_beside(row.get(system), base) for system in WAYS[1:])])
    yield from table(["", *(results.title(system) for system in WAYS)], rows, numbers=True)


def loops(found: Found) -> Iterator[str]:
    """What trio takes, as multiples of what asyncio does."""
    rows = []
    for case, row in _cases(found.bench, ("h3ref", "h3ref-trio"), percentiles=True):
        rows.append([case, _value(row.get("h3ref")), _beside(row.get("h3ref-trio"), row.get("h3ref"))])
    yield from table(["", "h3ref on asyncio", "h3ref on trio"], rows, numbers=True)


def growth(found: Found) -> Iterator[str]:
    """What a delivery costs by the number of streams, and the memory that they hold."""
    results = found.bench
    memory = [one for one in results.of("memory") if one.system == "h3ref" and one.median is not None]
    rows = []
    for _, row in _cases(results, GROW, ("fanout",)):
        size = max(one.size for one in row.values())
        held = f"{(memory[0].median or 0) * size / 1024:.2g} MB" if memory else ""
        rows.append([f"{size:,}", *(_value(row.get(system)) for system in GROW), _ratio(row.get("h3ref")), held])
    head = ["streams", *(results.title(system) for system in GROW), "h3ref to raw asyncio", "memory of h3ref"]
    yield from table(head, rows, numbers=True)


def steady(found: Found) -> Iterator[str]:
    """What more streams cost at a pace that stays the same for all of them together."""
    results = found.bench
    at = {(one.size, one.system, one.quantity): one for one in results.of("grow")}
    sizes = list(dict.fromkeys(size for size, _, _ in at))
    rows = []
    for quantity, what in (("cpu", "a delivery's CPU"), ("p99", "99th percentile of the age"), ("memory", "a stream")):
        for system in STEADY:
            rows.append(
                [f"{what}, {results.title(system)}", *(_value(at.get((size, system, quantity))) for size in sizes)]
            )
    yield from table(["streams", *(f"{size:,}" for size in sizes)], rows, numbers=True)


def alone(found: Found) -> Iterator[str]:
    """What a delivery costs when there is nothing to share a system call with."""
    for one in found.bench.of("pace", quantity="cpu"):
        if one.system in ("raw", "h3ref") and one.size > 100:
            yield f"- {found.bench.title(one.system)}: {_value(one)} a delivery, with {one.case}"


def gap(found: Found) -> Iterator[str]:
    """What the least gap between two rounds of sending saves, and what it costs."""
    systems = ("h3ref", "h3ref-gapless", "raw")
    rows = [
        [case, *(_value(row.get(system)) for system in systems)]
        for case, row in _cases(found.bench, systems, ("yield", "fanout", "pace"), percentiles=True)
    ]
    yield from table(["", "h3ref", "`flush_gap=0`", "raw asyncio"], rows, numbers=True)


def profile(found: Found) -> Iterator[str]:
    """Where the time goes, part by part, for each workload."""
    total = ["all", *(_us(one.cost) for one in found.profiles)]
    rows = []
    for part in (*PARTS, LOOP):
        shares = [one.parts.get(part, 0) / one.looks for one in found.profiles]
        if max(shares) >= 0.005:
            rows.append([part, *map(_share, shares, (one.cost for one in found.profiles))])
    yield from table(["", *(f"{one.name}: {a_unit(one.unit)}" for one in found.profiles)], [*rows, total], numbers=True)
    yield ""
    yield f"Looks: {', '.join(f'{one.looks:,} at {one.name}' for one in found.profiles)}."


def history(found: Found) -> Iterator[str]:
    """What each commit was worth, as ratios to raw asyncio in the same run."""
    results = found.history
    columns = (
        ("stream", "one", "cpu", "one stream"),
        ("fanout", "500", "cpu", "fan-out 500"),
        ("fanout", "2000", "cpu", "fan-out 2000"),
        ("first", "alone", "p50", "first event"),
        ("first", "alone", "cpu", "its CPU"),
        ("pace", None, "p50", "paced, median"),
        ("memory", None, "memory", "silent stream"),
    )
    rows = []
    for system, title in results.titles.items():
        if system != "raw":
            cells = []
            for section, case, quantity, _ in columns:
                here = [one for one in results.of(section, case=case, quantity=quantity) if one.system == system]
                cells.append((_value if section == "memory" else _ratio)(here[0] if here else None))
            rows.append([title if title == "h3ref" else f"{title} (`{system}`)", *cells])
    if rows:
        rows[0][0] = f"before: {rows[0][0]}"
        rows[-1][0] = rows[-1][0].replace("h3ref", "today")
    yield from table(["after", *(column[-1] for column in columns)], rows, numbers=True)


def imports(found: Found) -> Iterator[str]:
    """What an import takes, beside Starlette's."""
    yield from lines_of_imports(found.imports)


def cluster(found: Found) -> Iterator[str]:
    """What channels of several processes cost and take, beside what was to be reached."""
    yield from lines_of_cluster(found.cluster)


def workers(found: Found) -> Iterator[str]:
    """What a second worker brings."""
    yield from lines_of_workers(found.workers)


def _cases(
    results: Results, systems: Sequence[str], sections: Sequence[str] = (), *, percentiles: bool = False
) -> Iterator[tuple[str, dict[str, Measurement]]]:
    """Each case of the sections that measure servers, by its name for people, with its measurement of each system."""
    for section in results.sections:
        if section.base != "raw" or (sections and section.name not in sections) or section.name == "grow":
            continue
        measured = list(results.of(section.name))
        cases = dict.fromkeys(one.case for one in measured)
        kinds = dict.fromkeys((one.case, one.quantity) for one in measured)
        for case, quantity in kinds:
            if quantity == "instructions" or (quantity == "p99" and not (percentiles or section.name == "busy")):
                continue
            of_many = len({kind[1] for kind in kinds}) > 1
            name = [section.title, *([case] if len(cases) > 1 else []), *([WHAT[quantity]] if of_many else [])]
            row = {one.system: one for one in measured if (one.case, one.quantity) == (case, quantity)}
            yield ", ".join(name), {system: row[system] for system in systems if system in row}


def _value(one: Measurement | None) -> str:
    if one is None or one.median is None:
        return ""
    return f"{one.median:.3g} KB" if one.unit == "KB" else _us(one.median)


def _us(microseconds: float) -> str:
    return time_text(float(f"{microseconds:.2g}"))


def _ratio(one: Measurement | None, *, spread: bool = False) -> str:
    if one is None or one.ratio is None:
        return ""
    within = f" ±{one.ratio_spread:.0%}" if spread and len(one.ratios) > 1 else ""
    return f"×{float(f'{one.ratio:.2g}'):g}{within}"


def _beside(one: Measurement | None, base: Measurement | None) -> str:
    """A ratio to another system than raw asyncio, turn by turn."""
    if one is None or base is None:
        return ""
    turns = zip(one.runs, base.runs, strict=False)
    return _ratio(replace(one, ratios=tuple(run / of_base for run, of_base in turns if of_base)), spread=True)


def _share(share: float, cost: float) -> str:
    return f"{share:.0%} ({_us(share * cost)})" if share >= 0.005 else ""


PARTS_OF_PAGE = {
    "machine": machine,
    "own": own,
    "peers": peers,
    "response": response,
    "ways": ways,
    "loops": loops,
    "growth": growth,
    "steady": steady,
    "alone": alone,
    "gap": gap,
    "profile": profile,
    "history": history,
    "imports": imports,
    "cluster": cluster,
    "workers": workers,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the page, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.generate.performance_tables", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a part has drifted")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder with bench.json and the others")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that is written")
    options = parser.parse_args(arguments)

    def parts() -> dict[str, Iterator[str]]:
        found = found_in(options.results)
        return {name: part(found) for name, part in PARTS_OF_PAGE.items()}

    return update(options.page, parts, check=options.check, command="python -m docs.generate.performance_tables")


if __name__ == "__main__":
    sys.exit(main())
