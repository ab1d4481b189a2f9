"""`python -m tests.dist`: build both archives, look into them, and try each extra in an environment of its own.

`make dist` runs it. The wheel is built from the sdist, so that the sdist is known to be enough. An environment has what
the wheel asks for, and none of what a clone brings.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Sequence
from email import message_from_bytes
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]

CORE: Final = """
import anyio
from h3ref import H3App
from h3ref.adapters.memory import open_memory

app = H3App()

@app.sse("/")
async def hello(event):
    yield "hello"

async def main():
    async with open_memory(app) as server:
        reply = await server.request("GET", "/")
        assert b"data: hello" in await reply.read()

anyio.run(main)
"""
"""What runs with no extra at all."""

_SERVED: Final = """
import anyio
from h3ref import EventSource, H3App, running

app = H3App()

@app.sse("/")
async def hello(event):
    yield "hello"

async def main():
    async with running(app) as server, EventSource(server.url) as source:
        assert (await anext(aiter(source))).data == "hello"

anyio.run(main)
"""

_NOTEBOOK: Final = """
import sys
from nbclient import execute
import nbformat

execute(nbformat.read(sys.argv[1], as_version=4), timeout=120)
"""

EXTRAS: Final = {
    "client": _SERVED,
    "redis": "from h3ref.redis import RedisEngine; RedisEngine('redis://127.0.0.1:1')",
    "lab": _NOTEBOOK,
    "jupyter": "import jupyterlab; " + _NOTEBOOK.lstrip(),
    "bench": "from h3ref.lab.bench.systems import SYSTEMS; import aiohttp, fastapi, granian, hypercorn, sse_starlette",
    "docs": "import furo, myst_nb, sphinx, starlette; from h3ref.adapters.asgi import EventSourceResponse",
    "fuzz": "import atheris",
    "core-tests": "import pytest, hypothesis, uvicorn, trio; from h3ref.adapters.asgi import EventSourceResponse",
    "peers": "import mcp, h3ref.compat.sse_starlette",
    "matrix": "import h3ref.client, litestar, playwright, tornado",
    "dist": "import build, packaging, twine",
    "dev": _SERVED,
}
"""A small run of each extra; those that run a notebook get the first one."""

USERS: Final = ("client", "redis", "lab")
"""The extras that a user installs; the others are for work on the project."""


def built(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, stdout=subprocess.DEVNULL)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], check=True)
    return sdist, wheel


def tracked() -> set[str]:
    """The files of the project that belong into the sdist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = [name.removeprefix("/") for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]]
    done = subprocess.run(
        ["git", "ls-files", "--", *included, "LICENSE", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines())


def faults_of_sdist(names: Iterable[str], files: Iterable[str]) -> list[str]:
    """Say what an sdist lacks, or has beyond the project's files."""
    within = {name.partition("/")[2] for name in names} - {"", "PKG-INFO", ".gitignore"}
    expected = set(files) - {".gitignore"}
    return [
        *(f"the sdist lacks {name}" for name in sorted(expected - within)),
        *(f"the sdist has {name}, which is no file of the project" for name in sorted(within - expected)),
    ]


def faults_of_wheel(names: Iterable[str], files: Iterable[str]) -> list[str]:
    """Say what a wheel lacks of the package, or has that a user does not run."""
    within = {name for name in names if ".dist-info/" not in name}
    expected = {name for name in files if name.startswith("h3ref/") and not name.endswith(".gitignore")}
    vectors = {
        name.replace("spec/vectors/parse", "h3ref/judge/clients/vectors", 1)
        for name in files
        if name.startswith("spec/vectors/parse/")
    }
    expected |= vectors | {"h3ref/lab/lifecycle.json", "h3ref/judge/checks.json"}
    return [
        *(f"the wheel lacks {name}" for name in sorted(expected - within)),
        *(f"the wheel has {name}, which is not the package's" for name in sorted(within - expected)),
    ]


def relative_links(text: str) -> list[str]:
    """Find what would lead nowhere on a package index: links and pictures without a host."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", prose)
    return [one or other for one, other in found if not (one or other).startswith(("http://", "https://", "#"))]


def look_into(sdist: Path, wheel: Path) -> None:
    """Check both archives' contents, and the description that a package index shows."""
    files = tracked()
    with tarfile.open(sdist) as archive:
        faults = faults_of_sdist((member.name for member in archive if member.isfile()), files)
    with zipfile.ZipFile(wheel) as archive:
        faults += faults_of_wheel(archive.namelist(), files)
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        description = str(message_from_bytes(archive.read(metadata)).get_payload())
    faults += [
        f"the description links {link}, which leads nowhere on a package index" for link in relative_links(description)
    ]
    if faults:
        raise SystemExit("\n".join(faults))
    print(f"{sdist.name} and {wheel.name}: complete, {len(files)} files of the project")


def try_extra(wheel: Path, extra: str | None) -> None:
    """Install the wheel with one extra, or none, into a new environment, and run what that is for."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", wanted]
        subprocess.run([python, *install], check=True)
        program = EXTRAS[extra] if extra else CORE
        subprocess.run(
            [python, "-c", program, ROOT / "notebooks" / "00-start-here.ipynb"], cwd=folder, check=True, timeout=300
        )
    print(f"{f'the extra {extra}' if extra else 'no extra'}: installed and run")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, look and try."""
    parser = argparse.ArgumentParser(prog="make dist", description=__doc__, add_help=True)
    parser.add_argument("--only", choices=EXTRAS, action="append", help="try this extra alone; again for another one")
    parser.add_argument("--users", action="store_true", help=f"try those that a user installs: {', '.join(USERS)}")
    options = parser.parse_args(arguments)
    folder = ROOT / "dist"
    for old in (*folder.glob("h3ref-*.tar.gz"), *folder.glob("h3ref-*.whl")):
        old.unlink()
    sdist, wheel = built(folder)
    look_into(sdist, wheel)
    for extra in (None, *(USERS if options.users else options.only or EXTRAS)):
        try_extra(wheel, extra)


if __name__ == "__main__":
    main()
