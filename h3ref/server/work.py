"""`Work`: what a worker process does, `python -m h3ref.server.work DESCRIPTOR`, which its parent starts."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from .._core.parking import ThreadParking, caller_from_threads, start_task
from ..errors import AppNotFound, StartupFailed
from ..stats import Stats
from .lines import Lines, Message
from .loading import load_app
from .process import serve_until_signal
from .signals import PARENTS, REPLACED, FirstSignal
from .task import Task

if TYPE_CHECKING:
    from ..adapters.h11_anyio import Server
    from ..app import H3App

log = logging.getLogger("h3ref.server")

FAILED: Final = 1

MARGIN: Final = 5.0
"""Seconds beyond its grace after which a process that was told to end is ended."""

ANSWERED_WITHIN: Final = 2.0
"""Seconds within which a parent passes on what all its workers have told it."""


class Work:
    """A worker's server, and its dealings with its parent.

    It listens to the parent on a thread, so that it hears it, and notices when it is gone, whatever the event loop
    does.

    Args:
        lines: to the parent.
        task: what there is to do.
    """

    def __init__(self, lines: Lines, task: Task) -> None:
        self._lines = lines
        self._task = task
        descriptors = dict.fromkeys(descriptor for share in task.shares for descriptor in share)
        self._sockets = {descriptor: socket.socket(fileno=descriptor) for descriptor in descriptors}
        for descriptor in self._sockets:
            os.set_inheritable(descriptor, False)  # what the app starts is no server
        self._serves: tuple[FirstSignal, Server] | None = None  # as soon as there is an event loop
        self._call_soon: Callable[[Callable[[], object]], bool]  # on its thread
        self._has_to_end = False  # it was told so
        self._asked: dict[int, tuple[ThreadParking, list[Stats]]] = {}
        self._numbers = itertools.count()
        self._last: object  # of the tasks that were started, kept as `start_task` wants it
        self._lock = threading.Lock()

    def run(self) -> int:
        """Import the app, and serve; return the exit status."""
        threading.Thread(target=self._listen, name="h3ref parent", daemon=True).start()
        try:
            if self._task.prepare is not None:
                self._task.prepare()
            make = partial(self._make, load_app(self._task.app))
            anyio.run(
                partial(serve_until_signal, make, self._task.settings.grace, self._announce, (signal.SIGTERM,)),
                backend=self._task.backend,
            )
        except StartupFailed as error:
            self._lines.send(failed=str(error), is_missing=isinstance(error, AppNotFound))
            log.debug("the worker did not start", exc_info=error)
            return FAILED
        except Exception:
            log.exception("the server has failed, and has ended")
            return FAILED
        return 0

    def _make(self, app: H3App, first: FirstSignal) -> Server:
        from ..adapters.h11_anyio.listeners import Listeners

        listeners = Listeners(list(self._sockets.values()), self._task.host, path=self._task.path)
        server = self._task.settings.server(
            app, listeners, accepted=self._share(self._task.number), is_one_of_several=True
        )
        server.service.gather = self._gather
        with self._lock:
            self._call_soon = caller_from_threads()
            self._serves = first, server
        return server

    def _share(self, number: int) -> list[socket.socket]:
        return [self._sockets[descriptor] for descriptor in self._task.shares[number]]

    def _announce(self, server: Server) -> None:
        self._lines.send(ready=True)

    # -- on the thread that listens

    def _listen(self) -> None:
        for message in self._lines.read():
            try:
                self._obey(message)
            except Exception:  # whoever listens no more misses the next one, and the parent's end
                log.exception("the parent's message could not be followed: %s", message)
        self._end_alone()

    def _obey(self, message: Message) -> None:
        with self._lock:
            serves = self._serves
            if "end" in message:
                self._has_to_end = True
        if serves is None:  # it is still importing, and is told nothing else before it serves
            os._exit(0)
        first, server = serves
        match message:
            case {"end": name}:
                first.tell(name)
            case {"retire": _}:
                first.tell(REPLACED)
            case {"accept": number}:
                self._call_soon(partial(self._start, server.accept_on, number))
            case {"leave": number}:
                self._call_soon(partial(self._start, server.stop_accepting_on, number))
            case {"stats": number}:
                self._lines.send(stats=number, figures=asdict(server.stats()))
            case {"all": number, "figures": figures}:
                asked = self._asked.get(number)
                if asked is not None:
                    asked[1].extend(Stats(**each) for each in figures)
                    asked[0].wake_from_thread()

    def _end_alone(self) -> None:
        """End because the parent is gone: at once if that was asked for before, else with time for the clients."""
        with self._lock:
            serves = self._serves
        if serves is None or self._has_to_end:
            os._exit(FAILED)
        log.warning("the parent process is gone: shutting down")
        serves[0].tell("the parent is gone")
        threading.Event().wait(self._task.settings.grace + MARGIN)
        os._exit(FAILED)

    # -- in the event loop

    def _start(self, function: Callable[[list[socket.socket]], None], number: int) -> None:
        async def run() -> None:  # what it starts, or stops, is a task's to do
            function(self._share(number))

        self._last = start_task(run)

    async def _gather(self) -> list[Stats]:
        """Ask the parent for the figures of all workers."""
        number, parking, found = next(self._numbers), ThreadParking(), list[Stats]()
        self._asked[number] = parking, found
        try:
            self._lines.send(ask=number)
            with anyio.move_on_after(ANSWERED_WITHIN):
                await parking.wait()
        finally:
            del self._asked[number]
        return found


def main() -> int:
    """Take the descriptor, and the task that comes through it; return the exit status."""
    for number in PARENTS:
        signal.signal(number, _leave_to_the_parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS)
    sock = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(sock.fileno(), False)
    lines = Lines(sock)
    task = next(lines.read(), None)
    return FAILED if task is None else Work(lines, Task.of(task)).run()


def _leave_to_the_parent(*_: Any) -> None:
    """Ignore the terminal's signals, but not with SIG_IGN, which programs that an app starts would inherit."""


if __name__ == "__main__":
    sys.exit(main())
