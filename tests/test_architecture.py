"""The house stays as it was drawn: imports point one way, and what speaks to a network stays outside the core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import h3ref
from h3ref import errors

HOUSE = Path(h3ref.__file__).parent

FLOORS: list[set[str]] = [
    {"errors", "trace", "headers", "limits"}
    | {"_core.logs", "_core.callables", "_core.parking", "_core.scopes"}
    | {"_core.failure", "_core.cleanup", "_core.owned"},
    {"sse", "lifecycle", "connection", "stats"},
    {"_core.router", "_core.threads", "_core.feed", "_core.turn", "_core.standins", "_core.order"},
    {"_core.stream", "_core.mailbox", "_core.upkeep", "_core.answer"},
    {"writer", "blocking"},
    {"event", "channel"},
    {"_core.generator"},
    {"app"},
    {"cors"},
    {"_core.shared"},
    {"_core.opening", "_core.host"},
    {"_core.exchange"},
    {"flows", "_core.service"},
    {"adapters"},
    {"server"},
    {"client", "testing"},
    {"examples"},
    {"lab"},
    {"cli", "__main__"},
]
"""From the ground up: a module imports only from floors below its own, and from its own floor."""

POINTS_UP = {("app.py", "h3ref.adapters.asgi")}
"""An app is an ASGI application by itself: it imports the adapter when it is called as one, and only then."""

MAY_SPEAK = {"adapters", "client", "lab", "cli", "examples"}
SPEAKS = {"socket", "h11", "ssl", "select", "selectors", "httpx", "httpx2"}
MAY_DRAW = {"lab"}


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def modules() -> list[Path]:
    return sorted(
        path for path in HOUSE.rglob("*.py") if path not in (HOUSE / "__init__.py", HOUSE / "_core" / "__init__.py")
    )


def room_of(path: Path) -> str:
    """A room is a module, or a package with all that is in it; but each module of `_core` is one of its own."""
    first, *rest = path.relative_to(HOUSE).with_suffix("").parts
    return f"_core.{rest[0]}" if first == "_core" else first


def room_of_module(module: str) -> str | None:
    """The room that an import leads to; None for a name of the public surface, which only the top floors may use."""
    _, first, *rest = module.split(".")
    if first == "_core" and rest:
        return f"_core.{rest[0]}"
    return first if (HOUSE / first).exists() or (HOUSE / f"{first}.py").exists() else None


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each module that a file imports, absolute, and whether that is for types only."""
    package = ("h3ref", *path.relative_to(HOUSE).parts[:-1])
    tree = ast.parse(path.read_text())
    for_types = {
        node
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.unparse(guard.test)
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in for_types
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module in ("h3ref", "h3ref._core"):
                for alias in node.names:
                    yield f"{module}.{alias.name}", node in for_types
            else:
                yield module, node in for_types


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_point_down(path: Path) -> None:
    here = floor_of(room_of(path))
    for module, for_types in imports_of(path):
        if module.startswith("h3ref.") and not for_types and (path.name, module) not in POINTS_UP:
            room = room_of_module(module)
            if room is not None:
                assert floor_of(room) <= here, f"{path.name} imports {module}, which stands above it"


@pytest.mark.parametrize("room", ["adapters/h11_anyio"])
def test_no_files_of_a_room_import_in_a_circle(room: str) -> None:
    """Not even for types: what two of them need of each other, one says in a protocol."""
    package = f"h3ref.{room.replace('/', '.')}"
    files = {f"{package}.{path.stem}": path for path in (HOUSE / room).glob("[a-z]*.py")}
    graph = {name: {module for module, _ in imports_of(path)} & files.keys() for name, path in files.items()}
    assert sum(map(len, graph.values())) >= len(files), "imports are found"
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_adapters_and_clients_speak_to_a_network(path: Path) -> None:
    spoken = {module.split(".")[0] for module, _ in imports_of(path)} & SPEAKS
    assert not spoken or room_of(path) in MAY_SPEAK, f"{path.name} imports {spoken}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_the_lab_draws(path: Path) -> None:
    drawn = {module.split(".")[0] for module, _ in imports_of(path)} & {"matplotlib", "IPython", "rich"}
    assert not drawn or room_of(path) in MAY_DRAW, f"{path.name} imports {drawn}"


def test_no_adapter_pulls_a_trigger_or_takes_a_step() -> None:
    for path in sorted((HOUSE / "adapters").rglob("*.py")):
        text = path.read_text()
        assert ".trigger(" not in text, f"{path.name} pulls a trigger"
        assert "lifecycle.take(" not in text, f"{path.name} takes a step"


def commands() -> list[Path]:
    return sorted(path for path in (HOUSE / "cli").glob("*.py") if path.stem not in ("__init__", "main"))


@pytest.mark.parametrize("path", commands(), ids=lambda path: path.stem)
def test_a_command_knows_of_the_others_what_they_share(path: Path) -> None:
    known = {module for module, _ in imports_of(path) if f"{module}.".startswith("h3ref.cli.")}
    assert known == (set() if path.stem == "shared" else {"h3ref.cli.shared"})


def rejections() -> set[str]:
    """The names of the exceptions that the table's rejections are."""
    return {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.LifecycleError)
    }


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_the_machine_rejects(path: Path) -> None:
    """What is raised as a rejection comes from the table, with the rule that says so."""
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
        name = ast.unparse(called).rpartition(".")[2] if called is not None else ""
        assert name not in rejections(), f"{path.name}:{node.lineno} rejects by itself: {name}"  # type: ignore[attr-defined]


FOREIGN = {
    "_core/scopes.py": {"_task_states"},  # anyio keeps what is asked for nowhere else; the module does without it, too
    "cli/shared.py": {"_SubParsersAction"},  # argparse names the type nowhere else
    "client/http2.py": {"_events", "_h2_state", "_state_lock", "_write_outgoing_data"},  # httpcore's, looked for first
}
"""Private names of other libraries that a module asks for, each with its reason there."""

PUBLIC_ALL_THE_SAME = {"_replace", "_asdict", "_exit", "_current_frames"}
"""Documented names of the standard library: a named tuple's, of os, of sys."""


def private_names_of_others(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Each look at a private attribute of an object that is not the module's own kind."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            own.add(node.value)  # as __slots__ have it
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls", "super()") and node.attr not in own | PUBLIC_ALL_THE_SAME:
                yield node


def shares_its_package(path: Path, name: str) -> bool:
    """Whether a module beside it has the name. `_core` and the top floor are no one class's package."""
    if path.parent in (HOUSE, HOUSE / "_core"):
        return False
    return any(
        f"self.{name}" in other.read_text() or f"def {name}(" in other.read_text() for other in path.parent.glob("*.py")
    )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_module_keeps_to_its_own_private_names(path: Path) -> None:
    allowed = FOREIGN.get(str(path.relative_to(HOUSE)), set())
    for node in private_names_of_others(ast.parse(path.read_text())):
        assert node.attr in allowed or shares_its_package(path, node.attr), (
            f"{path.name}:{node.lineno} asks {ast.unparse(node)}, which is private to another module"
        )
