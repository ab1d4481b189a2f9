"""The native adapter, byte by byte: what RFC 9110 and 9112 ask of a server, and its life from port to port."""

from __future__ import annotations

import errno
import logging
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import anyio
import anyio.from_thread
import pytest

from h3ref import Channel, H3App, H3Event, Limits, RequestError, flows, running
from h3ref.adapters.h11_anyio import Server
from tests.clients import raw
from tests.leftovers import nothing_left_behind
from tests.ports import free_port
from tests.waits import until

pytestmark = pytest.mark.anyio

GET = b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = b"GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

WITHOUT_TIME = Limits(head_timeout=None, keep_alive=None, close_timeout=600)
"""No time is up, so that whoever holds up the end holds up the test, too."""


class Answer(NamedTuple):
    """One response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    head: bytes


class Peer:
    """A client that says exactly what it is told to, and takes answers off one connection."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def say(self, data: bytes) -> None:
        await self.stream.send(data)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read one response that is framed by its Content-Length."""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += await self.stream.receive()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = 0 if bodiless else int(headers.get("content-length", 0))
        while len(self.buffer) < size:
            self.buffer += await self.stream.receive()
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Answer(int(status), headers, body, head)

    async def is_hung_up(self) -> bool:
        """Wait for the server to close; False when it says something instead."""
        if self.buffer:
            return False
        try:
            self.buffer += await self.stream.receive()
        except anyio.EndOfStream:
            return True
        return False

    def reset(self) -> None:
        """Leave as a client that crashed."""
        sock = self.stream.extra(anyio.abc.SocketAttribute.raw_socket)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def talk(server: Server, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    async with await anyio.connect_tcp(host, server.port) as stream:
        with anyio.fail_after(10):
            yield Peer(stream)


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each response in what came back."""
    found = list[tuple[int, bytes]]()
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"a head without its end: {head!r}"
        size = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        length = int(size[1]) if size else 0
        assert len(data) >= length
        found.append((int(head.split(b" ")[1]), data[:length]))
        data = data[length:]
    return found


def says_close(data: bytes) -> bool:
    return b"\r\nconnection: close\r\n" in data.partition(b"\r\n\r\n")[0].lower() + b"\r\n"


def make_app() -> H3App:
    app = H3App()

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    @app.get("/number/:n")
    def number(event: H3Event) -> None:
        event.send_text(event.params["n"])

    @app.post("/echo")
    async def echo(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    @app.post("/unread")
    async def unread(event: H3Event) -> None:
        event.send_text("not read")

    @app.get("/target")
    async def target(event: H3Event) -> None:
        event.send_json([event.path, event.target, event.query.get("x")])

    @app.get("/status/:status")
    async def status(event: H3Event) -> None:
        event.set_status(int(event.params["status"]))
        event.send_text("body")

    @app.get("/cookies")
    async def cookies(event: H3Event) -> None:
        event.set_header("Set-Cookie", "a=1", append=True)
        event.set_header("set-cookie", "b=2", append=True)
        event.set_header("Location", "/old")
        event.redirect("/new")

    return app


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running(make_app()) as server:
        yield server


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Whatever a client does, nothing is logged as the server's own failure."""
    caplog.set_level(logging.WARNING, "h3ref")
    yield caplog
    assert not caplog.records, caplog.text


# One answer


async def test_an_answer_byte_by_byte(server: Server) -> None:
    data = await raw(server.port, LAST)
    assert re.sub(rb"Date: [^\r]+", b"Date: now", data) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Date: now\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 5\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"hello"
    )


@pytest.mark.parametrize("target", ["/hello", "/nowhere", "/status/204"])
async def test_every_answer_has_one_valid_date(server: Server, target: str) -> None:
    async with talk(server) as peer:
        before = int(time.time())
        await peer.say(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        answer = await peer.answer()
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
        assert before <= parsedate_to_datetime(answer.headers["date"]).timestamp() <= time.time()
        assert answer.head.lower().count(b"\r\ndate:") == 1


async def test_a_refused_request_has_a_date_too(server: Server) -> None:
    assert b"\r\nDate: " in await raw(server.port, b"nonsense\r\n\r\n")


async def test_repeated_headers_go_out_line_by_line_and_a_location_once(server: Server) -> None:
    async with talk(server) as peer:
        await peer.say(b"GET /cookies HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = await peer.answer()
        assert answer.status == 302
        assert re.findall(rb"(?i)set-cookie: (\S+)", answer.head) == [b"a=1", b"b=2"]
        assert re.findall(rb"(?i)location: (\S+)", answer.head) == [b"/new"]


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_no_framing_and_the_connection_goes_on(server: Server, status: int) -> None:
    async with talk(server) as peer:
        await peer.say(f"GET /status/{status} HTTP/1.1\r\nHost: test\r\n\r\n".encode() + GET)
        answer = await peer.answer()
        assert answer.status == status
        assert not {"content-length", "transfer-encoding"} & answer.headers.keys()
        assert (await peer.answer()).body == b"hello"


async def test_head_has_a_length_and_no_body_and_the_connection_goes_on(server: Server) -> None:
    async with talk(server) as peer:
        await peer.say(GET.replace(b"GET", b"HEAD") + GET)
        answer = await peer.answer(bodiless=True)
        assert (answer.status, answer.headers["content-length"]) == (200, "5")
        assert (await peer.answer()).body == b"hello"


# The request's line


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/target", b'["/target","/target",null]'),
        (b"/target?x=1", b'["/target","/target?x=1","1"]'),
        (b"http://test/target?x=1", b'["/target","/target?x=1","1"]'),
        (b"HTTP://user@test:80/target?x=/y", b'["/target","/target?x=/y","/y"]'),
        (b"/target?x=http://a/b", b'["/target","/target?x=http://a/b","http://a/b"]'),
    ],
)
async def test_a_target_comes_in_origin_form_or_in_absolute_form(
    server: Server, target: bytes, expected: bytes
) -> None:
    async with talk(server) as peer:
        await peer.say(b"GET " + target + b" HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = await peer.answer()
        assert (answer.status, answer.body) == (200, expected)


@pytest.mark.parametrize("target", ["http://test", "http://test?x=1"])
async def test_an_absolute_target_without_a_path_means_the_root(target: str) -> None:
    app = H3App()
    app.get("/", lambda event: event.send_text(event.target))
    async with running(app) as server, talk(server) as peer:
        await peer.say(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        assert (await peer.answer()).body.decode() == "/" + target.removeprefix("http://test")


@pytest.mark.parametrize(
    ("target", "host"),
    [("/", "test"), ("http://other:80/", "other:80"), ("HTTP://user@Other?x", "Other"), ("http://[::1]", "[::1]")],
)
async def test_the_host_of_an_absolute_target_takes_the_place_of_the_header(target: str, host: str) -> None:
    app = H3App()
    app.get("/", lambda event: event.send_json([event.headers.getlist("host"), event.headers["x"]]))
    async with running(app) as server, talk(server) as peer:
        await peer.say(f"GET {target} HTTP/1.1\r\nHost: test\r\nX: y\r\n\r\n".encode())
        assert (await peer.answer()).body == f'[["{host}"],"y"]'.encode()


@pytest.mark.parametrize("line", ["OPTIONS *", "connect test:443", "GET hello"])
async def test_a_target_that_is_no_path_is_not_found(server: Server, line: str) -> None:
    async with talk(server) as peer:
        await peer.say(f"{line} HTTP/1.1\r\nHost: test\r\n\r\n".encode() + GET)
        assert (await peer.answer()).status == 404
        assert (await peer.answer()).body == b"hello"


async def test_a_tunnel_is_refused_though_an_app_would_answer() -> None:
    app = H3App()
    app.on_request(lambda event: event.send_text("a hook answers everything"))
    async with running(app, port=0) as server, talk(server) as peer:
        await peer.say(b"CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n")
        answer = await peer.answer()
    assert answer.status == 501
    assert b"this is not a proxy" in answer.body


async def test_an_upgrade_is_ignored_and_the_connection_goes_on(server: Server) -> None:
    async with talk(server) as peer:
        await peer.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))
        assert (await peer.answer()).body == b"hello"
        await peer.say(GET)
        assert (await peer.answer()).body == b"hello"


# Several requests on one connection


async def test_a_connection_serves_several_requests(server: Server) -> None:
    async with talk(server) as peer:
        for number in range(5):
            await peer.say(f"GET /number/{number} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            answer = await peer.answer()
            assert (answer.status, answer.body) == (200, str(number).encode())
            assert "connection" not in answer.headers


async def test_a_connection_goes_on_after_errors(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with talk(server) as peer:
        for target, status in (("/nowhere", 404), ("/echo", 405), ("/status/9", 500), ("/hello", 200)):
            await peer.say(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            assert (await peer.answer()).status == status


async def test_a_connection_goes_on_after_a_body_that_came_whole_whether_read_or_not(server: Server) -> None:
    async with talk(server) as peer:
        for path, body in (("echo", b"abc"), ("unread", b"not read"), ("echo", b"abc")):
            await peer.say(f"POST /{path} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc".encode())
            assert (await peer.answer()).body == body


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    requests = b"".join(f"GET /number/{n} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for n in range(50))
    post = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody"
    data = await raw(server.port, requests + post + LAST)
    assert answers(data) == [*((200, str(n).encode()) for n in range(50)), (200, b"body"), (200, b"hello")]


async def test_a_request_that_comes_byte_by_byte_is_answered(server: Server) -> None:
    async with talk(server) as peer:
        for byte in b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc":
            await peer.say(bytes([byte]))
        assert (await peer.answer()).body == b"abc"


async def test_nothing_after_connection_close_is_answered(server: Server) -> None:
    assert answers(await raw(server.port, LAST + GET)) == [(200, b"hello")]


@pytest.mark.parametrize("value", ["close", "Close", "CLOSE", "keep-alive, close", "x,close"])
async def test_connection_close_is_honoured_and_told(server: Server, value: str) -> None:
    data = await raw(server.port, GET.replace(b"\r\n\r\n", f"\r\nConnection: {value}\r\n\r\n".encode()))
    assert answers(data) == [(200, b"hello")]
    assert says_close(data)


@pytest.mark.parametrize("extra", [b"", b"Host: test\r\n", b"Connection: keep-alive\r\n"])
async def test_http_1_0_is_answered_and_closed(server: Server, extra: bytes) -> None:
    data = await raw(server.port, b"GET /hello HTTP/1.0\r\n" + extra + b"\r\n")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answers(data) == [(200, b"hello")]
    assert says_close(data)


# The request's body


async def test_a_chunked_body_is_put_together(server: Server) -> None:
    async with talk(server) as peer:
        head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        await peer.say(head + b"3\r\nabc\r\n2;extension=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n" + GET)
        assert (await peer.answer()).body == b"abcde"
        assert (await peer.answer()).body == b"hello"


async def test_a_chunked_body_that_is_too_large_is_a_413() -> None:
    async with running(make_app(), limits=Limits(body_size=10)) as server:
        head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        data = await raw(server.port, head + b"8\r\nabcdefgh\r\n" * 10_000 + b"0\r\n\r\n")
        assert answers(data)[0][0] == 413
        assert says_close(data)


async def test_expect_100_continue_is_answered_when_the_body_is_wanted(server: Server) -> None:
    async with talk(server) as peer:
        await peer.say(b"POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await peer.answer(bodiless=True) == (100, {}, b"", b"HTTP/1.1 100 Continue")
        await peer.say(b"abc")
        assert (await peer.answer()).body == b"abc"
        await peer.say(GET)
        assert (await peer.answer()).body == b"hello"


async def test_expect_100_continue_is_not_answered_when_nobody_wants_the_body(server: Server) -> None:
    data = await raw(
        server.port, b"POST /unread HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    assert answers(data) == [(200, b"not read")]
    assert says_close(data)


async def test_expect_100_continue_for_a_body_that_is_too_large_is_a_413_at_once() -> None:
    async with running(make_app(), limits=Limits(body_size=2)) as server:
        request = b"POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        data = await raw(server.port, request)
        assert [status for status, _ in answers(data)] == [413]
        assert says_close(data)


async def test_expect_100_continue_is_not_answered_when_the_body_has_come_already(server: Server) -> None:
    async with talk(server) as peer:
        await peer.say(b"POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        answer = await peer.answer()
        assert (answer.status, answer.body) == (200, b"abc")


@pytest.mark.parametrize("sent", [0, 10, 4_000_000], ids=["nothing", "part", "all"])
async def test_an_answer_can_be_read_though_the_body_was_not(
    server: Server, sent: int, quiet: pytest.LogCaptureFixture
) -> None:
    data = await raw(
        server.port, b"POST /unread HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n" + b"x" * sent
    )
    assert answers(data) == [(200, b"not read")]
    assert says_close(data)


@pytest.mark.parametrize("goes_on", [True, False], ids=["for a while", "and says no more"])
async def test_a_client_that_still_sends_its_unread_body_meets_no_reset(
    goes_on: bool, server: Server, quiet: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h3ref.adapters.h11_anyio.peer.LINGER", 60 if goes_on else 0.1)
    async with talk(server) as peer:
        await peer.say(b"POST /unread HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n")
        assert (await peer.answer()).body == b"not read"
        if goes_on:
            for _ in range(20):
                await peer.say(b"x" * 1000)
                await anyio.lowlevel.checkpoint()
            await peer.stream.send_eof()
        assert await peer.is_hung_up()


async def test_what_comes_after_the_last_request_does_not_turn_the_end_into_a_reset() -> None:
    app, started, may_go_on = H3App(), anyio.Event(), anyio.Event()

    @app.get("/hello")
    async def slow(event: H3Event) -> None:
        started.set()
        await may_go_on.wait()
        event.send_text("slow")

    async with running(app) as server, talk(server) as peer:
        await peer.say(LAST)
        await started.wait()
        await peer.say(b"x" * 1000)
        may_go_on.set()
        assert (await peer.answer()).body == b"slow"
        assert await peer.is_hung_up()


async def test_a_body_that_breaks_off_is_a_400_and_close(server: Server) -> None:
    async with talk(server) as peer:
        await peer.say(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc")
        await peer.stream.send_eof()
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert answer.body.startswith(b"Bad Request: the body is malformed or broke off")
        assert await peer.is_hung_up()


@pytest.mark.parametrize("apart", [False, True], ids=["with the head", "after the head"])
@pytest.mark.parametrize("chunk", [b"xyz\r\n", b"-1\r\n", b"3\r\nabcde\r\n", b"3 \x00\r\nabc\r\n", b"\r\n\r\n"])
async def test_a_malformed_chunk_is_a_400_and_close(
    server: Server, chunk: bytes, apart: bool, quiet: pytest.LogCaptureFixture
) -> None:
    async with talk(server) as peer:
        head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n"
        head += b"Expect: 100-continue\r\n\r\n" if apart else b"\r\n"
        if apart:
            await peer.say(head)
            assert (await peer.answer(bodiless=True)).status == 100
            await peer.say(chunk)
        else:
            await peer.say(head + chunk)
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await peer.is_hung_up()


@pytest.mark.parametrize("apart", [False, True], ids=["with the head", "after the head"])
async def test_trailers_larger_than_a_head_may_be_are_a_431_and_close(apart: bool) -> None:
    read: list[RequestError] = []
    app = H3App()

    @app.post("/")
    async def handler(event: H3Event) -> None:
        for _ in range(2):
            try:
                await event.read_body()
            except RequestError as error:
                read.append(error)
        raise read[0]

    head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n"
    head += b"Expect: 100-continue\r\n\r\n" if apart else b"\r\n"
    trailers = b"3\r\nabc\r\n0\r\n" + b"X: 1\r\n" * 40 + b"\r\n"
    async with running(app, limits=Limits(head_size=200)) as server, talk(server) as peer:
        if apart:
            await peer.say(head)
            assert (await peer.answer(bodiless=True)).status == 100
            await peer.say(trailers)
        else:
            await peer.say(head + trailers)
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (431, "close")
        assert answer.body == b"Request Header Fields Too Large: the trailers are too large"
        assert await peer.is_hung_up()
        assert read[0] is read[1]
        assert server.stats().refused == {"head_size": 1}


async def test_trailers_too_large_of_a_body_that_nobody_reads_refuse_nothing() -> None:
    async with running(make_app(), limits=Limits(head_size=200)) as server:
        head = b"POST /unread HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        data = await raw(server.port, head + b"0\r\n" + b"X: 1\r\n" * 40 + b"\r\n" + GET)
        assert answers(data) == [(200, b"not read")]
        assert says_close(data)
        assert server.stats().refused == {}


async def test_a_malformed_body_that_nobody_reads_ends_the_connection_after_the_answer(
    server: Server, quiet: pytest.LogCaptureFixture
) -> None:
    head = b"POST /unread HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = await raw(server.port, head + b"xyz\r\n" + GET)
    assert answers(data) == [(200, b"not read")]
    assert says_close(data)


async def test_a_malformed_body_does_not_pass_for_a_short_one_when_it_is_read_again() -> None:
    app = H3App()

    @app.post("/")
    async def handler(event: H3Event) -> None:
        for _ in range(3):
            with suppress(Exception):
                event.send_bytes(await event.read_body())
                return
        event.send_error(400, "refused each time")

    async with running(app) as server:
        head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert answers(await raw(server.port, head + b"3\r\nabc\r\nxyz\r\n")) == [(400, b"refused each time")]


# What is refused


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /hello\r\n\r\n",
        b"GET  /hello HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /hello HTTP/x\r\nHost: test\r\n\r\n",
        b"GET /h\xc3\xa9llo HTTP/1.1\r\nHost: test\r\n\r\n",
        b"G(T /hello HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost : test\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: test\r\nX: a\x00b\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
    ],
    ids=lambda request: repr(request[:90]),
)
async def test_a_malformed_request_is_a_400_and_close(
    server: Server, request_bytes: bytes, quiet: pytest.LogCaptureFixture
) -> None:
    data = await raw(server.port, request_bytes + GET)
    assert re.fullmatch(rb"Bad Request: .*", answers(data)[0][1])
    assert [status for status, _ in answers(data)] == [400]
    assert says_close(data)
    assert answers(await raw(server.port, LAST)) == [(200, b"hello")]


async def test_a_malformed_request_after_a_good_one_is_a_400_and_close(server: Server) -> None:
    data = await raw(server.port, GET + b"nonsense\r\n\r\n")
    assert [status for status, _ in answers(data)] == [200, 400]


async def test_an_unknown_transfer_coding_is_a_400_and_close(server: Server) -> None:
    data = await raw(server.port, b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n")
    assert [status for status, _ in answers(data)] == [400]
    assert says_close(data)


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("size", [1_500, 100_000])
async def test_a_head_that_is_too_large_is_a_431_or_for_its_target_a_414_and_close(
    is_whole: bool, size: int, quiet: pytest.LogCaptureFixture
) -> None:
    async with running(make_app(), limits=Limits(head_size=1000)) as server:
        for start in (b"GET /hello HTTP/1.1\r\nHost: test\r\nX: ", b"GET /hello?"):
            end = b"" if not is_whole else b" HTTP/1.1\r\nHost: test\r\n\r\n" if b"?" in start else b"\r\n\r\n"
            data = await raw(server.port, start + b"x" * size + end)
            assert [status for status, _ in answers(data)] == [414 if b"?" in start else 431]
            assert says_close(data)
        assert answers(await raw(server.port, LAST.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 800 + b"\r\n\r\n"))) == [
            (200, b"hello")
        ]


# Clients that leave


async def test_a_half_closed_client_gets_its_plain_answers(server: Server) -> None:
    async with talk(server) as peer:
        await peer.say(GET + GET)
        await peer.stream.send_eof()
        assert (await peer.answer()).body == b"hello"
        assert (await peer.answer()).body == b"hello"
        assert await peer.is_hung_up()


async def test_a_half_closed_client_gets_the_answer_of_a_slow_handler() -> None:
    app, started, may_go_on = H3App(), anyio.Event(), anyio.Event()

    @app.get("/")
    async def slow(event: H3Event) -> None:
        started.set()
        await may_go_on.wait()
        event.send_text("slow")

    async with running(app) as server, talk(server) as peer:
        await peer.say(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await started.wait()
        await peer.stream.send_eof()
        may_go_on.set()
        assert (await peer.answer()).body == b"slow"
        assert await peer.is_hung_up()


@pytest.mark.parametrize("when", ["before the head", "while it streams"])
async def test_the_stream_of_a_half_closed_client_ends(when: str) -> None:
    app, started, told = H3App(), anyio.Event(), list[str | None]()

    @app.get("/")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        if when == "while it streams":
            await event.await_sse_writer()
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            told.append(event.reason)

    async with running(app) as server, talk(server) as peer:
        await peer.say(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await started.wait()
        await peer.stream.send_eof()
        with anyio.fail_after(10):
            while server.open_connections:
                await anyio.lowlevel.checkpoint()
    assert told == ["client_gone"]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_a_client_that_leaves_during_a_slow_handler_does_no_harm(
    how: str, size: int, quiet: pytest.LogCaptureFixture
) -> None:
    app, started, may_go_on, ended = make_app(), anyio.Event(), anyio.Event(), anyio.Event()

    @app.get("/slow")
    async def slow(event: H3Event) -> None:
        started.set()
        await may_go_on.wait()
        event.send_bytes(b"x" * size)
        ended.set()

    async with running(app) as server:
        async with talk(server) as peer:
            await peer.say(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            await started.wait()
            if how == "reset":
                peer.reset()
        may_go_on.set()
        await ended.wait()
        assert answers(await raw(server.port, LAST)) == [(200, b"hello")]


@pytest.mark.parametrize(
    "said", [b"", b"GET /he", b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc"]
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_within_its_request_does_no_harm(
    server: Server, said: bytes, how: str, quiet: pytest.LogCaptureFixture
) -> None:
    async with talk(server) as peer:
        await peer.say(said)
        if how == "reset":
            peer.reset()
    assert answers(await raw(server.port, LAST)) == [(200, b"hello")]


async def test_an_idle_connection_is_closed_when_its_time_is_up(quiet: pytest.LogCaptureFixture) -> None:
    async with running(make_app(), limits=Limits(head_timeout=0.05)) as server, talk(server) as peer:
        assert await peer.is_hung_up()
    async with running(make_app(), limits=Limits(keep_alive=0.05)) as server, talk(server) as peer:
        await peer.say(GET)
        assert (await peer.answer()).body == b"hello"
        assert await peer.is_hung_up()


async def test_a_head_that_does_not_end_is_a_408_when_its_time_is_up(quiet: pytest.LogCaptureFixture) -> None:
    async with running(make_app(), limits=Limits(head_timeout=0.05)) as server:
        ((status, _),) = answers(await raw(server.port, GET[:-2]))
        assert status == 408


async def test_a_handler_may_take_longer_than_a_connection_may_be_idle() -> None:
    app = H3App()

    @app.get("/")
    async def slow(event: H3Event) -> None:
        await anyio.sleep(0.15)
        event.send_text("slow")

    async with running(app, limits=Limits(keep_alive=0.05)) as server, talk(server) as peer:
        await peer.say(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await peer.answer()).body == b"slow"


# Many


async def test_many_connections_at_once(server: Server) -> None:
    got = list[bytes]()

    async def ask(number: int) -> None:
        async with talk(server) as peer:
            await peer.say(f"GET /number/{number} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            got.append((await peer.answer()).body)

    async with anyio.create_task_group() as tasks:
        for number in range(150):
            tasks.start_soon(ask, number)
    assert sorted(map(int, got)) == list(range(150))


async def test_no_descriptor_is_left_open() -> None:
    async with nothing_left_behind():
        for _ in range(3):
            async with running(make_app()) as server:
                for data in (LAST, b"nonsense\r\n\r\n", GET.replace(b"1.1", b"1.0")):
                    await raw(server.port, data)
                async with talk(server) as peer:
                    await peer.say(GET)
                    await peer.answer()
            with pytest.raises(OSError, match="is taken"), socket.create_server(("127.0.0.1", 0)) as taken:
                async with running(make_app(), port=taken.getsockname()[1]):
                    pass


# From port to port


async def test_port_0_is_a_free_one_and_the_url_tells_it() -> None:
    async with running(make_app()) as server:
        assert 0 < server.port <= 65535
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.url in repr(server)


async def test_a_port_can_be_chosen_and_is_free_again_afterwards() -> None:
    port = free_port()
    for _ in range(2):
        async with running(make_app(), port=port) as server:
            assert server.port == port
            assert answers(await raw(port, LAST)) == [(200, b"hello")]


async def test_a_port_that_is_taken_is_an_os_error_that_says_so() -> None:
    async with running(make_app()) as server:
        with pytest.raises(OSError, match=f"port {server.port} on 127.0.0.1 is taken; choose another") as caught:
            async with running(make_app(), port=server.port):
                pass
        assert caught.value.errno == errno.EADDRINUSE


async def test_a_host_that_is_not_here_is_an_os_error_that_names_it() -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(OSError, match=f"can't listen on {host}:0: "):
            async with running(make_app(), host=host):
                pass


@pytest.mark.parametrize("port", [-1, 65536, 100_000])
async def test_a_port_that_cannot_be_is_a_value_error(port: int) -> None:
    with pytest.raises(ValueError, match=f"a port is from 0 to 65535, not {port}"):
        async with running(make_app(), port=port):
            pass


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_ipv6() -> None:
    async with running(make_app(), host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        async with talk(server, "::1") as peer:
            await peer.say(GET)
            assert (await peer.answer()).body == b"hello"


@pytest.mark.parametrize(
    ("host", "url"),
    [("localhost", "http://localhost:"), ("0.0.0.0", "http://127.0.0.1:"), ("", "http://127.0.0.1:")],
)
async def test_a_url_leads_to_the_server_wherever_it_listens(host: str, url: str) -> None:
    async with running(make_app(), host=host) as server:
        assert server.url == f"{url}{server.port}"
        async with talk(server, server.url.removeprefix("http://").rpartition(":")[0]) as peer:
            await peer.say(GET)
            assert (await peer.answer()).body == b"hello"


async def test_an_address_that_the_machine_lacks_is_left_out_where_a_name_has_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getaddrinfo(host: Any, port: Any, **options: Any) -> list[Any]:
        addresses = ["192.0.2.1", "127.0.0.1", "127.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    with monkeypatch.context() as patched:
        patched.setattr("h3ref.adapters.h11_anyio.listeners.socket.getaddrinfo", getaddrinfo)
        manager = running(make_app(), host="several")
        server = await manager.__aenter__()
    try:
        assert answers(await raw(server.port, LAST)) == [(200, b"hello")]
    finally:
        await manager.__aexit__(None, None, None)


async def test_several_servers_in_one_process() -> None:
    other = H3App()
    other.get("/hello", lambda event: event.send_text("other"))
    async with running(make_app()) as first, running(make_app()) as second, running(other) as third:
        assert len({first.port, second.port, third.port}) == 3
        for server, body in ((first, b"hello"), (second, b"hello"), (third, b"other")):
            assert answers(await raw(server.port, LAST)) == [(200, body)]


class TestWithLoopsOfItsOwn:
    """What needs no event loop from outside."""

    pytestmark: list[pytest.MarkDecorator] = []  # noqa: RUF012

    def test_one_app_serves_several_event_loops_one_after_another(self) -> None:
        app = make_app()

        async def main() -> None:
            async with running(app) as server:
                for target in (b"hello", b"number/hello"):
                    assert answers(await raw(server.port, LAST.replace(b"hello", target))) == [(200, b"hello")]

        for backend in ("asyncio", "trio", "asyncio", "trio"):
            anyio.run(main, backend=backend)

    def test_serve_refuses_a_backend_that_it_does_not_know(self) -> None:
        from h3ref import serve

        with pytest.raises(ValueError, match='backend is "asyncio" or "trio", not \'curio\''):
            serve(make_app(), backend="curio")


# The end


async def test_after_the_end_nobody_listens() -> None:
    async with running(make_app()) as server:
        pass
    assert not server.is_accepting
    with pytest.raises(OSError):  # noqa: PT011 - the text is the event loop's own
        await anyio.connect_tcp("127.0.0.1", server.port)


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, ExceptionGroup])
async def test_an_exception_of_the_body_comes_out_as_it_is(kind: type[Exception]) -> None:
    error = ExceptionGroup("several", [ValueError()]) if kind is ExceptionGroup else kind("x")

    async def serve_and_fail() -> None:
        async with running(make_app()) as server:
            assert answers(await raw(server.port, LAST)) == [(200, b"hello")]
            raise error

    with pytest.raises(kind) as caught:
        await serve_and_fail()
    assert caught.value is error
    assert caught.value.__cause__ is None


async def test_a_body_that_is_cancelled_ends_the_server() -> None:
    with anyio.move_on_after(5) as scope:
        async with running(make_app()) as server:
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not server.is_accepting


@pytest.mark.parametrize("said", [b"", b"GET /he"])
async def test_idle_connections_do_not_delay_the_end(said: bytes, quiet: pytest.LogCaptureFixture) -> None:
    async with running(make_app(), grace=600, limits=WITHOUT_TIME) as server:
        peers = [await anyio.connect_tcp("127.0.0.1", server.port) for _ in range(3)]
        for peer in peers:
            await peer.send(GET + said)
            await peer.receive()
    for peer in peers:
        with pytest.raises(anyio.EndOfStream):
            await peer.receive()
        await peer.aclose()


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_comes_in_the_last_moment_does_not_delay_the_end(
    turns: int, quiet: pytest.LogCaptureFixture
) -> None:
    app, started = H3App(), anyio.Event()

    @app.get("/")
    async def slow(event: H3Event) -> None:
        started.set()
        await until(lambda: not ending.is_accepting)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        event.send_text("slow")

    with socket.socket() as sock:
        async with running(app, grace=600, limits=WITHOUT_TIME) as ending, talk(ending) as peer:
            await peer.say(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await started.wait()
            sock.connect(("127.0.0.1", ending.port))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()


async def test_a_handler_that_runs_at_the_end_may_finish_and_its_answer_says_close() -> None:
    app, started = H3App(), anyio.Event()

    @app.get("/")
    async def slow(event: H3Event) -> None:
        started.set()
        await until(lambda: not ending.is_accepting)
        event.send_text("slow")

    async with running(app) as ending:
        stream = await anyio.connect_tcp("127.0.0.1", ending.port)
        await stream.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await started.wait()
    async with stream:
        answer = await Peer(stream).answer()
        assert (answer.body, answer.headers["connection"]) == (b"slow", "close")


@pytest.mark.parametrize("is_left", [False, True], ids=["the client waits", "the client has left"])
async def test_a_handler_that_outlasts_the_grace_period_is_cut_and_answered_with_a_503(is_left: bool) -> None:
    app, started = H3App(), anyio.Event()

    @app.get("/")
    async def endless(event: H3Event) -> None:
        started.set()
        await anyio.sleep_forever()

    async with running(app, grace=0.1, limits=WITHOUT_TIME) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        peer = Peer(stream)
        await peer.say(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await started.wait()
        if is_left:
            peer.reset()
            await stream.aclose()
    if not is_left:
        async with stream:
            answer = await peer.answer()
            assert (answer.status, answer.headers["connection"], answer.headers["retry-after"]) == (503, "close", "1")


async def test_a_handler_that_cannot_be_cancelled_for_a_client_that_left_does_not_break_the_end() -> None:
    app, started = H3App(), anyio.Event()

    @app.get("/")
    async def stubborn(event: H3Event) -> None:
        with anyio.CancelScope(shield=True):
            started.set()
            await anyio.sleep(0.2)
        event.send_text("late")

    async with running(app, grace=0.1) as server, talk(server) as peer:
        await peer.say(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await started.wait()
        peer.reset()
    assert not server.is_accepting


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_does_not_read_is_cut_at_the_end(is_reset: bool) -> None:
    app, answered = H3App(), anyio.Event()

    @app.get("/")
    async def large(event: H3Event) -> None:
        event.send_bytes(b"x" * 20_000_000)
        answered.set()

    async with running(app, grace=0.1, limits=WITHOUT_TIME) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        await stream.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await answered.wait()
        if is_reset:
            Peer(stream).reset()
            await stream.aclose()
    await stream.aclose()


# Arguments that can't be used


@pytest.mark.parametrize("flow", [flows.callback, flows.awaited, flows.blocking])
async def test_a_flow_that_only_a_handler_can_pick_is_refused(flow: Any) -> None:
    with pytest.raises(ValueError, match=f"{flow.__name__} is picked by what the handler calls"):
        async with running(make_app(), flow=flow):
            pass


@pytest.mark.parametrize("flow", ["broken", 1])
async def test_what_is_no_flow_is_refused(flow: Any) -> None:
    with pytest.raises(TypeError, match=r"flow is None or a flow such as flows\.broken"):
        async with running(make_app(), flow=flow):
            pass


@pytest.mark.parametrize("app", [None, "app", H3App, lambda event: None])
async def test_what_is_no_app_is_refused(app: Any) -> None:
    with pytest.raises(TypeError, match="app is an H3App, not"):
        async with running(app):
            pass


@pytest.mark.parametrize("name", ["grace", "flush_gap"])
@pytest.mark.parametrize("seconds", [-1, float("nan")])
async def test_a_negative_time_is_refused(name: str, seconds: float) -> None:
    options: dict[str, Any] = {name: seconds}
    with pytest.raises(ValueError, match=f"{name} must be seconds, 0 or more"):
        async with running(make_app(), **options):
            pass


@pytest.mark.parametrize(
    "name",
    ["head_size", "body_size", "keep_alive", "handler_threads", "stream_threads", "abandoned_threads", "close_timeout"],
)
async def test_a_limit_that_nothing_could_keep_is_refused(name: str) -> None:
    for limit in (0, -1, float("nan")):
        options: dict[str, Any] = {name: limit}
        with pytest.raises(ValueError, match=f"limit {name} must be more than 0"):
            Limits(**options)


async def test_a_channel_frames_for_each_client_as_its_version_asks() -> None:
    channel, app = Channel(), H3App()

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(channel.stream)

    bodies: dict[str, bytes] = {}

    async def read(port: int, version: str) -> None:
        head = f"GET /events HTTP/{version}\r\nHost: x\r\n\r\n".encode()
        bodies[version] = (await raw(port, head)).partition(b"\r\n\r\n")[2]

    async with running(app) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(read, server.port, "1.0")
        tasks.start_soon(read, server.port, "1.1")
        with anyio.fail_after(10):
            while len(channel) < 2:
                await anyio.lowlevel.checkpoint()
        await channel.publish("one")
        await channel.publish("two")
        await channel.close()
    assert bodies["1.0"] == b"data: one\n\ndata: two\n\n"
    assert bodies["1.1"] in (
        b"16\r\ndata: one\n\ndata: two\n\n\r\n0\r\n\r\n",
        b"b\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n",
    )
