"""What an import costs: `import h3ref` beside `import starlette.applications`, each time in a process of its own.

    python -m docs.generate.imports FILE         some seconds; writes the figures as JSON

They take turns, so that what slows the machine slows both, and of each the least time is told. Bytecode is at hand, as
it is where pip has installed them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final, NamedTuple

import h3ref
from h3ref.lab.bench.machine import machine

RUNS: Final = 15
PROGRAMS: Final = {"python": "", "h3ref": "import h3ref", "starlette": "import starlette.applications"}


class Imports(NamedTuple):
    """The figures.

    Attributes:
        runs: how many processes each is the least of.
        python, h3ref, starlette: milliseconds that a process takes which imports nothing, or this.
    """

    runs: int
    python: float
    h3ref: float
    starlette: float

    @property
    def ratio(self) -> float:
        """What the import of h3ref takes, as a multiple of Starlette's: both without what Python takes to start."""
        return (self.h3ref - self.python) / (self.starlette - self.python)


def measured(runs: int = RUNS) -> Imports:
    """Import, and take the time.

    Raises:
        OSError: a program failed; the text is what it said.
    """
    least = dict.fromkeys(PROGRAMS, float("inf"))
    with TemporaryDirectory() as bytecode:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPATH": str(Path(h3ref.__file__).parents[1]),
            "PYTHONPYCACHEPREFIX": bytecode,
        }
        for run in range(runs + 1):
            for name, program in PROGRAMS.items():
                begin = perf_counter()
                ended = subprocess.run(
                    [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
                )
                took = perf_counter() - begin
                if ended.returncode:
                    raise OSError(" ".join(ended.stderr.split()))
                if run:  # the first one has written the bytecode
                    least[name] = min(least[name], round(took * 1000, 1))
    return Imports(runs, **least)


def lines(found: Imports) -> Iterator[str]:
    """The figures as sentences."""
    ours, theirs = f"{found.h3ref - found.python:.0f} ms", f"{found.starlette - found.python:.0f} ms"
    yield f"`import h3ref` takes {ours}, and `import starlette.applications` {theirs}: ×{found.ratio:.2g}. Each is the"
    yield f"least of {found.runs} processes that took turns, without the {found.python:.0f} ms in which Python starts."


def load(path: Path) -> Imports:
    """Read what `main` wrote.

    Raises:
        OSError: it can't be read.
        ValueError: it has no such figures.
    """
    try:
        return Imports(**json.loads(path.read_text(encoding="utf-8"))["imports"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has no times of imports: {type(error).__name__}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the file, print what was found; the exit status is 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.imports", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write the JSON")
    path: Path = parser.parse_args(arguments).file
    try:
        found = measured()
        text = json.dumps({"machine": machine(), "imports": found._asdict()}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
