"""`TestClient`: endless streams in no real time, every end of them, and nothing left behind."""

# ruff: noqa: SIM117 (a client, and in it its streams)

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import fastapi.sse
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from h3ref import (
    BackpressureDetected,
    BlockingSSEWriter,
    Channel,
    H3App,
    H3Event,
    Limits,
    SSEEvent,
    SSEWriter,
    State,
    flows,
)
from h3ref.adapters.asgi import ASGIApp
from h3ref.examples import counter
from h3ref.lifecycle import Reason
from h3ref.testing import (
    AsyncTestClient,
    End,
    NotAStream,
    StreamEnded,
    Stuck,
    TestClient,
    TimedOut,
    VirtualLoop,
    virtual_backends,
)
from tests.asgi_servers import on_uvicorn
from tests.clients import raw
from tests.waits import blocking_until

HOW_TO = Path(__file__).parent.parent / "docs" / "how-to" / "test-a-stream.md"
BLOCKS = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
VIRTUAL = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio-virtual", "trio-virtual"])

Send = Callable[[dict[str, Any]], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


def body(text: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


def threads() -> set[threading.Thread]:
    """The threads but trio's, which it keeps for the next run."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before, loops = threads(), list[VirtualLoop]()
    made = VirtualLoop.__init__

    def noted(loop: VirtualLoop, *arguments: float) -> None:
        loops.append(loop)
        made(loop, *arguments)

    monkeypatch.setattr(VirtualLoop, "__init__", noted)
    yield
    if request.node.get_closest_marker("anyio"):  # pytest's own loop is still open
        assert not [thread for thread in threads() if thread.name == "h3ref TestClient"]
        return
    blocking_until(lambda: threads() <= before)  # a worker thread of anyio's is told to end, and not waited for
    assert [loop for loop in loops if not loop.is_closed()] == []


# -- time


@BACKENDS
def test_counters_ticks_come_at_their_virtual_times_in_no_real_time(backend: Any) -> None:
    began = time.monotonic()
    with TestClient(counter.app, backend=backend) as client, client.stream("GET", "/events") as stream:
        assert (stream.status, stream.headers["Content-Type"]) == (200, "text/event-stream")
        seen = [(client.clock.now(), event.data) for event in stream.events()]
        assert seen == [*((float(n), str(n)) for n in range(10)), (10.0, "that was all")]
        assert [(at, getattr(item, "data", None)) for at, item in stream.arrivals] == seen
        assert (stream.end, stream.state, stream.is_closed) == (End.PROPER, State.CLOSED, True)
        assert stream.records[-1].reason == Reason.COMPLETE
        with pytest.raises(StreamEnded, match="the stream has ended: GET /events, status 200, 11 events"):
            stream.next_event()
    assert time.monotonic() - began < 10


@BACKENDS
def test_time_stands_between_calls(backend: Any) -> None:
    with TestClient(counter.app, backend=backend) as client, client.stream("GET", "/events") as stream:
        stream.next_event()
        time.sleep(0.05)
        assert (client.clock.now(), len(stream.arrivals)) == (0.0, 1)
        client.advance(2.5)
        assert (client.clock.now(), len(stream.arrivals)) == (2.5, 3)
        with pytest.raises(ValueError, match="only goes forward"):
            client.advance(-1)


@BACKENDS
def test_a_sleep_of_a_week_is_a_deadline_and_one_for_ever_is_none(backend: Any) -> None:
    app = H3App()

    @app.sse("/week")
    async def week(event: H3Event) -> AsyncIterator[str]:
        yield "monday"
        await anyio.sleep(7 * 24 * 3600)
        yield "monday"
        await anyio.sleep_forever()

    # Else a week has forty thousand keep-alives.
    quiet = ASGIApp(app, limits=Limits(stream_keep_alive=None, send_timeout=None))
    with TestClient(quiet, backend=backend) as client, client.stream("GET", "/week") as stream:
        stream.next_event()
        stream.next_event(timeout=8 * 24 * 3600)
        assert client.clock.now() == 7 * 24 * 3600
        with pytest.raises(TimedOut, match=r"no event came within 60 s: GET /week, .* 2 events, the last message"):
            stream.next_event()
        assert client.clock.now() == 7 * 24 * 3600 + 60


def test_sse_starlettes_keep_alives_are_seen_in_virtual_time() -> None:
    async def silent(request: Request) -> EventSourceResponse:
        async def nothing() -> AsyncIterator[dict[str, str]]:
            await anyio.sleep_forever()
            yield {}

        return EventSourceResponse(nothing(), ping=15)

    with TestClient(Starlette(routes=[Route("/", silent)])) as client, client.stream("GET", "/") as stream:
        client.advance(45)
        assert [at for at, _ in stream.arrivals] == [15, 30, 45]
        assert len(stream.comments) == 3
        assert all(comment.startswith("ping - ") for comment in stream.comments)
        assert stream.state is None


@BACKENDS
def test_a_worker_thread_at_work_holds_the_clock(backend: Any) -> None:
    app = H3App()

    @app.get("/slow")
    def slow(event: H3Event) -> None:
        time.sleep(0.1)
        event.send_text("done")

    with TestClient(app, backend=backend) as client:
        assert client.request("GET", "/slow", timeout=1).text == "done"
        assert client.clock.now() == 0


@BACKENDS
def test_a_worker_thread_that_waits_for_the_loop_does_not_hold_the_clock(backend: Any) -> None:
    app = H3App()

    @app.get("/events")
    def events(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            for number in range(3):
                writer.send_event(str(number))
                anyio.from_thread.run(anyio.sleep, 20)

    with TestClient(app, backend=backend) as client, client.stream("GET", "/events") as stream:
        assert [(client.clock.now(), event.data) for event in stream.events()] == [(0, "0"), (20, "1"), (40, "2")]
        assert client.clock.now() == 60


def test_what_runs_in_an_executor_holds_the_clock() -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await asyncio.to_thread(time.sleep, 0.1)
        await send(START)

    with TestClient(app, lifespan=False) as client, client.stream("GET", "/", timeout=1):
        assert client.clock.now() == 0


@BACKENDS
def test_plain_defs_stream(backend: Any) -> None:
    app = H3App()

    @app.sse("/generated")
    def generated(event: H3Event) -> Iterator[str]:
        yield "1"
        time.sleep(0.02)
        yield "2"

    @app.get("/callback")
    def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(tick)

    def tick(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        writer.send_keep_alive()
        writer.send_event("2")

    with TestClient(app, backend=backend) as client:
        for path in ("/generated", "/callback"):
            with client.stream("GET", path) as stream:
                assert [event.data for event in stream.events()] == ["1", "2"]
                assert stream.end is End.PROPER


@BACKENDS
def test_real_time_is_real(backend: Any) -> None:
    app = H3App()

    @app.sse("/")
    async def ticks(event: H3Event) -> AsyncIterator[str]:
        while True:
            yield "tick"
            await anyio.sleep(0.05)

    began = time.monotonic()
    with TestClient(app, backend=backend, virtual=False) as client, client.stream("GET", "/") as stream:
        stream.take(3)
        assert client.clock.now() >= 0.1
        with pytest.raises(TimedOut, match=r"the app has not finished within 0\.01 s"):
            stream.wait_closed(timeout=0.01)
    assert time.monotonic() - began >= 0.1


# -- ends


@BACKENDS
def test_a_client_that_leaves_ends_the_stream_and_its_cleanup_runs(backend: Any) -> None:
    app, said = H3App(), []

    @app.get("/")
    async def endless(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            try:
                while True:
                    await writer.send_event("tick")
                    await anyio.sleep(1)
            finally:
                said.append("cleaned up")

    with TestClient(app, backend=backend) as client:
        stream = client.stream("GET", "/")
        stream.take(2)
        stream.disconnect()
        stream.wait_closed()
        assert said == ["cleaned up"]
        assert (stream.state, stream.records[-1].reason) == (State.CLOSED, Reason.CLIENT_GONE)
        with pytest.raises(StreamEnded, match="the client has left"):
            stream.take(2)


def test_an_early_failure_of_fastapis_own_stream_is_a_200_that_is_cut_as_under_a_server() -> None:
    app = FastAPI()

    @app.get("/events", response_class=fastapi.sse.EventSourceResponse)
    async def events() -> AsyncIterator[str]:
        raise RuntimeError("early")
        yield ""

    async def served() -> bytes:
        async with on_uvicorn(app, bare=True) as server:
            return await raw(server.port, b"GET /events HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")

    received = anyio.run(served)
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"0\r\n\r\n")
    with TestClient(app, raise_app_exceptions=False) as client, client.stream("GET", "/events") as stream:
        with pytest.raises(StreamEnded):
            stream.next_event()
        assert (stream.status, stream.end) == (200, End.CUT)


def test_fastapis_stream_is_read_and_left() -> None:
    app, said = FastAPI(), []

    @app.get("/feed")
    async def feed() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            try:
                while True:
                    yield "event: tick\nid: 7\nretry: 500\ndata: 1\n\n"
                    await anyio.sleep(1)
            finally:
                said.append("cleaned up")

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/plain")
    def plain(name: str) -> dict[str, str]:
        return {"hello": name}

    with TestClient(app) as client:
        with client.stream("GET", "/feed") as stream:
            assert stream.take(3)[-1] == ("tick", "1", "7")
            assert (stream.last_event_id, stream.retry, client.clock.now()) == ("7", 500, 2)
        assert said == ["cleaned up"]
        assert client.request("GET", "/plain", params={"name": "you"}).json() == {"hello": "you"}
        assert client.request("GET", "/plain").status == 422


@BACKENDS
def test_an_app_that_never_listens_ends_at_its_next_send(backend: Any) -> None:
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send(body("data: 1\n\n"))
                await anyio.sleep(1)
        except OSError:
            said.append("left")
            raise

    with TestClient(app, backend=backend) as client, client.stream("GET", "/") as stream:
        stream.next_event()
    assert said == ["left"]


@BACKENDS
def test_an_app_that_ignores_the_end_is_told_of_and_cancelled(backend: Any) -> None:
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(START)
        try:
            await anyio.sleep_forever()
        finally:
            said.append("cancelled")

    with TestClient(app, backend=backend) as client, client.stream("GET", "/") as stream:
        stream.disconnect()
        with pytest.raises(TimedOut, match=r"the app has not finished within 60 s: .* running, in app \(.*, at 60 s"):
            stream.wait_closed()
        assert said == []
    assert said == ["cancelled"]


@BACKENDS
def test_a_client_that_does_not_read_is_a_slow_one(backend: Any) -> None:
    app, full = H3App(), []

    @app.sse("/endless")
    async def endless(event: H3Event) -> AsyncIterator[str]:
        while True:
            yield "x" * 1000

    @app.get("/nowait")
    def nowait(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(hurry)

    async def hurry(writer: SSEWriter) -> None:
        try:
            while True:
                writer.send_nowait("x" * 1000)
                await anyio.sleep(0.1)
        except BackpressureDetected:
            full.append(True)

    with TestClient(app, backend=backend, unread=10_000) as client:
        with client.stream("GET", "/endless") as stream:
            assert len(stream.take(500)) == 500
            assert client.clock.now() == 0
        with client.stream("GET", "/nowait") as stream:
            client.advance(1000)
            assert full


# -- failures


@BACKENDS
def test_what_an_app_raises_reaches_the_test(backend: Any) -> None:
    app = H3App()

    @app.get("/early")
    def early(event: H3Event) -> None:
        raise KeyError("early")

    @app.sse("/late")
    async def late(event: H3Event) -> AsyncIterator[str]:
        yield "1"
        await anyio.sleep(1)
        raise KeyError("late")

    with TestClient(app, backend=backend) as client:
        with pytest.raises(KeyError, match="early"):
            client.request("GET", "/early")
        with pytest.raises(KeyError, match="early"):
            client.stream("GET", "/early")
        stream = client.stream("GET", "/late")
        stream.next_event()
        with pytest.raises(KeyError, match="late"):
            stream.next_event()
        with pytest.raises(StreamEnded, match=r"cut, without its proper end: .* the app raised KeyError"):
            stream.next_event()
        assert stream.end is End.CUT
    assert app.error_hooks == []
    with TestClient(app, backend=backend, raise_app_exceptions=False) as client:
        assert client.request("GET", "/early").status == 500
        with client.stream("GET", "/late") as stream:
            assert [event.data for event in stream.events()] == ["1"]
            assert stream.end is End.CUT


@BACKENDS
def test_what_nobody_waited_for_is_raised_on_leaving(backend: Any) -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(START)
        await anyio.sleep(1)
        raise KeyError("late")

    def test(failure: Exception | None) -> None:
        with TestClient(app, backend=backend) as client:
            client.stream("GET", "/")
            client.advance(2)
            if failure:
                raise failure

    with pytest.raises(KeyError, match="late"):
        test(None)
    with pytest.raises(ZeroDivisionError):
        test(ZeroDivisionError())


def test_starlettes_failures_reach_the_test_too() -> None:
    async def fail(request: Request) -> PlainTextResponse:
        raise KeyError("fail")

    async def handled(request: Request) -> PlainTextResponse:
        raise LookupError("handled")

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"sorry": True}, status_code=418)

    app = Starlette(routes=[Route("/", fail), Route("/handled", handled)], exception_handlers={LookupError: answer})
    app.router.routes.append(Route("/key", fail))
    with TestClient(app) as client:
        response = client.request("GET", "/handled")
        assert (response.status, response.json()) == (418, {"sorry": True})
    bare = Starlette(routes=[Route("/", fail)])
    with TestClient(bare) as client, pytest.raises(KeyError, match="fail"):
        client.request("GET", "/")
    with TestClient(bare, raise_app_exceptions=False) as client:
        assert client.request("GET", "/").status == 500


def test_an_answer_that_is_no_stream_is_told_of() -> None:
    app = H3App()
    app.get("/plain", lambda event: event.send_text("hello"))
    with TestClient(app) as client, client.stream("GET", "/plain") as stream:
        with pytest.raises(NotAStream, match=r"not an event stream but text/plain.* begins 'hello'"):
            stream.next_event()
        assert stream.read() == b"hello"
        assert client.request("GET", "/nowhere").status == 404


def test_an_app_that_returns_without_an_answer_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None: ...

    with TestClient(app) as client, pytest.raises(RuntimeError, match="returned without an answer"):
        client.request("GET", "/")


@BACKENDS
def test_a_silent_app_is_an_error_in_no_real_time(backend: Any) -> None:
    app = H3App()

    @app.get("/")
    async def silent(event: H3Event) -> None:
        await anyio.sleep_forever()

    with TestClient(app, backend=backend) as client:
        with pytest.raises(TimedOut, match="no answer came within 60 s: GET /, no answer yet, state requested"):
            client.request("GET", "/")


@pytest.mark.parametrize("kind", ["on the loop", "busy loop", "on a thread"])
@BACKENDS
def test_a_stuck_app_is_an_error_that_says_where_it_is(backend: Any, kind: str) -> None:
    app, end = H3App(), threading.Event()

    async def on_the_loop(event: H3Event) -> None:
        end.wait()

    async def busy_loop(event: H3Event) -> None:
        while not end.is_set():
            await anyio.lowlevel.checkpoint()

    def on_a_thread(event: H3Event) -> None:
        end.wait()

    handler = {"on the loop": on_the_loop, "busy loop": busy_loop, "on a thread": on_a_thread}[kind]
    app.get("/", handler)
    began, before = time.monotonic(), threads()
    with pytest.raises(Stuck) as raised, TestClient(app, backend=backend, real_timeout=0.3) as client:
        client.stream("GET", "/")
    assert time.monotonic() - began >= 0.3
    assert "made no progress for 0.3 s of real time" in str(raised.value)
    assert "GET /, no answer yet, state requested" in str(raised.value)
    assert handler.__name__ in str(raised.value)
    end.set()
    blocking_until(lambda: threads() <= before)


@BACKENDS
def test_a_process_that_stands_still_is_not_stuck(backend: Any) -> None:
    app, stand_still = H3App(), ctypes.PyDLL(None).usleep  # nothing else of the process gets on meanwhile

    @app.get("/")
    async def slow(event: H3Event) -> None:
        stand_still(700_000)
        event.send_text("done")

    with TestClient(app, backend=backend, real_timeout=0.5) as client:
        assert client.request("GET", "/").text == "done"


def test_a_stuck_lifespan_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await receive()
        await anyio.sleep_forever()

    with pytest.raises(TimedOut, match="has not finished its startup within 60 s"), TestClient(app):
        pass


# -- the app's life, its neighbours, and its callers


def test_the_lifespan_runs_around_all_requests() -> None:
    said: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        said.append("startup")
        yield {"name": "state"}
        said.append("shutdown")

    async def hello(request: Request) -> PlainTextResponse:
        said.append(request.state.name)
        return PlainTextResponse("hello")

    with TestClient(Starlette(routes=[Route("/", hello)], lifespan=lifespan)) as client:
        assert client.request("GET", "/").text == "hello"
    assert said == ["startup", "state", "shutdown"]


def test_a_lifespan_that_fails_is_raised() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise KeyError("startup")
        yield

    with pytest.raises(KeyError, match="startup"), TestClient(Starlette(lifespan=lifespan)):
        pass


@BACKENDS
def test_two_streams_and_a_request_at_once(backend: Any) -> None:
    app, news = H3App(), Channel(history=10)

    @app.get("/news")
    def read(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(news.stream)

    @app.post("/news")
    async def write(event: H3Event) -> None:
        await news.publish(SSEEvent((await event.read_json())["text"], id="1"))
        event.send_json({"readers": len(news), "content": event.headers["x-y"]})

    with TestClient(app, backend=backend, headers={"X-Y": "z"}) as client:
        with client.stream("GET", "/news") as one, client.stream("GET", "/news") as other:
            assert client.request("POST", "/news", json={"text": "a"}).json() == {"readers": 2, "content": "z"}
            assert one.next_event() == other.next_event() == ("message", "a", "1")
        assert client.request("POST", "/news", body=b'{"text": "b"}').json()["readers"] == 0


def test_two_clients_at_once_each_with_its_own_time() -> None:
    with TestClient(counter.app) as one, TestClient(counter.app, backend="trio") as other:
        with one.stream("GET", "/events") as here, other.stream("GET", "/events") as there:
            here.take(5)
            there.take(2)
            assert (one.clock.now(), other.clock.now()) == (4, 1)


@pytest.mark.anyio
async def test_it_works_in_place_where_a_loop_runs(anyio_backend: Any) -> None:
    for backend in ("asyncio", "trio"):
        with TestClient(counter.app, backend=backend) as client:
            with client.stream("GET", "/events", headers={"Last-Event-ID": "7"}) as stream:
                assert [event.data for event in stream.events()] == ["8", "9", "that was all"]


@VIRTUAL
@pytest.mark.anyio
async def test_the_async_twin_runs_on_the_tests_own_clock(anyio_backend: Any) -> None:
    async with AsyncTestClient(counter.app) as client:
        async with await client.stream("GET", "/events") as stream:
            assert [(client.now(), event.data) for event in await stream.take(3)][-1] == (2.0, "2")
            await client.advance(1.5)
            assert (client.now(), len(stream.arrivals)) == (3.5, 4)
            stream.disconnect()
            await stream.wait_closed()
            assert stream.state is State.CLOSED
        assert (await client.request("GET", "/")).status == 200


@VIRTUAL
@pytest.mark.anyio
async def test_virtual_backends_heed_threads_too(anyio_backend: Any) -> None:
    began = anyio.current_time()
    with anyio.fail_after(1):
        await anyio.to_thread.run_sync(time.sleep, 0.05)
        assert anyio.current_time() == began
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, lambda: anyio.from_thread.run(anyio.sleep, 3600))
    assert anyio.current_time() - began == pytest.approx(3600)


def test_a_client_is_used_while_it_is_open() -> None:
    client = TestClient(counter.app)
    with pytest.raises(RuntimeError, match="not open"):
        client.request("GET", "/")
    for _ in range(2):
        with client:
            assert client.request("GET", "/").status == 200
    with pytest.raises(ValueError, match="asyncio"):
        TestClient(counter.app, backend="curio")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than 0"):
        TestClient(counter.app, timeout=0)
    with pytest.raises(TypeError, match="H3App"):
        TestClient(FastAPI(), flow=flows.broken)


def test_trio_is_asked_for_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    assert [name for name, _ in virtual_backends()] == ["asyncio"]
    monkeypatch.setattr("h3ref.testing.blocking.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install trio"):
        TestClient(counter.app, backend="trio")
    with TestClient(counter.app) as client:
        assert client.request("GET", "/").status == 200


def test_comments_and_events_are_read_however_they_are_cut() -> None:
    text = ": one\r\ndata: a\r\n\r\n:two\rdata: é\r\r: thr\u00e9e\n\n"

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(START)
        for byte in text.encode():
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await send({"type": "http.response.body"})

    with TestClient(app) as client, client.stream("GET", "/") as stream:
        assert [event.data for event in stream.events()] == ["a", "é"]
        assert stream.comments == ["one", "two", "thrée"]


# -- the how-to


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_of_the_how_to_runs(block: str, anyio_backend: str) -> None:
    names: dict[str, Any] = {"__name__": "how_to"}
    exec(compile(block, str(HOW_TO), "exec"), names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    if asyncio.iscoroutinefunction(test):
        for name, options in virtual_backends():
            anyio.run(test, backend=name, backend_options=options)
    else:
        test()
