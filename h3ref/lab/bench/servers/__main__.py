"""Run one server until the benchmark ends it."""

from __future__ import annotations

import argparse
import importlib

from . import leash


def main() -> None:
    """Parse the arguments, import the server's module, and let it serve."""
    parser = argparse.ArgumentParser(prog="python -m h3ref.lab.bench.servers")
    parser.add_argument("module")
    parser.add_argument("--backend", default="asyncio")
    parser.add_argument("--flow", default="callback")
    parser.add_argument("--flush-gap", type=float)
    parser.add_argument("--uvicorn", action="store_true", help="serve ours under uvicorn")
    parser.add_argument("--fast", action="store_true", help="uvicorn on uvloop and httptools")
    parser.add_argument("--sample", action="store_true", help="note where the CPU time goes")
    options = parser.parse_args()
    leash.take_stdout()
    leash.allow_files()
    if options.sample:
        leash.sample()
    importlib.import_module(f"{__package__}.{options.module}").serve(options)


main()
