"""The notebooks as files: complete, readable, the same on every machine. That their cells run, nbval tests."""

from __future__ import annotations

import ast
import base64
import configparser
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import h3ref
from docs.generate.execute import METADATA, NOTEBOOKS, execute, plain
from tests.flow_runs import mutants

ROOT = NOTEBOOKS.parent

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))

NAMES = (
    "00-start-here",
    "01-the-bug",
    "02-the-fix",
    "03-three-ways",
    "04-the-machine",
    "05-when-things-go-wrong",
    "06-reconnecting",
    "07-streaming-tokens",
    "08-writing-an-adapter",
    "09-latency",
    "10-many-machines",
    "11-the-proof",
)

LONGEST_FUNCTION = 20
"""Lines: what a handler or a callback needs, and no more. What is longer belongs into the library."""

LONGEST_CLASS = 4
"""Lines: an exception of the app's own. Only the notebook on adapters needs more."""

MAY_DEFINE_CLASSES = {"08-writing-an-adapter"}

DRAWING = re.compile(r'<img alt="([^"]*)"[^>]* src="data:image/svg\+xml;base64,([^"]+)">')
FROM_THIS_MACHINE = re.compile(
    r"/(?:home|root|tmp|usr|opt|var|work|Users|private)/|site-packages|[A-Z]:\\|127\.0\.0\.1:\d+|localhost:\d+|0x[0-9a-f]{6,}"
)

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def texts(path: Path) -> Iterator[str]:
    """What the cells put out, as text."""
    for cell in cells(path, "code"):
        for output in cell.outputs:
            yield output.get("text", "")
            yield from (value for kind, value in output.get("data", {}).items() if kind.startswith("text/"))


def tree(source: str) -> ast.Module:
    source = re.sub(r"^%.*$", "", source, flags=re.MULTILINE)  # IPython's own words
    found = compile(source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(found, ast.Module)
    return found


def test_they_are_all_there() -> None:
    assert [path.stem for path in PATHS] == list(NAMES)


@every_notebook
def test_it_begins_with_a_title_a_question_and_an_answer(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    found = re.fullmatch(r"# [^\n]+\n\n\*\*Question\.\*\* (.+?)\n\n\*\*Answer\.\*\* (.+)", first.source, re.DOTALL)
    assert found, f"the first cell is '# Title', '**Question.** …?' and '**Answer.** …', not {first.source!r}"
    assert "?" in found[1]
    assert len(re.findall(r"[.:;](?=\s|$)", found[2])) <= 4, "the answer is two sentences"


@every_notebook
def test_it_ends_with_what_to_take_away_and_where_to_go_on(path: Path) -> None:
    last = nbformat.read(path, as_version=4).cells[-1]
    following = NAMES[(NAMES.index(path.stem) + 1) % len(NAMES)]
    assert last.cell_type == "markdown"
    assert last.source.startswith("**Takeaway.** ")
    assert re.search(rf"\]\({following}\.ipynb\)\.?$", last.source), f"its last words are a link to {following}.ipynb"


@every_notebook
def test_its_links_lead_somewhere(path: Path) -> None:
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)", cell.source):
            assert target.startswith("https://") or (path.parent / target).is_file(), f"{target} does not exist"


@every_notebook
def test_it_is_short(path: Path) -> None:
    every = nbformat.read(path, as_version=4).cells
    assert 6 <= len(every) <= 18
    assert all(cell.source.strip() for cell in every), "an empty cell"


@every_notebook
def test_it_was_run_from_top_to_bottom_without_an_error(path: Path) -> None:
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it anew: make notebooks"
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]


@every_notebook
def test_it_holds_nothing_that_changes_from_run_to_run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == METADATA
    assert plain(nbformat.read(path, as_version=4)) == notebook, "run it anew: make notebooks"


@every_notebook
def test_its_outputs_name_no_machine(path: Path) -> None:
    for text in texts(path):
        assert not FROM_THIS_MACHINE.search(text), text
        assert socket.gethostname() not in text.split()


@every_notebook
def test_its_pictures_show_something(path: Path) -> None:
    outputs = [output.data for cell in cells(path, "code") for output in cell.outputs if "data" in output]
    for data in outputs:
        plain_text = data.get("text/plain", "")
        drawings = DRAWING.findall(data.get("text/html", ""))
        if re.match(r"<(Figure|Recording|Lifecycle)\b", plain_text):
            assert drawings, f"{plain_text} has no picture"
        for alt, svg in drawings:
            assert len(alt.split()) > 3, f"{alt!r} does not say what the picture shows"
            drawn = base64.b64decode(svg).count(b"<path")
            assert drawn > 20, f"{plain_text} is blank: {drawn} lines and letters"
        assert "image/png" not in data, "a picture without words; run it anew: make notebooks"


@every_notebook
def test_it_defines_nothing_that_the_library_should_hold(path: Path) -> None:
    for cell in cells(path, "code"):
        for node in ast.walk(tree(cell.source)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                is_class = isinstance(node, ast.ClassDef)
                if not is_class or path.stem not in MAY_DEFINE_CLASSES:
                    longest = LONGEST_CLASS if is_class else LONGEST_FUNCTION
                    assert lines <= longest, f"{node.name} has {lines} lines, at most are {longest}"


@every_notebook
def test_a_cell_whose_output_is_not_compared_measures_and_asserts(path: Path) -> None:
    for cell in cells(path, "code"):
        tags = cell.metadata.get("tags", [])
        assert "NBVAL" not in cell.source, "say it by tags"
        assert set(tags) <= {"measures", "nbval-ignore-output", "adapter"}
        assert ("measures" in tags) == ("nbval-ignore-output" in tags)
        if "measures" in tags:
            assert any(isinstance(node, ast.Assert) for node in ast.walk(tree(cell.source))), cell.source


def test_each_sanitizer_is_one_that_nbval_reads_and_says_why_it_is_needed() -> None:
    text = (ROOT / "tests" / "nbval_sanitize.cfg").read_text()
    read = re.findall("^regex: (.*)$\n^replace: (.*)$", text, flags=re.MULTILINE)  # as nbval does
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    assert len(read) == len(parser.sections())
    for name in parser.sections():
        re.compile(parser[name]["regex"])
        above = text[: text.index(f"[{name}]")].splitlines()[-1]
        assert above.startswith("# "), f"[{name}] does not say why"


def test_executing_writes_outputs_and_no_more(tmp_path: Path) -> None:
    sources = ["import anyio", "print(1)\nprint(await anyio.sleep(0))"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"authors": ["me"]}), good)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), bad)
    before = bad.read_text()
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate.execute", str(bad), str(good)],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (done.returncode, done.stdout) == (1, "bad.ipynb\ngood.ipynb\n")
    assert "ZeroDivisionError" in done.stderr
    assert bad.read_text() == before
    found = nbformat.read(good, as_version=4)
    assert found.metadata == METADATA
    assert [cell.metadata for cell in found.cells] == [{}, {}]
    assert [output.text for output in found.cells[1].outputs] == ["1\nNone\n"]


def test_one_cell_closes_what_another_one_opened(tmp_path: Path) -> None:
    sources = [
        "from contextlib import AsyncExitStack\nfrom h3ref import EventSource, running\n"
        "from h3ref.examples.counter import app\nfrom h3ref.testing import AsyncTestClient\nstack = AsyncExitStack()",
        "server = await stack.enter_async_context(running(app))\n"
        "client = await stack.enter_async_context(AsyncTestClient(app))",
        "async with EventSource(f'{server.url}/events') as source:\n    print((await anext(source)).data)\n"
        "print((await client.request('GET', '/')).status)",
        "await stack.aclose()\nprint(server.open_connections)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, tmp_path / "cells.ipynb")
    execute(tmp_path / "cells.ipynb")
    cells = nbformat.read(tmp_path / "cells.ipynb", as_version=4).cells
    assert [output.text for cell in cells for output in cell.outputs] == ["0\n200\n", "0\n"]


@pytest.mark.parametrize("before", [None, "mine"])
def test_executing_leaves_the_environment_as_it_was(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during: list[str | None] = []
    monkeypatch.setattr(NotebookClient, "execute", lambda client: during.append(os.environ.get("IPYTHONDIR")))
    monkeypatch.delenv("IPYTHONDIR", raising=False)
    if before is not None:
        monkeypatch.setenv("IPYTHONDIR", before)
    notebook = tmp_path / "empty.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), notebook)
    execute(notebook)
    assert os.environ.get("IPYTHONDIR") == before
    assert during[0] not in (None, before)


# -- a wrong order is noticed


def run_with(change: str, folder: Path, name: str) -> str:
    """Run a notebook as pytest does here, on a copy of the package with a changed flow; return what is printed."""
    (mutant,) = (mutant for mutant in mutants() if str(mutant) == change)
    package = folder / "h3ref"
    shutil.copytree(Path(h3ref.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "flows.py").write_text(mutant.source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", f"notebooks/{name}.ipynb"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, f"{name}, {change}: {done.stdout}{done.stderr}"
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def test_a_step_left_out_is_noticed(tmp_path: Path) -> None:
    printed = run_with("callback: without `await exchange.send_headers(connection)`", tmp_path, "02-the-fix")
    assert "AssertionError: the callback's events did not all arrive" in printed


def test_two_steps_swapped_are_noticed(tmp_path: Path) -> None:
    change = "broken: `if exchange.state is State.SSE_STARTED:` before `await exchange.run_handler()`"
    printed = run_with(change, tmp_path, "01-the-bug")
    assert "AssertionError: the head is no longer H3Z's, byte for byte" in printed
