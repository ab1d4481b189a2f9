"""Servers in processes of their own: started as users do, ready when they say so, and ended whatever a test does."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.pages import ROOT
from tests.processes import IN_FOREGROUND, marked, still_running
from tests.waits import blocking_until

PATIENCE = 40.0
"""Real seconds in which a process has to do what it was asked to."""


class Served:
    """A server's parent process, whose stderr is read line by line.

    Attributes:
        process: the parent.
        said: the lines that were read from it.
    """

    def __init__(self, process: subprocess.Popen[str], mark: str) -> None:
        self.process = process
        self.mark = mark
        self.said: list[str] = []
        self._sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The port that it has announced."""
        found = re.search(r"http://\S+:(\d+)", "".join(self.said))
        assert found, self.said
        return int(found[1])

    def until_said(self, text: str, times: int = 1) -> str:
        """Read until it has said something, so many times; return the last line of these."""
        assert self.process.stderr is not None
        while sum(text in line for line in self.said) < times:
            line = self.process.stderr.readline()
            assert line, f"it has ended without {text!r}: {''.join(self.said)}"
            self.said.append(line)
        return [line for line in self.said if text in line][times - 1]

    def workers(self) -> list[int]:
        """The processes that it has started and that are there."""
        return sorted(
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )

    def connect(self) -> socket.socket:
        """Connect to it; whoever leaves the connection open has it closed at the server's end."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        self._sockets.append(sock)
        return sock

    def close(self) -> None:
        """Close all connections."""
        for sock in self._sockets:
            sock.close()

    def ask(self, path: str) -> socket.socket:
        """Connect, and ask for a path."""
        sock = self.connect()
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        return sock

    def get(self, path: str) -> str:
        """The body of a plain answer."""
        with self.ask(path) as sock:
            whole = read_all(sock)
        assert whole.startswith(b"HTTP/1.1 200"), whole
        return whole.partition(b"\r\n\r\n")[2].decode()

    def end(self) -> int:
        """Wait for its end, and that of all that it has started; return its status."""
        status = self.process.wait(PATIENCE)
        assert self.process.stderr is not None
        self.said += self.process.stderr.readlines()
        assert still_running(self.mark, PATIENCE) == []
        return status

    def ended(self, pid: int) -> None:
        """Wait until a process is over, and was waited for by its parent."""
        blocking_until(lambda: not Path(f"/proc/{pid}").exists())


@contextmanager
def started(
    command: Sequence[str], folder: Path, announcement: str = "h3ref serves on", pass_fds: Sequence[int] = ()
) -> Iterator[Served]:
    """Start a server in a folder, and wait for its announcement; "" waits for nothing."""
    with marked() as mark:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=pass_fds,
            preexec_fn=IN_FOREGROUND,
            start_new_session=True,
        )
        served = Served(process, mark)
        try:
            if announcement:
                served.until_said(announcement)
            yield served
        finally:
            served.close()
            process.kill()
            process.communicate()
            left = still_running(mark, PATIENCE)
            assert left == [], "workers outlive their parent"


def read_all(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def read_until(sock: socket.socket, text: bytes) -> bytes:
    """All that comes until a text has, which it has to."""
    data = b""
    while text not in data:
        part = sock.recv(65536)
        assert part, data
        data += part
    return data
