"""The examples: each one is talked to as its reader would, the long ones under virtual time."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import runpy
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import ModuleType

import anyio
import pytest

from h3ref import examples, flows, running
from h3ref.adapters.memory import open_memory
from h3ref.app import H3App
from h3ref.connection import End
from h3ref.event import H3Event
from h3ref.examples import callback, chat, counter, minimal, proxy, text
from h3ref.lifecycle import State
from h3ref.sse import EventStreamParser, MessageEvent, SSEEvent
from h3ref.testing import virtual_backends
from h3ref.trace import Record
from h3ref.writer import SSEWriter, stream_of
from tests.clients import ClientLike, ReplyLike, open_client, server_of

pytestmark = pytest.mark.anyio

NAMES = [module.name for module in pkgutil.iter_modules(examples.__path__)]
PAGES = {"counter": counter.PAGE, "text": text.PAGE, "chat": chat.PAGE}

virtual_time = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio-virtual", "trio-virtual"])


class Reader:
    """Reads a reply's messages one by one."""

    def __init__(self, reply: ReplyLike) -> None:
        self.reply = reply
        self._parser = EventStreamParser()
        self._messages: list[MessageEvent] = []

    async def next(self) -> MessageEvent | None:
        """Wait for the next message; None at the end of the stream."""
        while not self._messages:
            data = await self.reply.receive()
            if not data:
                return None
            self._messages += self._parser.feed(data)
        return self._messages.pop(0)

    async def rest(self) -> list[MessageEvent]:
        """Return all messages until the end of the stream."""
        messages = []
        while message := await self.next():
            messages.append(message)
        return messages


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"h3ref.examples.{name}")


# All of them


def test_there_are_the_six_examples_of_h3z() -> None:
    assert NAMES == ["callback", "chat", "counter", "minimal", "proxy", "text"]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_an_app(name: str) -> None:
    assert isinstance(module_of(name).app, H3App)


@pytest.mark.parametrize("name", NAMES)
def test_every_docstring_says_how_to_start_the_example_and_asks_for_paths_that_it_has(name: str) -> None:
    module = module_of(name)
    said = module.__doc__ or ""
    assert f"python -m h3ref serve h3ref.examples.{name}:app" in said
    asked = re.findall(r"http://127\.0\.0\.1:3000(/[^\s'?]*)(.* -d )?", said)
    assert asked
    for path, is_post in asked:
        assert module.app.match("POST" if is_post else "GET", path).handler, path


def test_minimal_is_a_program_that_serves_its_app(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[object] = []
    monkeypatch.setattr("h3ref.serve", served.append)
    ran = runpy.run_path(str(minimal.__file__), run_name="__main__")
    assert served == [ran["app"]]


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_needs_no_other_host_and_reads_a_stream_of_its_own_app(name: str, adapter: str) -> None:
    app = module_of(name).app
    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/")
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        page = (await reply.read()).decode()
    assert page == PAGES[name]
    assert not re.search(r"//\w|innerHTML|document\.write", page)
    (path,) = re.findall(r'new EventSource\("([^"?]+)', page)
    assert app.match("GET", path).handler


@pytest.mark.parametrize("name", ["counter", "text"])
def test_a_page_of_a_stream_that_ends_closes_its_source_so_that_the_browser_stays_away(name: str) -> None:
    assert re.search(r'addEventListener\("done",[^;]*source\.close\(\)', PAGES[name])


# minimal


async def test_minimal_sends_its_one_event(adapter: str) -> None:
    async with open_client(adapter, minimal.app) as client:
        reply = await client.request("GET", "/events")
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        assert await reply.read() == b"data: hello\n\n"
        assert reply.end is End.PROPER


# counter


@virtual_time
async def test_counter_ticks_once_a_second_from_0_to_9_and_is_done() -> None:
    async with open_memory(counter.app) as client:
        reply = await client.request("GET", "/events")
        start, ticks = anyio.current_time(), []
        while data := await reply.receive():
            ticks.append((round(anyio.current_time() - start), data))
        assert reply.end is End.PROPER
    sent = [b"event: counter\nid: %d\ndata: %d\n\n" % (number, number) for number in range(10)]
    assert len(sent[0]) == 30
    assert ticks == list(enumerate([*sent, b"event: done\ndata: that was all\n\n"]))


@virtual_time
async def test_a_counter_that_broke_off_goes_on_where_it_was() -> None:
    async with open_memory(counter.app) as client:
        reader = Reader(await client.request("GET", "/events"))
        seen = [await reader.next() for _ in range(4)]
        reader.reply.disconnect()
        last = seen[-1]
        assert last is not None
        reply = await client.request("GET", "/events", headers={"Last-Event-ID": last.last_event_id})
        seen += await Reader(reply).rest()
    assert [message.data for message in seen if message] == [*map(str, range(10)), "that was all"]


@virtual_time
@pytest.mark.parametrize(
    ("last_event_id", "first"),
    [("8", "9"), ("9", None), ("99", None), ("-7", "0"), ("", "0"), ("x", "0"), ("9" * 5000, "0"), ("1.5", "0")],
    ids=["8", "the last", "beyond", "negative", "empty", "a word", "huge", "a fraction"],
)
async def test_counter_takes_any_last_event_id(last_event_id: str, first: str | None) -> None:
    async with open_memory(counter.app) as client:
        reply = await client.request("GET", "/events", headers={"Last-Event-ID": last_event_id})
        message = await Reader(reply).next()
        assert message
        assert message[:2] == (("counter", first) if first else ("done", "that was all"))


async def test_counters_first_event_comes_over_a_socket_at_once_in_30_bytes() -> None:
    with anyio.fail_after(10):
        async with open_client("h11_anyio", counter.app) as client:
            reply = await client.request("GET", "/events")
            assert await reply.receive() == b"event: counter\nid: 0\ndata: 0\n\n"
            reply.disconnect()
            while server_of(client).service.live:  # the callback is cancelled in its sleep
                await anyio.lowlevel.checkpoint()


# text


@virtual_time
async def test_the_characters_of_text_are_the_text() -> None:
    async with open_memory(text.app) as client:
        reply = await client.request("GET", "/events")
        messages = await Reader(reply).rest()
        assert reply.end is End.PROPER
    assert "".join(message.data for message in messages[:-1]) == text.TEXT
    assert {message.type for message in messages[:-1]} == {"char"}
    assert messages[-1].type == "done"
    assert all(len(message.data) == 1 for message in messages[:-1])


async def test_text_comes_over_a_socket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PAUSE", 0)
    with anyio.fail_after(10):
        async with open_client("h11_anyio", text.app) as client:
            reply = await client.request("GET", "/events")
            messages = await Reader(reply).rest()
    assert "".join(message.data for message in messages[:-1]) == text.TEXT
    assert reply.end is End.PROPER


# callback

FIXED = ["/callback", "/awaited", "/blocking"]
H3Z_LOG = [
    ("h3ref.examples.callback", "ERROR", "Failed to get SSE writer after 10 attempts"),
    ("h3ref.flows", "DEBUG", "SSE mode detected, setting up streaming connection"),
    ("h3ref.flows", "DEBUG", "SSE headers sent, 124 bytes"),
]


async def test_broken_puts_124_bytes_on_the_wire_and_then_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "h3ref")
    steps: list[Record] = []
    with anyio.fail_after(10):
        async with (
            running(callback.app, flow=flows.broken, trace=steps.append) as server,
            await anyio.connect_tcp("127.0.0.1", server.port) as stream,
        ):
            await stream.send(b"GET /broken HTTP/1.1\r\nHost: test\r\n\r\n")
            head = b""
            while len(head) < 124:
                head += await stream.receive()
            with anyio.move_on_after(0.1) as silence:  # that nothing comes can only be waited for
                head += await stream.receive()
            assert silence.cancelled_caught
            (exchange,) = server.service.live
            assert exchange.state is State.HEADERS_SENT  # the socket is open, and nobody writes
    assert len(head) == 124
    assert head == (
        b"HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
        b"Content-Type: text/event-stream\r\nConnection: keep-alive\r\n\r\n"
    )
    logged = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert [entry for entry in logged if entry in H3Z_LOG] == H3Z_LOG
    assert [step.error for step in steps if step.step == "get_sse_writer"] == ["ConnectionNotReady"] * 10


@virtual_time
async def test_broken_is_still_silent_after_an_hour() -> None:
    async with open_memory(callback.app, flow=flows.broken) as client:
        reply = await client.request("GET", "/broken")
        with anyio.move_on_after(3600) as hour:
            await reply.receive()
        assert hour.cancelled_caught
        assert (reply.status, reply.end) == (200, None)


async def test_the_same_handler_on_the_default_flow_is_answered_at_once(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(10):
        async with open_client(adapter, callback.app) as client:
            reply = await client.request("GET", "/broken")
            assert reply.status == 500
            assert b"set_stream_callback" in await reply.read()
            assert reply.end is End.PROPER
    logged = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert [entry for entry in logged if entry in H3Z_LOG] == H3Z_LOG[:1]


@pytest.mark.parametrize("path", FIXED)
async def test_each_fixed_flow_sends_the_same_four_events_and_the_proper_end(adapter: str, path: str) -> None:
    encoded = [message.encode() for message in callback.EVENTS]
    assert [len(data) for data in encoded] == [41, 12, 46, 20]  # as in the measurement of H3Z: 243 with its head
    with anyio.fail_after(10):
        async with open_client(adapter, callback.app) as client:
            reply = await client.request("GET", path)
            assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
            assert await reply.read() == b"".join(encoded)
            assert reply.end is End.PROPER


@pytest.mark.parametrize(("path", "status"), [("/callback", 200), ("/awaited", 500), ("/blocking", 500)])
async def test_on_the_broken_flow_the_other_handlers_get_no_writer_either(path: str, status: int) -> None:
    with anyio.fail_after(10):
        async with open_memory(callback.app, flow=flows.broken) as client:
            reply = await client.request("GET", path)
            assert reply.status == status
            assert (reply.end is None) == (status == 200)


# chat


@pytest.fixture
def empty_room() -> Iterator[H3App]:
    """The chat with nothing said so far."""
    yield importlib.reload(chat).app
    importlib.reload(chat)


async def join(client: ClientLike, user: str, **headers: str) -> Reader:
    return Reader(await client.request("GET", f"/chat/events?user={user}", headers=headers))


async def send(client: ClientLike, user: str, text: str) -> None:
    reply = await client.request("POST", "/chat/send", body=json.dumps({"user": user, "text": text}).encode())
    assert (reply.status, json.loads(await reply.read())) == (200, {"sent": True})


async def heard(reader: Reader, count: int) -> list[str]:
    """The next messages as a page would show them, with their ids."""
    lines = []
    for _ in range(count):
        message = await reader.next()
        assert message
        said = message.json()
        words = f"{said['user']}: {said['text']}" if message.type == "message" else f"{said['user']} {message.type}s"
        lines.append(f"{message.last_event_id} {words}")
    return lines


async def test_chatters_see_each_others_messages_and_who_comes_and_goes(adapter: str, empty_room: H3App) -> None:
    with anyio.fail_after(10):
        async with open_client(adapter, empty_room) as client:
            ann = await join(client, "ann")
            assert await heard(ann, 1) == ["1 ann joins"]
            bob = await join(client, "bob")
            assert await heard(bob, 2) == ["1 ann joins", "2 bob joins"]
            await send(client, "ann", "hi")
            await send(client, "bob", "hello\nthere ☂")
            assert await heard(ann, 3) == ["2 bob joins", "3 ann: hi", "4 bob: hello\nthere ☂"]
            assert await heard(bob, 2) == ["3 ann: hi", "4 bob: hello\nthere ☂"]
            bob.reply.disconnect()
            assert await heard(ann, 1) == ["5 bob leaves"]


async def test_a_newcomer_gets_the_history_and_who_comes_back_what_was_missed(adapter: str, empty_room: H3App) -> None:
    with anyio.fail_after(10):
        async with open_client(adapter, empty_room) as client:
            for text in ("one", "two", "three"):
                await send(client, "ann", text)
            newcomer = await join(client, "bob")
            assert await heard(newcomer, 4) == ["1 ann: one", "2 ann: two", "3 ann: three", "4 bob joins"]
            back = await join(client, "cid", **{"Last-Event-ID": "2"})
            assert await heard(back, 3) == ["3 ann: three", "4 bob joins", "5 cid joins"]


async def test_what_somebody_wrote_reaches_the_page_as_it_was_written(adapter: str, empty_room: H3App) -> None:
    evil = "<img src=x onerror=alert(1)>\r\nid: 99\n\ndata: \ud800"
    with anyio.fail_after(10):
        async with open_client(adapter, empty_room) as client:
            ann = await join(client, "%3Cb%3E%0Aid%3A%201")
            await send(client, "ann", evil)
            first, second = await ann.next(), await ann.next()
    assert first
    assert second
    assert (first.json(), first.last_event_id) == ({"user": "<b>\nid: 1"}, "1")
    assert (second.json()["text"], second.last_event_id) == (evil, "2")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[]", 422, "an object"),
        (b'"ann"', 422, "an object"),
        (b"{}", 422, '"user"'),
        (b'{"user": "ann"}', 422, '"text"'),
        (b'{"user": "ann", "text": 1}', 422, '"text"'),
        (b'{"user": " ", "text": "hi"}', 422, '"user"'),
        (b'{"user": "ann", "text": ""}', 422, '"text"'),
        (b'{"user": "%s", "text": "hi"}' % (b"x" * 31), 422, "1 to 30"),
        (b'{"user": "ann", "text": "%s"}' % (b"x" * 2001), 422, "1 to 2000"),
    ],
)
async def test_what_is_no_message_is_refused_and_reaches_nobody(
    adapter: str, empty_room: H3App, body: bytes, status: int, said: str
) -> None:
    with anyio.fail_after(10):
        async with open_client(adapter, empty_room) as client:
            ann = await join(client, "ann")
            reply = await client.request("POST", "/chat/send", body=body)
            assert reply.status == status
            assert said in (await reply.read()).decode()
            await send(client, "ann", "hi")
            assert await heard(ann, 2) == ["1 ann joins", "2 ann: hi"]


@virtual_time
async def test_a_chatter_who_stops_reading_holds_up_nobody_and_comes_back_to_the_history(empty_room: H3App) -> None:
    async with open_memory(empty_room) as client:
        sleeper = await join(client, "sleeper")
        start, count = anyio.current_time(), 2 * 1024 * 1024 // chat.MAX_TEXT  # more than waits for anybody
        for _ in range(count):
            await send(client, "ann", "x" * chat.MAX_TEXT)
        assert anyio.current_time() == start, "somebody waited"
        had = await sleeper.rest()
        assert sleeper.reply.end is End.CUT
        last = had[-1].last_event_id
        await send(client, "ann", "awake again")
        back = await join(client, "sleeper", **{"Last-Event-ID": last})
        missed = await back.next()
        assert missed
        assert int(missed.last_event_id) > int(last)


async def test_a_nameless_chatter_is_somebody(empty_room: H3App) -> None:
    with anyio.fail_after(10):
        async with open_memory(empty_room) as client:
            assert await heard(await join(client, "%20"), 1) == ["1 somebody joins"]
            assert await heard(await join(client, "x" * 99, **{"Last-Event-ID": "1"}), 1) == [f"2 {'x' * 30} joins"]


# proxy


class UpstreamApp(H3App):
    """An upstream whose stream the test writes; it remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[H3Event] = []
        self.steps: list[Record] = []
        self.ended = anyio.Event()
        self._send, self._receive = anyio.create_memory_object_stream[SSEEvent | bytes | Exception](100)
        self.get("/feed", self._feed)
        self.get("/text", lambda event: event.send_text("no stream"))

    def supply(self, *items: SSEEvent | bytes | Exception) -> None:
        """Let the stream send events, bytes that are none of ours, or fail."""
        for item in items:
            self._send.send_nowait(item)

    def finish(self) -> None:
        """Let the stream end properly once all is sent."""
        self._send.close()

    def _feed(self, event: H3Event) -> None:
        self.asked.append(event)
        event.start_sse()
        event.set_stream_callback(self._stream)

    async def _stream(self, writer: SSEWriter) -> None:
        try:
            async for item in self._receive:
                if isinstance(item, Exception):
                    raise item
                await stream_of(writer).send(item if isinstance(item, bytes) else item.encode())
        finally:
            self._send.close()
            self._receive.close()
            self.ended.set()


@asynccontextmanager
async def proxied(
    monkeypatch: pytest.MonkeyPatch, path: str = "/feed"
) -> AsyncIterator[tuple[UpstreamApp, ClientLike]]:
    """The proxy in front of an upstream of the test's."""
    upstream = UpstreamApp()
    with anyio.fail_after(10):
        async with (
            running(upstream, trace=upstream.steps.append) as server,
            open_client("h11_anyio", proxy.app) as client,
        ):
            monkeypatch.setenv("H3REF_UPSTREAM", server.url + path)
            yield upstream, client
    upstream._send.close()
    upstream._receive.close()


async def test_proxy_passes_the_stream_on_in_capitals_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(monkeypatch, "/feed?a=b") as (upstream, client):
        upstream.supply(SSEEvent("one", id="1", event="word"))
        reader = Reader(await client.request("GET", "/events"))
        assert await reader.next() == ("word", "ONE", "1")  # as it comes, not at the end
        upstream.supply(SSEEvent(comment="nothing"), SSEEvent("straße\nß ☂", id="zwei ☂"), SSEEvent(""))
        upstream.finish()
        assert await reader.rest() == [("message", "STRASSE\nSS ☂", "zwei ☂"), ("message", "", "zwei ☂")]
        assert reader.reply.end is End.PROPER
        (asked,) = upstream.asked
        assert asked.target == "/feed?a=b"
        assert asked.headers["accept"] == "text/event-stream"
        assert "last-event-id" not in asked.headers


async def test_proxy_passes_the_last_event_id_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(monkeypatch) as (upstream, client):
        upstream.finish()
        reply = await client.request("GET", "/events", headers={"Last-Event-ID": "4711"})
        assert (await reply.read(), reply.end) == (b"", End.PROPER)
        assert [event.last_event_id for event in upstream.asked] == ["4711"]


async def test_proxy_outlives_a_type_and_ids_that_cant_be_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxied(monkeypatch) as (upstream, client):
        upstream.supply(b"id: 1\ndata: one\n\n", b"id: 2\x1b\ndata: two\n\n", b"id: 3 \nevent: a\0b\ndata: three\n\n")
        upstream.supply(b"id: " + b"4" * 5000 + b"\ndata: four\n\n", b"id: 5\ndata: five\n\n")
        upstream.finish()
        reader = Reader(await client.request("GET", "/events"))
        expected = [("ONE", "1"), ("TWO", "1"), ("THREE", "1"), ("FOUR", "1"), ("FIVE", "5")]
        assert [(message.data, message.last_event_id) for message in await reader.rest()] == expected
        assert reader.reply.end is End.PROPER
    assert [record.levelname for record in caplog.records if record.name == "h3ref.sse"] == ["WARNING"] * 4


async def test_proxy_closes_its_upstream_when_its_client_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(monkeypatch) as (upstream, client):
        upstream.supply(SSEEvent("one"))
        reader = Reader(await client.request("GET", "/events"))
        await reader.next()
        reader.reply.disconnect()
        await upstream.ended.wait()
        assert [step.step for step in upstream.steps][-1] == "disconnect"


async def test_proxys_stream_breaks_off_where_its_upstream_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(monkeypatch) as (upstream, client):
        upstream.supply(SSEEvent("one"), RuntimeError("the upstream fails"))
        reader = Reader(await client.request("GET", "/events"))
        assert await reader.rest() == [("message", "ONE", "")]
        assert reader.reply.end is End.CUT


@pytest.mark.parametrize("path", ["/nowhere", "/text"], ids=["404", "no event stream"])
async def test_an_upstream_without_a_stream_is_a_502(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with proxied(monkeypatch, path) as (_, client):
        reply = await client.request("GET", "/events")
        assert (reply.status, await reply.read()) == (502, b"the upstream can't be read")


@pytest.mark.parametrize("listens", [False, True], ids=["refused", "never answers"])
async def test_an_upstream_that_nobody_serves_is_a_502(monkeypatch: pytest.MonkeyPatch, listens: bool) -> None:
    monkeypatch.setattr(proxy, "TIMEOUT", 0.05 if listens else 60.0)
    with socket.socket() as deaf, anyio.fail_after(10):
        deaf.bind(("127.0.0.1", 0))
        if listens:
            deaf.listen()  # and nobody accepts
        monkeypatch.setenv("H3REF_UPSTREAM", f"http://127.0.0.1:{deaf.getsockname()[1]}/feed")
        async with open_client("h11_anyio", proxy.app) as client:
            assert (await client.request("GET", "/events")).status == 502


async def test_only_an_http_url_is_an_upstream() -> None:
    with pytest.raises(ValueError, match="http URL"):
        await proxy.Upstream.open("file:///etc/hosts", "")


async def test_proxy_has_an_upstream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "PAUSE", 0)
    with anyio.fail_after(10):
        async with open_client("h11_anyio", proxy.app) as client:
            monkeypatch.setenv("H3REF_UPSTREAM", f"{server_of(client).url}/upstream")
            messages = await Reader(await client.request("GET", "/events")).rest()
    assert " ".join(message.data for message in messages) == proxy.SENTENCE.upper()
    assert [message.last_event_id for message in messages] == [str(number) for number in range(len(messages))]
    assert proxy.DEFAULT_UPSTREAM == "http://127.0.0.1:3000/upstream"
