"""`python -m h3ref`, also installed as `h3ref`: the parser of all commands, and how each of them ends.

A new command is one more module in `COMMANDS`: its `add` adds a parser with `shared.add_command`, and names the
function that runs the command. What that needs besides the core is imported only when it runs, so `--help` needs
nothing. A failure is a `CommandError`: one line on stderr, and the exit status.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from .. import __version__
from . import bench, check, demo, diagram, serve, tail, trace
from .shared import DONE, EXIT_STATUSES, INTERRUPTED, USAGE, CommandError, HelpFormatter, discard_output, write_out

if TYPE_CHECKING:
    from .shared import Commands


class Command(Protocol):
    """A module of this package."""

    def add(self, commands: Commands) -> None:
        """Add the command."""


COMMANDS: Final[tuple[Command, ...]] = (bench, check, demo, diagram, serve, tail, trace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status (see `EXIT_STATUSES`)."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
        write_out("")  # what is buffered goes out here, where a failure can still be told
    except CommandError as error:
        if text := str(error):
            print(f"h3ref: {text}", file=sys.stderr)
        return error.status
    except BrokenPipeError:  # the reader of the output has enough, as `| head` does
        discard_output()
    except KeyboardInterrupt:
        print("h3ref: interrupted", file=sys.stderr)
        return INTERRUPTED
    return DONE


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser: argparse.ArgumentParser = _Parser(
        prog="h3ref",
        description="Server-Sent Events with an explicit lifecycle.",
        epilog=f"{EXIT_STATUSES}\nh3ref COMMAND --help explains a command.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"h3ref {__version__}", help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and takes a command's options before, between and after its arguments."""

    _is_intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._subparsers is not None or self._is_intermixing:
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True  # for what follows calls this again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"h3ref: {message} ({self.prog} --help says more)\n")
