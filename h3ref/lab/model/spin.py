"""`verify` has Spin take every path of a model, and `follow` tells the steps of a path that it found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

MODEL: Final = Path(__file__).resolve().parents[3] / "spec" / "model"
"""Where the model stands, in a checkout."""

MEGABYTES: Final = 1900
DEPTH: Final = 50_000
PATIENCE: Final = 3600.0
"""Seconds in which a program of a run ends, on the slowest machine."""

_COMMON: Final = ("-O0", "-w", f"-DMEMLIM={MEGABYTES}")  # to optimise so large a program takes longer than to run it


class Missing(Exception):
    """Something is not on this machine; the text says how to get it."""


class Failed(Exception):
    """The checker did not do what it shall; the text has what it said."""


@dataclass(frozen=True)
class Verdict:
    """What a run found.

    Attributes:
        states: how many were visited and kept.
        transitions: steps from one to another that were taken.
        depth: of the longest path.
        seconds: that the search took, without the making of its program.
        megabytes: of memory.
        violated: the id of the order or property that does not hold, or None.
        is_whole: whether nothing cut the search; one that found a violation stops there, and is not.
        path: the steps up to the violation.
        said: what the checker said.
    """

    states: int
    transitions: int
    depth: int
    seconds: float
    megabytes: float
    violated: str | None
    is_whole: bool
    path: tuple[Step, ...]
    said: str


@dataclass(frozen=True)
class Step:
    """A step as a path of the model has it: numbers, whose names the generated part of the model defines."""

    number: int
    before: int
    after: int
    error: int
    reason: int
    is_head_request: bool


def check_tools() -> None:
    """Look whether there is what a run needs.

    Raises:
        Missing: a program, or the model itself.
    """
    absent = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    if absent:
        raise Missing(f"no {' and no '.join(absent)} on this machine: apt install spin gcc libc6-dev")
    if not MODEL.is_dir():
        raise Missing(f"no model at {MODEL}: a checkout of h3ref has it, but no wheel does")


@contextmanager
def prepared(changed: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A folder with the model in it, some of its files with another text."""
    check_tools()
    with TemporaryDirectory(prefix="h3ref-model-") as name:
        folder = Path(name)
        for file in MODEL.glob("*.pml"):
            shutil.copy(file, folder)
        for file_name, text in (changed or {}).items():
            (folder / file_name).write_text(text, encoding="utf-8")
        yield folder


def verify(
    folder: Path, model: str, defines: Sequence[str], *, eventually: Sequence[str] = (), reduces: bool = True
) -> list[Verdict]:
    """Take every path, and return what was found: one verdict, or one for each formula.

    Args:
        folder: with the model in it; the checker's program is made there.
        model: the file's name.
        defines: for the model's preprocessor.
        eventually: formulas of the model to verify one by one, each under weak fairness; none for its assertions.
        reduces: whether one order may stand for others that differ in nothing that anybody sees.

    Raises:
        Failed: Spin refuses the model, or gcc the program.
    """
    build(folder, model, defines, eventually=bool(eventually), reduces=reduces)
    found = [search(folder, model, name) for name in eventually or (None,)]
    return [replace(one, path=tuple(follow(folder, model, defines))) if one.violated else one for one in found]


def build(folder: Path, model: str, defines: Sequence[str], *, eventually: bool = False, reduces: bool = True) -> None:
    """Make the program that takes every path of a model. Arguments and errors are those of `verify`."""
    _call(["spin", "-a", *defines, model], folder)
    flags = ["-DNFAIR=3"] if eventually else ["-DSAFETY", "-DNOFAIR"]
    _call(["gcc", *_COMMON, *flags, *([] if reduces else ["-DNOREDUCE"]), "-o", "pan", "pan.c"], folder)


def search(
    folder: Path, model: str, formula: str | None = None, environment: Mapping[str, str] | None = None
) -> Verdict:
    """Run the program that `build` has made, for one formula or for the assertions; the path is left out.

    Args:
        folder: where it is.
        model: the file's name.
        formula: the name of a formula.
        environment: variables that it gets besides those of this process.
    """
    (folder / f"{model}.trail").unlink(missing_ok=True)
    command = ["./pan", "-E", f"-m{DEPTH}", "-w22", *(["-a", "-f", "-N", formula] if formula else [])]
    began = time.perf_counter()
    said = _call(command, folder, statuses=None, environment=environment)
    seconds = time.perf_counter() - began
    violated = None
    if found := re.search(r"assertion violated \(*([A-Z]_\w+)", said):
        violated = found[1]
    elif "acceptance cycle" in said.replace("acceptance   cycles", ""):
        violated = formula
    elif re.search(r"errors: [1-9]", said):
        raise Failed(said)
    numbers = [re.search(pattern, said) for pattern in _FIGURES]
    states, transitions, depth, megabytes = (float(number[1]) if number else None for number in numbers)
    if states is None or transitions is None or depth is None or megabytes is None:
        raise Failed(said)
    is_whole = violated is None and not re.search(r"not completed|too small|out of memory|truncated", said)
    return Verdict(int(states), int(transitions), int(depth), seconds, megabytes, violated, is_whole, (), said)


_FIGURES: Final = (
    r"(\d+) states, stored",
    r"(\d+) transitions",
    r"depth reached (\d+)",
    r"([\d.]+)\s+total actual memory usage",
)


def follow(folder: Path, model: str, defines: Sequence[str]) -> Iterator[Step]:
    """The steps of the path to the violation that was found last."""
    said = _call(["spin", "-t", "-k", f"{model}.trail", *defines, model], folder, statuses=None)
    for line in said.splitlines():
        if found := re.match(r"\s*@ (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", line):
            number, before, after, error, reason, is_head = map(int, found.groups())
            yield Step(number, before, after, error, reason, bool(is_head))


def _call(
    command: Sequence[str],
    folder: Path,
    statuses: Sequence[int] | None = (0,),
    environment: Mapping[str, str] | None = None,
) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "stdio.h: No such file" in done.stdout:
        raise Missing("gcc finds no C headers on this machine: apt install libc6-dev")
    if statuses is not None and done.returncode not in statuses:
        raise Failed(f"{' '.join(command)}: {done.stdout[-2000:]}")
    return done.stdout
