"""Takes a column of the matrix: has a client or a server judged, by the command that a reader would use."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, STDOUT

from tests.matrix.systems import ROOT, Absent, Client, Server
from tests.processes import kill_group
from tests.waits import blocking_until

SECONDS = 90
"""For a server, in all."""


def judged(client: Client, python: str, *, limit: float | None = None) -> str:
    """Judge a client; the results as JSON.

    Args:
        client: which one.
        python: the interpreter that runs it, if one does.
        limit: the most seconds to wait for anything that it does; None for the judge's own.

    Raises:
        Absent: it can't be judged here.
    """
    limited = [] if limit is None else ["--timeout", str(limit)]
    return _check(f"{client.name} {client.version()}", "--client", client.command(python), *limited)


def judged_server(server: Server, python: str, port: int) -> str:
    """Start a server, judge it, and end it; the results as JSON.

    Raises:
        Absent: it can't be judged here.
    """
    name = f"{server.name} {server.version()}"
    with running(server, python, port):
        return _check(name, "--contract", f"http://127.0.0.1:{port}", "--timeout", str(SECONDS))


@contextmanager
def running(server: Server, python: str, port: int) -> Iterator[None]:
    """Have a server run.

    Raises:
        Absent: it does not start.
    """
    with tempfile.TemporaryFile() as log:  # a pipe that nobody reads would fill
        process = subprocess.Popen(
            server.command(python, port), cwd=ROOT, stdin=DEVNULL, stdout=log, stderr=STDOUT, start_new_session=True
        )
        try:
            blocking_until(lambda: answers(port) or process.poll() is not None)
            if process.poll() is not None:
                log.seek(0)
                raise Absent(f"it does not start: {log.read().decode(errors='replace').strip()[-300:]}")
            yield
        finally:
            kill_group(process)


def _check(system: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "h3ref", "check", *arguments, "--format", "json", "--system", system],
        cwd=ROOT,
        stdin=DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise Absent(f"it can't be judged: {done.stderr.strip()}")
    return done.stdout.replace(f"{ROOT}/", "")  # a client's last words may name files; no machine's folders are told


def answers(port: int) -> bool:
    """Whether a program answers on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            return True
    except OSError:
        return False
