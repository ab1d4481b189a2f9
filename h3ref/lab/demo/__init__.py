"""`h3ref demo`: the bug and its three fixes, on real sockets, printed and then on a web page.

`report` runs the flows and prints what happened, and `wire` is its client. `page` is the app that both servers serve,
one in the default flow, one in the broken one. Its streams, in `ticks`, have no end; `watch` keeps their steps, and
`picture` draws them.
"""

from __future__ import annotations

import errno
import logging
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import anyio

from h3ref import flows, running
from h3ref._core.logs import LogLines
from h3ref.adapters.h11_anyio import Server

from ..log_lines import is_of_a_step
from .page import Page
from .report import Report

GRACE = 1.0


def demo(*, port: int, once: bool, everything: bool = False) -> None:
    """Run the demo; unless `once`, serve its page until SIGINT or SIGTERM.

    Args:
        port: the page's port; when it is taken, the next free one.
        once: end after the printed part.
        everything: print the bytes and the steps of each flow, not just those of the bug and of one fix.

    Raises:
        OSError: it can't listen there, for a reason other than that the port is taken.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without box characters shall still show the rest
    anyio.run(_demo, port, once, everything)


async def _demo(port: int, once: bool, everything: bool) -> None:
    page, report = Page(), Report(everything=everything)
    async with AsyncExitStack() as stack:
        fixed = await _listen(stack, port, page, trace=page.traces["fixed"])
        broken = await _listen(stack, fixed.port + 1, page, trace=page.traces["broken"], flow=flows.broken)
        page.serves(fixed=fixed, broken=broken)
        await report.run(fixed, broken, page.steps["fixed"], page.steps["broken"])
        if once:
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            _log_to_stderr()
            report.say()
            report.say(f"See it in a browser:  {report.paint('bold', fixed.url + '/')}  (Ctrl-C ends the demo)")
            if port not in (0, fixed.port):
                report.say(report.paint("dim", f"Port {port} is taken, so it is on the next free one."))
            async for _ in signals:
                break
    report.say()


async def _listen(stack: AsyncExitStack, port: int, page: Page, **options: Any) -> Server:
    """Serve on the port, or else on the next one that is free."""
    for candidate in [*range(port, min(port + 100, 65536)), 0] if port else [0]:
        try:
            return await stack.enter_async_context(running(page.app, port=candidate, grace=GRACE, **options))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free")


def _log_to_stderr() -> None:
    """Show what the page's streams make the servers log."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogLines())
    handler.addFilter(is_of_a_step)
    logger = logging.getLogger("h3ref")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
