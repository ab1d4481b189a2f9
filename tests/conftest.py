"""What all tests share: both event loops, every adapter, and what must be on the machine."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pytest

from h3ref.lab.check import check, load_rules
from h3ref.lab.recorder import Recorder
from h3ref.service import Service
from h3ref.trace import Record

from .clients import ADAPTERS

LOOPS = ("asyncio", "trio")

EVERY_ADAPTER = "test_contract"
"""The module whose tests run on every adapter; others do on those that are our own, and on one ASGI server."""

OTHERS = ("memory", "h11_anyio", "asgi-hypercorn")

RECORDED = (
    "test_contract",
    "test_asgi",
    "test_event_source_response",
    "test_examples",
    "test_exchange",
    "test_h11_anyio",
    "test_limits",
    "test_opening",
    "test_shutdown",
)
"""The modules whose servers are all recorded, and their recordings held against the specification."""

RULES = load_rules()


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in real time; a test with virtual time names its own."""
    return request.param


@pytest.fixture
def adapter(request: pytest.FixtureRequest) -> Any:
    """Every adapter, each on the event loops that it runs on."""
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its adapters and event loops, as pairs: an ASGI server may run on one loop only."""
    named = {name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])}
    wanted = {"adapter", "anyio_backend"} & set(metafunc.fixturenames) - named
    if wanted == {"adapter", "anyio_backend"}:
        everyone = metafunc.module.__name__.rpartition(".")[2] == EVERY_ADAPTER
        adapters = [name for name in ADAPTERS if everyone or name in OTHERS]
        pairs = [(name, loop) for name in adapters for loop in ADAPTERS[name].loops]
        metafunc.parametrize("adapter,anyio_backend", pairs, indirect=True)
    elif wanted == {"anyio_backend"}:
        metafunc.parametrize("anyio_backend", LOOPS, indirect=True)
    elif wanted:
        metafunc.parametrize("adapter", ADAPTERS, indirect=True)


@pytest.fixture(autouse=True)
def every_recording_is_legal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Record every server of the modules in `RECORDED`, and hold what was recorded against the specification."""
    if request.module.__name__.rpartition(".")[2] not in RECORDED:
        yield
        return
    recorders: list[Recorder] = []
    original = Service.__init__

    def recorded(service: Service, *args: Any, trace: Any = None, **options: Any) -> None:
        recorder = Recorder()
        recorders.append(recorder)

        def listener(record: Record) -> None:
            recorder(record)
            if trace is not None:
                trace(record)

        original(service, *args, trace=listener, **options)

    monkeypatch.setattr(Service, "__init__", recorded)
    yield
    for recorder in recorders:
        violation = check(recorder.recording, rules=RULES)
        assert violation is None, f"{violation}\n{recorder.of(violation.record.exchange)}"


def _names(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def require_program(name: str, package: str) -> str:
    """Return the path of a program that a test needs, or skip; where CI installs it, fail instead."""
    path = shutil.which(name)
    if path is None:
        _missing(f"{name} is not on this machine: apt-get install {package}")
    return path


def require_module(name: str, package: str) -> Any:
    """Return a module that a test needs, or skip; where CI installs it, fail instead."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and what it needs itself is not
        _missing(f"{name} is not on this machine: pip install {package}")


def _missing(message: str) -> NoReturn:
    if os.environ.get("H3REF_CI"):
        pytest.fail(message)
    pytest.skip(message)
