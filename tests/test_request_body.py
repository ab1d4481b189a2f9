"""The body of a request that `EventSourceResponse` answers: whoever reads it, on every server, nothing is lost."""

from __future__ import annotations

import gc
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial, wraps
from itertools import product
from typing import Any

import anyio
import fastapi
import pydantic
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from h3ref.adapters.asgi import EventSourceResponse
from h3ref.adapters.asgi.requests import request_around, request_in
from tests.asgi_servers import on_granian, on_hypercorn, on_uvicorn
from tests.waits import until

SERVERS = {
    "uvicorn": (on_uvicorn, "asyncio"),
    "hypercorn": (on_hypercorn, "asyncio"),
    "hypercorn, trio": (on_hypercorn, "trio"),
    "granian": (on_granian, "asyncio"),
}
on_servers = pytest.mark.parametrize(
    ("server", "anyio_backend"),
    [(name, loop) for name, (_, loop) in SERVERS.items()],
    ids=list(SERVERS),
    indirect=["anyio_backend"],
)

SIZE = 300_000
Read = Callable[[Request], Awaitable[int]]


async def by_stream(request: Request) -> int:
    return sum([len(chunk) async for chunk in request.stream()])


async def by_body(request: Request) -> int:
    return len(await request.body())


async def by_json(request: Request) -> int:
    return len(json.dumps(await request.json(), separators=(",", ":")))


async def with_questions(request: Request) -> int:
    """Reads, and asks all the time whether the client has left."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        assert not await request.is_disconnected()
    return size


READS: dict[str, Read] = {
    "stream": by_stream,
    "body": by_body,
    "json": by_json,
    "stream, is_disconnected": with_questions,
}
BODY = json.dumps("x" * (SIZE - 2)).encode()


def noting(app: Any) -> Any:
    async def dispatch(request: Request, call_next: Any) -> Response:
        reply: Response = await call_next(request)
        return reply

    return BaseHTTPMiddleware(app, dispatch)


def application(endpoint: Any, *middleware: Any, framework: str = "starlette") -> Any:
    stack = [Middleware(part) for part in middleware]
    if framework == "starlette":
        return Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])], middleware=stack)
    app = fastapi.FastAPI(middleware=stack)
    app.add_api_route("/", endpoint, methods=["GET", "POST"], response_model=None)
    return app


async def ask(port: int, body: bytes, *, pieces: int = 1, pause: float = 0.0, method: str = "POST") -> bytes:
    """Send a request, its body in pieces, and return what comes to the end."""
    async with await anyio.connect_tcp("127.0.0.1", port) as sock:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        await sock.send(f"{method} / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{length}\r\n".encode())
        step = -(-len(body) // pieces) if body else 1
        for begin in range(0, len(body), step):
            await sock.send(body[begin : begin + step])
            await anyio.sleep(pause)
        received = b""
        with anyio.fail_after(10):
            try:
                while True:
                    received += await sock.receive()
            except anyio.EndOfStream:
                return received


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
async def test_nothing_of_a_body_that_the_generator_reads_is_lost(server: str, framework: str) -> None:
    async def endpoint(request: Request) -> Response:
        async def stream(read: Read, when: str) -> AsyncIterator[str]:
            if when == "after the first event":
                yield "first"
            yield f"{await read(request)} bytes"

        read, when = reading
        return EventSourceResponse(stream(read, when), commit_after=0.05)

    for middleware in ([], [noting]):
        async with SERVERS[server][0](application(endpoint, *middleware, framework=framework), bare=True) as served:
            for name, read in READS.items():
                for when in ("before the first event", "after the first event"):
                    for pieces, pause in ((1, 0.0), (4, 0.05)):
                        reading = read, when
                        reply = await ask(served.port, BODY, pieces=pieces, pause=pause)
                        where = f"{name}, {when}, {len(middleware)} middleware, {pieces} pieces"
                        assert b"data: %d bytes\n\n" % SIZE in reply, where
                        assert reply.endswith(b"0\r\n\r\n"), where


@pytest.mark.anyio
@on_servers
async def test_a_body_that_comes_over_two_seconds(server: str) -> None:
    async def endpoint(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            yield "first"
            yield f"{await by_stream(request)} bytes"

        return EventSourceResponse(stream())

    async with SERVERS[server][0](application(endpoint), bare=True) as served:
        assert b"data: %d bytes\n\n" % SIZE in await ask(served.port, BODY, pieces=10, pause=0.2)


@pytest.mark.anyio
@on_servers
async def test_a_request_without_a_body_can_be_read_too(server: str) -> None:
    async def endpoint(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            yield "first"
            yield f"{await by_body(request)} bytes, {await request.is_disconnected()}"

        return EventSourceResponse(stream())

    async with SERVERS[server][0](application(endpoint), bare=True) as served:
        assert b"data: 0 bytes, False\n\n" in await ask(served.port, b"", method="GET")


@pytest.mark.anyio
@on_servers
async def test_who_asks_whether_the_client_has_left_is_told_in_the_middle_of_its_cleanup(server: str) -> None:
    told: list[bool] = []
    over = anyio.Event()

    async def endpoint(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            try:
                yield "first"
                await anyio.sleep_forever()
            finally:
                told.append(await request.is_disconnected())
                over.set()

        return EventSourceResponse(stream())

    async with SERVERS[server][0](application(endpoint), bare=True) as served:
        async with await anyio.connect_tcp("127.0.0.1", served.port) as sock:
            await sock.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            while b"first" not in await sock.receive():
                pass
        with anyio.fail_after(10):
            await over.wait()
    assert told == [True]


@pytest.mark.anyio
@on_servers
async def test_what_is_taken_from_a_reader_that_nobody_named_is_told(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Has no Request but the one that it names, for a body of 6 bytes."""
        named = Request(scope, receive) if (b"content-length", b"6") in scope["headers"] else None
        await response_to(named)(scope, receive, send)

    def response_to(named: Request | None) -> Response:
        return EventSourceResponse(stream(), request=named)

    async def stream() -> AsyncIterator[str]:
        yield "first"
        await anyio.sleep(0.2)
        yield "last"

    async with SERVERS[server][0](without_lifespan(app), bare=True) as served:
        await ask(served.port, b"12345")
        await until(lambda: warnings(caplog))
        (warning,) = warnings(caplog)
        assert "POST /: 5 bytes of the request's body came when the stream was open" in warning.getMessage()
        assert "request=request" in warning.getMessage()
        caplog.clear()
        await ask(served.port, b"123456")
        assert warnings(caplog) == []


def without_lifespan(app: Any) -> Any:
    async def http(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    return http


@pytest.mark.anyio
@on_servers
async def test_nothing_is_lost_to_a_request_that_is_in_an_object_of_the_applications(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Upload:
        def __init__(self, request: Request) -> None:
            self.request = request

        async def progress(self, read: Read, when: str) -> AsyncIterator[str]:
            if when == "after the first event":
                yield "first"
            yield f"{await read(self.request)} bytes"

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(Upload(request).progress(read, when), commit_after=0.05)

    for middleware in ([], [noting]):
        async with SERVERS[server][0](application(endpoint, *middleware), bare=True) as served:
            for read, when in product(READS.values(), ("before the first event", "after the first event")):  # noqa: B007
                reply = await ask(served.port, BODY, pieces=4, pause=0.05)
                assert b"data: %d bytes\n\n" % SIZE in reply
                assert reply.endswith(b"0\r\n\r\n")
    assert warnings(caplog) == []


class Question(pydantic.BaseModel):
    text: str


@pytest.mark.anyio
@on_servers
@pytest.mark.parametrize("way", ["no body", "a body that is read", "a body that nobody reads", "a body, no Request"])
async def test_a_client_that_leaves_before_the_head_is_noticed_at_once_where_its_body_is_accounted_for(
    server: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    began, opens, left = anyio.Event(), anyio.Event(), anyio.Event()

    async def stream() -> AsyncIterator[str]:
        try:
            began.set()
            await opens.wait()
            yield "first"
            await anyio.sleep_forever()
        finally:
            left.set()

    def response() -> EventSourceResponse:
        return EventSourceResponse(stream(), commit_after=600)

    async def asked(question: Question) -> Response:
        return response()

    async def unread(request: Request) -> Response:
        return response()

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await response()(scope, receive, send)

    apps = {
        "a body that is read": application(asked, framework="fastapi"),
        "a body, no Request": without_lifespan(bare),
    }
    body = b"" if way == "no body" else b'{"text": "Why?"}'
    async with SERVERS[server][0](apps.get(way) or application(unread, noting), bare=True) as served:
        async with await anyio.connect_tcp("127.0.0.1", served.port) as sock:
            head = b"%b / HTTP/1.1\r\nHost: test\r\n" % (b"POST" if body else b"GET")
            if body:
                head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
            await sock.send(head + b"\r\n" + body)
            with anyio.fail_after(10):
                await began.wait()
        if way == "a body, no Request":  # it can't be told from one that is being read, until the head leaves
            with anyio.move_on_after(0.1) as unnoticed:
                await left.wait()
            assert unnoticed.cancelled_caught
            opens.set()
        with anyio.fail_after(10):
            await left.wait()
        await until(lambda: not served.calls)
    assert "Traceback" not in caplog.text, "a middleware has missed its answer"


@pytest.mark.anyio
async def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one() -> None:
    messages = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]
    raised: list[Exception] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None: ...

    async def stream() -> AsyncIterator[str]:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)  # by now all has come
            try:
                await request.body()
            except Exception as error:
                raised.append(error)
        yield ""

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"8")]}
    request = Request(scope, receive)
    await EventSourceResponse(stream(), request=request)(scope, receive, send)
    assert [type(error) for error in raised] == [ClientDisconnect]


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "h3ref.adapters.asgi.incoming"]


@pytest.mark.anyio
@on_servers
async def test_a_body_that_was_read_before_is_no_loss(server: str, caplog: pytest.LogCaptureFixture) -> None:
    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(stream((await request.body()).decode()))

    async def stream(text: str) -> AsyncIterator[str]:
        yield text
        await anyio.sleep(0.05)

    async with SERVERS[server][0](application(endpoint), bare=True) as served:
        assert b"data: 12345\n\n" in await ask(served.port, b"12345")
    assert warnings(caplog) == []


@pytest.mark.anyio
async def test_a_receive_that_only_repeats_itself_does_not_cost_a_core() -> None:
    calls = 0

    async def receive() -> Any:
        nonlocal calls
        calls += 1
        return {"type": "http.request", "body": b"again", "more_body": False}

    async def send(message: Any) -> None: ...

    async def stream() -> AsyncIterator[str]:
        yield "first"
        await anyio.sleep(0.5)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"5")]}
    began = time.process_time()
    await EventSourceResponse(stream())(scope, receive, send)
    assert 0 < calls < 20
    assert time.process_time() - began < 0.5


def test_the_request_is_found_where_a_generator_has_it() -> None:
    async def receive() -> Any: ...

    request = Request({"type": "http"}, receive)

    async def items(given: Any) -> AsyncIterator[str]:
        async for item in given:
            yield item

    async def direct(asked: Request) -> AsyncIterator[str]:
        yield str(asked)

    async def enclosing() -> AsyncIterator[str]:
        yield str(request)

    async def none() -> AsyncIterator[str]:
        yield ""

    async def callback(writer: Any) -> None:
        await writer.send_event(str(request))

    class Called(partial[Any]):
        """The one holder that can have subclasses."""

    class Service:
        def __init__(self) -> None:
            self.request = request

        async def callback(self, writer: Any) -> None: ...

    async def helper(asked: Request) -> None: ...

    def plain(asked: Any) -> Iterator[str]:
        yield str(asked)

    @wraps(direct)
    async def wrapped() -> AsyncIterator[str]:
        async for item in direct(request):
            yield item

    def asking(function: Any) -> Iterator[str]:
        yield str(function)

    waiting = helper(request)
    holders = (
        wrapped(),
        asking(enclosing),
        partial(helper, request),
        Called(helper, asked=request),
        Service().callback,
        plain(request),
        waiting,
    )
    for content in (direct(request), enclosing(), items(direct(request)), callback, *holders):
        assert request_in(content, receive) is request
    waiting.close()
    assert request_in(plain([request]), receive) is None, "a list may hold a million"
    assert request_in(none(), receive) is None
    assert request_around(receive) is request
    assert request_around(send_nothing) is None
    assert request_in(direct(request), send_nothing) is None, "it is another one's"


def test_looking_for_it_takes_no_memory_in_the_generator() -> None:
    async def direct(asked: Request) -> AsyncIterator[str]:
        yield str(asked)

    request = Request({"type": "http"}, send_nothing)
    content = direct(request)
    before = gc.get_referents(content)
    assert request_in(content, send_nothing) is request
    assert gc.get_referents(content) == before, "a frame, and a dict of its variables, would stay as long as it does"


async def send_nothing() -> Any: ...


def test_a_request_of_a_class_of_ones_own_is_found() -> None:
    class Own(Request):
        """As an application has it that adds something to Starlette's."""

    async def direct(asked: Request) -> AsyncIterator[str]:
        yield str(asked)

    own = Own({"type": "http"}, send_nothing)
    assert request_in(direct(own), send_nothing) is own


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(TypeError, match="the endpoint's Request, or None, not 'request'"):
        EventSourceResponse([], request="request")  # type: ignore[call-overload]
