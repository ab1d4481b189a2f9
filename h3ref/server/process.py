"""`serve_until_signal`: one process's server, from its start to its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING

import anyio

from .._core.failure import sentence_of
from ..errors import StartupFailed
from .signals import REPLACED, SIGNALS, FirstSignal

if TYPE_CHECKING:
    from ..adapters.h11_anyio import Server

log = logging.getLogger("h3ref.server")


async def serve_until_signal(
    make: Callable[[FirstSignal], Server],
    grace: float,
    announce: Callable[[Server], None],
    numbers: Sequence[signal.Signals] = SIGNALS,
) -> None:
    """Serve until the first signal, then end within the grace; what can't be ended then ends with the process.

    Args:
        make: makes the server; what it raises is raised here.
        grace: seconds.
        announce: called when the server accepts.
        numbers: the signals.

    Raises:
        StartupFailed: the app's lifespan raised when it was entered.
        Exception: what it raised later.
    """
    first = FirstSignal(numbers)
    with first.taken(), anyio.CancelScope() as everything:
        server = make(first)
        async with AsyncExitStack() as stack:
            with first.calling(everything.cancel):
                await _start(server.serving(grace, lambda: _exit("handlers")), stack)
            announce(server)
            await first.wait()
            log.info("%s: shutting down", first.name)
            if first.name == REPLACED:
                await server.hand_over()
    if everything.cancelled_caught:
        log.info("%s: ended before the app had started", first.name)
    if any(not thread.daemon for thread in list(server.service.threads.busy)):
        _exit("worker threads")


async def _start(serving: AbstractAsyncContextManager[None], stack: AsyncExitStack) -> None:
    try:
        await stack.enter_async_context(serving)
    except Exception as error:
        raise StartupFailed(f"the app's start-up failed: {sentence_of(error)}") from error


def _exit(what: str) -> None:
    log.warning("%s are still running after the grace period; the process ends without them", what)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
