"""`serve` an app until a signal comes, or keep it `running` inside a notebook or a test."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from .adapters.h11_anyio import Server
from .exchange import Service
from .flows import check_flow
from .limits import Limits

if TYPE_CHECKING:
    from .app import H3App
    from .exchange import Flow
    from .trace import Listener

log = logging.getLogger(__name__)

DEFAULT_PORT: Final = 3000
DEFAULT_GRACE: Final = 5.0
DEFAULT_FLUSH_GAP: Final = 0.0005


@asynccontextmanager
async def running(
    app: H3App,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    flow: Flow | None = None,
    flush_gap: float = DEFAULT_FLUSH_GAP,
    grace: float = DEFAULT_GRACE,
    limits: Limits | None = None,
    trace: Listener | None = None,
) -> AsyncIterator[Server]:
    """Serve an app while the body of the `async with` runs, in the event loop that runs already.

    Args:
        app: whose handlers answer.
        host: the name or address to listen on.
        port: the port; 0 for a free one, which `server.port` and `server.url` tell.
        flow: None for the default, where what a handler calls picks its flow; or `flows.broken`.
        flush_gap: least seconds between two sendings of what streams have pending; 0 for none.
        grace: seconds that the end may take: streams are closed properly, plain handlers may finish.
        limits: how much the server takes on.
        trace: a listener that gets a `trace.Record` of each step.

    Raises:
        OSError: it can't listen there, such as on a port that is taken.
        TypeError, ValueError: an argument that can't be used.
    """
    _check_app(app)
    _check_seconds("flush_gap", flush_gap)
    _check_seconds("grace", grace)
    service = Service(app, flow=check_flow(flow), trace=trace, limits=limits)
    server = Server(service, host, port, flush_gap)
    async with server.serving(grace):
        yield server


def serve(
    app: H3App,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    flow: Flow | None = None,
    backend: str = "asyncio",
    flush_gap: float = DEFAULT_FLUSH_GAP,
    grace: float = DEFAULT_GRACE,
    limits: Limits | None = None,
    trace: Listener | None = None,
) -> None:
    """Serve an app until SIGINT or SIGTERM, then shut down within `grace` seconds; a second signal ends at once.

    A worker thread that still runs after the grace period can't be ended, and Python would wait for it
    for ever: then, and only then, the process ends here, with status 0.

    Args:
        backend: the event loop, "asyncio" or "trio".
        others: as in `running`.

    Raises:
        OSError, TypeError, ValueError: as `running`; also for a backend that is unknown or not installed.
    """
    if backend not in ("asyncio", "trio"):
        raise ValueError(f'backend is "asyncio" or "trio", not {backend!r}')

    async def main() -> Service:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with running(
                app, host=host, port=port, flow=flow, flush_gap=flush_gap, grace=grace, limits=limits, trace=trace
            ) as server:
                print(f"h3ref serves on {server.url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
                async for number in signals:
                    log.info("%s: shutting down", signal.Signals(number).name)
                    break
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                return server.service

    service = anyio.run(main, backend=backend)
    if any(not thread.daemon for thread in service.busy_threads):
        _exit_without(service.busy_threads)


def _exit_without(threads: set[threading.Thread]) -> None:
    log.warning("%d worker threads still run after the grace period; the process ends without them", len(threads))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _check_app(app: object) -> None:
    from .app import H3App

    if not isinstance(app, H3App):
        raise TypeError(f"app is an H3App, not {app!r}")


def _check_seconds(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} is seconds from 0 on, not {value!r}")
