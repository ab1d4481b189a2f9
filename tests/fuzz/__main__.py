"""`python -m tests.fuzz HARNESS --seconds N`: let atheris look for an input that breaks a harness.

What it finds is written to the current directory, as `crash-...`; given as further arguments, such files are run again.
Exit status 0 when nothing was found.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

HARNESSES = ("record", "request", "stream")


def main() -> None:
    """Run one harness."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("harness", choices=HARNESSES)
    parser.add_argument("--seconds", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("files", nargs="*", type=Path, help="inputs to run again, instead of looking for new ones")
    options = parser.parse_args()

    atheris = importlib.import_module("atheris")  # which only `make fuzz` installs
    with atheris.instrument_imports(include=["h3ref", "h11"]):
        harness = importlib.import_module(f"tests.fuzz.{options.harness}")
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(harness.seeds()):
            (Path(corpus) / f"{number:04}").write_bytes(seed)
        how = [*map(str, options.files)] or [f"-max_total_time={options.seconds}", "-max_len=4096", corpus]
        atheris.Setup([sys.argv[0], "-timeout=20", "-print_final_stats=1", *how], harness.take)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
