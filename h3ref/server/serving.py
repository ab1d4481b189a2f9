"""`running` and `serve`, in one process."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio

from .._core.failure import sentence_of
from .._core.farewell import encoded_farewell
from .._core.owned import Owned
from .._core.service import Service
from ..errors import StartupFailed
from ..flows import check_flow
from ..limits import Limits
from ..sse import SSEEvent
from .signals import FirstSignal

if TYPE_CHECKING:
    from .._core.exchange import Flow
    from ..adapters.h11_anyio import Server
    from ..app import H3App
    from ..trace import Listener

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
    farewell: SSEEvent | None = None,
    trace: Listener | None = None,
) -> AsyncIterator[Server]:
    """Serve an app while the body of the `async with` runs, in the event loop that runs already.

    It may be left in another task than it was entered in, as by fixtures of pytest-asyncio and cells of a notebook.

    Args:
        app: whose handlers answer.
        host: the name or address to listen on.
        port: the port; 0 for a free one, which `server.port` and `server.url` tell.
        flow: None for the default, where what a handler calls picks its flow; or `flows.broken`.
        flush_gap: least seconds between two sendings of what streams have pending, while many do or more comes; 0 for
            none.
        grace: seconds that the end may take: streams are closed properly, plain handlers may finish.
        limits: how much the server takes on.
        farewell: an event that open streams get last when the server ends; `SSEEvent(retry=...)` tells clients when to
            come back, and that alone.
        trace: a listener that gets a `trace.Record` of each step.

    Raises:
        OSError: it can't listen there, such as on a port that is taken.
        TypeError, ValueError: an argument that can't be used.
        Exception: what the app's lifespan raised.
    """
    server = _server(app, host, port, flow, flush_gap, grace, limits, farewell, trace)
    async with Owned(
        server.serving(grace, lambda: log.warning("handlers still run after the grace period: waiting for them"))
    ):
        yield server


def _server(
    app: H3App,
    host: str,
    port: int,
    flow: Flow | None,
    flush_gap: float,
    grace: float,
    limits: Limits | None,
    farewell: SSEEvent | None,
    trace: Listener | None,
) -> Server:
    from ..adapters.h11_anyio import Server  # here, with h11 and all: under an ASGI server nobody needs it

    _check_app(app)
    _check_seconds("flush_gap", flush_gap)
    _check_seconds("grace", grace)
    last = encoded_farewell(farewell)
    return Server(Service(app, flow=check_flow(flow), trace=trace, limits=limits, farewell=last), host, port, flush_gap)


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
    farewell: SSEEvent | None = None,
    trace: Listener | None = None,
) -> None:
    """Serve an app until SIGINT or SIGTERM, then shut down within `grace` seconds; a second signal ends at once.

    The second one needs no event loop, so that it also ends a process whose loop a handler blocks.

    It ends in this order: no further connections; each open stream gets what was sent, then `farewell`, if there is
    one, and its proper end, with the reason shutdown, a few streams at a time in a random order, so that their clients
    do not all come back at once; plain handlers may finish; what is left is cancelled, and cut.

    Then the app's lifespan is left, in what remains of the grace. A signal that comes before the app has started ends
    the start-up.

    A worker thread, or a handler that swallows its cancellation, can't be ended, and Python would wait for it for
    ever: when one still runs after the grace period, and only then, the process ends here, with status 0.

    Args:
        backend: the event loop, "asyncio" or "trio".
        others: as in `running`.

    Raises:
        OSError, TypeError, ValueError: as `running`; also for a backend that is unknown or not installed, and in an
            event loop that runs already.
        RuntimeError: on another thread than the main one, which is where signals come; `running` needs none.
        StartupFailed: the app's lifespan raised when it was entered; the text says what, and where.
    """
    with suppress(RuntimeError):  # anyio's way to say that no event loop runs here
        anyio.get_current_task()
        raise TypeError("serve() starts an event loop of its own, and here one runs: use async with running(app)")
    if backend not in ("asyncio", "trio"):
        raise ValueError(f'backend is "asyncio" or "trio", not {backend!r}')
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("serve() ends by signals, which only the main thread gets: here use async with running(app)")

    async def main() -> None:
        first = FirstSignal()
        with first.taken(), anyio.CancelScope() as everything:
            server = _server(app, host, port, flow, flush_gap, grace, limits, farewell, trace)
            async with AsyncExitStack() as stack:
                with first.calling(everything.cancel):
                    await _start(server.serving(grace, lambda: _exit("handlers")), stack)
                print(f"h3ref serves on {server.url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
                await first.wait()
                log.info("%s: shutting down", first.name)
        if everything.cancelled_caught:
            log.info("%s: ended before the app had started", first.name)
        if any(not thread.daemon for thread in list(server.service.threads.busy)):
            _exit("worker threads")

    anyio.run(main, backend=backend)


async def _start(serving: AbstractAsyncContextManager[None], stack: AsyncExitStack) -> None:
    try:
        await stack.enter_async_context(serving)
    except Exception as error:
        raise StartupFailed(f"the app's start-up failed: {sentence_of(error)}") from error


def _exit(what: str) -> None:
    log.warning("%s still run after the grace period; the process ends without them", what)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _check_app(app: object) -> None:
    from ..app import H3App

    if not isinstance(app, H3App):
        raise TypeError(f"app is an H3App, not {app!r}")


def _check_seconds(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} is seconds from 0 on, not {value!r}")
