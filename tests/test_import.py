"""What `import h3ref` loads, and what waits until it is needed: each asked in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import h3ref

ROOMS = {"h3ref.adapters", "h3ref.client", "h3ref.testing", "h3ref.lab", "h3ref.cli", "h3ref.examples"}
LOOPS = {"asyncio", "trio", "selectors", "select", "socket"}
EXTRAS = {"httpx2", "matplotlib", "IPython", "starlette", "rich", "aiohttp"}


def loads(program: str) -> set[str]:
    """The modules that a program has loaded when it is over, beside those with which Python starts."""
    asking = f"import sys\nbefore = set(sys.modules)\n{program}\nprint(*sorted(sys.modules.keys() - before))"
    path = [str(Path(h3ref.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    ended = subprocess.run(
        [sys.executable, "-c", asking],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


@pytest.mark.parametrize("program", ["import h3ref", "from h3ref import *", "from h3ref import H3App, running, serve"])
def test_an_import_loads_no_adapter_no_loop_and_no_extra(program: str) -> None:
    loaded = loads(program)
    assert {"h3ref", "h3ref.app", "h3ref.server", "anyio", "transitions"} <= loaded
    assert loaded & (ROOMS | LOOPS | EXTRAS | {"h11", "argparse"}) == set()


@pytest.mark.parametrize("program", ["import h3ref.adapters.asgi", "import h3ref.adapters.memory"])
def test_what_is_not_the_native_adapter_does_without_h11(program: str) -> None:
    loaded = loads(program)
    assert program.removeprefix("import ") in loaded
    assert loaded & {"h3ref.adapters.h11_anyio", "h11", "h3ref.client"} == set()


RUN = """
import anyio
from h3ref import H3App, running

async def main():
    async with running(H3App()):
        pass

anyio.run(main, backend="{backend}")
"""


@pytest.mark.parametrize(("backend", "other"), [("asyncio", "trio"), ("trio", "asyncio")])
def test_a_server_loads_its_adapter_and_the_loop_that_it_runs_on(backend: str, other: str) -> None:
    loaded = loads(RUN.format(backend=backend))
    assert {"h3ref.adapters.h11_anyio", "h11", "selectors", "socket", backend} <= loaded
    assert other not in loaded


def test_the_judge_needs_no_extra() -> None:
    loaded = loads("import h3ref.judge.stream, h3ref.judge.contract, h3ref.judge.app, h3ref.judge.report")
    assert "h3ref.judge.wire" in loaded
    assert loaded & EXTRAS == set()


def test_the_client_is_loaded_by_its_names() -> None:
    assert {"h3ref.client", "httpx2"} <= loads("from h3ref import EventSource")


def test_an_extra_that_is_missing_is_named() -> None:
    for extra, module in (("client", "httpx2"), ("redis", "coredis")):
        program = f"""
import sys
sys.modules["{module}"] = None
try:
    import h3ref.{extra}
except ImportError as error:
    assert 'pip install "h3ref[{extra}]"' in str(error)
else:
    raise AssertionError
"""
        loads(program)


def test_importing_the_engine_loads_no_client_of_a_server() -> None:
    assert "coredis" not in loads("import h3ref.engine; from h3ref import Channel")


def test_all_names_are_told_also_those_that_are_loaded_later() -> None:
    assert {*h3ref.__all__, *h3ref._OF_THE_CLIENT, "__version__"} <= set(dir(h3ref))
    assert all(getattr(h3ref, name) is not None for name in dir(h3ref))


def test_what_it_has_not_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'h3ref' has no attribute 'Server'"):
        h3ref.Server  # noqa: B018
