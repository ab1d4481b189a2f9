"""The table of others' suites in docs/how-to/move-from-sse-starlette.md, from what `make peers` found.

`make peers ARGS=--write` runs the suites and writes both the figures and the page; `python -m docs.generate.peers`
writes the page alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .generated import table, update

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "how-to" / "move-from-sse-starlette.md"
FIGURES: Final = ROOT / "tests" / "peers" / "figures.json"
LEFT_OUT: Final = ROOT / "tests" / "peers" / "left_out.json"


def parts() -> dict[str, list[str]]:
    """The page's generated part: the figures, and the reasons for what is left out."""
    return {"peers": list(_lines())}


def _lines() -> Iterator[str]:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    left_out = json.loads(LEFT_OUT.read_text(encoding="utf-8"))
    columns = ("passed", "failed", "skipped", "left out")
    rows = [(name, *(f"{figures[name][column.replace(' ', '_')]:,}" for column in columns)) for name in figures]
    yield from table(["suite", *columns], rows, numbers=True)
    for name in left_out:
        *others, last = (part["reason"] for part in left_out[name])
        yield from ("", f"A test of {name} is left out because it", "")
        yield from (f"- {reason};" for reason in others)
        yield f"- {last}."


def main() -> int:
    """Write the page's part, or with --check look whether it is as it would be."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.peers", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    return update(PAGE, parts, check=parser.parse_args().check, command="python -m docs.generate.peers")


if __name__ == "__main__":
    sys.exit(main())
