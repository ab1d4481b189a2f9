"""`ServerProcess`: the app under soak in a process of its own, which can be squeezed and told to end."""

from __future__ import annotations

import json
import logging
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from h3ref import serve

from .app import build

HOST = "127.0.0.1"
GRACE = 3.0
PATIENCE = 60.0
"""Seconds within which a server answers, settles or ends; past it the soak fails."""


class SoakFailure(Exception):
    """What was promised did not hold."""


class ServerProcess:
    """A server process.

    Attributes:
        port: where it listens.
    """

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.port = port

    async def get(self, target: str, method: str = "GET") -> bytes:
        """Send one request on a connection of its own, and return the body of its 200.

        Raises:
            SoakFailure: there was no such answer in time.
        """
        answer = b""
        try:
            with anyio.fail_after(PATIENCE):
                async with await anyio.connect_tcp(HOST, self.port) as stream:
                    await stream.send(request(target, method))
                    async for part in stream:
                        answer += part
        except (OSError, TimeoutError, anyio.BrokenResourceError) as error:
            raise SoakFailure(f"{method} {target} was not answered: {error!r} after {answer!r}") from error
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SoakFailure(f"{method} {target} was answered {head.splitlines()[:1]}")
        return body

    async def figures(self) -> dict[str, Any]:
        """What the server tells of itself."""
        found: dict[str, Any] = json.loads(await self.get("/figures"))
        return found

    async def settled(self, streams: int) -> dict[str, Any]:
        """Wait until nothing but these streams is open, all other callbacks were told, and what they save is saved.

        Raises:
            SoakFailure: it never came to that.
        """
        found: dict[str, Any] = {}
        with anyio.move_on_after(PATIENCE):
            while True:
                found = await self.figures()
                opened = found["exchanges"] == streams + 1 and found["streams"] == found["untold"] == streams
                if opened and not found["told_twice"] and not found["unsaved"]:
                    return found
                await anyio.sleep(0.05)  # another process's state: it can only be asked for
        raise SoakFailure(f"with {streams} streams open the server still has {found}")

    def limit_descriptors(self, number: int) -> int:
        """Let the server have no more descriptors than this; return how many it was allowed."""
        soft, hard = resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (number, hard))
        return soft

    def send_signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    async def end(self) -> None:
        """Tell it to end, and see that it does so in order.

        Raises:
            SoakFailure: it took too long, or ended with another status than 0.
        """
        self.send_signal(signal.SIGTERM)
        with anyio.move_on_after(GRACE + PATIENCE):
            status = await self._process.wait()
            if status != 0:
                raise SoakFailure(f"the server ended with status {status} after SIGTERM")
            return
        raise SoakFailure("the server did not end after SIGTERM")


@asynccontextmanager
async def server_process(backend: str, port: int = 0) -> AsyncIterator[ServerProcess]:
    """Run a server process while the body runs; whatever happens, it is gone afterwards."""
    command = [sys.executable, "-m", "tests.soak.server", backend, str(port)]
    async with await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            with anyio.fail_after(PATIENCE):
                said = await TextReceiveStream(process.stderr).receive()
            found = re.search(r"serves on \S+:(\d+)", said)
            if not found:
                raise SoakFailure(f"the server did not start: {said}")
            yield ServerProcess(process, int(found[1]))
        finally:
            if process.returncode is None:
                process.kill()


def request(target: str, method: str = "GET", **headers: str) -> bytes:
    """The bytes of a request, after whose answer the connection is closed."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{fields}\r\n".encode()


def main(backend: str, port: str) -> None:
    """Serve; failures of handlers are logged nowhere, since they are made on purpose."""
    logging.getLogger("h3ref").setLevel(logging.CRITICAL + 1)
    serve(build(), HOST, int(port), backend=backend, grace=GRACE)


if __name__ == "__main__":
    main(*sys.argv[1:])
