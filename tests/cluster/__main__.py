"""`python -m tests.cluster`: the tests of channels in several processes, many times over, with what they add up to."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from .trial import MANY, TALLY

TESTS: Final = ("tests/test_cluster.py", "tests/test_cluster_failover.py")


def main() -> int:
    """Run the matrix of faults; exit status 0 when everything held in each run, 1 when something did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=main.__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how often (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (%(default)s)")
    parser.add_argument("--channels", type=int, default=200, help="that are cut off at once (%(default)s)")
    parser.add_argument("-k", default="", help="only these, as pytest's -k", dest="choice")
    options = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        str(options.jobs),
        "--dist",
        "load",
        "-p",
        "no:cacheprovider",
    ]
    failed = 0
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for run in range(1, options.runs + 1):
            file, began = Path(folder) / f"{run}.json", time.monotonic()
            done = subprocess.run(
                [*command, *(["-k", options.choice] if options.choice else []), *TESTS],
                env={**os.environ, TALLY: str(file), MANY: str(options.channels), "H3REF_CI": "1"},
                capture_output=True,
                text=True,
            )
            trials = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
            totals.update({"trials": len(trials)})
            for trial in trials:
                totals.update({key: trial[key] for key in ("published", "acknowledged", "delivered", "gaps")})
            failed += done.returncode != 0
            verdict, seconds = "FAILED" if done.returncode else "held", time.monotonic() - began
            print(
                f"run {run:2} of {options.runs}: {verdict}, {len(trials)} trials in {seconds:.0f} s; "
                f"so far {_said(totals)}",
                flush=True,
            )
            if done.returncode:
                print(done.stdout[-8000:], done.stderr[-2000:], flush=True)
    print(f"{options.runs - failed} of {options.runs} runs held" + ("" if failed else ": 0 lost unseen, 0 doubled"))
    return 1 if failed else 0


def _said(totals: Counter[str]) -> str:
    return ", ".join(f"{totals[key]:,} {key}" for key in ("acknowledged", "delivered", "gaps"))


if __name__ == "__main__":
    sys.exit(main())
