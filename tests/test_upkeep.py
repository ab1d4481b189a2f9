"""`Upkeep`: one task looks after the streams of a whole server, so that a fault of one of them must stay its own."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, Limits, Reason, SSEWriter
from h3ref._core.upkeep import Upkeep
from h3ref.adapters.memory import MemoryConnection, MemoryTransport, open_memory
from h3ref.testing import virtual_backends
from tests.waits import until

pytestmark = pytest.mark.anyio

BEAT = b": keep-alive\n\n"


def an_app(threads: threading.Event) -> H3App:
    """Silent streams, on the loop and on a thread, and a plain answer."""
    app = H3App()

    async def silent(writer: SSEWriter) -> None:
        await anyio.sleep_forever()

    def on_thread(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        threads.wait(20)

    @app.get("/silent")
    async def by_task(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(silent)

    @app.get("/thread")
    async def by_thread(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(on_thread)

    return app


class Fault(Exception):
    """What an adapter must not raise."""


@pytest.mark.parametrize("way", ["leaves", "stopped"])
async def test_a_transport_whose_release_raises_ends_no_other_stream(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released: list[Any] = []

    def release(transport: MemoryTransport) -> None:
        released.append(transport)
        raise Fault

    monkeypatch.setattr(MemoryTransport, "release", release)
    go_on = threading.Event()
    async with open_memory(an_app(go_on), limits=Limits(stream_keep_alive=0.01)) as server:
        other = await server.request("GET", "/silent")
        (second,) = server.service.live
        reply = await server.request("GET", "/thread")
        while b"data: 1\n\n" not in await reply.receive():
            pass  # a comment, where the thread is slow to begin
        if way == "leaves":
            reply.disconnect()
        else:
            (exchange,) = server.service.live - {second}
            exchange.stop(Reason.TIMEOUT)
        await until(lambda: released)
        await other.receive()  # what came before that
        assert (await other.receive()).startswith(BEAT)
        go_on.set()
        await until(lambda: server.service.live == {second})
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {Fault}


@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])
@pytest.mark.parametrize("member", ["stalled_since", "write_chunk"])
async def test_a_connection_that_raises_when_it_is_looked_at_keeps_no_other_stream_from_its_keep_alives(
    member: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faulty: list[object] = []
    original = MemoryConnection.__dict__[member]

    def stalled_since(connection: MemoryConnection) -> Any:
        if connection in faulty:
            raise Fault
        return original.__get__(connection)

    def write_chunk(connection: MemoryConnection, data: bytes) -> None:
        if connection in faulty:
            raise Fault
        original(connection, data)

    monkeypatch.setattr(MemoryConnection, member, property(stalled_since) if member == "stalled_since" else write_chunk)
    async with open_memory(an_app(threading.Event()), limits=Limits(stream_keep_alive=10)) as server:
        await server.request("GET", "/silent")
        (first,) = server.service.live
        faulty.append(first.connection)
        other = await server.request("GET", "/silent")
        assert await other.receive() == BEAT
        assert await other.receive() == BEAT
        first.shut_down()
        await until(lambda: len(server.service.live) == 1)
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {Fault}


@pytest.mark.parametrize("waits", [False, True], ids=["ends at once", "waits"])
async def test_a_stream_is_looked_at_and_has_a_clock_for_its_first_item_only_if_it_waits(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("add_deadline", "_join_round"):
        original = getattr(Upkeep, name)

        def ask(*args: Any, name: str = name, original: Any = original) -> Any:
            asked.append(name)
            return original(*args)

        monkeypatch.setattr(Upkeep, name, ask)
    app = H3App()

    @app.sse("/")
    async def events(event: H3Event) -> AsyncIterator[str]:
        if waits:
            await anyio.lowlevel.checkpoint()
        yield "1"
        if waits:
            await anyio.lowlevel.checkpoint()

    async with open_memory(app) as client:
        assert await (await client.request("GET", "/")).read() == b"data: 1\n\n"
    assert asked == (["add_deadline", "_join_round"] if waits else [])


@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])
async def test_a_time_that_a_stream_sets_before_it_first_waits_ends_it() -> None:
    app = H3App()

    async def callback(writer: SSEWriter) -> None:
        writer.event.expires_in(5)
        writer.event.expires_in(3)
        await anyio.sleep_forever()

    @app.get("/")
    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async with open_memory(app) as client:
        began = anyio.current_time()
        assert await (await client.request("GET", "/")).read() == b""
        assert 3 <= anyio.current_time() - began < 5
