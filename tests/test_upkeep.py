"""`Upkeep`: one task looks after the streams of a whole server, so that a fault of one of them must stay its own."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, Limits, Reason, SSEWriter
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
