"""`h3ref demo`: the bug and its three fixes, on real sockets, printed and then on a web page."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .shared import FAILED, CommandError, add_command, add_port

if TYPE_CHECKING:
    from .shared import Commands


def add(commands: Commands) -> None:
    """Add `demo`."""
    parser = add_command(
        commands,
        "demo",
        run,
        summary="see the bug and its fixes",
        description="Run the broken flow and the three fixed ones on real sockets, and show what the client received, "
        "what was logged, and the steps as they were recorded. Then serve a page with the same in a browser, until "
        "Ctrl-C.",
        more="No other host is contacted. Colours: on a terminal, unless NO_COLOR is set.",
    )
    parser.add_argument("--once", action="store_true", help="end after the printed part, without the page")
    parser.add_argument("--all", action="store_true", help="print the bytes and the steps of all four flows")
    add_port(parser, "the port of the page; when it is taken, the next free one (%(default)s)")


def run(options: argparse.Namespace) -> None:
    """Run the demo.

    Raises:
        CommandError: it can't listen.
    """
    from ..lab.demo import demo

    try:
        demo(port=options.port, once=options.once, everything=options.all)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(error.strerror or str(error), FAILED) from error
