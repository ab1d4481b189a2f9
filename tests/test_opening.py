"""A stream is opened once: what its opening came to is kept, told to all who ask, and to the client."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from h3ref import (
    Channel,
    ConnectionLost,
    ConnectionNotReady,
    H3App,
    H3Error,
    H3Event,
    Limits,
    SSEEvent,
    SSEWriter,
    TooManyStreams,
    WriterClosed,
)
from h3ref._core.exchange import Exchange
from h3ref.adapters.memory import MemoryServer, Reply, open_memory
from h3ref.connection import Connection, End
from h3ref.errors import LifecycleError
from h3ref.flows import awaited
from h3ref.lab.check import check
from h3ref.lab.recorder import Recorder
from h3ref.testing import virtual_backends
from tests.flow_runs import heads
from tests.waits import until, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


class Refused(H3Error):
    """A hook's own answer."""

    status = 403


def app_of(handler: Callable[..., Any]) -> H3App:
    """An app with a handler at /stream, and a stream at /other that stays until it is told to go."""
    app = H3App()
    app.get("/stream", handler)

    @app.get("/other")
    async def other(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stay)

    return app


async def stay(writer: SSEWriter) -> None:
    await writer.send_event("here")
    await anyio.sleep_forever()


def refusing(app: H3App, after: float = 0.0) -> H3App:
    """The same app with a hook that refuses every stream, but for /other."""

    @app.on_response
    async def refuse(event: H3Event) -> None:
        if event.path == "/stream":
            await anyio.sleep(after)
            raise Refused("not you")

    return app


async def open_streams(server: MemoryServer, count: int) -> None:
    """Take so many of the server's streams, and let them go again: no slot is missing."""
    replies = [await server.request("GET", "/other") for _ in range(count)]
    assert [reply.status for reply in replies] == [200] * count
    for reply in replies:
        assert await reply.receive() == b"data: here\n\n"
        reply.disconnect()
    await until_idle(server)


async def until_idle(server: MemoryServer) -> None:
    with anyio.fail_after(10):
        while server.service.live:
            await anyio.lowlevel.checkpoint()
    assert len(server.service.streams) == 0


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        type(record.exc_info[1]).__name__
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.exc_info
    ]


# -- a failure is kept


async def test_a_handler_that_swallows_the_failure_gets_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        with suppress(Refused):
            await event.await_sse_writer()

    told: list[Exception] = []
    app = refusing(app_of(handler))
    app.on_error(lambda event, error: told.append(error))
    async with open_memory(app, limits=Limits(streams=3)) as server:
        for _ in range(2):
            reply = await server.request("GET", "/stream")
            assert (reply.status, await reply.read()) == (403, b"Forbidden: not you")
        await open_streams(server, 3)
    assert [type(error) for error in told] == [Refused, Refused]
    assert errors_in(caplog) == ["Refused", "Refused"]


async def test_who_asks_again_gets_the_same_failure_and_no_second_connection() -> None:
    seen: list[Exception] = []

    async def handler(event: H3Event) -> None:
        event.start_sse()
        for _ in range(3):
            try:
                await event.await_sse_writer()
            except Refused as error:
                seen.append(error)
        with pytest.raises(ConnectionLost):
            event.get_sse_writer()
        with pytest.raises(ConnectionLost):
            event.set_stream_callback(stay)
        raise seen[-1]

    async with open_memory(refusing(app_of(handler)), limits=Limits(streams=3)) as server:
        assert (await server.request("GET", "/stream")).status == 403
        assert server.service.streams.opened == 1
        await open_streams(server, 3)
    assert len(seen) == 3
    assert seen[0] is seen[1] is seen[2]


async def test_the_first_failure_is_the_answer_and_the_next_one_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        try:
            await event.await_sse_writer()
        except Refused:
            raise KeyError("a mistake in what was to help") from None

    async with open_memory(refusing(app_of(handler))) as server:
        assert (await server.request("GET", "/stream")).status == 403
    assert errors_in(caplog) == ["Refused", "KeyError"]


async def test_a_full_server_is_told_though_the_handler_swallows_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def handler(event: H3Event) -> None:
        event.start_sse()
        with suppress(TooManyStreams):
            await event.await_sse_writer()

    async with open_memory(app_of(handler), limits=Limits(streams=1)) as server:
        other = await server.request("GET", "/other")
        reply = await server.request("GET", "/stream")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        other.disconnect()
        await until_idle(server)
        await open_streams(server, 1)
    assert "all 1 streams that this server allows are open" in caplog.text
    assert "nobody will write" not in caplog.text


async def test_all_tasks_that_wait_for_the_writer_are_told_why_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Exception] = []

    async def handler(event: H3Event) -> None:
        event.start_sse()

        async def wait() -> None:
            try:
                await event.await_sse_writer()
            except Refused as error:
                seen.append(error)
                raise

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)

    async with open_memory(refusing(app_of(handler), after=0.01)) as server:
        assert (await server.request("GET", "/stream")).status == 403
        assert server.service.streams.opened == 1
    assert len(seen) == 2
    assert errors_in(caplog) == ["Refused"], "the task group's error says nothing new"


# -- a cancellation half-way


async def cancel_when_all_wait(scope: anyio.CancelScope) -> None:
    """Cancel it when the hook is at work, and all others wait for it."""
    await wait_all_tasks_blocked()
    scope.cancel()


@pytest.mark.parametrize("then", ["returns", "asks again", "sets a callback"])
async def test_an_opening_that_was_cut_short_is_not_taken_again(then: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_all_wait, tasks.cancel_scope)
            await event.await_sse_writer()
        if then == "asks again":
            await event.await_sse_writer()
        elif then == "sets a callback":
            event.set_stream_callback(stay)

    async with open_memory(refusing(app_of(handler), after=60), limits=Limits(streams=3)) as server:
        for _ in range(2):
            reply = await server.request("GET", "/stream")
            assert reply.status == 500
            assert b"opening was cancelled half-way" in await reply.read()
        assert server.service.streams.opened == 2
        await open_streams(server, 3)
    assert errors_in(caplog) == ["H3Error", "H3Error"]


@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio-virtual", "trio-virtual"])
@pytest.mark.parametrize("when", ["asks after it", "has it already"])
async def test_who_has_the_writer_of_a_head_that_was_given_up_is_told_so(when: str, anyio_backend: Any) -> None:
    """The head was let out, and never left: no event may be taken for a client that gets nothing."""
    told: list[type[Exception]] = []

    async def send(event: H3Event) -> None:
        try:
            writer = event.get_sse_writer()
            await anyio.sleep(2)
            await writer.send_event("1")
        except LifecycleError as error:
            told.append(type(error))
        await anyio.sleep(100)

    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(2):
                if when == "has it already":
                    tasks.start_soon(after, 1, send, event)
                await event.await_sse_writer()
            if when == "asks after it":
                await send(event)

    recorder = Recorder()
    with heads(take=10):
        async with open_memory(app_of(handler), trace=recorder) as server:
            reply = await server.request("GET", "/stream")
            assert (reply.status, reply.end) == (0, End.CUT)
    assert told == [ConnectionLost if when == "asks after it" else WriterClosed]
    assert "send_event" not in [record.step for record in recorder.recording if record.error is None]
    assert check(recorder.recording, whole=True) is None


async def after(seconds: float, function: Callable[[H3Event], Awaitable[None]], event: H3Event) -> None:
    await anyio.sleep(seconds)
    await function(event)


async def test_one_who_still_waits_is_told_that_another_task_was_cancelled() -> None:
    seen: list[str] = []

    async def handler(event: H3Event) -> None:
        event.start_sse()

        async def impatient() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel_when_all_wait, tasks.cancel_scope)
                await event.await_sse_writer()

        async def patient() -> None:
            try:
                await event.await_sse_writer()
            except H3Error as error:
                seen.append(str(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(impatient)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(patient)

    async with open_memory(refusing(app_of(handler), after=60)) as server:
        assert (await server.request("GET", "/stream")).status == 500
    assert "opening was cancelled half-way" in seen[0]


async def test_a_server_that_ends_during_the_opening_is_a_503(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        await event.await_sse_writer()

    replies: list[Any] = []

    async def request(server: MemoryServer) -> None:
        replies.append(await server.request("GET", "/stream"))

    async with anyio.create_task_group() as tasks, open_memory(refusing(app_of(handler), after=60)) as server:
        for how in ("shut_down", "cancel"):
            tasks.start_soon(request, server)
            await until(lambda: len(server.service.streams))
            (exchange,) = server.service.live
            getattr(exchange, how)()
            await until_idle(server)
    assert [(reply.status, reply.end) for reply in replies] == [(503, End.PROPER)] * 2
    assert not errors_in(caplog)


async def test_a_client_that_leaves_during_the_opening_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(event: H3Event) -> None:
        event.start_sse()
        await event.await_sse_writer()

    async with open_memory(refusing(app_of(handler), after=60), limits=Limits(streams=1)) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.request, "GET", "/stream")
            await until(lambda: len(server.service.streams))
            tasks.cancel_scope.cancel()
        await until_idle(server)
        await open_streams(server, 1)
    assert not errors_in(caplog)


# -- hooks of the opening


async def test_a_hook_of_the_opening_cant_wait_for_it() -> None:
    seen: list[type[Exception]] = []
    app = H3App()

    @app.on_response
    async def hook(event: H3Event) -> None:
        try:
            await event.await_sse_writer()
        except ConnectionNotReady as error:
            seen.append(type(error))

    @app.get("/stream")
    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")

    @app.get("/thread")
    def on_thread(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")

    async with open_memory(app) as server:
        for path in ("/stream", "/thread"):
            with anyio.fail_after(10):
                assert await (await server.request("GET", path)).read() == b"data: 1\n\n"
    assert seen == [ConnectionNotReady, ConnectionNotReady]


async def test_a_hook_that_answers_in_the_opening_is_told_that_it_is_too_late(caplog: pytest.LogCaptureFixture) -> None:
    app = H3App()

    @app.on_response
    async def hook(event: H3Event) -> None:
        if event.state == "sse_started":
            event.send_error(403)

    @app.sse("/stream", commit_after=0)
    async def generated(event: H3Event) -> Any:
        await anyio.sleep_forever()
        yield "1"

    async with open_memory(app) as server:
        assert (await server.request("GET", "/stream")).status == 500
    assert errors_in(caplog) == ["SSEAlreadyStarted"]


# -- while the head is on its way


async def test_a_channel_follows_the_head_of_who_is_early() -> None:
    channel = Channel(history=2, newcomers="history")
    app = H3App()

    @app.get("/stream")
    async def handler(event: H3Event) -> None:
        async def early() -> None:
            await until(lambda: event.state == "headers_sent")
            await channel.stream(event.get_sse_writer())

        event.start_sse()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(early)
            await event.await_sse_writer()

    await channel.publish(SSEEvent("before", id="1"))
    with heads(take=0.05):
        async with open_memory(app) as server, anyio.create_task_group() as tasks:
            replies: list[Reply] = []

            async def request() -> None:
                replies.append(await server.request("GET", "/stream"))

            tasks.start_soon(request)
            await until(lambda: server.service.live)
            await channel.publish(SSEEvent("meanwhile", id="2"))
            await until(lambda: replies and len(channel))
            await channel.publish(SSEEvent("after", id="3"))
            await channel.close()
    assert await replies[0].read() == b"id: 1\ndata: before\n\nid: 2\ndata: meanwhile\n\nid: 3\ndata: after\n\n"


# -- threads


async def test_a_thread_that_swallows_the_failure_gets_its_answer() -> None:
    def handler(event: H3Event) -> None:
        for _ in range(2):
            with suppress(H3Error):
                event.start_sse_blocking()

    async with open_memory(refusing(app_of(handler)), limits=Limits(streams=3)) as server:
        for _ in range(2):
            assert (await server.request("GET", "/stream")).status == 403
        assert server.service.streams.opened == 2
        await open_streams(server, 3)


@pytest.mark.parametrize(("instead", "status"), [("returns", 503), ("answers", 200), ("streams", 200), ("raises", 500)])
async def test_where_no_thread_is_left_the_handler_may_answer_otherwise(instead: str, status: int) -> None:
    async def one(writer: SSEWriter) -> None:
        await writer.send_event("without a thread")

    def handler(event: H3Event) -> None:
        with suppress(TooManyStreams):
            event.start_sse_blocking()
        if instead == "answers":
            event.send_text("no stream for now")
        elif instead == "streams":
            event.start_sse()
            event.set_stream_callback(one)
        elif instead == "raises":
            raise KeyError

    release = threading.Event()

    def hold(event: H3Event) -> None:
        with event.start_sse_blocking():
            assert release.wait(30)

    app = app_of(handler)
    app.get("/hold", hold)
    async with open_memory(app, limits=Limits(stream_threads=1)) as server:
        held = await server.request("GET", "/hold")
        reply = await server.request("GET", "/stream")
        release.set()
        assert reply.status == status
        if instead == "streams":
            assert await reply.read() == b"data: without a thread\n\n"
        await held.read()


@pytest.mark.parametrize("whose", ["the server's", "the handler's own"])
async def test_a_thread_that_asks_when_all_is_over_is_counted_nowhere(whose: str) -> None:
    begun, left, over = threading.Event(), threading.Event(), threading.Event()
    seen: list[type[Exception]] = []

    def on_the_thread(event: H3Event) -> None:
        begun.set()
        assert left.wait(30)
        try:
            event.start_sse_blocking()
        except H3Error as error:
            seen.append(type(error))
        over.set()

    async def on_its_own(event: H3Event) -> None:
        await anyio.to_thread.run_sync(on_the_thread, event, abandon_on_cancel=True)

    handler: Callable[..., Any] = on_the_thread if whose == "the server's" else on_its_own

    def on_thread(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")

    app = app_of(handler)
    app.get("/thread", on_thread)
    async with open_memory(app, limits=Limits(stream_threads=1)) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.request, "GET", "/stream")
            assert await anyio.to_thread.run_sync(begun.wait, 30)
            for exchange in list(server.service.live):
                exchange.shut_down()
                exchange.abandon()
            await until_idle(server)
        left.set()
        assert await anyio.to_thread.run_sync(over.wait, 30)
        assert [error.__name__ for error in seen] == ["ResponseAlreadySent"]
        reply = await server.request("GET", "/thread")
        assert (reply.status, await reply.read()) == (200, b"data: 1\n\n")
        await until_idle(server)
        assert not server.service.threads.streams
        assert not server.service.threads.abandoned


# -- generator routes


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_generator_whose_commit_fails_is_closed_and_its_cleanup_told(
    swallows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []
    app = H3App()

    @app.sse("/stream", commit_after=0.01)
    async def generated(event: H3Event) -> Any:
        try:
            await anyio.sleep_forever()
            yield "1"
        finally:
            closed.append(event.state)
            if not swallows:
                raise KeyError("in the cleanup")

    async with open_memory(refusing(app)) as server:
        assert (await server.request("GET", "/stream")).status == 403
    assert closed == ["closed"]
    assert errors_in(caplog) == (["Refused"] if swallows else ["Refused", "KeyError"])


async def test_a_first_item_that_meets_the_timers_opening_is_told_with_it(caplog: pytest.LogCaptureFixture) -> None:
    app = H3App()

    @app.sse("/stream", commit_after=0)
    async def generated(event: H3Event) -> Any:
        await until(lambda: len(server.service.streams))
        yield "1"  # while the hook is at work

    async with open_memory(refusing(app, after=0.01), limits=Limits(streams=1)) as server:
        for _ in range(2):
            assert (await server.request("GET", "/stream")).status == 403
        assert server.service.streams.opened == 2
    assert errors_in(caplog) == ["Refused"] * 2


async def test_a_generator_that_fails_while_the_timer_opens_is_what_is_told(caplog: pytest.LogCaptureFixture) -> None:
    app = H3App()

    @app.sse("/stream", commit_after=0)
    async def generated(event: H3Event) -> Any:
        await until(lambda: len(server.service.streams))
        if event.path:
            raise KeyError("while the hook is at work")
        yield "1"

    async with open_memory(refusing(app, after=60)) as server:
        assert (await server.request("GET", "/stream")).status == 500
    assert errors_in(caplog) == ["KeyError"]


async def test_a_status_that_no_stream_can_have_is_told_when_the_time_is_up(caplog: pytest.LogCaptureFixture) -> None:
    app = H3App()

    @app.sse("/stream", commit_after=0)
    async def generated(event: H3Event) -> Any:
        event.set_status(404)
        await anyio.sleep_forever()
        yield "1"

    async with open_memory(app) as server:
        assert (await server.request("GET", "/stream")).status == 500
    assert errors_in(caplog) == ["ValueError"]


async def test_a_plain_generator_whose_commit_fails_is_told_at_its_next_item(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    app = app_of(lambda event: event.send_text("unused"))

    @app.on_response
    async def wait_for_the_thread(event: H3Event) -> None:
        if event.path == "/stream":  # a thread that is given up before it has begun closes nothing
            await anyio.to_thread.run_sync(begun.wait, 30)

    @app.sse("/stream", method="POST", commit_after=0.01)
    def generated(event: H3Event) -> Any:
        try:
            begun.set()
            assert go_on.wait(30)
            yield "1"
            raise AssertionError("nobody takes a second item")
        finally:
            closed.set()

    async with open_memory(refusing(app), limits=Limits(streams=3)) as server:
        assert (await server.request("POST", "/stream")).status == 403
        await until_idle(server)
        assert not closed.is_set(), "the answer did not wait for the thread"
        go_on.set()
        assert await anyio.to_thread.run_sync(closed.wait, 30)
        await open_streams(server, 3)
    assert errors_in(caplog) == ["Refused"]


# -- flows of one's own


async def test_a_flow_may_wrap_the_connection_that_it_sends_by() -> None:
    class Loud:
        """A connection that says all in capitals."""

        def __init__(self, connection: Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def write_chunk(self, data: bytes) -> None:
            self._connection.write_chunk(data.upper())

    async def loudly(exchange: Exchange) -> None:
        await exchange.run_handler()
        exchange.check_sse_started()
        callback = exchange.take_callback()
        connection: Any = Loud(exchange.create_connection())
        await exchange.send_headers(connection)
        await exchange.run_callback(callback, exchange.connection_ready(connection))
        await exchange.close()

    def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stay)

    limits = Limits(stream_keep_alive=0.01)
    async with open_memory(app_of(handler), flow=loudly, limits=limits) as server:
        reply = await server.request("GET", "/stream")
        with anyio.fail_after(20):
            while b"DATA: HERE\n\n" not in await reply.receive():
                pass
            while b": KEEP-ALIVE\n\n" not in await reply.receive():
                pass  # the stream is looked after as any other
        reply.disconnect()


async def test_a_flow_that_creates_a_second_connection_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def twice(exchange: Exchange) -> None:
        await exchange.run_handler()
        exchange.check_sse_started()
        exchange.create_connection()
        await awaited(exchange)

    def handler(event: H3Event) -> None:
        event.start_sse()

    async with open_memory(app_of(handler), flow=twice, limits=Limits(streams=2)) as server:
        reply = await server.request("GET", "/stream")
        assert reply.status == 500
        assert b"a flow creates it once" in await reply.read()
        assert len(server.service.streams) == 0
