"""Headers of an answer that are the server's business, wherever an app sets them; and what makes a stream one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, SSEWriter
from h3ref.connection import End
from h3ref.cors import cors
from tests.clients import open_client

pytestmark = pytest.mark.anyio

HOP_BY_HOP = {
    "Connection": "keep-alive",
    "KEEP-ALIVE": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "TE": "trailers",
    "Trailer": "X-Sum",
    "Transfer-Encoding": "chunked",
    "upgrade": "h2c",
}
"""All that RFC 9110, section 7.6.1, and the RFCs before it name."""

FLOWS = ("callback", "awaited", "blocking", "generated", "blocking-generated", "plain")

Set = Callable[[H3Event], None]


def app_of(in_handler: Set = lambda event: None) -> H3App:
    """An app with a route for each flow, and a plain one, whose handlers set headers first."""
    app = H3App()

    async def one(writer: SSEWriter) -> None:
        await writer.send_event("1")

    @app.get("/callback")
    async def callback(event: H3Event) -> None:
        in_handler(event)
        event.start_sse()
        event.set_stream_callback(one)

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        in_handler(event)
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        in_handler(event)
        writer: BlockingSSEWriter
        with event.start_sse_blocking() as writer:
            writer.send_event("1")

    @app.sse("/generated")
    async def generated(event: H3Event) -> AsyncIterator[str]:
        in_handler(event)
        yield "1"

    @app.sse("/blocking-generated")
    def blocking_generated(event: H3Event) -> Any:
        in_handler(event)
        yield "1"

    @app.get("/plain")
    def plain(event: H3Event) -> None:
        in_handler(event)
        event.send_text("1")

    return app


def set_all(event: H3Event) -> None:
    for name, value in HOP_BY_HOP.items():
        event.set_header(name, value)
        event.set_header(name, value, append=True)


def set_in_handler() -> H3App:
    return app_of(set_all)


def set_on_request() -> H3App:
    app = app_of()
    app.on_request(set_all)
    return app


def set_on_response() -> H3App:
    app = app_of()
    app.on_response(set_all)
    return app


def set_beside_cors() -> H3App:
    app = app_of()
    cors(app, origins=["*"], headers=["Connection"], expose=["Keep-Alive"])
    app.on_response(set_all)
    return app


@pytest.mark.parametrize("make", [set_in_handler, set_on_request, set_on_response, set_beside_cors])
async def test_what_is_about_the_connection_is_ignored_with_one_line_in_the_log(
    adapter: str, make: Callable[[], H3App], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client(adapter, make()) as client:
        for _ in range(2):
            for flow in FLOWS:
                reply = await client.request("GET", f"/{flow}")
                assert reply.status == 200
                assert reply.headers.get("connection", "close") == "close"
                assert reply.headers.get("transfer-encoding", "chunked") == "chunked"
                assert not {"keep-alive", "proxy-connection", "te", "trailer", "upgrade"} & reply.headers.keys()
                assert await reply.read() == (b"1" if flow == "plain" else b"data: 1\n\n")
                assert reply.end is End.PROPER
    said = [record.getMessage() for record in caplog.records if record.name == "h3ref.service"]
    assert [line.split()[1] for line in said] == list(HOP_BY_HOP)
    assert all("is ignored" in line for line in said)


@pytest.mark.parametrize("name", ["Content-Length", "Date", "date"])
async def test_what_says_something_about_the_message_is_refused(adapter: str, name: str) -> None:
    def set_one(event: H3Event) -> None:
        for append in (False, True):
            with pytest.raises(ValueError, match=f"header {name} is set by the server"):
                event.set_header(name, "1", append=append)

    async with open_client(adapter, app_of(set_one)) as client:
        for flow in FLOWS:
            assert (await client.request("GET", f"/{flow}")).status == 200


async def test_what_is_ignored_must_be_a_header_all_the_same(adapter: str) -> None:
    def set_bad(event: H3Event) -> None:
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            event.set_header("Connection", "close\r\nX-Evil: 1")

    async with open_client(adapter, app_of(set_bad)) as client:
        assert (await client.request("GET", "/callback")).status == 200


@pytest.mark.parametrize("media_type", ["text/event-stream; charset=utf-8", "Text/Event-Stream ;a=b"])
async def test_a_streams_content_type_may_have_parameters(adapter: str, media_type: str) -> None:
    app = app_of(lambda event: event.set_header("content-type", media_type))
    async with open_client(adapter, app) as client:
        for flow in FLOWS:
            reply = await client.request("GET", f"/{flow}")
            assert (reply.status, reply.headers["content-type"]) == (200, media_type)


@pytest.mark.parametrize("media_type", ["application/json", "text/event-streams", "text/plain; text/event-stream"])
async def test_another_content_type_is_no_streams(
    adapter: str, media_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(lambda event: event.set_header("Content-Type", media_type))
    async with open_client(adapter, app) as client:
        for flow in FLOWS:
            reply = await client.request("GET", f"/{flow}")
            if flow == "plain":
                assert (reply.status, reply.headers["content-type"]) == (200, media_type)
            else:
                assert (reply.status, reply.headers["content-type"]) == (500, "text/plain; charset=utf-8")
                assert (await reply.read(), reply.end) == (b"Internal Server Error", End.PROPER)
    assert caplog.text.count(f"a stream's media type is text/event-stream, not '{media_type}'") == len(FLOWS) - 1


async def test_nor_can_it_become_one_once_the_stream_is_asked_for(adapter: str) -> None:
    app = H3App()
    refused: list[str] = []

    def tries(event: H3Event) -> None:
        with pytest.raises(ValueError, match="a stream's media type is text/event-stream, not 'text/html'"):
            event.set_header("Content-Type", "text/html")
        refused.append(event.state)

    app.on_response(tries)

    @app.get("/")
    async def handler(event: H3Event) -> None:
        event.start_sse()
        tries(event)
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/")
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        assert await reply.read() == b"data: 1\n\n"
    assert refused == ["sse_started"] * 2


async def test_no_cache_keeps_a_stream_and_no_compressor_holds_it_back(adapter: str) -> None:
    async with open_client(adapter, app_of()) as client:
        for flow in FLOWS[:-1]:
            reply = await client.request("GET", f"/{flow}")
            assert reply.headers["cache-control"] == "no-cache, no-transform"
        assert "cache-control" not in (await client.request("GET", "/plain")).headers
