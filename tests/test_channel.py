"""`Channel`: one sender, many streams; replay without gap or double."""

from __future__ import annotations

import logging
import socket
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from operator import itemgetter
from random import Random
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.abc import TaskGroup

from h3ref import (
    BackpressureDetected,
    BlockingSSEWriter,
    Channel,
    ChannelClosed,
    ChannelStats,
    EventSource,
    EventStreamParser,
    H3App,
    H3Error,
    H3Event,
    Limits,
    Reason,
    SSEEvent,
    SSEWriter,
    WriterClosed,
    running,
)
from h3ref.adapters.memory import MemoryServer, Reply, open_memory
from h3ref.connection import End
from h3ref.lab.check import check
from h3ref.lab.recorder import Recorder
from h3ref.trace import Record
from h3ref.writer import stream_of
from tests.clients import ReplyLike, open_client
from tests.waits import until, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


def app_of(channel: Channel) -> H3App:
    app = H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(channel.stream)

    return app


async def subscribe(server: MemoryServer, channel: Channel, last_event_id: str = "") -> Reply:
    """Open a stream, and return when the channel has it."""
    before = len(channel)
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    reply = await server.request("GET", "/events", headers=headers)
    with anyio.fail_after(10):
        while len(channel) == before:
            await anyio.lowlevel.checkpoint()
    return reply


def numbered(*numbers: int) -> bytes:
    return b"".join(b"id: %d\ndata: %d\n\n" % (number, number) for number in numbers)


async def publish(channel: Channel, *numbers: int) -> None:
    for number in numbers:
        await channel.publish(SSEEvent(str(number), id=str(number)))


async def test_a_newcomer_gets_what_is_published_from_now_on() -> None:
    channel = Channel(history=10)
    async with open_memory(app_of(channel)) as server:
        await publish(channel, 1)
        reply = await subscribe(server, channel)
        await publish(channel, 2)
        await channel.close()
        assert await reply.read() == numbered(2)


async def test_a_newcomer_gets_the_history_where_the_channel_says_so() -> None:
    channel = Channel(history=2, newcomers="history")
    async with open_memory(app_of(channel)) as server:
        await publish(channel, 1, 2, 3)
        reply = await subscribe(server, channel)
        await publish(channel, 4)
        await channel.close()
        assert await reply.read() == numbered(2, 3, 4)


async def test_who_reconnects_gets_what_was_missed_without_gap_or_double() -> None:
    channel = Channel(history=10)
    async with open_memory(app_of(channel)) as server:
        await publish(channel, 1, 2, 3, 4)
        reply = await subscribe(server, channel, "2")
        await publish(channel, 5)
        await channel.close()
        assert await reply.read() == numbered(3, 4, 5)


async def test_who_missed_nothing_gets_nothing_twice() -> None:
    channel = Channel(history=10)
    async with open_memory(app_of(channel)) as server:
        await publish(channel, 1, 2)
        reply = await subscribe(server, channel, "2")
        await channel.close()
        assert await reply.read() == b""


async def test_an_id_that_the_history_has_lost_gets_all_of_it() -> None:
    channel = Channel(history=2)
    async with open_memory(app_of(channel)) as server:
        await publish(channel, 1, 2, 3, 4)
        reply = await subscribe(server, channel, "1")
        await channel.close()
        assert await reply.read() == numbered(3, 4)


async def test_a_thread_publishes_by_the_channels_own_loop() -> None:
    channel = Channel(history=10)
    app = app_of(channel)

    @app.post("/events")
    def post(event: H3Event) -> None:
        anyio.from_thread.run(channel.publish, SSEEvent("1", id="1"))
        event.send_text("published")

    async with open_memory(app) as server:
        reply = await subscribe(server, channel)
        assert (await server.request("POST", "/events")).status == 200
        token = anyio.lowlevel.current_token()
        other = threading.Thread(
            target=lambda: anyio.from_thread.run(channel.publish, SSEEvent("2", id="2"), token=token)
        )
        other.start()
        assert await reply.receive() + await reply.receive() == numbered(1, 2)
        await anyio.to_thread.run_sync(other.join)
        await channel.close()


@pytest.mark.parametrize("use", ["publish", "stream", "close"])
async def test_another_loop_is_refused_while_there_are_subscribers(use: str) -> None:
    channel = Channel()
    arguments = [] if use == "close" else ["1"]
    in_another_loop: Callable[[], Any] = partial(anyio.run, getattr(channel, use), *arguments)
    async with open_memory(app_of(channel)) as server:
        reply = await subscribe(server, channel)
        with pytest.raises(RuntimeError, match=r"belongs to the event loop of another thread.*from_thread\.run"):
            await anyio.to_thread.run_sync(in_another_loop)
        assert channel.stats().published == 0
        assert len(channel) == 1
        reply.disconnect()
        await until(lambda: not len(channel))
        if use == "publish":
            await anyio.to_thread.run_sync(in_another_loop)
            assert channel.stats().published == 1


async def test_a_subscriber_that_left_is_forgotten() -> None:
    channel = Channel()
    async with open_memory(app_of(channel)) as server:
        reply = await subscribe(server, channel)
        reply.disconnect()
        with anyio.fail_after(10):
            while len(channel):
                await anyio.lowlevel.checkpoint()
        await channel.publish("nobody listens")
        assert channel.stats().delivered == 0


async def test_a_closed_channel_publishes_nothing() -> None:
    channel = Channel(history=1, name="news", newcomers="history")
    await publish(channel, 1)
    assert not channel.closed
    await channel.close()
    await channel.close()
    assert channel.closed
    with pytest.raises(ChannelClosed, match="<Channel news, closed>: nothing can be published") as refused:
        await channel.publish("too late")
    assert isinstance(refused.value, H3Error)
    assert isinstance(refused.value, ValueError), "as it was before there was a name for it"
    assert channel.stats().published == 1


async def test_what_cant_be_sent_reaches_nobody() -> None:
    channel = Channel(history=1, newcomers="history")
    async with open_memory(app_of(channel)) as server:
        with pytest.raises(TypeError):
            await channel.publish(5)  # type: ignore[arg-type]
        reply = await subscribe(server, channel)
        await channel.close()
        assert await reply.read() == b""


async def test_several_publishers_reach_all_in_the_same_order() -> None:
    channel = Channel()
    async with open_memory(app_of(channel)) as server:
        replies = [await subscribe(server, channel) for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            for start in range(0, 30, 10):
                tasks.start_soon(publish, channel, *range(start, start + 10))
        await channel.close()
        bodies = [await reply.read() for reply in replies]
    assert len(set(bodies)) == 1
    assert bodies[0].count(b"data: ") == 30


async def test_a_channel_ends_streams_though_a_subscribers_own_task_closes_it() -> None:
    channel = Channel()
    app = app_of(channel)

    @app.get("/leader")
    async def leader(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(lead)

    async def lead(writer: SSEWriter) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.stream, writer)
            with anyio.fail_after(10):
                while not len(channel):
                    await anyio.lowlevel.checkpoint()
            await channel.publish("1")
            await channel.close()

    async with open_memory(app) as server:
        reply = await server.request("GET", "/leader")
        with anyio.fail_after(10):
            assert await reply.read() == b"data: 1\n\n"


async def test_a_closing_channel_ends_a_callback_that_would_go_on_without_it() -> None:
    channel = Channel()
    app = H3App()

    @app.get("/never")
    async def never(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stay)

    async def stay(writer: SSEWriter) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.stream, writer)
            await anyio.sleep_forever()

    async with open_memory(app) as server:
        reply = await server.request("GET", "/never")
        await until(lambda: len(channel) == 1)
        await channel.publish("1")
        with anyio.fail_after(10):
            await channel.close()
            assert await reply.read() == b"data: 1\n\n"


async def test_a_close_that_is_cancelled_still_ends_such_a_callback() -> None:
    channel = Channel()
    app = H3App()
    told: list[str] = []

    @app.get("/never")
    async def never(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stay)

    async def stay(writer: SSEWriter) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.stream, writer)
                await anyio.sleep_forever()
        finally:
            told.append("the callback")

    async with open_memory(app) as server:
        reply = await server.request("GET", "/never")
        await until(lambda: len(channel) == 1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.close()
        with anyio.fail_after(10):
            assert await reply.read() == b""
    assert told == ["the callback"]


def has_room(writer: SSEWriter) -> bool:
    """Whether what is sent now need not wait for the reader."""
    stream = stream_of(writer)
    return stream.waiting < stream.high_water


async def test_a_streams_own_limit_holds_for_what_a_channel_sends() -> None:
    channel = Channel(policy="drop")
    async with open_memory(app_of(channel), limits=Limits(stream_buffer=4096)) as server:
        await subscribe(server, channel)
        (stream,) = (subscription.stream for subscription in channel._subscriptions)
        most = 0
        for number in range(500):
            await channel.publish(SSEEvent("x" * 100, id=str(number)))
            most = max(most, stream.connection.buffered)
        assert 4096 <= most < 2 * 4096
        await channel.close()


async def test_a_gap_is_no_gap_where_only_the_last_event_seen_was_forgotten() -> None:
    channel = Channel(history=3, gap="gap")
    async with open_memory(app_of(channel)) as server:
        await publish(channel, *range(65))  # after which just the history is kept
        replies = [await subscribe(server, channel, str(number)) for number in (61, 60)]
        await channel.close()
        bodies = [await reply.read() for reply in replies]
    assert bodies[0] == numbered(62, 63, 64)
    assert bodies[1] == b"event: gap\ndata: 60\n\n" + numbered(62, 63, 64)
    assert channel.stats().gaps == 1


async def test_the_history_is_forgotten_a_part_at_a_time() -> None:
    channel, kept = Channel(history=800), list[int]()
    for number in range(3000):
        await publish(channel, number)
        kept.append(len(channel._log))
    assert max(kept) == 800 + 100 + 64  # an eighth more than is promised, and a few
    assert min(kept[800:]) == 800


async def test_what_stalled_readers_have_still_to_get_is_kept_once_for_all_of_them() -> None:
    channel = Channel(policy="drop")
    readers = 20
    with ExitStack() as sockets:
        async with running(app_of(channel), port=0, grace=1) as server:
            for _ in range(readers):
                sock = sockets.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(("127.0.0.1", server.port))
                sock.sendall(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
            with anyio.fail_after(10):
                while len(channel) < readers:
                    await anyio.lowlevel.checkpoint()
            for _ in range(4000):  # far more than the system's own buffers take
                await channel.publish("x" * 2000)
            assert channel.stats().largest_lag > 1_000_000
            tracemalloc.start()
            await anyio.lowlevel.checkpoint()
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
        grown = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    assert grown < readers * 1_000_000 / 4


async def test_a_publish_that_gave_up_waiting_published_nothing() -> None:
    channel = Channel(history=100, newcomers="history", policy="wait")
    async with open_memory(app_of(channel)) as server:
        reply = await subscribe(server, channel)
        await channel.publish("x" * 65536)
        for _ in range(3):
            with anyio.move_on_after(0.01) as gave_up:
                await channel.publish("too many")
            assert gave_up.cancelled_caught
        assert len(await reply.receive()) == 65536 + len("data: \n\n")
        await channel.publish("at last")
        await channel.close()
        assert await reply.read() == b"data: at last\n\n"


async def test_a_publish_that_waits_while_the_channel_is_closed_says_so() -> None:
    channel = Channel(history=10, policy="wait")
    async with open_memory(app_of(channel)) as server:
        reply = await subscribe(server, channel)
        await channel.publish("x" * 65536)

        async def publish_late() -> None:
            with pytest.raises(ValueError, match="closed>: nothing can be published"):
                await channel.publish("too late")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish_late)
            await wait_all_tasks_blocked()
            tasks.start_soon(channel.close)
            await reply.read()


@pytest.mark.parametrize(
    "wrong", [{"history": -1}, {"newcomers": "all"}, {"policy": "hope"}, {"limit": 0}, {"gap": "a\nb"}]
)
async def test_what_a_channel_cant_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"history is|newcomers is|policy is|limit is|event must be one line"):
        Channel(**wrong)


# -- a channel that is closed for good


def callbacks_of(channel: Channel) -> dict[str, Callable[[SSEWriter], Any]]:
    return {"stream": channel.stream, "stream_from": channel.stream_from("1"), "partial": partial(channel.stream)}


@pytest.mark.parametrize("name", callbacks_of(Channel()))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_comes_to_a_closed_channel_gets_a_204(
    adapter: str, name: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    channel, app, records = Channel(history=10, newcomers="history"), H3App(), list[Record]()

    async def events(event: H3Event) -> None:
        event.set_header("X-Name", "kept")
        event.set_header("Content-Type", "text/event-stream; charset=utf-8")
        event.start_sse()
        event.set_stream_callback(callbacks_of(channel)[name])

    app.on(method, "/events", events)
    await publish(channel, 1, 2)
    await channel.close()
    async with open_client(adapter, app, trace=records.append) as client:
        with anyio.fail_after(10):
            reply = await client.request(method, "/events", headers={"Last-Event-ID": "1"})
            assert (reply.status, await reply.read()) == (204, b"")
            assert reply.end is End.PROPER
        assert reply.headers["x-name"] == "kept"
        assert not reply.headers.keys() & {"content-type", "content-length", "retry-after"}
        with anyio.fail_after(10):
            await until(lambda: any(record.step == "response" for record in records))
    assert [record.reason for record in records if record.step == "response"] == ["complete"]
    assert check(records, whole=True) is None
    assert not [
        record for record in caplog.records if record.levelno >= logging.INFO and record.name == "h3ref.exchange"
    ]


async def test_a_plain_def_that_sets_a_closed_channel_as_its_callback_is_answered_likewise() -> None:
    channel, app = Channel(), H3App()

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(channel.stream)

    await channel.close()
    async with open_memory(app) as server:
        assert (await server.request("GET", "/events")).status == 204


@pytest.mark.parametrize("way", ["callback", "awaited", "scope", "blocking"])
async def test_a_closed_channel_in_a_stream_of_ones_own_cuts_it(
    adapter: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    channel, app, raised = Channel(), H3App(), list[str]()

    async def stream(writer: SSEWriter) -> None:
        await writer.send_event("welcome")
        try:
            await channel.stream(writer)
        except ChannelClosed as error:
            raised.append(str(error))
            raise

    async def handler(event: H3Event) -> None:
        event.start_sse()
        if way == "callback":
            event.set_stream_callback(stream)
            return
        writer = await event.await_sse_writer()
        if way == "awaited":
            await stream(writer)
        async with writer:
            await stream(writer)

    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking():
            anyio.from_thread.run(stream, event.get_sse_writer())

    app.get("/events", blocking if way == "blocking" else handler)
    await channel.close()
    async with open_client(adapter, app) as client:
        with anyio.fail_after(10):
            reply = await client.request("GET", "/events")
            assert (reply.status, await reply.read()) == (200, b"data: welcome\n\n")
            assert reply.end is End.CUT
    assert raised == [
        "<Channel channel, closed>: nothing can be published or streamed any more; check channel.closed first"
    ]
    told = [record for record in caplog.records if record.name == "h3ref.exchange" and record.levelno >= logging.INFO]
    assert [(record.levelname, bool(record.exc_info)) for record in told] == [("WARNING", False)], "one line"


async def test_a_handler_asks_whether_a_channel_is_closed_and_answers_itself(adapter: str) -> None:
    channel, app = Channel(), H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        if channel.closed:
            event.send_error(410, "it is over")
            return
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await channel.stream(writer)

    async with open_client(adapter, app) as client:
        with anyio.fail_after(10):
            reply = await client.request("GET", "/events")
            await until(lambda: len(channel) == 1)
            await channel.close()
            assert (await reply.read(), reply.end) == (b"", End.PROPER)
            late = await client.request("GET", "/events")
            assert (late.status, await late.read()) == (410, b"it is over")


async def test_a_channel_that_is_closed_while_the_headers_wait_cuts_the_stream() -> None:
    channel, app = Channel(), app_of(Channel())

    @app.get("/late")
    async def late(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(channel.stream)

    @app.on_response
    async def close(event: H3Event) -> None:
        await channel.close()

    async with open_memory(app) as server:
        reply = await server.request("GET", "/late")
        assert (reply.status, await reply.read(), reply.end) == (200, b"", End.CUT)


async def test_a_client_reads_a_channel_to_its_end_and_does_not_come_back() -> None:
    channel = Channel(history=10, newcomers="history")
    await publish(channel, 1, 2)
    async with running(app_of(channel)) as server, anyio.create_task_group() as tasks:
        got: list[str] = []

        async def read() -> None:
            async with EventSource(f"{server.url}/events", reconnection_time=0.01) as source:
                got.extend([message.data async for message in source])

        tasks.start_soon(read)
        with anyio.fail_after(10):
            await until(lambda: len(channel) == 1)
            await publish(channel, 3)
            await channel.close()
            await until(lambda: server.stats().closed["complete"] == 2)
    assert got == ["1", "2", "3"]


async def test_only_a_true_is_over_of_a_callback_or_its_object_keeps_it_from_streaming() -> None:
    class Feed:
        is_over: object = None

        async def stream(self, writer: SSEWriter) -> None:
            await writer.send_event("1")

        async def __call__(self, writer: SSEWriter) -> None:
            await writer.send_event("1")

    feed, app = Feed(), H3App()

    @app.get("/:way")
    async def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(feed if event.params["way"] == "object" else feed.stream)

    async with open_memory(app) as server:
        for way in ("object", "method"):
            for value, status in ((1, 200), (None, 200), (False, 200), (True, 204)):
                feed.is_over = value
                reply = await server.request("GET", f"/{way}")
                assert reply.status == status, (way, value)


# -- an id from elsewhere than the header


def app_from_query(channel: Channel) -> H3App:
    app = H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        given = event.last_event_id or event.query.get("lastEventID", "")
        event.set_stream_callback(channel.stream_from(given))

    return app


@pytest.mark.parametrize(
    ("query", "header", "body"),
    [
        ("", "", numbered(5)),
        ("?lastEventID=2", "", numbered(3, 4, 5)),
        ("?lastEventID=2", "4", numbered(5)),
        ("", "3", numbered(4, 5)),
        ("?lastEventID=never%0Aseen", "", b"event: gap\ndata: never\ndata: seen\n\n" + numbered(1, 2, 3, 4, 5)),
    ],
)
async def test_a_page_that_loads_resumes_from_its_query_until_there_is_a_header(
    adapter: str, query: str, header: str, body: bytes
) -> None:
    channel = Channel(history=10, gap="gap")
    await publish(channel, 1, 2, 3, 4)
    async with open_client(adapter, app_from_query(channel)) as client:
        with anyio.fail_after(10):
            headers = {"Last-Event-ID": header} if header else {}
            reply = await client.request("GET", f"/events{query}", headers=headers)
            await until(lambda: len(channel) == 1)
            await publish(channel, 5)
            await channel.close()
            assert await reply.read() == body


async def test_an_id_given_takes_the_headers_place_also_in_a_callback_of_ones_own() -> None:
    channel, app = Channel(history=10), H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream)

    async def stream(writer: SSEWriter) -> None:
        await channel.stream_from(writer.event.query["from"])(writer)

    await publish(channel, 1, 2, 3)
    async with open_memory(app) as server:
        replies = [
            await server.request("GET", f"/events?from={given}", headers={"Last-Event-ID": "2"}) for given in ("1", "")
        ]
        await until(lambda: len(channel) == 2)
        await publish(channel, 4)
        await channel.close()
        assert [await reply.read() for reply in replies] == [numbered(2, 3, 4), numbered(4)]


@pytest.mark.parametrize(("wrong", "error"), [(3, TypeError), (None, TypeError), ("\ud800", ValueError)])
async def test_what_is_no_id_is_refused_where_it_is_given(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Channel().stream_from(wrong)


# -- the end of a stream


class Room:
    """An app whose streams are fed by tasks of its own, which nobody cancels."""

    def __init__(self, channel: Channel, tasks: TaskGroup) -> None:
        self.app = H3App()
        self.writers: list[SSEWriter] = []
        self.returned: list[SSEWriter] = []
        self._channel = channel
        self._tasks = tasks
        self.leave = anyio.Event()
        self.app.get("/events", self._events)

    async def _events(self, event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            self.writers.append(writer)
            self._tasks.start_soon(self._stream, writer)
            await self.leave.wait()
            if event.query.get("way") == "raises":
                raise RuntimeError("on purpose")

    async def _stream(self, writer: SSEWriter) -> None:
        await self._channel.stream(writer)
        self.returned.append(writer)


@pytest.mark.parametrize("replaying", [False, True])
async def test_a_client_that_leaves_ends_what_feeds_its_stream_whatever_task_that_is(
    adapter: str, replaying: bool
) -> None:
    channel = Channel(history=1000, newcomers="history", limit=1 << 30)
    for _ in range(200 if replaying else 0):
        await channel.publish(SSEEvent("x" * 99_992))  # far more than a kernel holds
    async with anyio.create_task_group() as tasks:
        room = Room(channel, tasks)
        async with open_client(adapter, room.app) as client:
            with anyio.fail_after(10):
                replies = [await client.request("GET", "/events") for _ in range(5)]
                await until(lambda: len(channel) == 5)
                for reply in replies:
                    reply.disconnect()
                await until(lambda: not any(writer.is_active for writer in room.writers))
                assert len(channel) == 0, "they are told at that moment, not later"
                counts = [writer.event_count for writer in room.writers]
                await publish(channel, *range(100))
                assert [writer.event_count for writer in room.writers] == counts
                await until(lambda: len(room.returned) == 5)


@pytest.mark.parametrize("way", ["leaves", "closes", "returns", "raises", "shutdown", "slow", "channel", "disconnect"])
async def test_at_every_end_a_channel_is_told_at_once_and_nothing_later_counts(way: str) -> None:
    channel = Channel(policy="disconnect" if way == "disconnect" else "drop", limit=10_000)
    async with anyio.create_task_group() as tasks:
        room = Room(channel, tasks)
        async with open_memory(room.app) as server:
            reply = await server.request("GET", f"/events?way={way}")
            await until(lambda: len(channel) == 1)
            await publish(channel, 1)
            (exchange,), (writer,) = server.service.live, room.writers
            match way:
                case "leaves":
                    reply.disconnect()
                case "closes":
                    stream_of(writer).stop(Reason.COMPLETE)
                case "shutdown":
                    exchange.shut_down()
                case "slow":
                    exchange.stop(Reason.SLOW_CONSUMER)
                case "channel":
                    tasks.start_soon(channel.close)
                case "disconnect":
                    await fill(channel, 0, 30)
                case _:
                    room.leave.set()
            if way not in ("leaves", "closes", "shutdown", "slow", "disconnect"):
                with anyio.fail_after(10):
                    await until(lambda: not writer.is_active)
            assert len(channel) == 0, "at that moment"
            count, size = writer.event_count, stream_of(writer).byte_count
            if way != "channel":
                await publish(channel, *range(100))
            assert (writer.event_count, stream_of(writer).byte_count) == (count, size)
            with anyio.fail_after(10):
                await until(lambda: room.returned == [writer])
                body = await reply.read() if way != "leaves" else numbered(1)
                await until(lambda: not server.service.live)
            assert body.count(b"data: ") == count == channel.stats().delivered == server.stats().events
            assert len(body) == size


async def test_what_a_thread_had_sent_when_its_client_left_is_counted_as_far_as_it_was_taken() -> None:
    app, sent = H3App(), threading.Event()
    go = threading.Event()

    def stream(writer: BlockingSSEWriter) -> None:
        writer.send_event("first")
        go.wait(30)
        for _ in range(50):
            writer.send_event("x")
        sent.set()

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream)

    async with open_memory(app) as server:
        reply = await server.request("GET", "/events")
        assert await reply.receive() == b"data: first\n\n"
        (exchange,) = server.service.live
        await wait_all_tasks_blocked()
        go.set()
        sent.wait(30)  # the loop stands meanwhile, so it has taken over nothing
        reply.disconnect()
        assert exchange.event_count == 1
        with anyio.fail_after(10):
            await until(lambda: not server.service.live)
        assert server.stats().events == 1


async def test_who_waits_for_room_is_told_of_the_end_at_once_though_nobody_reads() -> None:
    told: list[str] = []
    async with anyio.create_task_group() as tasks:
        app = H3App()

        @app.get("/events")
        async def events(event: H3Event) -> None:
            event.start_sse()
            writer = await event.await_sse_writer()
            for _ in range(3):
                tasks.start_soon(fill_up, writer)
            await anyio.sleep_forever()

        async def fill_up(writer: SSEWriter) -> None:
            try:
                while True:
                    await writer.send_event("x" * 30_000)
            except WriterClosed as error:
                told.append(str(error.reason))

        async with open_memory(app) as server:
            await server.request("GET", "/events")
            await wait_all_tasks_blocked()
            (exchange,) = server.service.live
            with anyio.fail_after(10):
                exchange.shut_down()
                await until(lambda: len(told) == 3)
    assert told == ["shutdown"] * 3


# -- one order for all that is sent


def app_giving(channels: Sequence[Channel], writers: list[SSEWriter]) -> H3App:
    """An app whose stream is fed by channels, and whose writer is given to the test."""
    app = H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer, anyio.create_task_group() as tasks:
            writers.append(writer)
            for channel in channels:
                tasks.start_soon(channel.stream, writer)

    return app


async def collect(reply: ReplyLike, body: bytearray) -> None:
    while chunk := await reply.receive():
        body += chunk


@pytest.mark.parametrize("backlog", [0, 60, 70, 300])
@pytest.mark.parametrize("together", [False, True], ids=["one after another", "sent while others wait"])
async def test_a_writers_own_events_keep_their_place_however_much_waits(backlog: int, together: bool) -> None:
    """Publish A, send B, publish C: ABC, whether the reader has kept up, its buffer is full, or it reads the log."""
    channel, writers, body = Channel(1000, newcomers="history", limit=1 << 30), list[SSEWriter](), bytearray()
    await fill(channel, 0, backlog)

    async def make_calls(writer: SSEWriter) -> None:
        async with anyio.create_task_group() as sends:
            for _ in range(3):
                await channel.publish("A")
                if together:
                    sends.start_soon(writer.send_event, "B")
                    await wait_all_tasks_blocked()
                else:
                    await writer.send_event("B")
                await channel.publish("C")

    async with open_memory(app_giving([channel], writers)) as server, anyio.create_task_group() as tasks:
        reply = await server.request("GET", "/events")
        await wait_all_tasks_blocked()
        async with anyio.create_task_group() as calls:
            calls.start_soon(make_calls, writers[0])
            await wait_all_tasks_blocked()
            tasks.start_soon(collect, reply, body)
        assert writers[0].event_count <= backlog + 9
        await channel.close()
    assert bytes(body) == encoded(0, backlog) + 3 * b"data: A\n\ndata: B\n\ndata: C\n\n"
    assert writers[0].event_count == backlog + 9
    assert channel.stats().delivered == backlog + 6


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_sent_arrives_in_the_order_of_the_calls(seed: int) -> None:
    """Own events of several tasks and those of two channels, by a reader that reads when it likes."""
    random, called, body = Random(seed), list[tuple[str, int]](), bytearray()
    channels = {"first": Channel(limit=1 << 30), "second": Channel(limit=1 << 30)}
    writers: list[SSEWriter] = []

    def event_of(by: str) -> SSEEvent:
        called.append((by, len(called)))
        return SSEEvent(random.choice(["", "x" * 5000, "x" * 30_000]), event=by, id=str(len(called) - 1))

    async with open_memory(app_giving([*channels.values()], writers)) as server:
        reply = await server.request("GET", "/events")
        await wait_all_tasks_blocked()
        async with anyio.create_task_group() as reading:
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    match random.choice(["first", "second", "own", "own", "now", "read", "wait", "given up"]):
                        case "first" | "second" as name:
                            await channels[name].publish(event_of(name))
                        case "own":
                            tasks.start_soon(writers[0].send_event, event_of("own"))
                            await wait_all_tasks_blocked()
                        case "now":
                            event, room = event_of("own"), has_room(writers[0])
                            with nullcontext() if room else pytest.raises(BackpressureDetected):
                                writers[0].send_nowait(event)
                            if not room:
                                called.pop()
                        case "read" if reply._chunks:
                            body += await reply.receive()
                        case "wait":
                            await wait_all_tasks_blocked()
                        case "given up" if not has_room(writers[0]):
                            with anyio.move_on_after(0):
                                await writers[0].send_event(event_of("own"))
                            called.pop()
                reading.start_soon(collect, reply, body)
            await channels["first"].close()  # which ends the stream
    got = [(message.type, int(message.last_event_id)) for message in EventStreamParser().feed(bytes(body))]
    assert sorted(got, key=itemgetter(1)) == called
    for name in ("first", "second"):  # what one channel brings has no order with what the other does
        mine = [number for by, number in got if by in (name, "own")]
        assert mine == sorted(mine)
    assert writers[0].event_count == len(called)
    assert stream_of(writers[0]).byte_count == len(body)


async def test_a_gap_is_told_in_its_place_among_what_the_stream_itself_sends() -> None:
    channel, app, body = Channel(history=2, gap="gap"), H3App(), bytearray()
    await publish(channel, 1, 2, 3)
    big = SSEEvent("x" * 70_000)

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer, anyio.create_task_group() as tasks:
            await writer.send_event(big)
            tasks.start_soon(writer.send_event, "B")
            await until(lambda: bool(stream_of(writer)._turns))
            tasks.start_soon(channel.stream, writer)

    async with open_memory(app) as server, anyio.create_task_group() as tasks:
        reply = await server.request("GET", "/events", headers={"Last-Event-ID": "0"})
        await until(lambda: len(channel) == 1)
        await wait_all_tasks_blocked()
        await publish(channel, 4)
        tasks.start_soon(collect, reply, body)
        await wait_all_tasks_blocked()
        await channel.close()
    assert bytes(body) == big.encode() + b"data: B\n\nevent: gap\ndata: 0\n\n" + numbered(2, 3, 4)


async def test_a_channel_that_is_let_go_while_others_wait_leaves_its_events_in_their_place() -> None:
    channel, app, body, scopes = Channel(), H3App(), bytearray(), list[anyio.CancelScope]()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer, anyio.create_task_group() as tasks:
            tasks.start_soon(listen, writer)
            await until(lambda: len(channel) == 1)
            await fill(channel, 0, 70)
            for waiting, (own, published) in enumerate((("B", "C"), ("D", "E"))):
                tasks.start_soon(writer.send_event, own)
                await until(lambda waiting=waiting: len(stream_of(writer)._turns) > waiting)  # type: ignore[misc]
                await channel.publish(published)
            scopes[0].cancel()

    async def listen(writer: SSEWriter) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await channel.stream(writer)

    async with open_memory(app) as server:
        reply = await server.request("GET", "/events")
        with anyio.fail_after(10):
            await until(lambda: len(channel) == 1)
            await until(lambda: len(channel) == 0)
            await collect(reply, body)
    assert bytes(body) == encoded(0, 70) + b"data: B\n\ndata: C\n\ndata: D\n\ndata: E\n\n"


@pytest.mark.parametrize("count", [50])
async def test_a_threads_own_events_keep_their_place(adapter: str, count: int) -> None:
    channel, app = Channel(limit=1 << 30), H3App()

    def stream(writer: BlockingSSEWriter) -> None:
        for _ in range(count):
            anyio.from_thread.run(channel.publish, "A")
            writer.send_event("B")
            writer.send_event("B")
            anyio.from_thread.run(channel.publish, "C")
        writer.close()

    async with anyio.create_task_group() as tasks:

        @app.get("/events")
        def events(event: H3Event) -> None:
            with event.start_sse_blocking() as writer:
                writer.send_event("first")  # it may send by itself from here on, until there is a channel, too
                writer.send_event("second")
                anyio.from_thread.run_sync(lambda: tasks.start_soon(channel.stream, event.get_sse_writer()))
                anyio.from_thread.run(until, lambda: len(channel))
                stream(writer)

        async with open_client(adapter, app) as client:
            with anyio.fail_after(20):
                reply = await client.request("GET", "/events")
                body = await reply.read()
    first = b"data: first\n\ndata: second\n\n"
    assert body == first + count * b"data: A\n\ndata: B\n\ndata: B\n\ndata: C\n\n"


# -- giving way

LARGE = 1 << 30
"""Bytes that may wait for a reader: more than are sent."""


async def most_between_turns(stop: Callable[[], bool], sent: Callable[[], int]) -> int:
    """The most bytes that are sent between two turns of a task that does nothing but give way."""
    most, before = 0, sent()
    while not stop():
        await anyio.lowlevel.checkpoint()
        most, before = max(most, sent() - before), sent()
    return most


@pytest.mark.parametrize("by", ["send_event", "send", "send_event beside a channel", "publish", "thread"])
async def test_who_sends_without_an_end_gives_way_every_64_kib_whatever_the_buffer(by: str, anyio_backend: str) -> None:
    channel, writers, app, size = Channel(limit=LARGE), list[SSEWriter](), H3App(), 1000
    event, over = SSEEvent("x" * (size - 8)), list[str]()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(on_thread if by == "thread" else stream)

    async def stream(writer: SSEWriter) -> None:
        writers.append(writer)
        async with anyio.create_task_group() as tasks:
            if by in ("send_event beside a channel", "publish"):
                tasks.start_soon(channel.stream, writer)
                await until(lambda: len(channel) == 1)
            for _ in range(2000):
                match by:
                    case "send":
                        await stream_of(writer).send(event.encode())
                    case "publish":
                        await channel.publish(event)
                    case _:
                        await writer.send_event(event)
            over.append(by)
            tasks.cancel_scope.cancel()

    def on_thread(writer: BlockingSSEWriter) -> None:
        writers.append(writer.event.get_sse_writer())
        for _ in range(2000):
            writer.send_event(event)
        over.append(by)

    async with open_memory(app, limits=Limits(stream_buffer=LARGE)) as server:
        reply = await server.request("GET", "/events")
        await until(lambda: bool(writers))
        sent = (
            (lambda: channel.stats().published * size)
            if by == "publish"
            else (lambda: stream_of(writers[0]).connection.buffered)
        )
        most = await most_between_turns(lambda: bool(over), sent)
        assert len(await reply.read()) == 2000 * size
    # Trio runs who is ready in any order, and a thread may send on while the loop takes over.
    turns = 1 if anyio_backend == "asyncio" and by != "thread" else 2
    assert 0 < most <= turns * (64 * 1024 + size)


# -- slow readers

SIZE = 1000
"""Bytes of one event of `fill`, as it is sent."""


def filled(number: int) -> SSEEvent:
    event = SSEEvent(str(number).rjust(SIZE - 18, "."), id=f"{number:05}")
    assert len(event.encode()) == SIZE
    return event


async def fill(channel: Channel, start: int, stop: int) -> None:
    for number in range(start, stop):
        await channel.publish(filled(number))


def encoded(start: int, stop: int) -> bytes:
    return b"".join(filled(number).encode() for number in range(start, stop))


async def received(reply: Reply, size: int) -> bytes:
    data = b""
    with anyio.fail_after(10):
        while len(data) < size:
            data += await reply.receive()
    return data


async def test_wait_loses_nothing_and_holds_the_publisher_at_the_limit() -> None:
    channel = Channel(policy="wait", limit=10_000)
    async with open_memory(app_of(channel)) as server, anyio.create_task_group() as tasks:
        slow = await subscribe(server, channel)
        tasks.start_soon(fill, channel, 0, 50)
        await wait_all_tasks_blocked()
        held = channel.stats()
        assert isinstance(held, ChannelStats)
        assert held.largest_lag == 10_000
        assert held.published == 10
        assert await received(slow, 50 * SIZE) == encoded(0, 50)
        assert channel.stats().dropped == channel.stats().disconnected == 0
        await channel.close()


async def test_drop_leaves_out_the_oldest_and_counts_them() -> None:
    channel = Channel(policy="drop", limit=10_000)
    async with open_memory(app_of(channel)) as server:
        fast, slow = await subscribe(server, channel), await subscribe(server, channel)
        body = b""
        for number in range(100):
            with anyio.fail_after(10):  # nobody waits for the slow one
                await channel.publish(filled(number))
                body += await fast.receive()
        assert body == encoded(0, 100)
        stats = channel.stats()
        assert stats.largest_lag <= 10_000 + SIZE
        await channel.close()
        events = (await slow.read()).split(b"\n\n")[:-1]
    numbers = [int(event[4:9]) for event in events]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 99
    assert stats.dropped == 100 - len(numbers) > 80
    assert (stats.published, stats.subscribers, stats.disconnected) == (100, 2, 0)


async def test_disconnect_cuts_the_slow_one_which_resumes_from_the_history() -> None:
    channel = Channel(history=1000, policy="disconnect", limit=10_000)
    async with open_memory(app_of(channel)) as server:
        fast, slow = await subscribe(server, channel), await subscribe(server, channel)
        body = b""
        for number in range(100):
            with anyio.fail_after(10):
                await channel.publish(filled(number))
                body += await fast.receive()
        assert body == encoded(0, 100)
        assert channel.stats().disconnected == 1
        first = await slow.read()
        assert slow.end is End.CUT
        assert len(channel) == 1
        last_id = first.split(b"id: ")[-1][:5].decode()
        again = await subscribe(server, channel, last_id)
        rest = await received(again, 100 * SIZE - len(first))
        assert first + rest == encoded(0, 100)
        await channel.close()


async def test_a_subscriber_that_lags_gets_the_rest_when_the_channel_closes() -> None:
    channel = Channel(policy="drop", limit=60_000)
    async with open_memory(app_of(channel)) as server:
        reply = await subscribe(server, channel)
        await fill(channel, 0, 50)
        await channel.close()
        assert await reply.read() == encoded(0, 50)
        assert reply.end is End.PROPER


async def test_a_replay_is_no_lag_and_fills_no_buffer() -> None:
    channel = Channel(history=1000, policy="disconnect", limit=5_000)
    async with open_memory(app_of(channel)) as server:
        await fill(channel, 0, 100)
        reply = await subscribe(server, channel, "00000")
        await wait_all_tasks_blocked()
        assert channel.stats().largest_lag <= 5_000
        await fill(channel, 100, 102)
        assert await received(reply, 101 * SIZE) == encoded(1, 102)
        await fill(channel, 102, 103)
        await channel.close()
        assert await reply.read() == encoded(102, 103)
        assert channel.stats().disconnected == 0


async def test_events_published_while_a_replay_goes_on_follow_it_without_gap_or_double() -> None:
    channel = Channel(history=200)
    async with open_memory(app_of(channel)) as server, anyio.create_task_group() as tasks:
        await fill(channel, 0, 100)
        reply = await subscribe(server, channel, "00049")
        tasks.start_soon(fill, channel, 100, 300)
        assert await received(reply, 250 * SIZE) == encoded(50, 300)
        await channel.close()


async def test_a_client_that_comes_too_late_is_told_so_where_the_channel_says_so() -> None:
    channel = Channel(history=2, gap="gap")
    async with open_memory(app_of(channel)) as server:
        await publish(channel, 1, 2, 3, 4)
        late = await subscribe(server, channel, "1")
        just = await subscribe(server, channel, "2")
        new = await subscribe(server, channel)
        await channel.close()
        assert await late.read() == b"event: gap\ndata: 1\n\n" + numbered(3, 4)
        assert await just.read() == numbered(3, 4)
        assert await new.read() == b""
    assert channel.stats().gaps == 1


async def test_what_a_writer_sends_itself_keeps_its_place_among_what_a_channel_brings(adapter: str) -> None:
    channel, other, app = Channel(), Channel(), H3App()
    counts: list[int] = []

    @app.get("/mixed")
    async def mixed(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(mix)

    async def mix(writer: SSEWriter) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.stream, writer)
            tasks.start_soon(other.stream, writer)
            with anyio.fail_after(10):
                while not len(channel) or not len(other):
                    await anyio.lowlevel.checkpoint()
            for number in range(0, 40, 4):
                await publish(channel, number)
                await writer.send_event(SSEEvent(str(number + 1), id=str(number + 1)))
                await publish(other, number + 2)
                await publish(channel, number + 3)
            counts.append(writer.event_count)
            await writer.close()
            tasks.cancel_scope.cancel()

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/mixed")
        assert await reply.read() == numbered(*range(40))
    assert counts == [40]


async def test_a_reader_that_stops_loses_nothing_and_holds_up_no_other(adapter: str) -> None:
    channel = Channel(policy="disconnect", limit=1 << 30)
    event = SSEEvent("x" * 99_992)
    size = len(event.encode())
    async with open_client(adapter, app_of(channel)) as client:
        slow, fast = await client.request("GET", "/events"), await client.request("GET", "/events")
        with anyio.fail_after(30):
            await until(lambda: len(channel) == 2)
            for _ in range(100):  # 10 MB: more than a kernel holds for one who reads nothing
                await channel.publish(event)
                got = 0
                while got < size:
                    got += len(await fast.receive())
                assert got == size
            left = 100 * size
            while left > 0:
                left -= len(await slow.receive())
            assert left == 0
            await channel.publish("the last")
            await channel.close()
            assert await slow.read() == await fast.read() == b"data: the last\n\n"
    stats = channel.stats()
    assert (stats.delivered, stats.dropped, stats.disconnected, stats.subscribers) == (202, 0, 0, 0)


@pytest.mark.parametrize("history", [0, 1000])
async def test_by_default_one_that_does_not_read_holds_up_no_publisher(adapter: str, history: int) -> None:
    channel = Channel(history)
    event = SSEEvent("x" * 99_992)
    async with open_client(adapter, app_of(channel)) as client:
        sleeper = await client.request("GET", "/events")
        with anyio.fail_after(30):
            await until(lambda: len(channel) == 1)
            for _ in range(100):  # 10 MB: more than a kernel holds for one who reads nothing
                await channel.publish(event)
                await anyio.sleep(0.001)
            stats = channel.stats()
            if history:
                assert (stats.dropped, stats.disconnected) == (0, 1), "it comes back, and resumes from the history"
            else:
                assert stats.dropped
                assert not stats.disconnected, "it has nothing to come back to"
            sleeper.disconnect()
            await until(lambda: not len(channel))


async def test_clients_that_leave_in_the_middle_of_a_round_harm_no_other(adapter: str) -> None:
    channel = Channel()
    async with open_client(adapter, app_of(channel)) as client:
        replies = [await client.request("GET", "/events") for _ in range(20)]
        with anyio.fail_after(30):
            await until(lambda: len(channel) == 20)
            for number in range(40):
                if number % 4 == 0:
                    replies[number // 2].disconnect()
                await publish(channel, number)
                await anyio.sleep(0.001)
            await until(lambda: len(channel) == 10)
            await channel.close()
            for reply in replies[1::2]:
                assert await reply.read() == numbered(*range(40))
                assert reply.end is End.PROPER


async def test_a_traced_streams_events_are_recorded_one_by_one(adapter: str) -> None:
    channel, records = Channel(history=10), list[Record]()
    async with open_client(adapter, app_of(channel), trace=records.append) as client:
        await publish(channel, 1, 2, 3)
        reply = await client.request("GET", "/events", headers={"Last-Event-ID": "1"})
        with anyio.fail_after(10):
            await until(lambda: len(channel) == 1)
        await publish(channel, 4, 5)
        await channel.close()
        assert await reply.read() == numbered(2, 3, 4, 5)
    sent = [record.detail for record in records if record.step == "event"]
    assert sent == [numbered(number).decode() for number in (2, 3, 4, 5)]


async def test_more_streams_than_one_turn_sends_to_get_the_same(adapter: str) -> None:
    channel = Channel()
    async with open_client(adapter, app_of(channel)) as client:
        replies = [await client.request("GET", "/events") for _ in range(150)]
        with anyio.fail_after(30):
            await until(lambda: len(channel) == 150)
            await publish(channel, *range(10))
            await anyio.sleep(0.01)
            await publish(channel, *range(10, 20))
            await channel.close()
            for reply in replies:
                assert await reply.read() == numbered(*range(20))


@pytest.mark.parametrize("by", ["shutdown", "close"])
async def test_what_a_late_reader_has_not_had_is_sent_before_its_stream_closes(by: str) -> None:
    recorder = Recorder()
    channel = Channel(policy="drop", limit=1024 * 1024)
    async with open_memory(app_of(channel), trace=recorder) as server:
        reply = await subscribe(server, channel)
        for _ in range(3):
            await channel.publish("x" * 65_536)  # the second and third wait in the log: nobody reads
        if by == "close":
            await channel.close()
    assert (await reply.read()).count(b"data: ") == 3
    steps = [record.step for record in recorder.recording]
    assert steps.count("send_event") == steps.count("data") == 3
    assert max(place for place, step in enumerate(steps) if step == "data") < steps.index(
        "closes" if by == "shutdown" else "close"
    )
    assert check(recorder.recording, whole=True) is None


async def test_one_that_is_disconnected_leaves_though_the_log_goes_on_without_it() -> None:
    channel = Channel(policy="disconnect", limit=10_000)
    async with open_memory(app_of(channel)) as server:
        slow = await subscribe(server, channel)
        while not channel.stats().disconnected:
            await channel.publish(filled(channel.stats().published))
        for number in range(200):  # before its task has run; without a history, nothing keeps these
            await channel.publish(filled(number))
        assert channel.stats().largest_lag < 20_000
        body = await slow.read()
        assert slow.end is End.CUT
        await until(lambda: not len(channel))
        assert channel.stats().delivered == body.count(b"id: ")
        await channel.close()


async def test_what_a_client_that_left_had_not_got_is_not_counted_as_delivered() -> None:
    channel = Channel(policy="drop", limit=1 << 20)
    async with open_memory(app_of(channel)) as server:
        slow = await subscribe(server, channel)
        await fill(channel, 0, 500)
        given = channel.stats().delivered
        assert given < 500
        slow.disconnect()
        await until(lambda: not len(channel))
        assert channel.stats().delivered == given
