"""`h3ref demo`: the bug and its three fixes, on real sockets, printed and then on a web page."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .shared import FAILED, USAGE, CommandError, add_command, add_port

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
        "what was logged, and the steps as they were recorded. Then serve a page that shows the same, until "
        "Ctrl-C.",
        more="No other host is contacted. Colours: on a terminal, unless NO_COLOR is set.",
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="show a chat in several processes instead: two servers of two workers each, nginx before them and a "
        "Redis behind them, all on this machine. A server is killed, Redis restarts, everything is redeployed, and a "
        "timeline shows which server served whom meanwhile, and that nothing was lost",
    )
    parser.add_argument("--once", action="store_true", help="end after the printed part, without the page")
    parser.add_argument("--all", action="store_true", help="print the bytes and the steps of all four flows")
    add_port(parser, "the port of the page; if it is taken, the next free one (%(default)s)")


def run(options: argparse.Namespace) -> None:
    """Run the demo.

    Raises:
        CommandError: it can't listen; or a program is missing, or fails; or a message was lost.
    """
    if options.cluster:
        _run_cluster()
        return
    from ..lab.demo import demo

    try:
        demo(port=options.port, once=options.once, everything=options.all)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(error.strerror or str(error), FAILED) from error


def _run_cluster() -> None:
    from ..lab import cluster

    try:
        good = cluster.demo()
    except cluster.Missing as error:
        raise CommandError(str(error), USAGE) from error
    except (cluster.Failed, TimeoutError) as error:
        raise CommandError(str(error) or "a message did not reach everybody in time", FAILED) from error
    if not good:
        raise CommandError("messages were lost, doubled or reordered, as the table says", FAILED)
