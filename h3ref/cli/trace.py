"""`h3ref trace FILE`: a recording, checked against the specification."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .._core.logs import printable
from ..trace import Record
from .shared import FAILED, USAGE, CommandError, add_command, exit_statuses, write_out

if TYPE_CHECKING:
    from ..lab.check import Rules
    from .shared import Commands

LOOK: Final = 0.05
"""Seconds between two checks whether a file has grown."""

MORE: Final = """\
An exchange that is still open at the end of the recording breaks no rule, unless --whole says that the recording is
whole. --follow prints a line for each request and each end, and stops at the first record that no legal run contains.
It follows any program that writes the trace format, which spec/formats.md specifies.

examples:
  h3ref trace steps.ndjson --whole
  h3ref trace steps.ndjson --follow
  node server.mjs | h3ref trace - --follow"""


def add(commands: Commands) -> None:
    """Add `trace FILE`."""
    parser = add_command(
        commands,
        "trace",
        run,
        summary="check a recording",
        description="Check a recording that `h3ref serve --trace FILE` or another implementation wrote against the "
        "specification, and name the first record that no legal run contains.",
        more=MORE,
        statuses=exit_statuses(
            done="no record breaks a rule, even if Ctrl-C ended --follow",
            failed="a record breaks a rule; the output says which, why, and what could have come instead",
            usage="wrong usage, or a recording that is empty or can't be read",
        ),
    )
    parser.add_argument("file", metavar="FILE", help="the recording, a line of JSON for each step; - for stdin")
    parser.add_argument("--spec", metavar="FILE", help="the lifecycle.json to check against (the package's own)")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on as the recording grows, until a record breaks a rule, or Ctrl-C; for stdin, until its end",
    )
    parser.add_argument("--whole", action="store_true", help="the recording is whole: an open exchange breaks a rule")


def run(options: argparse.Namespace) -> None:
    """Check a recording.

    Raises:
        CommandError: it can't be read, or breaks a rule; the text names the first record that does.
    """
    from ..lab.check import check, load_rules, summary
    from ..lab.recorder import Recording

    named = "stdin" if options.file == "-" else options.file
    if options.follow and options.whole:
        raise CommandError("--whole is for a recording that no longer grows, and --follow for one that does", USAGE)
    try:
        rules = load_rules(options.spec)
        if options.follow:
            _follow(options.file, named, rules)
            return
        data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        raise CommandError(f"can't read {error.filename or named}: {error.strerror}", USAGE) from error
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    try:
        recording = Recording.from_ndjson(data.decode("utf-8-sig"))
    except ValueError as error:
        raise CommandError(f"{named}: {error}", USAGE) from error
    if not recording:  # it breaks no rule, but the user has named the wrong file, or recorded nothing
        raise CommandError(f"{named}: no step was recorded", USAGE)
    if violation := check(recording, whole=options.whole, rules=rules):
        raise CommandError(f"{named}: {violation}", FAILED)
    write_out(f"{named}: {summary(recording, rules=rules)}\n")


def _follow(file: str, named: str, rules: Rules) -> None:
    """Check a recording as it grows.

    Raises:
        OSError: it can't be read.
        CommandError: a record breaks a rule, or a line is not a record.
    """
    from ..lab.check import Follower

    follower = Follower(rules)
    lines = iter(sys.stdin.buffer.readline, b"") if file == "-" else _growing(file, named)
    number = 0
    with suppress(KeyboardInterrupt):  # the usual end of what grows
        for number, line in enumerate(lines, 1):
            try:
                record = Record.from_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except ValueError as error:
                raise CommandError(f"{named}: line {number}: {error}", USAGE) from error
            if violation := follower.take(record):
                raise CommandError(f"{named}: {violation}", FAILED)
            if record.step == "request":
                write_out(f"{record.exchange} {' '.join(map(printable, (record.detail or '').split(' ')))}\n")
            elif record.after == rules.final and record.before != rules.final:
                write_out(f"{record.exchange} {record.after}, {record.reason}\n")
    if not number:
        raise CommandError(f"{named}: no step was recorded", USAGE)
    write_out(f"{named}: {follower.summary}\n")


def _growing(file: str, named: str) -> Iterator[bytes]:
    """The lines of a file that grows, each once it is whole, for ever.

    Raises:
        OSError: it can't be read.
        CommandError: it has become shorter, so somebody has begun it anew.
    """
    with Path(file).open("rb") as stream:
        begun = b""
        while True:
            begun += stream.readline()
            if begun.endswith(b"\n"):
                yield begun
                begun = b""
            elif os.fstat(stream.fileno()).st_size < stream.tell():
                raise CommandError(f"{named}: it has become shorter: run the command again", USAGE)
            else:
                time.sleep(LOOK)
