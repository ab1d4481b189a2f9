"""The house's floors, and what each room may do: `tests/test_architecture.py` enforces it, and `house` draws it.

A room is a module, or a package with all that is in it; but each module of `_core` is one of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

HOUSE: Final = Path(__file__).resolve().parents[2] / "h3ref"

STOREYS: Final[dict[str, list[set[str]]]] = {
    "The ground: what the specification says, and tools": [
        {"errors", "trace", "headers", "limits"}
        | {"_core.logs", "_core.callables", "_core.parking", "_core.scopes"}
        | {
            "_core.failure",
            "_core.jsons",
            "_core.cleanup",
            "_core.lifespan",
            "_core.owned",
            "_core.target",
            "_core.child",
            "_core.companion",
        }
        | {"_core.deadlines", "_core.direct", "_core.errand", "_core.expiry", "_core.outflow", "_core.pairs"}
        | {"_core.steps", "_core.timer", "_core.turns"},
        {"sse", "lifecycle", "connection", "stats", "engine"},
    ],
    "A stream, or a plain answer": [
        {"_core.threads", "_core.farewell", "_core.feed", "_core.turn", "_core.standins", "_core.order"},
        {"_core.stream", "_core.stream_host", "_core.mailbox", "_core.upkeep", "_core.answer"},
    ],
    "What a handler works with": [
        {"writer", "blocking"},
        {"event", "channel"},
    ],
    "An app": [
        {"_core.generator", "_core.router"},
        {"app"},
        {"cors"},
    ],
    "An exchange, and the orders of its steps": [
        {"_core.shared"},
        {"_core.opening", "_core.host"},
        {"_core.exchange"},
        {"flows", "_core.service"},
    ],
    "What carries the bytes": [
        {"adapters", "redis"},
        {"server"},
    ],
    "Around it": [
        {"client", "testing", "compat"},
        {"examples"},
        {"judge", "lab"},
        {"cli", "__main__"},
    ],
}
"""Floors from the ground up, by what they are for: a module imports only from floors below its own, or from its own."""

FLOORS: Final = [floor for floors in STOREYS.values() for floor in floors]

POINTS_UP: Final = {("app.py", "h3ref.adapters.asgi")}
"""An app is an ASGI application by itself: it imports the adapter when it is called as one, and only then."""

MUTUAL: Final = {"h3ref.writer", "h3ref.blocking", "h3ref.event"}
"""An event hands out writers, and a writer has its event: they name each other, for types only."""

SPEAKS: Final = {"socket", "h11", "ssl", "select", "selectors", "httpx", "httpx2", "coredis"}
MAY_SPEAK: Final = {"adapters", "server", "client", "redis", "lab", "cli", "examples", "judge"}

DRAWS: Final = {"matplotlib", "IPython", "rich"}
MAY_DRAW: Final = {"lab"}

AROUND: Final = {"_core", "adapters", "client", "compat", "testing", "examples", "judge", "lab", "cli"}
"""Parts of the house with their own readers. The rest, modules and packages, is for users to read."""

MOST_AT_THE_TOP: Final = 18
"""Modules and packages in h3ref/ but for these."""

MOST_LINES: Final = 450
"""Of a file in h3ref/ or docs/generate/: one that has more is two things."""


class Import(NamedTuple):
    """A file's import of a module, by its absolute name.

    Attributes:
        module: what is imported, or has the name that is.
        for_types: whether that is for types only.
    """

    module: str
    for_types: bool


def floor_of(room: str) -> int:
    """The number of a room's floor, from 0 on."""
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


@cache
def modules() -> tuple[Path, ...]:
    """The files that are in a room."""
    outside = (HOUSE / "__init__.py", HOUSE / "_core" / "__init__.py")
    return tuple(sorted(path for path in HOUSE.rglob("*.py") if path not in outside))


def name_of(path: Path) -> str:
    """The name by which a file of the house is imported."""
    return ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")


def file_of(module: str) -> Path | None:
    """The file of a module of ours; None if there is none, as for a name in one."""
    path = HOUSE.parent.joinpath(*module.split("."))
    return next((found for found in (path / "__init__.py", path.with_suffix(".py")) if found.is_file()), None)


def room_of(path: Path) -> str:
    """The room that a file is in."""
    first, *rest = path.relative_to(HOUSE).with_suffix("").parts
    return f"_core.{rest[0]}" if first == "_core" else first


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """What a file imports; of a name of ours that is a module, that one."""
    return tuple(_imports_in(path))


def _imports_in(path: Path) -> Iterator[Import]:
    package = name_of(path).split(".") if path.stem == "__init__" else name_of(path).split(".")[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        node
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.unparse(guard.test)
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node in for_types)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{module}.{alias.name}"
                yield Import(name if file_of(name) else module, node in for_types)
