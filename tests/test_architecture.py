"""The house stays as it was drawn: imports point one way, and what speaks to a network stays outside the core.

What it says is data, in `docs/generate/floors.py`, from which the map in docs/house.md is drawn as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from docs.generate.floors import (
    AROUND,
    DRAWS,
    FLOORS,
    HOUSE,
    MAY_DRAW,
    MAY_SPEAK,
    MOST_AT_THE_TOP,
    MOST_LINES,
    MUTUAL,
    POINTS_UP,
    SPEAKS,
    file_of,
    floor_of,
    imports_of,
    modules,
    name_of,
    room_of,
)
from h3ref import errors
from tests.pages import PAGES, ROOT, blocks_of


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_point_down(path: Path) -> None:
    here = floor_of(room_of(path))
    for module, for_types in imports_of(path):
        imported = file_of(module)
        if imported in modules() and not for_types and (path.name, module) not in POINTS_UP:
            assert floor_of(room_of(imported)) <= here, f"{path.name} imports {module}, which stands above it"


def test_each_room_has_one_floor_and_is_there() -> None:
    rooms = [room for floor in FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
    assert {room_of(path) for path in modules()} == set(rooms)


def reached(graph: dict[str, set[str]], begin: str) -> set[str]:
    """All that a module imports, also by way of others."""
    found: set[str] = set()
    waiting = [begin]
    while waiting:
        waiting += graph[waiting.pop()] - found
        found |= set(waiting)
    return found


def circles_of(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules each of which imports all the others, if only by way of others: what can't be read alone."""
    imported = {module: reached(graph, module) for module in graph}
    return {
        frozenset(other for other in found if module in imported[other])
        for module, found in imported.items()
        if module in found
    }


def imports(*, for_types: bool) -> dict[str, set[str]]:
    """What each file imports of the others, in functions too; but for what may point up."""
    return {
        name_of(path): {
            imported.module
            for imported in imports_of(path)
            if file_of(imported.module)
            and (for_types or not imported.for_types)
            and (path.name, imported.module) not in POINTS_UP
        }
        for path in HOUSE.rglob("*.py")
    }


def test_a_circle_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"f"}, "g": {"a", "f"}}
    assert circles_of(graph) == {frozenset("abc"), frozenset("de"), frozenset("f")}


def test_no_files_import_in_a_circle_but_by_what_points_up() -> None:
    graph = imports(for_types=False)
    assert sum(map(len, graph.values())) > 3 * len(graph), "imports are found"
    assert circles_of(graph) == set()
    for name, module in POINTS_UP:
        graph[f"h3ref.{name.removesuffix('.py')}"].add(module)
        assert len(circles_of(graph)) == 1, f"{name} might import {module} as everybody does"


def test_no_files_import_in_a_circle_for_types_but_those_that_name_each_other_by_contract() -> None:
    """What two of the others need of each other, one says in a protocol."""
    assert circles_of(imports(for_types=True)) == {frozenset(MUTUAL)}


def test_what_a_user_reads_fits_on_a_page() -> None:
    found = {path.stem for path in HOUSE.glob("*.py")} | {path.parent.name for path in HOUSE.glob("*/__init__.py")}
    assert found > AROUND
    assert len(found - AROUND - {"__init__", "__main__"}) <= MOST_AT_THE_TOP


@pytest.mark.parametrize(
    "path",
    sorted([*HOUSE.rglob("*.py"), *(ROOT / "docs" / "generate").glob("*.py")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_file_is_one_thing(path: Path) -> None:
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count <= MOST_LINES, f"{path.name} has {count} lines: what two things is it?"


def programs() -> list[tuple[str, str]]:
    """All that shows how h3ref is used: pages, notebooks and examples, each with its code, and what builds the docs."""
    pages = [(block.place, block.text) for page in PAGES for block in blocks_of(page) if block.language == "python"]
    notebooks = [
        (f"{path.name}, cell {number}", cell.source)
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells)
        if cell.cell_type == "code"
    ]
    files = [*(ROOT / "docs").rglob("*.py"), *(ROOT / "notebooks").glob("*.py"), *(HOUSE / "examples").glob("*.py")]
    return [*pages, *notebooks, *((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in files)]


def test_nobody_outside_uses_the_core() -> None:
    """But its tests, and rooms of the house itself. Its names may change with each release, so nobody is shown one."""
    found = programs()
    assert len(found) > 100
    uses = re.compile(r"^\s*(?:from|import)\s[^#\n]*\b_core\b", re.MULTILINE)
    assert uses.search("    from h3ref._core.stream import Stream")
    assert uses.search("from .. import _core")
    assert [place for place, text in found if uses.search(text)] == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_adapters_and_clients_speak_to_a_network(path: Path) -> None:
    spoken = {module.split(".")[0] for module, _ in imports_of(path)} & SPEAKS
    assert not spoken or room_of(path) in MAY_SPEAK, f"{path.name} imports {spoken}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_the_lab_draws(path: Path) -> None:
    drawn = {module.split(".")[0] for module, _ in imports_of(path)} & DRAWS
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
    "testing/inline.py": {"_get_running_loop", "_set_running_loop"},  # asyncio documents them for those who build loops
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
