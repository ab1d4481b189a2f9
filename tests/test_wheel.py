"""What a wheel brings: the package and the specification of the lifecycle, and of the lab what a user can call.

It is read from the configuration and the tree, so that it needs no network, as building one does.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat
import pytest

from h3ref.lab.bench.systems import SYSTEMS

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "h3ref"

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = CONFIGURATION["tool"]["hatch"]["build"]["targets"]

ELSEWHERE = {"docs", "notebooks", "spec", "tests"}
"""What is beside the package, and in no wheel."""

DATA = {"py.typed", "lab/demo/page.html", "lab/demo/panel.html", "lab/stepper/stepper.css", "lab/stepper/stepper.js"}
"""What is in the package, and no module."""

STARTED = {"h3ref.__main__", "h3ref.lab.bench.servers.__main__"}
"""Modules that nobody imports: they are started by their name."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in HOUSE.rglob("*.py")}


def imports_of(text: str, package: str = "") -> Iterator[str]:
    """The modules that a program may import, and the names that it takes from them, which may be modules as well."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def with_parents(name: str) -> Iterator[str]:
    """A module, and the packages that it is in, which are imported before it."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@cache
def reached() -> set[str]:
    """All modules that the public ones, the commands or a notebook may import, or a command may start."""
    waiting = {name for name in MODULES if not name.startswith("h3ref.lab")} | STARTED
    waiting |= {f"h3ref.lab.bench.servers.{system.arguments[0]}" for system in SYSTEMS}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                waiting |= set(imports_of(cell.source))
    found: set[str] = set()
    while waiting:
        for name in with_parents(waiting.pop()):
            if name in MODULES and name not in found:
                found.add(name)
                path = MODULES[name]
                package = name if path.stem == "__init__" else name.rpartition(".")[0]
                waiting |= set(imports_of(path.read_text(), package))
    return found


def test_a_wheel_is_the_package_and_the_specification() -> None:
    assert BUILD["wheel"] == {
        "packages": ["h3ref"],
        "force-include": {
            "spec/lifecycle.json": "h3ref/lab/lifecycle.json",
            "spec/checks.json": "h3ref/judge/checks.json",
            "spec/vectors/parse": "h3ref/judge/clients/vectors",
        },
    }
    assert set(CONFIGURATION["tool"]["hatch"]["build"]) == {"targets"}


def test_the_source_has_all_that_it_is_built_and_tested_from() -> None:
    included = {name.removeprefix("/") for name in BUILD["sdist"]["include"]}
    assert {"h3ref", *ELSEWHERE} <= included
    assert {path.name for path in ROOT.glob("*.md")} <= included
    assert all((ROOT / name).exists() for name in included)


def test_the_package_has_modules_and_little_else() -> None:
    files = {
        path.relative_to(HOUSE) for path in HOUSE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert {path.as_posix() for path in files if not path.name.startswith(".")} == DATA


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_needs_what_is_in_no_wheel(name: str) -> None:
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    assert {module.split(".")[0] for module in imports_of(path.read_text(), package)} & ELSEWHERE == set()


def test_of_the_lab_there_is_what_a_command_or_a_notebook_uses() -> None:
    assert set(MODULES) - reached() == set(), "what only development uses stands in docs/generate or tests"


def test_the_commands_that_are_installed_are_there() -> None:
    for place in CONFIGURATION["project"]["scripts"].values():
        module, _, function = place.partition(":")
        tree = ast.parse(MODULES[module].read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
