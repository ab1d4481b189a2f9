"""`H3App(lifespan=...)`: entered once for each server, before its first request, and left after its last stream."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from h3ref import H3App, H3Event, StartupFailed, running, serve
from h3ref._core.parking import current_task_id
from h3ref.adapters.asgi import ASGIApp
from h3ref.adapters.memory import open_memory
from h3ref.cli.main import main
from h3ref.connection import End
from h3ref.testing import AsyncTestClient, TestClient, virtual_backends
from tests.clients import open_client, raw
from tests.pages import ROOT
from tests.processes import IN_FOREGROUND
from tests.waits import until

GET = b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n"


class Held:
    """An app that notes what happens, in its order, and in which task."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tasks: list[int] = []
        self.app = H3App(lifespan=self.lifespan)
        self.app.get("/stream", self.stream)

    async def stream(self, event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("open")
            self.notes.append("streaming")
            try:
                await anyio.sleep_forever()
            finally:
                await anyio.lowlevel.checkpoint()
                self.notes.append("stream over")

    @asynccontextmanager
    async def lifespan(self, app: H3App) -> AsyncIterator[None]:
        assert app is self.app
        self.tasks.append(current_task_id())
        await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as tasks:  # a cancel scope that is open as long as the app is served
            tasks.start_soon(anyio.sleep_forever)
            self.notes.append("entered")
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self.notes.append("left")
                self.tasks.append(current_task_id())


WHOLE = ["entered", "streaming", "stream over", "left"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["memory", "h11_anyio", "asgi-hypercorn"])
async def test_it_is_entered_before_the_first_request_and_left_after_the_last_stream_in_one_task(name: str) -> None:
    held = Held()
    async with open_client(name, held.app) as client:
        reply = await client.request("GET", "/stream")
        assert await reply.receive() == b"data: open\n\n"
        assert held.notes[:2] == ["entered", "streaming"]
        if name == "asgi-hypercorn":  # which waits for open streams until its time is up
            reply.disconnect()
    await until(lambda: "left" in held.notes)
    assert held.notes == WHOLE
    assert held.tasks[0] == held.tasks[1]
    if name == "memory":
        assert await reply.read() == b""
        assert reply.end is End.PROPER


@pytest.mark.parametrize("virtual", [True, False])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_test_client_enters_it(backend: str, virtual: bool) -> None:
    held = Held()
    with TestClient(held.app, backend=backend, virtual=virtual) as client:  # type: ignore[arg-type]
        assert held.notes == ["entered"]
        with client.stream("GET", "/stream") as stream:
            assert stream.next_event().data == "open"
    assert held.notes == WHOLE


@pytest.mark.anyio
async def test_each_server_enters_it_for_itself() -> None:
    held = Held()
    async with running(held.app), open_memory(held.app):
        assert held.notes == ["entered"] * 2
    async with AsyncTestClient(held.app):
        assert held.notes.count("entered") == 3
    assert held.notes.count("left") == 3


class Engine:
    """A context manager that is its own lifespan."""

    def __init__(self) -> None:
        self.is_open = False

    async def __aenter__(self) -> Engine:
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_open = False


@pytest.mark.anyio
async def test_a_context_manager_is_a_lifespan_as_it_is() -> None:
    engine = Engine()
    async with running(H3App(lifespan=engine)):
        assert engine.is_open
    assert not engine.is_open
    async with H3App(lifespan=engine).lifespan():
        assert engine.is_open
    async with H3App().lifespan():
        assert not engine.is_open


async def undecorated(app: H3App) -> AsyncIterator[None]:
    yield


async def coroutine(app: H3App) -> None: ...


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (3, "a lifespan is an async context manager, or takes the H3App and returns one, not 3"),
        (open(os.devnull), "takes the H3App and returns one"),  # noqa: PTH123, SIM115  # a context manager, but no async one
        (undecorated, "undecorated returns no async context manager as it is: decorate it with contextlib.async"),
        (coroutine, "coroutine returns no async context manager as it is: decorate it with contextlib.async"),
        (lambda: None, "a lifespan must take the H3App"),
    ],
)
def test_what_is_none_is_refused(given: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        H3App(lifespan=given)
    if hasattr(given, "close"):
        given.close()


@pytest.mark.anyio
async def test_a_function_that_returns_none_is_refused_when_it_is_entered() -> None:
    def wrong(app: H3App) -> Any:
        return None

    with pytest.raises(TypeError, match=r"the lifespan wrong returned None, no async context manager: decorate it"):
        async with running(H3App(lifespan=wrong)):
            pass


@asynccontextmanager
async def failing(app: H3App) -> AsyncIterator[None]:
    raise ConnectionRefusedError("no database\nhere")
    yield


@pytest.mark.anyio
@pytest.mark.parametrize("open_server", [running, open_memory, AsyncTestClient])
async def test_what_it_raises_at_the_start_comes_out_of_running_and_of_the_test_client(open_server: Any) -> None:
    with pytest.raises(ConnectionRefusedError, match="no database"):
        async with open_server(H3App(lifespan=failing)):
            pass


@pytest.mark.anyio
async def test_a_start_that_fails_leaves_no_listener() -> None:
    app, ports = H3App(lifespan=failing), list[int]()
    with pytest.raises(ConnectionRefusedError):
        async with running(app) as server:
            ports.append(server.port)
    assert not ports
    async with running(H3App()) as other:
        port = other.port
    for _ in range(2):  # a listener that were left would hold the port
        with pytest.raises(ConnectionRefusedError, match="no database"):
            async with running(app, port=port):
                pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_serve_says_in_a_sentence_what_failed_and_where(backend: str) -> None:
    why = r"^the app's start-up failed: ConnectionRefusedError: no database here \(tests/test_lifespan.py:\d+\)$"
    with pytest.raises(StartupFailed, match=why) as raised:
        serve(H3App(lifespan=failing), port=0, backend=backend)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


@asynccontextmanager
async def failing_in_a_group(app: H3App) -> AsyncIterator[None]:
    async with anyio.create_task_group():
        raise ValueError("of a task group")
        yield


def test_the_command_ends_with_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    module = sys.modules[__name__]
    module.__dict__["app"] = H3App(lifespan=failing_in_a_group)
    try:
        assert main(["serve", f"{__name__}:app", "--port", "0"]) == 1
    finally:
        del module.__dict__["app"]
    error = capsys.readouterr().err
    assert error.startswith("h3ref: the app's start-up failed: ValueError: of a task group (tests/test_lifespan.py:")
    assert error.count("\n") == 1


@pytest.mark.anyio
async def test_what_it_raises_at_the_end_comes_out_after_the_streams_have_ended() -> None:
    @asynccontextmanager
    async def lifespan(app: H3App) -> AsyncIterator[None]:
        yield
        raise KeyError("at the end")

    held = Held()
    app = H3App(lifespan=lifespan)
    app.get("/stream", held.stream)

    async def serve_one() -> None:
        async with running(app) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(GET)
            await until(lambda: held.notes == ["streaming"])

    with pytest.raises(KeyError, match="at the end"):
        await serve_one()
    assert held.notes == ["streaming", "stream over"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends())
async def test_an_end_that_never_comes_is_cancelled_when_the_grace_is_over(caplog: pytest.LogCaptureFixture) -> None:
    ends: list[float] = []

    @asynccontextmanager
    async def lifespan(app: H3App) -> AsyncIterator[None]:
        yield
        try:
            await anyio.sleep_forever()
        finally:
            ends.append(anyio.current_time())

    async with running(H3App(lifespan=lifespan), grace=3):
        began = anyio.current_time()
    assert ends == [pytest.approx(began + 3, abs=0.1)]
    assert "the app's lifespan had not ended after the grace period: it was cancelled" in caplog.text


@pytest.mark.anyio
async def test_who_is_cancelled_from_outside_leaves_what_it_holds_in_order() -> None:
    notes: list[str] = []

    @asynccontextmanager
    async def lifespan(app: H3App) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await anyio.sleep(0.01)
            notes.append("saved")

    for open_server in (running, open_memory):
        with anyio.CancelScope() as scope:
            async with open_server(H3App(lifespan=lifespan)):
                scope.cancel()
                await anyio.sleep_forever()
    assert notes == ["saved"] * 2


class Breakable:
    """A lifespan that fails by itself when it is told to."""

    def __init__(self) -> None:
        self.fail = anyio.Event()

    @asynccontextmanager
    async def lifespan(self, app: H3App) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.break_down)
            yield

    async def break_down(self) -> None:
        await self.fail.wait()
        raise OSError("the database has gone")


@pytest.mark.anyio
async def test_a_lifespan_that_fails_by_itself_ends_its_server_in_order() -> None:
    held, breakable, bodies = Held(), Breakable(), list[bytes]()
    app = H3App(lifespan=breakable.lifespan)
    app.get("/stream", held.stream)

    async def read(port: int) -> None:
        bodies.append(await raw(port, GET))

    async with anyio.create_task_group() as clients:
        with pytest.RaisesGroup(OSError):
            async with running(app) as server:
                clients.start_soon(read, server.port)
                await until(lambda: held.notes == ["streaming"])
                breakable.fail.set()
                await until(lambda: bodies)
    assert held.notes == ["streaming", "stream over"]
    assert bodies[0].endswith(b"data: open\n\n\r\n0\r\n\r\n")


@pytest.mark.anyio
async def test_in_memory_too() -> None:
    held, breakable = Held(), Breakable()
    app = H3App(lifespan=breakable.lifespan)
    app.get("/stream", held.stream)
    with pytest.RaisesGroup(OSError):
        async with open_memory(app) as server:
            reply = await server.request("GET", "/stream")
            breakable.fail.set()
            assert await reply.read() == b"data: open\n\n"
            assert reply.end is End.PROPER
    assert held.notes == ["streaming", "stream over"]


BREAKABLE = """
from tests.test_lifespan import Breakable
from h3ref import H3App, serve

breakable = Breakable()
app = H3App(lifespan=breakable.lifespan)

@app.get("/break")
async def fail(event):
    breakable.fail.set()
    event.send_text("broken")

serve(app, port=0, backend=BACKEND)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_serve_ends_with_it_and_raises_what_it_did(tmp_path: Path, backend: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(BREAKABLE.replace("BACKEND", repr(backend)))
    with subprocess.Popen(
        [sys.executable, str(program)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().split(":")[2].split()[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(b"GET /break HTTP/1.1\r\nHost: test\r\n\r\n")
            assert b"200 OK" in sock.recv(4096)
        assert "OSError: the database has gone" in process.communicate(timeout=30)[1]
    assert process.returncode == 1


# -- under an ASGI server


async def ask_lifespan(app: Any, *asked: str) -> tuple[list[dict[str, Any]], list[Exception]]:
    """What an application answers to the lifespan's messages, and what it raises."""
    answers: list[dict[str, Any]] = []
    errors: list[Exception] = []
    put, take = anyio.create_memory_object_stream[dict[str, Any]](5)

    async def send(message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        answers.append(message)

    for what in asked:
        put.send_nowait({"type": f"lifespan.{what}"})
    try:
        await app({"type": "lifespan"}, take.receive, send)
    except Exception as error:
        errors.append(error)
    put.close()
    take.close()
    return answers, errors


@pytest.mark.anyio
async def test_asgi_is_told_what_failed_at_either_end() -> None:
    answers, errors = await ask_lifespan(ASGIApp(H3App(lifespan=failing)), "startup")
    assert [answer["type"] for answer in answers] == ["lifespan.startup.failed"]
    assert answers[0]["message"].startswith("the app's startup: ConnectionRefusedError: no database here (tests/")
    assert len(errors) == 1

    @asynccontextmanager
    async def lifespan(app: H3App) -> AsyncIterator[None]:
        yield
        raise KeyError("at the end")

    answers, errors = await ask_lifespan(ASGIApp(H3App(lifespan=lifespan)), "startup", "shutdown")
    assert [answer["type"] for answer in answers] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert "the app's shutdown: KeyError: 'at the end'" in answers[1]["message"]
    assert len(errors) == 1


UVICORN = """
import sys
import uvicorn
from contextlib import asynccontextmanager
from h3ref import H3App

@asynccontextmanager
async def lifespan(app):
    if sys.argv[1] == "fails":
        raise ConnectionRefusedError("no database")
    print("entered", flush=True)
    yield
    print("left", flush=True)

uvicorn.run(H3App(lifespan=lifespan), port=0, ws="none")
"""


def test_uvicorn_enters_it_and_ends_where_it_fails(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(UVICORN)
    failed = subprocess.run([sys.executable, str(program), "fails"], capture_output=True, text=True, timeout=30)
    assert failed.returncode == 3
    assert "the app's startup: ConnectionRefusedError: no database (" in failed.stderr
    assert "Traceback" not in failed.stderr
    with subprocess.Popen(
        [sys.executable, str(program), "works"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == "left\n"


async def hello(app: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Ask a mounted app twice; return the warnings."""
    async with AsyncTestClient(app) as client:
        for _ in range(2):
            assert (await client.request("GET", "/streams/hello")).text == "hello"
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def mounted() -> tuple[H3App, Engine]:
    engine = Engine()
    app = H3App(lifespan=engine)

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    return app, engine


@pytest.mark.anyio
async def test_a_mounted_app_says_once_that_nobody_has_entered_it(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = mounted()
    (warning,) = await hello(Starlette(routes=[Mount("/streams", app)]), caplog)
    assert "the app's lifespan has not been entered" in warning


@pytest.mark.anyio
async def test_the_app_that_mounts_enters_it(caplog: pytest.LogCaptureFixture) -> None:
    app, engine = mounted()
    seen: list[bool] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with app.lifespan():
            yield
            seen.append(engine.is_open)

    assert await hello(Starlette(routes=[Mount("/streams", app)], lifespan=lifespan), caplog) == []
    assert seen == [True]
    assert not engine.is_open


@pytest.mark.anyio
async def test_a_server_that_asks_for_none_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = mounted()
    async with AsyncTestClient(app, lifespan=False) as client:
        for _ in range(2):
            await client.request("GET", "/hello")
    assert [record.getMessage()[:47] for record in caplog.records] == [
        "the app's lifespan has not been entered, and it"
    ]


# -- a signal while the app starts

SLOW = """
import anyio
from contextlib import asynccontextmanager
from h3ref import H3App, serve

@asynccontextmanager
async def lifespan(app):
    print("entering", flush=True)
    try:
        await anyio.sleep_forever()
        yield
    finally:
        print("cancelled", flush=True)

serve(H3App(lifespan=lifespan), port=0, backend=BACKEND)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_that_takes_too_long(tmp_path: Path, backend: str, number: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(SLOW.replace("BACKEND", repr(backend)))
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=IN_FOREGROUND,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entering\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("cancelled\n", "", 0)


def test_the_types_fit() -> None:
    """As mypy sees them: a factory, a context manager, and what is neither."""
    given: AbstractAsyncContextManager[Any] = Engine()
    H3App(lifespan=given)
    H3App(lifespan=failing)
    with pytest.raises(TypeError):
        H3App(lifespan="engine")  # type: ignore[arg-type]
