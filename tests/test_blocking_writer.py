"""`BlockingSSEWriter`: what a thread sends goes its own way to the event loop, and nothing is lost on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import anyio
import pytest

from h3ref import BackpressureDetected, H3App, H3Event, SSEEvent, WriterClosed
from h3ref.adapters.memory import open_memory
from h3ref.blocking import BlockingSSEWriter
from h3ref.connection import End
from h3ref.trace import Record

from .clients import open_client

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
            assert arrived.acquire(timeout=5)

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
            for number in range(200):  # less than the buffer holds: only anyio's own threads can wait for room
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
    assert sorted(body.split(b"\n\n")[1:-1]) == sorted(4 * [b"data: %d" % number for number in range(200)])


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
        assert await reply.read() == numbered(1, 2) + b": keep-alive\n" + numbered(3, 4)


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
