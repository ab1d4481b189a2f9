"""Programs that run on this machine for a while: Redis, servers of ours, and nginx before them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

import h3ref

HOST: Final = "127.0.0.1"
PATIENCE: Final = 30.0
"""Seconds in which a program listens, or has ended."""


class Missing(Exception):
    """A program is not on this machine; the text says how to get it."""


class Failed(Exception):
    """A program does not do what it shall; the text has the last lines that it said."""


def find(name: str) -> str:
    """Return the path of a program whose package has its name.

    Raises:
        Missing: it is not on this machine.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")  # where Debian has nginx
    if found is None:
        raise Missing(f"{name} is not on this machine: apt install {name}")
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def is_running(pid: int) -> bool:
    """Whether a process of this machine is there, by its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Program:
    """A program that listens on a port: it can be ended, or killed, and started again there.

    Args:
        name: what it is called.
        command: how it is started.
        port: where it listens then.
        folder: its current directory, where a file has what it says.
        environment: variables of its own, beside those of this process.
        ready: what it says when it is ready; left out, it is when it listens.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        ready: str = "",
    ) -> None:
        self.name = name
        self.port = port
        self.folder = folder
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._ready = ready.encode()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, for who asks by HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """What it has said so far."""
        return self.folder / f"{self.name.replace(' ', '-')}.log"

    async def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            Failed: it has ended, or does not listen.
        """
        said_before = self.log.stat().st_size if self.log.exists() else 0
        process = self._process = self._launch()
        with anyio.move_on_after(PATIENCE):
            while process.poll() is None:
                with suppress(OSError):
                    async with await anyio.connect_tcp(HOST, self.port):
                        if self._ready in self.log.read_bytes()[said_before:]:
                            return
                await anyio.sleep(0.02)
        self.kill()
        raise Failed(f"{self.name} does not listen: {self._last_words()}")

    def _launch(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that its children are ended with it, and Ctrl-C is for us alone
            )

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None, "it runs"
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it, its children too, as a machine that fails does: without a word. Again: does nothing."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    async def end(self) -> None:
        """Have it end in order, by SIGTERM, and wait for that. Again: does nothing.

        Raises:
            Failed: it does not end in time, and is killed.
        """
        process = self._process
        if process is None:
            return
        process.terminate()
        with anyio.move_on_after(PATIENCE):
            await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        ended = process.poll() is not None
        self.kill()
        if not ended:
            raise Failed(f"{self.name} does not end: {self._last_words()}")

    def _last_words(self) -> str:
        return " ".join(self.log.read_text(errors="replace").split("\n")[-3:]).strip() or "it says nothing"


def redis_server(folder: Path, name: str = "redis") -> Program:
    """A Redis that keeps what it has in a file, as docs/how-to/several-machines.md says.

    Raises:
        Missing: there is none on this machine.
    """
    port = free_port()
    settings = {
        "bind": HOST, "port": str(port), "save": "", "appendonly": "yes", "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }  # fmt: skip
    options = [word for key, value in settings.items() for word in (f"--{key}", value)]
    return Program(name, [find("redis-server"), *options], port, folder)


def redis_url(redis: Program) -> str:
    """Where a Redis is, as an engine is told."""
    return f"redis://{HOST}:{redis.port}"


def server(name: str, app: str, folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> Program:
    """An app on the native server, `h3ref serve`.

    Args:
        name: what it is called.
        app: as MODULE:APP.
        folder: where it runs.
        options: further ones of `h3ref serve`.
        environment: variables of its own.
    """
    port = free_port()
    command = [sys.executable, "-P", "-m", "h3ref", "serve", app, "--port", str(port), *options]
    paths = [str(Path(h3ref.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
    return Program(name, command, port, folder, own, "h3ref serves on")  # which it says when all workers serve


NGINX: Final = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream h3ref {{
{servers}
    }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://h3ref;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 1h;
            proxy_connect_timeout 1s;
        }}
    }}
}}
"""


def balancer(servers: Sequence[Program], folder: Path) -> Program:
    """An nginx that passes requests on to servers in turn, and leaves out one that can't be reached.

    Raises:
        Missing: there is none on this machine.
    """
    command, port = find("nginx"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    upstream = "\n".join(f"        server {HOST}:{one.port} max_fails=1 fail_timeout=1s;" for one in servers)
    (folder / "nginx.conf").write_text(NGINX.format(host=HOST, port=port, servers=upstream))
    return Program("nginx", [command, "-p", str(folder), "-e", "error.log", "-c", "nginx.conf"], port, folder)
