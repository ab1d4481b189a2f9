"""`h3ref trace FILE`: a recording, checked against the specification."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .shared import FAILED, USAGE, CommandError, add_command, write_out

if TYPE_CHECKING:
    from .shared import Commands


def add(commands: Commands) -> None:
    """Add `trace FILE`."""
    parser = add_command(
        commands,
        "trace",
        run,
        summary="check a recording",
        description="Check a recording, as `h3ref serve --trace FILE` or another implementation writes it, against the "
        "specification, and name the first record that no legal run contains.",
        more="An exchange that is still open where the recording ends breaks no rule, unless --whole says that it is "
        "whole.",
    )
    parser.add_argument("file", metavar="FILE", help="the recording, a line of JSON for each step; - for stdin")
    parser.add_argument("--spec", metavar="FILE", help="the lifecycle.json to check against (the package's own)")
    parser.add_argument("--whole", action="store_true", help="the recording is whole: what is still open breaks a rule")


def run(options: argparse.Namespace) -> None:
    """Check a recording.

    Raises:
        CommandError: it can't be read, or breaks a rule; the text names the first record that does.
    """
    from ..lab.check import check, load_rules, summary
    from ..lab.recorder import Recording

    named = "stdin" if options.file == "-" else options.file
    try:
        rules = load_rules(options.spec)
        data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        raise CommandError(f"can't read {error.filename or named}: {error.strerror}", USAGE) from error
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    try:
        recording = Recording.from_ndjson(data.decode("utf-8-sig"))
    except ValueError as error:
        raise CommandError(f"{named}: {error}", USAGE) from error
    if not recording:  # it breaks no rule, but who asks about it has named the wrong file, or recorded nothing
        raise CommandError(f"{named}: no step was recorded", USAGE)
    if violation := check(recording, whole=options.whole, rules=rules):
        raise CommandError(f"{named}: {violation}", FAILED)
    write_out(f"{named}: {summary(recording, rules=rules)}\n")
