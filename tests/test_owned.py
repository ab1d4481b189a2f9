"""Contexts that are left in another task than they were entered in; and what is as if they were not."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import Context, ContextVar
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from h3ref import BlockingSSEWriter, EventSource, H3App, H3Event, SSEWriter, running
from h3ref._core.owned import Owned
from h3ref.adapters.memory import MemoryServer, open_memory
from h3ref.testing import AsyncTestClient, virtual_backends
from tests.conftest import require_module
from tests.waits import until

pytestmark = pytest.mark.anyio

IN_VIRTUAL_TIME = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio-virtual", "trio-virtual"])


class Streaming:
    """An app with a stream, which tells when that has begun, and how it ended."""

    def __init__(self) -> None:
        self.app = H3App()
        self.app.get("/events", self._events)
        self.app.get("/handler", self._handler)
        self.begun = anyio.Event()
        self.ended: list[str] = []

    async def _events(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self._stream)

    async def _stream(self, writer: SSEWriter) -> None:
        await writer.send_event("1")
        await self._wait("stream")

    async def _handler(self, event: H3Event) -> None:
        await self._wait("handler")

    async def _wait(self, name: str) -> None:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.ended.append(name)


Ask = Callable[[Any, str], Awaitable[Any]]
Open = Callable[[H3App], AbstractAsyncContextManager[Any]]


async def ask_server(server: Any, path: str) -> Any:
    stream = await anyio.connect_tcp("127.0.0.1", server.port)
    await stream.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return stream


async def ask_memory(server: MemoryServer, path: str) -> Any:
    return await server.request("GET", path)


async def ask_client(client: AsyncTestClient, path: str) -> Any:
    return await client.stream("GET", path)


WAYS = {"running": (running, ask_server), "open_memory": (open_memory, ask_memory)}
EVERY = {**WAYS, "AsyncTestClient": (AsyncTestClient, ask_client)}
every_way = pytest.mark.parametrize(("opened", "ask"), EVERY.values(), ids=EVERY)


async def in_a_task(function: Callable[[], Awaitable[Any]]) -> Any:
    """Run a function in a task of its own, from its first line to its last."""
    found: list[Any] = []

    async def run() -> None:
        found.append(await function())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    return found[0]


# -- two tasks


@every_way
async def test_it_is_entered_in_one_task_used_in_another_and_left_in_a_third(opened: Open, ask: Ask) -> None:
    streaming = Streaming()
    context = opened(streaming.app)
    server = await in_a_task(context.__aenter__)
    with anyio.fail_after(10):
        reply = await in_a_task(lambda: ask(server, "/events"))
        await streaming.begun.wait()
        assert streaming.ended == []
        await in_a_task(lambda: context.__aexit__(None, None, None))
    assert streaming.ended == ["stream"], "it has ended with its server"
    if hasattr(reply, "aclose"):
        await reply.aclose()
    async with opened(H3App()):
        pass  # nothing of it is left in this task


async def test_what_a_fixture_opens_around_a_test_is_closed_after_it() -> None:
    streaming, stack = Streaming(), AsyncExitStack()
    server = await in_a_task(lambda: stack.enter_async_context(running(streaming.app)))
    source = await in_a_task(lambda: stack.enter_async_context(EventSource(f"{server.url}/events")))
    client = await in_a_task(lambda: stack.enter_async_context(AsyncTestClient(streaming.app)))
    stream = await in_a_task(lambda: client.stream("GET", "/events"))
    await in_a_task(lambda: stack.enter_async_context(stream))
    with anyio.fail_after(10):
        assert (await anext(source)).data == "1"
        assert (await stream.next_event()).data == "1"
        await in_a_task(stack.aclose)
    assert streaming.ended == ["stream"] * 2


PROGRAM = """
import pytest
import pytest_asyncio
from h3ref import EventSource, running
from h3ref.adapters.memory import open_memory
from h3ref.examples.counter import app
from h3ref.testing import AsyncTestClient

@pytest_asyncio.fixture
async def server():
    async with running(app) as server:
        yield server

@pytest_asyncio.fixture
async def source(server):
    async with EventSource(f"{server.url}/events") as source:
        yield source

@pytest_asyncio.fixture
async def client():
    async with AsyncTestClient(app) as client:
        yield client

@pytest_asyncio.fixture
async def stream(client):
    async with await client.stream("GET", "/events") as stream:
        yield stream

@pytest_asyncio.fixture
async def memory():
    async with open_memory(app) as server:
        yield server

@pytest.mark.asyncio
@pytest.mark.parametrize("time", [1, 2])
async def test_events(source, stream, memory, time):
    assert (await anext(source)).data == "0"
    assert (await stream.next_event()).data == "0"
    assert b"data: 0" in await (await memory.request("GET", "/events")).receive()
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_fixtures_of_pytest_asyncio_may_hold_each_of_them(anyio_backend: str, tmp_path: Path) -> None:
    require_module("pytest_asyncio", "pytest-asyncio")
    (tmp_path / "test_fixtures.py").write_text(PROGRAM)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path)]
    done = await anyio.run_process(command, cwd=tmp_path, check=False, stderr=subprocess.STDOUT)
    assert "2 passed" in done.stdout.decode(), done.stdout.decode()


# -- cancellation from outside


@every_way
@pytest.mark.parametrize("path", ["/events", "/handler"])
async def test_who_is_cancelled_cancels_what_it_serves_at_once(opened: Open, ask: Ask, path: str) -> None:
    streaming = Streaming()
    options = {"grace": 600} if opened is running else {}
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as others:
            with anyio.CancelScope() as scope:
                async with opened(streaming.app, **options) as server:
                    others.start_soon(_asking, ask, server, path)
                    await streaming.begun.wait()
                    tasks.start_soon(_cancel, scope)
                    await anyio.sleep_forever()
            assert scope.cancelled_caught
            assert streaming.ended == [path.strip("/").replace("events", "stream")]
            others.cancel_scope.cancel()


async def _asking(ask: Ask, server: Any, path: str) -> None:
    reply = await ask(server, path)
    try:
        await anyio.sleep_forever()
    finally:
        if hasattr(reply, "aclose"):
            await anyio.aclose_forcefully(reply)


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()


@IN_VIRTUAL_TIME
async def test_who_is_cancelled_while_it_enters_leaves_nothing() -> None:
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await anyio.sleep_forever()  # and never says that it has started
        finally:
            said.append("over")

    began = anyio.current_time()
    with anyio.move_on_after(1) as scope:
        async with AsyncTestClient(app):
            raise AssertionError("it has not started")
    assert scope.cancelled_caught
    assert (said, anyio.current_time() - began) == (["over"], 1)


@IN_VIRTUAL_TIME
async def test_who_is_cancelled_while_it_leaves_waits_no_longer_than_the_cleanup() -> None:
    said: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        yield
        try:
            await anyio.sleep(3600)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
            said.append("cleaned up")

    began = anyio.current_time()
    with anyio.move_on_after(1) as scope:
        async with Owned(slow()):
            pass
    assert scope.cancelled_caught
    assert (said, anyio.current_time() - began) == (["cleaned up"], 3)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_asyncio_cancels_cancels_what_it_serves(anyio_backend: str) -> None:
    streaming = Streaming()

    async def serve() -> None:
        async with running(streaming.app, grace=600) as server, await ask_server(server, "/handler"):
            await anyio.sleep_forever()

    task = asyncio.create_task(serve())
    with anyio.fail_after(10):
        await streaming.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert streaming.ended == ["handler"]


# -- exceptions


@every_way
async def test_what_the_body_raises_is_raised_and_streams_end(opened: Open, ask: Ask) -> None:
    streaming, replies = Streaming(), list[Any]()

    async def serve() -> None:
        async with opened(streaming.app) as server:
            replies.append(await ask(server, "/events"))
            await streaming.begun.wait()
            raise ZeroDivisionError

    with anyio.fail_after(10), pytest.raises(ZeroDivisionError) as caught:
        await serve()
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert streaming.ended == ["stream"]
    for reply in replies:
        if hasattr(reply, "aclose"):
            await reply.aclose()


@asynccontextmanager
async def failing(fails: anyio.Event) -> AsyncIterator[str]:
    async def fail() -> None:
        await fails.wait()
        raise KeyError("a task of the server's")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        yield "value"


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_failure_of_its_own_is_told_and_raised_on_leaving(
    swallows: bool, anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    fails, said = anyio.Event(), list[str]()

    async def serve() -> None:
        async with Owned(failing(fails)) as value:
            assert value == "value"
            fails.set()
            await until(lambda: anyio_backend == "asyncio" or caplog.records)
            if anyio_backend == "asyncio":  # whose tasks can cancel one another
                try:
                    await anyio.sleep_forever()
                except asyncio.CancelledError:
                    said.append("cancelled")
                    if not swallows:
                        raise

    with anyio.fail_after(10):
        with pytest.raises(ExceptionGroup) as caught:
            await serve()
        await anyio.lowlevel.checkpoint()  # and is no longer cancelled
    assert [repr(error) for error in caught.value.exceptions] == ['KeyError("a task of the server\'s")']
    assert caplog.messages == ["a background task has failed by itself, and has ended"]
    if anyio_backend == "asyncio":
        task = asyncio.current_task()
        assert task is not None
        assert (said, task.cancelling()) == (["cancelled"], 0)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_an_interrupt_that_meets_a_task_of_it_reaches_the_program(anyio_backend: str) -> None:
    @asynccontextmanager
    async def interrupted() -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_raise_interrupt)
            yield

    async def serve() -> None:
        async with Owned(interrupted()):
            await until(lambda: seen)

    seen = list[int]()
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with pytest.raises(BaseExceptionGroup) as caught:
            await serve()
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(caught.value.exceptions[0], KeyboardInterrupt)
    assert seen == [signal.SIGINT]


async def _raise_interrupt() -> None:
    raise KeyboardInterrupt


async def test_a_failure_that_no_task_can_be_told_of_is_raised_on_leaving() -> None:
    fails = anyio.Event()
    context = Owned(failing(fails))
    await in_a_task(context.__aenter__)
    fails.set()
    with anyio.fail_after(10):
        await context._over.wait()
        await anyio.lowlevel.checkpoint()
        with pytest.raises(ExceptionGroup) as caught:
            await context.__aexit__(None, None, None)
    assert isinstance(caught.value.exceptions[0], KeyError)


async def test_a_failure_to_enter_is_raised_there_and_as_it_is() -> None:
    @asynccontextmanager
    async def refuses() -> AsyncIterator[None]:
        await anyio.lowlevel.checkpoint()
        raise KeyError("no")
        yield

    with pytest.raises(KeyError, match="no"):
        async with Owned(refuses()):
            raise AssertionError("it was not entered")


# -- an end that nobody brings, and the values of context variables


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_where_nobody_leaves_it_ends_with_the_event_loop(backend: Any) -> None:
    said: list[str] = []

    @asynccontextmanager
    async def noted() -> AsyncIterator[None]:
        try:
            yield
        finally:
            said.append("over")

    async def main() -> None:
        context = Owned(noted())
        await in_a_task(context.__aenter__)
        said.append("main is over")

    anyio.run(main, backend=backend)
    assert said == ["main is over", "over"]


async def leaves_a_thread(server: Any) -> None:
    """Open a stream whose thread waits, and leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /waits HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b"data: 1" in await reader.readuntil(b"data: 1\n\n")
    writer.close()
    while server.stats().streams:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def reads_slowly(server: Any) -> None:
    """Read so little at a time that the system takes a part of what waits, again and again."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        await loop.sock_sendall(sock, b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
        received = 0
        while received < 20_000_000:
            received += len(await loop.sock_recv(sock, 65536))


@pytest.mark.parametrize("client", [leaves_a_thread, reads_slowly])
def test_under_asyncio_run_callbacks_of_the_loop_know_where_they_are(
    client: Callable[[Any], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    app, go_on = H3App(), threading.Event()

    @app.get("/waits")
    def waits(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(wait)

    def wait(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        go_on.wait()

    @app.get("/large")
    def large(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(send)

    async def send(writer: SSEWriter) -> None:
        await writer.send_event("x" * 20_000_000)

    async def main() -> None:
        async with running(app) as server:
            try:
                await asyncio.wait_for(client(server), 20)
            finally:
                go_on.set()

    Context().run(asyncio.run, main())  # anyio's plugin has set values in the tests' own
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_inside_it_the_values_are_those_of_who_entered() -> None:
    value: ContextVar[str] = ContextVar("value")

    @asynccontextmanager
    async def seeing() -> AsyncIterator[str]:
        seen = value.get()
        value.set("inside")
        yield seen

    value.set("outside")
    async with Owned(seeing()) as seen:
        assert (seen, value.get()) == ("outside", "outside")
        value.set("body")
    assert value.get() == "body"
