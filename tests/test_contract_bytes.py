"""The contract of every adapter, second part: bodies, clients that leave or don't read, and what is on the wire.

`test_contract` asks for the order of the steps; here is what an adapter does by itself. Each test runs on every
adapter and on both event loops. What only sockets can show, as a body that breaks off, is left out where there
are none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Error, H3Event, Limits, Reason, RequestError, SSEEvent, SSEWriter
from h3ref._core.host import Host
from h3ref.connection import End, Request
from h3ref.event import host_of
from h3ref.writer import stream_of
from tests.clients import ADAPTERS, Ability, SocketClient, SocketReply, open_client, server_of
from tests.waits import until, wait_all_tasks_blocked

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

BEAT = b": keep-alive\n\n"
BLOCK = "x" * 65536
LARGE = 16 * 1024 * 1024  # more than the system takes
MOST_BLOCKS = 2000
"""More than all buffers on the way take, the system's and a server's."""


class Seen:
    """What handlers have seen."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.requests: list[Request] = []


def an_app(callback: Callable[..., Any] | None = None, seen: Seen | None = None) -> H3App:
    """Answers with a request's body, plainly and with nothing; /stream is streamed by a callback."""
    app = H3App()

    @app.post("/echo")
    async def echo(event: H3Event) -> None:
        try:
            body = await event.read_body()
        except H3Error as error:
            if seen is not None:
                seen.errors.append(error)
            raise
        event.send_bytes(body)

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        if seen is not None:
            seen.requests.append(request_of(event))
        event.send_text("hello")

    @app.on("HEAD", "/hello")
    async def head(event: H3Event) -> None:
        event.send_text("hello")

    @app.get("/nothing")
    async def nothing(event: H3Event) -> None:
        event.set_status(204)
        event.send_bytes(b"")

    @app.get("/large")
    async def large(event: H3Event) -> None:
        event.send_bytes(bytes(LARGE))

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        if seen is not None:
            seen.requests.append(request_of(event))
        event.start_sse()
        event.set_stream_callback(callback or one_event)

    return app


def request_of(event: H3Event) -> Request:
    """The request as its adapter has told of it."""
    host = host_of(event)
    assert isinstance(host, Host)
    return host.transport.request


async def one_event(writer: SSEWriter) -> None:
    await writer.send_event("1")


async def silent(writer: SSEWriter) -> None:
    await anyio.sleep_forever()


def needs(adapter: str, ability: Ability) -> None:
    """Skip a test of what an adapter says that it lacks."""
    if ability in ADAPTERS[adapter].lacks:
        pytest.skip(f"it lacks {ability}")


async def begin(client: Any, length: int, *parts: bytes) -> SocketReply:
    """Begin a request whose body has this length, and send some of it; skip where there are no sockets."""
    if not isinstance(client, SocketClient):
        pytest.skip("without sockets a body is there at once, or there is none")
    reply = await client.begin("POST", "/echo", length=length)
    for part in parts:
        await reply.send(part)
    return reply


# -- a request's body


@pytest.mark.parametrize("size", [0, 10, 300_000])
async def test_a_body_is_read_whole(adapter: str, size: int) -> None:
    body = bytes(range(250)) * (size // 250) + bytes(size % 250)
    async with open_client(adapter, an_app()) as client:
        reply = await client.request("POST", "/echo", body=body)
        assert (reply.status, await reply.read()) == (200, body)


async def test_a_body_that_comes_in_pieces_is_read_whole(adapter: str) -> None:
    async with open_client(adapter, an_app()) as client:
        reply = await begin(client, 6, b"ab")
        for part in (b"c", b"def"):
            await wait_all_tasks_blocked()
            await reply.send(part)
        await reply.begin()
        assert (reply.status, await reply.read()) == (200, b"abcdef")


async def test_a_body_that_is_being_read_when_its_stream_opens_is_read_whole(adapter: str) -> None:
    needs(adapter, "bodies that come late")
    app = H3App()

    @app.post("/echo")
    async def handler(event: H3Event) -> None:
        bodies: list[bytes] = []

        async def read() -> None:
            bodies.append(await event.read_body())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await wait_all_tasks_blocked()
            event.start_sse()
            writer = await event.await_sse_writer()
            await writer.send_event("open")
        await writer.send_event(bodies[0].decode())
        await writer.close()

    async with open_client(adapter, app) as client:
        reply = await begin(client, 6, b"abc")
        await reply.begin()
        assert await reply.receive() == b"data: open\n\n"
        await reply.send(b"def")
        assert await reply.read() == b"data: abcdef\n\n"


async def test_a_body_as_long_as_is_allowed_is_read_and_one_byte_more_is_a_413(adapter: str) -> None:
    async with open_client(adapter, an_app(), limits=Limits(body_size=10)) as client:
        reply = await client.request("POST", "/echo", body=bytes(10))
        assert (reply.status, await reply.read()) == (200, bytes(10))
        assert (await client.request("POST", "/echo", body=bytes(11))).status == 413
        assert server_of(client).service.refused == {"body_size": 1}


async def test_a_body_that_is_far_too_long_is_a_413_that_reaches_who_still_sends(adapter: str) -> None:
    async with open_client(adapter, an_app(), limits=Limits(body_size=10)) as client:
        assert (await client.request("POST", "/echo", body=bytes(1_000_000))).status == 413


async def test_a_body_that_takes_too_long_is_a_408(adapter: str) -> None:
    needs(adapter, "bodies that come late")
    async with open_client(adapter, an_app(), limits=Limits(body_timeout=0.02)) as client:
        reply = await begin(client, 6, b"abc")
        with anyio.fail_after(10):
            await reply.begin()
        assert reply.status == 408
        assert server_of(client).service.refused == {"body_timeout": 1}


async def test_a_body_that_breaks_off_is_no_body(adapter: str) -> None:
    needs(adapter, "bodies that come late")
    seen = Seen()
    async with open_client(adapter, an_app(seen=seen)) as client:
        reply = await begin(client, 6, b"abc")
        await wait_all_tasks_blocked()
        reply.disconnect()
        await until(lambda: seen.errors)
        await until(lambda: not server_of(client).service.live)
    (error,) = seen.errors
    assert isinstance(error, RequestError)


# -- a request's head


async def test_the_names_of_headers_are_in_lower_case_and_values_as_they_came(adapter: str) -> None:
    seen = Seen()
    async with open_client(adapter, an_app(seen=seen)) as client:
        await (await client.request("GET", "/hello?A=B", headers={"X-Room": "Blue Room"})).read()
    (request,) = seen.requests
    assert (b"x-room", b"Blue Room") in [(bytes(name), bytes(value)) for name, value in request.headers]
    assert {name for name, _ in request.headers} == {bytes(name).lower() for name, _ in request.headers}
    assert (request.method, request.target) == ("GET", "/hello?A=B")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_stream_is_framed_as_the_version_of_its_request_asks(adapter: str, version: str) -> None:
    if version == "1.0":
        needs(adapter, "HTTP/1.0")
    seen = Seen()
    async with open_client(adapter, an_app(seen=seen)) as client:
        if not isinstance(client, SocketClient):
            pytest.skip("without sockets there are no versions")
        asked = f"GET /stream HTTP/{version}\r\nHost: test\r\nConnection: close\r\n\r\n"
        head, _, body = (await client.raw(asked.encode())).partition(b"\r\n\r\n")
    assert (b"transfer-encoding: chunked" in head.lower()) is (version == "1.1")
    assert body.endswith(b"0\r\n\r\n" if version == "1.1" else b"data: 1\n\n")
    assert seen.requests[0].http_version == version


# -- a plain answer


async def test_an_answer_to_head_has_no_body(adapter: str) -> None:
    async with open_client(adapter, an_app()) as client:
        reply = await client.request("HEAD", "/hello")
        assert (reply.status, await reply.read()) == (200, b"")
        if isinstance(client, SocketClient):
            data = await client.raw(b"HEAD /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            assert data.startswith(b"HTTP/1.1 200")
            assert data.endswith(b"\r\n\r\n")
            assert b"hello" not in data


async def test_an_answer_without_content_has_neither_a_length_nor_a_body(adapter: str) -> None:
    async with open_client(adapter, an_app()) as client:
        reply = await client.request("GET", "/nothing")
        assert (reply.status, await reply.read(), reply.end) == (204, b"", End.PROPER)
        assert not {"content-length", "transfer-encoding"} & set(reply.headers)


@pytest.mark.parametrize(("path", "least"), [("/hello", len("hello")), ("/stream", len("data: 1\n\n"))])
async def test_the_access_line_has_the_size_of_head_and_body(
    adapter: str, path: str, least: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "h3ref.access")
    async with open_client(adapter, an_app()) as client:
        await (await client.request("GET", path)).read()
        await until(lambda: not server_of(client).service.live)
    (access,) = [record.__dict__["access"] for record in caplog.records if record.name == "h3ref.access"]
    assert (access.path, access.status) == (path, 200)
    assert access.size >= least + len("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")


async def test_a_plain_answer_that_nobody_reads_is_given_up(adapter: str) -> None:
    async with open_client(adapter, an_app(), limits=Limits(send_timeout=0.05, close_timeout=0.05)) as client:
        await client.request("GET", "/large")
        server = server_of(client)
        with anyio.fail_after(10):
            while server.service.live or getattr(server, "calls", 0):
                await anyio.lowlevel.checkpoint()
        if isinstance(client, SocketClient) and adapter != "notebook":  # else all is taken; it counts nothing
            assert server.service.refused == {"send_timeout": 1}


# -- a client that leaves


async def test_a_stream_whose_client_has_left_already_is_told_at_once(adapter: str) -> None:
    started, go_on, ended = anyio.Event(), anyio.Event(), anyio.Event()
    app = H3App()

    @app.get("/stream")
    async def handler(event: H3Event) -> None:
        started.set()
        await go_on.wait()
        try:
            event.start_sse()
            event.set_stream_callback(silent)
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with open_client(adapter, app) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.request, "GET", "/stream")
            await started.wait()
            tasks.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        go_on.set()
        with anyio.fail_after(10):
            await ended.wait()
            while server_of(client).service.live:
                await anyio.lowlevel.checkpoint()
        assert server_of(client).service.stats().closed["client_gone"] == 1


async def test_that_a_client_has_left_is_told_once(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Host] = []
    disconnect = Host.disconnect

    def counted(host: Host) -> None:
        told.append(host)
        disconnect(host)

    monkeypatch.setattr(Host, "disconnect", counted)
    async with open_client(adapter, an_app(silent)) as client:
        for number in range(3):
            reply = await client.request("GET", "/stream")
            reply.disconnect()
            await until(lambda: len(told) > number)  # noqa: B023
            await until(lambda: not server_of(client).service.live)
        await wait_all_tasks_blocked()
    assert len(told) == len(set(told)) == 3


# -- a reader that doesn't read


class Filling:
    """A callback that sends until nothing more goes, so that whoever waits does so, and then until all has left."""

    def __init__(self) -> None:
        self.sent = 0
        self.full = anyio.Event()
        self.flushed = anyio.Event()

    async def __call__(self, writer: SSEWriter) -> None:
        connection = stream_of(writer).connection
        # A system that is slow to take bytes is not full: then it is filled further.
        while self.sent < MOST_BLOCKS and not (await self.waits(connection.drain) and await self.waits(writer.flush)):
            with anyio.move_on_after(0.05) as waits:
                while self.sent < MOST_BLOCKS:
                    await writer.send_event(BLOCK)
                    self.sent += 1
            assert waits.cancelled_caught or self.sent == MOST_BLOCKS
        self.full.set()
        await writer.flush()
        self.flushed.set()
        await writer.send_event("end")

    async def waits(self, function: Callable[[], Awaitable[None]]) -> bool:
        with anyio.move_on_after(0.02) as waits:
            await function()
        return waits.cancelled_caught


async def test_who_sends_waits_for_the_reader_and_who_flushes_for_all_to_leave(adapter: str) -> None:
    filling = Filling()
    async with open_client(adapter, an_app(filling)) as client:
        reply = await client.request("GET", "/stream")
        with anyio.fail_after(20):
            await filling.full.wait()
        assert filling.sent < MOST_BLOCKS, "who sends, drains or flushes waits for no reader"
        body = await reply.read()
        assert body.endswith(b"data: end\n\n")
        assert body.count(BLOCK.encode()) == filling.sent
        assert filling.flushed.is_set()


async def test_a_stream_ends_in_time_though_its_client_does_not_read(adapter: str) -> None:
    filling = Filling()
    async with open_client(adapter, an_app(filling), limits=Limits(close_timeout=0.05)) as client:
        await client.request("GET", "/stream")
        with anyio.fail_after(20):
            await filling.full.wait()
        (exchange,) = server_of(client).service.live
        exchange.stream._close_timeout = 60.0  # the core's own bound, for adapters that have none
        exchange.shut_down()
        server = server_of(client)
        with anyio.fail_after(10):
            while server.service.live or getattr(server, "calls", 0):
                await anyio.lowlevel.checkpoint()


async def test_of_a_stream_that_nobody_reads_nothing_is_left_once_it_is_cut(adapter: str) -> None:
    needs(adapter, "keep-alives")

    async def flood(writer: SSEWriter) -> None:
        while True:
            await writer.send_event("x" * LARGE)

    async with open_client(adapter, an_app(flood), limits=Limits(send_timeout=0.05, close_timeout=0.05)) as client:
        await client.request("GET", "/stream")
        server = server_of(client)
        with anyio.fail_after(10):
            while server.service.live or getattr(server, "calls", 0):
                await anyio.lowlevel.checkpoint()
        assert server.service.stats().closed["slow_consumer"] == 1


# -- what takes time, and the end


async def test_a_silent_stream_gets_comments(adapter: str) -> None:
    needs(adapter, "keep-alives")
    async with open_client(adapter, an_app(silent), limits=Limits(stream_keep_alive=0.02)) as client:
        reply = await client.request("GET", "/stream")
        with anyio.fail_after(10):
            assert (await reply.receive()).startswith(BEAT)
            assert (await reply.receive()).startswith(BEAT)


async def test_a_stream_that_has_ended_holds_no_socket_while_its_thread_still_runs(adapter: str) -> None:
    needs(adapter, "release")
    go_on = threading.Event()

    def blocked(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        go_on.wait(20)

    async with open_client(adapter, an_app(blocked)) as client:
        try:
            reply = await client.request("GET", "/stream")
            assert await reply.receive() == b"data: 1\n\n"
            (exchange,) = server_of(client).service.live
            exchange.stop(Reason.TIMEOUT)
            with anyio.fail_after(10):
                assert (await reply.read(), reply.end) == (b"", End.PROPER)
                if isinstance(reply, SocketReply) and reply.headers.get("connection") == "close":
                    await reply.closed()
            assert server_of(client).service.live, "its thread still runs"
        finally:
            go_on.set()


async def test_an_open_stream_gets_the_farewell_last(adapter: str) -> None:
    needs(adapter, "farewell")
    farewell = SSEEvent("bye", retry=1)
    async with open_client(adapter, an_app(silent), farewell=farewell) as client:
        reply = await client.request("GET", "/stream")
        for exchange in list(server_of(client).service.live):
            exchange.shut_down()
        assert (await reply.read(), reply.end) == (farewell.encode(), End.PROPER)
