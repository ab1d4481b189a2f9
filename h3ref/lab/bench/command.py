"""What `h3ref bench` does: measure, print, save, compare."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .amounts import FULL, QUICK
from .progress import shown
from .results import Results
from .runner import QUICK_REPEAT, REPEAT, SECTIONS, run
from .systems import chosen
from .table import WIDTH, changes, missing, table


def bench(
    *,
    sections: Sequence[str] = (),
    systems: Sequence[str] = (),
    quick: bool = False,
    repeat: int | None = None,
    json: Path | None = None,
    compare: Path | None = None,
) -> Results:
    """Run the benchmark, and print what it found.

    Args:
        sections: by name; all if none is named.
        systems: by name; all if none is named. Those that are not installed are named and left out.
        quick: do less of everything, once.
        repeat: how often everything is measured.
        json: where to write the results, too.
        compare: results of an earlier run, whose ratios are shown beside these.

    Raises:
        ValueError: an unknown name, or a file to compare that is none.
        OSError: a file can't be read or written.
    """
    before = Results.load(compare) if compare else None
    if json is not None and not (json.parent.is_dir() and os.access(json.parent, os.W_OK)):
        raise OSError(f"can't write {json}: no such folder, or not allowed")  # now, not after all the measuring
    results = run(
        sections or SECTIONS,
        chosen(systems),
        amounts=QUICK if quick else FULL,
        repeat=repeat or (QUICK_REPEAT if quick else REPEAT),
        quick=quick,
        progress=shown(),
    )
    if json is not None:
        results.save(json)
    columns = shutil.get_terminal_size((WIDTH, 24)).columns
    lines = [*missing(results, columns=columns), *table(results, columns=columns)]
    lines += changes(before, results, columns=columns) if before else ()
    print("\n".join(lines), flush=True)
    return results
