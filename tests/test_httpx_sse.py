"""httpx-sse, a client that others use, reads our streams: asynchronously on both event loops, and blocking."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import H3App, H3Event, SSEEvent, SSEWriter, running
from tests.conftest import require_module

pytestmark = pytest.mark.anyio

EVENTS = (
    SSEEvent("plain"),
    SSEEvent("typed", event="größe: ☂", id="ключ 1"),
    SSEEvent("one\ntwo\n\nfour\n", id="2"),
    SSEEvent("", event="empty"),
    SSEEvent("  Grüße, 日本語, 🎉 "),
    SSEEvent("no line ends: \x0b \x0c \x1c \x1d \x1e \x85 \u2028 \u2029"),
    SSEEvent("later", retry=1500, comment="with a comment"),
    SSEEvent("".join(f"{number} ☂\n" for number in range(120_000)), event="large", id=""),
    SSEEvent("last"),
)

Received = tuple[str, str, str, int | None]

RECEIVED: list[Received] = [
    ("message", "plain", "", None),
    ("größe: ☂", "typed", "ключ 1", None),
    ("message", "one\ntwo\n\nfour\n", "2", None),
    ("empty", "", "2", None),
    ("message", "  Grüße, 日本語, 🎉 ", "2", None),
    ("message", "no line ends: \x0b \x0c \x1c \x1d \x1e \x85 \u2028 \u2029", "2", None),
    ("message", "later", "2", 1500),
    ("large", "".join(f"{number} ☂\n" for number in range(120_000)), "", None),
    ("message", "last", "", None),
]


@pytest.fixture
def httpx() -> Any:
    return require_module("httpx", "httpx")


@pytest.fixture
def httpx_sse(httpx: Any) -> Any:
    return require_module("httpx_sse", "httpx-sse")


def received(message: Any) -> Received:
    return message.event, message.data, message.id, message.retry


def sending(*, breaks: bool = False) -> H3App:
    """A stream of the events, comments before them, that ends properly or breaks off."""
    app = H3App()

    async def send(writer: SSEWriter) -> None:
        # Comments come before the first id, see below what becomes of later ones.
        await writer.send_event(SSEEvent(comment="data: none"))
        await writer.send_keep_alive()
        for message in EVENTS:
            await writer.send_event(message)
        if breaks:
            raise RuntimeError("on purpose")

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(send)

    return app


async def test_it_receives_what_was_sent(httpx: Any, httpx_sse: Any) -> None:
    async with (
        running(sending()) as server,
        httpx.AsyncClient() as client,
        httpx_sse.aconnect_sse(client, "GET", f"{server.url}/events") as source,
    ):
        assert [received(message) async for message in source.aiter_sse()] == RECEIVED


async def test_after_an_id_it_makes_an_empty_message_of_each_block_without_data(httpx: Any, httpx_sse: Any) -> None:
    app = H3App()

    async def send(writer: SSEWriter) -> None:
        await writer.send_keep_alive()
        await writer.send_event(SSEEvent("one", event="word", id="7"))
        await writer.send_keep_alive()
        await writer.send_event(SSEEvent(comment="a comment"))
        await writer.send_event(SSEEvent("two", event="word"))

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(send)

    one, two, nothing = ("word", "one", "7", None), ("word", "two", "7", None), ("message", "", "7", None)
    async with (
        running(app) as server,
        httpx.AsyncClient() as client,
        httpx_sse.aconnect_sse(client, "GET", f"{server.url}/events") as source,
    ):
        found = [received(message) async for message in source.aiter_sse()]
    assert found == [one, nothing, nothing, two], "the standard knows no message without data: tell users what it does"


async def test_the_blocking_client_receives_the_same(httpx: Any, httpx_sse: Any) -> None:
    def receive(url: str) -> list[Received]:
        with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
            return [received(message) for message in source.iter_sse()]

    async with running(sending()) as server:
        assert await anyio.to_thread.run_sync(receive, f"{server.url}/events") == RECEIVED


async def test_a_cut_body_is_an_error_after_what_was_sent(httpx: Any, httpx_sse: Any) -> None:
    async with (
        running(sending(breaks=True)) as server,
        httpx.AsyncClient() as client,
        httpx_sse.aconnect_sse(client, "GET", f"{server.url}/events") as source,
    ):
        messages = source.aiter_sse()
        assert [received(await anext(messages)) for _ in RECEIVED] == RECEIVED
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await anext(messages)


async def test_events_come_as_they_are_sent(httpx: Any, httpx_sse: Any) -> None:
    app = H3App()
    shown = anyio.Event()

    @app.sse("/prompt", method="POST")
    async def prompt(event: H3Event) -> Any:
        for word in (await event.read_json())["prompt"].split():
            yield SSEEvent(word, event="word")
            await shown.wait()

    async with running(app) as server, httpx.AsyncClient() as client:
        json = {"prompt": "grüne ☂"}
        with anyio.fail_after(10):
            async with httpx_sse.aconnect_sse(client, "POST", f"{server.url}/prompt", json=json) as source:
                messages = source.aiter_sse()
                assert received(await anext(messages)) == ("word", "grüne", "", None)
                shown.set()
                assert [received(message) async for message in messages] == [("word", "☂", "", None)]


async def test_it_goes_on_after_the_last_event_id(httpx: Any, httpx_sse: Any) -> None:
    app = H3App()

    @app.sse("/events")
    async def events(event: H3Event) -> Any:
        number = len(event.last_event_id)
        yield SSEEvent(str(number), id="☂" * (number + 1))

    found, last_event_id = [], ""
    async with running(app) as server, httpx.AsyncClient() as client:
        for _ in range(3):
            headers = {"Last-Event-ID": last_event_id.encode()}
            async with httpx_sse.aconnect_sse(client, "GET", f"{server.url}/events", headers=headers) as source:
                async for message in source.aiter_sse():
                    found.append(message.data)
                    last_event_id = message.id
    assert found == ["0", "1", "2"]


async def test_a_failure_before_the_stream_is_a_500_and_no_event_stream(httpx: Any, httpx_sse: Any) -> None:
    app = H3App()

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        raise RuntimeError("on purpose")

    async with (
        running(app) as server,
        httpx.AsyncClient() as client,
        httpx_sse.aconnect_sse(client, "GET", f"{server.url}/events") as source,
    ):
        assert source.response.status_code == 500
        with pytest.raises(httpx_sse.SSEError, match="text/plain"):
            await anext(source.aiter_sse())


async def test_leaving_cancels_the_stream(httpx: Any, httpx_sse: Any) -> None:
    app = H3App()
    left = anyio.Event()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            try:
                await writer.send_event("1")
                await anyio.sleep_forever()
            finally:
                left.set()

    with anyio.fail_after(10):
        async with running(app) as server, httpx.AsyncClient() as client:
            with anyio.CancelScope() as scope:
                async with httpx_sse.aconnect_sse(client, "GET", f"{server.url}/events") as source:
                    async for message in source.aiter_sse():
                        assert message.data == "1"
                        assert not left.is_set()
                        scope.cancel()
            await left.wait()
