"""`Limits`: each one on real sockets, and where time passes also in memory, with a virtual clock."""

from __future__ import annotations

import ctypes
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import fields
from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import (
    BackpressureDetected,
    BlockingSSEWriter,
    BodyTimeout,
    H3App,
    H3Event,
    Limits,
    Reason,
    SSEWriter,
    WriterClosed,
    running,
)
from h3ref.adapters.h11_anyio import Server
from h3ref.adapters.h11_anyio.deadlines import Deadlines
from h3ref.adapters.h11_anyio.server import network_of
from h3ref.adapters.h11_anyio.sockets import bound_silence
from h3ref.adapters.h11_anyio.turns import loop_turns
from h3ref.adapters.h11_anyio.watcher import Watcher
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from h3ref.event import host_of
from h3ref.testing import TestClient, virtual_backends
from tests.clients import open_client, raw, server_of
from tests.conftest import require_permission
from tests.pages import ROOT
from tests.waits import LONGER, until

HELLO = b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n"
BEAT = b": keep-alive\n\n"

in_virtual_time = pytest.mark.parametrize("anyio_backend", virtual_backends())


class Ends:
    """Why streams were over, as their callbacks saw it."""

    def __init__(self) -> None:
        self.reasons: list[Reason | None] = []
        self.changed = anyio.Event()

    def note(self, event: H3Event) -> None:
        self.reasons.append(event.reason)
        self.changed.set()


def streaming(callback: Callable[[Any], Any], ends: Ends | None = None) -> H3App:
    """An app with plain answers, and a stream whose callback, an `async def`, is awaited here and told of its end."""
    app = H3App()

    async def told(writer: SSEWriter) -> None:
        try:
            await callback(writer)
        finally:
            if ends is not None:
                ends.note(writer.event)

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(told)

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    @app.post("/echo")
    async def echo(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    @app.get("/large")
    async def large(event: H3Event) -> None:
        event.send_bytes(b"x" * 10_000_000)

    return app


async def silent(writer: SSEWriter) -> None:
    await anyio.sleep_forever()


async def flood(writer: SSEWriter) -> None:
    while True:
        await writer.send_event("x" * 10_000)


@asynccontextmanager
async def connected(server: Server, said: bytes = b"", source: str | None = None) -> AsyncIterator[socket.socket]:
    """A socket with a small window that has said something, and reads nothing by itself."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(("127.0.0.1", server.port))
        sock.setblocking(False)
        sock.send(said)
        yield sock
    finally:
        sock.close()


async def receive(sock: socket.socket) -> bytes:
    """The next bytes; b"" at the end, also where the server has cut."""
    while True:
        try:
            return sock.recv(65536)
        except BlockingIOError:
            await anyio.wait_readable(sock)
        except ConnectionError:
            return b""


async def read_all(sock: socket.socket) -> bytes:
    data = b""
    while part := await receive(sock):
        data += part
    return data


# -- how long a request may take


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("keep_alive", [15, None])
async def test_a_head_that_comes_byte_by_byte_has_one_time_for_all(keep_alive: float | None) -> None:
    limits = Limits(head_timeout=10, keep_alive=keep_alive)
    async with running(streaming(silent), limits=limits) as server, connected(server) as sock:
        began = anyio.current_time()
        answers: list[bytes] = []

        async def listen() -> None:
            answers.append(await receive(sock))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            for byte in HELLO * 100:  # which would take more than an hour
                sock.send(bytes([byte]) if byte not in b"\r\n" else b"x")
                await anyio.sleep(2)
        assert answers[0].startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert anyio.current_time() - began == pytest.approx(10, abs=0.1)
        assert server.service.refused["head_timeout"] == 1


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("keep_alive", [15, None])
async def test_one_head_that_comes_byte_by_byte_gives_no_other_more_time(keep_alive: float | None) -> None:
    limits = Limits(head_timeout=10, keep_alive=keep_alive)
    async with running(streaming(silent), limits=limits) as server, AsyncExitStack() as stack:
        slow = await stack.enter_async_context(connected(server, HELLO[:-2] + b"X: "))
        others = [await stack.enter_async_context(connected(server, said)) for said in (b"", b"GET", HELLO + b"GET")]
        found: list[bytes] = []

        async def dribble() -> None:
            while True:
                with suppress(OSError):  # it has had its answer
                    slow.send(b"x")
                await anyio.sleep(2)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dribble)
            for sock in (*others, slow):
                found.append(await read_all(sock))
            tasks.cancel_scope.cancel()
        assert found[0] == b""
        assert [data.count(b"HTTP/1.1 200 OK\r\n") for data in found] == [0, 0, 1, 0]
        assert [data.count(b"HTTP/1.1 408 Request Timeout\r\n") for data in found] == [0, 1, 1, 1]
        assert server.service.refused == {"head_timeout": 4}


@pytest.mark.anyio
async def test_what_has_come_while_the_process_stood_still_has_come_in_time() -> None:
    async with running(streaming(silent), limits=Limits(keep_alive=None)) as server, connected(server) as sock:
        heads = server.loop.heads

        async def expires_after(said: bytes) -> None:
            """Its time is up before anybody has looked at what it has said."""
            await until(lambda: heads._due)
            (client,) = heads._due
            heads.discard(client)
            sock.send(said)
            client.expire()

        await expires_after(HELLO)
        assert b"200 OK" in await receive(sock)
        sock.send(b"GET /hello")
        await expires_after(HELLO.removeprefix(b"GET /hello"))
        assert b"200 OK" in await receive(sock)
        assert server.service.refused == {}
    async with running(streaming(silent)) as server, connected(server) as sock:
        heads = server.loop.heads
        await expires_after(b"GET")  # it has begun, and its time, too
        await expires_after(b" /hello")
        assert b"408 Request Timeout" in await read_all(sock)
        assert server.service.refused == {"head_timeout": 1}


@pytest.mark.anyio
async def test_who_waits_anew_is_told_after_those_who_wait_already() -> None:
    told: list[str] = []

    class Waiter:
        def __init__(self, name: str) -> None:
            self.name = name

        def expire(self) -> None:
            told.append(self.name)
            if len(told) == 2:
                tasks.cancel_scope.cancel()

    deadlines, first, second = Deadlines(0.02), Waiter("first"), Waiter("second")
    for waiter in (first, second, first):
        deadlines.put(waiter)
    assert first in deadlines
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deadlines.run)
    assert told == ["second", "first"]
    assert first not in deadlines
    for_ever = Deadlines(None)
    for_ever.put(first)
    assert first not in for_ever, "nobody waits there for anything"


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("keep_alive", [15, None])
async def test_the_head_of_a_later_request_has_its_time_from_its_first_byte_on(keep_alive: float | None) -> None:
    limits = Limits(head_timeout=10, keep_alive=keep_alive)
    async with running(streaming(silent), limits=limits) as server, connected(server, HELLO) as sock:
        assert b"200 OK" in await receive(sock)
        await anyio.sleep(12)  # idle for longer than a head may take
        sock.send(HELLO)
        assert b"200 OK" in await receive(sock)
        sock.send(HELLO + b"GET")
        data = await read_all(sock)
        assert data.startswith(b"HTTP/1.1 200 OK")
        assert b"HTTP/1.1 408 Request Timeout\r\n" in data


@pytest.mark.anyio
@in_virtual_time
async def test_who_says_nothing_is_closed_without_a_word() -> None:
    async with running(streaming(silent)) as server:
        for said in (b"", b"\r\n\r\n"):
            async with connected(server, said) as sock:
                assert await read_all(sock) == b""
        assert server.service.refused == {"head_timeout": 2}


@pytest.mark.anyio
@in_virtual_time
async def test_who_has_no_further_request_is_refused_nothing() -> None:
    async with running(streaming(silent)) as server, connected(server, HELLO) as sock:
        assert (await read_all(sock)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.service.refused == {}


@pytest.mark.anyio
@in_virtual_time
async def test_without_their_limits_heads_and_idle_connections_have_all_the_time() -> None:
    limits = Limits(head_timeout=None, keep_alive=None)
    async with running(streaming(silent), limits=limits) as server, connected(server, HELLO[:5]) as sock:
        await anyio.sleep(3600)
        sock.send(HELLO[5:])
        assert b"200 OK" in await receive(sock)
        await anyio.sleep(3600)
        sock.send(HELLO)
        assert b"200 OK" in await receive(sock)


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n\r\n123", b"Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n"]
)
async def test_a_body_that_stops_in_the_middle_is_a_408(framing: bytes) -> None:
    said = b"POST /echo HTTP/1.1\r\nHost: test\r\n" + framing
    async with running(streaming(silent)) as server, connected(server, said) as sock:
        data = await receive(sock)
        sock.shutdown(socket.SHUT_WR)
        data += await read_all(sock)
        assert data.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"\r\nConnection: close\r\n" in data
        assert data.endswith(b"Request Timeout: the body did not come in 30 s")
        assert server.service.refused == {"body_timeout": 1}


@pytest.mark.anyio
@in_virtual_time
async def test_a_body_that_comes_byte_by_byte_has_one_time_for_all() -> None:
    app, errors = H3App(), list[Exception]()

    @app.post("/echo")
    async def echo(event: H3Event) -> None:
        try:
            await event.read_body()
        except BodyTimeout as error:
            errors.append(error)
            raise

    said = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"
    async with running(app) as server, connected(server, said) as sock:
        began = anyio.current_time()
        while not errors:
            sock.send(b"x")
            await anyio.sleep(4)
        assert anyio.current_time() - began == pytest.approx(30, abs=4)
        assert (await receive(sock)).startswith(b"HTTP/1.1 408")


# -- how many


@pytest.mark.anyio
async def test_the_last_request_of_a_connection_is_told_so() -> None:
    async with running(streaming(silent), limits=Limits(requests=2)) as server:
        data = await raw(server.port, HELLO * 3)
        assert data.count(b"HTTP/1.1 200 OK") == 2
        first, second = data.split(b"HTTP/1.1 200 OK")[1:]
        assert b"Connection: close" not in first
        assert b"\r\nConnection: close\r\n" in second


@pytest.mark.anyio
async def test_past_the_connections_a_client_gets_a_503_at_once() -> None:
    async with running(streaming(silent), limits=Limits(connections=1)) as server:
        async with connected(server, HELLO) as sock:
            assert b"200 OK" in await receive(sock)
            async with connected(server) as second:
                refused = await read_all(second)
                assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
            assert server.open_connections == 1
            sock.send(HELLO)
            assert b"200 OK" in await receive(sock), "who is in stays in"
        with anyio.fail_after(10):
            while server.open_connections:
                await anyio.lowlevel.checkpoint()
        assert b"200 OK" in await raw(server.port, HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert server.service.refused == {"connections": 1}


@pytest.mark.anyio
async def test_connections_are_counted_for_each_address() -> None:
    async with running(streaming(silent), limits=Limits(connections_per_address=1)) as server:
        for _ in range(2):  # what one address has left, another client from there may have
            async with connected(server, HELLO, "127.0.0.2") as sock, connected(server, HELLO, "127.0.0.3") as other:
                assert b"200 OK" in await receive(sock)
                assert b"200 OK" in await receive(other)
                async with connected(server, source="127.0.0.2") as second:
                    assert (await read_all(second)).startswith(b"HTTP/1.1 503")
            with anyio.fail_after(10):
                while server.open_connections:
                    await anyio.lowlevel.checkpoint()
        assert server.service.refused == {"connections_per_address": 2}


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_ipv6_client_is_its_network(host: str, network: str) -> None:
    assert network_of(host) == network


@pytest.mark.anyio
async def test_past_the_streams_there_is_a_503_with_retry_after(adapter: str) -> None:
    async with open_client(adapter, streaming(silent), limits=Limits(streams=1)) as client:
        first = await client.request("GET", "/stream")
        assert first.status == 200
        second = await client.request("GET", "/stream")
        assert (second.status, second.headers["retry-after"]) == (503, "1")
        assert b"all 1 streams that this server allows are open" in await second.read()
        assert (await client.request("GET", "/hello")).status == 200, "a plain answer is no stream"
        first.disconnect()
        service = server_of(client).service
        with anyio.fail_after(10):
            while len(service.streams):
                await anyio.lowlevel.checkpoint()
        assert (await client.request("GET", "/stream")).status == 200


# -- how old


@pytest.mark.anyio
@in_virtual_time
async def test_streams_that_are_too_old_end_properly_and_not_all_at_once() -> None:
    ends = Ends()
    times: list[float] = []

    async def read(server: Any) -> None:
        reply = await server.request("GET", "/stream")
        body = await reply.read()
        times.append(anyio.current_time() - began)
        assert reply.end is End.PROPER
        assert body == BEAT * body.count(BEAT)

    limits = Limits(stream_age=3600, stream_age_jitter=0.25, stream_keep_alive=300)
    async with open_memory(streaming(silent, ends), limits=limits) as server:
        began = anyio.current_time()
        async with anyio.create_task_group() as readers:
            for _ in range(100):
                readers.start_soon(read, server)
    assert ends.reasons == [Reason.TIMEOUT] * 100
    assert 2700 <= min(times) < 2900
    assert 3400 < max(times) <= 3604
    assert len({round(time) for time in times}) > 50


@pytest.mark.anyio
async def test_a_stream_that_is_too_old_ends_properly(adapter: str) -> None:
    ends = Ends()
    async with open_client(adapter, streaming(silent, ends), limits=Limits(stream_age=0.1)) as client:
        reply = await client.request("GET", "/stream")
        with anyio.fail_after(10):
            assert await reply.read() == b""
        assert reply.end is End.PROPER
        await ends.changed.wait()
        assert ends.reasons == [Reason.TIMEOUT]


@pytest.mark.anyio
async def test_the_stream_of_a_thread_ends_though_the_thread_sleeps(adapter: str) -> None:
    app, woken = H3App(), threading.Event()

    @app.get("/stream")
    def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(sleep)

    def sleep(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        woken.wait(60)

    for age in LONGER:
        async with open_client(adapter, app, limits=Limits(stream_age=age)) as client:
            reply = await client.request("GET", "/stream")
            with anyio.fail_after(50):
                body = await reply.read()
            assert reply.end is End.PROPER
            woken.set()
        if body:
            break  # else it was too old before its thread had begun
        woken.clear()
    assert body == b"data: 1\n\n"


# -- how silent


@pytest.mark.anyio
@in_virtual_time
async def test_a_silent_stream_sends_a_comment_every_15_seconds() -> None:
    async with open_memory(streaming(silent)) as server:
        began = anyio.current_time()
        reply = await server.request("GET", "/stream")
        for number in range(1, 200):
            assert await reply.receive() == BEAT
            assert anyio.current_time() - began == pytest.approx(15 * number, abs=0.01)
        reply.disconnect()


@pytest.mark.anyio
@in_virtual_time
async def test_what_is_sent_puts_the_comment_off() -> None:
    async def busy(writer: SSEWriter) -> None:
        for number in range(100):
            await anyio.sleep(10)
            await (writer.send_event("x") if number % 2 else writer.send_keep_alive())
        await anyio.sleep(40)

    times: list[float] = []
    async with open_memory(streaming(busy)) as server:
        began = anyio.current_time()
        reply = await server.request("GET", "/stream")
        body = b""
        while part := await reply.receive():
            body += part
            times.append(anyio.current_time() - began)
    assert body[:-28] == (BEAT + b"data: x\n\n") * 50, "while there is traffic, no comment comes by itself"
    assert times[:100] == [pytest.approx(10 * number) for number in range(1, 101)]
    assert body[-28:] == BEAT * 2
    silences = [after - before for before, after in zip(times[99:], [*times[100:], 1040.0], strict=False)]
    assert all(silence <= 15.01 for silence in silences)


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("usual", [15, None])
async def test_a_stream_may_have_a_pace_and_a_comment_of_its_own(usual: float | None) -> None:
    async def quick(event: H3Event) -> None:
        host_of(event).keep_alive, host_of(event).comment = 2.0, lambda: b": quick\n\n"
        event.start_sse()
        event.set_stream_callback(silent)

    app = streaming(silent)
    app.get("/quick")(quick)
    async with open_memory(app, limits=Limits(stream_keep_alive=usual)) as server:
        usual_reply = await server.request("GET", "/stream")
        await anyio.sleep(1)  # whoever looks after streams waits for the usual pace, or for nothing
        began = anyio.current_time()
        reply = await server.request("GET", "/quick")
        for number in range(1, 20):
            assert await reply.receive() == b": quick\n\n"
            assert anyio.current_time() - began == pytest.approx(2 * number, abs=0.01)
        if usual is not None:
            assert await usual_reply.receive() == BEAT, "after 15 seconds; who has not read it needs no other"
        reply.disconnect()
        usual_reply.disconnect()


@pytest.mark.parametrize("usual", [15, None])
def test_a_pace_of_its_own_holds_under_an_asgi_server_too(usual: float | None) -> None:
    """Whose streams are looked after in the task of one of them, also where no limit asks for that."""
    app = H3App()

    @app.get("/quick")
    async def quick(event: H3Event) -> None:
        host_of(event).keep_alive = 2.0
        event.start_sse()
        event.set_stream_callback(silent)

    limits = Limits(stream_keep_alive=usual, send_timeout=None)
    with TestClient(app, limits=limits) as client, client.stream("GET", "/quick") as stream:
        client.advance(7)
        assert stream.comments == ["keep-alive"] * 3


@pytest.mark.anyio
@in_virtual_time
async def test_a_comment_that_cant_be_made_is_the_usual_one(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: H3Event) -> None:
        host_of(event).comment = make
        event.start_sse()
        event.set_stream_callback(silent)

    def make() -> bytes:
        silences.append(anyio.current_time())
        if len(silences) > 1:
            raise RuntimeError("the user's")
        return b""

    silences: list[float] = []
    app = H3App()
    app.get("/stream")(handler)
    async with open_memory(app) as server:
        reply = await server.request("GET", "/stream")
        assert [await reply.receive(), await reply.receive(), await reply.receive()] == [BEAT] * 3
        reply.disconnect()
    assert len(silences) == 3
    told = [record for record in caplog.records if record.name == "h3ref.stream"]
    assert len(told) == 2
    assert all(record.exc_info and "the usual one is sent instead" in record.getMessage() for record in told)


@pytest.mark.anyio
@in_virtual_time
async def test_without_the_limit_a_silent_stream_stays_silent() -> None:
    async def hours(writer: SSEWriter) -> None:
        await anyio.sleep(36_000)

    async with open_memory(streaming(hours), limits=Limits(stream_keep_alive=None)) as server:
        assert await (await server.request("GET", "/stream")).read() == b""


@pytest.mark.anyio
async def test_every_adapter_keeps_a_silent_stream_alive(adapter: str) -> None:
    async with open_client(adapter, streaming(silent), limits=Limits(stream_keep_alive=0.05)) as client:
        replies = [await client.request("GET", "/stream") for _ in range(3)]
        with anyio.fail_after(10):
            for reply in replies:  # each is served when the one before has left
                received = b""
                while received.count(BEAT) < 3:
                    received += await reply.receive()
                assert received == BEAT * received.count(BEAT)
                reply.disconnect()


# -- who doesn't read


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("callback", [flood, silent])
async def test_in_memory_too_a_reader_that_does_not_read_is_cut(callback: Any) -> None:
    ends = Ends()
    async with open_memory(streaming(callback, ends)) as server:
        began = anyio.current_time()
        reply = await server.request("GET", "/stream")
        await ends.changed.wait()
        # A silent stream has something to wait for its reader from its first comment on.
        first = 0 if callback is flood else 15
        assert 30 <= anyio.current_time() - began - first <= 35
        await reply.read()
        assert reply.end is End.CUT
    assert ends.reasons == [Reason.SLOW_CONSUMER]
    assert server.service.refused == {"send_timeout": 1}


@pytest.mark.anyio
@in_virtual_time
async def test_a_slow_reader_that_reads_is_not_cut() -> None:
    async with open_memory(streaming(flood)) as server:
        reply = await server.request("GET", "/stream")
        for _ in range(20):
            await anyio.sleep(25)
            assert await reply.receive()
        reply.disconnect()


@pytest.mark.anyio
@in_virtual_time
async def test_a_reader_that_does_not_read_is_cut() -> None:
    ends = Ends()
    async with running(streaming(flood, ends)) as server:
        async with connected(server, STREAM) as sock:
            await ends.changed.wait()
            while server.open_connections:  # noqa: ASYNC110  # virtual time stands still while a task runs
                await anyio.sleep(1)
            assert not (await read_all(sock)).endswith(b"\r\n0\r\n\r\n")
        assert ends.reasons == [Reason.SLOW_CONSUMER]
        assert server.service.refused == {"send_timeout": 1}
        assert server.loop.backlog.size == 0


@pytest.mark.anyio
async def test_a_thread_that_waits_for_a_reader_that_does_not_read_is_told() -> None:
    app, told, over = H3App(), list[Exception](), threading.Event()

    @app.get("/stream")
    def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(endless)

    def endless(writer: BlockingSSEWriter) -> None:
        try:
            while True:
                # At once more than the system holds: of who sends little by little it says itself, after twice the
                # time, that a reader whose window is full has gone.
                writer.send_event("x" * 10_000_000)
        except WriterClosed as error:
            told.append(error)
            raise
        finally:
            over.set()

    for seconds in LONGER:
        async with running(app, limits=Limits(send_timeout=seconds)) as server, connected(server, STREAM):
            await anyio.to_thread.run_sync(over.wait)
        reasons = [error.reason for error in told if isinstance(error, WriterClosed)]
        if reasons == [Reason.SLOW_CONSUMER]:
            break  # else the process stood still for so long that the system was the first to say so
        over.clear()
        told.clear()
    assert reasons == [Reason.SLOW_CONSUMER]


@pytest.mark.anyio
@in_virtual_time
async def test_a_slow_reader_that_reads_a_little_is_served() -> None:
    async with running(streaming(flood)) as server, connected(server, STREAM) as sock:
        for _ in range(10):  # much longer than twice the time
            await anyio.sleep(10)
            assert await receive(sock)
        assert server.open_connections == 1


@pytest.mark.anyio
@in_virtual_time
async def test_a_slow_reader_of_a_plain_answer_is_served() -> None:
    large = HELLO.replace(b"hello", b"large")
    async with running(streaming(silent)) as server, connected(server, large) as sock:
        for _ in range(10):
            await anyio.sleep(10)
            assert await receive(sock)
        assert server.open_connections == 1


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("path", [b"/stream", b"/large"])
async def test_a_slow_reader_with_a_small_window_is_served(path: bytes) -> None:
    said = HELLO.replace(b"/hello", path)
    for seconds in (0.6, 6):  # of real time, by which the system would cut it after twice as much
        limits = Limits(send_timeout=seconds)
        async with running(streaming(flood), limits=limits) as server, connected(server, said) as sock:
            longest = await reads_slowly(sock, seconds / 6, 27)
            if longest < seconds / 2:
                assert server.open_connections == 1
                assert server.stats().refused == {}
                return  # else the machine stood still, and so did the reader
    raise AssertionError("it has read too slowly")


async def reads_slowly(sock: socket.socket, pause: float, times: int) -> float:
    """Read a little after each pause, while it is not cut; return how long the longest pause was."""
    longest = 0.0
    for _ in range(times):
        began = time.monotonic()
        await anyio.sleep(pause)
        longest = max(longest, time.monotonic() - began)
        with suppress(BlockingIOError, ConnectionError):
            if not sock.recv(2000):
                break
    return longest


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no clock of its own for this")
def test_the_systems_clock_is_off_only_while_ours_runs() -> None:
    def seconds(sock: socket.socket) -> float:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000

    watcher = Watcher(loop_turns(), 30)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bound_silence(listener, 30)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert seconds(accepted) == 60
            watcher.await_write(accepted, lambda: None)
            assert seconds(accepted) == 0
            watcher.discard_write(accepted)
            assert seconds(accepted) == 60
    watcher.release()


@pytest.mark.anyio
@in_virtual_time
async def test_a_plain_answer_to_a_peer_that_does_not_read_is_given_up() -> None:
    async with running(streaming(silent), limits=Limits(close_timeout=600)) as server:
        async with connected(server, HELLO.replace(b"hello", b"large")):
            while server.open_connections or not server.service.refused:  # noqa: ASYNC110  # as above
                await anyio.sleep(1)
        assert server.service.refused == {"send_timeout": 1}
        assert b"200 OK" in await raw(server.port, HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="a peer vanishes here by a packet filter of Linux'")
async def test_a_peer_that_has_vanished_is_found_by_the_keep_alive() -> None:
    ends = Ends()
    limits = Limits(stream_keep_alive=0.05, send_timeout=0.25)
    async with running(streaming(silent, ends), limits=limits) as server, connected(server, STREAM) as sock:
        assert b"200 OK" in await receive(sock)
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # one instruction: take 0 bytes
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(nothing))
        require_permission(lambda: sock.setsockopt(socket.SOL_SOCKET, 26, program), "a packet filter")
        await ends.changed.wait()
        assert ends.reasons == [Reason.CLIENT_GONE]
        await until(lambda: not server.open_connections)


# -- how much waits


@pytest.mark.anyio
async def test_whoever_sends_waits_from_the_mark_of_the_stream_on(adapter: str) -> None:
    refusals: list[BackpressureDetected] = []
    sent: list[int] = []

    async def callback(writer: SSEWriter) -> None:
        try:
            while True:
                sent.append(len(sent))
                writer.send_nowait("x" * 92)
        except BackpressureDetected as refusal:
            refusals.append(refusal)
        await writer.flush()
        await writer.send_event("there is room again")

    limits = Limits(stream_buffer=1000, server_buffer=None)
    async with open_client(adapter, streaming(callback), limits=limits) as client:
        body = await (await client.request("GET", "/stream")).read()
    assert refusals[0].limit == 1000
    assert 1000 <= refusals[0].buffered < 1100
    assert len(sent) in (10, 11), "ten events of a hundred bytes, or nine and a head, and the one that was refused"
    assert body == b"data: %b\n\n" % (b"x" * 92) * (len(sent) - 1) + b"data: there is room again\n\n"


@pytest.mark.anyio
async def test_past_the_buffers_of_all_who_has_taken_nothing_for_longest_is_cut() -> None:
    ends = Ends()
    order: list[str | None] = []

    async def noted(writer: SSEWriter) -> None:
        try:
            await flood(writer)
        finally:
            order.append(writer.event.query.get("n"))

    limits = Limits(server_buffer=3 * 64 * 1024 + 60_000)  # three that wait, and not four
    async with running(streaming(noted, ends), limits=limits) as server:
        socks: list[Any] = []
        async with connected(server, STREAM) as reader:
            for number in range(5):
                context = connected(server, STREAM.replace(b"/stream", b"/stream?n=%d" % number))
                socks.append(context)
                await context.__aenter__()
                with anyio.fail_after(10):
                    while server.loop.backlog.size < min(number + 1, 3) * 64 * 1024 or len(order) < number - 2:
                        await receive(reader)
            assert order == ["0", "1"]
            assert server.loop.backlog.size <= 3 * 64 * 1024 + 60_000
            assert await receive(reader), "who reads is served"
            for context in reversed(socks):
                await context.__aexit__(None, None, None)
        assert ends.reasons[:2] == [Reason.SLOW_CONSUMER] * 2
        assert server.service.refused == {"server_buffer": 2}
        await until(lambda: not server.open_connections)
        assert server.loop.backlog.size == 0


# -- the values


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"head_timeout": 0}, ValueError, "limit head_timeout must be more than 0, not 0; None switches it off"),
        ({"streams": -1}, ValueError, "limit streams must be more than 0, not -1; None switches it off"),
        ({"stream_age": float("inf")}, ValueError, "limit stream_age must be finite, not inf; None switches it off"),
        ({"close_timeout": float("inf")}, ValueError, "limit close_timeout must be finite, not inf$"),
        ({"stream_age_jitter": 1.5}, ValueError, "limit stream_age_jitter is a fraction from 0 to 1, not 1.5"),
        ({"connections": 1.5}, TypeError, "limit connections is a whole number, not 1.5; None switches it off"),
        ({"requests": True}, TypeError, "limit requests is a number, not True; None switches it off"),
        ({"keep_alive": "15"}, TypeError, "limit keep_alive is a number, not '15'; None switches it off"),
        ({"head_size": None}, TypeError, "limit head_size is a number, not None$"),
        ({"stream_buffer": None}, TypeError, "limit stream_buffer is a number, not None$"),
    ],
)
def test_a_limit_that_nothing_could_keep_is_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Limits(**options)


def test_the_page_of_adapters_says_of_every_limit_whether_asgi_keeps_it() -> None:
    names = {field.name for field in fields(Limits)}
    rooms = (ROOT / "h3ref" / "_core", ROOT / "h3ref" / "adapters" / "asgi")
    kept = {
        name
        for room in rooms
        for path in room.glob("*.py")
        for name in re.findall(r"limits\.(\w+)", path.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    of_the_server = set(re.findall(r"`(\w+)`", page.partition("have no effect:")[2].partition(". All others")[0]))
    defaults = set(re.findall(r"`(\w+)`", page.partition("defaults of")[2].partition("; a stream's age")[0]))
    said_otherwise = {"streams", "stream_age", "stream_age_jitter", "stream_keep_alive", "send_timeout"}
    only_of_apps = {"handler_threads"}  # a response has neither a handler nor a hook
    assert of_the_server == names - kept
    assert defaults == names - of_the_server - said_otherwise - only_of_apps


def test_without_limits_of_ones_own_all_but_two_hold() -> None:
    off = {field.name for field in fields(Limits) if getattr(Limits(), field.name) is None}
    assert off == {"stream_age", "connections_per_address"}


def test_each_limit_has_a_line_of_its_own_in_the_docstring() -> None:
    documented = [line.split(":")[0].strip() for line in (Limits.__doc__ or "").splitlines() if line.startswith("    ")]
    named = [name for name in documented if name in Limits.__dataclass_fields__]
    assert named == list(Limits.__dataclass_fields__)
