"""`EventSourceResponse` in Starlette and FastAPI, over real servers and under the frameworks' own test clients."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import anyio
import anyio.lowlevel
import anyio.to_thread
import fastapi
import fastapi.testclient
import hypercorn.config
import hypercorn.trio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

import h3ref.testing
from h3ref import BlockingSSEWriter, Channel, Limits, SSEEvent, SSEWriter, flows
from h3ref._core.service import Service
from h3ref.adapters.asgi import EventSourceResponse, response
from h3ref.adapters.asgi.items import event_of
from h3ref.adapters.asgi.transport import ASGILoop
from h3ref.connection import End
from h3ref.errors import PermissionExpired, WriteError
from tests import waits
from tests.clients import SocketClient, SocketReply

CASES = {"starlette on uvicorn": "asyncio", "fastapi on uvicorn": "asyncio", "starlette on hypercorn, trio": "trio"}

on_servers = pytest.mark.parametrize(
    ("case", "anyio_backend"), CASES.items(), ids=list(CASES), indirect=["anyio_backend"]
)
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)

Endpoint = Callable[[Request], Any]


def application(case: str, endpoint: Endpoint, *middleware: Any) -> ASGIApp:
    """The case's framework with the endpoint at /events, an ordinary route beside it, and middleware around them."""
    stack = [Middleware(part) for part in middleware]
    if "starlette" in case:
        plain = Route("/plain", lambda request: PlainTextResponse("plain" * 200))
        return Starlette(routes=[Route("/events", endpoint, methods=["GET", "POST"]), plain], middleware=stack)
    app = fastapi.FastAPI(middleware=stack)
    app.add_api_route("/events", endpoint, methods=["GET", "POST", "HEAD"], response_model=None)
    app.add_api_route("/plain", lambda: PlainTextResponse("plain" * 200), methods=["GET"])
    return app


@asynccontextmanager
async def serving(case: str, app: Any) -> AsyncIterator[SocketClient]:
    """Serve the app as the case says, and return a client."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = SocketClient(SimpleNamespace(port=listener.getsockname()[1]))  # type: ignore[arg-type]
    try:
        async with anyio.create_task_group() as tasks:
            try:
                if "uvicorn" in case:
                    server = uvicorn.Server(
                        uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=20)
                    )
                    client.server.stop = lambda: setattr(server, "should_exit", True)  # type: ignore[union-attr]
                    tasks.start_soon(server.serve, [listener])
                    yield client
                    await client.aclose()
                    server.should_exit = True
                else:
                    config = hypercorn.config.Config()
                    config.bind = [f"fd://{listener.detach()}"]
                    config.graceful_timeout = 20
                    ended = anyio.Event()
                    tasks.start_soon(_serve_hypercorn, app, config, ended)
                    yield client
                    await client.aclose()
                    ended.set()
            except BaseException:
                tasks.cancel_scope.cancel()
                raise
    finally:
        listener.close()


async def _serve_hypercorn(app: Any, config: hypercorn.config.Config, ended: anyio.Event) -> None:
    await hypercorn.trio.serve(app, config, shutdown_trigger=ended.wait)


async def until(reply: SocketReply, text: bytes) -> bytes:
    """Read until the text has come."""
    data = b""
    with anyio.fail_after(10):
        while text not in data:
            chunk = await reply.receive()
            assert chunk, f"ended after {data!r}"
            data += chunk
    return data


# -- what can be streamed


async def three_async() -> AsyncGenerator[Any, None]:
    yield SSEEvent("1", event="tick")
    yield "2"
    yield {"data": 3, "id": 7}


def three_plain() -> Iterator[Any]:
    yield SSEEvent("1", event="tick")
    yield "2"
    yield {"data": 3, "id": 7}


class Iterable:
    """No generator: nothing but `__aiter__`."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return three_async()


def the_event_of(item: Any) -> SSEEvent | str:
    event = event_of(item)
    assert event is not None
    return event


async def three_called(writer: SSEWriter) -> None:
    async for item in three_async():
        await writer.send_event(the_event_of(item))


def three_called_blocking(writer: BlockingSSEWriter) -> None:
    for item in three_plain():
        writer.send_event(the_event_of(item))


CONTENTS: dict[str, Callable[[], Any]] = {
    "async generator": three_async,
    "generator": three_plain,
    "list": lambda: list(three_plain()),
    "async iterable": Iterable,
    "async callback": lambda: three_called,
    "callback": lambda: three_called_blocking,
}
THREE = b"event: tick\ndata: 1\n\ndata: 2\n\nid: 7\ndata: 3\n\n"


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize("content", CONTENTS)
async def test_content(case: str, content: str) -> None:
    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(CONTENTS[content]())

    async with serving(case, application(case, endpoint)) as client:
        reply = await client.request("GET", "/events")
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.headers["cache-control"] == "no-cache, no-transform"
        assert reply.headers["x-accel-buffering"] == "no"
        assert "content-length" not in reply.headers
        assert (await reply.read(), reply.end) == (THREE, End.PROPER)
        plain = await client.request("GET", "/plain")
        assert (plain.status, len(await plain.read())) == (200, 1000)


@pytest.mark.anyio
@on_servers
async def test_a_post_with_a_body(case: str) -> None:
    async def endpoint(request: Request) -> Response:
        text = (await request.body()).decode()
        return EventSourceResponse([text, request.headers["last-event-id"]])

    async with serving(case, application(case, endpoint)) as client:
        reply = await client.request("POST", "/events", headers={"Last-Event-ID": "41"}, body=b"prompt")
        assert await reply.read() == b"data: prompt\n\ndata: 41\n\n"


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize("content", CONTENTS)
async def test_head_runs_nothing(case: str, content: str) -> None:
    done = anyio.Event()

    async def background() -> None:
        done.set()

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(CONTENTS[content](), background=BackgroundTask(background))

    async with serving(case, application(case, endpoint)) as client:
        stream = await anyio.connect_tcp("127.0.0.1", client.server.port)
        async with stream:
            await stream.send(b"HEAD /events HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            received = b""
            with suppress(anyio.EndOfStream):
                while True:
                    received += await stream.receive()
        assert received.startswith(b"HTTP/1.1 200")
        assert received.endswith(b"\r\n\r\n")
        assert received.count(b"\r\n\r\n") == 1
        with anyio.fail_after(10):
            await done.wait()


# -- errors


class Refused(Exception):
    """An error of the application's own."""


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_an_error_before_the_first_event(case: str, kind: str) -> None:
    def plain(what: str) -> Iterator[str]:
        if what == "http":
            raise HTTPException(404, "no such feed")
        raise Refused if what == "own" else ValueError("early")
        yield ""

    async def stream(what: str) -> AsyncGenerator[str, None]:
        await anyio.lowlevel.checkpoint()
        for item in plain(what):
            yield item

    def endpoint(request: Request) -> Response:
        return EventSourceResponse((plain if kind == "plain" else stream)(request.query_params["what"]))

    def handle(request: Request, error: Exception) -> Response:
        return PlainTextResponse("own handler", 409)

    app: Any = application(case, endpoint)
    app.add_exception_handler(Refused, handle)
    async with serving(case, app) as client:
        for what, status, text in [("http", 404, b"no such feed"), ("own", 409, b"own handler"), ("other", 500, b"")]:
            reply = await client.request("GET", f"/events?what={what}")
            assert reply.status == status
            assert not reply.headers["content-type"].startswith("text/event-stream")
            assert text in await reply.read()


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["at the head", "in the block"])
async def test_an_error_that_has_cut_the_stream_goes_to_the_framework(where: str) -> None:
    later: list[str] = []

    async def stream() -> AsyncGenerator[str, None]:
        await anyio.sleep(60)
        yield "late"

    async def callback(writer: SSEWriter) -> None:
        async with writer:
            raise Refused("in the block")

    async def send(message: Any) -> None:
        if where == "at the head":
            raise Refused("at the head")

    async def receive() -> Any:
        await anyio.sleep_forever()

    content: Any = stream() if where == "at the head" else callback
    reply = EventSourceResponse(content, commit_after=0, background=BackgroundTask(later.append, "background"))
    with anyio.fail_after(10), pytest.raises(WriteError if where == "at the head" else Refused, match=where):
        await reply({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    assert not later


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize("content", ["async", "plain", "callback", "async callback"])
async def test_an_error_after_the_first_events(case: str, content: str, caplog: pytest.LogCaptureFixture) -> None:
    async def stream() -> AsyncGenerator[str, None]:
        for item in plain():
            yield item

    def plain() -> Iterator[str]:
        yield from ("1", "2", "3")
        raise Refused("late")

    def callback(writer: BlockingSSEWriter) -> None:
        for item in plain():
            writer.send_event(item)

    async def async_callback(writer: SSEWriter) -> None:
        for item in plain():
            await writer.send_event(item)

    def endpoint(request: Request) -> Response:
        contents: dict[str, Callable[[], Any]] = {"async": stream, "plain": plain, "callback": lambda: callback}
        return EventSourceResponse(contents.get(content, lambda: async_callback)())

    async with serving(case, application(case, endpoint)) as client:
        reply = await client.request("GET", "/events")
        assert reply.status == 200
        assert await reply.read() == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
        assert reply.end is End.CUT
    logged = [record for record in caplog.records if record.exc_info and isinstance(record.exc_info[1], Refused)]
    assert [record.name.partition(".")[0] for record in logged] in (["uvicorn"], ["hypercorn"])  # once


@pytest.mark.parametrize(
    ("item", "error", "match"),
    [
        ({"data": "1", "evnt": "x"}, ValueError, "data, event, id, retry, comment; not 'evnt'"),
        ({"data": {"a": 1}}, TypeError, r"json.dumps\(\) it"),
        ({"data": "1", "event": "a\nb"}, ValueError, "event"),
        ({"data": True}, TypeError, r"data must be a str, not bool; make it one with str\(\) or json.dumps\(\)"),
        ({"event": "a", "id": [1]}, TypeError, "id must be a str"),
        (True, TypeError, "an SSEEvent, a str, a number, a UUID, or a dict of SSEEvent's arguments, not True"),
        (None, TypeError, "not None"),
        (b"5", TypeError, "an SSEEvent, a str, a number, a UUID, or a dict"),
    ],
)
def test_an_item_that_cannot_be_sent(item: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        get(lambda: EventSourceResponse([item]))


def test_a_dict_of_all_arguments() -> None:
    item = {"data": 1.5, "event": "e", "id": 2, "retry": 3, "comment": "c"}
    assert (
        get(lambda: EventSourceResponse([item])).content
        == SSEEvent("1.5", event="e", id="2", retry=3, comment="c").encode()
    )


NUMBER = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize(
    ("item", "sent"),
    [
        ({"event": "end"}, b"event: end\ndata: \n\n"),
        ({"event": "end", "data": None, "id": 0}, b"event: end\nid: 0\ndata: \n\n"),
        ({"event": None, "data": "1"}, b"data: 1\n\n"),
        ({"id": "1"}, b"id: 1\n\n"),
        ({"comment": "c"}, b": c\n\n"),
        ({"data": ""}, b"data: \n\n"),
        ({"data": NUMBER, "id": NUMBER}, f"id: {NUMBER}\ndata: {NUMBER}\n\n".encode()),
        (5, b"data: 5\n\n"),
        (0.5, b"data: 0.5\n\n"),
        (Decimal("0.10"), b"data: 0.10\n\n"),
        (NUMBER, f"data: {NUMBER}\n\n".encode()),
    ],
)
def test_an_item_that_is_no_event_yet(item: Any, sent: bytes, kind: str) -> None:
    async def stream() -> AsyncGenerator[Any, None]:
        yield item

    assert get(lambda: EventSourceResponse([item] if kind == "plain" else stream())).content == sent


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_dict_that_holds_nothing_is_skipped(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def plain() -> Iterator[Any]:
        yield {}
        yield "1"
        yield {"data": None, "event": None}

    async def stream() -> AsyncGenerator[Any, None]:
        for item in plain():
            yield item

    assert get(lambda: EventSourceResponse(plain() if kind == "plain" else stream())).content == b"data: 1\n\n"
    said = [record for record in caplog.records if record.name == "h3ref.adapters.asgi.items"]
    assert [record.getMessage().partition(" was skipped")[0] for record in said] == [
        "{}",
        "{'data': None, 'event': None}",
    ]


def get(make: Callable[[], Response]) -> Any:
    """Answer one request with what `make` returns, in process."""

    async def endpoint(request: Request) -> Response:
        return make()

    with TestClient(Starlette(routes=[Route("/", endpoint)])) as client:
        return client.get("/")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"status_code": 201}, ValueError, "a stream's status is 200, not 201"),
        ({"media_type": "text/plain"}, ValueError, "media type is text/event-stream"),
        ({"media_type": ""}, ValueError, "media type is text/event-stream"),
        ({"headers": {"Content-Type": "text/plain"}}, ValueError, "media type is text/event-stream"),
        (
            {"headers": {"content-type": "application/json"}, "media_type": "text/event-stream"},
            ValueError,
            "media type",
        ),
        ({"headers": {"Content-Length": "9"}}, ValueError, "Content-Length is set by the server"),
        ({"headers": {"Date": "today"}}, ValueError, "Date is set by the server"),
        ({"headers": {"Connection": "a\r\nb"}}, ValueError, "CR, LF"),
        ({"headers": {"X-Name": "a\r\nb"}}, ValueError, "CR, LF"),
        ({"ping": -1}, ValueError, "ping must be seconds, 0 or more"),
        ({"send_timeout": -1}, ValueError, "send_timeout must be seconds"),
        ({"send_timeout": 0}, ValueError, "send_timeout is more than 0"),
        ({"commit_after": -1}, ValueError, "commit_after must be seconds"),
        ({"expires_at": datetime(2030, 1, 1)}, ValueError, "has no time zone"),
        ({"expires_at": "tomorrow"}, TypeError, "takes an aware datetime, or seconds since the epoch"),
        ({"expiry_farewell": "bye"}, TypeError, "farewell is an SSEEvent, or None for none"),
        ({"content": "text"}, TypeError, "put the str in a list"),
        ({"content": {"data": "1"}}, TypeError, "put the dict in a list"),
        ({"content": SSEEvent("1")}, TypeError, "put the SSEEvent in a list"),
        ({"content": 5}, TypeError, "an iterable of events, or a callback"),
        ({"content": three_async}, TypeError, "three_async is a generator function: call it"),
        ({"content": three_plain}, TypeError, "three_plain is a generator function: call it"),
        ({"content": lambda: None}, TypeError, "must take the writer"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        EventSourceResponse(**{"content": [], **arguments})


def test_headers_and_cookies() -> None:
    def make() -> Response:
        reply = EventSourceResponse(
            ["1"],
            headers={"Cache-Control": "no-store", "X-Name": "name"},
            media_type="text/event-stream; charset=UTF-8",
        )
        reply.set_cookie("a", "1")
        reply.set_cookie("b", "2")
        reply.headers["x-later"] = "set"
        return reply

    headers = get(make).headers
    assert headers["content-type"] == "text/event-stream; charset=UTF-8"
    assert headers.get_list("cache-control") == ["no-store"]
    assert headers["x-name"] == "name"
    assert [cookie.split(";")[0] for cookie in headers.get_list("set-cookie")] == ["a=1", "b=2"]
    assert headers["x-later"] == "set"


def test_a_content_type_that_is_set_later_is_looked_at_when_it_is_sent() -> None:
    def make(media_type: str) -> Response:
        reply = EventSourceResponse(["1"], headers={"Content-Type": "text/event-stream; a=b"})
        assert reply.headers["content-type"] == "text/event-stream; a=b"
        reply.headers["content-type"] = media_type
        return reply

    assert get(lambda: make("text/event-stream; c=d")).headers["content-type"] == "text/event-stream; c=d"
    with pytest.raises(ValueError, match="a stream's media type is text/event-stream, not 'text/html'"):
        get(lambda: make("text/html"))


@pytest.mark.anyio
@on_servers
async def test_what_is_about_the_connection_is_ignored_with_one_line_in_the_log(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(request: Request) -> Response:
        reply = EventSourceResponse(["1"], headers={"Connection": "keep-alive", "X-Name": "name"})
        reply.headers["Keep-Alive"] = "timeout=5"
        return reply

    async with serving(case, application(case, endpoint)) as client:
        for _ in range(3):
            reply = await client.request("GET", "/events")
            assert (reply.status, reply.headers["x-name"]) == (200, "name")
            assert "keep-alive" not in reply.headers.keys() | set(reply.headers.get("connection", "").split())
            assert (await reply.read(), reply.end) == (b"data: 1\n\n", End.PROPER)
    said = [record.getMessage().split()[1] for record in caplog.records if record.name == "h3ref.service"]
    assert said == ["connection", "keep-alive"]


def test_a_scope_that_is_no_request() -> None:
    async def ask() -> None:
        await EventSourceResponse([])({"type": "websocket"}, None, None)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="'websocket'"):
        anyio.run(ask)


# -- when things happen


@pytest.mark.anyio
@on_servers
async def test_events_come_as_they_are_yielded_and_leaving_cancels(case: str) -> None:
    ended = anyio.Event()
    done = anyio.Event()

    async def stream() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def background() -> None:
        done.set()

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream(), background=BackgroundTask(background))

    stacks: list[list[Any]] = [[], [noting]]
    for stack in stacks:
        ended, done = anyio.Event(), anyio.Event()
        async with serving(case, application(case, endpoint, *stack)) as client:
            reply = await client.request("GET", "/events")
            await until(reply, b"data: 1\n\n")
            assert not ended.is_set()
            reply.disconnect()
            with anyio.fail_after(10):
                await ended.wait()
                await done.wait()


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize(
    ("by", "end"),
    [
        ("generator", "the client leaves"),
        ("generator", "the client leaves, and a yield waits"),
        ("callback", "the client leaves"),
        ("callback", "the client leaves, and a send waits"),
        ("callback", "another task closes it"),
    ],
)
async def test_a_stream_that_is_ended_from_outside_cleans_up(case: str, by: str, end: str) -> None:
    begun, cleaned = anyio.Event(), anyio.Event()
    writers: list[SSEWriter] = []
    block = "x" * 65536

    async def clean_up() -> None:
        await anyio.to_thread.run_sync(str)
        await anyio.sleep(0.01)
        cleaned.set()

    async def generator() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            begun.set()
            while "waits" in end:
                yield block
            await anyio.sleep_forever()
        finally:
            await clean_up()

    async def callback(writer: SSEWriter) -> None:
        try:
            writers.append(writer)
            await writer.send_event("1")
            begun.set()
            while "waits" in end:
                await writer.send_event(block)
            await anyio.sleep_forever()
        finally:
            await clean_up()

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(generator() if by == "generator" else callback)

    with anyio.fail_after(10):
        async with serving(case, application(case, endpoint)) as client:
            reply = await client.request("GET", "/events")
            await until(reply, b"data: 1\n\n")
            await begun.wait()
            if "leaves" in end:
                reply.disconnect()
            else:
                await writers[0].close()
                assert await reply.read() == b""
                assert reply.end is End.PROPER
            await cleaned.wait()


@pytest.mark.anyio
@on_servers
async def test_a_time_limit_around_a_yield_that_expires_cuts_the_stream(case: str) -> None:
    ended = anyio.Event()

    async def generator() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            with anyio.move_on_after(0.2):
                while True:
                    yield "x" * 65536
            yield "the rest"
        finally:
            ended.set()

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(generator())

    with anyio.fail_after(10):
        async with serving(case, application(case, endpoint)) as client:
            reply = await client.request("GET", "/events")
            await ended.wait()
            await reply.read()
            assert reply.end is End.CUT


def noting(app: ASGIApp) -> ASGIApp:
    """A middleware of the kind that wraps the response's body in a stream of its own."""

    async def dispatch(request: Request, call_next: Any) -> Response:
        reply: Response = await call_next(request)
        reply.headers["x-noted"] = "yes"
        return reply

    return BaseHTTPMiddleware(app, dispatch)


@pytest.mark.anyio
@on_servers
async def test_middleware_around_it(case: str) -> None:
    go_on = anyio.Event()

    async def stream() -> AsyncGenerator[str, None]:
        yield "first" * 1000
        await go_on.wait()
        yield "second"
        raise Refused

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream())

    async with serving(case, application(case, endpoint, GZipMiddleware, noting)) as client:
        reply = await client.request("GET", "/events", headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in reply.headers
        assert reply.headers["x-noted"] == "yes"
        await until(reply, b"first\n\n")
        go_on.set()
        assert await reply.read() == b"data: second\n\n"
        assert reply.end is End.PROPER  # BaseHTTPMiddleware ends every body so, whatever has happened in it
        plain = await client.request("GET", "/plain", headers={"Accept-Encoding": "gzip"})
        assert plain.headers["content-encoding"] == "gzip"


@pytest.mark.anyio
@on_servers
async def test_a_slow_first_event_opens_the_stream_after_commit_after(case: str) -> None:
    go_on = anyio.Event()

    async def stream() -> AsyncGenerator[str, None]:
        await go_on.wait()
        yield "late"

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream(), commit_after=0.05)

    async with serving(case, application(case, endpoint)) as client:
        with anyio.fail_after(10):
            reply = await client.request("GET", "/events")
        assert reply.status == 200
        go_on.set()
        assert await reply.read() == b"data: late\n\n"


@pytest.mark.anyio
@on_servers
async def test_ping(case: str) -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        if len(made) == 1:
            raise ValueError("once")
        return {} if len(made) == 2 else SSEEvent(comment="beat")

    async def endpoint(request: Request) -> Response:
        factory = make if "made" in request.query_params else None
        return EventSourceResponse(silent(), ping=0.1, ping_message_factory=factory)

    async with serving(case, application(case, endpoint)) as client:
        usual = await client.request("GET", "/events")
        received = await until(usual, b"keep-alive\n\n: keep-alive")
        assert received.startswith(b"data: 1\n\n: keep-alive\n\n: keep-alive")
        # What the factory can't make, or leaves empty, changes nothing.
        others = await client.request("GET", "/events?made")
        received = await until(others, b"beat\n\n")
        assert received.startswith(b"data: 1\n\n" + b": keep-alive\n\n" * 2 + b": beat\n\n")


async def silent() -> AsyncGenerator[str, None]:
    yield "1"
    await anyio.sleep_forever()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("ping", "at"), [(3, [3.0, 6.0, 9.0]), (2.5, [2.5, 5.0, 7.5, 10.0]), (None, []), (0, [])])
def test_a_ping_comes_whenever_nothing_was_sent_for_so_long(backend: Any, ping: float | None, at: list[float]) -> None:
    app = Starlette(routes=[Route("/", lambda request: EventSourceResponse(silent(), ping=ping))])
    with h3ref.testing.TestClient(app, backend=backend) as client, client.stream("GET", "/") as stream:
        assert stream.next_event().data == "1"
        client.advance(10)
        assert stream.comments == ["keep-alive"] * len(at)
        assert [seconds for seconds, _ in stream.arrivals] == [0.0, *at]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_event_puts_a_ping_off(backend: Any) -> None:
    async def often() -> AsyncGenerator[str, None]:
        for number in range(8):
            yield str(number)
            await anyio.sleep(2)

    app = Starlette(routes=[Route("/", lambda request: EventSourceResponse(often(), ping=3))])
    with h3ref.testing.TestClient(app, backend=backend) as client, client.stream("GET", "/") as stream:
        assert [event.data for event in stream.events()] == list("01234567")
        assert stream.comments == []


# -- when it expires


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize("kind", ["async", "plain", "callback", "on thread"])
async def test_it_ends_when_what_it_is_permitted_for_is_over(case: str, kind: str) -> None:
    woken = threading.Event()

    async def stream() -> AsyncGenerator[str, None]:
        yield "1"
        await anyio.sleep_forever()

    def plain() -> Iterator[str]:
        yield "1"
        woken.wait(60)

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await anyio.sleep_forever()

    def on_thread(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        woken.wait(60)

    def endpoint(request: Request) -> Response:
        ends = datetime.fromtimestamp(time.time() + float(request.query_params["in"]), UTC)
        made: Any = {"async": stream, "plain": plain}[kind]() if kind in ("async", "plain") else callback
        content = on_thread if kind == "on thread" else made
        return EventSourceResponse(content, expires_at=ends, expiry_farewell=SSEEvent("bye"), ping=None)

    def handle(request: Request, error: Any) -> Response:
        return PlainTextResponse(f"answered here: {error.detail}", error.status_code)

    app: Any = application(case, endpoint)
    app.add_exception_handler(HTTPException, handle)
    async with serving(case, app) as client:
        for seconds in waits.LONGER:
            reply = await client.request("GET", f"/events?in={seconds}")
            with anyio.fail_after(50):
                body = await reply.read()
            if b"data: 1" in body:
                break  # else the machine stood still, and it was over before it had begun
        assert (reply.status, body, reply.end) == (200, b"data: 1\n\ndata: bye\n\n", End.PROPER)
        woken.set()
        late = await client.request("GET", "/events?in=-1")
        assert (late.status, await late.read()) == (403, f"answered here: {PermissionExpired()}".encode())


@pytest.mark.anyio
@on_servers
async def test_the_framework_answers_also_where_the_head_did_not_wait_for_an_item(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def stream() -> AsyncGenerator[str, None]:
        await anyio.sleep_forever()
        yield ""

    def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream(), expires_at=time.time() - 1, commit_after=0.01)

    async with serving(case, application(case, endpoint)) as client:
        reply = await client.request("GET", "/events")
        assert reply.status == 403
        assert str(PermissionExpired()).encode() in await reply.read()
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.anyio
@on_asyncio
async def test_send_timeout_ends_a_stream_that_nobody_reads() -> None:
    ended = anyio.Event()
    sent = 0

    async def stream() -> AsyncGenerator[str, None]:
        nonlocal sent
        try:
            while True:
                yield "x" * 60_000
                sent += 1
        finally:
            ended.set()

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream(), send_timeout=0.3)

    case = next(iter(CASES))
    async with serving(case, application(case, endpoint)) as client:
        await client.request("GET", "/events")
        with anyio.fail_after(10):
            await ended.wait()
    assert sent > 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", h3ref.testing.virtual_backends())
async def test_by_default_a_reader_holds_up_a_channel_no_longer_than_on_the_native_server() -> None:
    feed = Channel(policy="wait", limit=1)
    reply = EventSourceResponse(feed.stream, ping=None)

    async def send(message: Any) -> None:
        if message.get("body"):
            await anyio.sleep_forever()  # the client's window is closed

    async def receive() -> Any:
        await anyio.sleep_forever()  # it stays

    async def answer() -> None:
        await reply({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await waits.until(lambda: len(feed))
        start = anyio.current_time()
        await feed.publish("never read")
        await feed.publish("waits for the reader")
        assert anyio.current_time() - start == pytest.approx(Limits().send_timeout)


class Over:
    """A callback on a thread that has nothing to stream."""

    is_over = True

    def __call__(self, writer: BlockingSSEWriter) -> None:
        raise AssertionError("nobody calls it")


@pytest.mark.anyio
@on_servers
async def test_what_is_over_is_a_204_and_no_stream(case: str) -> None:
    closed = Channel(history=10)
    await closed.close()
    ended: list[str] = []
    for content in (closed.stream, closed.stream_from("1"), Over()):

        async def endpoint(request: Request, content: Any = content) -> Response:
            background = BackgroundTask(ended.append, "the response")
            return EventSourceResponse(content, headers={"X-Name": "kept"}, background=background)

        async with serving(case, application(case, endpoint)) as client:
            reply = await client.request("GET", "/events")
            assert (reply.status, await reply.read(), reply.end) == (204, b"", End.PROPER)
            assert reply.headers["x-name"] == "kept"
            assert "content-type" not in reply.headers
    assert ended == ["the response"] * 3


@pytest.mark.anyio
@on_servers
async def test_a_closed_channel_in_a_callback_of_ones_own_cuts_the_stream(case: str) -> None:
    closed = Channel()
    await closed.close()

    async def stream(writer: SSEWriter) -> None:
        await closed.stream(writer)

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream)

    async with serving(case, application(case, endpoint)) as client:
        reply = await client.request("GET", "/events")
        assert (reply.status, await reply.read(), reply.end) == (200, b"", End.CUT)


@pytest.mark.anyio
@on_asyncio
async def test_a_response_resumes_from_an_id_of_the_query() -> None:
    feed = Channel(history=10)
    for number in range(3):
        await feed.publish(SSEEvent(str(number), id=str(number)))

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(feed.stream_from(request.query_params["lastEventID"]))

    case = next(iter(CASES))
    async with serving(case, application(case, endpoint)) as client:
        reply = await client.request("GET", "/events?lastEventID=0")
        assert await until(reply, b"data: 2\n\n") == b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n"


@pytest.mark.anyio
@on_asyncio
async def test_a_server_that_ends_gives_streams_their_proper_end() -> None:
    async def stream() -> AsyncGenerator[str, None]:
        yield "1"
        await anyio.sleep_forever()

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream())

    case = next(iter(CASES))
    async with serving(case, application(case, endpoint)) as client:
        reply = await client.request("GET", "/events")
        await until(reply, b"data: 1\n\n")
        server: Any = client.server
        server.stop()
        with anyio.fail_after(10):
            assert (await reply.read(), reply.end) == (b"", End.PROPER)


@pytest.mark.anyio
@on_asyncio
async def test_all_threads_taken() -> None:
    release = anyio.Event()

    def stream(first: bool) -> Iterator[str]:
        yield "1"
        if first:
            anyio.from_thread.run(release.wait)

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream("first" in request.query_params))

    case = next(iter(CASES))
    service = Service(response._Responses(), flow=flows.by_handler, limits=Limits(stream_threads=1))
    response._LOOP.set(ASGILoop(service))
    async with serving(case, application(case, endpoint)) as client:
        first = await client.request("GET", "/events?first=1")
        await until(first, b"data: 1\n\n")
        second = await client.request("GET", "/events")
        assert (second.status, second.headers["retry-after"]) == (503, "1")
        release.set()
        await first.read()
        third = await client.request("GET", "/events")
        assert third.status == 200


# -- in FastAPI


def test_a_fastapi_app_with_its_own_tests() -> None:
    steps: list[str] = []
    app = fastapi.FastAPI()

    async def session() -> AsyncIterator[str]:
        steps.append("opened")
        yield "session"
        steps.append("closed")

    Session = fastapi.Depends(session)

    @app.get("/returned")
    async def returned(opened: str = Session, count: int = 2) -> EventSourceResponse:
        async def stream() -> AsyncGenerator[dict[str, Any], None]:
            for number in range(count):
                yield {"data": number}
            steps.append(f"streamed in {opened}")

        return EventSourceResponse(stream(), background=BackgroundTask(steps.append, "background"))

    @app.get("/yielded", response_class=EventSourceResponse)
    async def yielded(tasks: fastapi.BackgroundTasks) -> AsyncIterator[SSEEvent]:
        tasks.add_task(steps.append, "background")
        yield SSEEvent("1", id="1")

    @app.get("/yielded-plainly", response_class=EventSourceResponse)
    def yielded_plainly() -> Iterator[str]:
        yield "1"

    @app.get("/refused", response_class=EventSourceResponse)
    async def refused() -> AsyncIterator[str]:
        raise fastapi.HTTPException(403, "not yours")
        yield ""

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"plain": "yes"}

    with fastapi.testclient.TestClient(app) as client:
        assert client.get("/returned?count=3").text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert steps == ["opened", "streamed in session", "background", "closed"]
        steps.clear()
        assert client.get("/returned?count=x").status_code == 422
        reply = client.get("/yielded")
        assert (reply.text, reply.headers["content-type"]) == (
            "id: 1\ndata: 1\n\n",
            "text/event-stream; charset=utf-8",
        )
        assert steps[-1:] == ["background"]
        assert client.get("/yielded-plainly").text == "data: 1\n\n"
        refusal = client.get("/refused")
        assert (refusal.status_code, refusal.json()) == (403, {"detail": "not yours"})
        assert client.get("/plain").json() == {"plain": "yes"}
        content = client.get("/openapi.json").json()["paths"]["/yielded"]["get"]["responses"]["200"]["content"]
        assert list(content) == ["text/event-stream"]


def test_a_fastapi_app_passes_its_tests_with_h3refs_client_too() -> None:
    app, steps = fastapi.FastAPI(), list[str]()

    @app.get("/ticks")
    async def ticks() -> Any:
        async def generate() -> AsyncIterator[dict[str, Any]]:
            try:
                for number in range(10**9):
                    yield {"event": "tick", "data": number}
                    await anyio.sleep(60)
            finally:
                steps.append("cleaned")

        return EventSourceResponse(generate(), ping=25)

    @app.get("/missing")
    async def missing() -> Any:
        async def generate() -> AsyncIterator[str]:
            raise fastapi.HTTPException(404, "no such room")
            yield ""

        return EventSourceResponse(generate())

    with h3ref.testing.TestClient(app) as client:
        with client.stream("GET", "/ticks") as stream:
            assert [event.data for event in stream.take(3)] == ["0", "1", "2"]
            assert client.clock.now() == 120
            # A silence is taken for as long as it can be: by a quarter of its 25 seconds too long, at most.
            comments = [arrival.at for arrival in stream.arrivals if isinstance(arrival.item, str)]
            assert comments == [25, 50, 81.25, 106.25]
        assert steps == ["cleaned"]
        assert client.request("GET", "/missing").json() == {"detail": "no such room"}
    with fastapi.testclient.TestClient(app) as other:
        assert other.get("/missing").status_code == 404


def test_a_first_event_that_is_long_in_coming_has_its_keep_alives() -> None:
    async def nothing() -> AsyncIterator[str]:
        await anyio.sleep_forever()
        yield ""

    async def callback(writer: SSEWriter) -> None:
        await anyio.sleep_forever()

    for content in (nothing, lambda: callback):

        async def endpoint(request: Request, content: Callable[[], Any] = content) -> Response:
            return EventSourceResponse(content(), ping=5)

        app = Starlette(routes=[Route("/", endpoint)])
        with h3ref.testing.TestClient(app) as client, client.stream("GET", "/") as stream:
            client.advance(12)
            assert len(stream.comments) == 2


# -- loops, and no Starlette


def test_each_event_loop_has_one_service() -> None:
    services: list[Any] = []

    async def endpoint(request: Request) -> Response:
        services.append(response._service())
        return EventSourceResponse(["1"])

    app = Starlette(routes=[Route("/", endpoint)])
    for backend in ("asyncio", "trio"):
        with TestClient(app, backend=backend) as client:
            assert [client.get("/").text for _ in range(2)] == ["data: 1\n\n"] * 2
    assert services[0] is services[1]
    assert services[2] is services[3]
    assert services[0] is not services[2]
    assert not services[0].live


WITHOUT_STARLETTE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("starlette", "fastapi"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())

import anyio
from h3ref import H3App
from h3ref.adapters.asgi import ASGIApp

app = H3App()
app.get("/", lambda event: event.send_text("hello"))
sent = []

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def send(message):
    sent.append(message)

scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
anyio.run(app, scope, receive, send)
assert sent[0]["status"] == 200 and sent[1]["body"] == b"hello", sent
try:
    from h3ref.adapters.asgi import EventSourceResponse
except ImportError as error:
    print(error)
"""


def test_without_starlette() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_STARLETTE], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("EventSourceResponse needs Starlette: pip install starlette\n", "")
