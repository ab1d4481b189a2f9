"""`running` and `serve`: an app in this process, or in several that share a place."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import anyio

from .._core.owned import Owned
from ..app import H3App
from ..limits import Limits
from ..sse import SSEEvent
from .loading import load_app
from .place import Place
from .process import serve_until_signal
from .settings import Settings
from .signals import FirstSignal

if TYPE_CHECKING:
    from .._core.exchange import Flow
    from ..adapters.h11_anyio import Server
    from ..trace import Listener

log = logging.getLogger("h3ref.server")

DEFAULT_PORT: Final = 3000
DEFAULT_GRACE: Final = 5.0
DEFAULT_FLUSH_GAP: Final = 0.0005


@asynccontextmanager
async def running(
    app: H3App,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    uds: str | os.PathLike[str] | None = None,
    fd: int | None = None,
    reuse_port: bool = False,
    flow: Flow | None = None,
    flush_gap: float = DEFAULT_FLUSH_GAP,
    grace: float = DEFAULT_GRACE,
    limits: Limits | None = None,
    farewell: SSEEvent | None = None,
    trace: Listener | None = None,
) -> AsyncIterator[Server]:
    """Serve an app while the body of the `async with` runs, in the event loop that is already running.

    You may leave it in a task other than the one that entered it, as fixtures of pytest-asyncio and cells of a notebook
    do.

    Args:
        app: the app whose handlers answer.
        host: the name or address to listen on.
        port: the port; 0 for a free one, which `server.port` and `server.url` tell.
        uds: the path of a socket in the file system to listen on instead, for a proxy on this machine. A socket left
            behind by a server that is gone is replaced; anybody who may enter its folder may connect; at the end it is
            removed.
        fd: the number of an open socket to listen on instead, as a service manager passes it; it is closed at the end.
        reuse_port: whether other processes of this user that say the same may have the port as well. On Linux, the
            system spreads connections over them.
        flow: None for the default, where what a handler calls picks its flow; or `flows.broken`.
        flush_gap: the fewest seconds between two sendings of what streams have pending, while many streams have
            something or more keeps coming; 0 for none.
        grace: seconds that shutting down may take: streams are closed properly, plain handlers may finish.
        limits: how much the server takes on.
        farewell: the last event of open streams when the server shuts down; `SSEEvent(retry=...)` tells clients when to
            come back, and nothing else.
        trace: a listener that gets a `trace.Record` of each step.

    Raises:
        OSError: it can't listen there, for example because the port is taken.
        TypeError, ValueError: an argument that can't be used.
        Exception: what the app's lifespan raised.
    """
    _check_app(app)
    settings = Settings(flow, flush_gap, grace, limits, farewell, trace)
    server = settings.server(app, *Place(host, port, uds, fd, reuse_port).listen(), is_one_of_several=reuse_port)
    async with Owned(
        server.serving(grace, lambda: log.warning("handlers still run after the grace period: waiting for them"))
    ):
        yield server


def serve(
    app: H3App | str,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    uds: str | os.PathLike[str] | None = None,
    fd: int | None = None,
    reuse_port: bool = False,
    workers: int | Literal["auto"] = 1,
    flow: Flow | None = None,
    backend: str = "asyncio",
    flush_gap: float = DEFAULT_FLUSH_GAP,
    grace: float = DEFAULT_GRACE,
    limits: Limits | None = None,
    farewell: SSEEvent | None = None,
    trace: Listener | None = None,
) -> None:
    """Serve an app until SIGINT or SIGTERM, then shut down within `grace` seconds; a second signal ends at once.

    The second signal needs no event loop, so it also ends a process whose loop a handler blocks.

    A shutdown takes this order: no further connections are accepted; each open stream gets what was sent to it, then
    `farewell`, if there is one, and its proper end, with the reason shutdown, a few streams at a time in random order,
    so that their clients do not all come back at once; plain handlers may finish; whatever is left is cancelled, and
    cut.

    Then the app's lifespan is left, in what remains of the grace. A signal that comes before the app has started ends
    the start-up.

    A worker thread, or a handler that swallows its cancellation, can't be ended, and Python would wait for it for ever:
    if one is still running after the grace period, and only then, the process ends here, with status 0.

    With `workers`, this process serves nothing: it starts other processes, which share the place, and looks after them.
    It takes the signals, and passes them on. A worker that dies is replaced; meanwhile its clients wait, or another
    worker takes them. SIGHUP replaces all workers, one by one, by processes that import the app anew; if the first of
    these can't start, the old ones go on.

    Args:
        app: the app whose handlers answer; or "module:app", which names one, as for `h3ref serve`.
        workers: how many processes serve; "auto" for one on each core. More than one need the app's name, since each of
            them imports it.
        backend: the event loop, "asyncio" or "trio".
        others: as in `running`. With several workers, `pickle` has to be able to pass on a `trace`, such as a module's
            function, and each process has its own.

    Raises:
        OSError, TypeError, ValueError: as `running`; also for a backend that is unknown or not installed, inside a
            running event loop, and for several workers if `app` is not a name, or on Windows.
        RuntimeError: on a thread other than the main one, which is where signals come; `running` needs none.
        AppNotFound: the named app does not exist, or can't be imported.
        StartupFailed: the app's lifespan raised when it was entered; the text says what, and where. Or no worker starts
            any more.
    """
    with suppress(RuntimeError):  # anyio's way to say that no event loop runs here
        anyio.get_current_task()
        raise TypeError("serve() starts an event loop of its own, but one is running here: use async with running(app)")
    if backend not in ("asyncio", "trio"):
        raise ValueError(f'backend is "asyncio" or "trio", not {backend!r}')
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("serve() ends on signals, which only the main thread gets: here use async with running(app)")
    count = count_workers(workers)
    settings = Settings(flow, flush_gap, grace, limits, farewell, trace)
    place = Place(host, port, uds, fd, reuse_port)
    if count > 1:
        if not isinstance(app, str):
            raise ValueError(
                f'{count} workers each import the app, so name it: serve("module:app", workers={count}), not an object'
            )
        from .supervisor import serve_workers

        serve_workers(app, place, settings, count=count, backend=backend)
        return
    found = load_app(app) if isinstance(app, str) else app
    _check_app(found)

    def make(first: FirstSignal) -> Server:
        return settings.server(found, *place.listen(), is_one_of_several=reuse_port)

    anyio.run(partial(serve_until_signal, make, grace, _announce), backend=backend)


def _announce(server: Server) -> None:
    print(f"h3ref serves on {server.url} (Ctrl-C ends it)", file=sys.stderr, flush=True)


def count_workers(workers: object) -> int:
    """The number of workers, given as a number or as "auto".

    Raises:
        TypeError, ValueError: it is neither.
    """
    if workers == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if type(workers) is not int:
        raise TypeError(f'workers must be a number, 1 or more, or "auto", not {workers!r}')
    if workers < 1:
        raise ValueError(f'workers must be a number, 1 or more, or "auto", not {workers!r}')
    return workers


def _check_app(app: object) -> None:
    if not isinstance(app, H3App):
        raise TypeError(f"app is an H3App, not {app!r}")
