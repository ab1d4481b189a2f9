"""One context and one task for each request: a canary that a request sets is met in that request, and in no other.

Whatever runs for a request says where it is; `Canaries` compares the canary that it meets, and the task that it runs
in, with those of the request. So scoped sessions, tracing and logging that are keyed by either hold one request's data.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from h3ref import BlockingSSEWriter, Channel, H3App, H3Error, H3Event, Limits, SSEWriter, running
from h3ref._core.stream import Stream
from h3ref.adapters.asgi import ASGIApp, EventSourceResponse
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from h3ref.testing import AsyncTestClient, settle, virtual_backends
from h3ref.trace import Record
from tests.clients import ADAPTERS, open_client
from tests.waits import read_until

CANARY: ContextVar[str] = ContextVar("canary", default="")

in_virtual_time = pytest.mark.parametrize("anyio_backend", virtual_backends())

EVERYWHERE = pytest.mark.parametrize(
    ("adapter", "anyio_backend"),
    [(name, loop) for name, adapter in ADAPTERS.items() for loop in adapter.loops],
    indirect=True,
)


def current_task() -> Any:
    """The task that runs here; None on a worker thread."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        pass
    from trio import lowlevel

    return lowlevel.current_task() if lowlevel.in_trio_task() else None


class Canaries:
    """What was met, and where.

    Attributes:
        places: where something of a request was seen to run.
        wrong: each meeting that should not have been.
    """

    def __init__(self) -> None:
        self.places: set[str] = set()
        self.wrong: list[str] = []
        self._owners: dict[Any, str] = {}  # by task, which is kept so that no later one can take its place

    def begin(self, name: str, *, met: str = "") -> None:
        """A request begins: no canary is there yet, or the one that middleware has set for it."""
        if CANARY.get() != met:
            self.wrong.append(f"{name} begins with the canary of {CANARY.get()!r}")
        CANARY.set(name)
        self.meet(name, "begin")

    def meet(self, name: str, place: str, *, in_task: bool = True) -> None:
        """Something runs for a request: its canary has to be there, in a task that no other request has had."""
        self.places.add(place)
        if CANARY.get() != name:
            self.wrong.append(f"{place} of {name} meets the canary of {CANARY.get()!r}")
        task = current_task() if in_task else None
        if task is not None and self._owners.setdefault(task, name) != name:
            self.wrong.append(f"{place} of {name} runs in a task of {self._owners[task]}")


def name_of(event: H3Event) -> str:
    return event.query["name"]


def application(canaries: Canaries) -> H3App:
    """Every kind of thing that an app can have run for a request; the request's name is in its query."""
    app, channel = H3App(), Channel(name="shared")

    def here(event: H3Event, place: str) -> None:
        canaries.meet(name_of(event), place)

    async def on_loop(event: H3Event, place: str) -> None:
        here(event, place)

    def between_tasks(event: H3Event, place: str) -> None:
        canaries.meet(name_of(event), place, in_task=False)  # trio runs it in a task of its own, asyncio in none

    @app.on_request
    async def begin(event: H3Event) -> None:
        canaries.begin(name_of(event))

    @app.on_request
    def begin_on_thread(event: H3Event) -> None:
        here(event, "on_request, def")

    @app.on_response
    async def respond(event: H3Event) -> None:
        here(event, "on_response")

    @app.on_response
    def respond_on_thread(event: H3Event) -> None:
        here(event, "on_response, def")

    @app.on_error
    async def fail(event: H3Event, error: Exception) -> None:
        here(event, "on_error")

    @app.on_error
    def fail_on_thread(event: H3Event, error: Exception) -> None:
        here(event, "on_error, def")

    @app.get("/async")
    async def answer(event: H3Event) -> None:
        here(event, "handler")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on_loop, event, "handler's child")
        event.send_text(name_of(event))

    @app.get("/def")
    def answer_on_thread(event: H3Event) -> None:
        here(event, "handler, def")
        anyio.from_thread.run(on_loop, event, "from_thread.run")
        anyio.from_thread.run_sync(between_tasks, event, "from_thread.run_sync")
        event.send_text(name_of(event))

    @app.post("/body")
    async def read(event: H3Event) -> None:
        await event.read_body()
        here(event, "after the body")
        event.send_text(name_of(event))

    @app.get("/raises")
    async def raises(event: H3Event) -> None:
        raise RuntimeError(name_of(event))

    @app.get("/callback")
    async def by_callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async def callback(writer: SSEWriter) -> None:
        here(writer.event, "callback")
        await writer.send_event(name_of(writer.event))
        here(writer.event, "callback, after a send")

    @app.get("/callback-def")
    async def by_thread(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback_on_thread)

    def callback_on_thread(writer: BlockingSSEWriter) -> None:
        here(writer.event, "callback, def")
        writer.send_event(name_of(writer.event))

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            here(event, "handler with its writer")
            await writer.send_event(name_of(event))

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            here(event, "handler with its writer, def")
            writer.send_event(name_of(event))

    @app.sse("/generated")
    async def generated(event: H3Event) -> AsyncIterator[str]:
        here(event, "generator")
        try:
            yield name_of(event)
        finally:
            here(event, "generator's finally")

    @app.sse("/generated-def")
    def generated_on_thread(event: H3Event) -> Iterator[str]:
        here(event, "generator, def")
        yield name_of(event)

    @app.get("/channel")
    async def listen(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(subscribe)

    async def subscribe(writer: SSEWriter) -> None:
        here(writer.event, "subscriber")
        try:
            await channel.stream(writer)
        finally:
            here(writer.event, "subscriber's finally")

    @app.get("/publish")
    async def publish(event: H3Event) -> None:
        await channel.publish(name_of(event))
        here(event, "publisher")
        event.send_text(name_of(event))

    @app.get("/publish-def")
    def publish_on_thread(event: H3Event) -> None:
        anyio.from_thread.run(channel.publish, name_of(event))
        here(event, "publisher, def")
        event.send_text(name_of(event))

    @app.get("/close")
    async def close(event: H3Event) -> None:
        await channel.close()
        here(event, "closer")
        event.send_text(name_of(event))

    return app


PLAIN = ("/async", "/def", "/raises", "/async")
STREAMS = ("/callback", "/callback-def", "/awaited", "/blocking", "/generated", "/generated-def")
PLACES = {
    *("begin", "on_request, def", "on_response", "on_response, def", "on_error", "on_error, def"),
    *("handler", "handler's child", "handler, def", "from_thread.run", "from_thread.run_sync"),
    *("callback", "callback, after a send", "callback, def", "handler with its writer"),
    *("handler with its writer, def", "generator", "generator's finally", "generator, def"),
    *("subscriber", "subscriber's finally", "publisher", "publisher, def", "closer"),
}


@pytest.mark.anyio
@EVERYWHERE
@pytest.mark.filterwarnings("ignore")
async def test_no_request_meets_the_canary_of_another(adapter: str) -> None:
    canaries = Canaries()
    async with open_client(adapter, application(canaries)) as client:

        async def ask(target: str, name: str) -> bytes:
            return await (await client.request("GET", f"{target}?name={name}")).read()

        listeners = [await client.request("GET", f"/channel?name=listener-{number}") for number in range(2)]
        async with anyio.create_task_group() as tasks:
            for number, target in enumerate((*PLAIN, *STREAMS)):
                tasks.start_soon(ask, target, f"first-{number}")
                tasks.start_soon(ask, target, f"second-{number}")
        for name, target in (("one", "/publish"), ("two", "/publish-def")):
            await ask(target, name)
            for listener in listeners:
                assert await listener.receive() == f"data: {name}\n\n".encode()
        await ask("/close", "closer")
        assert [await listener.receive() for listener in listeners] == [b"", b""]
    assert canaries.wrong == []
    assert canaries.places == PLACES


# -- one connection, many requests


def request(target: str, name: str, body: bytes = b"") -> bytes:
    method = b"POST" if body else b"GET"
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%b %b?name=%b HTTP/1.1\r\nHost: test\r\n%b\r\n%b" % (method, target.encode(), name.encode(), length, body)


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


SEQUENCE = (*(("/async", "/def", "/raises", "/body") * 3), "/callback")


@pytest.mark.anyio
async def test_requests_that_follow_each_other_share_a_connection_and_nothing_else() -> None:
    canaries = Canaries()
    async with running(application(canaries)) as server:
        with connect(server.port) as sock, anyio.fail_after(20):
            for number, target in enumerate(SEQUENCE):
                sock.send(request(target, f"number-{number}", b"body" if target == "/body" else b""))
                await read_until(sock, f"number-{number}".encode() if target != "/raises" else b"Internal Server Error")
    assert canaries.wrong == []
    assert {"handler", "handler, def", "on_error", "after the body", "callback"} < canaries.places


@pytest.mark.anyio
async def test_pipelined_requests_share_a_connection_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    canaries, logged = Canaries(), list[str]()
    app = application(canaries)

    class Listener:
        def filter(self, record: Any) -> bool:
            logged.append(CANARY.get())
            return True

    async with running(app) as server:
        with connect(server.port) as sock, anyio.fail_after(20):
            pieces = [
                request(target, f"number-{number}", b"body" if target == "/body" else b"")
                for number, target in enumerate(SEQUENCE[:-1])
            ]
            caplog.set_level("INFO", "h3ref")
            caplog.handler.addFilter(listener := Listener())
            sock.send(b"".join(pieces[:-1]) + b"GET / HTTP/1.1\r\nHost : test\r\n\r\n")
            await read_until(sock, b"no white space may stand")
            caplog.handler.removeFilter(listener)
    assert canaries.wrong == []
    assert {"handler", "handler, def", "on_error", "after the body"} < canaries.places
    assert logged[-1] == "", "the refusal is nobody's request"


@pytest.mark.anyio
async def test_what_a_request_has_set_is_not_kept_by_the_next_one() -> None:
    class Session: ...

    current: ContextVar[Session | None] = ContextVar("session", default=None)
    sessions: list[weakref.ref[Session]] = []
    left: list[int] = []
    app = H3App()

    @app.get("/")
    async def answer(event: H3Event) -> None:
        for _ in range(3):  # in which the task before comes to its end
            await anyio.lowlevel.checkpoint()
        gc.collect()
        left.append(sum(session() is not None for session in sessions))
        session = Session()
        current.set(session)
        sessions.append(weakref.ref(session))
        event.send_text("over")

    async with running(app) as server:
        with connect(server.port) as sock, anyio.fail_after(20):
            sock.send(request("/", "x") * 3)
            await read_until(sock, b"over", 3)
    assert left == [0, 0, 0]


# -- what is done for a stream from outside of its own task


class Middleware:
    """Any ASGI middleware that keeps something for a request in a context variable, and looks for it when it sends."""

    def __init__(self, app: Any, canaries: Canaries) -> None:
        self._app = app
        self._canaries = canaries

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["query_string"].decode().removeprefix("name=")
        self._canaries.begin(name)

        async def seen(message: Any) -> None:
            end = "" if message.get("more_body", True) else ", the end"
            self._canaries.meet(name, message["type"] + end)
            await anyio.lowlevel.checkpoint()
            self._canaries.meet(name, message["type"] + end)
            await send(message)

        async def received() -> Any:
            self._canaries.meet(name, "receive")
            return await receive()

        await self._app(scope, received, seen)


SENDS = {"begin", "receive", "http.response.start", "http.response.body", "http.response.body, the end"}


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("first", ["a keep-alive", "an event"])
async def test_a_send_is_called_for_its_own_request_whoever_publishes_or_ends_the_stream(first: str) -> None:
    canaries, channel = Canaries(), Channel()
    writers: dict[str, SSEWriter] = {}
    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(listen)

    async def listen(writer: SSEWriter) -> None:
        writers[name_of(writer.event)] = writer
        await channel.stream(writer)

    @app.get("/publish")
    async def publish(event: H3Event) -> None:
        await channel.publish("1")
        event.send_text("published")

    @app.get("/kick")
    def kick(event: H3Event) -> None:
        BlockingSSEWriter(writers["a"]).close()
        event.send_text("kicked")

    @app.get("/close")
    async def close(event: H3Event) -> None:
        await writers["b"].close()
        await channel.close()
        event.send_text("closed")

    async with AsyncTestClient(Middleware(ASGIApp(app), canaries), lifespan=False) as client:
        streams = {name: await client.stream("GET", f"/stream?name={name}") for name in "abcd"}
        if first == "a keep-alive":
            await client.advance(20)
        await settle()
        await client.request("GET", "/publish?name=publisher")
        for reply in streams.values():
            assert (await reply.next_event()).data == "1"
            assert len(reply.comments) == (first == "a keep-alive")
        for target in ("kick", "close"):
            await client.request("GET", f"/{target}?name={target}")
        await settle()
        assert {name: reply.end for name, reply in streams.items()} == dict.fromkeys("abcd", End.PROPER)
    assert canaries.wrong == []
    assert canaries.places == SENDS


@pytest.mark.anyio
@in_virtual_time
async def test_a_send_is_called_for_its_own_request_when_the_stream_is_too_old() -> None:
    canaries = Canaries()
    app, released = H3App(), anyio.Event()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stay)

    async def stay(writer: SSEWriter) -> None:
        with anyio.CancelScope(shield=True):  # so that somebody else has to end the stream
            await released.wait()

    limits = Limits(stream_age=60, stream_age_jitter=0)
    async with AsyncTestClient(Middleware(ASGIApp(app, limits=limits), canaries), lifespan=False) as client:
        streams = [await client.stream("GET", f"/stream?name={name}") for name in "abc"]
        streams.pop(0).disconnect()  # whose task group the others were looked after in
        await client.advance(80)
        assert [reply.end for reply in streams] == [End.PROPER] * 2
        released.set()
    assert canaries.wrong == []
    assert canaries.places == SENDS


@pytest.mark.anyio
@in_virtual_time
async def test_a_response_for_starlette_sends_and_makes_its_pings_for_its_own_request() -> None:
    canaries, channel = Canaries(), Channel()

    async def stream(request: Request) -> EventSourceResponse:
        name = request.query_params["name"]

        def ping() -> dict[str, str]:
            canaries.meet(name, "ping_message_factory")
            return {"comment": "ping"}

        return EventSourceResponse(channel.stream, ping=15, ping_message_factory=ping)

    async def publish(request: Request) -> PlainTextResponse:
        await channel.publish("1")
        return PlainTextResponse("published")

    app = Starlette(routes=[Route("/stream", stream), Route("/publish", publish)])
    async with AsyncTestClient(Middleware(app, canaries), lifespan=False) as client:
        streams = [await client.stream("GET", f"/stream?name={name}") for name in "abc"]
        await settle()
        await client.request("GET", "/publish?name=publisher")
        await client.advance(20)
        assert [(len(reply.comments), (await reply.next_event()).data) for reply in streams] == [(1, "1")] * 3
        await channel.close()
        await settle()
        assert [reply.end for reply in streams] == [End.PROPER] * 3
    assert canaries.wrong == []
    assert canaries.places == SENDS | {"ping_message_factory"}


@pytest.mark.anyio
async def test_a_request_that_another_one_sends_in_process_has_its_own_context() -> None:
    canaries = Canaries()
    app = application(canaries)

    async with open_memory(app) as server:

        @app.get("/outer")
        async def outer(event: H3Event) -> None:
            reply = await server.request("GET", "/async?name=inner")
            canaries.meet("outer", "outer")
            event.send_bytes(await reply.read())

        reply = await server.request("GET", "/outer?name=outer")
        assert await reply.read() == b"inner"
    assert canaries.wrong == []
    assert "outer" in canaries.places


ENDS = ("closes_connection", "cuts_connection", "connection_closed")


@pytest.mark.anyio
@pytest.mark.parametrize("why", ["too old", "takes nothing"])
async def test_a_stream_that_is_ended_for_its_thread_is_ended_in_its_own_context(why: str) -> None:
    """By the task that looks after all streams, or out of the call of whoever sends to another one."""
    canaries = Canaries()
    names: dict[int, str] = {}
    ended, released = anyio.Event(), threading.Event()
    app = H3App()

    def listener(record: Record) -> None:
        if record.step == "request":
            assert record.detail is not None
            names[record.exchange] = record.detail.partition("name=")[2]
        elif record.step in ENDS:
            canaries.meet(names[record.exchange], record.step)
            if names[record.exchange] == "first":
                ended.set()

    @app.on_request
    async def begin(event: H3Event) -> None:
        canaries.begin(name_of(event))

    @app.get("/blocked")
    def blocked(event: H3Event) -> None:
        with suppress(H3Error), event.start_sse_blocking() as writer:
            if why == "takes nothing":
                writer.send_event("x" * 20_000_000)
            released.wait()

    @app.get("/flood")
    async def flood(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("x" * 20_000_000)

    limits = Limits(stream_age=0.2, stream_age_jitter=0) if why == "too old" else Limits(server_buffer=25_000_000)
    async with running(app, limits=limits, trace=listener) as server:
        with ExitStack() as socks, anyio.fail_after(20):
            try:
                for target, name in (("/blocked", "first"), ("/flood", "second")):
                    sock = socks.enter_context(connect(server.port))
                    sock.send(request(target, name))
                    await read_until(sock, b"data: x" if why == "takes nothing" else b"\r\n\r\n")
                await ended.wait()
            finally:
                released.set()
    assert [wrong for wrong in canaries.wrong if " of first " in wrong] == []
    assert canaries.places > {ENDS[why == "takes nothing"], "connection_closed"}


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/callback", "/blocking", "/generated"])
async def test_what_a_thread_has_sent_is_taken_over_in_nobodys_context(
    adapter: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []
    relay = Stream.relay

    def seen(self: Stream, *args: Any) -> None:
        met.append(CANARY.get())
        relay(self, *args)

    def send(writer: BlockingSSEWriter) -> None:
        CANARY.set("the callback's")
        for number in range(3):
            writer.send_event(str(number))
        until_taken()

    def until_taken() -> None:
        for _ in range(10_000):
            if met:
                return
            time.sleep(0.001)

    app = H3App()

    @app.on_request
    async def first(event: H3Event) -> None:
        CANARY.set("the request's")

    @app.get("/callback")
    async def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(send)

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            send(writer)

    @app.sse("/generated")
    def generated(event: H3Event) -> Iterator[str]:
        CANARY.set("the generator's")
        yield from ("0", "1", "2")
        until_taken()

    monkeypatch.setattr(Stream, "relay", seen)
    async with open_client(adapter, app) as client:
        reply = await client.request("GET", path)
        assert (await reply.read()).count(b"data: ") == 3
    assert met[0] == "", "it is a call of the loop's; what is left at the end is taken over by the request's own task"
