"""docs/reference/versioning.md: what it promises, what the reference has and what can be imported are the same."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import h3ref
from tests.pages import PAGES, ROOT, blocks_of

REFERENCE = ROOT / "docs" / "reference"
PAGE = (REFERENCE / "versioning.md").read_text(encoding="utf-8")
PROMISED = {
    module: re.findall(r"`(\w+)`", names)
    for module, names in re.findall(r"^\| `(h3ref[\w.]*)` \| (.+) \|$", PAGE, re.MULTILINE)
}
"""The names of each module."""

NOT_PROMISED = {"h3ref.lab", "h3ref.examples"}
"""What pages may show all the same."""


def documented() -> Iterator[str]:
    """Yield each path that the reference has; a module that it documents whole stands for its `__all__`."""
    for page in REFERENCE.glob("*.md"):
        for kind, path, options in re.findall(
            r"^\.\. auto(\w+):: ([\w.]+)(?:\(\))?\n((?:   :.+\n)*)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            if kind != "module":
                yield path
            elif ":no-members:" not in options:
                left_out = re.findall(r":exclude-members: (.+)", options)
                yield from (f"{path}.{name}" for name in PROMISED[path] if name not in left_out)


def found(path: str) -> object:
    """What stands at a path: a module, or a name in one."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


DOCUMENTED = sorted(documented())


@pytest.mark.parametrize("module", PROMISED)
def test_the_names_are_all_that_a_module_means_to_be_used(module: str) -> None:
    meant = {*importlib.import_module(module).__all__}
    if module == "h3ref":
        meant |= {"__version__", *h3ref._OF_THE_CLIENT}  # which an import of everything must not need
    assert PROMISED[module] == sorted(meant, key=str.lower)


@pytest.mark.parametrize("module", PROMISED)
def test_what_a_module_promises_can_be_imported_and_is_in_the_reference(module: str) -> None:
    for name in PROMISED[module]:
        promised = found(f"{module}.{name}")
        if isinstance(promised, ModuleType):
            assert promised.__name__ in PROMISED
            continue
        if name == "__version__":
            continue
        there = [path for path in DOCUMENTED if path.endswith(f".{name}") and found(path) is promised]
        assert there, f"nothing in docs/reference documents {module}.{name}"


@pytest.mark.parametrize("path", DOCUMENTED)
def test_what_the_reference_has_is_promised(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert module in PROMISED, f"the reference has {path}, and versioning.md no {module}"
    assert name in PROMISED[module]


def test_each_path_is_documented_once() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED)) > 80


def imports_in(code: str) -> Iterator[tuple[str, str]]:
    """Yield each name that a block imports from us, with its module."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "h3ref":
            yield from ((str(node.module), alias.name) for alias in node.names)


SHOWN = sorted(
    {
        (module, name)
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "python"
        for module, name in imports_in(block.text)
    }
)


@pytest.mark.parametrize(("module", "name"), SHOWN)
def test_what_a_page_imports_is_promised(module: str, name: str) -> None:
    if not {".".join(module.split(".")[:2]), f"{module}.{name}"} & NOT_PROMISED:
        assert name in PROMISED[module]


@pytest.mark.parametrize("module", sorted(NOT_PROMISED))
def test_the_page_says_what_pages_show_and_is_not_promised(module: str) -> None:
    assert f"`{module}`" in PAGE.partition("## What is not promised")[2]
