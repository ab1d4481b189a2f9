"""`BlockingSSEWriter`: what a thread sends goes its own way to the event loop, and nothing is lost on it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from h3ref import BackpressureDetected, H3App, H3Event, Limits, SSEEvent, WriterClosed
from h3ref._core import mailbox
from h3ref._core.service import Service
from h3ref._core.stream import Stream
from h3ref._core.timer import Timer
from h3ref.adapters.asgi import EventSourceResponse
from h3ref.adapters.memory import MemoryServer, open_memory
from h3ref.blocking import BlockingSSEWriter
from h3ref.connection import End
from h3ref.flows import check_flow
from h3ref.lifecycle import Reason
from h3ref.testing import AsyncTestClient, TestClient
from h3ref.trace import Record
from h3ref.writer import stream_of
from tests.clients import open_client, server_of
from tests.waits import until

pytestmark = pytest.mark.anyio


def app_of(stream: Callable[[BlockingSSEWriter], None]) -> H3App:
    app = H3App()

    @app.get("/callback")
    def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream)

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            stream(writer)

    return app


def numbered(*numbers: int) -> bytes:
    return b"".join(b"data: %d\n\n" % number for number in numbers)


@pytest.mark.parametrize("path", ["/callback", "/blocking"])
async def test_a_busy_thread_loses_nothing_and_keeps_the_order(adapter: str, path: str) -> None:
    counts: list[int] = []

    def stream(writer: BlockingSSEWriter) -> None:
        for number in range(20_000):  # several times what may be buffered
            writer.send_event(str(number))
        counts.append(writer.event_count)

    async with open_client(adapter, app_of(stream)) as client:
        reply = await client.request("GET", path)
        with anyio.fail_after(30):
            assert await reply.read() == numbered(*range(20_000))
        assert reply.end is End.PROPER
    assert counts == [20_000]


async def test_each_event_arrives_though_nothing_follows_it(adapter: str) -> None:
    arrived = threading.Semaphore(0)

    def stream(writer: BlockingSSEWriter) -> None:
        for number in range(20):
            writer.send_event(str(number))
            assert arrived.acquire(timeout=30)

    async with open_client(adapter, app_of(stream)) as client:
        reply = await client.request("GET", "/callback")
        with anyio.fail_after(10):
            for number in range(20):
                assert await reply.receive() == numbered(number)
                arrived.release()
            assert await reply.receive() == b""


async def test_a_pause_of_any_length_wakes_nobody_in_vain_and_loses_no_wake(adapter: str) -> None:
    def stream(writer: BlockingSSEWriter) -> None:
        for number in range(100):
            writer.send_event(str(number))
            time.sleep(number % 7 * 0.0002)  # around the pause between two looks

    async with open_client(adapter, app_of(stream)) as client:
        reply = await client.request("GET", "/callback")
        with anyio.fail_after(10):
            assert await reply.read() == numbered(*range(100))


async def test_several_threads_of_one_stream_lose_nothing(adapter: str) -> None:
    def stream(writer: BlockingSSEWriter) -> None:
        def send() -> None:
            for number in range(2000):  # several times what may be buffered
                writer.send_event(str(number))

        writer.send_event("first")
        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async with open_client(adapter, app_of(stream)) as client:
        body = await (await client.request("GET", "/callback")).read()
    assert body.startswith(b"data: first\n\n")
    assert sorted(body.split(b"\n\n")[1:-1]) == sorted(4 * [b"data: %d" % number for number in range(2000)])


async def test_what_was_sent_before_the_server_ended_arrives() -> None:
    sent = threading.Event()
    ended: list[str] = []

    def stream(writer: BlockingSSEWriter) -> None:
        for number in range(5):
            writer.send_event(str(number))
        sent.set()
        while writer.is_active:
            time.sleep(0.001)
        with pytest.raises(WriterClosed):
            writer.send_event("too late")
        ended.append(str(writer.event.reason))

    async with open_memory(app_of(stream)) as server:
        reply = await server.request("GET", "/callback")
        await anyio.to_thread.run_sync(sent.wait)
        for exchange in server.service.live:
            exchange.shut_down()
        assert await reply.read() == numbered(*range(5))
        assert reply.end is End.PROPER
    assert ended == ["shutdown"]


async def test_a_thread_is_told_of_a_full_buffer_at_the_mark() -> None:
    event = SSEEvent("x" * 992)
    full = threading.Event()

    def stream(writer: BlockingSSEWriter) -> None:
        for _ in range(66):
            writer.send_nowait(event)
        with pytest.raises(BackpressureDetected):
            writer.send_nowait(event)
        full.set()
        writer.send_event("waits")

    async with open_memory(app_of(stream)) as server:
        reply = await server.request("GET", "/callback")
        await anyio.to_thread.run_sync(full.wait)
        body = await reply.read()
    assert body == event.encode() * 66 + b"data: waits\n\n"


async def test_a_keep_alive_a_flush_and_a_failure_come_after_what_was_sent_before(adapter: str) -> None:
    def stream(writer: BlockingSSEWriter) -> None:
        with writer:
            writer.send_event("1")
            writer.send_event("2")
            writer.send_keep_alive()
            writer.send_event("3")
            writer.send_event("4")
            raise RuntimeError("on purpose")

    async with open_client(adapter, app_of(stream)) as client:
        reply = await client.request("GET", "/callback")
        assert await reply.read() == numbered(1, 2) + b": keep-alive\n\n" + numbered(3, 4)


async def test_a_traced_threads_events_are_recorded_one_by_one() -> None:
    records: list[Record] = []

    def stream(writer: BlockingSSEWriter) -> None:
        for number in range(10):
            writer.send_event(str(number))

    async with open_memory(app_of(stream), trace=records.append) as server:
        await (await server.request("GET", "/callback")).read()
    assert [record.detail for record in records if record.step == "event"] == [f"data: {n}\n\n" for n in range(10)]


async def test_what_the_loop_sends_comes_after_what_the_thread_has_sent(adapter: str) -> None:
    app, rounds = H3App(), 200

    @app.get("/both")
    def both(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            on_loop = event.get_sse_writer()
            for number in range(rounds):
                writer.send_event(str(3 * number))
                anyio.from_thread.run(on_loop.send_event, str(3 * number + 1))
                anyio.from_thread.run_sync(on_loop.send_nowait, str(3 * number + 2))

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/both")
        assert await reply.read() == b"".join(b"data: %d\n\n" % number for number in range(3 * rounds))


# -- threads that anyio did not start, such as those of an MQTT or Kafka client


def on_own_thread(function: Callable[..., object], *args: object) -> None:
    """Run it on a thread of our own to its end; what it raises is raised here."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            function(*args)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    future.result(timeout=20)


def use_every_method(writer: BlockingSSEWriter) -> None:
    """All that a writer can do, and more than may be buffered."""
    with writer:
        writer.send_nowait("0")
        writer.send_event(SSEEvent("1"))
        writer.send_keep_alive()
        for number in range(2, 9000):
            writer.send_event(str(number))
        writer.flush()
        writer.send_nowait("9000")
        assert (writer.is_active, writer.event_count) == (True, 9001)
        writer.close()
        assert not writer.is_active
        with pytest.raises(WriterClosed):
            writer.send_nowait("too late")


EVERY_METHOD = numbered(0, 1) + b": keep-alive\n\n" + numbered(*range(2, 9001))


@pytest.mark.parametrize("path", ["/callback", "/blocking"])
async def test_every_method_works_on_a_thread_that_anyio_did_not_start(adapter: str, path: str) -> None:
    app = app_of(lambda writer: on_own_thread(use_every_method, writer))
    async with open_client(adapter, app) as client:
        reply = await client.request("GET", path)
        with anyio.fail_after(30):
            assert (await reply.read(), reply.end) == (EVERY_METHOD, End.PROPER)


@pytest.mark.parametrize("kind", [TestClient, AsyncTestClient])
@pytest.mark.parametrize("content", ["callback", "EventSourceResponse"])
async def test_it_works_for_test_clients_and_in_a_response_for_starlette(
    anyio_backend: Any, kind: type[Any], content: str
) -> None:
    def send(writer: BlockingSSEWriter) -> None:
        for number in range(100):
            writer.send_event(str(number))
        writer.flush()
        writer.close()

    def stream(writer: BlockingSSEWriter) -> None:
        on_own_thread(send, writer)

    app: Any = app_of(stream)
    if content == "EventSourceResponse":
        app = Starlette(routes=[Route("/callback", lambda request: EventSourceResponse(stream))])
    if kind is TestClient:
        with TestClient(app, backend=anyio_backend) as client, client.stream("GET", "/callback") as reply:
            received = [event.data for event in reply.events()]
    else:
        async with AsyncTestClient(app) as tester, await tester.stream("GET", "/callback") as replied:
            received = [event.data async for event in replied.events()]
    assert received == [str(number) for number in range(100)]


async def test_a_thread_of_ones_own_can_start_the_stream_too(adapter: str) -> None:
    app = H3App()

    def stream(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")

    app.get("/", lambda event: on_own_thread(stream, event))
    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/")
        assert (await reply.read(), reply.end) == (numbered(1), End.PROPER)


def send_until_told(writer: BlockingSSEWriter, told: list[WriterClosed], size: int = 1000) -> None:
    """Send without end, and keep what says that the stream is over."""
    try:
        while True:
            writer.send_event("x" * size)
    except WriterClosed as error:
        told.append(error)


async def test_such_a_thread_is_told_of_a_full_buffer_of_its_failure_and_that_the_client_has_left() -> None:
    full, told = threading.Event(), list[WriterClosed]()

    def fill(writer: BlockingSSEWriter) -> None:
        while writer.event_count < 66:
            writer.send_nowait("x" * 1000)
        with pytest.raises(BackpressureDetected):
            writer.send_nowait("one too many")
        full.set()
        with writer:
            raise LookupError("on purpose")

    app = app_of(lambda writer: on_own_thread(fill, writer))
    app.get("/leave", lambda event: on_own_thread(send_until_told, event.start_sse_blocking(), told))
    async with open_memory(app) as server:
        reply = await server.request("GET", "/callback")
        await anyio.to_thread.run_sync(full.wait)
        assert len(await reply.read()) > 64 * 1024
        assert reply.end is End.CUT
        (await server.request("GET", "/leave")).disconnect()
        await until(lambda: not server.service.live)
    assert [error.reason for error in told] == ["client_gone"]


async def test_one_that_waits_for_a_reader_is_told_when_our_side_ends_the_stream(adapter: str) -> None:
    told: list[WriterClosed] = []
    app = app_of(lambda writer: on_own_thread(send_until_told, writer, told, 100_000))
    async with open_client(adapter, app, limits=Limits(close_timeout=0.2, send_timeout=None)) as client:
        service: Service = server_of(client).service
        await client.request("GET", "/callback")
        (exchange,) = service.live
        writer = exchange.writer
        assert writer is not None
        with anyio.fail_after(20):
            while stream_of(writer).waiting < stream_of(writer).high_water:
                await anyio.lowlevel.checkpoint()
            exchange.stop(Reason.TIMEOUT)
            while service.live:
                await anyio.lowlevel.checkpoint()
    assert [error.reason for error in told] == ["timeout"]


@pytest.mark.parametrize("waits", [True, False])
async def test_one_that_sends_while_the_server_ends_is_told_so(waits: bool) -> None:
    """Whether it waits for a reader just then, or is busy."""
    told: list[WriterClosed] = []
    app = app_of(lambda writer: on_own_thread(send_until_told, writer, told))
    async with anyio.create_task_group() as tasks, open_memory(app) as server:
        reply = await server.request("GET", "/callback")
        (exchange,) = server.service.live
        writer = exchange.writer
        assert writer is not None
        if not waits:
            tasks.start_soon(reply.read)
        await until(lambda: reply._changed.statistics().tasks_waiting if waits else writer.event_count >= 1000)
    assert [error.reason for error in told] == ["shutdown"]


def test_one_that_waits_when_all_tasks_of_its_loop_are_cancelled_is_told_so() -> None:
    """As a server does that ends itself without a word to the app; trio ends no loop before its tasks."""
    told, over = list[WriterClosed](), threading.Event()

    def endless(writer: BlockingSSEWriter) -> None:
        try:
            send_until_told(writer, told)
        finally:
            over.set()

    def stream(writer: BlockingSSEWriter) -> None:
        threading.Thread(target=endless, args=[writer], daemon=True).start()
        over.wait(20)

    async def main() -> None:
        server = MemoryServer(Service(app_of(stream), flow=check_flow(None)), tasks := anyio.create_task_group())
        await tasks.__aenter__()
        reply = await server.request("GET", "/callback")
        await until(lambda: reply._changed.statistics().tasks_waiting)

    asyncio.run(main())
    assert over.wait(20)
    assert [error.reason for error in told] == ["shutdown"]


async def test_one_that_sends_after_the_end_is_told_so_though_the_loop_is_busy() -> None:
    """Or about to end, and with it whatever was asked of it."""
    told, gone, over = list[WriterClosed](), threading.Event(), threading.Event()

    def stream(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        writer.send_event("2")  # there is room from here on: it asks the loop no more
        gone.wait(20)
        try:
            for send in (writer.send_event, writer.send_nowait):
                with pytest.raises(WriterClosed) as refused:
                    send("too late")
                told.append(refused.value)
        finally:
            over.set()

    async with open_memory(app_of(stream)) as server:
        reply = await server.request("GET", "/callback")
        await until(lambda: [exchange for exchange in server.service.live if exchange.event_count == 2])
        reply.disconnect()
        gone.set()
        assert over.wait(20), "the loop does nothing else meanwhile"
    assert [error.reason for error in told] == ["client_gone"] * 2


def left_behind(backend: str, way: str) -> tuple[BlockingSSEWriter, Callable[[], None]]:
    """A writer whose event loop has ended, and what ends its thread."""
    kept = set[asyncio.Task[Any]]()
    writers: list[BlockingSSEWriter] = []
    begun, over = threading.Event(), threading.Event()

    def keep(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        writer.send_event("2")  # there is room from here on: it asks the loop no more
        writers.append(writer)
        begun.set()
        over.wait(20)

    async def main() -> None:
        async with open_memory(app_of(keep)) as server:
            await server.request("GET", "/callback")
            await anyio.to_thread.run_sync(begun.wait)
            for exchange in list(server.service.live):
                exchange.abandon()

    async def stop() -> None:
        server = MemoryServer(Service(app_of(keep), flow=check_flow(None)), tasks := anyio.create_task_group())
        await tasks.__aenter__()
        await server.request("GET", "/callback")
        await anyio.to_thread.run_sync(begun.wait)
        if way == "stopped with its tasks kept":
            kept.update(asyncio.all_tasks())

    if way == "in order":
        anyio.run(main, backend=backend)
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(stop())
        loop.close()

    def end() -> None:
        over.set()
        kept.clear()

    return writers[0], end


@pytest.mark.parametrize(
    ("backend", "way"),
    [
        ("asyncio", "in order"),
        ("trio", "in order"),
        ("asyncio", "stopped and closed"),
        ("asyncio", "stopped with its tasks kept"),
    ],
)
@pytest.mark.parametrize("run", [on_own_thread, lambda function, *args: function(*args)], ids=["own", "the loop's"])
def test_when_the_loop_has_ended_the_writer_is_closed(backend: str, way: str, run: Callable[..., None]) -> None:
    """On any thread, also that on which the loop has run."""
    writer, end = left_behind(backend, way)
    try:
        writer.flush()
        for send in (writer.send_event, writer.send_nowait):
            with pytest.raises(WriterClosed) as told:
                run(send, "too late")
            assert told.value.reason == "shutdown"
        with pytest.raises(WriterClosed):
            writer.send_keep_alive()
        writer.close()
        with pytest.raises(LookupError), writer:
            raise LookupError("passes")
        assert (writer.is_active, str(writer.event.reason)) == (False, "shutdown")
    finally:
        end()


def test_when_the_loop_has_ended_and_a_thread_has_noticed_its_twin_takes_nothing_either() -> None:
    writers: list[BlockingSSEWriter] = []
    app = H3App()

    @app.get("/")
    async def handler(event: H3Event) -> None:
        await anyio.to_thread.run_sync(on_own_thread, lambda: writers.append(event.start_sse_blocking()))
        await anyio.sleep_forever()

    async def stop() -> None:
        server = MemoryServer(Service(app, flow=check_flow(None)), tasks := anyio.create_task_group())
        await tasks.__aenter__()
        await server.request("GET", "/")
        await until(lambda: writers)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(stop())
    loop.close()
    twin = writers[0].event.get_sse_writer()
    with pytest.raises(WriterClosed):
        on_own_thread(writers[0].send_event, "too late")
    with pytest.raises(WriterClosed):
        anyio.run(twin.send_event, "too late, and in another loop")
    assert twin.event_count == 0


async def test_on_the_loops_own_thread_it_is_refused_at_once(adapter: str) -> None:
    app, told = H3App(), list[RuntimeError]()

    @app.get("/")
    def stream(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            calls: list[Callable[[], object]] = [
                lambda: writer.send_event("x"),
                lambda: writer.send_nowait("x"),
                writer.send_keep_alive,
                writer.flush,
                writer.close,
            ]
            for events in range(2):  # the second time there is room, so that none of them would have to wait
                for call in calls:
                    with pytest.raises(RuntimeError, match="would block the event loop") as refused:
                        anyio.from_thread.run_sync(call)
                    told.append(refused.value)
                assert writer.event_count == events
                writer.send_event("1")

    async with open_client(adapter, app) as client:
        assert await (await client.request("GET", "/")).read() == numbered(1, 1)
    assert len(told) == 10


@pytest.mark.parametrize("path", ["/callback", "/blocking"])
async def test_a_thread_that_is_not_busy_sets_no_timer(
    adapter: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Callable[[], None]] = []

    class Counted(Timer):
        def __init__(self, call: Callable[[], None]) -> None:
            made.append(call)
            super().__init__(call)

    monkeypatch.setattr(mailbox, "Timer", Counted)
    come = threading.Event()

    def stream(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        come.wait(30)

    async with open_client(adapter, app_of(stream)) as client:
        reply = await client.request("GET", path)
        assert b"data: 1" in await reply.receive()
        come.set()
        await reply.read()
    assert made == []


@pytest.mark.parametrize("path", ["/callback", "/blocking"])
async def test_an_adapter_that_raises_where_it_must_not_fails_the_one_stream(
    adapter: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        while writer.is_active:
            time.sleep(0.001)

    def refuse(self: Stream, *args: Any) -> None:
        raise OSError("no way")

    app = app_of(stream)
    app.get("/hello", hello)
    async with open_client(adapter, app) as client:
        with monkeypatch.context() as patched:
            patched.setattr(Stream, "relay", refuse)
            reply = await client.request("GET", path)
            with anyio.fail_after(20), suppress(Exception):
                await reply.read()
            assert reply.end is End.CUT
            await until(lambda: not server_of(client).service.live)
        assert await (await client.request("GET", "/hello")).read() == b"hello"


async def hello(event: H3Event) -> None:
    event.send_text("hello")
