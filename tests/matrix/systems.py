"""The systems of the matrix: how each is called, what its version is, and what starts it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
NODE_HOME: Final = Path("build/matrix/node")
"""Where the programs of node are, with what they need; under the root, where all commands run."""
H3Z_HOME: Final = Path("build/matrix/h3z")
"""Where the contract's app on H3Z is, built from checkouts."""
H3Z_COMMIT: Final = "842213e"
"""Which H3Z is judged."""


class Absent(Exception):
    """A system can't be had here, for this reason."""


class Client(NamedTuple):
    """A client.

    Attributes:
        name: as people call it; its file is called so, too.
        language: "python", or what stands before the program's file.
        program: its file in `clients`, or `node`.
        package: the distribution, package or program that its version is of.
        ours: whether `make test` takes its column, too.
    """

    name: str
    language: str
    program: str
    package: str
    ours: bool = False

    @property
    def file(self) -> str:
        """The name of its file in spec/results, without what it ends with."""
        return f"client-{self.name.lower().replace(' ', '-').replace('@', '').replace('/', '-')}"

    @property
    def needs_node(self) -> bool:
        """Whether node runs it."""
        return self.language.startswith("node")

    @property
    def needs_checkouts(self) -> bool:
        """Whether it is built from checkouts: none is."""
        return False

    def command(self, python: str) -> str:
        """What starts it, from the root."""
        if self.language == "python":
            return f"{python} tests/matrix/clients/{self.program}"
        return f"{self.language} {NODE_HOME}/{self.program}"

    def version(self) -> str:
        """Its version.

        Raises:
            Absent: it is not there.
        """
        if self.package in ("node", "chromium"):
            return version_of_program(self.package)
        return version_of_package(self.package) if self.language != "python" else version_of_distribution(self.package)


CLIENTS: Final = (
    Client("h3ref EventSource", "python", "h3ref_async.py", "h3ref", ours=True),
    Client("h3ref BlockingEventSource", "python", "h3ref_blocking.py", "h3ref", ours=True),
    Client("httpx-sse", "python", "httpx_sse_client.py", "httpx-sse"),
    Client("httpx2", "python", "httpx2_client.py", "httpx2"),
    Client("sseclient-py", "python", "sseclient_py_client.py", "sseclient-py"),
    Client("aiohttp-sse-client2", "python", "aiohttp_sse_client2_client.py", "aiohttp-sse-client2"),
    Client("launchdarkly-eventsource", "python", "launchdarkly_client.py", "launchdarkly-eventsource"),
    Client(
        "launchdarkly-eventsource always_continue",
        "python",
        "launchdarkly_continue_client.py",
        "launchdarkly-eventsource",
    ),
    Client("node EventSource", "node --experimental-eventsource --no-warnings", "node_eventsource.mjs", "node"),
    Client("eventsource", "node", "eventsource_client.mjs", "eventsource"),
    Client("eventsource-parser", "node", "eventsource_parser_client.mjs", "eventsource-parser"),
    Client("fetch-event-source", "node", "fetch_event_source_client.mjs", "@microsoft/fetch-event-source"),
    Client(
        "fetch-event-source handlers", "node", "fetch_event_source_handlers_client.mjs", "@microsoft/fetch-event-source"
    ),
    Client("Chromium", "python", "chromium_client.py", "chromium"),
)


class Server(NamedTuple):
    """A server with the contract's routes.

    Attributes:
        name: as people call it.
        start: what starts it from the root; {python} and {port} stand for an interpreter and a port.
        package: what its version is of, as a client's; with "node:" before a package of node, and "commit:" before a
            commit that is its version.
        ours: whether `make test` takes its column, too.
    """

    name: str
    start: str
    package: str
    ours: bool = False

    @property
    def file(self) -> str:
        """The name of its file in spec/results, without what it ends with."""
        return f"server-{self.name.lower().replace(' ', '-')}"

    @property
    def needs_node(self) -> bool:
        """Whether node runs it."""
        return self.start.startswith("node")

    @property
    def needs_checkouts(self) -> bool:
        """Whether it is built from checkouts of H3Z and libxev, which must be given."""
        return self.start.startswith(str(H3Z_HOME))

    def command(self, python: str, port: int) -> list[str]:
        """What starts it."""
        return shlex.split(self.start.format(python=python, port=port))

    def version(self) -> str:
        """Its version.

        Raises:
            Absent: it is not there.
        """
        if self.package == "node":
            return version_of_program("node")
        kind, _, name = self.package.rpartition(":")
        if kind == "commit":
            return name
        return version_of_package(name) if kind else version_of_distribution(name)


UVICORN: Final = "{python} -m uvicorn --app-dir tests/matrix/servers --port {port}"

SERVERS: Final = (
    Server("h3ref on asyncio", "{python} -m h3ref.judge.app --port {port}", "h3ref", ours=True),
    Server("h3ref on trio", "{python} -m h3ref.judge.app --backend trio --port {port}", "h3ref", ours=True),
    Server(
        "h3ref under uvicorn", "{python} -m uvicorn --factory h3ref.judge.app:asgi --port {port}", "h3ref", ours=True
    ),
    Server(
        "h3ref under hypercorn",
        "{python} -m hypercorn h3ref.judge.app:asgi() --bind 127.0.0.1:{port}",
        "h3ref",
        ours=True,
    ),
    Server(
        "h3ref under granian",
        "{python} -m granian --interface asgi --factory h3ref.judge.app:asgi --port {port}",
        "h3ref",
        ours=True,
    ),
    Server(
        "Starlette by hand",
        f"{UVICORN} starlette_app:app",
        "starlette",
    ),
    Server("FastAPI", f"{UVICORN} fastapi_app:app", "fastapi"),
    Server(
        "sse-starlette",
        f"{UVICORN} sse_starlette_app:app",
        "sse-starlette",
    ),
    Server("Litestar", f"{UVICORN} litestar_app:app", "litestar"),
    Server("Django", f"{UVICORN} django_app:app", "django"),
    Server("Quart", "{python} tests/matrix/servers/quart_app.py {port}", "quart"),
    Server("aiohttp-sse", "{python} tests/matrix/servers/aiohttp_sse_app.py {port}", "aiohttp-sse"),
    Server("Tornado", "{python} tests/matrix/servers/tornado_app.py {port}", "tornado"),
    Server("node http", f"node {NODE_HOME}/http_server.mjs {{port}}", "node"),
    Server("express", f"node {NODE_HOME}/express_server.mjs {{port}}", "node:express"),
    Server("better-sse", f"node {NODE_HOME}/better_sse_server.mjs {{port}}", "node:better-sse"),
    Server("h3", f"node {NODE_HOME}/h3_server.mjs {{port}}", "node:h3"),
    Server("H3Z", f"{H3Z_HOME}/contract {{port}}", f"commit:{H3Z_COMMIT}"),
)


NOT_HERE: Final = {
    "Mercure": "a hub that relays updates, so it can't have the contract's routes. Debian does not package it; npm's "
    "`mercure` 0.1.0 is a different hub, in node, and pip's `mercure` 0.0.2 is something else.",
}
"""Systems that have no column, and why."""


def version_of_distribution(name: str) -> str:
    """The version of an installed distribution of Python."""
    try:
        return version(name)
    except PackageNotFoundError:
        raise Absent(f"{name} is not installed") from None


def version_of_package(name: str) -> str:
    """The version of an installed package of node."""
    file = ROOT / NODE_HOME / "node_modules" / name / "package.json"
    if not file.is_file():
        raise Absent(f"{name} is not installed")
    return str(json.loads(file.read_text(encoding="utf-8"))["version"])


def version_of_program(name: str) -> str:
    """What a program says to --version, its number alone."""
    if shutil.which(name) is None:
        raise Absent(f"there is no program {name}")
    said = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
    return next(word.removeprefix("v") for word in said.split() if word.removeprefix("v")[:1].isdigit())
