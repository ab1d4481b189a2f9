"""The access log: one line for each request when it is over, whatever became of it; and what no log may show."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from h3ref import Channel, H3App, H3Event, Limits, SSEEvent, SSEWriter, running
from h3ref._core.logs import printable
from h3ref.adapters.asgi import EventSourceResponse
from h3ref.adapters.memory import open_memory
from h3ref.stats import SHOWN, Access
from h3ref.testing import virtual_backends
from tests.clients import open_client, raw, saying, server_of
from tests.waits import until

pytestmark = pytest.mark.anyio


class Lines(logging.Handler):
    """Keeps what the access log says."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def entries(self) -> list[Access]:
        return [record.__dict__["access"] for record in self.records]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The access log, switched on."""
    log = logging.getLogger("h3ref.access")
    handler, level = Lines(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


def app_of(**handlers: Callable[..., Any]) -> H3App:
    """An app with each handler at its name, and one that streams three events."""
    app = H3App()
    for name, handler in handlers.items():
        app.on("GET", f"/{name}", handler)
        app.on("POST", f"/{name}", handler)

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(three)

    return app


async def three(writer: SSEWriter) -> None:
    for number in range(3):
        await writer.send_event(str(number))


async def for_ever(writer: SSEWriter) -> None:
    await writer.send_event("1")
    await anyio.sleep_forever()


def streaming(callback: Callable[[SSEWriter], Any]) -> Callable[[H3Event], None]:
    def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    return handler


async def settled(server: Any) -> None:
    """Wait until no request is under way; a client sees the end of an answer before the server is done with it."""
    with anyio.fail_after(10):
        while server.service.live:
            await anyio.lowlevel.checkpoint()


async def test_every_kind_of_end_is_one_line_with_its_reason(adapter: str, lines: Lines) -> None:
    def hello(event: H3Event) -> None:
        event.send_text("hello")

    def fails(event: H3Event) -> None:
        raise LookupError

    async def breaks(writer: SSEWriter) -> None:
        await writer.send_event("1")
        raise LookupError

    app = app_of(hello=hello, fails=fails, breaks=streaming(breaks), forever=streaming(for_ever))
    async with open_client(adapter, app) as client:
        for path in ("/hello?name=value", "/nothing", "/fails", "/events", "/breaks"):
            await (await client.request("GET", path)).read()
        await (await client.request("PUT", "/hello")).read()
        await (await client.request("HEAD", "/events")).read()
        reply = await client.request("GET", "/forever")
        await reply.receive()
        reply.disconnect()
        await settled(server_of(client))
    found = {(entry.method, entry.path, entry.status, entry.reason, entry.events) for entry in lines.entries}
    assert found == {
        ("GET", "/hello", 200, "responded", 0),
        ("GET", "/nothing", 404, "responded", 0),
        ("GET", "/fails", 500, "error", 0),
        ("GET", "/events", 200, "complete", 3),
        ("GET", "/breaks", 200, "error", 1),
        ("PUT", "/hello", 405, "responded", 0),
        ("HEAD", "/events", 200, "complete", 0),
        ("GET", "/forever", 200, "client_gone", 1),
    }
    assert len(lines.entries) == len(found)
    assert {entry.client for entry in lines.entries} == {"" if adapter == "memory" else "127.0.0.1"}
    assert all(entry.size > 20 for entry in lines.entries)
    assert all(0 <= entry.seconds < 60 for entry in lines.entries)
    assert all(record.levelno == logging.INFO for record in lines.records)


async def test_what_the_native_adapter_refuses_is_one_line_each(lines: Lines) -> None:
    limits = Limits(
        head_size=200, target_size=100, headers=10, head_timeout=0.05, streams=1, body_size=10, stream_keep_alive=None
    )

    async def read(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    async with running(app_of(read=read, forever=streaming(for_ever)), limits=limits) as server:
        await raw(server.port, b"nonsense\r\n\r\n")
        await raw(server.port, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 300 + b"\r\n\r\n")
        await raw(server.port, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10 + b"\r\n")
        await raw(server.port, b"GET /" + b"y" * 120 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        await raw(server.port, b"GET / HTTP/1.1\r\n")
        last = b"Host: a\r\nConnection: close\r\n"
        await raw(server.port, b"POST /read HTTP/1.1\r\n" + last + b"Content-Length: 11\r\n\r\n12345678901")
        async with await saying(server.port, b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n") as stream:
            await stream.receive()
            await raw(server.port, b"GET /events HTTP/1.1\r\n" + last + b"\r\n")
        await settled(server)
        refused = server.stats().refused
    found = [(entry.path, entry.status, entry.reason) for entry in lines.entries]
    assert found == [
        ("", 400, "refused"),
        ("", 431, "refused"),
        ("", 431, "refused"),
        ("", 414, "refused"),
        ("", 408, "refused"),
        ("/read", 413, "error"),
        ("/events", 503, "error"),
        ("/forever", 200, "client_gone"),
    ]
    assert {entry.client for entry in lines.entries} == {"127.0.0.1"}
    assert str(lines.records[0].getMessage()).startswith('127.0.0.1 "-" 400 refused, 0 events, ')
    limited = ("head_size", "headers", "target_size", "head_timeout", "body_size", "streams")
    assert refused == dict.fromkeys(limited, 1)


async def test_a_stream_that_the_servers_end_closes_says_so(lines: Lines) -> None:
    # The client stays longer than the server.
    async with contextlib.AsyncExitStack() as client, running(app_of(forever=streaming(for_ever))) as server:
        stream = await client.enter_async_context(await anyio.connect_tcp("127.0.0.1", server.port))
        await stream.send(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
        await stream.receive()
    assert [(entry.path, entry.reason) for entry in lines.entries] == [("/forever", "shutdown")]


async def test_a_client_for_whom_there_is_no_room_is_one_line(lines: Lines) -> None:
    async with (
        running(app_of(), limits=Limits(connections=1)) as server,
        await anyio.connect_tcp("127.0.0.1", server.port),
    ):
        await until(lambda: server.open_connections)
        assert b" 503 " in await raw(server.port, b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert server.stats().refused == {"connections": 1}
        assert server.stats().connections == 1
    assert [(entry.client, entry.status, entry.reason) for entry in lines.entries] == [("127.0.0.1", 503, "refused")]


async def test_a_request_whose_client_left_before_the_head_has_no_status(lines: Lines) -> None:
    async def waits(event: H3Event) -> None:
        event.start_sse()
        await anyio.sleep_forever()

    async with running(app_of(waits=waits)) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: server.service.live)
        await settled(server)
    assert [(entry.status, entry.reason, entry.size) for entry in lines.entries] == [(0, "client_gone", 0)]
    assert ' "GET /waits" - client_gone, 0 events, 0 bytes, ' in lines.records[0].getMessage()


@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio-virtual", "trio-virtual"])
async def test_the_seconds_are_those_of_the_whole_exchange(lines: Lines) -> None:
    async def slowly(writer: SSEWriter) -> None:
        await anyio.sleep(90)

    async with open_memory(app_of(slowly=streaming(slowly)), limits=Limits(stream_keep_alive=None)) as server:
        await (await server.request("GET", "/slowly")).read()
    assert [entry.seconds for entry in lines.entries] == [pytest.approx(90)]


async def test_a_log_that_nobody_wants_is_not_built(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def build(*args: object) -> None:
        raise AssertionError("nobody wants it")

    monkeypatch.setattr("h3ref._core.exchange.Exchange.describe", build)
    with caplog.at_level(logging.WARNING, "h3ref.access"):
        async with running(app_of()) as server:
            assert b" 400 " in await raw(server.port, b"nonsense\r\n\r\n")
            assert b"data: 2" in await raw(server.port, b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/plain/path-1_2.3~4", "/plain/path-1_2.3~4"),
        ("/%0A", "/%0A"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ('a" 200', "a\\x22\\x20200"),
        ("\\x0a", "\\x5cx0a"),
        ("\x1b[31m\x7f\x85\xff", "\\x1b[31m\\x7f\\x85\\xff"),
        ("\u2028\U0001f600", "\\u2028\\U0001f600"),
        ("", ""),
    ],
)
def test_nothing_can_forge_a_line_or_a_field(text: str, shown: str) -> None:
    assert printable(text) == shown
    line = str(Access(text, text or "GET", text, 200, "responded", 1, 2, 0.5))
    assert line.isascii()
    assert line.isprintable()
    assert re.fullmatch(r'\S+ "\S+ \S*" 200 responded, 1 events, 2 bytes, 0\.500 s', line)


def test_a_long_path_is_cut_in_the_line_alone() -> None:
    entry = Access("", "GET", "/" + "a" * 5000, 200, "responded", 0, 1, 0.0)
    assert len(str(entry)) < SHOWN + 100


async def test_a_path_that_an_asgi_server_passes_on_forges_no_line(lines: Lines) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/a\nb",
        "headers": [],
        "query_string": b"",
        "client": None,
    }

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None: ...

    await app_of()(scope, receive, send)
    assert [record.getMessage().partition(",")[0] for record in lines.records] == ['- "GET /a%0Ab" 404 responded']


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_a_framework_answers_itself_has_no_status_of_ours(lines: Lines) -> None:
    async def items() -> AsyncIterator[str]:
        raise HTTPException(404)
        yield ""

    async def missing(request: Request) -> EventSourceResponse:
        return EventSourceResponse(items())

    async def one(request: Request) -> EventSourceResponse:
        return EventSourceResponse(["1"])

    transport = httpx.ASGITransport(Starlette(routes=[Route("/missing", missing), Route("/one", one)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/missing")).status_code == 404
        assert (await client.get("/one")).text == "data: 1\n\n"
    found = [(entry.path, entry.status, entry.reason, entry.events) for entry in lines.entries]
    assert found == [("/missing", 0, "responded", 0), ("/one", 200, "complete", 1)]


# -- what no log may show

SECRET = "s3cret"


async def test_no_log_above_debug_shows_data_headers_bodies_or_queries(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every kind of failure, each with the secret wherever a client or an app may put one."""
    caplog.set_level(logging.DEBUG, "h3ref")

    async def bad_event(writer: SSEWriter) -> None:
        await writer.send_event(SECRET)
        SSEEvent(SECRET, event=f"{SECRET}\n")

    async def bad_id(writer: SSEWriter) -> None:
        SSEEvent(SECRET, id=f"{SECRET}\0")

    async def no_data(writer: SSEWriter) -> None:
        SSEEvent(event=SECRET)

    async def bad_retry(writer: SSEWriter) -> None:
        SSEEvent(SECRET, retry=SECRET)  # type: ignore[arg-type]

    async def surrogate(writer: SSEWriter) -> None:
        SSEEvent(f"{SECRET}\ud800")

    async def full(writer: SSEWriter) -> None:
        while True:
            writer.send_nowait(SECRET * 1000)

    async def closed(writer: SSEWriter) -> None:
        await writer.close()
        await writer.send_event(SECRET)

    async def shut_channel(writer: SSEWriter) -> None:
        channel = Channel(history=3)
        await channel.publish(SECRET)
        await channel.close()
        await channel.publish(SECRET)

    async def read_json(event: H3Event) -> None:
        await event.read_json()

    def bad_header(event: H3Event) -> None:
        event.set_header("Set-Cookie", f"{SECRET}\r\n")

    def padded_header(event: H3Event) -> None:
        event.set_header("Set-Cookie", f" {SECRET}")

    def odd_header(event: H3Event) -> None:
        event.set_header("Set-Cookie", f"{SECRET}\u20ac")

    def bad_location(event: H3Event) -> None:
        event.redirect(f"/?{SECRET}\n")

    def twice(event: H3Event) -> None:
        event.send_text(SECRET)
        event.send_text(SECRET)

    def nothing(event: H3Event) -> None:
        event.context["token"] = SECRET

    async def too_early(event: H3Event) -> None:
        event.start_sse()
        event.get_sse_writer()

    handlers: dict[str, Callable[..., Any]] = {
        handler.__name__: handler
        for handler in (read_json, bad_header, padded_header, odd_header, bad_location, twice, nothing, too_early)
    }
    for callback in (bad_event, bad_id, no_data, bad_retry, surrogate, full, closed, shut_channel):
        handlers[callback.__name__] = streaming(callback)

    app = app_of(**handlers)

    async def hook(event: H3Event) -> None:
        assert event.query["token"] == SECRET
        assert event.headers["authorization"] == SECRET
        if event.path == "/nothing":
            raise LookupError

    app.request_hooks.append(hook)
    headers = {"Authorization": SECRET, "Last-Event-ID": SECRET}
    async with open_client(adapter, app, limits=Limits(body_size=1000)) as client:
        for name in (*handlers, "none"):
            reply = await client.request("GET", f"/{name}?token={SECRET}", headers=headers)
            await reply.read()
        for body in (SECRET, json.dumps({"key": SECRET}), f"{{{SECRET}", f'{{"a": NaN, "{SECRET}": 1}}', SECRET * 1000):
            reply = await client.request("POST", f"/read_json?token={SECRET}", headers=headers, body=body.encode())
            await reply.read()
        await settled(server_of(client))
    said = shown_above_debug(caplog)
    assert len(said) > len(handlers)
    assert not [text for text in said if SECRET in text]


async def test_what_is_refused_is_not_shown_either(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "h3ref")
    async with running(app_of(), limits=Limits(head_size=300, target_size=100)) as server:
        for head in (
            f"{SECRET}",
            f"GET /?{SECRET}\x01 HTTP/1.1\r\nHost: a",
            f"GET /?{SECRET} HTTP/9.9\r\nHost: a",
            f"GET /?{SECRET} HTTP/1.1\r\nHost: {SECRET}!@",
            f"GET /?{SECRET} HTTP/1.1\r\nHost: a\r\n{SECRET}",
            f"GET /?{SECRET} HTTP/1.1\r\nHost: a\r\nCookie: {SECRET}\x02",
            f"GET /?{SECRET} HTTP/1.1\r\nHost: a\r\nCookie: {SECRET * 100}",
            f"GET /?{SECRET * 30} HTTP/1.1\r\nHost: a",
            f"POST /?{SECRET} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {SECRET}",
            f"POST /events?{SECRET} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}",
        ):
            assert b"HTTP/1.1 4" in await raw(server.port, f"{head}\r\n\r\n".encode("latin-1")) or "9.9" in head
    said = shown_above_debug(caplog)
    assert len(said) >= 10
    assert not [text for text in said if SECRET in text]


def shown_above_debug(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All that our loggers said above DEBUG, tracebacks included; each name is that of a module, but for one."""
    records = [
        record for record in caplog.records if record.name.startswith("h3ref") and record.levelno > logging.DEBUG
    ]
    ours = [record for record in records if record.name != "h3ref.access"]  # which is the name of a log, not a module
    assert all(record.module == record.name.rpartition(".")[2] for record in ours)
    return [logging.Formatter().format(record) for record in records]


def test_without_a_set_up_nothing_is_printed() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("h3ref").handlers)
