"""`h3ref serve MODULE:APP`: an app on the native server, until a signal ends it."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .. import flows
from .._core.logs import LogLines
from ..errors import AppNotFound, StartupFailed
from ..server import DEFAULT_FLUSH_GAP, DEFAULT_GRACE, serve
from ..server.loading import load_app
from ..server.place import Place
from ..server.serving import count_workers
from ..server.settings import Settings
from .shared import FAILED, USAGE, CommandError, add_command, add_port, exit_statuses

if TYPE_CHECKING:
    from ..trace import Record
    from .shared import Commands

LEVELS: Final = ("debug", "info", "warning", "error")


def add(commands: Commands) -> None:
    """Add `serve MODULE:APP`."""
    parser = add_command(
        commands,
        "serve",
        run,
        summary="serve an app",
        description="Serve an H3App until Ctrl-C or SIGTERM. The current directory is importable.",
        more=(
            "example:\n  h3ref serve h3ref.examples.counter:app --port 8080\n"
            "  h3ref serve h3ref.examples.counter:app --workers auto"
        ),
        statuses=exit_statuses(
            done="a signal ended it",
            failed="the port is taken, the app's lifespan failed, or no worker is left",
            usage="wrong usage, or MODULE:APP does not exist or is not an app",
            interrupted="interrupted before it served",
        ),
    )
    parser.add_argument("app", metavar="MODULE:APP", help="a module, and the name of the H3App in it")
    parser.add_argument("--host", default="127.0.0.1", help="the name or address to listen on (%(default)s)")
    add_port(parser, "the port to listen on; 0 for a free one (%(default)s)")
    parser.add_argument("--uds", metavar="PATH", help="listen on a socket in the file system instead, for a proxy")
    parser.add_argument(
        "--fd", type=_descriptor, metavar="N", help="listen on this open socket instead, as a service manager passes it"
    )
    parser.add_argument(
        "--reuse-port", action="store_true", help="share the port with other servers that do so, too (Linux)"
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="processes that serve, each of which imports the app; auto for one on each core (%(default)s)",
    )
    parser.add_argument(
        "--flow",
        type=_flow,
        metavar="broken",
        help="answer every request in H3Z's broken order; without it, what a handler calls picks its flow",
    )
    parser.add_argument(
        "--backend", choices=("asyncio", "trio"), default="asyncio", help="the event loop (%(default)s)"
    )
    parser.add_argument(
        "--flush-gap",
        type=_seconds,
        default=DEFAULT_FLUSH_GAP,
        metavar="SECONDS",
        help="shortest time between two rounds of sending what streams have pending (%(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=DEFAULT_GRACE,
        metavar="SECONDS",
        help="time that streams and handlers get when the server shuts down (%(default)s)",
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="the lowest level to log (%(default)s)")
    parser.add_argument("--no-access-log", action="store_true", help="don't log a line for each request")
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="append each step to FILE, a line of JSON each; - for stdout; each worker writes its own, FILE-PROCESS",
    )


def run(options: argparse.Namespace) -> None:
    """Serve an app until a signal comes.

    Raises:
        CommandError: it can't be served; the text says why, and `--help` explains the status.
    """
    if options.backend == "trio" and importlib.util.find_spec("trio") is None:
        raise CommandError("the backend trio is not installed: pip install trio", USAGE)
    try:
        place = Place(options.host, options.port, options.uds, options.fd, options.reuse_port)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    sys.path.insert(0, str(Path.cwd()))
    prepare_log(options.log_level, not options.no_access_log)
    try:
        if options.workers == 1:
            _serve(options)
        else:
            _serve_workers(options, place)
    except AppNotFound as error:
        raise CommandError(str(error), USAGE) from error
    except StartupFailed as error:
        raise CommandError(str(error), FAILED) from error
    except OSError as error:
        raise CommandError(error.strerror or str(error), FAILED) from error


def _serve(options: argparse.Namespace) -> None:
    app = load_app(options.app)
    trace = Trace(options.trace) if options.trace else None
    if trace is not None:
        trace.open()
    serve(
        app,
        options.host,
        options.port,
        uds=options.uds,
        fd=options.fd,
        reuse_port=options.reuse_port,
        flow=flows.broken if options.flow else None,
        backend=options.backend,
        flush_gap=options.flush_gap,
        grace=options.grace,
        trace=trace,
    )


def _serve_workers(options: argparse.Namespace, place: Place) -> None:
    from ..server.supervisor import serve_workers

    if options.trace == "-":
        raise CommandError("each of several workers writes its own trace: name a file, not -", USAGE)
    trace = Trace(options.trace, of_each=True) if options.trace else None
    flow = flows.broken if options.flow else None
    serve_workers(
        options.app,
        place,
        Settings(flow, options.flush_gap, options.grace, None, None, trace),
        count=options.workers,
        backend=options.backend,
        prepare=partial(prepare_worker, options.log_level, not options.no_access_log, trace),
    )


def prepare_log(level: str, access: bool) -> None:
    """Log to stderr, from a level on, with or without the access log."""
    log_to_stderr(level)
    if not access:
        logging.getLogger("h3ref.access").setLevel(logging.WARNING)


def prepare_worker(level: str, access: bool, trace: Trace | None) -> None:
    """Do in a worker's process what the command has done in its own.

    Raises:
        StartupFailed: the trace can't be written.
    """
    prepare_log(level, access)
    if trace is not None:
        try:
            trace.open()
        except CommandError as error:
            raise StartupFailed(str(error)) from error


def log_to_stderr(level: str) -> None:
    """Log to stderr, a line "level: message" each."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # At debug it tells its own inner steps, not the server's.
    logging.getLogger("asyncio").setLevel(max(logging.INFO, logging.getLogger().level))


class Trace:
    """A listener that appends each step to a file, a line of JSON each. It may be opened in another process.

    Args:
        name: the file's name; "-" for stdout.
        of_each: whether each process has a file of its own, with its number before the name's ending.
    """

    def __init__(self, name: str, *, of_each: bool = False) -> None:
        self._name = name
        self._of_each = of_each

    def open(self) -> None:
        """Open it, as the one process that writes it.

        Raises:
            CommandError: it can't be opened.
        """
        self._stream = sys.stdout
        if self._name != "-":
            path = Path(self._name)
            if self._of_each:
                path = path.with_stem(f"{path.stem}-{os.getpid()}")
            try:
                self._stream = path.open("a", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"can't write the trace to {path}: {error.strerror}", FAILED) from error
        self._lock = threading.Lock()  # records come from the event loop and from worker threads
        self._failed = False

    def __call__(self, record: Record) -> None:
        with self._lock:
            if self._failed:
                return
            try:
                self._stream.write(record.to_json() + "\n")
                self._stream.flush()
            except OSError as error:  # a full disk ends the trace, not the stream that is traced
                self._failed = True
                logging.getLogger("h3ref.cli").error("writing the trace failed; it ends here: %s", error)


def _workers(text: str) -> int:
    try:
        return count_workers(int(text) if text.isascii() and text.isdigit() else text)
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"workers must be a number, 1 or more, or auto, not {text!r}") from None


def _descriptor(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"an open socket is a number, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"seconds must be a number, 0 or more, not {text!r}")
    return seconds


def _flow(text: str) -> str:
    if text != "broken":
        raise argparse.ArgumentTypeError(
            f"only broken can be chosen for a whole server, not {text!r}: what a handler calls picks the others"
        )
    return text
