"""What changes were worth: h3ref as it was after each of some commits, beside raw asyncio and h3ref of today.

    python -m docs.generate.history FILE REVISION ...     some minutes; writes results as `h3ref bench --json` does
    python -m docs.generate.history FILE                  those commits again that are in the file

Each commit is checked out into a folder of its own, gets the benchmark's servers of today, and takes its turn in one
and the same run. So it works as far back as the public API that these servers use.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import h3ref
from h3ref.lab.bench.amounts import Amounts
from h3ref.lab.bench.progress import shown
from h3ref.lab.bench.results import Results
from h3ref.lab.bench.runner import run
from h3ref.lab.bench.systems import System, chosen
from h3ref.lab.bench.table import table

SECTIONS: Final = ("stream", "yield", "fanout", "first", "memory", "pace")
AMOUNTS: Final = Amounts(fans=(500, 2000), few=())
REPEAT: Final = 3
HOUSE: Final = Path(h3ref.__file__).parent


@contextmanager
def checked_out(revisions: Sequence[str]) -> Iterator[list[System]]:
    """Systems that are h3ref as of these commits, while the context lasts.

    Raises:
        OSError: this is no git checkout, or it has no such commit; the text is git's.
    """
    found = []
    with TemporaryDirectory() as folder:
        for revision in revisions:
            name, _, subject = _git("log", "-1", "--format=%h %s", revision, "--").partition(" ")
            home = Path(folder, name)
            if not home.exists():  # of a commit that has two names
                _check_out(revision, home)
            found.append(System(name, subject, ("ours",), home=home))
        yield found


def _check_out(revision: str, home: Path) -> None:
    home.mkdir()
    archive = home / "archive.zip"  # a tar would want a filter, which Python has from 3.11.4 on
    _git("archive", "--output", str(archive), revision, "--", "h3ref")
    shutil.unpack_archive(archive, home)
    shutil.rmtree(home / "h3ref" / "lab" / "bench", ignore_errors=True)
    shutil.copytree(HOUSE / "lab" / "bench", home / "h3ref" / "lab" / "bench")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(HOUSE.parent), *arguments], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise OSError(" ".join(done.stderr.split()))
    return done.stdout.strip()


def history(revisions: Sequence[str]) -> Results:
    """Measure what these commits were worth.

    Raises:
        OSError: as `checked_out`.
    """
    floor, today = chosen(["raw"])[0], chosen(["h3ref"])[0]
    with checked_out(revisions) as systems:
        return run(SECTIONS, [floor, *systems, today], amounts=AMOUNTS, repeat=REPEAT, progress=shown())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the file, print what was found; the exit status is 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.history", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write the JSON")
    parser.add_argument("revisions", nargs="*", metavar="REVISION", help="a commit, the oldest first")
    options = parser.parse_args(arguments)
    try:
        known = [] if options.revisions else Results.load(options.file).titles
        results = history(options.revisions or [name for name in known if name not in ("raw", "h3ref")])
        results.save(options.file)
    except (OSError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
