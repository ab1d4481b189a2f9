"""What all tests share: both event loops, every adapter, and what must be on the machine."""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import anyio
import hypothesis as hypothesis  # it has to see who holds its plugins' things, before `gc.freeze` hides that
import pytest

from h3ref._core.service import Service
from h3ref.lab.check import check, load_rules
from h3ref.lab.recorder import Recorder
from h3ref.trace import Record
from tests.clients import ADAPTERS
from tests.cluster.servers import Kind, Missing, program, sentinel_program
from tests.logs import levels_of_logs
from tests.processes import marked, still_running

LOOPS = ("asyncio", "trio")

EVERY_ADAPTER = ("test_contract", "test_contract_bytes")
"""The modules whose tests run on every adapter; others do on those that are our own, and on one ASGI server."""

OTHERS = ("memory", "h11_anyio", "asgi-hypercorn")

RECORDED = (
    *EVERY_ADAPTER,
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

SLOW = (
    "notebooks",
    "test_site",
    "test_stepper",
    "test_browser",
    "test_notebooks",
    "test_pictures",
    "test_soak",
    "test_nginx",
    "test_judge_servers",
    "test_bench",
    "test_bench_plots",
    "test_bench_profile",
    "test_bench_servers",
    "test_bench_guard",
    "test_request_body",
    "test_moves",
    "test_llm_clients",
    "test_chat_page",
    "test_peers",
    "test_cluster",
    "test_cluster_failover",
    "test_cluster_peers",
    "test_ending",
    "test_model",
)
"""What `make quick` leaves out: modules, and the folder. Whole runs begin with them, so that no core waits for them."""

LONG = ("test_http", "test_sse", *EVERY_ADAPTER, "test_fault_injection", "test_client", "test_guard", "test_limits")
"""The modules that take longest of the others; they come next, for the same reason."""

RULES = load_rules()

# In CI the examples are the same each time, so that a change is judged for itself. How fast the machine is says nothing
# about an example.
hypothesis.settings.register_profile(
    "h3ref",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("H3REF_CI")),
)
hypothesis.settings.load_profile("h3ref")


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in real time; a test with virtual time names its own."""
    return request.param


@pytest.fixture
def adapter(request: pytest.FixtureRequest) -> Any:
    """Every adapter, each on the event loops that it runs on."""
    return request.param


@pytest.fixture(params=["redis", "valkey"])
def server_kind(request: pytest.FixtureRequest) -> Kind:
    """Both kinds of servers that channels of several processes are tested with."""
    kind: Kind = request.param
    try:
        program(kind)
        sentinel_program(kind)
    except Missing as error:
        missing(str(error))
    return kind


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its adapters and event loops, as pairs: an ASGI server may run on one loop only."""
    named = {name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])}
    wanted = {"adapter", "anyio_backend"} & set(metafunc.fixturenames) - named
    if wanted == {"adapter", "anyio_backend"}:
        everyone = metafunc.module.__name__.rpartition(".")[2] in EVERY_ADAPTER
        adapters = [name for name in ADAPTERS if everyone or name in OTHERS]
        pairs = [(name, loop) for name in adapters for loop in ADAPTERS[name].loops]
        metafunc.parametrize("adapter,anyio_backend", pairs, indirect=True)
    elif wanted == {"anyio_backend"}:
        metafunc.parametrize("anyio_backend", LOOPS, indirect=True)
    elif wanted:
        metafunc.parametrize("adapter", ADAPTERS, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and have the slow modules come first."""
    for item in items:
        if _is_in_slow_module(item):
            item.add_marker("slow")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(600))  # one measures nine servers, another one builds the site
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if _is_in_slow_module(item):
        return 0
    return LONG.index(item.path.stem) + 1 if item.path.stem in LONG else len(LONG) + 1


def _is_in_slow_module(item: pytest.Item) -> bool:
    return item.path.stem in SLOW or item.path.parent.name in SLOW


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Cancel an async test that does not end, before pytest-timeout ends the whole process; in real time only."""
    test = pyfuncitem.obj
    if pyfuncitem.funcargs.get("anyio_backend") not in LOOPS or not inspect.iscoroutinefunction(test):
        return
    mark = pyfuncitem.get_closest_marker("timeout")
    seconds = 0.8 * float(mark.args[0] if mark else pyfuncitem.config.getini("timeout"))

    @functools.wraps(test)
    async def bounded(**arguments: Any) -> None:
        with anyio.fail_after(seconds):
            await test(**arguments)

    pyfuncitem.obj = bounded


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Have one worker process more than there are cores: now and then each waits for what takes real time."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) + 1


def pytest_collection_finish() -> None:
    """Have the collector of garbage look no more at ten thousand tests, a thousand times over."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """See that what a module's tests have started is over when they are."""
    with marked() as mark:
        yield
    assert still_running(mark) == []


@pytest.fixture(autouse=True)
def no_log_is_left_switched_on() -> Iterator[None]:
    """See that a test leaves the levels of logs as they were: the next one may look at what is logged."""
    before = levels_of_logs()
    yield
    assert levels_of_logs() == before


def _names(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def require_program(name: str, package: str) -> str:
    """Return the path of a program that a test needs, or skip; where CI installs it, fail instead."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not on this machine: apt-get install {package}")
    return path


def require_module(name: str, package: str) -> Any:
    """Return a module that a test needs, or skip; where CI installs it, fail instead."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and what it needs itself is not
        missing(f"{name} is not on this machine: pip install {package}")


def require_permission(attempt: Callable[[], object], what: str) -> None:
    """Do what a test needs, or skip where this user may not; root may, so that in CI it fails for root instead."""
    try:
        attempt()
    except PermissionError:
        if os.geteuid() != 0:
            pytest.skip(f"{what} is not permitted to this user, but to root")
        missing(f"{what} is not permitted to root here")


def missing(message: str) -> NoReturn:
    """Skip a test for want of something; where CI installs it, fail instead."""
    if os.environ.get("H3REF_CI"):
        pytest.fail(message)
    pytest.skip(message)
