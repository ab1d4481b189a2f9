"""`Channel`: one sender, many streams; replay without gap or double."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from h3ref import Channel, H3App, H3Event, SSEEvent, SSEWriter
from h3ref.adapters.memory import MemoryServer, Reply, open_memory

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
    with anyio.fail_after(5):
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


async def test_a_subscriber_that_left_is_forgotten() -> None:
    channel = Channel()
    async with open_memory(app_of(channel)) as server:
        reply = await subscribe(server, channel)
        reply.disconnect()
        with anyio.fail_after(5):
            while len(channel):
                await anyio.lowlevel.checkpoint()
        await channel.publish("nobody listens")


async def test_a_closed_channel_publishes_nothing_and_ends_who_comes_late() -> None:
    channel = Channel(history=1, name="news", newcomers="history")
    async with open_memory(app_of(channel)) as server:
        await publish(channel, 1)
        await channel.close()
        await channel.close()
        with pytest.raises(ValueError, match="<Channel news, closed>: nothing can be published"):
            await channel.publish("too late")
        assert await (await server.request("GET", "/events")).read() == numbered(1)


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
            with anyio.fail_after(5):
                while not len(channel):
                    await anyio.lowlevel.checkpoint()
            await channel.publish("1")
            await channel.close()

    async with open_memory(app) as server:
        reply = await server.request("GET", "/leader")
        with anyio.fail_after(5):
            assert await reply.read() == b"data: 1\n\n"


async def test_a_publish_that_gave_up_waiting_published_nothing() -> None:
    channel = Channel(history=100, newcomers="history")
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
    channel = Channel(history=10)
    async with open_memory(app_of(channel)) as server:
        reply = await subscribe(server, channel)
        await channel.publish("x" * 65536)

        async def publish_late() -> None:
            with pytest.raises(ValueError, match="closed>: nothing can be published"):
                await channel.publish("too late")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish_late)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(channel.close)
            await reply.read()


@pytest.mark.parametrize("wrong", [{"history": -1}, {"newcomers": "all"}])
async def test_what_a_channel_cant_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"history is|newcomers get"):
        Channel(**wrong)
