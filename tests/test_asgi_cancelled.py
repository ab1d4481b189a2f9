"""Who is cancelled under an ASGI server: by the server, once or again, by a middleware's own scope, or by its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from h3ref import H3App, H3Event, Limits
from h3ref.adapters.asgi import ASGIApp, EventSourceResponse
from h3ref.connection import End
from h3ref.lab.check import check
from h3ref.lab.recorder import Recorder
from h3ref.testing import virtual_backends
from tests.asgi_servers import on_uvicorn
from tests.test_asgi import Call
from tests.waits import runs_on_asyncio, until

pytestmark = pytest.mark.anyio

VIRTUAL = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])
UVICORN = pytest.mark.parametrize("anyio_backend", ["asyncio"])
WAYS = pytest.mark.parametrize("way", ["EventSourceResponse", "H3App"])
Generate = Callable[[], AsyncGenerator[Any, None]]


def application(way: str, generate: Generate) -> Any:
    """An ASGI application whose every answer is the generator's stream."""
    if way == "H3App":
        h3app = H3App()

        @h3app.sse("/")
        async def stream(event: H3Event) -> AsyncGenerator[Any, None]:
            async with aclosing(generate()) as items:
                async for item in items:
                    yield item

        return ASGIApp(h3app)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(generate())(scope, receive, send)

    return app


async def forever() -> AsyncGenerator[Any, None]:
    number = 0
    while True:
        yield str(number := number + 1)
        await anyio.sleep(0.01)


# -- by the server


async def test_a_call_that_is_cancelled_before_it_has_begun_is_recorded_from_its_request_on() -> None:
    """As a server does that gives up a request together with its connection."""
    app, recorder = H3App(), Recorder()

    @app.get("/")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    call = Call(ASGIApp(app, trace=recorder))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call.run()
    assert check(recorder.recording, whole=True) is None
    assert recorder.recording[0].step == "request"


class Cleaning:
    """A generator that waits while it cleans up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.began = anyio.Event()
        self.cleans = anyio.Event()
        self.is_clean = False

    async def __call__(self) -> AsyncGenerator[Any, None]:
        try:
            self.began.set()
            yield "1"
            await anyio.sleep_forever()
        finally:
            self.cleans.set()
            await anyio.sleep(self._seconds)
            self.is_clean = True


class Cancelled:
    """A call that can be cancelled more than once: on trio by one scope around the other."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.is_over = anyio.Event()
        self._scopes = [anyio.CancelScope(), anyio.CancelScope()]
        self._task: asyncio.Task[Any] | None = None
        self.was_cancelled = False

    async def run(self) -> None:
        self._task = asyncio.current_task() if runs_on_asyncio() else None
        outer, inner = self._scopes
        try:
            with outer, inner:
                await self.call.run()
        except asyncio.CancelledError:
            self.was_cancelled = True
        else:
            self.was_cancelled = outer.cancelled_caught or inner.cancelled_caught
        finally:
            self.is_over.set()

    def cancel(self, number: int) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._scopes[1 - number].cancel()


@VIRTUAL
@WAYS
async def test_a_second_cancellation_ends_a_cleanup_at_once_where_there_is_such_a_thing(way: str) -> None:
    cleaning = Cleaning(60)
    cancelled = Cancelled(Call(application(way, cleaning)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancelled.run)
        await until(lambda: len(cancelled.call.sent) > 1)
        cancelled.cancel(0)
        await cleaning.cleans.wait()
        began = anyio.current_time()
        await anyio.sleep(1)
        assert not cancelled.is_over.is_set(), "the first lets it clean up"
        cancelled.cancel(1)
        await cancelled.is_over.wait()
    seconds = anyio.current_time() - began
    # On trio a cancellation lasts, and none comes through the shield that the first has brought.
    assert seconds == pytest.approx(1 if runs_on_asyncio() else Limits().cleanup_timeout, abs=0.1)
    assert cancelled.was_cancelled
    assert not cleaning.is_clean
    assert (cancelled.call.body, cancelled.call.end) == (b"data: 1\n\n", End.PROPER)


@VIRTUAL
@WAYS
@pytest.mark.parametrize("turns", range(-1, 5))
async def test_one_cancellation_leaves_the_time_to_clean_up_whenever_it_comes(way: str, turns: int) -> None:
    cleaning = Cleaning(3)
    cancelled = Cancelled(Call(application(way, cleaning)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancelled.run)
        if turns >= 0:
            await cleaning.began.wait()
        for _ in range(abs(turns)):
            await anyio.lowlevel.checkpoint()
        cancelled.cancel(0)
        await cancelled.is_over.wait()
    assert cancelled.was_cancelled
    assert cleaning.is_clean is cleaning.began.is_set()


# -- by a middleware's own scope, where uvicorn takes what is sent directly


class Reader:
    """A client that reads when it is told."""

    def __init__(self, sock: anyio.abc.SocketStream) -> None:
        self._sock = sock
        self.received = b""

    async def read(self) -> bytes:
        with anyio.fail_after(20):
            async with self._sock:
                try:
                    while True:
                        self.received += await self._sock.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return self.received


async def connected(port: int) -> Reader:
    sock = await anyio.connect_tcp("127.0.0.1", port)
    await sock.send(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    return Reader(sock)


def serving(app: Any) -> Any:
    async def http(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)

    return on_uvicorn(http, bare=True, config={"lifespan": "off"})


@UVICORN
@WAYS
@pytest.mark.parametrize("kind", ["move_on_after", "fail_after"])
async def test_a_middlewares_time_limit_around_the_app_ends_its_stream_properly(way: str, kind: str) -> None:
    limits: list[anyio.CancelScope] = []
    app = application(way, forever)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        try:
            with getattr(anyio, kind)(0.2) as limit:
                limits.append(limit)
                await app(scope, receive, send)
        except TimeoutError:
            assert kind == "fail_after"

    async with serving(middleware) as server:
        for number in range(2):
            received = await (await connected(server.port)).read()
            assert b"data: 1\n\n" in received
            assert received.endswith(b"0\r\n\r\n")
            await until(lambda: not server.calls)
            assert limits[number].cancelled_caught


BLOCK = "x" * 100_000
NUMBERS = re.compile(rb"data: (\d+)x")


@UVICORN
@WAYS
@pytest.mark.parametrize("kind", ["move_on_after", "fail_after"])
async def test_a_middlewares_time_limit_around_a_send_that_waits_is_its_own(
    way: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    expired = anyio.Event()
    limit = {"seconds": 0.05}

    async def flood() -> AsyncGenerator[Any, None]:
        for number in range(1000):
            yield f"{number}{BLOCK}"
            if expired.is_set() and number > 50:
                return

    app = application(way, flood)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def limited(message: Any) -> None:
            try:
                with getattr(anyio, kind)(limit["seconds"]) as scope:
                    await send(message)
            finally:
                if scope.cancelled_caught or scope.cancel_called:
                    limit["seconds"] = 20
                    expired.set()

        await app(scope, receive, limited)

    async with serving(middleware) as server:
        reader = await connected(server.port)
        with anyio.fail_after(20):
            await expired.wait()
        received = await reader.read()
        await until(lambda: not server.calls)
    numbers = [int(number) for number in NUMBERS.findall(received)]
    assert numbers == sorted(set(numbers)), "in order, and none twice"
    assert received.endswith(b"0\r\n\r\n") is (kind == "move_on_after"), "a send that raises is a client that left"
    assert "cancel scope" not in caplog.text


# -- by its own


@UVICORN
async def test_a_time_limit_of_ones_own_around_each_send_loses_nothing_that_was_taken() -> None:
    app, cut_off, taken, full = H3App(), list[int](), list[int](), anyio.Event()

    @app.get("/")
    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            for number in range(300):
                with anyio.move_on_after(0.02) as limit:
                    await writer.send_event(f"{number}{BLOCK}")
                    taken.append(number)
                if limit.cancelled_caught:
                    cut_off.append(number)
                    full.set()
                if len(cut_off) > 3:
                    break
            await writer.send_event("last")

    async with on_uvicorn(app) as server:
        reader = await connected(server.port)
        with anyio.fail_after(20):
            await full.wait()
            await until(lambda: len(cut_off) > 3)
        received = await reader.read()
        await until(lambda: not server.calls)
    numbers = [int(number) for number in NUMBERS.findall(received)]
    assert numbers == sorted(set(numbers)), "in order, and none twice"
    assert set(taken) <= set(numbers)
    assert b"data: last\n\n" in received
    assert received.endswith(b"0\r\n\r\n")
