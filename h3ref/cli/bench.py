"""`h3ref bench`: h3ref beside its peers, as figures and as multiples of a bare asyncio Protocol."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .shared import FAILED, USAGE, CommandError, add_command, exit_statuses

if TYPE_CHECKING:
    from .shared import Commands

MORE: Final = """\
sections:
  stream yield fanout first memory pace busy grow encode parse lifecycle

systems:
  raw h3ref h3ref-gapless h3ref-trio h3ref-uvicorn starlette starlette-fast drop-in drop-in-fast sse-starlette
  sse-starlette-fast aiohttp-sse fastapi; and in the section first: h3ref-awaited h3ref-blocking h3ref-def
  h3ref-generated h3ref-broken.

  'h3ref*' means all whose names begin with h3ref. drop-in is h3ref's EventSourceResponse in Starlette on uvicorn; fast
  is with uvloop and httptools.

examples:
  h3ref bench --quick
  h3ref bench --quick --sections fanout,first --json results.json"""


def add(commands: Commands) -> None:
    """Add `bench`."""
    parser = add_command(
        commands,
        "bench",
        run,
        summary="measure h3ref beside its peers",
        description="Measure h3ref and its peers, each as a server in a process of its own, and print what each costs, "
        "as figures and as multiples of what a bare asyncio Protocol costs. Peers that are not installed are named "
        "and left out; pip install 'h3ref[bench]' brings them.",
        more=MORE,
        statuses=exit_statuses(
            failed="a server failed, as the output says, or FILE can't be read or written",
            usage="wrong usage, such as an unknown section",
        ),
    )
    parser.add_argument("--sections", type=_names, default=[], metavar="A,B", help="measure only these sections")
    parser.add_argument("--systems", type=_names, default=[], metavar="A,B", help="measure only these systems")
    parser.add_argument(
        "--quick", action="store_true", help="less of everything, and once: a minute instead of a quarter of an hour"
    )
    parser.add_argument(
        "--repeat", type=_times, metavar="N", help="how often everything is measured (5; long measurements less often)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE, too")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show how ratios have changed since FILE")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark.

    Raises:
        CommandError: it can't be run, or a server failed; `--help` explains the status.
    """
    from ..lab.bench.command import bench

    try:
        results = bench(
            sections=options.sections,
            systems=options.systems,
            quick=options.quick,
            repeat=options.repeat,
            json=options.json,
            compare=options.compare,
        )
    except BrokenPipeError:
        raise
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise CommandError(name + (error.strerror or str(error)), FAILED) from error
    if results.failures:
        raise CommandError(f"{len(results.failures)} could not be measured, as said above", FAILED)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _times(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"it must be a number, 1 or more, not {text!r}")
    return int(text)
