"""What the commands share: how they end, how their help reads, and what several of them take and print."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ..server import DEFAULT_PORT

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    """What `ArgumentParser.add_subparsers` returned."""

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def exit_statuses(*, failed: str, usage: str, done: str = "done", interrupted: str = "interrupted by Ctrl-C") -> str:
    """The part of a command's help that explains its exit status."""
    meanings = {DONE: done, FAILED: failed, USAGE: usage, INTERRUPTED: interrupted}
    return "exit status:\n" + "".join(f"  {status:<4} {meaning}\n" for status, meaning in meanings.items())


EXIT_STATUSES: Final = exit_statuses(
    done="done, even if Ctrl-C or SIGTERM ended a server",
    failed="failed while running, such as a port that is taken, or a recording that breaks a rule",
    usage="wrong usage, a MODULE:APP that does not exist or is no app, or a recording that is empty or can't be read",
    interrupted="interrupted before it was done",
)
"""Those of the program, and of commands without any of their own."""


class CommandError(Exception):
    """Ends a command, with one line for the user (none if it is empty) and the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(" ".join(text.split()))
        self.status = status


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    summary: str,
    description: str,
    more: str,
    statuses: str = EXIT_STATUSES,
) -> argparse.ArgumentParser:
    """Add a command, and return its parser, for its arguments.

    Args:
        commands: where to add it.
        name: its name.
        run: runs it; a failure is a `CommandError`.
        summary: what it does, for the list of all commands.
        description, more: the parts of its help before and after the arguments.
        statuses: what its exit status means, from `exit_statuses`.
    """
    parser = commands.add_parser(
        name, help=summary, description=description, epilog=f"{more}\n\n{statuses}", formatter_class=HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


class HelpFormatter(argparse.HelpFormatter):
    """Fills help texts to the width of the terminal, and breaks no word.

    In an epilog an empty line ends a paragraph, and so does a change of the indent. A line with two or more blanks
    after its first words is an item, whose rest is aligned with itself. Below `example:` or `examples:` each line is a
    command, which is only broken before an option, and continues after a backslash.
    """

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _filled(" ".join(text.split()), width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(f"{indent}{line}".rstrip() for line in laid_out(text, width - len(indent)))


_ITEM: Final = re.compile(r"(?P<name> *\S.*?  +)(?P<rest>\S.*)")
_BEFORE_OPTION: Final = re.compile(r" (?=-)(?=(?:[^']*'[^']*')*[^']*$)")  # not within quotes


def laid_out(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a help's text, as `HelpFormatter` says."""
    are_commands = False
    for (indent, kind, _), lines in groupby(enumerate(text.splitlines()), _kind_of_line):
        whole = [line.strip() for _, line in lines]
        if kind in ("empty", "heading"):
            yield indent + whole[0]
            are_commands = whole[0] in ("example:", "examples:") if whole[0] else are_commands
        elif are_commands and indent:
            yield from (part for line in whole for part in _command(line, width, indent))
        elif kind == "item" and (item := _ITEM.fullmatch(indent + whole[0])):
            yield from _filled(item["rest"], width, item["name"], " " * len(item["name"]))
        else:
            yield from _filled(" ".join(whole), width, indent, indent)


def _kind_of_line(numbered: tuple[int, str]) -> tuple[str, str, int]:
    """A line's indent, its kind, and its number if it goes with no other line."""
    number, line = numbered
    indent = line[: len(line) - len(line.lstrip())]
    if not line:
        return "", "empty", number
    if line.endswith(":"):
        return indent, "heading", number
    return (indent, "item", number) if _ITEM.fullmatch(line) else (indent, "text", -1)


def columns() -> int:
    """The width of the terminal, or of COLUMNS; 0 without either."""
    return shutil.get_terminal_size((0, 0)).columns


def folded(text: str, indent: int) -> str:
    """Fold each line to the terminal's width, further lines indented so far; without a terminal, change nothing.

    No word is broken. COLUMNS also sets the width.
    """
    width = columns()
    if not width:
        return text
    return "\n".join("\n".join(_filled(line, width, "", " " * indent)) for line in text.split("\n"))


def _filled(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _command(text: str, width: int, indent: str) -> Iterator[str]:
    line, room = indent, width - 2
    parts = _BEFORE_OPTION.split(text) if len(indent) + len(text) > width else [text]
    for part in parts:
        if line.strip() and len(line) + 1 + len(part) > room:
            yield f"{line} \\"
            line = f"{indent}    {part}"
        else:
            line = f"{line} {part}" if line.strip() else indent + part
    yield line


def add_port(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--port`, with this help."""
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, metavar="N", help=text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def write_out(text: str) -> None:
    """Write to stdout, and flush it.

    Raises:
        BrokenPipeError: nobody reads it any more.
        CommandError: it can't be written, as on a full disk.
    """
    if sys.stdout is None:  # closed before the program began
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise CommandError(f"can't write the output: {error.strerror or error}", FAILED) from error


def discard_output() -> None:
    """Drop what is still buffered, so that the interpreter does not try to write it again as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def header(text: str) -> tuple[str, str]:
    """A request's header, from an argument.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+\-.^`|~\w]+", name, re.ASCII):  # RFC 9110, section 5.6.2: a token
        raise argparse.ArgumentTypeError(f"a header is written 'Name: value', not {text!r}")
    if not value.isprintable():  # a line end would begin another header
        raise argparse.ArgumentTypeError(f"a header's value is printable text, which that of {name} is not")
    return name, value.strip()


def seconds(text: str) -> float:
    """A time, from an argument.

    Raises:
        argparse.ArgumentTypeError: it is not a number above 0.
    """
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds must be more than 0, not {text!r}")
    return found
