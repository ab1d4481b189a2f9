"""What a writer does at the edges: after its stream's end, from other threads, and when asked to show itself."""

from __future__ import annotations

from contextlib import suppress

import anyio
import anyio.to_thread
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, SSEWriter, WriterClosed
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from h3ref.writer import stream_of

pytestmark = pytest.mark.anyio


def streaming(callback: object) -> H3App:
    app = H3App()

    @app.get("/")
    def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)  # type: ignore[arg-type]

    return app


async def test_what_is_offered_after_the_end_is_not_taken() -> None:
    async def callback(writer: SSEWriter) -> None:
        stream = stream_of(writer)
        stream.offer(b"data: 1\n\n")
        stream.offer_keep_alive()
        await writer.close()
        stream.offer(b"data: 2\n\n")
        stream.offer_keep_alive()
        stream.relay(b"data: 3\n\n", (b"data: 3\n\n",))
        counts.append((stream.event_count, stream.comment_count, stream.byte_count))

    counts: list[tuple[int, int, int]] = []
    async with open_memory(streaming(callback)) as server:
        reply = await server.request("GET", "/")
        assert await reply.read() == b"data: 1\n\n: keep-alive\n\n"
    assert counts == [(1, 1, len(b"data: 1\n\n: keep-alive\n\n"))]


async def test_a_thread_can_wait_until_all_has_left() -> None:
    def callback(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        writer.flush()
        flushed.append(writer.event_count)
        shown.append(repr(writer))

    flushed: list[int] = []
    shown: list[str] = []
    async with open_memory(streaming(callback)) as server:
        reply = await server.request("GET", "/?token=secret")
        assert await reply.read() == b"data: 1\n\n"
    assert flushed == [1]
    assert shown == ["<BlockingSSEWriter of <H3Event GET /, streaming>, 1 events>"]


async def test_leaving_with_an_error_after_the_end_changes_nothing() -> None:
    def callback(writer: BlockingSSEWriter) -> None:
        with suppress(LookupError), writer:
            writer.send_event("1")
            writer.close()
            raise LookupError

    async with open_memory(streaming(callback)) as server:
        reply = await server.request("GET", "/")
        assert (await reply.read(), reply.end) == (b"data: 1\n\n", End.PROPER)


async def test_a_thread_of_the_users_own_sends_too() -> None:
    def stream(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            for number in range(3):
                writer.send_event(str(number))

    async def handler(event: H3Event) -> None:
        await anyio.to_thread.run_sync(stream, event)

    app = H3App()
    app.get("/", handler)
    async with open_memory(app) as server:
        reply = await server.request("GET", "/")
        assert (await reply.read(), reply.end) == (b"data: 0\n\ndata: 1\n\ndata: 2\n\n", End.PROPER)


async def test_a_second_thread_goes_on_where_the_first_one_stopped() -> None:
    app = H3App()

    def first(event: H3Event) -> None:
        event.context["writer"] = writer = event.start_sse_blocking()
        for number in range(3):
            writer.send_event(str(number))

    def second(event: H3Event) -> None:
        writer: BlockingSSEWriter = event.context["writer"]
        for number in range(3, 6):
            writer.send_event(str(number))
        counts.append(writer.event_count)

    counts: list[int] = []
    app.request_hooks += [first, second]
    async with open_memory(app) as server:
        reply = await server.request("GET", "/")
        body = await reply.read()
        assert body == b"".join(b"data: %d\n\n" % number for number in range(6))
    assert counts == [6]


async def test_a_stream_that_ended_says_so_to_who_sends_without_waiting() -> None:
    async def callback(writer: SSEWriter) -> None:
        await writer.close()
        with pytest.raises(WriterClosed):
            writer.send_nowait("1")

    async with open_memory(streaming(callback)) as server:
        assert await (await server.request("GET", "/")).read() == b""
