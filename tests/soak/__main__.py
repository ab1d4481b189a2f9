"""`python -m tests.soak`."""

from __future__ import annotations

import argparse
import sys
from datetime import date
from importlib.metadata import version

import anyio

import h3ref
from h3ref.lab.bench.machine import machine

from .run import Figures, soak
from .server import SoakFailure
from .trials import TRIALS

LOOPS = ("asyncio", "trio")


def main() -> int:
    """Run the soak; exit status 0 when everything held, 1 when something did not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long, for each event loop (%(default)g)")
    parser.add_argument(
        "--backend", choices=("asyncio", "trio"), action="append", help="the servers' event loop (both)"
    )
    parser.add_argument("--seed", type=int, default=0, help="for what is done at random (%(default)s)")
    parser.add_argument(
        "--trial", choices=TRIALS, action="append", default=[], help="instead of the soak: one measurement"
    )
    options = parser.parse_args()
    print(_where())
    try:
        for backend in options.backend or LOOPS:
            for trial in options.trial:
                anyio.run(TRIALS[trial], backend, print)
            if options.trial:
                continue
            figures = anyio.run(soak, backend, options.seconds, options.seed, _progress)
            print("\r" + " " * 79 + "\r", end="", file=sys.stderr, flush=True)
            print(figures.report())
    except (SoakFailure, BaseExceptionGroup) as error:
        found = _first(error)
        if isinstance(found, SoakFailure):
            print(f"\nthe soak failed: {found}", file=sys.stderr)
            return 1
        if isinstance(found, KeyboardInterrupt):
            return 130
        raise
    return 0


def _where() -> str:
    """What the figures were taken on."""
    here = machine()
    at = f" at {here['commit']}" if here["commit"] else ""
    return (
        f"{date.today()}, h3ref {h3ref.__version__}{at}, anyio {version('anyio')}, trio {version('trio')}, "
        f"{here['python']},\n{here['processor']}, {here['cores']} cores, {here['system']}\n"
    )


def _progress(figures: Figures) -> None:
    text = f"{figures.seconds:6.0f} s  {figures.faults.total()} faults  {figures.tally.events:,} events"
    print(f"\r{text:79}", end="", file=sys.stderr, flush=True)


def _first(found: BaseException) -> BaseException:
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


if __name__ == "__main__":
    sys.exit(main())
