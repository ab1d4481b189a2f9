"""`python -m h3ref`, also installed as `h3ref`: one function for each command.

A new command is one function that adds its parser in `COMMANDS`, and one that runs it. Both import what they need
when they are called, so that `--help` needs nothing but the core. What goes wrong is one line on stderr.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__
from ..server import DEFAULT_FLUSH_GAP, DEFAULT_GRACE, DEFAULT_PORT
from .bench import add_bench
from .diagram import add_diagram
from .tail import add_tail

if TYPE_CHECKING:
    from ..app import H3App
    from ..trace import Listener, Record

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

EXIT_STATUSES = """\
exit status:
  0    done, also when Ctrl-C or SIGTERM ended a server
  1    failed while running, such as a port that is taken, or a recording that breaks a rule
  2    wrong usage, a MODULE:APP that was not found or is no app, or a recording that is empty or can't be read
  130  interrupted before it was done
"""

LEVELS = ("debug", "info", "warning", "error")


class CommandError(Exception):
    """What ends a command: one line for the user, and the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(" ".join(text.split()))
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status (see `EXIT_STATUSES`)."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
        write_out("")  # what is buffered goes out here, where a failure can still be told
    except CommandError as error:
        print(f"h3ref: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:  # whoever read the output has enough, as `| head` does
        _discard_output()
    except KeyboardInterrupt:
        print("h3ref: interrupted", file=sys.stderr)
        return INTERRUPTED
    return DONE


def write_out(text: str) -> None:
    """Write to stdout, and have it leave at once.

    Raises:
        BrokenPipeError: nobody reads it any more.
        CommandError: it can't be written, as on a full disk.
    """
    if sys.stdout is None:  # closed before the program began
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise CommandError(f"can't write the output: {error.strerror or error}", FAILED) from error


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not try again as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="h3ref",
        description="Server-Sent Events with an explicit lifecycle.",
        epilog=f"{EXIT_STATUSES}\nh3ref COMMAND --help says more about a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"h3ref {__version__}", help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


# -- serve


def add_serve(commands: Any) -> None:
    """Add `serve MODULE:APP`."""
    parser = _add(
        commands,
        "serve",
        run_serve,
        "serve an app",
        "Serve an H3App until Ctrl-C or SIGTERM. The current directory is importable.",
        "example:\n  h3ref serve h3ref.examples.counter:app --port 8080",
    )
    parser.add_argument("app", metavar="MODULE:APP", help="a module, and the name that the H3App has in it")
    parser.add_argument("--host", default="127.0.0.1", help="the name or address to listen on (%(default)s)")
    _add_port(parser, "the port to listen on; 0 for a free one (%(default)s)")
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


def run_serve(options: argparse.Namespace) -> None:
    """Serve an app until a signal comes."""
    from .. import flows
    from ..server import serve

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
        except OSError as error:
            raise CommandError(error.strerror or str(error), FAILED) from error


def load_app(name: str) -> H3App:
    """Import the app that "module:app" names.

    Raises:
        CommandError: it is not there, can't be imported, or is no app; the text says which.
    """
    from ..app import H3App

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
        raise CommandError(f"importing {name} failed: {error} ({_place(error)})", USAGE) from error
    except ImportError as error:
        raise CommandError(f"importing {name} failed: {error} ({_place(error)})", USAGE) from error
    except (Exception, SystemExit) as error:
        said = error.msg if isinstance(error, SyntaxError) else error
        text = f"{type(error).__name__}: {said}".removesuffix(": ")
        raise CommandError(f"importing {name} raised {text} ({_place(error)})", USAGE) from error


def _place(error: BaseException) -> str:
    """The file and line where an import went wrong: the innermost one below the current directory, if there is one."""
    places = [
        (Path(frame.filename), frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
        if not frame.filename.startswith("<frozen ") and frame.filename != importlib.__file__
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno))
    here = [(path.relative_to(Path.cwd()), line) for path, line in places if path.is_relative_to(Path.cwd())]
    path, line = (here or places or [(Path("no file"), 0)])[-1]
    return f"{path}:{line}"


def log_to_stderr(level: str) -> None:
    """Log to stderr, a line "level: message" each."""
    from ..lab.log_lines import LogLines

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


# -- demo


def add_demo(commands: Any) -> None:
    """Add `demo`."""
    parser = _add(
        commands,
        "demo",
        run_demo,
        "see the bug and its fixes",
        "Run the broken flow and the three fixed ones on real sockets, and show what the client received, what was "
        "logged, and the steps as they were recorded. Then serve a page with the same in a browser, until Ctrl-C.",
        "No other host is contacted. Colours: on a terminal, unless NO_COLOR is set.",
    )
    parser.add_argument("--once", action="store_true", help="end after the printed part, without the page")
    parser.add_argument("--all", action="store_true", help="print the bytes and the steps of all four flows")
    _add_port(parser, "the port of the page; when it is taken, the next free one (%(default)s)")


def run_demo(options: argparse.Namespace) -> None:
    """Run the demo."""
    from ..lab.demo import demo

    try:
        demo(port=options.port, once=options.once, everything=options.all)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(error.strerror or str(error), FAILED) from error


# -- trace


def add_trace(commands: Any) -> None:
    """Add `trace FILE`."""
    parser = _add(
        commands,
        "trace",
        run_trace,
        "check a recording",
        "Check a recording, as `h3ref serve --trace FILE` or another implementation writes it, against the "
        "specification, and name the first record that no legal run contains.",
        "An exchange that is still open where the recording ends breaks no rule, unless --whole says that it is whole.",
    )
    parser.add_argument("file", metavar="FILE", help="the recording, a line of JSON for each step; - for stdin")
    parser.add_argument("--spec", metavar="FILE", help="the lifecycle.json to check against (the package's own)")
    parser.add_argument("--whole", action="store_true", help="the recording is whole: what is still open breaks a rule")


def run_trace(options: argparse.Namespace) -> None:
    """Check a recording."""
    from ..lab.check import check, load_rules, summary
    from ..lab.recorder import Recording

    named = "stdin" if options.file == "-" else options.file
    try:
        rules = load_rules(options.spec)
        data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        raise CommandError(f"can't read {error.filename or named}: {error.strerror}", USAGE) from error
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    try:
        recording = Recording.from_ndjson(data.decode("utf-8-sig"))
    except ValueError as error:
        raise CommandError(f"{named}: {error}", USAGE) from error
    if not recording:  # it breaks no rule, but who asks about it has named the wrong file, or recorded nothing
        raise CommandError(f"{named}: no step was recorded", USAGE)
    if violation := check(recording, whole=options.whole, rules=rules):
        raise CommandError(f"{named}: {violation}", FAILED)
    write_out(f"{named}: {summary(recording, rules=rules)}\n")


COMMANDS: tuple[Callable[[Any], None], ...] = (add_bench, add_demo, add_diagram, add_serve, add_tail, add_trace)

# -- arguments


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes a command's options before, between and after its arguments."""

    _is_intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._subparsers is not None or self._is_intermixing:
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True  # for what follows calls this again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"h3ref: {message} ({self.prog} --help says more)\n")


def _add(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], summary: str, description: str, more: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"{more}\n\n{EXIT_STATUSES}",
        formatter_class=_HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fills the description, and keeps the epilog as it is written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _add_port(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, metavar="N", help=text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


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
