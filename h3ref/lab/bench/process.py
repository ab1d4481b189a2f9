"""`ServerProcess`: a measured server: started, asked for its clocks, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import h3ref

START_PATIENCE: Final = 30.0
STOP_PATIENCE: Final = 3.0


class ServerFailed(Exception):
    """A server's process did not start, or has ended by itself; the text has the last line that it said."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What a server has used since its start; None is what the system doesn't tell.

    Attributes:
        cpu: seconds.
        memory: bytes, now.
        instructions: in user mode.
    """

    cpu: float
    memory: int | None
    instructions: int | None = None


class ServerProcess:
    """One server in a process of its own, which ends with the context, or with this process however that ends.

    Args:
        name: whose server it is, for errors.
        arguments: of `python -m h3ref.lab.bench.servers`.
        home: the folder whose h3ref is to serve; this one's if not told.

    Raises:
        ServerFailed: on entering: it did not start.
    """

    def __init__(self, name: str, arguments: Sequence[str], home: Path | None = None) -> None:
        self.name = name
        self.port = 0
        self.pid = 0
        self._arguments = list(arguments)
        self._home = home or Path(h3ref.__file__).parents[1]
        self._said: IO[bytes] | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, anew if it has been started before.

        Raises:
            ServerFailed: it did not start.
        """
        self.stop()
        # A file, not a pipe: nobody reads it meanwhile, and a full pipe would stop the server.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed on leaving
        paths = [str(self._home), *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "h3ref.lab.bench.servers", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is for the benchmark alone, which then ends its servers
            )
            patience = threading.Timer(START_PATIENCE, self._process.kill)
            patience.start()
            try:
                ready = self._answer("did not start")
            finally:
                patience.cancel()
            self.port, self.pid = int(ready["port"]), int(ready["pid"])
        except BaseException:
            self.stop()
            raise

    def clocks(self) -> Clocks:
        """What it has used up to now.

        Raises:
            ServerFailed: it has ended.
        """
        answer = self._asked("clocks")
        return Clocks(float(answer["cpu"]), answer["memory"], answer["instructions"])

    def settle(self) -> None:
        """Have it collect its garbage now. A collection takes half a second once thousands of streams are open: whether
        it came while they are fed, which takes as long, would be chance.

        Raises:
            ServerFailed: it has ended.
        """
        self._asked("settle")

    def samples(self) -> list[tuple[list[str], int]]:
        """Where its CPU time went since this was called last; see `servers.leash`. The first call begins it.

        Raises:
            ServerFailed: it has ended.
        """
        return [(list(stack), count) for stack, count in self._asked("samples")["stacks"]]

    def _asked(self, question: str) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise ServerFailed("its server has not been started")
        try:
            self._process.stdin.write(f"{question}\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure("has ended") from None
        return self._answer("has ended")

    def _answer(self, what: str) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure(what)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self, what: str) -> ServerFailed:
        said = ""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_PATIENCE)
        if self._said is not None and not self._said.closed:
            self._said.seek(0)
            lines = [line for line in self._said.read().decode("utf-8", "replace").splitlines() if line.strip()]
            said = f": {lines[-1].strip()}" if lines else ""
        return ServerFailed(f"its server {what}{said}")

    def stop(self) -> None:
        """End it, if it runs."""
        process, self._process = self._process, None
        try:
            if process is not None:
                for stream in (process.stdin, process.stdout):  # the end of its stdin ends it
                    with contextlib.suppress(OSError):
                        if stream is not None:
                            stream.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_PATIENCE)
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            if self._said is not None:
                self._said.close()
