"""Without threads, as in a browser, a plain `def` runs on the event loop, and `TestClient` drives its loop itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest

from h3ref import Channel, ConnectionNotReady, H3App, H3Event, SSEEvent, SSEWriter, flows
from h3ref._core import threads
from h3ref.testing import Stuck, TestClient, TimedOut


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system like a browser's; a thread that somebody starts all the same is found."""
    monkeypatch.setattr(threads, "HAS_THREADS", False)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


app = H3App()


@app.get("/callback")
def by_callback(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(tick)


async def tick(writer: SSEWriter) -> None:
    for number in range(3):
        await writer.send_event(str(number))
        await anyio.sleep(3600)


@app.get("/awaited")
async def awaited(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await tick(writer)


@app.sse("/generated")
async def generated(event: H3Event) -> AsyncIterator[str]:
    for number in range(3):
        yield str(number)
        await anyio.sleep(3600)


@app.sse("/plain")
def plain(event: H3Event) -> Iterator[str]:
    yield "0"


@app.get("/plain-callback")
def by_plain_callback(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(lambda writer: writer.send_event("0"))


@pytest.mark.parametrize("path", ["/plain", "/plain-callback"])
def test_what_streams_on_a_thread_says_that_there_is_none(path: str) -> None:
    with (
        pytest.raises(RuntimeError, match="a plain def streams on its own thread, and there are none here"),
        TestClient(app) as client,
    ):
        client.request("GET", path)


@pytest.mark.parametrize("flow", ["callback", "awaited", "generated"])
def test_a_stream_runs_and_its_hours_take_no_time(flow: str) -> None:
    with TestClient(app, timeout=7200) as client, client.stream("GET", f"/{flow}") as stream:
        assert [event.data for event in stream.events()] == ["0", "1", "2"]
        assert client.clock.now() >= 3 * 3600


def test_broken_is_as_broken_as_elsewhere() -> None:
    broken = H3App()

    @broken.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        with pytest.raises(ConnectionNotReady):
            event.get_sse_writer()

    with TestClient(broken, flow=flows.broken) as client, client.stream("GET", "/events") as stream:
        assert stream.status == 200
        client.advance(3600)
        assert stream.arrivals == []


def test_a_plain_handler_runs_on_the_loops_own_thread() -> None:
    where: list[int] = []
    plainly = H3App()

    @plainly.get("/here")
    def here(event: H3Event) -> None:
        where.append(threading.get_ident())
        event.send_text("here")

    with TestClient(plainly) as client:
        assert client.request("GET", "/here").text == "here"
    assert where == [threading.get_ident()]


def test_a_plain_handler_that_raises_is_answered() -> None:
    raising = H3App()

    @raising.get("/")
    def fails(event: H3Event) -> None:
        raise LookupError("nothing there")

    with TestClient(raising, raise_app_exceptions=False) as client:
        assert client.request("GET", "/").status == 500


def test_a_blocking_stream_says_that_there_is_no_thread() -> None:
    blocking = H3App()
    said: list[str] = []

    @blocking.get("/")
    def blocks(event: H3Event) -> None:
        try:
            event.start_sse_blocking()
        except RuntimeError as error:
            said.append(str(error))
        event.send_text("no")

    with TestClient(blocking) as client:
        assert client.request("GET", "/").text == "no"
    assert said == [
        "start_sse_blocking() needs a thread to block, and there are none here, as in a browser: "
        "call start_sse() and set_stream_callback(callback)"
    ]


def test_a_channel_replays_to_a_client_that_comes_back() -> None:
    news = H3App()
    channel = Channel(history=10)

    @news.get("/news")
    def read(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(channel.stream)

    @news.post("/news")
    async def publish(event: H3Event) -> None:
        text = (await event.read_body()).decode()
        await channel.publish(SSEEvent(text, id=text))
        event.send_text("published")

    with TestClient(news) as client:
        with client.stream("GET", "/news") as stream:
            client.request("POST", "/news", body=b"1")
            assert stream.next_event().data == "1"
        client.request("POST", "/news", body=b"2")
        with client.stream("GET", "/news", headers={"Last-Event-ID": "1"}) as stream:
            assert stream.next_event().data == "2"


def test_what_can_never_come_is_told_and_not_waited_for() -> None:
    waiting = H3App()

    @waiting.get("/")
    async def waits(event: H3Event) -> None:
        await anyio.Event().wait()

    with TestClient(waiting) as client, pytest.raises(TimedOut):
        client.stream("GET", "/")
    client = TestClient(waiting)
    with client, pytest.raises(Stuck, match="something that can never come"):
        client._runner.call(anyio.Event().wait, None)


def test_it_runs_within_a_loop_that_runs_already() -> None:
    loop = asyncio.new_event_loop()
    try:
        asyncio._set_running_loop(loop)
        with TestClient(app) as client, client.stream("GET", "/callback") as stream:
            assert stream.next_event().data == "0"
        assert asyncio._get_running_loop() is loop
    finally:
        asyncio._set_running_loop(None)
        loop.close()


def test_a_lifespan_is_entered_and_left() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(app: H3App) -> AsyncIterator[None]:
        told.append("in")
        yield
        told.append("out")

    with TestClient(H3App(lifespan=lifespan)):
        assert told == ["in"]
    assert told == ["in", "out"]


@pytest.mark.parametrize("options", [{"backend": "trio"}, {"virtual": False}])
def test_what_needs_threads_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="without threads, as in a browser"):
        TestClient(app, **options)  # type: ignore[arg-type]


def test_a_client_is_entered_once_at_a_time() -> None:
    client = TestClient(app)
    with pytest.raises(RuntimeError, match="not open"):
        client.request("GET", "/")
    with client, pytest.raises(RuntimeError, match="entered once"):
        client.__enter__()
    with client:  # it may be entered again
        assert client.stream("GET", "/callback").status == 200
