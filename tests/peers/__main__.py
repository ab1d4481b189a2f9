"""`python -m tests.peers`: the suites of the MCP SDK and of sse-starlette, with `sse_starlette` replaced by ours.

Each suite comes from its source distribution, or from a checkout. It runs in a copy, on the packages that this
interpreter has; `make peers` makes an environment for that. What is left out stands in left_out.json, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as xml
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from docs.generate import peers
from docs.generate.generated import update

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]


class Suite(NamedTuple):
    """A suite of somebody else's.

    Attributes:
        name: the distribution's.
        folders: what is run of it.
        packages: where a checkout has what is tested; none for what ours takes the place of.
        options: pytest's.
        beside: a folder of ours whose files take the place of theirs in `tests`; or None.
    """

    name: str
    folders: Sequence[str]
    packages: Sequence[str]
    options: Sequence[str]
    beside: Path | None = None


class Result(NamedTuple):
    """How a suite's run ended."""

    passed: int
    failed: int
    skipped: int
    left_out: int


_MCP_FOLDERS: Final = ("server", "shared", "client", "interaction", "transports", "issues")

SUITES: Final = [
    Suite(
        "mcp",
        [f"tests/{name}" for name in _MCP_FOLDERS],
        ["src", "src/mcp-types"],
        ["-p", "no:asyncio", "-o", "log_cli=false", "-n", "auto"],
    ),
    Suite(
        "sse-starlette",
        ["tests"],
        [],
        [
            *("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"),
            *("--ignore=tests/experimentation", "--ignore=tests/integration"),  # a checkout's, which need containers
        ],
        HERE / "sse_starlette_tests",
    ),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns the exit status, which is 1 if a test failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "peers", help="where the suites are unpacked")
    parser.add_argument("--only", choices=[suite.name for suite in SUITES], help="one suite alone")
    for suite in SUITES:
        parser.add_argument(f"--{suite.name}", type=Path, help="a checkout, in place of the source distribution")
    parser.add_argument("--write", action="store_true", help="write the figures, and the page that has them")
    parser.add_argument("rest", nargs="*", help="arguments for pytest, behind --")
    given = parser.parse_args(arguments)
    results: dict[str, Result] = {}
    for suite in SUITES:
        if given.only in (None, suite.name):
            checkout = getattr(given, suite.name.replace("-", "_"))
            what = f"{suite.name} of {checkout}" if checkout else f"{suite.name} {version(suite.name)}"
            print(f"== {what}", flush=True)
            results[what] = run(suite, copy_of(suite, checkout, given.work), checkout, given.rest)
            report(suite, results[what])
    if given.write:
        figures = {what: result._asdict() for what, result in results.items()}
        peers.FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        update(peers.PAGE, peers.parts, check=False, command="make peers ARGS=--write")
    return int(any(result.failed for result in results.values()))


def copy_of(suite: Suite, checkout: Path | None, work: Path) -> Path:
    """Return a fresh copy of the suite, with our files in it."""
    source = checkout or _source_distribution(suite.name, work)
    copy = work / f"{suite.name}-copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for part in ("tests", "examples", "scripts", "pyproject.toml"):
        if (source / part).is_dir():
            shutil.copytree(source / part, copy / part, symlinks=True)
        elif (source / part).exists():
            shutil.copy(source / part, copy / part)
    (copy / "tests" / "__init__.py").touch()
    if suite.beside is not None:
        for file in suite.beside.glob("*.py"):
            shutil.copy(file, copy / "tests")
    return copy


def _source_distribution(name: str, work: Path) -> Path:
    """Return the source distribution of what is installed, from the package index, unpacked."""
    folder = work / f"{name}-{version(name)}"
    if not folder.exists():
        work.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", name, "--dest", str(work)]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, f"{name}=={version(name)}"], check=True, cwd=work
        )
        (archive,) = work.glob(f"{name.replace('-', '_')}-{version(name)}.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(work, filter="data")
        (work / archive.name.removesuffix(".tar.gz")).rename(folder)
    return folder


def run(suite: Suite, copy: Path, checkout: Path | None, more: Sequence[str]) -> Result:
    """Run the suite with our module in the place of theirs."""
    packages = [checkout.resolve() / package for package in suite.packages] if checkout else []
    names = _names(suite, copy, packages)
    left_out = []
    for test in (test for part in parts_left_out(suite.name) for test in part.tests):
        found = matching(test, names)
        if not found:
            print(f"{suite.name} has no test {test}, which left_out.json names")
        left_out += found
    result = copy / "result.xml"
    # As arguments they would be too many for a command line; a file that can't be imported is left out as a whole.
    listed = copy / "left_out.txt"
    listed.write_text("".join(f"--deselect={name}\n" for name in left_out), encoding="utf-8")
    files = {name.partition("::")[0] for name in names}
    whole = sorted(files - {name.partition("::")[0] for name in set(names) - set(left_out)})
    _pytest(
        suite,
        copy,
        [HERE / "shim", *packages],
        [f"--junitxml={result}", f"@{listed}", *(f"--ignore={file}" for file in whole), *more],
    )
    if not result.exists():
        raise SystemExit(f"{suite.name}: pytest could not run it")
    count = xml.parse(result).getroot().find("testsuite")
    assert count is not None, "pytest writes one"
    tests, failed, skipped = (int(count.attrib[name]) for name in ("tests", "failures", "skipped"))
    failed += int(count.attrib["errors"])
    return Result(tests - failed - skipped, failed, skipped, len(left_out))


def _names(suite: Suite, copy: Path, packages: Sequence[Path]) -> list[str]:
    """The suite's tests by name, as they are collected with the module that they were written for."""
    output = _pytest(suite, copy, packages, ["--collect-only", "--no-header", "-n", "0"], quiet=True)
    return [line for line in output.splitlines() if "::" in line]


def _pytest(suite: Suite, copy: Path, path: Sequence[Path], more: Sequence[str], *, quiet: bool = False) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:pretty", "--color=no"]
    places = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [*command, "--tb=short", *suite.options, *more, *suite.folders],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    return ended.stdout or ""


class Part(NamedTuple):
    """Tests that are left out, and why: the beginnings of their names."""

    tests: list[str]
    reason: str


def parts_left_out(name: str) -> list[Part]:
    """What is left out of a suite."""
    listed = json.loads((HERE / "left_out.json").read_text(encoding="utf-8"))
    return [Part(part["tests"], part["reason"]) for part in listed.get(name, [])]


def matching(beginning: str, names: Sequence[str]) -> list[str]:
    """The tests whose names begin so: a file, a class, a function or one of its cases."""
    return [name for name in names if name == beginning or name.startswith((f"{beginning}::", f"{beginning}["))]


def report(suite: Suite, result: Result) -> None:
    """Print the figures, and what was left out."""
    print(f"{suite.name}: {result.passed} passed, {result.failed} failed, {result.skipped} skipped, ", end="")
    print(f"{result.left_out} left out:" if result.left_out else "none left out")
    for part in parts_left_out(suite.name):
        print(f"  {part.reason}: {', '.join(part.tests)}")


if __name__ == "__main__":
    sys.exit(main())
