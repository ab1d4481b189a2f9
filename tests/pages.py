"""Pages as scripts: the blocks of a Markdown file, taken in order as a reader would take them.

A block is one of these, and any other is an error:

- `python`, whose first line is a comment with a file's name: that file, as the reader saves it.
- `python`: run; its functions named `test_...` are run after it.
- `text`: a part of what the Python block above it printed as a script, where `...` stands for anything.
- `diff`: applied. Its `@@` bear no numbers: what stays and what goes says where it is, so it has to stand there once.
- `console`: each `$ ` line is run, and the lines below it are its output, where `...` stands for anything but failures.
  It succeeds; one that ends in `|| true` fails. A server of ours, or a uvicorn that runs a file of the page's, is kept
  until the next one or to the page's end, and port 3000 is one that is free; so is a redis-server, with its port 6379.
  What would change the machine is not run
  but checked: that make has the target, that the environment is make's, that what pip shall install is what we need,
  that an ASGI server has the options.
- `{name}`: a directive, which the site's builder runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import io
import logging
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import anyio
from markdown_it import MarkdownIt
from packaging.requirements import Requirement

from tests.conftest import require_program
from tests.logs import logs_kept
from tests.ports import free_port
from tests.waits import blocking_until

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "spec").glob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ]
)

SECONDS = 120
"""How long a command of a page may take."""

_FILE = re.compile(r"# (?P<name>[\w/]+\.(py|toml|html))\n")
_SERVER = re.compile(r"\bserve \S+:\S+")
_A_CLONE = re.compile(r"^(?:\.|/path/to/h3ref)(?=\[|$)")
_FAILS = re.compile(r"\s*\|\| true$")
_FAILURE = re.compile(r"\b(?:failed|errors?|Traceback)\b")


class Block(NamedTuple):
    """A block of code in a page; the line is that of its fence."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return a page's blocks of code, in order, those within lists and quotes too."""
    found = []
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            found.append(Block(page, line, token.info.strip(), token.content))
    return found


def module_of(page: Path, name: str) -> ModuleType:
    """Return the file of a page as a module of its own."""
    (block,) = (block for block in blocks_of(page) if block.text.startswith(f"# {name}\n"))
    module = ModuleType(name.removesuffix(".py"))
    exec(compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True), module.__dict__)
    return module


class Reader:
    """Who follows a page: saves its files, runs its code and its commands in a folder.

    Args:
        folder: the current directory.
        cleanup: ends what still runs.
    """

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        self.folder = folder
        self.output = ""
        self._cleanup = cleanup
        self._server: subprocess.Popen[str] | None = None
        self._ports: list[int] = []
        self._redis: list[int] = []  # its port, once there is one
        paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "PYTEST_ADDOPTS": "-p no:asyncio",  # a plugin that a reader has not
        }

    def take(self, block: Block) -> None:
        """Do what a block asks for.

        Raises:
            AssertionError: it does not do what the page says.
            ValueError: nobody would know what to do with it.
        """
        if block.language == "python":
            self._take_python(block)
        elif block.language == "text":
            assert contains(self.output, block.text), f"{block.place}: not printed, but:\n{self.output}"
        elif block.language == "diff":
            for name, before, after in changes_of(block):
                self._change(block, name, before, after)
        elif block.language == "console":
            for command, output in commands_of(block):
                self._take_command(block, command, output)
        elif not block.language.startswith("{"):
            raise ValueError(f"{block.place}: a block of {block.language or 'no language'!r} is run by nobody")

    def _take_python(self, block: Block) -> None:
        if named := _FILE.match(block.text):
            (self.folder / named["name"]).write_text(block.text, encoding="utf-8")
            return
        names: dict[str, Any] = {"__name__": "page"}
        # Lines are counted from the page's top, so that a traceback leads to them.
        code = compile("\n" * block.line + block.text, str(block.page), "exec", dont_inherit=True)
        with _captured() as written:
            exec(code, names)
            for name, value in names.items():
                if name.startswith("test_"):
                    _run_test(value)
        self.output = written.getvalue()

    def _change(self, block: Block, name: str, before: str, after: str) -> None:
        path = self.folder / name
        assert path.is_file(), f"{block.place}: there is no {name}"
        parts = re.split(f"^{re.escape(before)}", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        count = len(parts) - 1
        assert count == 1, f"{block.place}: in {name} these lines stand {count} times, not once:\n{before}"
        path.write_text(after.join(parts), encoding="utf-8")

    def _take_command(self, block: Block, command: str, output: str) -> None:
        program, *arguments = shlex.split(command)
        if program == "redis-server":
            self._start_redis(command)
            return
        if program in CHECKED:
            CHECKED[program](command, arguments)
            if not self._serves_what_was_saved(program, arguments):
                return
        if program in CHECKED or _SERVER.search(command):
            self._serve(command, output)
            return
        done = self._run(self._with_redis(self._with_port(_FAILS.sub("", command))))
        shown = self._without_port(done.stdout)
        fails = bool(_FAILS.search(command))
        assert bool(done.returncode) == fails, f"{block.place}: {command}\nends with {done.returncode}:\n{shown}"
        hidden = {*_FAILURE.findall(shown)} - {*_FAILURE.findall(output)}
        assert fails or not hidden, f"{block.place}: {command}\nsays {hidden}, which the page leaves out:\n{shown}"
        assert matches(output, shown), f"{block.place}: {command}\nsays:\n{shown}\nand not:\n{output}"

    def _serves_what_was_saved(self, program: str, arguments: list[str]) -> bool:
        modules = [argument.partition(":")[0] for argument in arguments if ":" in argument]
        return program == "uvicorn" and any((self.folder / f"{module}.py").is_file() for module in modules)

    def _serve(self, command: str, output: str) -> None:
        self._ports.append(free_port())
        port = f"--port {self._ports[-1]}"
        command = re.sub(r"--port \d+", port, self._with_redis(command))
        command = command if "--port" in command else f"{command} {port}"
        if self._server is not None:
            self._server.terminate()
        self._server = process = self._cleanup.enter_context(
            subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self._cleanup.callback(process.terminate)
        assert process.stderr is not None
        wanted = [f":{self._ports[-1]}"]
        if command.startswith("uvicorn"):
            wanted.append("startup complete")  # which comes after the port is told, or before it
        said = ""
        while not all(text in said for text in wanted):
            line = process.stderr.readline()
            assert line, f"{command}: {said}"
            said += line
        if output:
            assert matches(output, self._without_port(said)), f"{command}: {said}"

    def _start_redis(self, command: str) -> None:
        path = require_program("redis-server", "redis-server")
        assert not self._redis, f"{command}: there is one already"
        self._redis.append(free_port())
        folder = self.folder / "redis"
        folder.mkdir()
        process = self._cleanup.enter_context(
            subprocess.Popen(
                [path, *shlex.split(command)[1:], "--port", str(self._redis[0]), "--bind", "127.0.0.1"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        )
        self._cleanup.callback(process.kill)
        blocking_until(lambda: _listens(self._redis[0]))

    def _with_redis(self, text: str) -> str:
        return text.replace(":6379", f":{self._redis[0]}") if self._redis else text

    def _run(self, command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self._environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )

    def _with_port(self, text: str) -> str:
        return text.replace(":3000", f":{self._ports[-1]}") if self._ports else text

    def _without_port(self, text: str) -> str:
        return text.replace(f":{self._ports[-1]}", ":3000") if self._ports else text


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _check_make(command: str, targets: list[str]) -> None:
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def _check_activation(command: str, arguments: list[str]) -> None:
    made = re.search(r"^VENV := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert made
    assert arguments == [f"{made[1]}/bin/activate"], f"{command}: make makes {made[1]}"


def _check_pip(command: str, arguments: list[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = known["optional-dependencies"]
    ours = {Requirement(text).name for texts in [known["dependencies"], *extras.values()] for text in texts}
    assert arguments[:1] == ["install"], command
    for text in arguments[1:]:
        wanted = Requirement(_A_CLONE.sub(known["name"], text))
        assert wanted.name in ours | {known["name"]}, f"{command}: nothing of ours needs {wanted.name}"
        assert wanted.name != known["name"] or wanted.extras <= extras.keys(), f"{command}: no such extra"


def _check_options(command: str, arguments: list[str]) -> None:
    program = str(Path(sys.executable).with_name(shlex.split(command)[0]))
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=SECONDS)
    for argument in arguments:
        if argument.startswith("-"):
            assert re.search(rf"{argument}\b", done.stdout), f"{command}: it has no {argument}"


CHECKED: dict[str, Callable[[str, list[str]], None]] = {
    ".": _check_activation,
    "make": _check_make,
    "pip": _check_pip,
    **dict.fromkeys(("uvicorn", "hypercorn", "granian"), _check_options),
}
"""Programs that are not run, and what is looked at instead."""


def _run_test(test: Callable[[], Any]) -> None:
    """Call a test function of a page; an async one on the event loop it asks for."""
    if not asyncio.iscoroutinefunction(test):
        test()
        return
    marks = {mark.args[0]: mark.args[1] for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"}
    for backend, options in marks.get("anyio_backend", [("asyncio", {})]):
        anyio.run(test, backend=backend, backend_options=options)


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """A reader whose servers are ended on leaving."""
    with ExitStack() as cleanup:
        yield Reader(folder, cleanup)


def changes_of(block: Block) -> Iterator[tuple[str, str, str]]:
    """Yield each change of a diff: the file's name, the lines that are there, and those that take their place."""
    start, *files = re.split(r"^--- a/", block.text, flags=re.MULTILINE)
    assert (start, bool(files)) == ("", True), f"{block.place}: a diff begins with the file's name"
    for file in files:
        name, _, rest = file.partition("\n")
        head, *changes = rest.split("@@\n")
        assert (head, bool(changes)) == (f"+++ b/{name}\n", True), f"{block.place}: a change begins with @@ alone"
        for change in changes:
            lines = [(line[0], line[1:] or line) for line in change.splitlines(keepends=True)]  # an empty one stays
            before, after = ("".join(text for sign, text in lines if sign != other) for other in "+-")
            assert before.strip(), f"{block.place}: it does not say where:\n{change}"
            assert before != after, f"{block.place}: it does not say what:\n{change}"
            yield name, before, after


@cache
def functions_in(path: Path) -> set[str]:
    """The names of a module's functions, for a page that names some."""
    return set(re.findall(r"^(?:async )?def (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, without its prompt and comment, and the output that stands below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = re.sub(r"\\\n\s*", "", part).partition("\n")
        yield re.split(r"\s+# ", command)[0].strip(), output


def matches(wanted: str, found: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return not wanted.strip() or doctest.OutputChecker().check_output(wanted.strip(), found.strip(), flags)


def contains(whole: str, part: str) -> bool:
    """Whether a part stands in what was put out, where `...` stands for anything, and blanks for blanks."""
    return matches(f"...{part.strip()}...", f" {whole.strip()} ")


@contextmanager
def _captured() -> Iterator[io.StringIO]:
    """What a script would print: the handlers of who runs it here, such as pytest's, are set aside."""
    written = io.StringIO()
    with logs_kept(), contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        root = logging.getLogger()
        root.handlers[:] = []
        root.setLevel(logging.WARNING)
        yield written
