"""An id that is accepted comes back: every client sends it, every server takes it, and a channel knows it again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h3ref import BlockingEventSource, Channel, EventSource, EventStreamParser, H3App, H3Event, SSEEvent, running
from h3ref.adapters.h11_anyio.guard import Guard
from h3ref.sse import MAX_ID_SIZE, fault_of_id
from tests.clients import open_client, raw

pytestmark = pytest.mark.anyio

VECTORS = json.loads((Path(__file__).parent.parent / "spec" / "vectors" / "encode" / "ids.json").read_text())["cases"]

ACCEPTED = [
    *(case["fields"]["id"] for case in VECTORS if "bytes" in case and isinstance(case["fields"]["id"], str)),
    *(chr(number) for number in range(0x80, 0x100)),  # each alone: as bytes or as Latin-1, some of them are blanks
    "".join(map(chr, range(0x21, 0x7F))),
    "7" * MAX_ID_SIZE,
    "é" * (MAX_ID_SIZE // 2),
    "e\u0301 ☂\t日本語 🎉",
]
"""Every kind of id that there is; those of the vectors are among them."""

LOST = [chr(number) for number in range(0x20) if chr(number) not in "\t\r\n\0"] + ["\x7f"]


def test_these_are_accepted() -> None:
    assert len(ACCEPTED) > 130
    for id in ACCEPTED:
        assert fault_of_id(id) is None
        [message] = EventStreamParser().feed(SSEEvent("x", id=id).encode())
        assert message.last_event_id == id


def remembering(found: list[str]) -> H3App:
    """An app whose streams send the id that follows the one that came back."""
    app = H3App()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncIterator[SSEEvent]:
        found.append(event.last_event_id)
        if len(found) <= len(ACCEPTED):
            yield SSEEvent("x", id=ACCEPTED[len(found) - 1], retry=0)

    return app


async def test_a_server_takes_it_from_the_header(adapter: str) -> None:
    found = list[str]()
    async with open_client(adapter, remembering(found)) as client:
        for id in ACCEPTED:
            reply = await client.request("GET", "/events", headers={"Last-Event-ID": id})
            assert reply.status == 200
            reply.disconnect()
    assert found == ACCEPTED


@pytest.mark.parametrize("twin", [EventSource, BlockingEventSource])
async def test_a_client_brings_it_back(twin: Any) -> None:
    found = list[str]()

    async def read(url: str) -> list[str]:
        async with EventSource(url) as source:
            return [(await anext(source)).last_event_id for _ in ACCEPTED]

    def read_blocking(url: str) -> list[str]:
        with BlockingEventSource(url) as source:
            return [next(source).last_event_id for _ in ACCEPTED]

    async with running(remembering(found)) as server:
        url = f"{server.url}/events"
        received = await (read(url) if twin is EventSource else anyio.to_thread.run_sync(read_blocking, url))
    assert received == ACCEPTED
    assert found[: len(ACCEPTED)] == ["", *ACCEPTED[:-1]]


async def test_a_channel_knows_it_again(adapter: str) -> None:
    feed = Channel(history=len(ACCEPTED) + 1)
    app = H3App()

    @app.get("/feed")
    def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(feed.stream)

    for id in ACCEPTED:
        await feed.publish(SSEEvent("x", id=id))
    await feed.publish("the last")
    async with open_client(adapter, app) as client:
        for id, next_id in zip(ACCEPTED, [*ACCEPTED[1:], None], strict=True):
            reply = await client.request("GET", "/feed", headers={"Last-Event-ID": id})
            first = SSEEvent("the last") if next_id is None else SSEEvent("x", id=next_id)
            data = b""
            while len(data) < len(first.encode()):
                data += await reply.receive()
            assert data.startswith(first.encode())
            reply.disconnect()
        assert feed.stats().gaps == 0
        await feed.close()


@settings(max_examples=500)
@given(id=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_what_is_accepted_passes_the_guard_and_the_parser_unchanged(id: str) -> None:
    if fault_of_id(id) is not None:
        with pytest.raises(ValueError, match="id"):
            SSEEvent("x", id=id)
        return
    assert SSEEvent("x", id=id).id == id
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(Guard(65536, 16384, 128).receive(request(id.encode())))
    head = parser.next_event()
    assert isinstance(head, h11.Request)
    assert dict(head.headers)[b"last-event-id"].decode() == id


def request(id: bytes) -> bytes:
    return b"GET /events HTTP/1.1\r\nHost: test\r\nLast-Event-ID: %b\r\n\r\n" % id


async def test_what_is_refused_could_not_come_back() -> None:
    found = list[str]()
    async with running(remembering(found)) as server:
        for id in LOST:
            assert fault_of_id(f"1{id}2") is not None
            answer = await raw(server.port, request(f"1{id}2".encode()))
            assert answer.startswith(b"HTTP/1.1 400 "), id
        for id in (" 1", "1 ", "\t1", "1\t"):
            assert fault_of_id(id) is not None
            await raw(server.port, request(id.encode()))
    assert found == ["1"] * 4
