"""The measured systems: raw asyncio as the floor, h3ref in its variants, and the peers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import h3ref

FLOOR: Final = "raw"
"""The system that the others' costs are divided by."""


@dataclass(frozen=True, slots=True)
class System:
    """One server to measure.

    Attributes:
        name: on the command line and in results.
        title: for people.
        arguments: what starts it, see `servers`.
        packages: what must be installed for it, as pip names it.
        sections: the only sections that it takes part in; empty: in all.
        silent: it sends no event, and that is what is to be seen.
        home: the folder whose h3ref it is; none: the one that measures.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    packages: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    silent: bool = False
    home: Path | None = None

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if version_of(package) is None]


UVICORN: Final = ("uvicorn",)
FAST: Final = ("uvicorn", "uvloop", "httptools")

SYSTEMS: Final = (
    System("raw", "raw asyncio", ("raw",)),
    System("h3ref", "h3ref", ("ours",)),
    System("h3ref-gapless", "h3ref, flush_gap=0", ("ours", "--flush-gap", "0")),
    System("h3ref-trio", "h3ref on trio", ("ours", "--backend", "trio"), ("trio",)),
    System("h3ref-uvicorn", "h3ref on uvicorn", ("ours", "--uvicorn"), UVICORN),
    System("h3ref-awaited", "h3ref, awaited", ("ours", "--flow", "awaited"), sections=("first",)),
    System("h3ref-blocking", "h3ref, blocking", ("ours", "--flow", "blocking"), sections=("first",)),
    System("h3ref-def", "h3ref, def callback", ("ours", "--flow", "def"), sections=("first",)),
    System("h3ref-generated", "h3ref, generator", ("ours", "--flow", "generated"), sections=("first",)),
    System("h3ref-broken", "h3ref, broken flow", ("ours", "--flow", "broken"), sections=("first",), silent=True),
    System("starlette", "Starlette by hand", ("starlette",), ("starlette", *UVICORN)),
    System("starlette-fast", "Starlette+uvloop", ("starlette", "--fast"), ("starlette", *FAST)),
    System("drop-in", "EventSourceResponse", ("drop_in",), ("starlette", *UVICORN)),
    System("drop-in-fast", "EventSourceResponse+uvloop", ("drop_in", "--fast"), ("starlette", *FAST)),
    System("sse-starlette", "sse-starlette", ("sse_starlette",), ("sse-starlette", *UVICORN)),
    System("sse-starlette-fast", "sse-starlette+uvloop", ("sse_starlette", "--fast"), ("sse-starlette", *FAST)),
    System("aiohttp-sse", "aiohttp-sse", ("aiohttp_sse",), ("aiohttp", "aiohttp-sse")),
    System("fastapi", "FastAPI's own", ("fastapi",), ("fastapi", *UVICORN)),
)
"""On uvicorn means as `pip install uvicorn` has it: asyncio and h11; "+uvloop" is with uvloop and httptools."""

TITLES: Final = {system.name: system.title for system in SYSTEMS}

OWN_PACKAGES: Final = ("anyio", "h11", "transitions")


def chosen(names: Sequence[str]) -> tuple[System, ...]:
    """The systems of these names, in the order of `SYSTEMS`; all for no names. "h3ref*" is all that begin so.

    Raises:
        ValueError: there is no such system; the text says which there are.
    """
    for name in names:
        if not any(_matches(system.name, name) for system in SYSTEMS):
            raise ValueError(f"there is no system {name!r}: there are {', '.join(TITLES)}")
    return tuple(one for one in SYSTEMS if not names or any(_matches(one.name, name) for name in names))


def _matches(system: str, name: str) -> bool:
    return system.startswith(name[:-1]) if name.endswith("*") else system == name


def version_of(package: str) -> str | None:
    """The version of a package that is installed, else None."""
    if package == "h3ref":
        return h3ref.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {package: version_of(package) for package in sorted({"h3ref", *OWN_PACKAGES, *packages})}
    return {package: number for package, number in found.items() if number is not None}
