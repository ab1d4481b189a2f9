"""`h3ref serve MODULE:APP`: an app on the native server, until a signal ends it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import math
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import flows
from .._core.failure import place_of, sentence_of
from .._core.logs import LogLines
from ..app import H3App
from ..errors import StartupFailed
from ..server import DEFAULT_FLUSH_GAP, DEFAULT_GRACE, serve
from .shared import FAILED, USAGE, CommandError, add_command, add_port

if TYPE_CHECKING:
    from ..trace import Listener, Record
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
        more="example:\n  h3ref serve h3ref.examples.counter:app --port 8080",
    )
    parser.add_argument("app", metavar="MODULE:APP", help="a module, and the name that the H3App has in it")
    parser.add_argument("--host", default="127.0.0.1", help="the name or address to listen on (%(default)s)")
    add_port(parser, "the port to listen on; 0 for a free one (%(default)s)")
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
        help="least time between two sendings of what streams have pending (%(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=DEFAULT_GRACE,
        metavar="SECONDS",
        help="how long streams and handlers may take to end when the server ends (%(default)s)",
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="the least level to log (%(default)s)")
    parser.add_argument("--no-access-log", action="store_true", help="log no line for each request that is over")
    parser.add_argument("--trace", metavar="FILE", help="append each step to FILE, a line of JSON each; - for stdout")


def run(options: argparse.Namespace) -> None:
    """Serve an app until a signal comes.

    Raises:
        CommandError: it can't be served; the text says why, and the status is as `--help` says.
    """
    if options.backend == "trio" and importlib.util.find_spec("trio") is None:
        raise CommandError("the backend trio is not installed: pip install trio", USAGE)
    log_to_stderr(options.log_level)
    if options.no_access_log:
        logging.getLogger("h3ref.access").setLevel(logging.WARNING)
    app = load_app(options.app)
    with ExitStack() as files:
        try:
            serve(
                app,
                options.host,
                options.port,
                flow=flows.broken if options.flow else None,
                backend=options.backend,
                flush_gap=options.flush_gap,
                grace=options.grace,
                trace=_trace_into(options.trace, files) if options.trace else None,
            )
        except StartupFailed as error:
            raise CommandError(str(error), FAILED) from error
        except OSError as error:
            raise CommandError(error.strerror or str(error), FAILED) from error


def load_app(name: str) -> H3App:
    """Import the app that "module:app" names.

    Raises:
        CommandError: it is not there, can't be imported, or is no app; the text says which.
    """
    module_name, colon, app_name = name.partition(":")
    if not colon or not module_name or not app_name:
        raise CommandError(f"MODULE:APP is wanted, such as h3ref.examples.counter:app, not {name!r}", USAGE)
    if module_name.endswith(".py") or not all(part.isidentifier() for part in module_name.split(".")):
        raise CommandError(
            f"{module_name} is no module's name: write it as in an import, without .py or slashes", USAGE
        )
    sys.path.insert(0, str(Path.cwd()))
    module = _import(module_name)
    found: Any = module
    for part in app_name.split("."):
        found = getattr(found, part, _MISSING)
    if isinstance(found, H3App):
        return found
    apps = [key for key, value in vars(module).items() if isinstance(value, H3App)]
    there = f"its apps are: {', '.join(apps)}" if apps else "it has no H3App"
    if found is _MISSING:
        raise CommandError(f"module {module_name} has no {app_name}; {there}", USAGE)
    raise CommandError(f"{name} is no H3App, but of type {type(found).__name__}; {there}", USAGE)


_MISSING = object()


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise CommandError(f"there is no module {error.name}, here in {Path.cwd()} or installed", USAGE) from error
        raise CommandError(f"importing {name} failed: {error} ({place_of(error)})", USAGE) from error
    except ImportError as error:
        raise CommandError(f"importing {name} failed: {error} ({place_of(error)})", USAGE) from error
    except (Exception, SystemExit) as error:
        raise CommandError(f"importing {name} raised {sentence_of(error)}", USAGE) from error


def log_to_stderr(level: str) -> None:
    """Log to stderr, a line "level: message" each."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # At debug it tells its own inner steps, not the server's.
    logging.getLogger("asyncio").setLevel(max(logging.INFO, logging.getLogger().level))


def _trace_into(name: str, files: ExitStack) -> Listener:
    stream = sys.stdout
    if name != "-":
        try:
            stream = files.enter_context(Path(name).open("a", encoding="utf-8"))  # noqa: SIM115  # the stack closes it
        except OSError as error:
            raise CommandError(f"can't write the trace to {name}: {error.strerror}", FAILED) from error
    lock = threading.Lock()  # records come from the event loop and from worker threads
    log = logging.getLogger("h3ref.cli")
    failed = False

    def write(record: Record) -> None:
        nonlocal failed
        with lock:
            if failed:
                return
            try:
                stream.write(record.to_json() + "\n")
                stream.flush()
            except OSError as error:  # a full disk ends the trace, not the stream that is traced
                failed = True
                log.error("writing the trace failed, and it ends here: %s", error)

    return write


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"seconds are a number from 0 on, not {text!r}")
    return seconds


def _flow(text: str) -> str:
    if text != "broken":
        raise argparse.ArgumentTypeError(
            f"only broken can be chosen for a whole server, not {text!r}: what a handler calls picks the others"
        )
    return text
