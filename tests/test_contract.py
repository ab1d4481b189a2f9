"""The contract of every adapter: the order of steps, and what was decided where the seeds are silent.

Each test runs on every adapter and on both event loops. The order is asserted from the recorded steps, not
only from the bytes; the steps of an exchange are complete once the server has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from h3ref import (
    BackpressureDetected,
    BlockingSSEWriter,
    Channel,
    ConnectionLost,
    ConnectionNotReady,
    H3App,
    H3Error,
    H3Event,
    Limits,
    ResponseAlreadySent,
    SSEAlreadyStarted,
    SSEEvent,
    SSENotStarted,
    SSEWriter,
    WriterClosed,
    flows,
)
from h3ref._core.exchange import Exchange
from h3ref.connection import End, StreamHead
from h3ref.lab.check import check
from h3ref.lab.recorder import Recorder
from h3ref.trace import Record
from h3ref.writer import stream_of
from tests.clients import open_client, server_of
from tests.waits import until, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

STREAM = "/stream"

OPENING = ["checks_sse_started", "creates_connection", "sends_headers", "headers", "connection_ready"]
ONE_EVENT = ["send_event", "data", "event"]
ENDING = ["closes_connection", "connection_closed"]

ORDERS: dict[str, list[str]] = {
    "callback": [
        *("request", "start_sse", "set_stream_callback", "returns"),
        *OPENING,
        *("schedules_callback", "calls_callback"),
        *ONE_EVENT,
        *("closes", *ENDING),
    ],
    "awaited": [
        *("request", "start_sse", "await_sse_writer"),
        *OPENING,
        "hands_over_writer",
        *ONE_EVENT,
        *("close", *ENDING, "returns"),
    ],
    "blocking": [
        *("request", "start_sse_blocking", "start_sse"),
        *OPENING,
        "hands_over_writer",
        *ONE_EVENT,
        *("close", *ENDING, "returns"),
    ],
    "generated": [
        *("request", "start_sse", "await_sse_writer"),
        *OPENING,
        "hands_over_writer",
        *ONE_EVENT,
        *("returns", "closes", *ENDING),
    ],
    "plain": ["request", "send_response", "returns", "response"],
}


def fixed_app() -> H3App:
    """The same stream of one event by each of the fixed flows, and a plain response."""
    app = H3App()

    @app.get("/callback")
    async def by_callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(one_event)

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")

    @app.sse("/generated")
    async def generated(event: H3Event) -> Any:
        yield "1"

    @app.get("/plain")
    async def plain(event: H3Event) -> None:
        event.send_text("data: 1\n\n")

    return app


async def one_event(writer: SSEWriter) -> None:
    await writer.send_event("1")


def streaming(callback: Callable[..., Any]) -> H3App:
    """An app whose /stream is streamed by a callback, and that says hello."""
    app = H3App()

    @app.get(STREAM)
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    return app


def handled(handler: Callable[..., Any]) -> H3App:
    """An app whose /stream is this handler."""
    app = H3App()
    app.get(STREAM, handler)
    return app


class Flag:
    """Set on the loop or on a thread, waited for on the loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    def set_from_thread(self) -> None:
        anyio.from_thread.run_sync(self._event.set)

    async def wait(self) -> None:
        with anyio.fail_after(10):
            await self._event.wait()


# -- the order of steps


@pytest.mark.parametrize("route", ORDERS)
async def test_every_adapter_takes_the_steps_in_the_same_order(adapter: str, route: str) -> None:
    records: list[Record] = []
    async with open_client(adapter, fixed_app(), trace=records.append) as client:
        reply = await client.request("GET", f"/{route}")
        assert reply.status == 200
        assert await reply.read() == b"data: 1\n\n"
        assert reply.end is End.PROPER
    assert [record.step for record in records] == ORDERS[route]
    assert records[-1].after == "closed"


async def test_the_states_follow_the_steps(adapter: str) -> None:
    records: list[Record] = []
    async with open_client(adapter, fixed_app(), trace=records.append) as client:
        await (await client.request("GET", "/callback")).read()
    changes = [(record.step, record.after) for record in records if record.before != record.after]
    assert changes == [
        ("start_sse", "sse_started"),
        ("sends_headers", "headers_sent"),
        ("calls_callback", "streaming"),
        ("closes", "closed"),
    ]


async def test_the_broken_flow_asks_too_early_and_then_is_silent(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "h3ref.flows")
    rejections: list[ConnectionNotReady] = []

    async def too_early(event: H3Event) -> None:
        event.start_sse()
        try:
            event.get_sse_writer()
        except ConnectionNotReady as error:
            rejections.append(error)

    records: list[Record] = []
    async with open_client(adapter, handled(too_early), flow=flows.broken, trace=records.append) as client:
        reply = await client.request("GET", STREAM)
        assert reply.status == 200
        with anyio.move_on_after(0.05) as silence:
            await reply.receive()
        assert silence.cancelled_caught, "nothing comes, and the connection stays open"
        reply.disconnect()
        await until(lambda: not server_of(client).service.live)
    assert [record.step for record in records] == [
        *("request", "start_sse", "get_sse_writer", "returns"),
        *OPENING,
        "disconnect",
    ]
    assert (rejections[0].state, rejections[0].trigger, rejections[0].rule) == ("sse_started", "get_writer", "L-17")
    assert [record.message for record in caplog.records if record.name == "h3ref.flows"] == [
        "SSE mode detected, setting up streaming connection",
        "SSE headers sent, 124 bytes",
    ]


async def test_the_broken_flow_answers_plain_requests_as_ever(adapter: str) -> None:
    async with open_client(adapter, fixed_app(), flow=flows.broken) as client:
        reply = await client.request("GET", "/plain")
        assert (reply.status, await reply.read()) == (200, b"data: 1\n\n")


async def test_the_broken_flow_hands_over_no_writer_however_it_is_asked(adapter: str) -> None:
    async with open_client(adapter, fixed_app(), flow=flows.broken) as client:
        assert (await client.request("GET", "/awaited")).status == 500
        assert (await client.request("GET", "/blocking")).status == 500


# -- before the headers


async def test_a_writer_asked_for_too_early_is_refused_with_the_remedy(adapter: str) -> None:
    seen: list[Exception] = []

    async def handler(event: H3Event) -> None:
        for ready in (False, True):
            try:
                event.get_sse_writer()
            except (SSENotStarted, ConnectionNotReady) as error:
                seen.append(error)
            if not ready:
                event.start_sse()
        event.set_stream_callback(one_event)

    async with open_client(adapter, handled(handler)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"data: 1\n\n"
    not_started, not_ready = seen
    assert isinstance(not_started, SSENotStarted)
    assert isinstance(not_ready, ConnectionNotReady)
    assert "set_stream_callback" in str(not_ready)
    assert not_ready.remedy in str(not_ready)


async def test_a_handler_that_fails_after_start_sse_gets_a_real_500(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(one_event)
        raise RuntimeError("secret")

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert (reply.status, await reply.read()) == (500, b"Internal Server Error")


async def test_start_sse_with_nobody_to_write_is_a_500_that_says_so(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert reply.status == 500
        assert b"start_sse() was called, but nobody will write" in await reply.read()


async def test_a_callback_without_start_sse_is_a_500_that_says_so(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.set_stream_callback(one_event)

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert reply.status == 500
        assert b"start_sse() was never called" in await reply.read()


async def test_the_last_stream_callback_wins(adapter: str) -> None:
    async def other(writer: SSEWriter) -> None:
        raise AssertionError("replaced")

    async def handler(event: H3Event) -> None:
        event.set_stream_callback(other)
        event.start_sse()
        event.set_stream_callback(one_event)

    async with open_client(adapter, handled(handler)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"data: 1\n\n"


async def test_a_stream_callback_that_is_no_callable_is_refused(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        with pytest.raises(TypeError, match="callable that takes the writer"):
            event.set_stream_callback("not a callable")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="generator, so calling it would send nothing"):
            event.set_stream_callback(yields)
        event.send_text("refused")

    async with open_client(adapter, handled(handler)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"refused"


async def yields(writer: SSEWriter) -> Any:
    yield "1"


async def test_start_sse_after_another_status_is_refused(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.set_status(404)
        with pytest.raises(ValueError, match="a stream's status is 200, not 404"):
            event.start_sse()
        event.send_text("no such room")

    async with open_client(adapter, handled(handler)) as client:
        assert (await client.request("GET", STREAM)).status == 404


async def test_a_second_start_and_a_plain_answer_after_it_are_refused(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        with pytest.raises(SSEAlreadyStarted):
            event.start_sse()
        with pytest.raises(SSEAlreadyStarted):
            event.send_error(404)
        event.set_stream_callback(one_event)

    async with open_client(adapter, handled(handler)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"data: 1\n\n"


async def test_a_stream_after_a_plain_answer_is_refused(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.send_text("answered")
        with pytest.raises(ResponseAlreadySent) as refused:
            event.start_sse()
        assert refused.value.reason == "responded"

    async with open_client(adapter, handled(handler)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"answered"


async def test_headers_of_the_handler_are_in_the_streams_head(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.set_header("X-Room", "1")
        event.set_header("cache-control", "no-store")
        event.start_sse()
        event.set_stream_callback(one_event)

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.headers["x-accel-buffering"] == "no"
        assert reply.headers["x-room"] == "1"
        assert reply.headers["cache-control"] == "no-store"


async def test_a_client_that_leaves_before_the_headers_gets_no_callback(adapter: str) -> None:
    started, cancelled = Flag(), Flag()
    called: list[SSEWriter] = []

    async def callback(writer: SSEWriter) -> None:
        called.append(writer)

    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    records: list[Record] = []
    async with open_client(adapter, handled(handler), trace=records.append) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request_and_leave, client, started)
        await cancelled.wait()
    assert not called
    assert records[-1].step == "disconnect"
    assert records[-1].after == "closed"


async def request_and_leave(client: Any, when: Flag) -> None:
    """Send a request whose head never comes, and leave when told to."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.request, "GET", STREAM)
        await when.wait()
        tasks.cancel_scope.cancel()


# -- the callback


async def test_a_callback_that_returns_is_closed_for_it(adapter: str) -> None:
    async with open_client(adapter, streaming(one_event)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.read() == b"data: 1\n\n"
        assert reply.end is End.PROPER


async def test_a_callback_that_raises_cuts_the_body_and_the_server_goes_on(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        raise RuntimeError("in mid-stream")

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.read() == b"data: 1\n\n", "what was sent is flushed"
        assert reply.end is End.CUT
        assert await (await client.request("GET", "/hello")).read() == b"hello"
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert "in mid-stream" in (logged.exc_text or "")


async def test_leaving_async_with_by_an_exception_is_fail(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")
            raise RuntimeError("in mid-stream")

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.read() == b"data: 1\n\n"
        assert reply.end is End.CUT


async def test_a_time_limit_of_its_own_around_async_with_is_fail(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        with anyio.move_on_after(600) as limit:
            async with await event.await_sse_writer() as writer:
                await writer.send_event("1")
                limit.deadline = anyio.current_time() + 0.01
                await anyio.sleep_forever()

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.read() == b"data: 1\n\n"
        assert reply.end is End.CUT


async def test_leaving_with_by_an_exception_is_fail(adapter: str) -> None:
    def handler(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")
            raise RuntimeError("in mid-stream")

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.read() == b"data: 1\n\n"
        assert reply.end is End.CUT


async def test_close_twice_is_one_close_and_a_send_after_it_is_refused(adapter: str) -> None:
    refused: list[WriterClosed] = []

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await writer.close()
        await writer.close()
        assert not writer.is_active
        try:
            await writer.send_event("2")
        except WriterClosed as error:
            refused.append(error)

    records: list[Record] = []
    async with open_client(adapter, streaming(callback), trace=records.append) as client:
        assert await (await client.request("GET", STREAM)).read() == b"data: 1\n\n"
    assert [record.step for record in records].count("close") == 1
    assert (refused[0].state, refused[0].reason) == ("closed", "complete")


async def test_its_own_close_does_not_cancel_the_callback(adapter: str) -> None:
    cleaned = Flag()

    async def callback(writer: SSEWriter) -> None:
        await writer.close()
        await anyio.lowlevel.checkpoint()
        cleaned.set()

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        assert (await reply.read(), reply.end) == (b"", End.PROPER)
        await cleaned.wait()


async def test_a_close_from_outside_cancels_the_callback(adapter: str) -> None:
    writers: list[SSEWriter] = []
    cancelled = Flag()

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        writers.append(writer)
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.receive() == b"data: 1\n\n"
        await writers[0].close()
        await cancelled.wait()
        assert await reply.read() == b""
        assert reply.end is End.PROPER


async def test_a_close_from_outside_sends_what_a_slow_reader_has_not_read(adapter: str) -> None:
    writers: list[SSEWriter] = []
    full = Flag()

    async def callback(writer: SSEWriter) -> None:
        try:
            while True:
                writer.send_nowait("x" * 4096)
        except BackpressureDetected:
            writers.append(writer)
            full.set()
        await anyio.sleep_forever()

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        await full.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writers[0].close)
            await wait_all_tasks_blocked()
            body = await reply.read()
        assert body.count(b"data: ") == writers[0].event_count
        assert reply.end is End.PROPER


async def test_a_plain_def_may_start_a_stream_whose_client_leaves(adapter: str) -> None:
    cleaned = Flag()

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.set()

    def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.receive() == b"data: 1\n\n"
        reply.disconnect()
        await cleaned.wait()


async def test_a_client_that_leaves_cancels_the_callback_when_it_happens(adapter: str) -> None:
    cleaned = Flag()

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        try:
            await anyio.sleep_forever()  # it sends nothing more, so no write could tell it
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                cleaned.set()

    records: list[Record] = []
    async with open_client(adapter, streaming(callback), trace=records.append) as client:
        reply = await client.request("GET", STREAM)
        await reply.receive()
        reply.disconnect()
        await cleaned.wait()
    assert records[-1].step == "disconnect"


async def test_the_same_writer_is_there_for_the_asking(adapter: str) -> None:
    same: list[bool] = []

    async def callback(writer: SSEWriter) -> None:
        same.append(writer.event.get_sse_writer() is writer)
        same.append(await writer.event.await_sse_writer() is writer)
        await writer.send_keep_alive()
        await writer.send_event(SSEEvent("1", id="7"))
        assert writer.event_count == 1

    async with open_client(adapter, streaming(callback)) as client:
        assert await (await client.request("GET", STREAM)).read() == b": keep-alive\n\nid: 7\ndata: 1\n\n"
    assert same == [True, True]


# -- threads


async def test_a_sleep_in_a_plain_def_callback_delays_no_other_request(adapter: str) -> None:
    asleep, wake = Flag(), threading.Event()

    def callback(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        asleep.set_from_thread()
        assert wake.wait(30), "the other request was answered meanwhile"
        writer.send_event("2")

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        await asleep.wait()
        assert await (await client.request("GET", "/hello")).read() == b"hello"
        wake.set()
        assert await reply.read() == b"data: 1\n\ndata: 2\n\n"


async def test_a_thread_learns_of_a_disconnect_at_its_next_send(adapter: str) -> None:
    sent, left = Flag(), threading.Event()
    learned: list[WriterClosed] = []

    def callback(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        sent.set_from_thread()
        assert left.wait(30)
        while True:
            try:
                writer.send_event("2")
            except WriterClosed as error:
                learned.append(error)
                raise

    records: list[Record] = []
    async with open_client(adapter, streaming(callback), trace=records.append) as client:
        reply = await client.request("GET", STREAM)
        await reply.receive()
        await sent.wait()
        reply.disconnect()
        await until(lambda: records[-1].step == "disconnect")
        left.set()
    assert learned[0].reason == "client_gone"


async def test_past_the_threads_for_streams_there_is_a_503(adapter: str) -> None:
    release = threading.Event()

    def callback(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        assert release.wait(30)

    def blocking(event: H3Event) -> None:
        event.start_sse_blocking()

    app = streaming(callback)
    app.get("/blocking", blocking)
    async with open_client(adapter, app, limits=Limits(stream_threads=2)) as client:
        held = [await client.request("GET", STREAM) for _ in range(2)]
        for path in (STREAM, "/blocking"):
            refused = await client.request("GET", path)
            assert refused.status == 503
            assert refused.headers["retry-after"] == "1"
        assert await (await client.request("GET", "/hello")).read() == b"hello"
        release.set()
        for reply in held:
            assert await reply.read() == b"data: 1\n\n"
        assert (await client.request("GET", STREAM)).status == 200


async def test_blocking_streams_starve_no_plain_handler(adapter: str) -> None:
    release = threading.Event()

    def stream(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")
            assert release.wait(30)

    def hello(event: H3Event) -> None:
        event.send_text("hello")

    app = handled(stream)
    app.get("/hello", hello)
    async with open_client(adapter, app, limits=Limits(handler_threads=1)) as client:
        held = [await client.request("GET", STREAM) for _ in range(3)]
        with anyio.fail_after(10):
            assert await (await client.request("GET", "/hello")).read() == b"hello"
        release.set()
        for reply in held:
            assert await reply.read() == b"data: 1\n\n"


async def test_start_sse_blocking_on_the_loops_thread_is_refused(adapter: str) -> None:
    async def handler(event: H3Event) -> None:
        with pytest.raises(RuntimeError, match="would block the event loop"):
            event.start_sse_blocking()
        event.send_text("refused")

    async with open_client(adapter, handled(handler)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"refused"


async def test_a_plain_def_that_returns_an_awaitable_is_told(adapter: str) -> None:
    async with open_client(adapter, streaming(lambda writer: one_event(writer))) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.read() == b""
        assert reply.end is End.CUT


# -- HEAD


@pytest.mark.parametrize("route", ["callback", "awaited", "blocking", "generated"])
async def test_head_gets_the_headers_and_runs_no_stream(adapter: str, route: str) -> None:
    records: list[Record] = []
    async with open_client(adapter, fixed_app(), trace=records.append) as client:
        reply = await client.request("HEAD", f"/{route}")
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream"
        assert await reply.read() == b""
    steps = [record.step for record in records]
    assert "send_event" not in steps
    assert "fails" not in steps
    assert records[-1].after == "closed"


async def test_head_unwinds_a_handler_that_waits_for_its_writer(adapter: str) -> None:
    unwound: list[BaseException] = []

    async def handler(event: H3Event) -> None:
        event.start_sse()
        try:
            await event.await_sse_writer()
        except ConnectionLost as error:
            unwound.append(error)
            raise

    async with open_client(adapter, handled(handler)) as client:
        assert (await client.request("HEAD", STREAM)).status == 200
    assert isinstance(unwound[0], ConnectionLost)
    assert unwound[0].reason == "complete"


# -- while the head is on its way


def let_heads_wait(monkeypatch: pytest.MonkeyPatch, until: Callable[[], Any]) -> None:
    """Let the head of every stream wait, whatever the adapter."""
    original = Exchange._create_connection
    slow: set[type] = set()

    def create(exchange: Exchange) -> Any:
        connection = original(exchange)
        kind = type(connection)
        if kind not in slow:
            slow.add(kind)
            send_headers = kind.send_headers

            async def slowly(self: Any, head: StreamHead) -> int:
                with anyio.CancelScope(shield=True):
                    await until()
                result: int = await send_headers(self, head)
                return result

            monkeypatch.setattr(kind, "send_headers", slowly)
        return connection

    monkeypatch.setattr(Exchange, "_create_connection", create)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_is_sent_while_the_head_is_on_its_way_goes_behind_it(
    adapter: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_its_way, go_on = Flag(), Flag()
    writers: list[SSEWriter] = []
    records: list[Record] = []

    async def until_told() -> None:
        on_its_way.set()
        await go_on.wait()

    async def early(event: H3Event) -> None:
        await on_its_way.wait()
        writer = event.get_sse_writer()
        writers.append(writer)
        await writer.send_event("1")
        writer.send_nowait("2")
        assert (event.state, writer.event_count, stream_of(writer).connection.buffered) == ("streaming", 2, 18)
        with pytest.raises(H3Error, match="the head is on its way already"):
            event.set_header("X-Late", "1")
        go_on.set()

    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(early, event)
            async with await event.await_sse_writer() as writer:
                writers.append(writer)
                await writer.send_event("3")

    app = H3App()
    app.on(method, STREAM, handler)
    let_heads_wait(monkeypatch, until_told)
    async with open_client(adapter, app, trace=records.append) as client:
        reply = await client.request(method, STREAM)
        body = await reply.read()
        service = server_of(client).service
        await until(lambda: not service.live)
        told = service.stats().bytes
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    steps = [record.step for record in records]
    asked = next(record for record in records if record.step == "get_sse_writer")
    assert (asked.before, asked.after, asked.error) == ("headers_sent", "streaming", None)
    assert steps.index("send_event") < steps.index("headers")
    if method == "HEAD":
        assert (body, len(writers)) == (b"", 1)
        assert "data" not in steps
    else:
        assert (body, reply.end) == (b"data: 1\n\ndata: 2\n\ndata: 3\n\n", End.PROPER)
        assert writers[0] is writers[1]
        assert steps.index("data") > steps.index("headers")
    head = next(record.size for record in records if record.step == "headers")
    assert head is not None
    assert told == head + len(body)


async def test_a_stream_closed_while_its_head_is_on_its_way_ends_behind_it(
    adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_its_way, closing = Flag(), Flag()

    async def until_told() -> None:
        on_its_way.set()
        await closing.wait()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    async def handler(event: H3Event) -> None:
        event.start_sse()

        async def early() -> None:
            await on_its_way.wait()
            async with event.get_sse_writer() as writer:
                await writer.send_event("1")
                closing.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(early)
            with pytest.raises(ConnectionLost):
                await event.await_sse_writer()

    let_heads_wait(monkeypatch, until_told)
    async with open_client(adapter, handled(handler)) as client:
        reply = await client.request("GET", STREAM)
        assert (reply.status, await reply.read(), reply.end) == (200, b"data: 1\n\n", End.PROPER)


# -- generator routes


def generated(generator: Callable[..., Any], **options: Any) -> H3App:
    app = H3App()
    app.sse(STREAM, **options)(generator)
    return app


async def test_a_generator_that_fails_before_its_first_item_is_a_real_500(adapter: str) -> None:
    async def generator(event: H3Event) -> Any:
        if event.path == STREAM:
            raise RuntimeError("no model")
        yield "1"

    async with open_client(adapter, generated(generator)) as client:
        assert (await client.request("GET", STREAM)).status == 500


async def test_a_generator_may_answer_an_error_before_its_first_item(adapter: str) -> None:
    async def generator(event: H3Event) -> Any:
        if "room" not in event.query:
            event.send_error(404, "no such room")
            return
        yield "1"

    async with open_client(adapter, generated(generator)) as client:
        reply = await client.request("GET", STREAM)
        assert (reply.status, await reply.read()) == (404, b"no such room")
        assert await (await client.request("GET", f"{STREAM}?room=1")).read() == b"data: 1\n\n"


async def test_a_first_item_that_cant_be_sent_is_a_real_500(adapter: str) -> None:
    async def generator(event: H3Event) -> Any:
        yield 5

    async with open_client(adapter, generated(generator)) as client:
        assert (await client.request("GET", STREAM)).status == 500


async def test_what_a_generator_yielded_before_it_failed_is_all_delivered(adapter: str) -> None:
    async def generator(event: H3Event) -> Any:
        for number in range(5):
            yield str(number)
        raise RuntimeError("in mid-stream")

    async with open_client(adapter, generated(generator)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.read() == b"".join(b"data: %d\n\n" % number for number in range(5))
        assert reply.end is End.CUT


async def test_a_slow_first_item_opens_the_stream_after_commit_after(adapter: str) -> None:
    go_on = Flag()

    async def generator(event: H3Event) -> Any:
        await go_on.wait()
        yield "1"

    async with open_client(adapter, generated(generator, commit_after=0.01)) as client:
        reply = await client.request("GET", STREAM)
        assert reply.status == 200, "the head came before the first item"
        go_on.set()
        assert await reply.read() == b"data: 1\n\n"


async def test_a_plain_generator_streams_from_a_thread(adapter: str) -> None:
    threads: list[int] = []

    def generator(event: H3Event) -> Any:
        for number in range(3):
            threads.append(threading.get_ident())
            yield SSEEvent(str(number))

    async with open_client(adapter, generated(generator)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


async def test_a_generator_without_items_is_an_empty_stream(adapter: str) -> None:
    async def generator(event: H3Event) -> Any:
        nothing: tuple[str, ...] = ()
        for item in nothing:
            yield item

    async with open_client(adapter, generated(generator)) as client:
        reply = await client.request("GET", STREAM)
        assert (reply.status, await reply.read(), reply.end) == (200, b"", End.PROPER)


async def test_a_client_that_leaves_runs_the_generators_finally(adapter: str) -> None:
    cleaned = Flag()

    async def generator(event: H3Event) -> Any:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            cleaned.set()

    async with open_client(adapter, generated(generator)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.receive() == b"data: 1\n\n"
        reply.disconnect()
        await cleaned.wait()


async def test_a_client_that_leaves_a_generator_in_its_task_group_harms_nobody(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    cleaned = Flag()

    async def generator(event: H3Event) -> Any:
        try:
            async with anyio.create_task_group():
                while True:
                    yield "x" * 65536
        finally:
            cleaned.set()

    app = generated(generator)
    app.get("/hello", lambda event: event.send_text("hello"))
    async with open_client(adapter, app) as client:
        reply = await client.request("GET", STREAM)
        await reply.receive()
        reply.disconnect()
        await cleaned.wait()
        assert await (await client.request("GET", "/hello")).read() == b"hello"
    assert not [record for record in caplog.records if record.name.startswith("h3ref")]


async def test_a_generator_may_hold_a_task_group_over_its_yields(adapter: str) -> None:
    async def generator(event: H3Event) -> Any:
        async with anyio.create_task_group():
            yield "1"
            await anyio.lowlevel.checkpoint()
            yield "2"

    async with open_client(adapter, generated(generator)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"data: 1\n\ndata: 2\n\n"


class NotYou(H3Error):
    status = 403


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("cause", ["full", "refused"])
async def test_a_stream_that_cant_be_opened_in_time_is_answered_at_once(
    adapter: str, kind: str, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    closed, go_on = Flag(), threading.Event()
    begun: list[int] = []
    left: list[int] = []
    app = streaming(silent_after_one)

    @app.on_response
    async def refuse(event: H3Event) -> None:
        if event.path == "/slow" and cause == "refused":
            raise NotYou("not you")

    async def generator(event: H3Event) -> Any:
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            closed.set()

    def plain(event: H3Event) -> Any:
        begun.append(threading.get_ident())
        try:
            assert go_on.wait(30)
            yield "never"
        finally:
            left.append(threading.get_ident())

    app.sse("/slow", commit_after=0.01)(generator if kind == "async" else plain)
    limits = Limits(streams=1 if cause == "full" else 3)
    async with open_client(adapter, app, limits=limits) as client:
        first = await client.request("GET", STREAM)
        assert await first.receive() == b"data: 1\n\n"
        for _ in range(3):  # as often as there are slots: none is lost
            with anyio.fail_after(30):
                reply = await client.request("GET", "/slow")
            assert reply.status == (503 if cause == "full" else 403)
            assert reply.headers.get("retry-after") == ("1" if cause == "full" else None)
        if kind == "async":
            await closed.wait()
        first.disconnect()
        service = server_of(client).service
        with anyio.fail_after(30):
            while service.live:
                await anyio.lowlevel.checkpoint()
        assert len(service.streams) == 0
        go_on.set()
        # Each of them asks the loop, which has to be there. On a busy machine one may be refused before it begins.
        await until(lambda: len(left) == len(begun))
    told = [record for record in caplog.records if record.name == "h3ref.exchange" and record.exc_info]
    assert len(told) == (3 if cause == "refused" else 0)


async def silent_after_one(writer: SSEWriter) -> None:
    await writer.send_event("1")
    await anyio.sleep_forever()


# -- a full buffer


async def test_a_full_buffer_makes_send_event_wait_and_send_nowait_refuse(adapter: str) -> None:
    refused = Flag()
    errors: list[BackpressureDetected] = []
    block = "x" * 65536

    async def callback(writer: SSEWriter) -> None:
        try:
            while True:
                writer.send_nowait(block)
        except BackpressureDetected as error:
            errors.append(error)
        refused.set()
        await writer.send_event("the last")  # waits until the reader has made room

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        await refused.wait()
        assert errors[0].buffered >= errors[0].limit == 65536
        body = await reply.read()
        assert body.endswith(b"data: the last\n\n")
        assert reply.end is End.PROPER


async def test_an_event_larger_than_the_mark_is_carried(adapter: str) -> None:
    size = 10 * 1024 * 1024

    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("x" * size)
        await writer.send_event("y")

    async with open_client(adapter, streaming(callback)) as client:
        body = await (await client.request("GET", STREAM)).read()
        assert len(body) == size + len(b"data: \n\ndata: y\n\n")


async def test_a_producer_that_never_waits_still_gives_way(adapter: str) -> None:
    async def callback(writer: SSEWriter) -> None:
        for _ in range(2_000):
            await writer.send_event("x" * 1_072)

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            assert len(await reply.read()) == 2_000 * 1_080
            tasks.cancel_scope.cancel()
        assert turns >= 2_000 * 1_080 // 65536 - 2


async def test_a_disconnect_reaches_a_producer_that_waits_for_room(adapter: str) -> None:
    ended = Flag()

    async def callback(writer: SSEWriter) -> None:
        try:
            while True:
                await writer.send_event("x" * 65536)
        finally:
            ended.set()

    async with open_client(adapter, streaming(callback)) as client:
        reply = await client.request("GET", STREAM)
        assert await reply.receive()
        reply.disconnect()
        await ended.wait()


# -- shutdown


async def test_the_end_of_the_server_ends_streams_properly(adapter: str) -> None:
    async def callback(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await anyio.sleep_forever()

    records: list[Record] = []
    body: list[bytes] = []
    async with open_client(adapter, streaming(callback), trace=records.append) as client:
        reply = await client.request("GET", STREAM)
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                body.append(await reply.read())

            tasks.start_soon(read)
            await until(lambda: body or any(record.step == "event" for record in records))
            for exchange in list(server_of(client).service.live):
                exchange.shut_down()
    assert body == [b"data: 1\n\n"]
    assert reply.end is End.PROPER


async def test_a_shutdown_before_the_headers_is_a_503(adapter: str) -> None:
    started = Flag()

    async def handler(event: H3Event) -> None:
        event.start_sse()
        started.set()
        await anyio.sleep_forever()

    async with open_client(adapter, handled(handler)) as client:
        async with anyio.create_task_group() as tasks:
            replies: list[Any] = []

            async def request() -> None:
                replies.append(await client.request("GET", STREAM))

            tasks.start_soon(request)
            await started.wait()
            for exchange in list(server_of(client).service.live):
                exchange.shut_down()
        assert replies[0].status == 503


def starting_app() -> H3App:
    """A stream that nothing but the server ends, started in each way there is."""
    app = H3App()

    async def silent(writer: SSEWriter) -> None:
        await anyio.sleep_forever()

    @app.get("/async-callback")
    async def async_callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(silent)

    @app.get("/plain-callback")
    def plain_callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(silent)

    @app.get("/waiting")
    async def waiting(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(silent)
        await anyio.sleep_forever()

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        event.start_sse()
        await silent(await event.await_sse_writer())

    @app.get("/awaited-on-thread")
    async def awaited_on_thread(event: H3Event) -> None:
        await anyio.to_thread.run_sync(event.start_sse)
        await silent(await event.await_sse_writer())

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        event.start_sse_blocking().send_event("never")

    @app.sse("/generated", commit_after=0.05)
    async def generated(event: H3Event) -> Any:
        await anyio.sleep_forever()
        yield "never"

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    return app


@pytest.mark.parametrize(
    "way", ["async-callback", "plain-callback", "waiting", "awaited", "awaited-on-thread", "blocking", "generated"]
)
async def test_a_stream_that_starts_during_the_shutdown_is_a_503(
    adapter: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    async with open_client(adapter, starting_app(), trace=recorder) as client:
        await (await client.request("GET", "/hello")).read()  # now the server is up, its lifespan too
        service = server_of(client).service
        await service.shut_down(within=0)
        with anyio.fail_after(10):
            reply = await client.request("GET", f"/{way}")
        assert reply.status == 503
        assert b"the server is shutting down; try again" in await reply.read()
        assert reply.headers["retry-after"] == "1"
        assert service.stats().streams_opened == 0
    assert recorder.recording[-1].reason == "shutdown"
    assert check(recorder.recording, whole=True) is None
    ours = [record for record in caplog.records if record.name.startswith("h3ref")]
    assert not [record for record in ours if record.levelno >= logging.WARNING], "it is no fault of the handler's"


# -- channels


async def test_a_channel_sends_to_all_and_ends_them(adapter: str) -> None:
    channel = Channel()
    async with open_client(adapter, streaming(channel.stream)) as client:
        replies = [await client.request("GET", STREAM) for _ in range(3)]
        with anyio.fail_after(10):
            while len(channel) < 3:
                await anyio.lowlevel.checkpoint()
        await channel.publish(SSEEvent("1", id="1"))
        await channel.publish("2")
        await channel.close()
        for reply in replies:
            assert await reply.read() == b"id: 1\ndata: 1\n\ndata: 2\n\n"
            assert reply.end is End.PROPER
    assert len(channel) == 0


async def test_a_slow_reader_makes_publish_wait_where_the_channel_says_so(adapter: str) -> None:
    channel = Channel(policy="wait")
    async with open_client(adapter, streaming(channel.stream)) as client:
        reply = await client.request("GET", STREAM)
        await until(lambda: len(channel) >= 1)
        with anyio.move_on_after(0.1) as stuck:
            for _ in range(1000):  # far more than the system's own buffers take
                await channel.publish("x" * 65536)
        assert stuck.cancelled_caught, "all were published without waiting"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reply.read)
            with anyio.fail_after(10):
                await channel.publish("goes on")
            await channel.close()


async def test_who_comes_to_a_closed_channel_is_told_to_stay_away(adapter: str) -> None:
    channel = Channel()
    await channel.close()
    async with open_client(adapter, streaming(channel.stream)) as client:
        reply = await client.request("GET", STREAM)
        assert (reply.status, await reply.read(), reply.end) == (204, b"", End.PROPER)


async def test_a_client_that_leaves_ends_a_channels_stream_in_a_task_of_the_applications_own(adapter: str) -> None:
    channel, app, returned = Channel(), H3App(), anyio.Event()

    async def stream(writer: SSEWriter) -> None:
        await channel.stream(writer)
        returned.set()

    async with anyio.create_task_group() as tasks:

        @app.get(STREAM)
        async def handler(event: H3Event) -> None:
            event.start_sse()
            tasks.start_soon(stream, await event.await_sse_writer())
            await anyio.sleep_forever()

        async with open_client(adapter, app) as client:
            reply = await client.request("GET", STREAM)
            with anyio.fail_after(10):
                while not len(channel):
                    await anyio.lowlevel.checkpoint()
                reply.disconnect()
                await returned.wait()
            assert len(channel) == 0


async def test_time_in_a_thread_is_its_own(adapter: str) -> None:
    def callback(writer: BlockingSSEWriter) -> None:
        for number in range(3):
            writer.send_event(str(number))
            time.sleep(0.001)

    async with open_client(adapter, streaming(callback)) as client:
        assert await (await client.request("GET", STREAM)).read() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
