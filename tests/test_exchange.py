"""What an exchange must survive: cancellations that are not its own, hooks on threads, adapters that misbehave."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import (
    BlockingSSEWriter,
    ConnectionLost,
    H3App,
    H3Error,
    H3Event,
    Limits,
    SSEWriter,
    WriterClosed,
    running,
)
from h3ref._core.exchange import Exchange
from h3ref.adapters.memory import MemoryConnection, open_memory
from h3ref.connection import End, StreamHead
from tests.clients import open_client, raw, server_of
from tests.waits import until

pytestmark = pytest.mark.anyio


def app_of(handler: Callable[..., Any], **routes: Callable[..., Any]) -> H3App:
    """An app with a handler at /stream, others by their names, and one that says hello."""
    app = H3App()
    app.get("/stream", handler)
    for name, other in routes.items():
        app.get(f"/{name}", other)
    app.get("/hello", lambda event: event.send_text("hello"))
    return app


def streaming(callback: Callable[..., Any]) -> H3App:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    return app_of(handler)


class Panic(BaseException):
    """No Exception, as what a library in another language raises in place of its own end."""


def several() -> BaseException:
    """What no task group of anyio's raises, but others may: a cancellation of nobody's among errors."""
    return BaseExceptionGroup("several", [asyncio.CancelledError(), ValueError("the fault")])


class Panicking:
    """Raises where a test says, and answers and streams otherwise."""

    def __init__(self) -> None:
        self.place = ""
        self.error: BaseException = Panic()
        self.app = app_of(self.handler, on_thread=self.on_thread, callback=self.callback, awaited=self.awaited)
        self.app.sse("/generated")(self.generated)
        self.app.on_request(self.request_hook)
        self.app.on_response(self.response_hook)
        self.app.on_error(self.error_hook)
        self.app.on_error(self.error_hook_on_thread)

    def at(self, place: str) -> None:
        if self.place == place:
            raise self.error

    async def request_hook(self, event: H3Event) -> None:
        self.at("request hook")

    async def response_hook(self, event: H3Event) -> None:
        self.at("response hook")

    async def error_hook(self, event: H3Event, error: Exception) -> None:
        assert isinstance(error, Exception)
        self.at("error hook")

    def error_hook_on_thread(self, event: H3Event, error: Exception) -> None:
        self.at("error hook on a thread")

    async def handler(self, event: H3Event) -> None:
        self.at("handler")
        raise KeyError("the first fault")

    def on_thread(self, event: H3Event) -> None:
        self.at("handler")

    async def stream(self, writer: SSEWriter) -> None:
        await writer.send_event("1")
        self.at("stream")

    async def callback(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self.stream)

    async def awaited(self, event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await self.stream(writer)

    async def generated(self, event: H3Event) -> AsyncIterator[str]:
        yield "1"
        self.at("stream")


PANICS = (
    ("request hook", "/stream", 500),
    ("handler", "/stream", 500),
    ("handler", "/on_thread", 500),
    ("error hook", "/stream", 500),
    ("error hook on a thread", "/stream", 500),
    ("response hook", "/callback", 500),
    ("stream", "/callback", 200),
    ("stream", "/awaited", 200),
    ("stream", "/generated", 200),
)


@pytest.mark.parametrize("make", [Panic, several])
async def test_what_is_no_exception_fails_one_exchange_and_no_other(
    adapter: str, anyio_backend: Any, make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    panicking = Panicking()
    panicking.error = make()
    async with open_client(adapter, panicking.app) as client:
        for place, path, status in PANICS:
            caplog.clear()
            panicking.place = place
            with anyio.fail_after(10):
                reply = await client.request("GET", path)
                body = await reply.read()
            assert (reply.status, reply.end) == (status, End.PROPER if status == 500 else End.CUT), (place, path)
            assert body == (b"Internal Server Error" if status == 500 else b"data: 1\n\n"), (place, path)
            assert type(panicking.error).__name__ in caplog.text, (place, path)
        panicking.place = ""
        reply = await client.request("GET", "/hello")
        assert await reply.read() == b"hello"
        await until(lambda: not server_of(client).service.live)
        assert server_of(client).service.stats().closed["error"] == len(PANICS)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_error_hook_that_awaits_what_was_cancelled_changes_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: H3Event) -> None:
        raise KeyError("the fault")

    app = app_of(handler)

    @app.on_error
    async def hook(event: H3Event, error: Exception) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with open_memory(app) as server:
        reply = await server.request("GET", "/stream")
        assert (reply.status, await reply.read()) == (500, b"Internal Server Error")
        await until(lambda: not server.service.live)
        assert server.stats().closed["error"] == 1
    assert "KeyError" in caplog.text
    assert "hook" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_somebody_else_cancelled_fails_one_exchange_and_no_other() -> None:
    async def await_cancelled() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def handler(event: H3Event) -> None:
        await await_cancelled()

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await await_cancelled()

    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async with open_memory(app_of(handler, later=stream)) as server:
        assert (await server.request("GET", "/stream")).status == 500
        reply = await server.request("GET", "/later")
        assert (await reply.read(), reply.end) == (b"data: 1\n\n", End.CUT)
        assert await (await server.request("GET", "/hello")).read() == b"hello"


async def test_a_plain_def_hook_leaves_the_streams_thread_counted() -> None:
    release = threading.Event()
    app = H3App()

    @app.on_response
    def hook(event: H3Event) -> None:
        event.set_header("X-Hook", "1")

    @app.get("/callback")
    async def by_callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(hold)

    def hold(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        assert release.wait(30)

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            hold(writer)

    app.get("/hello", lambda event: event.send_text("hello"))
    async with open_memory(app, limits=Limits(handler_threads=1)) as server:
        replies = [await server.request("GET", path) for path in ("/callback", "/blocking", "/callback")]
        assert [await reply.receive() for reply in replies] == [b"data: 1\n\n"] * 3
        assert len(server.service.threads.streams) == 3
        with anyio.fail_after(10):
            assert await (await server.request("GET", "/hello")).read() == b"hello"
        release.set()
        for reply in replies:
            assert await reply.read() == b""
        await until(lambda: not server.service.live)
        assert len(server.service.threads.streams) == 0
        assert server.service.threads.handlers.taken == 0


async def test_one_who_pipelines_without_end_leaves_time_for_others() -> None:
    async def handler(event: H3Event) -> None:
        event.send_text("x")

    async with running(app_of(handler)) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n" * 1000)
        turns = 0
        received = b""
        while received.count(b"HTTP/1.1 200") < 1000:
            received += await stream.receive()
            turns += 1
        assert turns > 10, "the client could read before all was answered"


async def test_after_an_answer_that_was_given_up_no_other_follows() -> None:
    async def handler(event: H3Event) -> None:
        event.send_text("x" * 20_000_000)
        raise RuntimeError("after all")

    async def second(event: H3Event) -> None:
        event.send_text("SECOND")

    async with (
        running(app_of(handler, second=second), limits=Limits(close_timeout=0.05)) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(b"GET /stream HTTP/1.1\r\nHost: t\r\n\r\nGET /second HTTP/1.1\r\nHost: t\r\n\r\n")
        await until(lambda: not server.service.live and not server.open_connections)
        received = b""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                received += await stream.receive()
    assert len(received) < 20_000_000
    assert b"SECOND" not in received


async def test_the_body_must_be_read_before_the_headers_go() -> None:
    errors: list[H3Error] = []

    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            try:
                await event.read_body()
            except H3Error as error:
                errors.append(error)
            await writer.send_event("1")

    app = H3App()
    app.post("/stream", handler)
    async with running(app) as server:
        request = b"POST /stream HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        answer = await raw(server.port, request)
    assert b"100 Continue" not in answer
    assert answer.endswith(b"data: 1\n\n\r\n0\r\n\r\n")
    assert "before the stream opens" in str(errors[0])


async def test_a_slow_body_keeps_the_commit_timer_waiting() -> None:
    app = H3App()

    @app.sse("/stream", method="POST", commit_after=0.01)
    async def generated(event: H3Event) -> Any:
        yield (await event.read_body()).decode()

    async with running(app) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(b"POST /stream HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe")
        await anyio.sleep(0.05)
        await stream.send(b"llo")
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += await stream.receive()
    assert b"data: hello\n\n" in received


async def test_a_client_that_leaves_with_its_body_unsent_is_noticed() -> None:
    started, cancelled = anyio.Event(), anyio.Event()

    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(never)
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async def never(writer: SSEWriter) -> None:
        raise AssertionError("nobody is there")

    app = H3App()
    app.post("/stream", handler)
    async with running(app) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(b"POST /stream HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe")
            await started.wait()
        with anyio.fail_after(10):
            await cancelled.wait()


async def test_a_body_may_still_be_read_between_start_and_headers() -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        go_on.set()
        body = await event.read_body()
        async with await event.await_sse_writer() as writer:
            await writer.send_event(body.decode())

    go_on = anyio.Event()
    app = H3App()
    app.post("/stream", handler)
    async with running(app) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(b"POST /stream HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe")
        await go_on.wait()
        await stream.send(b"llo")
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += await stream.receive()
    assert b"data: hello\n\n" in received


async def test_who_retries_a_refused_send_for_ever_still_gives_way() -> None:
    rejected = 0

    async def callback(writer: SSEWriter) -> None:
        nonlocal rejected
        await writer.close()
        while True:
            try:
                await writer.send_event("1")
            except WriterClosed:
                rejected += 1

    async with open_memory(streaming(callback)) as server:
        assert await (await server.request("GET", "/stream")).read() == b""
        with anyio.fail_after(10):
            while rejected < 10:
                await anyio.lowlevel.checkpoint()
        for exchange in list(server.service.live):
            exchange.abandon()


async def test_who_sends_only_keep_alives_still_gives_way() -> None:
    async def callback(writer: SSEWriter) -> None:
        while True:
            await writer.send_keep_alive()

    limits = Limits(stream_buffer=1000)  # where it gives way; a larger one only takes longer to fill
    async with open_memory(streaming(callback), limits=limits) as server:
        reply = await server.request("GET", "/stream")
        with anyio.fail_after(10):
            for _ in range(3):
                assert b": keep-alive" in await reply.receive()
        reply.disconnect()


async def test_a_threads_own_close_cancels_nothing_of_its_own() -> None:
    went_on = anyio.Event()

    async def handler(event: H3Event) -> None:
        def work() -> None:
            with event.start_sse_blocking() as writer:
                writer.send_event("1")

        await anyio.to_thread.run_sync(work)
        await anyio.lowlevel.checkpoint()
        went_on.set()

    async with open_memory(app_of(handler)) as server:
        assert await (await server.request("GET", "/stream")).read() == b"data: 1\n\n"
        with anyio.fail_after(10):
            await went_on.wait()


@pytest.mark.parametrize("how", ["hangs", "raises", "spins"])
async def test_an_adapter_that_misbehaves_harms_no_other_stream(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = MemoryConnection.close

    async def close(self: MemoryConnection) -> None:
        if how == "hangs":
            await anyio.sleep_forever()
        elif how == "raises":
            raise OSError("no more descriptors")
        await original(self)

    async def drain(self: MemoryConnection) -> None:
        return None

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("x" * (70_000 if how == "spins" else 1))
        with anyio.move_on_after(0.05):
            await writer.send_event("2")

    monkeypatch.setattr(MemoryConnection, "close", close)
    if how == "spins":
        monkeypatch.setattr(MemoryConnection, "drain", drain)
    async with open_memory(streaming(callback), limits=Limits(close_timeout=0.01)) as server:
        await server.request("GET", "/stream")
        with anyio.fail_after(10):
            while server.service.live:
                await anyio.lowlevel.checkpoint()
        assert await (await server.request("GET", "/hello")).read() == b"hello"


async def test_a_mistake_of_the_handlers_own_is_logged_though_it_was_answered(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Exception] = []

    async def handler(event: H3Event) -> None:
        event.send_text("once")
        event.send_text("twice")

    app = app_of(handler)
    app.on_error(lambda event, error: told.append(error))
    async with open_memory(app) as server:
        assert await (await server.request("GET", "/stream")).read() == b"once"
    assert "ResponseAlreadySent" in caplog.text
    assert len(told) == 1


async def test_a_callback_beside_an_awaited_writer_is_refused() -> None:
    async def callback(writer: SSEWriter) -> None:
        raise AssertionError("never called")

    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)
        await event.await_sse_writer()

    async def late(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer():
            event.set_stream_callback(callback)

    async with open_memory(app_of(handler, late=late)) as server:
        reply = await server.request("GET", "/stream")
        assert reply.status == 500
        assert b"one of the two would never stream" in await reply.read()
        reply = await server.request("GET", "/late")
        assert (await reply.read(), reply.end) == (b"", End.CUT)


async def test_two_tasks_that_wait_for_the_writer_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    writers: list[SSEWriter] = []
    original = MemoryConnection.send_headers
    app = H3App()

    async def slowly(self: MemoryConnection, head: StreamHead) -> int:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        return await original(self, head)

    @app.on_response
    async def hook(event: H3Event) -> None:
        await anyio.lowlevel.checkpoint()
        event.set_header("X-Hook", "1")

    @app.get("/stream")
    async def handler(event: H3Event) -> None:
        event.start_sse()

        async def wait() -> None:
            writers.append(await event.await_sse_writer())

        async def while_the_head_is_on_its_way() -> None:
            await until(lambda: event.state == "headers_sent")
            writers.append(event.get_sse_writer())

        async with anyio.create_task_group() as tasks:
            for one in (wait, wait, while_the_head_is_on_its_way):
                tasks.start_soon(one)

    monkeypatch.setattr(MemoryConnection, "send_headers", slowly)
    async with open_memory(app) as server:
        reply = await server.request("GET", "/stream")
        assert (reply.headers["x-hook"], await reply.read(), reply.end) == ("1", b"", End.PROPER)
    assert len(writers) == 3
    assert writers[0] is writers[1] is writers[2]


async def test_a_generator_that_ends_while_the_timer_opens_is_an_empty_stream() -> None:
    app = H3App()

    @app.on_response
    async def slow(event: H3Event) -> None:
        await anyio.sleep(0.05)

    @app.sse("/stream", commit_after=0)
    async def generated(event: H3Event) -> Any:
        await anyio.sleep(0.01)
        for item in list[str]():
            yield item

    async with open_memory(app) as server:
        reply = await server.request("GET", "/stream")
        assert (reply.status, await reply.read(), reply.end) == (200, b"", End.PROPER)


async def test_a_stream_that_starts_while_the_server_ends_is_a_503() -> None:
    async def handler(event: H3Event) -> None:
        await until(lambda: not server.is_accepting)
        event.start_sse()
        event.set_stream_callback(never)

    async def never(writer: SSEWriter) -> None:
        await anyio.sleep_forever()

    answers: list[bytes] = []

    async def client(port: int) -> None:
        answers.append(await raw(port, b"GET /stream HTTP/1.1\r\nHost: t\r\n\r\n"))

    async with anyio.create_task_group() as tasks, running(app_of(handler), grace=600) as server:
        tasks.start_soon(client, server.port)
        await until(lambda: server.service.live)
    assert answers[0].startswith(b"HTTP/1.1 503")


async def test_cancelled_from_outside_the_streams_of_a_server_still_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await anyio.sleep_forever()

    async def serve(scope: anyio.CancelScope, ports: list[int]) -> None:
        with scope:
            async with running(streaming(callback)) as server:
                ports.append(server.port)
                await anyio.sleep_forever()

    scope, ports = anyio.CancelScope(), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, scope, ports)
        await until(lambda: ports)
        async with await anyio.connect_tcp("127.0.0.1", ports[0]) as stream:
            await stream.send(b"GET /stream HTTP/1.1\r\nHost: t\r\n\r\n")
            received = b""
            while b"data: 1" not in received:
                received += await stream.receive()
            scope.cancel()
            assert await stream.receive() == b"0\r\n\r\n"
    assert not caplog.records


async def test_a_thread_whose_client_has_left_before_its_callback_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    started, left, told = threading.Event(), threading.Event(), list[H3Error]()

    def handler(event: H3Event) -> None:
        event.start_sse()
        started.set()
        left.wait(30)
        try:
            event.set_stream_callback(lambda writer: None)
        except H3Error as error:
            told.append(error)
            raise

    async with open_memory(app_of(handler)) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.request, "GET", "/stream")
        await anyio.to_thread.run_sync(started.wait, 30)
        (exchange,) = server.service.live
        exchange.disconnect()
        left.set()
        with anyio.fail_after(10):
            while server.service.live:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert [type(error) for error in told] == [ConnectionLost]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
@pytest.mark.parametrize("adapter", ["memory", "h11_anyio", "asgi-hypercorn"], indirect=True)
@pytest.mark.parametrize("path", ["/stream", "/callback", "/awaited", "/blocking", "/def", "/generated"])
async def test_an_exchange_that_is_over_is_freed_without_the_garbage_collector(adapter: str, path: str) -> None:

    async def answer(event: H3Event) -> None:
        event.send_text("1")

    async def stream(writer: SSEWriter) -> None:
        await writer.send_event("1")

    async def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream)

    async def awaited(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")

    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")

    def stream_from_thread(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")

    def plain_def(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream_from_thread)

    app = app_of(answer, callback=callback, awaited=awaited, blocking=blocking, **{"def": plain_def})

    @app.sse("/generated")
    async def generated(event: H3Event) -> AsyncIterator[str]:
        yield "1"

    def exchanges() -> int:
        return sum(type(thing) is Exchange for thing in gc.get_objects())

    async with open_client(adapter, app) as client:
        gc.collect()
        gc.disable()
        before = exchanges()
        try:
            for _ in range(3):
                reply = await client.request("GET", path)
                await reply.read()
                del reply  # in memory it has its server's side
            await until(lambda: exchanges() <= before)  # fewer: those of other tests may go at any time
        finally:
            gc.enable()
