"""`expires_at` and `expires_in`: a stream ends properly when what it is permitted for is over."""

from __future__ import annotations

import gc
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import (
    BlockingSSEWriter,
    Channel,
    H3App,
    H3Event,
    Limits,
    PermissionExpired,
    Reason,
    ShuttingDown,
    SSEEvent,
    SSEWriter,
    running,
)
from h3ref._core import expiry
from h3ref.adapters.memory import MemoryServer, open_memory
from h3ref.connection import End
from h3ref.lab.recorder import Recorder
from h3ref.testing import settle, virtual_backends
from tests.clients import ADAPTERS, ReplyLike, open_client, server_of
from tests.waits import until

pytestmark = pytest.mark.anyio

EVERYWHERE = pytest.mark.parametrize(
    ("adapter", "anyio_backend"),
    [(name, loop) for name, one in ADAPTERS.items() if "keep-alives" not in one.lacks for loop in one.loops],
    indirect=True,
)
in_virtual_time = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])

LAST = SSEEvent("sign in again", event="expired", retry=1000)
REFUSED = b"Forbidden: the permission for this stream has expired; come back with a new one"
QUIET = Limits(stream_keep_alive=None, send_timeout=None)

Say = Callable[[H3Event], None]


class Site:
    """An app whose streams are silent: one in each flow, each of which says first when it expires.

    Attributes:
        say: what a request says of that.
        begun: how many streams have begun to wait.
        reasons: why those were over.
        events: the requests so far.
        woken: set for threads at the end of a test.
    """

    def __init__(self, say: Say) -> None:
        self.say = say
        self.begun = 0
        self.reasons: list[Reason | None] = []
        self.events: list[H3Event] = []
        self.woken = threading.Event()
        self.app = H3App()
        self.app.on_request(self._begin)
        self.app.get("/callback", self._callback)
        self.app.get("/awaited", self._awaited)
        self.app.get("/blocking", self._blocking)
        self.app.get("/plain", lambda event: event.send_text("plain"))
        self.app.sse("/generator", commit_after=0.01)(self._generator)
        self.app.sse("/on_thread", commit_after=0.01)(self._on_thread)

    async def _begin(self, event: H3Event) -> None:
        self.events.append(event)
        self.say(event)

    async def _callback(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self._stay)

    async def _stay(self, writer: SSEWriter) -> None:
        self.begun += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.reasons.append(writer.event.reason)

    async def _awaited(self, event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await self._stay(writer)

    def _blocking(self, event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            self.begun += 1
            self.woken.wait(20)
            self.reasons.append(writer.event.reason)

    async def _generator(self, event: H3Event) -> Any:
        self.begun += 1
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            self.reasons.append(event.reason)

    def _on_thread(self, event: H3Event) -> Iterator[str]:
        self.begun += 1
        self.woken.wait(20)
        self.reasons.append(event.reason)
        yield from ()


FLOWS = ["callback", "awaited", "blocking", "generator", "on_thread"]


# -- on every adapter, in every flow


@pytest.mark.parametrize("flow", FLOWS)
@EVERYWHERE
async def test_a_stream_ends_properly_when_its_permission_does(adapter: str, flow: str) -> None:
    site = Site(lambda event: event.expires_at(time.time() + 60))
    async with open_client(adapter, site.app) as client:
        reply = await client.request("GET", f"/{flow}")
        assert reply.status == 200
        await until(lambda: site.begun)
        site.events[0].expires_at(time.time() + 0.1, farewell=LAST)
        with anyio.fail_after(10):
            assert await reply.read() == LAST.encode()
        assert reply.end is End.PROPER
        assert site.events[0].reason is Reason.TIMEOUT
        site.woken.set()
        await until(lambda: site.reasons)
    assert site.reasons == [Reason.TIMEOUT]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("flow", FLOWS)
@EVERYWHERE
async def test_one_that_is_over_before_the_head_is_a_403(adapter: str, flow: str, method: str) -> None:
    site = Site(lambda event: event.expires_at(time.time() - 1, farewell=LAST))
    async with open_client(adapter, site.app) as client:
        reply = await client.request(method, f"/{flow}")
        body = await reply.read()
        assert (reply.status, body) == (403, REFUSED if method == "GET" else b"")
        site.woken.set()
        server = server_of(client)
        await until(lambda: not server.service.live)
        assert len(server.service.streams) == 0
        assert server.service.stats().closed["error"] == 1
        assert (await client.request("GET", "/plain")).status == 200
    assert site.events[0].reason is Reason.ERROR


@EVERYWHERE
async def test_it_ends_also_where_nothing_else_of_a_stream_has_a_time(adapter: str) -> None:
    site = Site(lambda event: None)
    async with open_client(adapter, site.app, limits=QUIET) as client:
        reply = await client.request("GET", "/callback")
        await until(lambda: site.events)
        site.events[0].expires_in(0.05)
        with anyio.fail_after(10):
            assert await reply.read() == b""
        assert reply.end is End.PROPER


@EVERYWHERE
async def test_any_thread_may_say_it(adapter: str) -> None:
    site = Site(lambda event: None)
    async with open_client(adapter, site.app) as client:
        reply = await client.request("GET", "/callback")
        await until(lambda: site.events)
        thread = threading.Thread(target=site.events[0].expires_in, args=(0.05,), kwargs={"farewell": LAST})
        thread.start()
        with anyio.fail_after(10):
            assert await reply.read() == LAST.encode()
        thread.join()
        await anyio.to_thread.run_sync(site.events[0].expires_in, 5)  # it is over: does nothing


async def test_what_a_channel_has_brought_comes_before_the_farewell(adapter: str) -> None:
    app, news = H3App(), Channel(history=10)
    asked: list[H3Event] = []

    @app.get("/news")
    async def read(event: H3Event) -> None:
        asked.append(event)
        event.start_sse()
        event.set_stream_callback(news.stream)

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/news")
        await until(lambda: len(news))
        for number in range(5):
            await news.publish(SSEEvent(str(number), id=str(number)))
        asked[0].expires_in(0, farewell=LAST)
        with anyio.fail_after(10):
            body = await reply.read()
        sent = b"".join(SSEEvent(str(number), id=str(number)).encode() for number in range(5))
        assert (body, reply.end) == (sent + LAST.encode(), End.PROPER)
        assert len(news) == 0


async def test_a_callback_may_say_it_of_its_own_stream(adapter: str) -> None:
    app = H3App()
    sent: list[int] = []

    @app.get("/stream")
    def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(tick)

    def tick(writer: BlockingSSEWriter) -> None:
        writer.event.expires_in(0, farewell=LAST)
        while writer.is_active:
            time.sleep(0.001)
        sent.append(writer.event_count)

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/stream")
        with anyio.fail_after(10):
            assert await reply.read() == LAST.encode()
        await until(lambda: sent)


async def test_the_servers_own_hook_of_errors_hears_of_a_refusal_and_its_log_at_info(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site, told = Site(lambda event: event.expires_in(-1)), []
    site.app.on_error(lambda event, error: told.append(error))
    async with open_memory(site.app) as server:
        await (await server.request("GET", "/callback")).read()
    assert [type(error) for error in told] == [PermissionExpired]
    assert not caplog.records


# -- when exactly


class Clocks:
    """The machine's two clocks, which stand; a test sets the one of the wall, and a virtual loop keeps its own time."""

    steady = 1_000.0
    wall = 1_800_000_000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(expiry, "time", clocks)
    return clocks


async def ended(server: MemoryServer, path: str = "/callback") -> tuple[float, ReplyLike]:
    """Read a stream to its end; return the virtual time when that was."""
    reply = await server.request("GET", path)
    await reply.read()
    return anyio.current_time(), reply


@in_virtual_time
@pytest.mark.parametrize("limits", [None, QUIET], ids=["usual", "quiet"])
@pytest.mark.parametrize("seconds", [0.001, 1, 14.5, 3600])
async def test_it_is_to_the_moment(limits: Limits | None, seconds: float, clocks: Clocks) -> None:
    ways: list[Say] = [
        lambda event: event.expires_in(seconds),
        lambda event: event.expires_at(clocks.wall + seconds),
        lambda event: event.expires_at(datetime.fromtimestamp(clocks.wall, UTC) + timedelta(seconds=seconds)),
    ]
    for say in ways:
        async with open_memory(Site(say).app, limits=limits) as server:
            began = anyio.current_time()
            when, reply = await ended(server)
        assert reply.end is End.PROPER
        assert when - began == pytest.approx(seconds, abs=0.06)


@in_virtual_time
async def test_the_last_call_counts_so_that_a_permission_can_be_renewed() -> None:
    site = Site(lambda event: event.expires_in(60, farewell=LAST))
    async with open_memory(site.app) as server, anyio.create_task_group() as tasks:
        began, times = anyio.current_time(), []

        async def read(path: str) -> None:
            when, reply = await ended(server, path)
            times.append((path, round(when - began), reply.end))

        for path in ("/callback", "/awaited", "/generator"):
            tasks.start_soon(read, path)
            await settle()
        renewed, shortened, _ = site.events
        await anyio.sleep(59)
        renewed.expires_in(600)
        shortened.expires_at(time.time() - 100)  # at once, now that the head has left
        await anyio.sleep(100)
        assert times == [("/awaited", 59, End.PROPER), ("/generator", 60, End.PROPER)]
        renewed.expires_in(3600)
        renewed.expires_in(10)
        renewed.expires_in(1000)
        await anyio.sleep(1001)
        assert times[2] == ("/callback", 1159, End.PROPER)
        renewed.expires_in(10)  # it is over: does nothing


@in_virtual_time
async def test_a_wall_clock_that_is_set_moves_what_was_said_by_it_and_nothing_else(clocks: Clocks) -> None:
    site = Site(lambda event: event.expires_at(clocks.wall + 1000))
    async with open_memory(site.app) as server, anyio.create_task_group() as tasks:
        began, times = anyio.current_time(), {}

        async def read(path: str) -> None:
            times[path] = (await ended(server, path))[0] - began

        tasks.start_soon(read, "/callback")
        await settle()
        tasks.start_soon(read, "/awaited")
        await settle()
        site.say = lambda event: event.expires_in(1000)
        tasks.start_soon(read, "/generator")
        await settle()
        clocks.wall -= 50  # it was fast, and somebody has noticed
        await anyio.sleep(999)
        site.events[1].expires_at(clocks.wall + 400)
        await anyio.sleep(52)
        assert times == pytest.approx({"/generator": 1000, "/callback": 1050}, abs=0.2)
        clocks.wall += 400  # a machine that has slept is the same
        await anyio.sleep(4)
    assert 1051 <= times["/awaited"] <= 1055


async def test_a_machine_that_stands_still_between_two_clocks_has_not_set_one(
    monkeypatch: pytest.MonkeyPatch, clocks: Clocks
) -> None:
    before = expiry.wall_clock_skew()
    stands = iter([2.0, 0.06, 0.0, 0.0])

    def time() -> float:
        wall, pause = clocks.wall, next(stands)
        clocks.wall += pause
        clocks.steady += pause
        return wall

    monkeypatch.setattr(clocks, "time", time)
    assert expiry.wall_clock_skew() == pytest.approx(before)


@in_virtual_time
async def test_it_is_asked_once_more_right_before_the_head_leaves() -> None:
    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.expires_in(60)
        event.start_sse()
        await anyio.sleep(59)
        event.set_stream_callback(never)

    @app.on_response
    async def slowly(event: H3Event) -> None:
        await anyio.sleep(1)

    async def never(writer: SSEWriter) -> None:
        raise AssertionError("it must not be called")

    async with open_memory(app) as server:
        reply = await server.request("GET", "/stream")
        assert (reply.status, await reply.read()) == (403, REFUSED)


@in_virtual_time
async def test_a_handler_may_answer_a_refusal_in_its_own_way_before_it_opens_its_stream() -> None:
    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.expires_in(-1)
        event.start_sse()
        with pytest.raises(PermissionExpired):
            await event.await_sse_writer()
        with pytest.raises(PermissionExpired):  # once is for ever, also if it were renewed
            await event.await_sse_writer()

    async with open_memory(app) as server:
        assert (await server.request("GET", "/stream")).status == 403


@in_virtual_time
async def test_a_plain_answer_expires_never() -> None:
    site = Site(lambda event: event.expires_at(1))
    async with open_memory(site.app) as server:
        reply = await server.request("GET", "/plain")
        assert (reply.status, await reply.read()) == (200, b"plain")
        site.events[0].expires_in(5)


# -- many


@in_virtual_time
async def test_a_thousand_that_end_in_one_second_end_then() -> None:
    times: list[float] = []
    site = Site(lambda event: event.expires_in(100))
    async with open_memory(site.app) as server:
        began = anyio.current_time()

        async def read() -> None:
            when, reply = await ended(server)
            assert reply.end is End.PROPER
            times.append(when - began)

        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(read)
        await until(lambda: not server.service.live)
        assert server.stats().closed["timeout"] == 1000
    assert (min(times), max(times)) == pytest.approx((100, 100), abs=0.1)


@in_virtual_time
async def test_nothing_is_kept_of_a_stream_that_has_ended_long_before() -> None:
    site = Site(lambda event: event.expires_in(3))
    async with open_memory(site.app) as server:
        reply = await server.request("GET", "/callback")
        site.events[0].context["held"] = held = Site(lambda event: None)
        kept = weakref.ref(held)
        del held
        reply.disconnect()
        await until(lambda: not server.service.live)
        del reply
        site.events.clear()
        await settle()
        gc.collect()
        assert kept() is None


# -- what is seen of it


@in_virtual_time
async def test_a_recording_and_the_figures_say_so() -> None:
    recorder = Recorder()
    site = Site(lambda event: event.expires_in(5, farewell=LAST))
    async with open_memory(site.app, trace=recorder) as server:
        await ended(server)
        await until(lambda: not server.service.live)
        assert server.stats().closed["timeout"] == 1
    closes = [record for record in recorder.recording if record.step == "closes"]
    assert [(record.reason, record.detail) for record in closes] == [("timeout", "expired")]


# -- what is refused


NAIVE = datetime(2030, 1, 1)


@pytest.mark.parametrize(
    ("call", "value", "error", "text"),
    [
        ("expires_at", NAIVE, ValueError, "has no time zone, so it means another time on another machine"),
        ("expires_at", "2030-01-01", TypeError, "takes an aware datetime, or seconds since the epoch, not '2030"),
        ("expires_at", None, TypeError, "takes an aware datetime, or seconds since the epoch, not None"),
        ("expires_at", True, TypeError, "not True"),
        ("expires_at", 1_800_000_000_000, ValueError, "seconds since the epoch, not milliseconds"),
        ("expires_at", float("nan"), ValueError, "not nan; leave it out for a stream that needs no end"),
        ("expires_at", float("inf"), ValueError, "not inf"),
        ("expires_in", float("inf"), ValueError, "takes seconds, not inf"),
        ("expires_in", timedelta(hours=1), TypeError, "takes seconds, not datetime.timedelta"),
    ],
)
async def test_what_is_no_time_is_refused_with_a_sentence(
    call: str, value: Any, error: type[Exception], text: str
) -> None:
    told: list[str] = []

    def say(event: H3Event) -> None:
        with pytest.raises(error) as caught:
            getattr(event, call)(value)
        told.append(str(caught.value))
        with pytest.raises(TypeError, match="farewell is an SSEEvent, or None for none, not 'bye'"):
            event.expires_in(5, farewell="bye")  # type: ignore[arg-type]

    async with open_memory(Site(say).app) as server:
        assert (await server.request("GET", "/plain")).status == 200
    assert text in told[0]


async def test_when_the_loop_has_ended_there_is_nothing_to_expire() -> None:
    site = Site(lambda event: None)

    def run() -> None:
        async def serve_once() -> None:
            async with running(site.app, port=0), open_memory(site.app) as server:
                await (await server.request("GET", "/plain")).read()

        anyio.run(serve_once)

    await anyio.to_thread.run_sync(run)
    site.events[0].expires_in(5)


@pytest.mark.parametrize("error", [PermissionExpired(), ShuttingDown()])
def test_the_refusal_can_be_pickled(error: Exception) -> None:
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin)) == (type(error), str(error))
