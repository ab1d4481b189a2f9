"""`h3ref.compat.sse_starlette` beside sse-starlette itself: the same application, the same bytes, the same calls."""

from __future__ import annotations

import inspect
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import anyio
import fastapi
import fastapi.testclient
import pytest
import sse_starlette
import sse_starlette.event
import sse_starlette.sse
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

import h3ref.compat.sse_starlette
import h3ref.compat.sse_starlette.event
import h3ref.compat.sse_starlette.sse
from h3ref.testing import virtual_backends

PEER: Any = sse_starlette
OURS: Any = h3ref.compat.sse_starlette
LOGS = ("sse_starlette.sse", "h3ref.compat.sse_starlette")

_ASYNCIO, _TRIO = virtual_backends()
both = pytest.mark.parametrize("library", [PEER, OURS], ids=["sse-starlette", "h3ref"])
side_by_side = pytest.mark.parametrize(
    ("library", "anyio_backend"),
    [(PEER, _ASYNCIO), (OURS, _ASYNCIO), (OURS, _TRIO)],
    ids=["sse-starlette", "h3ref", "h3ref on trio"],
)
ours = pytest.mark.parametrize("anyio_backend", [_ASYNCIO, _TRIO], ids=["asyncio", "trio"])


class Call:
    """One request to a response, without a server.

    Attributes:
        sent: the messages that the response has sent.
        left: is set by a test whose client leaves.
        arrived: is set when a message has been sent.
        is_stuck: whether the server takes nothing of the body, for ever.
    """

    def __init__(self, response: Any, **scope: Any) -> None:
        self.sent: list[Any] = []
        self.left = anyio.Event()
        self.arrived = anyio.Event()
        self.is_stuck = False
        self._response = response
        self._scope = {"type": "http", "method": "GET", "path": "/", "headers": [], **scope}

    async def run(self) -> None:
        await self._response(self._scope, self._receive, self._send)

    async def _receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self.is_stuck and message["type"].endswith("body"):
            await anyio.sleep_forever()
        self.sent.append(message)
        self.arrived.set()
        self.arrived = anyio.Event()

    async def until(self, text: bytes) -> None:
        """Wait until the text has come."""
        with anyio.fail_after(30):
            while text not in self.body:
                await self.arrived.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def is_whole(self) -> bool:
        """Whether the body has its proper end."""
        return bool(self.sent) and self.sent[-1].get("more_body", True) is False

    @property
    def head(self) -> tuple[int, dict[bytes, bytes]]:
        return self.sent[0]["status"], dict(self.sent[0]["headers"])


async def answer(response: Any, **scope: Any) -> Call:
    call = Call(response, **scope)
    with anyio.fail_after(60):
        await call.run()
    return call


# -- the names


@pytest.mark.parametrize("name", ["", ".event", ".sse"])
def test_each_module_has_the_names_that_users_import(name: str) -> None:
    there, here = (sys.modules[f"{library.__name__}{name}"] for library in (PEER, OURS))
    public = {
        "": set(PEER.__all__),
        ".event": {"ServerSentEvent", "JSONServerSentEvent", "ensure_bytes"},
        ".sse": {"EventSourceResponse", "SendTimeoutError", "AppStatus", "ServerSentEvent", "ensure_bytes"},
    }[name]
    assert all(hasattr(there, each) for each in public)
    assert public <= set(here.__all__)


@pytest.mark.parametrize("name", ["EventSourceResponse", "ServerSentEvent", "JSONServerSentEvent"])
def test_arguments_have_the_same_names_order_and_defaults(name: str) -> None:
    there, here = (inspect.signature(getattr(library, name)).parameters.values() for library in (PEER, OURS))
    assert [(each.name, each.kind, each.default) for each in here] == [
        (each.name, each.kind, each.default) for each in there
    ]


def test_what_may_be_read_of_an_event_and_of_a_response() -> None:
    for library in (PEER, OURS):
        event = library.ServerSentEvent(1, event="a", id="b", retry=2, comment="c")
        assert (event.data, event.event, event.id, event.retry, event.comment) == (1, "a", "b", 2, "c")
        response = library.EventSourceResponse([], ping=3)
        assert (response.ping_interval, response.sep, response.status_code) == (3, "\r\n", 200)
        assert (response.DEFAULT_PING_INTERVAL, response.DEFAULT_SEPARATOR) == (15, "\r\n")
        assert response.DEFAULT_CLEANUP_TIMEOUT == 30
        with pytest.raises(NotImplementedError):
            response.enable_compression()


@both
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"sep": "\n\n"}, ValueError),
        ({"ping": -1}, ValueError),
        ({"ping": "ten"}, TypeError),
        ({"shutdown_grace_period": -1}, ValueError),
        ({"cleanup_timeout": -0.1}, ValueError),
    ],
)
def test_arguments_that_are_refused(library: Any, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        library.EventSourceResponse([], **arguments)
    with pytest.raises(ValueError, match="ping interval must be >= 0"):
        library.EventSourceResponse([]).ping_interval = -1


# -- what is yielded, byte for byte

NUMBER = UUID("12345678-1234-5678-1234-567812345678")

ITEMS: dict[str, Callable[[Any], Any]] = {
    "int": lambda library: 1,
    "float": lambda library: 0.5,
    "True": lambda library: True,
    "None": lambda library: None,
    "UUID": lambda library: NUMBER,
    "str": lambda library: "a\r\nb\rc\nd\n",
    "an empty str": lambda library: "",
    "a separator that is none": lambda library: "a\x0bb\x85c\u2028d",
    "list": lambda library: [1, "a"],
    "bytes": lambda library: b"id: 1\n\n",
    "memoryview": lambda library: memoryview(b": hello\n\n"),
    "an event alone": lambda library: {"event": "end"},
    "an empty dict": lambda library: {},
    "a dict of None": lambda library: {"data": None},
    "a dict of data": lambda library: {"data": {"a": [1, None]}},
    "a dict of all": lambda library: {"data": 1, "event": "a\nb", "id": "c\r\nd", "retry": 5, "comment": "e\nf"},
    "a dict with sep": lambda library: {"data": "a", "sep": "\r"},
    "an event": lambda library: library.ServerSentEvent("a\nb", event="c", id="d", retry=7, comment="e"),
    "an event with sep": lambda library: library.ServerSentEvent("a\nb", id="1", sep="\r"),
    "an empty event": lambda library: library.ServerSentEvent(),
    "an event of anything": lambda library: library.ServerSentEvent({"a": 1}),
    "a retry of 0": lambda library: library.ServerSentEvent(retry=0),
    "True as retry": lambda library: {"retry": True},
    "JSON": lambda library: library.JSONServerSentEvent({"a": "é\n", "b": [1.5, None]}, event="c"),
    "JSON of None": lambda library: library.JSONServerSentEvent(None, comment="c"),
    "an id with NUL": lambda library: {"id": "a\x00b", "data": "\x00"},
}


@pytest.mark.anyio
@side_by_side
@pytest.mark.parametrize("sep", [None, "\r\n", "\n", "\r"], ids=repr)
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_items(library: Any, kind: str, sep: str | None) -> None:
    async def stream() -> AsyncGenerator[Any, None]:
        for make in ITEMS.values():
            yield make(library)

    content = stream() if kind == "async" else (make(library) for make in ITEMS.values())
    call = await answer(library.EventSourceResponse(content, sep=sep, ping=0))
    meant = [PEER.event.ensure_bytes(make(PEER), sep or "\r\n") for make in ITEMS.values()]
    assert call.body == b"".join(meant)
    assert call.is_whole


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_alone(name: str) -> None:
    for sep in ("\r\n", "\n", "\r"):
        assert OURS.event.ensure_bytes(ITEMS[name](OURS), sep) == PEER.event.ensure_bytes(ITEMS[name](PEER), sep)


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.anyio
@side_by_side
@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"evnt": "a"}, TypeError),
        ({"retry": "soon"}, TypeError),
        ({"data": "\ud800"}, UnicodeEncodeError),
        (Unprintable(), ValueError),
    ],
)
async def test_items_that_are_refused(library: Any, item: Any, error: type[Exception]) -> None:
    """What came before is delivered, the content is closed, and the body has no proper end."""
    steps: list[str] = []

    async def stream() -> AsyncGenerator[Any, None]:
        try:
            yield "1"
            await anyio.sleep(1)
            yield item
            steps.append("went on")
        finally:
            await anyio.sleep(1)
            steps.append("closed")

    call = Call(library.EventSourceResponse(stream(), background=BackgroundTask(steps.append, "background")))
    with pytest.raises(error):
        await call.run()
    assert (call.body, call.is_whole, steps) == (b"data: 1\r\n\r\n", False, ["closed"])


@both
def test_a_value_without_a_form_in_json_is_refused_when_the_event_is_made(library: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        library.JSONServerSentEvent(float("nan"))
    with pytest.raises(TypeError, match="not JSON serializable"):
        library.JSONServerSentEvent(object())


# -- the head, and what is no stream


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD", "head"])
@pytest.mark.parametrize("anyio_backend", [_ASYNCIO], ids=["asyncio"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"headers": {"X-Name": "name", "cache-control": "no-cache"}},
        {"headers": {"X-Accel-Buffering": "yes", "Connection": "close", "Content-Type": "text/event-stream"}},
        {"status_code": 201},
        {"media_type": "text/plain"},
    ],
)
async def test_heads(arguments: dict[str, Any], method: str) -> None:
    heads = []
    for library in (PEER, OURS):
        response = library.EventSourceResponse(["1"], ping=0, **arguments)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.headers["x-later"] = "set"
        call = await answer(response, method=method)
        heads.append(call.sent[0])
        assert call.body == (b"data: 1\r\n\r\n" if method == "GET" else b"")
        assert call.is_whole
    assert heads[0] == heads[1]


@pytest.mark.anyio
@side_by_side
async def test_a_head_request_runs_nothing_but_the_background_task(library: Any) -> None:
    ran: list[str] = []

    async def stream() -> AsyncGenerator[str, None]:
        ran.append("content")
        yield "1"

    async def feed() -> None:
        ran.append("feed")

    background = BackgroundTask(ran.append, "background")
    response = library.EventSourceResponse(stream(), data_sender_callable=feed, background=background)
    call = await answer(response, method="HEAD")
    assert [message["type"] for message in call.sent] == ["http.response.start", "http.response.body"]
    assert ran == ["background"]


@pytest.mark.anyio
@side_by_side
async def test_a_websocket_is_refused_with_the_stream(library: Any) -> None:
    call = Call(library.EventSourceResponse(["denied"], ping=0, status_code=403))
    call._scope = {"type": "websocket", "headers": []}
    with anyio.fail_after(60):
        await call.run()
    assert {message["type"] for message in call.sent} == {
        "websocket.http.response.start",
        "websocket.http.response.body",
    }
    assert (call.head[0], call.body, call.is_whole) == (403, b"data: denied\r\n\r\n", True)


@pytest.mark.anyio
@side_by_side
async def test_the_head_does_not_wait_for_the_first_item(library: Any) -> None:
    async def stream() -> AsyncGenerator[str, None]:
        await anyio.sleep(100)
        yield "late"

    call = Call(library.EventSourceResponse(stream()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await anyio.sleep(0.01)
        assert call.head[0] == 200
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@ours
@pytest.mark.parametrize("extensions", [{}, {"http.response.push": {}}], ids=["none", "some"])
async def test_a_head_that_a_server_may_keep_is_followed_by_an_empty_part(extensions: dict[str, Any]) -> None:
    async def stream() -> AsyncGenerator[str, None]:
        await anyio.sleep(1)
        yield "1"

    call = await answer(OURS.EventSourceResponse(stream()), extensions=extensions)
    parts = [message["body"] for message in call.sent[1:]]
    assert parts == [*([b""] if extensions else []), b"data: 1\r\n\r\n", b""]


@pytest.mark.anyio
@side_by_side
async def test_the_next_item_is_asked_for_when_the_server_has_taken_the_one_before(library: Any) -> None:
    asked: list[int] = []

    async def stream() -> AsyncGenerator[int, None]:
        for number in range(3):
            asked.append(number)
            yield number

    call = Call(library.EventSourceResponse(stream(), ping=0))
    call.is_stuck = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await anyio.sleep(1)
        call.left.set()
    assert asked == [0]


@pytest.mark.anyio
@side_by_side
async def test_a_response_may_be_changed_until_it_is_called(library: Any) -> None:
    async def other() -> AsyncGenerator[str, None]:
        yield "other"
        await anyio.sleep(5)

    done: list[str] = []
    response = library.EventSourceResponse(["1"], ping=1)
    response.body_iterator = other()
    response.ping_interval = 0
    response.status_code = 202
    response.headers["cache-control"] = "no-cache"
    response.background = BackgroundTask(done.append, "background")
    call = await answer(response)
    assert (call.body, call.head[0], call.head[1][b"cache-control"]) == (b"data: other\r\n\r\n", 202, b"no-cache")
    assert done == ["background"]


# -- pings


@pytest.mark.anyio
@side_by_side
async def test_a_silent_stream_pings(library: Any) -> None:
    async def stream() -> AsyncGenerator[str, None]:
        await anyio.sleep(35)
        yield "1"

    usual = (await answer(library.EventSourceResponse(stream()))).body.split(b"\r\n\r\n")
    assert [line[:9] for line in usual[:2]] == [b": ping - ", b": ping - "]
    assert usual[2:] == [b"data: 1", b""]
    never = await answer(library.EventSourceResponse(stream(), ping=0))
    assert never.body == b"data: 1\r\n\r\n"
    for made in ({"comment": "a"}, b": a\n\n", library.ServerSentEvent(comment="a", sep="\n")):
        response = library.EventSourceResponse(stream(), ping=20, sep="\n", ping_message_factory=lambda made=made: made)
        assert (await answer(response)).body == b": a\n\ndata: 1\n\n"


# -- ends


@pytest.mark.anyio
@side_by_side
async def test_a_client_that_leaves(library: Any) -> None:
    steps: list[Any] = []

    async def stream() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            steps.append("closed")

    async def told(message: Any) -> None:
        steps.append(message["type"])
        await anyio.sleep(1)
        steps.append("told")

    background = BackgroundTask(steps.append, "background")
    call = Call(library.EventSourceResponse(stream(), client_close_handler_callable=told, background=background))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await call.until(b"data: 1")
        call.left.set()
    assert steps == ["http.disconnect", "told", "closed", "background"]


@pytest.mark.anyio
@side_by_side
async def test_what_is_told_of_a_client_that_leaves_may_fail(library: Any) -> None:
    steps: list[str] = []

    async def stream() -> AsyncGenerator[str, None]:
        try:
            await anyio.sleep_forever()
            yield ""
        finally:
            steps.append("closed")

    async def told(message: Any) -> None:
        raise LookupError("told")

    call = Call(library.EventSourceResponse(stream(), client_close_handler_callable=told))
    call.left.set()
    with pytest.raises(LookupError, match="told"):
        await call.run()
    assert steps == ["closed"]


@pytest.mark.anyio
@side_by_side
async def test_content_that_raises(library: Any) -> None:
    done: list[str] = []

    async def stream() -> AsyncGenerator[str, None]:
        yield "1"
        await anyio.sleep(1)
        raise LookupError("late")

    call = Call(library.EventSourceResponse(stream(), background=BackgroundTask(done.append, "background")))
    with pytest.raises(LookupError, match="late"):
        await call.run()
    assert (call.body, call.is_whole, done) == (b"data: 1\r\n\r\n", False, [])


@pytest.mark.anyio
@side_by_side
async def test_a_server_that_can_not_send(library: Any) -> None:
    steps: list[str] = []
    refusal = RuntimeError("the server's")

    async def stream() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            steps.append("closed")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            raise refusal

    call = Call(library.EventSourceResponse(stream(), background=BackgroundTask(steps.append, "background")))
    with pytest.raises(RuntimeError) as caught, anyio.fail_after(60):
        await call._response(call._scope, call._receive, send)
    assert caught.value is refusal
    assert steps == ["closed"]


@pytest.mark.anyio
@side_by_side
@pytest.mark.parametrize("by", ["an event", "a ping"])
async def test_send_timeout(library: Any, by: str) -> None:
    steps: list[str] = []

    async def stream() -> AsyncGenerator[str, None]:
        try:
            while by == "an event":
                yield "x" * 100_000
            await anyio.sleep_forever()
        finally:
            steps.append("closed")

    background = BackgroundTask(steps.append, "background")
    call = Call(library.EventSourceResponse(stream(), send_timeout=5, ping=10, background=background))
    call.is_stuck = True
    began = anyio.current_time()
    with pytest.raises(library.sse.SendTimeoutError), anyio.fail_after(60):
        await call.run()
    assert issubclass(library.sse.SendTimeoutError, TimeoutError)
    assert steps == ["closed"]
    assert anyio.current_time() - began == pytest.approx(5 if by == "an event" else 15, abs=0.3)


@pytest.mark.anyio
@side_by_side
async def test_send_timeout_holds_for_a_head_request(library: Any) -> None:
    call = Call(library.EventSourceResponse([], send_timeout=5), method="HEAD")
    call.is_stuck = True
    with pytest.raises(library.sse.SendTimeoutError), anyio.fail_after(60):
        await call.run()


@pytest.mark.anyio
@side_by_side
@pytest.mark.parametrize("seconds", [0, 3, 30, None])
async def test_cleanup_timeout(library: Any, seconds: float | None, caplog: pytest.LogCaptureFixture) -> None:
    """Content that stands at a `yield` gets so long to close."""
    steps: list[str] = []

    async def stream() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "x" * 100_000
        finally:
            steps.append("closing")
            await anyio.sleep(20)
            steps.append("closed")

    call = Call(library.EventSourceResponse(stream(), cleanup_timeout=seconds, ping=0))
    call.is_stuck = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await anyio.sleep(1)
        call.left.set()
    assert steps == (["closing", "closed"] if seconds in (30, None) else ["closing"])
    warned = [each for each in caplog.records if each.name in LOGS and "cleanup" in each.getMessage()]
    assert [each.levelname for each in warned] == ["WARNING"] * (seconds in (0, 3))


@pytest.mark.anyio
@side_by_side
async def test_content_whose_closing_fails(library: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def stream() -> AsyncGenerator[Any, None]:
        try:
            yield "1"
            yield {"evnt": "a"}
        finally:
            raise LookupError("closing")

    with pytest.raises(TypeError, match="evnt"):
        await answer(library.EventSourceResponse(stream()))
    logged = [each for each in caplog.records if each.name in LOGS and each.levelname == "ERROR"]
    assert [str(each.exc_info[1]) for each in logged if each.exc_info] == ["closing"]


# -- what feeds the content


@pytest.mark.anyio
@side_by_side
async def test_a_feed(library: Any) -> None:
    steps: list[str] = []
    give, take = anyio.create_memory_object_stream[Any](0)

    async def feed() -> None:
        async with give:
            for number in range(3):
                await give.send({"data": number, "event": "tick"})
        try:
            await anyio.sleep_forever()
        finally:
            steps.append("cancelled")

    call = await answer(library.EventSourceResponse(take, data_sender_callable=feed, ping=0))
    assert call.body == b"".join(b"event: tick\r\ndata: %d\r\n\r\n" % number for number in range(3))
    assert (call.is_whole, steps) == (True, ["cancelled"])
    take.close()


@pytest.mark.anyio
@side_by_side
async def test_a_feed_that_fails(library: Any) -> None:
    steps: list[str] = []
    give, take = anyio.create_memory_object_stream[Any](0)

    async def feed() -> None:
        async with give:
            await give.send("1")
            await anyio.sleep(1)
            raise LookupError("feed")

    background = BackgroundTask(steps.append, "background")

    async def stream() -> AsyncGenerator[Any, None]:
        async for item in take:
            yield item
        await anyio.sleep_forever()

    call = Call(library.EventSourceResponse(stream(), data_sender_callable=feed, background=background, ping=0))
    with pytest.raises(LookupError, match="feed"), anyio.fail_after(60):
        await call.run()
    assert (call.body, call.is_whole, steps) == (b"data: 1\r\n\r\n", False, [])
    take.close()


@pytest.mark.anyio
@side_by_side
async def test_a_feed_is_cancelled_before_its_channel_is_closed(library: Any) -> None:
    ends: list[type[BaseException]] = []
    give, take = anyio.create_memory_object_stream[Any](0)

    async def feed() -> None:
        try:
            async with give:
                while True:
                    await give.send("x" * 100_000)
        except BaseException as error:
            ends.append(type(error))
            raise

    call = Call(library.EventSourceResponse(take, data_sender_callable=feed, ping=0))
    call.is_stuck = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await anyio.sleep(1)
        call.left.set()
    assert ends == [anyio.get_cancelled_exc_class()]
    with pytest.raises(anyio.ClosedResourceError):
        take.receive_nowait()


# -- the server's end


@pytest.fixture
def app_status() -> Iterator[None]:
    yield
    for library in (PEER, OURS):
        library.sse.AppStatus.should_exit = False
        library.sse.AppStatus.enable_automatic_graceful_drain_mode()


on_asyncio_side_by_side = pytest.mark.parametrize(
    ("library", "anyio_backend"), [(PEER, _ASYNCIO), (OURS, _ASYNCIO)], ids=["sse-starlette", "h3ref"]
)


@pytest.mark.anyio
@pytest.mark.usefixtures("app_status")
@on_asyncio_side_by_side
@pytest.mark.parametrize("way", ["it finishes", "it does not", "it gets no time"])
async def test_should_exit(library: Any, way: str) -> None:
    steps: list[str] = []
    told = anyio.Event()

    async def stream() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            if way == "it finishes":
                await told.wait()
                await anyio.sleep(1)
                yield "bye"
                steps.append("finished")
            else:
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            steps.append("cancelled")
            raise

    background = BackgroundTask(steps.append, "background")
    grace = 0 if way == "it gets no time" else 5
    response = library.EventSourceResponse(
        stream(), shutdown_event=told, shutdown_grace_period=grace, background=background, ping=0
    )
    call = Call(response)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await call.until(b"data: 1")
        library.sse.AppStatus.should_exit = True
        began = anyio.current_time()
    took = anyio.current_time() - began
    assert told.is_set()
    assert steps == ["finished" if way == "it finishes" else "cancelled", "background"]
    assert (b"bye" in call.body) is (way == "it finishes")
    least = {"it finishes": 1, "it does not": 5, "it gets no time": 0}[way]
    assert least - 0.01 < took < least + 0.8
    if library is OURS or way == "it finishes":
        assert call.is_whole  # sse-starlette's cancelled stream is cut


async def endless() -> AsyncGenerator[str, None]:
    while True:
        yield "1"
        await anyio.sleep(0.05)


@asynccontextmanager
async def on_uvicorn(make: Callable[[], Response]) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """Serve what is made for each request, and wait for the server's end."""

    async def endpoint(request: Request) -> Response:
        return make()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(Starlette(routes=[Route("/", endpoint)]), log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield server, listener.getsockname()[1]


@pytest.mark.anyio
@pytest.mark.usefixtures("app_status")
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("automatic", [True, False])
async def test_uvicorn_ends_its_streams(automatic: bool) -> None:
    told = anyio.Event()

    async def stream() -> AsyncGenerator[str, None]:
        async for item in endless():
            if told.is_set():
                yield "bye"
                return
            yield item

    def make() -> Any:
        return OURS.EventSourceResponse(stream(), shutdown_event=told, shutdown_grace_period=10)

    if not automatic:
        OURS.sse.AppStatus.disable_automatic_graceful_drain()
    with anyio.fail_after(20):
        async with on_uvicorn(make) as (server, port), await anyio.connect_tcp("127.0.0.1", port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            received = b""
            while b"data: 1" not in received:
                received += await client.receive()
            server.should_exit = True
            if not automatic:
                await anyio.sleep(0.6)  # more than two looks
                assert not told.is_set()
                OURS.sse.AppStatus.should_exit = True
            while not received.endswith(b"0\r\n\r\n"):
                received += await client.receive()
    assert b"data: bye\r\n\r\n" in received


# -- in frameworks


@both
def test_fastapi(library: Any) -> None:
    app = fastapi.FastAPI()
    done: list[str] = []

    async def numbers() -> AsyncGenerator[Any, None]:
        for number in range(3):
            yield {"data": number, "id": str(number)}

    @app.get("/events")
    async def events(tasks: fastapi.BackgroundTasks, response: fastapi.Response) -> Any:
        tasks.add_task(done.append, "background")
        response.headers["x-dependency"] = "yes"
        return library.EventSourceResponse(numbers())

    @app.get("/class", response_class=library.EventSourceResponse)
    async def by_class() -> Any:
        return ["a", "b"]

    with fastapi.testclient.TestClient(app) as client:
        answer = client.get("/events")
        assert answer.text == "".join(f"id: {number}\r\ndata: {number}\r\n\r\n" for number in range(3))
        assert (answer.headers["content-type"], done) == ("text/event-stream; charset=utf-8", ["background"])
        assert client.get("/class").text == "data: a\r\n\r\ndata: b\r\n\r\n"


@both
def test_background_tasks_that_are_given_later(library: Any) -> None:
    done: list[int] = []

    async def endpoint(request: Request) -> Response:
        response: Response = library.EventSourceResponse(["1"])
        tasks = BackgroundTasks()
        tasks.add_task(done.append, 1)
        tasks.add_task(done.append, 2)
        response.background = tasks
        return response

    with TestClient(Starlette(routes=[Route("/", endpoint)])) as client:
        assert client.get("/").text == "data: 1\r\n\r\n"
    assert done == [1, 2]


# -- what is better here


@pytest.mark.anyio
@ours
async def test_what_fails_at_once_has_a_real_status() -> None:
    """sse-starlette has sent its 200 by then."""

    async def stream() -> AsyncGenerator[str, None]:
        raise HTTPException(404)
        yield ""

    call = Call(OURS.EventSourceResponse(stream()))
    with pytest.raises(HTTPException):
        await call.run()
    assert call.sent == []


@pytest.mark.anyio
@ours
async def test_what_a_finally_awaits_goes_through_when_the_client_leaves() -> None:
    """With sse-starlette it does where the stream waits in a send, and not where it waits for what is next."""
    steps: list[str] = []

    async def stream() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(2)
            steps.append("saved")

    call = Call(OURS.EventSourceResponse(stream()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await call.until(b"data: 1")
        call.left.set()
    assert steps == ["saved"]


@pytest.mark.anyio
@ours
async def test_plain_content_is_closed_when_the_client_leaves() -> None:
    """sse-starlette leaves that to the garbage collector."""
    steps: list[str] = []

    def stream() -> Iterator[str]:
        try:
            while True:
                yield "x" * 100_000
        finally:
            steps.append("closed")

    response = OURS.EventSourceResponse(stream(), ping=0)
    call = Call(response)
    call.is_stuck = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.run)
        await anyio.sleep(1)
        call.left.set()
    assert steps == ["closed"]


@pytest.mark.anyio
@ours
async def test_events_put_the_ping_off() -> None:
    """sse-starlette pings each 15 seconds, whatever is sent."""

    async def stream() -> AsyncGenerator[str, None]:
        for _ in range(8):
            yield "1"
            await anyio.sleep(5)

    assert (await answer(OURS.EventSourceResponse(stream()))).body == b"data: 1\r\n\r\n" * 8


@pytest.mark.anyio
@ours
async def test_a_ping_that_can_not_be_made_ends_no_stream() -> None:
    async def stream() -> AsyncGenerator[str, None]:
        await anyio.sleep(15)
        yield "1"

    def make() -> Any:
        raise LookupError("ping")

    body = (await answer(OURS.EventSourceResponse(stream(), ping=10, ping_message_factory=make))).body
    assert body == b": keep-alive\n\ndata: 1\r\n\r\n"


def test_the_one_line_move_needs_starlette_and_says_so() -> None:
    code = "import sys; sys.modules['starlette'] = None; import h3ref.compat.sse_starlette"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "EventSourceResponse needs Starlette: pip install starlette" in ended.stderr


def test_who_imports_sse_starlette_gets_ours_when_it_has_taken_its_place() -> None:
    code = """
import sys
from h3ref.compat import sse_starlette
sys.modules["sse_starlette"] = sse_starlette
sys.modules["sse_starlette.sse"] = sse_starlette.sse
sys.modules["sse_starlette.event"] = sse_starlette.event

from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus, EventSourceResponse as Same
import sse_starlette.event
assert EventSourceResponse is Same is sse_starlette.EventSourceResponse
assert EventSourceResponse.__module__ == "h3ref.compat.sse_starlette.sse"
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_event_shows_what_it_holds() -> None:
    assert repr(OURS.ServerSentEvent({"a": 1}, event="b")) == "ServerSentEvent(data={'a': 1}, event='b')"
    assert repr(OURS.JSONServerSentEvent([1])) == "JSONServerSentEvent(data='[1]')"
    assert json.loads(OURS.JSONServerSentEvent([1]).data) == [1]
