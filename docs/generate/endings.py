"""How servers end that have open streams: by which signal, after how many seconds, and with which end of the streams.

    python -m docs.generate.endings             two minutes; writes the table in docs/how-to/end-a-server.md
    python -m docs.generate.endings --check     changes nothing; the exit status is 1 if an end has become another one

Each server is a process that serves `ending_app.py` as a user would. It has four streams, two of `EventSourceResponse`
and two of an `H3App`, when the signal comes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from .generated import table, update

PAGE: Final = Path(__file__).resolve().parents[1] / "how-to" / "end-a-server.md"
APP: Final = Path(__file__).with_name("ending_app.py")

PATIENCE: Final = 15.0
"""Seconds after which a server counts as one that does not end."""

STARTS_WITHIN: Final = 30.0

PATHS: Final = ("/events", "/events", "/live/events", "/live/events")
LAST: Final = b"retry: 2000\ndata: bye\n\n"


class Way(NamedTuple):
    """A way to start a server.

    Attributes:
        command: as a user writes it.
        listens: further arguments, with PORT for the port.
    """

    command: str
    listens: str = "--port PORT"


class How(NamedTuple):
    """A way to have it end.

    Attributes:
        name: as the table says it.
        signal: which one.
        to_group: whether all its processes get it, as those in a terminal do.
        behind_middleware: whether the app has a `BaseHTTPMiddleware` around it.
    """

    name: str
    signal: signal.Signals
    to_group: bool = False
    behind_middleware: bool = False


class Ending(NamedTuple):
    """How it went.

    Attributes:
        seconds: until the process was over; None if it was not in time.
        proper: streams that had their proper end.
        farewells: streams that had their farewell last.
        cleanups: generators that have cleaned up.
        teardowns: dependencies that were torn down.
        backgrounds: background tasks that ran.
    """

    seconds: float | None
    proper: int
    farewells: int
    cleanups: int
    teardowns: int
    backgrounds: int

    @property
    def kind(self) -> str:
        """The end of the streams, in words."""
        if self.seconds is None and not self.proper:
            return "never"
        return {0: "cut", len(PATHS): "proper"}.get(min(self.proper, self.farewells), "mixed")

    def __str__(self) -> str:
        return self.kind if self.seconds is None else f"{self.kind}, {self.seconds:.1f}\N{NO-BREAK SPACE}s"


WAYS: Final = (
    Way("uvicorn app:app"),
    Way("uvicorn app:app --http h11 --loop asyncio"),
    Way("uvicorn app:app --reload"),
    Way("uvicorn app:app --workers 2"),
    Way("fastapi dev app.py"),
    Way("fastapi run app.py"),
    Way("gunicorn app:app -k uvicorn_worker.UvicornWorker", "-b 127.0.0.1:PORT"),
    Way("gunicorn app:app -k uvicorn_worker.UvicornWorker -w 2", "-b 127.0.0.1:PORT"),
    Way("hypercorn app:app", "-b 127.0.0.1:PORT"),
    Way("hypercorn app:app --worker-class trio", "-b 127.0.0.1:PORT"),
    Way("granian --interface asgi app:app"),
    Way("granian --interface asgi app:app --workers-kill-timeout 2"),
)

HOW: Final = (
    How("SIGTERM", signal.SIGTERM),
    How("Ctrl-C", signal.SIGINT, to_group=True),
    How("SIGTERM, behind `BaseHTTPMiddleware`", signal.SIGTERM, behind_middleware=True),
)


def measure(way: Way, how: How, port: int) -> Ending:
    """Start a server, open streams, end it, and say how it went; nothing of it is left.

    Raises:
        RuntimeError: it does not start, or does not stream.
    """
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        shutil.copy(APP, Path(folder) / "app.py")
        with _server(way, how, port, folder, log.fileno()) as process:
            streams = []
            try:
                streams = [_stream(process, port, path) for path in PATHS]
                begun = time.monotonic()
                (os.killpg if how.to_group else os.kill)(process.pid, how.signal)
                received = [rest_of(stream, begun + PATIENCE) for stream in streams]
                seconds = _wait(process, begun)
            except (OSError, RuntimeError) as error:
                raise RuntimeError(f"{way.command}: {error}\n{(Path(folder) / 'log').read_text()}") from error
            finally:
                for stream in streams:
                    stream.close()
        said = (Path(folder) / "log").read_text(encoding="utf-8", errors="replace")
    return Ending(
        seconds,
        proper=sum(data.endswith(b"0\r\n\r\n") for data in received),
        farewells=sum(LAST in data for data in received),
        cleanups=said.count("<cleanup>"),
        teardowns=said.count("<teardown>"),
        backgrounds=said.count("<background>"),
    )


@contextmanager
def _server(way: Way, how: How, port: int, folder: str, log: int) -> Iterator[subprocess.Popen[bytes]]:
    here = str(APP.parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))}
    if how.behind_middleware:
        environment["BEHIND_MIDDLEWARE"] = "1"
    process = subprocess.Popen(
        [sys.executable, "-m", *f"{way.command} {way.listens.replace('PORT', str(port))}".split()],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _stream(process: subprocess.Popen[bytes], port: int, path: str) -> socket.socket:
    """Open a stream, and read its first event."""
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            stream = socket.create_connection(("127.0.0.1", port), timeout=STARTS_WITHIN)
            break
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("it does not start") from None
            time.sleep(0.02)
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    data = b""
    while b"data: 1\n\n" not in data:
        part = stream.recv(65536)
        if not part:
            raise RuntimeError(f"no stream, but {data!r}")
        data += part
    return stream


def rest_of(stream: socket.socket, deadline: float) -> bytes:
    """Read a stream to its end, or until the time is up."""
    data = b""
    with suppress(OSError):
        while not data.endswith(b"0\r\n\r\n"):
            stream.settimeout(max(0.001, deadline - time.monotonic()))
            part = stream.recv(65536)
            if not part:
                break
            data += part
    return data


def _wait(process: subprocess.Popen[bytes], begun: float) -> float | None:
    try:
        process.wait(max(0.001, begun + PATIENCE - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    return time.monotonic() - begun


# -- the table


def parts() -> Mapping[str, list[str]]:
    """The page's generated part, measured anew."""
    rows = [[f"`{way.command}`", *(str(measure(way, how, _free_port())) for how in HOW)] for way in WAYS]
    return {"endings": list(table(["started by", *(how.name for how in HOW)], rows))}


def documented() -> dict[tuple[str, str], str]:
    """What the page says: by command and name of the signal, the kind of the end."""
    text = PAGE.read_text(encoding="utf-8")
    (part,) = re.findall(r"^<!-- generated: endings -->\n(.*?)^<!-- end -->$", text, re.MULTILINE | re.DOTALL)
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.strip().splitlines()]
    return {
        (row[0].strip("`"), name): cell.partition(",")[0]
        for row in rows
        for name, cell in zip(head[1:], row[1:], strict=True)
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page's table, or check that its ends are those that are measured; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.endings", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if an end has become another one")
    if not parser.parse_args(arguments).check:
        return update(PAGE, parts, check=False, command="python -m docs.generate.endings")
    told = documented()
    others = [
        f"{way.command}, {how.name}: {ending}, not {told.get((way.command, how.name), 'told at all')}"
        for way in WAYS
        for how in HOW
        if (ending := measure(way, how, _free_port())).kind != told.get((way.command, how.name))
    ]
    print(*others, sep="\n", file=sys.stderr)
    return int(bool(others))


if __name__ == "__main__":
    sys.exit(main())
