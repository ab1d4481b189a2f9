"""`EventSource` and its blocking twin: every end of a connection, and what follows it.

Delays run on virtual time, or on the protocol alone, which does no I/O; sockets are real everywhere else.
"""

from __future__ import annotations

import gc
import gzip
import subprocess
import sys
import textwrap
import threading
import warnings
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import httpx
import httpx2
import pytest

import h3ref
from h3ref import (
    BlockingEventSource,
    Channel,
    EventSource,
    EventTooLarge,
    H3App,
    H3Error,
    H3Event,
    MessageEvent,
    ReadyState,
    SSEEvent,
    SSEWriter,
    running,
)
from h3ref.client import EventSourceError, RefusedStatus, WrongContentType
from h3ref.client.protocol import JITTER, LONGEST_RETRY_AFTER, LONGEST_WAIT, STEADY, Protocol
from h3ref.testing import virtual_backends
from tests.ports import free_port
from tests.waits import blocking_until, until, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

URL = "http://test/events"
SSE_HEADERS = {"Content-Type": "text/event-stream"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EOF_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PROPER_END = b"0\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
VIRTUAL = pytest.mark.parametrize("anyio_backend", virtual_backends())
TWINS = pytest.mark.parametrize("twin", [EventSource, BlockingEventSource])
SOON = 0.02


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- servers that misbehave as they are told


class Scripted:
    """A TCP server; each connection takes the next script: bytes to send, seconds or an event to wait for, or HOLD."""

    HOLD = "hold"

    def __init__(self, scripts: tuple[list[Any], ...]) -> None:
        self.url = ""
        self.requests: list[bytes] = []
        self.left = anyio.Event()  # a client closed its connection while it was held
        self._scripts = iter(scripts)

    async def answer(self, stream: anyio.abc.SocketStream) -> None:
        script = next(self._scripts, [])
        async with stream:
            try:
                request = await stream.receive()
                while b"\r\n\r\n" not in request:
                    request += await stream.receive()
                self.requests.append(request)
                for step in script:
                    if step is self.HOLD:
                        await stream.receive()
                    elif isinstance(step, bytes):
                        await stream.send(step)
                    elif isinstance(step, anyio.Event):
                        await step.wait()
                    else:
                        await anyio.sleep(step)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                self.left.set()


@asynccontextmanager
async def scripted(*scripts: list[Any]) -> AsyncIterator[Scripted]:
    server = Scripted(scripts)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        server.url = f"http://127.0.0.1:{port}/events"
        tasks.start_soon(listener.serve, server.answer)
        yield server
        tasks.cancel_scope.cancel()


async def collect(
    twin: Any, url: str, count: int | None = None, messages: list[MessageEvent] | None = None, **options: Any
) -> list[MessageEvent]:
    """Return the first `count` messages, or all until the iteration ends; `messages` has them as they come."""
    options.setdefault("reconnection_time", SOON)
    messages = [] if messages is None else messages
    if twin is EventSource:
        async with EventSource(url, **options) as source:
            async for message in source:
                messages.append(message)
                if len(messages) == count:
                    break
        assert source.ready_state is ReadyState.CLOSED
        return messages

    def block() -> None:
        with BlockingEventSource(url, **options) as source:
            for message in source:
                messages.append(message)
                if len(messages) == count:
                    break
        assert source.ready_state is ReadyState.CLOSED

    await anyio.to_thread.run_sync(block)
    return messages


def data_of(messages: list[MessageEvent]) -> list[str]:
    return [message.data for message in messages]


def counting(limit: int = 10**9, part: int = 3) -> H3App:
    """Counts on from the last event ID, `part` events a connection; after `limit` it answers 204."""
    app = H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        if int(event.last_event_id or 0) >= limit:
            event.set_status(204)
            event.send_text("")
            return
        event.start_sse()
        event.set_stream_callback(count)

    async def count(writer: SSEWriter) -> None:
        start = int(writer.event.last_event_id or 0) + 1
        for number in range(start, min(start + part, limit + 1)):
            await writer.send_event(SSEEvent(str(number), event="count", id=str(number)))

    return app


# -- over our own server


@TWINS
async def test_it_reconnects_and_resumes_until_the_server_says_204(twin: Any) -> None:
    async with running(counting(limit=7)) as server:
        messages = await collect(twin, server.url + "/events")
    assert messages == [MessageEvent("count", str(number), str(number)) for number in range(1, 8)]


@TWINS
async def test_a_204_to_a_new_stream_is_an_error_and_to_one_that_resumes_the_end(twin: Any) -> None:
    async with running(counting(limit=0)) as server:
        with pytest.raises(RefusedStatus, match="204 No Content") as caught:
            await collect(twin, server.url + "/events")
        assert caught.value.response.status_code == 204
        assert await collect(twin, server.url + "/events", last_event_id="7") == []


def prompted() -> tuple[H3App, list[Any]]:
    app = H3App()
    seen: list[Any] = []

    @app.post("/chat")
    async def chat(event: H3Event) -> None:
        seen.append((await event.read_json(), event.headers["authorization"], event.headers["accept"]))
        event.start_sse()
        event.set_stream_callback(speak)

    async def speak(writer: SSEWriter) -> None:
        for word in ("all", "is", "well"):
            await writer.send_event(word)

    return app, seen


@TWINS
async def test_a_post_sends_its_json_and_is_not_sent_twice(twin: Any) -> None:
    app, seen = prompted()
    async with running(app) as server:
        messages = await collect(
            twin, server.url + "/chat", method="POST", json={"prompt": "é"}, headers={"Authorization": "Bearer 1"}
        )
    assert data_of(messages) == ["all", "is", "well"]
    assert seen == [({"prompt": "é"}, "Bearer 1", "text/event-stream")]


async def test_a_post_is_sent_again_when_that_is_asked_for() -> None:
    app, seen = prompted()
    async with running(app) as server:
        options: dict[str, Any] = {"method": "POST", "json": {}, "headers": {"Authorization": "-"}, "reconnect": True}
        assert len(await collect(EventSource, server.url + "/chat", 6, **options)) == 6
    assert len(seen) == 2


async def test_a_post_that_breaks_off_raises_and_is_not_sent_again() -> None:
    async with scripted([HEAD, chunk(b"data: 1\n\n")]) as server:
        with pytest.raises(httpx2.RemoteProtocolError):
            await collect(EventSource, server.url, method="POST")
        assert len(server.requests) == 1


@TWINS
async def test_a_server_that_dies_and_comes_back_costs_no_event_and_repeats_none(twin: Any) -> None:
    channel = Channel(history=1000)
    app = H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(channel.stream)

    received: list[str] = []
    port = free_port()
    published = 0

    async def publish(count: int) -> None:
        nonlocal published
        for _ in range(count):
            published += 1
            await channel.publish(SSEEvent(str(published), id=str(published)))

    async def receive() -> None:
        received.extend(data_of(await collect(twin, f"http://127.0.0.1:{port}/events", 60)))

    async with anyio.create_task_group() as tasks:
        for time_up in range(3):
            async with running(app, port=port):
                if not time_up:
                    tasks.start_soon(receive)
                await until(lambda: len(channel) > 0)
                await publish(15)
            await publish(5)  # while nobody is there to hear
        async with running(app, port=port):
            await until(lambda: len(received) == 60)
    assert received == [str(number) for number in range(1, 61)]


@TWINS
async def test_a_killed_process_costs_no_event_and_repeats_none(twin: Any) -> None:
    script = """
        import sys
        import anyio
        from h3ref import H3App, SSEEvent, serve
        app = H3App()
        @app.sse("/events")
        async def events(event):
            number = int(event.last_event_id or 0)
            while True:
                number += 1
                yield SSEEvent(str(number), id=str(number), event="even" if number % 2 == 0 else "odd")
                await anyio.sleep(0.001)
        serve(app, port=int(sys.argv[1]))
    """

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(port)], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        told = process.stderr.readline()
        return process, int(told.partition("127.0.0.1:")[2].split()[0])

    received: list[MessageEvent] = []
    process, port = await anyio.to_thread.run_sync(start, free_port())

    async def receive() -> None:
        await collect(twin, f"http://127.0.0.1:{port}/events", 200, received, max_reconnection_time=SOON)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await until(lambda: len(received) >= 50)
            process.kill()
            process.communicate()
            process, _ = await anyio.to_thread.run_sync(start, port)
    finally:
        process.kill()
        process.communicate()
    assert [message.last_event_id for message in received] == [str(number) for number in range(1, 201)]


# -- leaving


def endless(told: Callable[[], None]) -> H3App:
    """Sends an event and stays silent; calls `told` when the client has left."""
    app = H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stay)

    async def stay(writer: SSEWriter) -> None:
        await writer.send_event(SSEEvent("1", id="1"))
        try:
            await anyio.sleep_forever()
        finally:
            told()

    return app


@pytest.mark.parametrize("waiting", [0, 15, 16, 17, 5_000])
async def test_who_leaves_while_much_has_come_leaves_no_generator_to_the_garbage_collector(waiting: int) -> None:
    parts = b"".join(chunk(b"data: %d\n\n" % number) for number in range(1 + waiting))
    async with scripted([HEAD + parts, Scripted.HOLD]) as server:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            async with EventSource(server.url) as source:
                assert (await anext(source)).data == "0"
            del source
            gc.collect()
            await anyio.lowlevel.checkpoint()
        assert not warned
        await server.left.wait()


async def test_a_timeout_around_a_step_costs_neither_a_connection_nor_an_event() -> None:
    turns = [anyio.Event() for _ in range(20)]
    events = [chunk(b"id: %d\ndata: %d\n\n" % (number, number)) for number in range(20)]
    steps = [step for pair in zip(turns, events, strict=True) for step in pair]
    async with scripted([HEAD, *steps, Scripted.HOLD]) as server, EventSource(server.url) as source:
        for number, turn in enumerate(turns):
            for _ in range(2):
                with anyio.move_on_after(0.002) as scope:
                    await anext(source)
                assert scope.cancelled_caught
            turn.set()
            with anyio.fail_after(10):
                assert (await anext(source)).data == str(number)
        assert source.ready_state is ReadyState.OPEN
        assert source.last_event_id == "19"
        assert len(server.requests) == 1


async def test_a_timeout_around_a_step_is_no_end_for_a_source_that_does_not_reconnect() -> None:
    go_on = anyio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await go_on.wait()
        yield b"data: 2\n\n"

    def handle(request: httpx2.Request) -> httpx2.Response:
        return streaming(content())

    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client,
        EventSource(URL, client=client, reconnect=False) as source,
    ):
        assert (await anext(source)).data == "1"
        with anyio.move_on_after(0.01):
            await anext(source)
        go_on.set()
        assert data_of([message async for message in source]) == ["2"]


async def test_what_fails_while_nobody_waits_is_told_at_the_next_step() -> None:
    broken = anyio.Event()
    async with scripted([HEAD, broken]) as server, EventSource(server.url, reconnect=False) as source:
        with anyio.move_on_after(0.002):
            await anext(source)
        broken.set()
        await until(lambda: source.ready_state is ReadyState.CLOSED)
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(source)
        with pytest.raises(StopAsyncIteration):
            await anext(source)


@VIRTUAL
async def test_a_timeout_around_a_step_lets_a_wait_for_a_reconnection_go_on() -> None:
    asked: list[float] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(anyio.current_time())
        return streaming(b"retry: 60000\ndata: 1\n\n")

    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client,
        EventSource(URL, client=client) as source,
    ):
        await anext(source)
        for _ in range(50):
            with anyio.move_on_after(1):
                await anext(source)
        assert len(asked) == 1
        await anext(source)
        assert 60 <= asked[1] - asked[0] <= 60 * (1 + JITTER) + 1


async def test_a_source_may_be_entered_iterated_and_left_by_three_tasks() -> None:
    gone = anyio.Event()
    async with running(endless(gone.set)) as server:
        source = EventSource(server.url + "/events")

        async def iterate() -> None:
            assert (await anext(source)).data == "1"
            with anyio.move_on_after(0.01):
                await anext(source)

        for step in (source.__aenter__, iterate, source.aclose):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step)
        with anyio.fail_after(10):
            await gone.wait()


async def test_a_generator_around_a_source_may_be_given_up_at_any_step() -> None:
    gone = anyio.Event()
    async with running(endless(gone.set)) as server:

        async def relay() -> AsyncIterator[str]:
            async with EventSource(server.url + "/events") as source:
                async for message in source:
                    yield message.data

        events = relay()
        with anyio.fail_after(10):
            assert await anext(events) == "1"
        with anyio.move_on_after(0.01):
            await anext(events)
        with anyio.fail_after(10):
            await gone.wait()


def test_an_interrupted_wait_of_the_blocking_twin_resumes_or_is_told_apart_from_the_end() -> None:
    asked: list[str | None] = []

    def interrupted() -> Iterator[bytes]:
        yield b"id: 1\ndata: 1\n\n"
        raise KeyboardInterrupt

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("last-event-id"))
        return streaming(interrupted())

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as client:
        with BlockingEventSource(URL, client=client) as source:
            assert next(source).data == "1"
            with pytest.raises(KeyboardInterrupt):
                next(source)
            assert source.ready_state.name == "CONNECTING"
            assert next(source).data == "1"
            assert asked == [None, "1"]
        with BlockingEventSource(URL, client=client, reconnect=False) as source:
            assert next(source).data == "1"
            with pytest.raises(KeyboardInterrupt):
                next(source)
            with pytest.raises(H3Error, match="given up"):
                next(source)


async def test_leaving_closes_the_socket_at_once() -> None:
    gone = anyio.Event()
    async with running(endless(gone.set)) as server:
        async with EventSource(server.url + "/events") as source:
            async for _ in source:
                break
        with anyio.fail_after(10):
            await gone.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(source)
        with pytest.raises(RuntimeError, match="can be entered once"):
            await source.__aenter__()


async def test_cancelling_the_whole_task_closes_the_socket_at_once() -> None:
    gone = anyio.Event()
    async with running(endless(gone.set)) as server:
        with anyio.CancelScope() as scope:
            async with EventSource(server.url + "/events") as source:
                async for _ in source:
                    scope.cancel()
        assert scope.cancelled_caught
        with anyio.fail_after(10):
            await gone.wait()


async def test_another_task_may_close_but_not_iterate() -> None:
    gone = anyio.Event()
    received = anyio.Event()
    ended = anyio.Event()
    async with running(endless(gone.set)) as server, EventSource(server.url + "/events") as source:

        async def iterate() -> None:
            async for _ in source:
                received.set()
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(iterate)
            await received.wait()
            await wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="another task"):
                await anext(source)
            await source.aclose()
            await source.aclose()
            with anyio.fail_after(10):
                await ended.wait()
                await gone.wait()


async def test_another_thread_may_close_but_not_iterate() -> None:
    gone = anyio.Event()
    async with running(endless(gone.set)) as server:

        def block() -> list[MessageEvent]:
            with BlockingEventSource(server.url + "/events") as source:
                messages = [next(source)]
                closing = threading.Thread(target=close, args=[source])
                closing.start()
                messages += source
                closing.join()
            return messages

        def close(source: BlockingEventSource) -> None:
            blocking_until(source._working.locked)
            with pytest.raises(RuntimeError, match="another thread"):
                next(source)
            source.close()

        with anyio.fail_after(10):
            assert len(await anyio.to_thread.run_sync(block)) == 1
            await gone.wait()


async def test_another_thread_may_close_a_source_that_waits() -> None:
    async with scripted([HEAD, chunk(b"retry: 60000\ndata: 1\n\n"), PROPER_END]) as server:

        def block() -> list[MessageEvent]:
            with BlockingEventSource(server.url) as source:
                timer = threading.Timer(0.1, source.close)
                timer.start()
                return list(source)

        with anyio.fail_after(10):
            assert len(await anyio.to_thread.run_sync(block)) == 1


@TWINS
async def test_a_closed_source_hands_over_nothing_and_knows_where_to_go_on(twin: Any) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        return streaming(b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n")

    transport = httpx2.MockTransport(handle)
    if twin is EventSource:
        async with httpx2.AsyncClient(transport=transport) as client, EventSource(URL, client=client) as source:
            assert (await anext(source)).data == "1"
            await source.aclose()
            assert [message async for message in source] == []
        assert source.last_event_id == "1"
    else:
        with httpx2.Client(transport=transport) as plain, BlockingEventSource(URL, client=plain) as blocking:
            assert next(blocking).data == "1"
            blocking.close()
            assert list(blocking) == []
        assert blocking.last_event_id == "1"


def test_a_password_in_the_url_stays_out_of_logs_and_errors() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["authorization"].startswith("Basic ")
        return httpx2.Response(403)

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as client:
        source = BlockingEventSource("http://me:secret@test/events", client=client)
        with pytest.raises(RefusedStatus) as caught, source:
            pass
    assert "secret" not in f"{source!r} {caught.value}"


async def test_what_a_handler_lets_out_tells_its_client_nothing_about_the_other_server() -> None:
    app = H3App()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncIterator[str]:
        async with EventSource(inner.url + "/secret") as source:
            async for message in source:
                yield message.data

    async with running(H3App()) as inner, running(app) as outer:
        with pytest.raises(RefusedStatus) as caught:
            await collect(EventSource, outer.url + "/events")
    assert caught.value.response.status_code == 502
    assert "secret" not in caught.value.response.text


def test_a_source_is_entered_first() -> None:
    with pytest.raises(RuntimeError, match="not connected"):
        next(BlockingEventSource(URL))


# -- servers that misbehave


@TWINS
async def test_an_event_cut_in_the_middle_is_dropped_and_comes_whole_after_reconnecting(twin: Any) -> None:
    async with scripted(
        [HEAD, chunk(b"id: 1\ndata: one\n\nid: 2\ndata: t")],
        [HEAD, chunk(b"id: 2\ndata: two\n\n"), PROPER_END],
        [NO_CONTENT],
    ) as server:
        assert await collect(twin, server.url) == [
            MessageEvent("message", "one", "1"),
            MessageEvent("message", "two", "2"),
        ]
    assert b"last-event-id" not in server.requests[0].lower()
    assert b"\r\nLast-Event-ID: 1\r\n" in server.requests[1]
    assert b"\r\nLast-Event-ID: 2\r\n" in server.requests[2]


@TWINS
async def test_garbage_is_an_error_at_first_and_a_reason_to_reconnect_later(twin: Any) -> None:
    garbage = [b"\x00\x01 what?\r\n\r\n"]
    async with scripted(garbage) as server:
        with pytest.raises(httpx2.RemoteProtocolError):
            await collect(twin, server.url)
    event = [HEAD, chunk(b"data: 1\n\n"), PROPER_END]
    async with scripted(event, garbage, [], [HEAD, b"zz\r\n"], event, [NO_CONTENT]) as server:
        assert data_of(await collect(twin, server.url, max_reconnection_time=SOON)) == ["1", "1"]


@TWINS
async def test_a_bom_and_split_characters_and_single_bytes(twin: Any) -> None:
    body = "\ufeffdata: é🎉\r\n\r\ndata: ü\r\r".encode()
    pieces = [chunk(bytes([byte])) for byte in body]
    steps: list[Any] = [HEAD]
    for piece in pieces:
        steps += [piece, 0.001]
    async with scripted([*steps, PROPER_END], [NO_CONTENT]) as server:
        assert data_of(await collect(twin, server.url)) == ["é🎉", "ü"]


@TWINS
@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        (b"500 Internal Server Error\r\nContent-Type: text/plain", b"sorry", "500 Internal Server Error"),
        (b"401 Unauthorized\r\nContent-Type: text/event-stream", b'{"error": 1}', "401 Unauthorized"),
        (b"200 OK\r\nContent-Type: text/html", b"<p>log in</p>", "content type 'text/html'"),
        (b"200 OK", b"", "no content type"),
        (b"200 OK\r\nContent-Type: text/event-stream-not", b"", "content type"),
        (b"206 Partial Content\r\nContent-Type: text/event-stream", b"data: 1\n\n", "206 Partial Content"),
    ],
)
async def test_what_is_no_event_stream_is_refused(twin: Any, head: bytes, body: bytes, text: str) -> None:
    answer = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    async with scripted([answer], [answer]) as server:
        with pytest.raises(EventSourceError, match=text) as caught:
            await collect(twin, server.url, patient=True)
        assert len(server.requests) == 1
    error = caught.value
    assert isinstance(error, H3Error)
    assert isinstance(error, WrongContentType if b"200" in head else httpx2.HTTPStatusError)
    assert error.response.content == body
    assert error.request.url == server.url
    assert "GET" in str(error)


@TWINS
async def test_a_refusal_whose_body_never_ends_is_raised_all_the_same(
    twin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (h3ref.client.blocking, h3ref.client.source):
        monkeypatch.setattr(module, "REFUSAL_SECONDS", 0.1)
    head = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with scripted([head, chunk(b"no"), Scripted.HOLD]) as server:
        with anyio.fail_after(10), pytest.raises(RefusedStatus) as caught:
            await collect(twin, server.url)
        assert caught.value.response.text == "no"
        with anyio.fail_after(10):
            await server.left.wait()


@TWINS
@pytest.mark.parametrize("content_type", [b"text/event-stream; charset=utf-8", b"Text/Event-Stream;charset=latin-1"])
async def test_parameters_and_case_of_the_content_type_say_nothing(twin: Any, content_type: bytes) -> None:
    head = EOF_HEAD.replace(b"text/event-stream", content_type)
    async with scripted([head, "data: é\n\n".encode()]) as server:
        assert data_of(await collect(twin, server.url, reconnect=False)) == ["é"]


@TWINS
@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"302 Found", b"307 Temporary Redirect"])
async def test_redirects_are_followed(twin: Any, status: bytes) -> None:
    redirect = b"HTTP/1.1 %b\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
    async with scripted([redirect], [EOF_HEAD, b"id: 1\ndata: 1\n\n"], [NO_CONTENT]) as server:
        assert data_of(await collect(twin, server.url)) == ["1"]
    assert [request.split()[1] for request in server.requests] == [b"/events", b"/elsewhere", b"/events"]
    assert b"text/event-stream" in server.requests[1]


@TWINS
async def test_a_compressed_stream_is_read_event_by_event(twin: Any) -> None:
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    async with scripted([head, chunk(first), Scripted.HOLD]) as server:
        with anyio.fail_after(10):
            assert data_of(await collect(twin, server.url, 1)) == ["1"]
    assert b"Accept-Encoding: identity" in server.requests[0]


async def test_a_compressed_refusal_can_be_read() -> None:
    body = gzip.compress(b"because")
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with scripted([head, body]) as server:
        with pytest.raises(RefusedStatus) as caught:
            await collect(EventSource, server.url)
    assert caught.value.response.text == "because"


@TWINS
async def test_an_event_that_is_too_large_ends_it(twin: Any) -> None:
    async with scripted([HEAD, chunk(b"data: " + b"x" * 200), Scripted.HOLD]) as server:
        with pytest.raises(EventTooLarge):
            await collect(twin, server.url, max_event_size=100)
        with anyio.fail_after(10):
            await server.left.wait()


@TWINS
@pytest.mark.parametrize("end", [[PROPER_END], [], [0.05, chunk(b"x"), Scripted.HOLD]])
async def test_what_came_before_an_event_that_is_too_large_is_handed_over(twin: Any, end: list[Any]) -> None:
    body = b"id: 1\ndata: 1\n\ndata: " + b"x" * 200
    async with scripted([HEAD, chunk(body), *end], [NO_CONTENT]) as server:
        received: list[str] = []

        def block() -> None:
            with BlockingEventSource(server.url, max_event_size=100) as source:
                for message in source:
                    received.append(message.data)

        async def receive() -> None:
            async with EventSource(server.url, max_event_size=100) as source:
                async for message in source:
                    received.append(message.data)

        with pytest.raises(EventTooLarge):
            await (receive() if twin is EventSource else anyio.to_thread.run_sync(block))
        assert received == ["1"]
        assert len(server.requests) == 1


@TWINS
async def test_a_silent_connection_is_given_up_after_the_heartbeat(twin: Any) -> None:
    errors: list[Any] = []
    async with scripted(
        [HEAD, chunk(b"data: 1\n\n"), *[0.45, chunk(b":\n")] * 5, chunk(b"data: 2\n\n"), Scripted.HOLD], [NO_CONTENT]
    ) as server:
        messages = await collect(twin, server.url, heartbeat=2, on_reconnect=lambda delay, error: errors.append(error))
    assert data_of(messages) == ["1", "2"]
    assert [type(error) for error in errors] == [httpx2.ReadTimeout]


@TWINS
async def test_a_first_connection_that_fails_raises(twin: Any) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with pytest.raises(httpx2.ConnectError):
        await collect(twin, f"http://127.0.0.1:{port}/")


@TWINS
async def test_a_stream_without_reconnection_ends_properly_or_raises(twin: Any) -> None:
    whole = [HEAD, chunk(b"data: 1\n\n"), PROPER_END]
    async with scripted(whole, whole[:-1]) as server:
        assert data_of(await collect(twin, server.url, reconnect=False)) == ["1"]
        with pytest.raises(httpx2.RemoteProtocolError):
            await collect(twin, server.url, reconnect=False)


@TWINS
async def test_after_error_resumes_what_broke_off_and_ends_at_the_proper_end(twin: Any) -> None:
    async with scripted(
        [HEAD, chunk(b"id: 1\ndata: 1\n\n")], [HEAD, chunk(b"id: 2\ndata: 2\n\n"), PROPER_END]
    ) as server:
        assert data_of(await collect(twin, server.url, reconnect="after_error")) == ["1", "2"]


# -- the request


def sent(source: Protocol) -> dict[str, str]:
    return dict(httpx2.Headers(source.request_headers()).items())


def test_the_request_says_what_the_standard_wants() -> None:
    assert sent(Protocol(URL)) == {
        "accept": "text/event-stream",
        "cache-control": "no-cache",  # what Fetch makes of the cache mode no-store
        "accept-encoding": "identity",
    }


def test_the_users_headers_take_the_place_of_ours() -> None:
    headers = sent(Protocol(URL, headers={"accept": "text/event-stream, */*", "X-Api-Key": "1", "last-event-id": "7"}))
    assert headers["accept"] == "text/event-stream, */*"
    assert headers["x-api-key"] == "1"
    assert headers["last-event-id"] == "7"


def test_the_last_event_id_is_utf_8_and_never_empty() -> None:
    source = Protocol(URL, last_event_id="é🎉 ")
    assert (b"Last-Event-ID", "é🎉".encode()) in source.request_headers()
    assert source.last_event_id == "é🎉 "
    source.feed(b"id\n\n")
    assert "last-event-id" not in sent(source)


UNCARRIED = ["7\x01", "\x7f", "a\x1bb", "x" * 4097, "é" * 2049]


@pytest.mark.parametrize("id", UNCARRIED)
@TWINS
async def test_an_id_that_no_header_carries_is_left_out_of_the_next_request_and_that_is_logged(
    twin: Any, id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "h3ref.client")
    body = f"id: {id}\ndata: 1\n\n".encode()
    later = [HEAD, chunk(b"id: 2\ndata: 2\n\n"), PROPER_END]
    async with scripted([HEAD, chunk(body), PROPER_END], later, [NO_CONTENT]) as server:
        assert await collect(twin, server.url) == [MessageEvent("message", "1", id), MessageEvent("message", "2", "2")]
    assert b"last-event-id" not in server.requests[1].lower()
    assert b"\r\nLast-Event-ID: 2\r\n" in server.requests[2]
    (told,) = [record for record in caplog.records if "last event ID" in record.getMessage()]
    assert told.levelname == "INFO"
    assert id not in told.getMessage()


@pytest.mark.parametrize("id", UNCARRIED)
async def test_a_source_goes_on_from_what_another_has_had_even_if_no_header_carries_it(id: str) -> None:
    async with scripted([HEAD, chunk(b"data: 1\n\n"), Scripted.HOLD]) as server:
        messages = await collect(EventSource, server.url, 1, last_event_id=id)
        assert messages == [MessageEvent("message", "1", id)]
    assert b"last-event-id" not in server.requests[0].lower()


@pytest.mark.parametrize("id", ["a\tb", " 7\t", "x" * 4096, "é" * 2048, "\x80\x85\x9f", "\N{LINE SEPARATOR}", "\ufeff"])
@TWINS
async def test_an_id_that_a_header_carries_is_sent_without_the_blanks_around_it(twin: Any, id: str) -> None:
    async with scripted([HEAD, chunk(f"id: {id}\ndata: 1\n\n".encode()), PROPER_END], [NO_CONTENT]) as server:
        assert len(await collect(twin, server.url)) == 1
    assert b"\r\nLast-Event-ID: " + id.strip(" \t").encode() + b"\r\n" in server.requests[1]


def test_the_last_event_id_is_that_of_the_last_message_handed_over() -> None:
    source = Protocol(URL, last_event_id="0")
    source.feed(b"id: 1\n\n")
    assert source.last_event_id == "1"
    source.feed(b"id: 2\ndata: 2\n\nid: 3\ndata: 3\n\nid: 4\n\n")
    assert source.last_event_id == "1"
    assert source.next_message() == MessageEvent("message", "2", "2")
    assert source.last_event_id == "2"
    assert source.next_message() == MessageEvent("message", "3", "3")
    assert source.last_event_id == "4"
    assert source.next_message() is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"url": "ftp://test/"}, "http or https"),
        ({"url": "/events"}, "http or https"),
        ({"url": "test:3000"}, "http or https"),
        ({"url": "http://test:65536"}, "port"),
        ({"url": "http://test:0"}, "port"),
        ({"url": "http://test:port/"}, "http or https URL.*port"),
        ({"url": ""}, "http or https"),
        ({"url": "http://"}, "http or https"),
        ({"url": "http:///events"}, "http or https"),
        ({"url": "http://a b/"}, "letters, digits"),
        ({"url": "http://a..b/"}, "letters, digits"),
        ({"url": "http://.test/"}, "letters, digits"),
        ({"url": "http://" + "a" * 64}, "letters, digits"),
        ({"url": "http://" + ".".join(["a" * 63] * 4)}, "letters, digits"),
        ({"url": "http://[::1"}, "http or https URL"),
        ({"url": "http://test/\n"}, "http or https URL"),
        ({"url": "http://1.2.3.400/"}, "http or https URL"),
        ({"url": "http://\N{SNOWMAN}.net/"}, "http or https URL"),
        ({"json": {}}, "POST"),
        ({"last_event_id": "1\r\nX: 2"}, "one line"),
        ({"last_event_id": "\ud800"}, "surrogate"),
        ({"reconnect": "never"}, "after_error"),
        ({"max_reconnects": -1}, "max_reconnects"),
        ({"reconnection_time": -1}, "reconnection_time"),
        ({"reconnection_time": float("nan")}, "reconnection_time"),
        ({"heartbeat": 0}, "heartbeat"),
        ({"heartbeat": 1e300}, "heartbeat"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"connect_timeout": float("inf")}, "connect_timeout"),
        ({"follow_redirects": "always"}, "follow_redirects"),
        ({"follow_redirects": 1}, "follow_redirects"),
        ({"max_event_size": 0}, "max_event_size"),
        ({"headers": {"X": "é"}}, "ascii"),
    ],
)
@TWINS
def test_arguments_that_cant_be_used(twin: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        twin(**{"url": URL, **arguments})


@TWINS
@pytest.mark.parametrize(
    "url", ["http://[::1]:80/", "http://127.0.0.1/", "HTTP://my_service.local.:8000", "https://é.fr"]
)
def test_urls_that_are_some(twin: Any, url: str) -> None:
    assert twin(url).ready_state is ReadyState.CONNECTING


@TWINS
@pytest.mark.parametrize("url", [None, b"http://test/", 1])
def test_a_url_is_text(twin: Any, url: Any) -> None:
    with pytest.raises(TypeError, match="url"):
        twin(url)


@TWINS
def test_the_url_is_checked_with_a_client_too_unless_it_has_a_base_url(twin: Any) -> None:
    kind = httpx2.AsyncClient if twin is EventSource else httpx2.Client
    transport = httpx2.MockTransport(lambda request: httpx2.Response(204))
    for url in ("events", "ftp://test/", "http://a..b/"):
        with pytest.raises(ValueError, match="URL"):
            twin(url, client=kind(transport=transport))
    based = kind(base_url="http://test/", transport=transport)
    assert twin("events", client=based).url == "events"
    with pytest.raises(ValueError, match="URL"):
        twin("ftp://test/", client=based)


@pytest.mark.parametrize(
    ("twin", "client", "text"),
    [
        (EventSource, httpx.AsyncClient, "httpx2.AsyncClient, not httpx.AsyncClient: httpx2 is a different library"),
        (BlockingEventSource, httpx.Client, "httpx2.Client, not httpx.Client: httpx2 is a different library"),
        (EventSource, httpx2.Client, "httpx2.AsyncClient, not httpx2.Client: EventSource awaits"),
        (BlockingEventSource, httpx2.AsyncClient, "httpx2.Client, not httpx2.AsyncClient: EventSource awaits"),
        (EventSource, dict, "httpx2.AsyncClient, not builtins.dict"),
    ],
)
def test_a_client_of_another_kind_gets_a_sentence(twin: Any, client: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        twin(URL, client=client())


# -- delays, on the protocol alone

DROPPED = httpx2.ReadError("dropped")


def opened(**options: Any) -> Protocol:
    source = Protocol(URL, **options)
    reopen(source)
    return source


def reopen(source: Protocol, now: float = 0.0) -> None:
    response = httpx2.Response(200, headers=SSE_HEADERS, request=httpx2.Request("GET", URL))
    assert source.announce(response, now)


def assert_waits(delay: float | None, seconds: float) -> None:
    assert delay is not None
    assert seconds <= delay <= seconds * (1 + JITTER)


def test_the_delay_doubles_up_to_its_limit_and_starts_anew_after_a_message() -> None:
    source = opened(reconnection_time=2.0)
    for seconds in (2, 4, 8, 16, 32, 60, 60, *[60] * 2000):
        assert_waits(source.lost(DROPPED, 0.0), seconds)
    reopen(source)
    assert_waits(source.lost(None, 0.0), 60)  # it brought nothing
    reopen(source)
    source.feed(b"data: 1\n\n")
    assert_waits(source.lost(DROPPED, 0.0), 2)
    assert_waits(source.lost(DROPPED, 0.0), 4)


def test_the_delay_starts_anew_after_a_connection_that_stood() -> None:
    source = opened(reconnection_time=2.0)
    for seconds in (2, 4, 8):
        assert_waits(source.lost(DROPPED, 0.0), seconds)
    reopen(source, now=100.0)
    assert_waits(source.lost(DROPPED, 100.0 + STEADY), 2)


def test_the_servers_retry_takes_over_and_lasts() -> None:
    source = opened(reconnection_time=2.0)
    source.feed(b"retry: 12345\ndata: 1\n\n")
    assert source.reconnection_time == 12.345
    assert_waits(source.lost(DROPPED, 0.0), 12.345)
    assert_waits(source.lost(DROPPED, 0.0), 24.69)
    assert source.reconnection_time == 12.345


def test_a_retry_of_nothing_is_no_busy_loop_and_one_of_ages_no_end() -> None:
    source = opened()
    source.feed(b"retry: 0\ndata: 1\n\n")
    for seconds in (0, 1, 2, 4):
        assert_waits(source.lost(None, 0.0), seconds)
    source.feed(b"retry: 99999999999999999999\n\n")
    delay = source.lost(None, 0.0)
    assert_waits(delay, LONGEST_WAIT)
    assert delay is not None
    assert delay < threading.TIMEOUT_MAX


def refused(status: int, **headers: str) -> EventSourceError:
    request = httpx2.Request("GET", URL)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return RefusedStatus("refused", httpx2.Response(status, headers=fields, request=request))


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded_within_limits(status: int) -> None:
    source = opened(reconnection_time=1.0)
    delay = source.lost(refused(status, retry_after="100"), 0.0)
    assert delay == 100.0
    assert_waits(source.lost(refused(status, retry_after="0"), 0.0), 2.0)
    assert source.lost(refused(status, retry_after="9" * 5000), 0.0) == LONGEST_RETRY_AFTER
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=200), usegmt=True)
    delay = source.lost(refused(status, retry_after=date), 0.0)
    assert delay is not None
    assert 190 < delay <= 200
    past = format_datetime(datetime.now(UTC) - timedelta(days=1))
    assert source.lost(refused(status, retry_after=past), 0.0) is not None


@pytest.mark.parametrize(
    "value",
    [
        "Wed, 21 Oct 2015 07:28:00 +99999999999999",  # an OverflowError, once
        "Wed, 21 Oct 33333333333333333333 07:28:00 GMT",
        "Wed, 21 Oct 2015 33333333333333333333:28:00 GMT",
        "Wed, 21 Oct 0000 07:28:00 GMT",
        "Wed, 31 Feb 2015 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +9999",
        "9" * 5000 + " ",
        "-5",
        "1e400",
        "nan",
        "",
    ],
)
def test_an_absurd_retry_after_is_none_or_as_long_as_any(value: str) -> None:
    delay = opened(retry_statuses=(503,)).lost(refused(503, retry_after=value), 0.0)
    assert delay is not None
    assert delay <= LONGEST_RETRY_AFTER


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Friday, 31-Dec-49 23:59:59 GMT",
        "Fri Dec 31 23:59:59 9999",
        "Fri, 31 Dec 9999 23:59:59 -0000",  # naive, for Python's email
    ],
)
def test_a_retry_after_in_ages_is_heeded_for_as_long_as_any(date: str) -> None:
    assert opened().lost(refused(503, retry_after=date), 0.0) == LONGEST_RETRY_AFTER


@pytest.mark.parametrize("date", ["Sat, 01 Jan 0001 00:00:00 GMT", "Sat, 01 Jan 0001 00:00:00 +2359"])
def test_a_retry_after_of_ages_ago_is_over(date: str) -> None:
    delay = opened().lost(refused(503, retry_after=date), 0.0)
    assert_waits(delay, 3.0)


@TWINS
async def test_no_number_of_the_users_is_too_long_for_a_clock(twin: Any) -> None:
    source = opened(reconnection_time=float("inf"), max_reconnection_time=float("inf"))
    assert_waits(source.lost(DROPPED, 0.0), LONGEST_WAIT)
    source = opened(reconnection_time=1e300, max_reconnection_time=float("inf"))
    for _ in range(100):
        assert_waits(source.lost(DROPPED, 0.0), LONGEST_WAIT)
    async with scripted([HEAD, chunk(b"data: 1\n\n")]) as server:
        limits: dict[str, Any] = {"heartbeat": LONGEST_WAIT, "connect_timeout": LONGEST_WAIT}
        assert data_of(await collect(twin, server.url, 1, **limits)) == ["1"]


@pytest.mark.parametrize(
    ("status", "headers"), [(503, {}), (429, {}), (500, {"retry_after": "1"}), (503, {"retry_after": "soon"})]
)
def test_other_statuses_fail_the_connection(status: int, headers: dict[str, str]) -> None:
    source = opened()
    error = refused(status, **headers)
    with pytest.raises(RefusedStatus):
        source.lost(error, 0.0)
    assert source.ready_state is ReadyState.CLOSED
    assert opened(retry_statuses=(status,)).lost(error, 0.0) is not None


@pytest.mark.parametrize(
    "error", [httpx2.UnsupportedProtocol(""), httpx2.LocalProtocolError(""), httpx2.DecodingError("")]
)
def test_what_would_fail_again_is_not_tried_again(error: httpx2.HTTPError) -> None:
    with pytest.raises(type(error)):
        opened().lost(error, 0.0)


def test_max_reconnects_counts_those_in_a_row_that_bring_nothing() -> None:
    source = opened(max_reconnects=2)
    for _ in range(3):
        assert source.lost(DROPPED, 0.0) is not None
        reopen(source)
        source.feed(b"data: 1\n\n")
    assert source.lost(DROPPED, 0.0) is not None
    assert source.lost(DROPPED, 0.0) is not None
    with pytest.raises(httpx2.ReadError):
        source.lost(DROPPED, 0.0)
    assert opened(max_reconnects=0).lost(None, 0.0) is None


# -- delays, on virtual time


def streaming(content: Any) -> httpx2.Response:
    return httpx2.Response(200, headers=SSE_HEADERS, content=content)


@VIRTUAL
async def test_the_states_and_calls_of_a_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    told: list[Any] = []
    answers: Iterator[Any] = iter(
        [
            streaming(b"retry: 5000\nid: 1\ndata: 1\n\n"),
            httpx2.ConnectError("refused"),
            httpx2.Response(503, headers={"Retry-After": "70"}),
            streaming(b"id: 2\ndata: 2\n\n"),
            httpx2.Response(204),
        ]
    )

    def handle(request: httpx2.Request) -> httpx2.Response:
        told.append((source.ready_state.name, anyio.current_time() - start, request.headers.get("last-event-id")))
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx2.Response)
        return answer

    def on_open(response: httpx2.Response) -> None:
        assert source.response is response
        told.append(source.ready_state.name)

    def on_reconnect(delay: float, error: httpx2.HTTPError | None) -> None:
        assert source.ready_state is ReadyState.CONNECTING
        told.append((delay, type(error)))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client:
        source = EventSource(URL, client=client, on_open=on_open, on_reconnect=on_reconnect)
        start = anyio.current_time()
        async with source:
            assert data_of([message async for message in source]) == ["1", "2"]
        assert not client.is_closed
    assert told == [
        ("CONNECTING", pytest.approx(0, abs=0.1), None),
        "OPEN",
        (5.0, type(None)),
        ("CONNECTING", pytest.approx(5, abs=0.1), "1"),
        (10.0, httpx2.ConnectError),
        ("CONNECTING", pytest.approx(15, abs=0.1), "1"),
        (70.0, RefusedStatus),
        ("CONNECTING", pytest.approx(85, abs=0.1), "1"),
        "OPEN",
        (5.0, type(None)),
        ("CONNECTING", pytest.approx(90, abs=0.1), "2"),
    ]
    assert source.ready_state is ReadyState.CLOSED


@VIRTUAL
async def test_patience_waits_for_a_server_that_is_not_up_yet() -> None:
    attempts = 0

    def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal attempts
        attempts += 1
        if attempts < 6:
            raise httpx2.ConnectError("refused")
        return streaming(b"data: 1\n\n")

    start = anyio.current_time()
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client:
        assert data_of(await collect(EventSource, URL, 1, client=client, patient=True, reconnection_time=3.0)) == ["1"]
        least = 3 + 6 + 12 + 24 + 48
        assert least <= anyio.current_time() - start <= least * (1 + JITTER) + 1

        attempts = 0
        with pytest.raises(httpx2.ConnectError):
            await collect(EventSource, URL, client=client, patient=True, max_reconnects=3)
        assert attempts == 4


@VIRTUAL
async def test_closing_ends_a_wait_for_a_reconnection() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        return streaming(b"retry: 60000\n\n")

    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client,
        EventSource(URL, client=client) as source,
        anyio.create_task_group() as tasks,
    ):
        start = anyio.current_time()
        tasks.start_soon(closed_later, source)
        assert [message async for message in source] == []
        assert anyio.current_time() - start < 11


async def test_a_close_just_as_the_answer_comes_stays_a_close() -> None:
    asked, again, answered = anyio.Event(), anyio.Event(), anyio.Event()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        if not asked.is_set():
            asked.set()
            return streaming(b"retry: 0\ndata: 1\n\n")
        again.set()
        await answered.wait()
        return streaming(b"data: 2\n\n")

    messages: list[MessageEvent] = []

    async def iterate(source: EventSource) -> None:
        messages.extend([message async for message in source])

    async with (
        httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client,
        EventSource(URL, client=client) as source,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(iterate, source)
        await again.wait()
        answered.set()
        await source.aclose()
        assert source.ready_state is ReadyState.CLOSED
    assert data_of(messages) == ["1"]


async def closed_later(source: EventSource) -> None:
    await anyio.sleep(10)
    await source.aclose()


@VIRTUAL
async def test_a_stream_may_be_silent_for_hours() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await anyio.sleep(12 * 3600)
        yield b"data: 2\n\n"

    def handle(request: httpx2.Request) -> httpx2.Response:
        return streaming(slow())

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), timeout=1.0) as client:
        assert data_of(await collect(EventSource, URL, 2, client=client)) == ["1", "2"]


def test_the_blocking_twin_waits_as_long() -> None:
    waits: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            return False

    def handle(request: httpx2.Request) -> httpx2.Response:
        if len(waits) == 0:
            return streaming(iter([b"retry: 5000\ndata: 1\n\n"]))
        if len(waits) == 1:
            raise httpx2.ConnectTimeout("slow")
        if len(waits) == 2:
            return httpx2.Response(429, headers={"Retry-After": "123"})
        return httpx2.Response(204)

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as client:
        source = BlockingEventSource(URL, client=client)
        source._closing = Clock()
        with source:
            assert data_of(list(source)) == ["1"]
        assert not client.is_closed
    assert_waits(waits[0], 5)
    assert_waits(waits[1], 10)
    assert waits[2:] == [123.0]


async def test_a_base_url_of_the_users_client_is_used() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        assert str(request.url) == "http://base/api/events"
        return streaming(b"data: 1\n\n")

    async with httpx2.AsyncClient(base_url="http://base/api", transport=httpx2.MockTransport(handle)) as client:
        assert data_of(await collect(EventSource, "events", 1, client=client)) == ["1"]


# -- the import


@pytest.fixture
def without_httpx2() -> Callable[[str], subprocess.CompletedProcess[str]]:
    def run(code: str) -> subprocess.CompletedProcess[str]:
        block = "import sys; sys.modules['httpx2'] = None\n"
        return subprocess.run(
            [sys.executable, "-c", block + code], capture_output=True, text=True, timeout=30, check=False
        )

    return run


def test_the_client_is_imported_when_it_is_asked_for() -> None:
    code = "import sys, h3ref; assert 'httpx2' not in sys.modules; h3ref.EventSource; assert 'httpx2' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_without_httpx2_the_rest_works_and_the_client_says_what_to_install(without_httpx2: Any) -> None:
    ended = without_httpx2("import h3ref\nfrom h3ref import EventSource")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == 'ImportError: EventSource needs httpx2: pip install "h3ref[client]"'
    assert without_httpx2("import h3ref; h3ref.H3App()").returncode == 0
