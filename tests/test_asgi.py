"""The ASGI adapter: under real servers as processes, over HTTP/2, mounted in other apps, and message by message."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import h2.connection
import h2.events
import httpx2
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, Limits, SSEWriter, flows
from h3ref._core.cleanup import Cleanup
from h3ref._core.exchange import Exchange
from h3ref._core.parking import current_task_id
from h3ref.adapters.asgi import ASGIApp
from h3ref.adapters.asgi.connection import ASGIConnection
from h3ref.adapters.asgi.messages import ScopeHeaders
from h3ref.connection import End
from h3ref.errors import WriteError
from h3ref.event import host_of
from h3ref.testing import virtual_backends
from h3ref.trace import Record
from h3ref.writer import stream_of
from tests import asgi_app, order_table
from tests.asgi_servers import accepting, on_granian, on_hypercorn, on_uvicorn
from tests.clients import open_client, server_of
from tests.leftovers import nothing_left_behind
from tests.ports import free_port
from tests.processes import kill_group
from tests.test_contract import ORDERS
from tests.waits import runs_on_asyncio, until, wait_all_tasks_blocked

FLOWS = ("callback", "awaited", "blocking", "generated", "broken")

COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "uvicorn": lambda port: ["uvicorn", f"--port={port}", "--timeout-graceful-shutdown=1", "--no-access-log"],
    "hypercorn": lambda port: ["hypercorn", f"--bind=127.0.0.1:{port}", "--graceful-timeout=1"],
    "granian": lambda port: ["granian", "--interface=asgi", f"--port={port}", "--workers-kill-timeout=1"],
}


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()


class Process:
    """An ASGI server as a process of its own."""

    def __init__(self, name: str, directory: Path) -> None:
        self.port = free_port()
        self.trace = directory / f"{name}.ndjson"
        self.log = directory / f"{name}.log"
        self.trace.touch()
        command = [sys.executable, "-m", *COMMANDS[name](self.port), "tests.asgi_app:app"]
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "H3REF_TRACE": str(self.trace), "PYTHONPATH": root, "NO_COLOR": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=directory, start_new_session=True
            )

    def get(self, path: str) -> bytes:
        """Send a request and return all that comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            sock.sendall(get(path))
            received = b""
            while data := sock.recv(65536):
                received += data
            return received

    def open(self, path: str, until: bytes) -> tuple[socket.socket, bytes]:
        """Send a request, and return the socket when so much has come."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        sock.sendall(get(path))
        received = b""
        while until not in received:
            received += sock.recv(65536)
        return sock, received

    def records(self) -> list[Record]:
        return [Record.from_json(line) for line in self.trace.read_text().splitlines()]

    def steps_of(self, path: str, last: str) -> list[str]:
        """Wait until the latest exchange of a path has taken its last step, and return its steps."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            steps: list[str] = []
            for record in self.records():
                if record.step == "request":
                    wanted = record.detail == f"GET {path}"
                    steps = [] if wanted else steps
                if wanted:
                    steps.append(record.step)
            if steps and steps[-1] == last:
                return steps
            time.sleep(0.01)
        raise AssertionError(f"{path} never took the step {last}: {steps}")

    def end(self) -> None:
        kill_group(self.process)  # granian's has two processes more


@contextmanager
def processes(directory: Path, *names: str) -> Iterator[dict[str, Process]]:
    """Start servers side by side, and wait until all accept."""
    with ExitStack() as stack:
        started = {}
        for name in names:
            started[name] = Process(name, directory)
            stack.callback(started[name].end)
        for process in started.values():
            anyio.run(accepting, process.port)
        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    """Each server as a process."""
    with processes(tmp_path_factory.mktemp("asgi"), *COMMANDS) as started:
        yield started


# -- the order of steps, the same everywhere


async def recorded_here(adapter: str, flow: str) -> list[str]:
    """The steps of a flow in this process."""
    records: list[Record] = []
    options = {"flow": flows.broken} if flow == "broken" else {}
    async with open_client(adapter, asgi_app.routes, trace=records.append, **options) as client:
        reply = await client.request("GET", f"/{flow}")
        if flow == "broken":
            with anyio.move_on_after(0.1) as silence:
                await reply.receive()
            assert silence.cancelled_caught
            reply.disconnect()
            with anyio.fail_after(10):
                while server_of(client).service.live:
                    await anyio.lowlevel.checkpoint()
        else:
            assert await reply.read() == b"data: 1\n\n"
    return [record.step for record in records]


def recorded_by(process: Process, flow: str) -> list[str]:
    """The steps of a flow in a server's process."""
    if flow != "broken":
        assert process.get(f"/{flow}").endswith(b"data: 1\n\n\r\n0\r\n\r\n")
        return process.steps_of(f"/{flow}", ORDERS[flow][-1])
    sock, head = process.open("/broken", until=b"\r\n\r\n")
    sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        assert not sock.recv(1), head
    sock.close()
    return process.steps_of("/broken", "disconnect")


def test_the_order_is_the_same_on_every_adapter(served: dict[str, Process]) -> None:
    orders: dict[str, dict[str, list[str]]] = {}
    for flow in FLOWS:
        orders[flow] = {
            "memory": anyio.run(recorded_here, "memory", flow),
            "h11_anyio, asyncio": anyio.run(recorded_here, "h11_anyio", flow, backend="asyncio"),
            "h11_anyio, trio": anyio.run(recorded_here, "h11_anyio", flow, backend="trio"),
            **{f"ASGI, {name}": recorded_by(process, flow) for name, process in served.items()},
        }
        expected = ORDERS.get(flow) or orders[flow]["memory"]
        assert orders[flow] == dict.fromkeys(orders[flow], expected)
    page = order_table.PAGE.read_text(encoding="utf-8")
    fresh = order_table.render(page, orders)
    if os.environ.get("H3REF_WRITE_DOCS"):
        order_table.PAGE.write_text(fresh, encoding="utf-8")
    else:
        assert page == fresh, "docs/adapters.md has drifted: see tests/order_table.py"


def test_a_page_without_the_part_is_refused() -> None:
    with pytest.raises(ValueError, match="one part between"):
        order_table.render("", {})


# -- as processes


@pytest.mark.parametrize("name", COMMANDS)
def test_a_failure_before_the_headers_has_its_real_status(served: dict[str, Process], name: str) -> None:
    assert b"500" in served[name].get("/raises-early").split(b"\r\n")[0]
    assert b"403" in served[name].get("/refused").split(b"\r\n")[0]
    assert b"404" in served[name].get("/none").split(b"\r\n")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_callback_that_raises_cuts_the_body(served: dict[str, Process], name: str) -> None:
    logged = served[name].log.read_text().count("Traceback")
    assert served[name].get("/raises-late").endswith(b"data: 1\n\n\r\n"), "flushed, and no last chunk"
    assert served[name].get("/callback").endswith(b"0\r\n\r\n"), "the server goes on"
    assert served[name].log.read_text().count("Traceback") == logged + 1, "ours, and none of the server's"


def test_shutdown_gives_each_stream_its_proper_end(tmp_path: Path) -> None:
    with processes(tmp_path, "uvicorn", "hypercorn") as started:
        open_streams = {
            name: [process.open("/forever", until=b"data: 1\n\n\r\n")[0] for _ in range(20)]
            for name, process in started.items()
        }
        for process in started.values():
            process.process.send_signal(signal.SIGTERM)
        for name, process in started.items():
            process.process.wait(30)
            for sock in open_streams[name]:
                assert sock.recv(100) == b"0\r\n\r\n", name
                assert sock.recv(100) == b"", name
                sock.close()
            last = {record.exchange: record for record in process.records()}
            assert [(record.after, record.reason) for record in last.values()] == [("closed", "shutdown")] * 20
        assert "Traceback" not in started["uvicorn"].log.read_text()


def test_granian_cuts_its_streams_when_the_time_is_up(tmp_path: Path) -> None:
    with processes(tmp_path, "granian") as started:
        process = started["granian"]
        sock, _ = process.open("/forever", until=b"data: 1\n\n\r\n")
        process.process.send_signal(signal.SIGTERM)
        process.process.wait(30)
        assert sock.recv(100) in (b"", b"0\r\n\r\n")
        sock.close()


# -- clients that leave


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_500_clients_that_leave_abruptly_leave_nothing_behind() -> None:
    app = H3App()
    told = 0

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(wait)

    async def wait(writer: SSEWriter) -> None:
        nonlocal told
        await writer.send_event("1")
        try:
            await anyio.sleep_forever()
        finally:
            told += 1

    async with on_uvicorn(app) as server:

        async def leave() -> None:
            async with await anyio.connect_tcp("127.0.0.1", server.port) as sock:
                await sock.send(get("/stream"))
                received = b""
                while b"data: 1" not in received:
                    received += await sock.receive()
                raw_socket = sock.extra(anyio.abc.SocketAttribute.raw_socket)
                raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing sends RST

        async def settled() -> None:
            await until(lambda: not server.service.live)
            await wait_all_tasks_blocked()

        await leave()
        await settled()
        async with nothing_left_behind(Exchange, ASGIConnection):
            for _ in range(10):
                async with anyio.create_task_group() as clients:
                    for _ in range(50):
                        clients.start_soon(leave)
            await settled()
    assert told == 501


# -- HTTP/2


def streams() -> H3App:
    app = H3App()

    @app.sse("/count")
    async def count(event: H3Event) -> AsyncIterator[str]:
        for number in range(3):
            yield str(number)

    @app.sse("/raises")
    async def raises(event: H3Event) -> AsyncIterator[str]:
        yield "1"
        raise RuntimeError("in mid-stream")

    @app.post("/echo")
    async def echo(event: H3Event) -> None:
        body = await event.read_body()
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event(body.decode())

    return app


@pytest.mark.anyio
async def test_over_http_2() -> None:
    async with on_hypercorn(streams()) as server, httpx2.AsyncClient(http1=False, http2=True) as client:
        url = f"http://127.0.0.1:{server.port}"
        response = await client.get(f"{url}/count")
        assert (response.http_version, response.status_code) == ("HTTP/2", 200)
        assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert (await client.post(f"{url}/echo", content=b"hi")).text == "data: hi\n\n"
        assert (await client.get(f"{url}/none")).status_code == 404
        with anyio.fail_after(10):
            cut = await client.get(f"{url}/raises")
        assert cut.text == "data: 1\n\n", "hypercorn can't cut an HTTP/2 stream, so it gets its end"


@pytest.mark.anyio
async def test_a_reset_of_one_http_2_stream_cancels_it_and_no_other() -> None:
    app = streams()
    cleaned = anyio.Event()

    @app.sse("/forever")
    async def forever(event: H3Event) -> AsyncIterator[str]:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            cleaned.set()

    async with on_hypercorn(app) as server, await anyio.connect_tcp("127.0.0.1", server.port) as sock:
        peer = h2.connection.H2Connection()
        peer.initiate_connection()

        async def ask(stream: int, path: str, until: type[h2.events.Event]) -> None:
            head = {":method": "GET", ":path": path, ":scheme": "http", ":authority": "test"}
            peer.send_headers(stream, list(head.items()), end_stream=True)
            await sock.send(peer.data_to_send())
            while not any(isinstance(event, until) for event in peer.receive_data(await sock.receive())):
                await sock.send(peer.data_to_send())

        with anyio.fail_after(10):
            await ask(1, "/forever", h2.events.DataReceived)
            peer.reset_stream(1)
            await sock.send(peer.data_to_send())
            await cleaned.wait()
            await ask(3, "/count", h2.events.StreamEnded)
        await until(lambda: not server.service.live)
        assert server.service.stats().closed["client_gone"] == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_granian_resets_an_http_2_stream_whose_callback_raises() -> None:
    async with on_granian(streams()) as server, await anyio.connect_tcp("127.0.0.1", server.port) as sock:
        peer = h2.connection.H2Connection()
        peer.initiate_connection()
        head = {":method": "GET", ":path": "/raises", ":scheme": "http", ":authority": "test"}
        peer.send_headers(1, list(head.items()), end_stream=True)
        seen: list[h2.events.Event] = []
        with anyio.fail_after(10):
            while not isinstance(seen and seen[-1], h2.events.StreamReset | h2.events.StreamEnded):
                await sock.send(peer.data_to_send())
                seen += peer.receive_data(await sock.receive())
        assert isinstance(seen[-1], h2.events.StreamReset)
        assert (
            b"".join(event.data or b"" for event in seen if isinstance(event, h2.events.DataReceived)) == b"data: 1\n\n"
        )


# -- message by message


class Call:
    """A server's side of one request: what the app receives, and what it has sent."""

    def __init__(self, app: Any, method: str = "GET", headers: dict[str, str] | None = None, **scope: Any) -> None:
        self._app = app
        self.scope = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method},
            **{"scheme": "http", "path": "/", "query_string": b"", "root_path": ""},
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            **scope,
        }
        self.sent: list[dict[str, Any]] = []
        self.put, self._messages = anyio.create_memory_object_stream[Any](100)
        self.receiving = 0

    async def receive(self) -> Any:
        self.receiving += 1
        assert self.receiving == 1, "two tasks receive at once"
        try:
            message = await self._messages.receive()
            if isinstance(message, Exception):
                raise message
            return message
        finally:
            self.receiving -= 1

    async def send(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent.append(dict(message))

    async def run(self) -> None:
        try:
            await self._app(self.scope, self.receive, self.send)
        finally:
            self.put.close()
            self._messages.close()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def end(self) -> End:
        return End.CUT if self.sent[-1].get("more_body", True) else End.PROPER


def only(handler: Callable[[H3Event], Any], **options: Any) -> ASGIApp:
    app = H3App()
    app.on("GET", "/", handler)
    app.on("POST", "/", handler)
    return ASGIApp(app, **options)


async def forever(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(asgi_app.for_ever)


@pytest.mark.anyio
async def test_another_scope_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match="the ASGI scopes http and lifespan, not 'websocket'"):
        await H3App()({"type": "websocket"}, None, None)


@pytest.mark.anyio
async def test_the_lifespan_is_answered_and_ends_what_is_open() -> None:
    app = only(forever)
    stream, life = Call(app), Call(app, type="lifespan")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(life.run)
        life.put.send_nowait({"type": "lifespan.startup"})
        await until(lambda: life.sent == [{"type": "lifespan.startup.complete"}])
        tasks.start_soon(stream.run)
        await until(lambda: stream.sent and stream.body)
        life.put.send_nowait({"type": "lifespan.shutdown"})
    assert life.sent[1:] == [{"type": "lifespan.shutdown.complete"}]
    assert (stream.body, stream.end) == (b"data: 1\n\n", End.PROPER)


@pytest.mark.anyio
async def test_a_server_that_cancels_gets_the_proper_end() -> None:
    records: list[Record] = []
    call = Call(only(forever, trace=records.append))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await until(lambda: call.sent and call.body)
        tasks.cancel_scope.cancel()
    assert (call.body, call.end) == (b"data: 1\n\n", End.PROPER)
    assert (records[-1].after, records[-1].reason) == ("closed", "shutdown")


@pytest.mark.anyio
async def test_a_server_that_cancels_a_handler_with_its_writer_gets_the_proper_end() -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await asgi_app.for_ever(writer)

    records: list[Record] = []
    call = Call(only(handler, trace=records.append))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await until(lambda: call.sent and call.body)
        tasks.cancel_scope.cancel()
    assert (call.body, call.end) == (b"data: 1\n\n", End.PROPER)
    assert (records[-1].after, records[-1].reason) == ("closed", "shutdown")


@pytest.mark.anyio
async def test_what_is_buffered_when_the_server_cancels_is_sent() -> None:
    taken = anyio.Event()

    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await anyio.sleep(0.01)
        await writer.send_event("2")
        taken.set()
        await anyio.sleep_forever()

    class Slow(Call):
        async def send(self, message: Any) -> None:
            await anyio.sleep(0.02)
            await super().send(message)

    call = Slow(only(handler))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await taken.wait()
        tasks.cancel_scope.cancel()
    assert (call.body, call.end) == (b"data: 1\n\ndata: 2\n\n", End.PROPER)


@pytest.mark.anyio
async def test_a_server_that_cancels_before_the_headers_gets_a_503() -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        await anyio.sleep_forever()

    call = Call(only(handler))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await until(lambda: call.receiving)
        tasks.cancel_scope.cancel()
    assert call.status == 503


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_is_cancelled_once_its_stream_has_ended() -> None:
    call = Call(only(forever))
    task = asyncio.create_task(call.run())
    await until(lambda: call.sent and call.body)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.end is End.PROPER


@pytest.mark.anyio
async def test_a_scope_around_the_app_gets_its_cancellation_back() -> None:
    call = Call(only(forever))
    with anyio.move_on_after(0.05) as scope:
        await call.run()
    assert scope.cancelled_caught
    assert call.end is End.PROPER


@pytest.mark.anyio
async def test_a_thread_is_told_at_its_next_send() -> None:
    told: list[Exception] = []

    def handler(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            try:
                while True:
                    writer.send_event("1")
                    time.sleep(0.001)
            except Exception as error:
                told.append(error)
                raise

    call = Call(only(handler))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await until(lambda: call.sent and call.body)
        call.put.send_nowait({"type": "http.disconnect"})
    assert type(told[0]).__name__ == "WriterClosed"


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError("closed")], ids=["OSError", "another"])
async def test_a_send_that_fails_cancels_the_stream(error: Exception) -> None:
    records: list[Record] = []

    class Failing(Call):
        async def send(self, message: Any) -> None:
            if message.get("body"):
                raise error
            await super().send(message)

    with anyio.fail_after(10):
        await Failing(only(forever, trace=records.append)).run()
    assert (records[-1].step, records[-1].reason) == ("disconnect", "client_gone")


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError("refused")], ids=["OSError", "another"])
async def test_a_head_that_cant_be_sent_ends_the_exchange(error: Exception) -> None:
    records: list[Record] = []

    class Failing(Call):
        async def send(self, message: Any) -> None:
            raise error

    with anyio.fail_after(10):
        await Failing(only(forever, trace=records.append)).run()
    assert records[-1].after == "closed"
    assert records[-1].reason == ("client_gone" if isinstance(error, OSError) else "error")


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["awaited", "generated"])
async def test_what_a_middleware_raises_at_the_head_is_what_is_told(way: str, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Call):
        async def send(self, message: Any) -> None:
            if message["type"] == "http.response.start":
                raise RuntimeError("the middleware's own")
            await super().send(message)

    app = H3App()

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        event.start_sse()
        for _ in range(2):
            with suppress(WriteError):
                await event.await_sse_writer()

    @app.sse("/generated", commit_after=0)
    async def generated(event: H3Event) -> AsyncIterator[str]:
        await anyio.sleep(60)
        yield "late"

    with anyio.fail_after(10):
        await Failing(ASGIApp(app), path=f"/{way}").run()
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "raised WriteError" in told.getMessage()
    assert "the middleware's own" in caplog.text
    assert "set_stream_callback" not in caplog.text


@pytest.mark.anyio
async def test_what_is_sent_while_the_server_takes_the_head_comes_behind_it() -> None:
    on_its_way, go_on = anyio.Event(), anyio.Event()

    class Slow(Call):
        async def send(self, message: Any) -> None:
            if message["type"] == "http.response.start":
                on_its_way.set()
                await go_on.wait()
            await super().send(message)

    async def handler(event: H3Event) -> None:
        async def early() -> None:
            await on_its_way.wait()
            writer = event.get_sse_writer()
            for number in range(3):
                await writer.send_event(str(number))
            go_on.set()
            await writer.flush()
            assert stream_of(writer).connection.buffered == 0

        event.start_sse()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(early)
            await event.await_sse_writer()

    call = Slow(only(handler))
    with anyio.fail_after(10):
        await call.run()
    assert [message["type"] for message in call.sent[:2]] == ["http.response.start", "http.response.body"]
    assert (call.status, call.body, call.end) == (200, b"data: 0\n\ndata: 1\n\ndata: 2\n\n", End.PROPER)


@pytest.mark.anyio
@pytest.mark.parametrize("shield", [False, True], ids=["", "though it shields itself"])
@pytest.mark.parametrize("taken", [0, 1, 2], ids=["no head", "no answer", "nothing more"])
async def test_a_server_that_takes_no_more_is_given_up(taken: int, shield: bool) -> None:
    returned = anyio.Event()

    class Stuck(Call):
        async def send(self, message: Any) -> None:
            if len(self.sent) >= taken and (taken == 0 or message.get("body")):
                with anyio.CancelScope(shield=shield):
                    await returned.wait()
            await super().send(message)

    async def handler(event: H3Event) -> None:
        if taken == 1:
            event.send_text("hello")
            return
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")
            await writer.flush()
            await writer.send_event("2")

    call = Stuck(only(handler, limits=Limits(close_timeout=0.05, send_timeout=0.05)))
    try:
        with anyio.fail_after(10, shield=True):
            await call.run()
        assert len(call.sent) == taken
        assert not taken or call.end is End.CUT
    finally:
        returned.set()


@pytest.mark.anyio
async def test_a_receive_that_raises_is_a_client_that_left() -> None:
    records: list[Record] = []
    call = Call(only(forever, trace=records.append))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await until(lambda: call.sent and call.body)
        call.put.send_nowait(RuntimeError("closed"))
    assert records[-1].reason == "client_gone"


@pytest.mark.anyio
@pytest.mark.parametrize("starts", ["before", "after"])
async def test_the_body_and_the_disconnect_come_by_one_receiver(starts: str) -> None:
    bodies: list[bytes] = []

    async def handler(event: H3Event) -> None:
        if starts == "before":
            event.start_sse()
        bodies.append(await event.read_body())
        if starts == "after":
            event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")
            await anyio.sleep_forever()

    call = Call(only(handler), "POST", {"content-length": "4"})
    call.put.send_nowait({"type": "http.request", "body": b"ab", "more_body": True})
    call.put.send_nowait({"type": "http.request", "body": b"cd"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await until(lambda: call.sent and call.body)
        call.put.send_nowait({"type": "http.disconnect"})
    assert bodies == [b"abcd"]
    assert call.sent[-1]["more_body"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limit", "value", "status"), [("body_timeout", 0.05, 408), ("body_size", 3, 413)], ids=["late", "large"]
)
async def test_a_body_has_its_limits_under_a_server_too(limit: str, value: Any, status: int) -> None:
    async def handler(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    app = only(handler, limits=Limits(**{limit: value}))
    call = Call(app, "POST", {"transfer-encoding": "chunked"})
    call.put.send_nowait({"type": "http.request", "body": b"abcd", "more_body": True})
    with anyio.fail_after(10):
        await call.run()
    assert call.status == status
    assert app.service.refused == {limit: 1}


@pytest.mark.anyio
async def test_a_body_that_nobody_reads_is_thrown_away_and_the_disconnect_seen() -> None:
    call = Call(only(forever), "POST", {"transfer-encoding": "chunked"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await until(lambda: call.sent and call.body)
        for _ in range(50):
            call.put.send_nowait({"type": "http.request", "body": b"x", "more_body": True})
        call.put.send_nowait({"type": "http.disconnect"})
    assert call.sent[-1]["more_body"]


@pytest.mark.anyio
@pytest.mark.parametrize("length", ["0", "4"], ids=["no body", "an unread body"])
async def test_a_client_that_leaves_before_the_headers_is_noticed(length: str) -> None:
    cancelled = anyio.Event()

    async def handler(event: H3Event) -> None:
        event.start_sse()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    call = Call(only(handler), "POST", {"content-length": length})
    call.put.send_nowait({"type": "http.request", "body": b"x" * int(length)})
    call.put.send_nowait({"type": "http.disconnect"})
    with anyio.fail_after(10):
        await call.run()
        await cancelled.wait()
    assert (call.status, call.body) == (499, b""), "for a middleware that waits for an answer"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers", [{"content-length": "9"}, {"transfer-encoding": "chunked"}], ids=["told", "chunked"]
)
async def test_a_body_that_is_too_large_is_a_413(headers: dict[str, str]) -> None:
    async def handler(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    call = Call(only(handler, limits=Limits(body_size=8)), "POST", headers)
    call.put.send_nowait({"type": "http.request", "body": b"123456789", "more_body": True})
    await call.run()
    assert call.status == 413


@pytest.mark.anyio
async def test_a_body_takes_no_more_room_than_its_size_however_small_its_pieces_are() -> None:
    pieces, room = 20_000, [0]

    async def handler(event: H3Event) -> None:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        body = await event.read_body()
        room[0] = tracemalloc.get_traced_memory()[1] - before
        event.send_text(str(len(body)))

    async def receive() -> dict[str, Any]:
        left[0] -= 1
        return {"type": "http.request", "body": bytes([left[0] % 256, 0]), "more_body": left[0] > 0}

    left = [pieces]
    call = Call(only(handler), "POST", {"transfer-encoding": "chunked"})
    call.receive = receive  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        await call.run()
    finally:
        tracemalloc.stop()
    assert call.body == str(2 * pieces).encode()
    assert room[0] < 6 * 2 * pieces


@pytest.mark.anyio
async def test_a_body_that_breaks_off_is_no_answer() -> None:
    errors: list[Exception] = []

    async def handler(event: H3Event) -> None:
        try:
            await event.read_body()
        except Exception as error:
            errors.append(error)
            raise

    call = Call(only(handler), "POST", {"content-length": "4"})
    call.put.send_nowait({"type": "http.request", "body": b"ab", "more_body": True})
    call.put.send_nowait({"type": "http.disconnect"})
    await call.run()
    assert "the client has left" in str(errors[0])


@pytest.mark.anyio
async def test_a_large_body_that_nobody_reads_does_not_hold_up_the_answer() -> None:
    app = H3App()
    app.post("/refuse", lambda event: event.send_error(403))
    async with on_hypercorn(app) as server:
        body = b"x" * 1_000_000
        request = b"POST /refuse HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        with anyio.fail_after(10):
            async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
                await stream.send(request + body)
                assert b"403" in (await stream.receive()).split(b"\r\n")[0]
                await until(lambda: not server.service.live)


@pytest.mark.anyio
async def test_a_plain_def_starts_a_stream_from_any_thread() -> None:
    def handler(event: H3Event) -> None:
        thread = threading.Thread(target=event.start_sse)  # none of anyio's worker threads
        thread.start()
        thread.join()
        event.set_stream_callback(callback)

    def callback(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")

    call = Call(only(handler))
    with anyio.fail_after(10):
        await call.run()
    assert (call.body, call.end) == (b"data: 1\n\n", End.PROPER)


@pytest.mark.anyio
@pytest.mark.parametrize("waits", [True, False], ids=["the server makes it wait", "the server takes all at once"])
@pytest.mark.parametrize("events", [0, 1, 5])
async def test_a_stream_has_a_task_beside_the_servers_and_another_only_where_a_send_waits(
    events: int, waits: bool
) -> None:
    quiet = anyio.Event()

    class Prompt(Call):
        async def send(self, message: Any) -> None:
            self.sent.append(dict(message))

    async def callback(writer: SSEWriter) -> None:
        for number in range(events):
            await writer.send_event(str(number))
            await writer.flush()
            await wait_all_tasks_blocked()
        quiet.set()
        await anyio.sleep_forever()

    def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    call = (Call if waits else Prompt)(only(handler, limits=Limits(stream_keep_alive=None, send_timeout=None)))
    before = len(anyio.get_running_tasks())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await quiet.wait()
        await wait_all_tasks_blocked()
        clock = not runs_on_asyncio()  # which needs a task until it rings
        found, expected = len(anyio.get_running_tasks()) - before, 2 + (events > 1)
        assert expected <= found <= expected + clock, "the app's call among them"
        call.put.send_nowait({"type": "http.disconnect"})
    await until(lambda: len(anyio.get_running_tasks()) == before)
    assert call.body == b"".join(b"data: %d\n\n" % number for number in range(events))
    assert [message.get("body") for message in call.sent].count(b"") == (events == 0)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("waits", [True, False], ids=["the server makes it wait", "the server takes all at once"])
async def test_a_stream_that_is_over_at_once_is_sent_by_its_own_task_in_two_messages(waits: bool) -> None:
    tasks, server = set[Any](), asyncio.current_task()

    class Prompt(Call):
        async def send(self, message: Any) -> None:
            tasks.add(asyncio.current_task())
            self.sent.append(dict(message))
            if waits:
                await anyio.lowlevel.checkpoint()

    async def handler(event: H3Event) -> None:
        tasks.add(asyncio.current_task())
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")
            await writer.send_event("2")

    call = Prompt(only(handler))
    await call.run()
    assert [message.get("body") for message in call.sent] == [None, b"data: 1\n\ndata: 2\n\n"]
    assert call.end is End.PROPER
    assert len(tasks - {server}) == 1, "the handler's own, which is not the server's"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])
@pytest.mark.parametrize("pause", [0, 1], ids=["busy", "now and then"])
async def test_events_of_a_busy_stream_join_where_the_server_may_let_wait_and_others_leave_by_themselves(
    pause: int,
) -> None:
    class LetsOneWait(Call):
        async def send(self, message: Any) -> None:
            if message.get("body") == b"data: 0\n\n":
                await anyio.lowlevel.checkpoint()
            self.sent.append(dict(message))

    async def callback(writer: SSEWriter) -> None:
        for number in range(30):
            await writer.send_event(str(number))
            await anyio.sleep(pause)

    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    call = LetsOneWait(only(handler))
    await call.run()
    assert call.body == b"".join(b"data: %d\n\n" % number for number in range(30))
    messages = [message for message in call.sent if message.get("body")]
    assert len(messages) == 30 if pause else len(messages) <= 15


@pytest.mark.parametrize(
    ("headers", "announced"),
    [
        ([(b"Content-Length", b"0")], False),
        ([[b"content-length", bytearray(b"7")]], True),
        ([(memoryview(b"CONTENT-LENGTH"), b"7")], True),
        ([(b"Transfer-Encoding", b"chunked")], True),
        ([(b"content-length", b"0"), (b"transfer-encoding", b"chunked")], True),
        ([(b"x-custom-length", b"7"), (b"x-transfer-encode", b"7")], None),
        ([], None),
    ],
)
def test_headers_are_read_as_the_scope_has_them(headers: list[Any], announced: bool | None) -> None:
    read = ScopeHeaders(headers)
    assert read.announce_body() is announced
    assert list(read) == [(bytes(name).lower(), bytes(value)) for name, value in headers]
    assert len(read) == len(headers)
    assert list(read[:1]) == list(read)[:1]


class Owner:
    """A request that counts how often its client was said to have left."""

    limits = Limits()
    can_cut = True

    def __init__(self, task: int) -> None:
        self.task = task
        self.context = copy_context()
        self.losses = 0

    def note(self) -> None: ...

    def opened(self) -> None: ...

    def lost(self) -> None:
        self.losses += 1


def connection_with(send: Any, *, task: int = 0) -> ASGIConnection:
    return ASGIConnection(send, Owner(task), turns=Cleanup(None, 5.0, lambda: None))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends())
@pytest.mark.parametrize("takes", [True, False])
async def test_an_end_that_the_server_makes_wait_is_not_cancelled_and_is_given_up_in_time(takes: bool) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await anyio.sleep(1.0 if takes else 60.0)
        sent.append(message)

    connection = connection_with(send, task=current_task_id())
    assert connection.can_end
    begun = anyio.current_time()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await connection.close()
    assert anyio.current_time() - begun == pytest.approx(1.0 if takes else Limits().close_timeout)
    assert [message["more_body"] for message in sent] == ([False] if takes else [])
    assert not connection.can_end, "it is over"


@pytest.mark.anyio
@pytest.mark.parametrize("waits", [False, True])
async def test_a_server_that_refuses_the_end_is_a_client_that_left(
    waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def send(message: Any) -> None:
        if waits:
            await anyio.lowlevel.checkpoint()
        raise ValueError("not now")

    owner = Owner(current_task_id())
    connection = ASGIConnection(send, owner, turns=Cleanup(None, 5.0, lambda: None))
    await connection.close()
    assert owner.losses == 1
    assert "the server refused a message: ValueError('not now')" in caplog.text


class Flow:
    """Uvicorn's, of a connection whose client reads."""

    write_paused = False


class Streaming:
    """A connection under uvicorn, and code that streams through it; each message with the task that has sent it."""

    def __init__(self, server: Callable[[bytes], Any] | None = None) -> None:
        self.sent: list[tuple[bytes, bool]] = []
        self.server = server
        self.turns = Cleanup(None, 5.0, lambda: None)
        self.task = current_task_id()
        self.connection = ASGIConnection(self.send, Owner(self.task), turns=self.turns, flow=Flow())

    async def send(self, message: Any) -> None:
        if self.server is not None:
            await self.server(message["body"])
        self.sent.append((message["body"], current_task_id() == self.task))

    def write(self, *events: bytes) -> None:
        for event in events:
            self.connection.write_chunk(event)

    def start(self, code: Callable[[], Any]) -> asyncio.Task[None]:
        """Run the code in a task of its own."""

        async def run() -> None:
            self.task = current_task_id()
            await self.turns.run(code())

        return asyncio.get_running_loop().create_task(run())


on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.mark.anyio
@on_asyncio
async def test_what_has_joined_leaves_in_the_task_that_streams_when_that_waits(anyio_backend: str) -> None:
    stream = Streaming()

    async def code() -> None:
        stream.write(b"1", b"2", b"3")
        assert not stream.sent
        await anyio.lowlevel.checkpoint()
        assert stream.sent == [(b"123", True)]
        stream.write(b"4")
        await stream.connection.flush()
        assert stream.sent[1:] == [(b"4", True)]
        stream.write(b"5")

    await stream.turns.run(code())
    await stream.connection.close()
    assert stream.sent[2:] == [(b"5", True)]


@pytest.mark.anyio
@on_asyncio
async def test_the_code_waits_only_when_what_has_joined_was_taken(anyio_backend: str) -> None:
    taken = anyio.Event()

    async def server(body: bytes) -> None:
        if body == b"12":
            await taken.wait()

    stream = Streaming(server)

    async def code() -> None:
        stream.write(b"1", b"2")
        await anyio.lowlevel.checkpoint()
        assert taken.is_set()
        stream.write(b"3")
        await stream.connection.flush()

    running = stream.start(code)
    await wait_all_tasks_blocked()
    assert not stream.sent
    taken.set()
    await running
    assert stream.sent == [(b"12", True), (b"3", False)], "once a server has made one wait, the helper sends"


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("by", ["its task", "its scope"])
@pytest.mark.parametrize("waits_for", ["a task", "a turn of the loop", "what is there by then"])
async def test_a_cancellation_while_it_is_taken_reaches_what_the_code_waits_for(
    waits_for: str, by: str, anyio_backend: str
) -> None:
    seen: list[str] = []
    is_there = anyio.Event()

    async def server(body: bytes) -> None:
        seen.append("server")
        if seen == ["server"]:  # it takes the second call
            await anyio.sleep_forever()

    async def inner() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("inner")

    async def code() -> None:
        stream.write(b"1", b"2")
        try:
            if waits_for == "a task":
                await asyncio.get_running_loop().create_task(inner())
            elif waits_for == "a turn of the loop":
                await asyncio.sleep(0)
            else:
                await is_there.wait()
        except asyncio.CancelledError:
            seen.append("code")
            if by == "its scope":  # that of the task itself gives no time
                await anyio.sleep(0.001)
                seen.append("cleaned up")
            raise

    stream = Streaming(server)
    running = stream.start(code)
    await wait_all_tasks_blocked()
    is_there.set()
    if by == "its task":
        running.cancel()
    else:
        stream.turns.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await stream.connection.flush()
    told = ["code"] if by == "its task" else ["code", "cleaned up"]
    assert [name for name in seen if name != "server"] == (["inner", *told] if waits_for == "a task" else told)
    assert stream.sent == [(b"12", False)], "not taken by the first call: the helper has sent it"


@pytest.mark.anyio
async def test_another_task_ends_a_stream_through_the_helper() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append((message["more_body"], current_task_id()))

    connection = connection_with(send, task=-1)
    assert not connection.can_end
    await connection.close()
    assert [more for more, _ in sent] == [False]
    assert sent[0][1] != current_task_id()


@pytest.mark.anyio
@pytest.mark.parametrize("pauses", [False, True])
async def test_what_comes_in_the_moment_of_a_cancellation_is_sent(pauses: bool) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["body"])

    connection = connection_with(send)
    connection.write_chunk(b"1")
    await connection.flush()
    await wait_all_tasks_blocked()
    if pauses:
        connection.write_chunk(b"2")
    with anyio.CancelScope() as scope:
        scope.cancel()
        if not pauses:
            connection.write_chunk(b"2")
        with anyio.move_on_after(60, shield=True):
            await connection.close()
    assert b"".join(sent) == b"12"


def test_two_event_loops_one_after_another_serve_the_same_app() -> None:
    app = asgi_app.routes

    async def once() -> bytes:
        call = Call(app, path="/blocking")
        await call.run()
        return call.body

    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(once, backend=backend) == b"data: 1\n\n"


# -- a server that makes a message wait


class Paused(Call):
    """A server that takes a message only when it is resumed, as uvicorn does whose socket is full."""

    def __init__(self, app: Any, **scope: Any) -> None:
        super().__init__(app, **scope)
        self.resumed = anyio.Event()
        self.waits = anyio.Event()

    async def send(self, message: Any) -> None:
        if message.get("body"):
            self.waits.set()
            await self.resumed.wait()
        self.sent.append(dict(message))


@pytest.mark.anyio
async def test_a_time_limit_around_a_send_that_waits_loses_nothing_and_doubles_nothing() -> None:
    expired: list[bool] = []

    class TakesOne(Paused):
        async def send(self, message: Any) -> None:
            if message.get("body") == b"data: first\n\n":
                await anyio.lowlevel.checkpoint()  # from now on it is known that it lets wait
                self.sent.append(dict(message))
            else:
                await super().send(message)

    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("first")
            with anyio.move_on_after(0.05) as limit:
                for number in range(3):
                    await writer.send_event(str(number))
                await writer.flush()
            expired.append(limit.cancelled_caught)
            call.resumed.set()
            await writer.send_event("last")

    call = TakesOne(only(handler))
    with anyio.fail_after(10):
        await call.run()
    assert expired == [True]
    told = b"".join(message.get("body", b"") for message in call.sent)
    assert told.startswith(b"data: first\n\ndata: 0\n\n")
    assert told.endswith((b"data: 0\n\ndata: last\n\n", b"data: 1\n\ndata: 2\n\ndata: last\n\n"))
    assert call.end is End.PROPER


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])
@pytest.mark.parametrize("taken", ["before", "after"])
async def test_the_first_message_that_waits_is_sent_once_whatever_limit_is_around_it(taken: str) -> None:
    """A server may take it before it lets wait, or after: nobody can tell, so that it can't be sent again."""

    class Slow(Call):
        async def send(self, message: Any) -> None:
            if taken == "before":
                self.sent.append(dict(message))
            if message.get("body"):
                await anyio.sleep(1)
            if taken == "after":
                self.sent.append(dict(message))

    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            with anyio.move_on_after(0.5):
                await writer.send_event("1")
            await writer.send_event("2")

    call = Slow(only(handler))
    with anyio.fail_after(60):
        await call.run()
    assert call.body == b"data: 1\n\ndata: 2\n\n"
    assert call.end is End.PROPER


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])
@pytest.mark.parametrize("shield", [False, True], ids=["", "though it shields itself"])
@pytest.mark.parametrize("ends", ["client", "shutdown", "server", "reader"])
async def test_a_first_message_that_waits_for_ever_holds_nobody(ends: str, shield: bool) -> None:
    waits = anyio.Event()
    events: list[H3Event] = []
    cleaned_up: list[bool] = []

    class Stuck(Call):
        async def send(self, message: Any) -> None:
            if message.get("body"):
                waits.set()
                with anyio.CancelScope(shield=shield):
                    await anyio.sleep(10_000)
            await super().send(message)

    async def handler(event: H3Event) -> None:
        events.append(event)
        event.start_sse()
        try:
            async with await event.await_sse_writer() as writer:
                await writer.send_event("1")
                await writer.flush()
                await anyio.sleep_forever()
        finally:
            with suppress(Exception):
                await anyio.sleep(1)
            cleaned_up.append(True)

    call = Stuck(only(handler))
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await waits.wait()
        if ends == "client":
            call.put.send_nowait({"type": "http.disconnect"})
        elif ends == "shutdown":
            cast(Exchange, host_of(events[0])).shut_down()
        elif ends == "server":
            tasks.cancel_scope.cancel()
    assert cleaned_up == [True]
    assert anyio.current_time() - began < 60


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["anyio's", "asyncio's"])
async def test_a_time_limit_of_a_middlewares_around_its_send_is_its_own(kind: str) -> None:
    if kind == "asyncio's" and not runs_on_asyncio():
        return
    records: list[Record] = []
    app = only(forever, trace=records.append)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def limited(message: Any) -> None:
            if kind == "anyio's":
                with anyio.fail_after(0.05):
                    await send(message)
            else:
                async with asyncio.timeout(0.05):
                    await send(message)

        await app(scope, receive, limited)

    call = Paused(middleware)
    with anyio.fail_after(10):
        await call.run()
    assert (records[-1].after, records[-1].reason) == ("closed", "client_gone")
