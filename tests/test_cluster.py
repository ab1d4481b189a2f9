"""Channels of several processes on one server, under faults: what is acknowledged is seen, or a gap is, in one order.

Each test is a script of a fault, on Redis and on Valkey; at its end the oracle judges what all readers saw. The command
`python -m tests.cluster` runs them many times over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from h3ref import Channel, SSEEvent
from h3ref.engine import EngineRefused, EngineUnavailable, EngineUncertain
from h3ref.redis import RedisEngine
from tests.cluster.oracle import Told
from tests.cluster.trial import MANY, Trial, in_trial, until

pytestmark = pytest.mark.anyio

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")

KEY = "h3ref:{news}"

CHANNELS = int(os.environ.get(MANY, 200))
"""How many are cut off at once."""


@in_trial
async def test_two_publishers_in_two_processes_have_one_order(trial: Trial) -> None:
    server = trial.servers.start()
    one, two = await trial.node(server.url), await trial.node(server.url)
    readers = [await node.reader() for node in (one, two, two)]
    voices = [node.publisher(name) for node in (one, two) for name in f"{'abc' if node is one else 'xyz'}"]
    async with anyio.create_task_group() as publishing:
        for voice in voices:
            publishing.start_soon(voice.publish, 100)
    await trial.judge()
    assert [reader.gaps for reader in readers] == [0, 0, 0]
    assert readers[0].seen == readers[1].seen == readers[2].seen
    assert readers[0].ids == readers[1].ids
    assert len(readers[0].seen) == 600


@in_trial
async def test_while_the_server_is_down_publish_raises_and_streams_stay_open(trial: Trial) -> None:
    server = trial.servers.start(*DURABLE)
    one, two = await trial.node(server.url), await trial.node(server.url)
    hasty = await trial.node(server.url, patience=1.5)
    reader, voice, refused = await two.reader(), one.publisher("a"), hasty.publisher("b")
    await voice.publish(10)
    await reader.until_seen(voice.last)
    server.kill()
    await until(lambda: not any(node.connected for node in (one, two, hasty)))
    assert await refused.publish() is Told.REFUSED
    with pytest.raises(EngineUnavailable):
        await hasty.channel.publish("refused")
    trial.voices.remove(refused)  # it publishes no more, and nobody waits for that
    new, back = await two.reader(connected=False), await two.reader(reader.ids[4], connected=False)
    server.start()
    await until(lambda: one.connected and two.connected)
    await voice.publish(5)
    for each in (reader, new, back):
        await each.until_seen(voice.last)
    assert reader.events == voice.acknowledged
    assert back.events == voice.acknowledged[5:], "its replay came when there was something to replay from"
    assert new.events == voice.acknowledged[10:]
    assert reader.gaps == back.gaps == new.gaps == 0


@in_trial
async def test_a_server_that_is_killed_and_comes_back_with_all_that_it_had_leaves_no_gap(trial: Trial) -> None:
    server = trial.servers.start(*DURABLE)
    one, two = await trial.node(server.url), await trial.node(server.url)
    readers = [await one.reader(), await two.reader()]
    async with trial.publishing(one.publisher("a"), two.publisher("b")):
        for _ in range(3):
            await readers[0].until_more(30)
            server.kill()
            server.start()
    await trial.judge()
    assert [reader.gaps for reader in readers] == [0, 0]


@in_trial
async def test_a_server_that_comes_back_empty_is_a_gap_for_everybody(trial: Trial) -> None:
    server = trial.servers.start()
    one, two = await trial.node(server.url), await trial.node(server.url)
    readers = [await one.reader(), await two.reader()]
    async with trial.publishing(one.publisher("a"), two.publisher("b")):
        await readers[0].until_more(50)
        server.kill()
        server.start()
        await readers[0].until(lambda: readers[0].gaps)
        before = len(readers[0].seen)
        await readers[0].until(lambda: len(readers[0].seen) >= before + 20)
    await trial.judge()
    assert [reader.gaps for reader in readers] == [1, 1]


@in_trial
async def test_subscriptions_that_are_killed_ten_times_lose_nothing(trial: Trial) -> None:
    server = trial.servers.start()
    one, two = await trial.node(server.url), await trial.node(server.url)
    readers = [await one.reader(), await two.reader()]
    async with trial.publishing(one.publisher("a"), two.publisher("b")):
        for _ in range(10):
            await readers[1].until_more(40)
            await until(lambda: server("CLIENT", "KILL", "TYPE", "pubsub"))
    await trial.judge()
    assert [reader.gaps for reader in readers] == [0, 0]
    assert readers[0].seen == readers[1].seen
    assert one.channel.stats().resyncs + two.channel.stats().resyncs >= 10


@in_trial
async def test_a_process_that_is_cut_off_for_longer_than_the_history_gets_a_gap_and_what_there_is(trial: Trial) -> None:
    server = trial.servers.start()
    proxy = await trial.proxy(server.port)
    one, two = await trial.node(server.url, history=100), await trial.node(proxy.url, history=100)
    near, far = await one.reader(), await two.reader()
    voice = one.publisher("a")
    await voice.publish(10)
    await far.until_seen(voice.last)
    await proxy.refuse()
    await voice.publish(600)
    await near.until_seen(voice.last)
    await proxy.accept()
    await far.until_seen(voice.last)
    assert (near.gaps, far.gaps) == (0, 1)
    assert far.seen.index(voice.acknowledged[9]) + 1 == far.seen.index(far.seen[10])
    assert 100 <= len(far.seen) - 11 < 600


@in_trial
async def test_a_process_that_is_cut_off_for_a_while_reads_what_it_lacks(trial: Trial) -> None:
    server = trial.servers.start()
    proxy = await trial.proxy(server.port)
    one, two = await trial.node(server.url), await trial.node(proxy.url, timeout=0.2)
    far, voice = await two.reader(), one.publisher("a")
    for stalls in (False, True, False, True):
        await voice.publish(10)
        proxy.stall() if stalls else proxy.cut()
        await voice.publish(100)
        if stalls:
            await until(lambda: not two.connected)
            proxy.go_on()
        await far.until_seen(voice.last)
    assert far.seen == voice.acknowledged


@in_trial
async def test_what_a_stopped_server_was_asked_for_is_stored_once(trial: Trial) -> None:
    server = trial.servers.start()
    one, two = await trial.node(server.url, timeout=0.4, patience=1.2), await trial.node(server.url)
    reader, voice = await two.reader(), one.publisher("a")
    await voice.publish(5)
    await until(lambda: one.connected)
    server.stop()
    with pytest.raises(EngineUncertain):
        await one.channel.publish("perhaps")
    server.go_on()
    await until(lambda: one.connected)
    await trial.finish(voice)
    await reader.until_seen(voice.last)
    entries = server("XRANGE", KEY, "-", "+")
    assert isinstance(entries, list)
    assert sum(b"perhaps" in repr(entry).encode() for entry in entries) == reader.seen.count("perhaps") == 1
    reader.seen.remove("perhaps")  # nobody's, for the oracle


@in_trial
async def test_what_is_sent_again_to_a_server_that_was_stopped_is_stored_once(trial: Trial) -> None:
    server = trial.servers.start()
    one, two = await trial.node(server.url, timeout=0.4, patience=25), await trial.node(server.url)
    reader, voice = await two.reader(), one.publisher("a")
    await voice.publish(5)
    server.stop()
    async with anyio.create_task_group() as publishing:
        publishing.start_soon(voice.publish)
        await until(lambda: not one.connected)
        await anyio.sleep(0.5)  # in which it tries to send it again
        server.go_on()
    await reader.until_seen(voice.last)
    assert reader.seen == voice.acknowledged == list(voice.told)
    assert server("XLEN", KEY) == 6


@in_trial
async def test_a_channel_that_is_flushed_goes_on(trial: Trial) -> None:
    server = trial.servers.start()
    proxy = await trial.proxy(server.port)
    one, two = await trial.node(server.url), await trial.node(proxy.url)
    near, far = await one.reader(), await two.reader()
    voice = one.publisher("a")
    async with trial.publishing(voice):
        for _ in range(3):
            await near.until_more(20)
            server("FLUSHALL")
    await trial.judge()
    assert near.events == far.events == voice.acknowledged, "on an unbroken subscription nothing is missing"
    assert near.gaps == far.gaps == 0
    await proxy.refuse()
    await voice.publish(3)
    server("FLUSHALL")
    await voice.publish(3)
    await proxy.accept()
    await far.until_seen(voice.last)
    assert (near.gaps, far.gaps) == (0, 1)


@in_trial
async def test_a_channel_that_is_evicted_goes_on(trial: Trial) -> None:
    server = trial.servers.start("--maxmemory-policy", "allkeys-lru")
    proxy = await trial.proxy(server.port)
    one, two = await trial.node(server.url), await trial.node(proxy.url)
    near, far = await one.reader(), await two.reader()
    voice = one.publisher("a")
    await voice.publish(20)
    await far.until_seen(voice.last)
    await proxy.refuse()
    await voice.publish(5)
    server("CONFIG", "SET", "maxmemory", 1)
    await until(lambda: not server("EXISTS", KEY))
    server("CONFIG", "SET", "maxmemory", 0)
    await voice.publish(5)
    await proxy.accept()
    await trial.judge()
    assert (near.gaps, far.gaps) == (0, 1)
    assert near.events == voice.acknowledged


@in_trial
async def test_a_clock_that_goes_back_by_an_hour_takes_nothing_with_it(trial: Trial) -> None:
    server = trial.servers.start()
    proxy = await trial.proxy(server.port)
    one, two = await trial.node(server.url), await trial.node(proxy.url)
    near, far = await one.reader(), await two.reader()
    voice = one.publisher("a")
    await voice.publish(5)
    # As if it had been an hour ahead: from here on the server's clock is behind the last entry.
    server("XSETID", KEY, f"{int((time.time() + 3600) * 1000)}-7")
    await voice.publish(5)
    await far.until_seen(voice.last)
    await proxy.refuse()
    await voice.publish(5)
    await proxy.accept()
    await far.until_seen(voice.last)
    assert near.seen == far.seen == voice.acknowledged
    # And now its entries are gone, too: new ones have lower ids than what everybody has seen.
    await proxy.refuse()
    server("DEL", KEY)
    await voice.publish(5)
    await proxy.accept()
    await far.until_seen(voice.last)
    assert near.events == far.events == voice.acknowledged
    assert (near.gaps, far.gaps) == (0, 1)
    # Who comes back with one of the higher ids gets what followed it.
    back = await two.reader(near.ids[9])
    await back.until_seen(voice.last)
    assert back.events == voice.acknowledged[10:]


@in_trial
async def test_a_server_whose_memory_is_full_refuses_and_takes_events_again(trial: Trial) -> None:
    server = trial.servers.start("--maxmemory-policy", "noeviction")
    node = await trial.node(server.url)
    reader, voice = await node.reader(), node.publisher("a")
    await voice.publish(5)
    server("CONFIG", "SET", "maxmemory", 1)
    began = anyio.current_time()
    with pytest.raises(EngineRefused, match="no memory left"):
        await node.channel.publish("refused")
    assert anyio.current_time() - began < 10, "it is not sent again"
    assert await voice.publish() is Told.REFUSED
    server("CONFIG", "SET", "maxmemory", 0)
    assert await voice.publish() is Told.ACKNOWLEDGED
    await reader.until_seen(voice.last)
    assert reader.seen == voice.acknowledged


@in_trial
async def test_a_key_of_another_type_is_refused(trial: Trial) -> None:
    server = trial.servers.start()
    server("SET", KEY, "a string")
    node = await trial.node(server.url)
    with pytest.raises(EngineRefused, match="another kind of value"):
        await node.channel.publish("refused")
    server("DEL", KEY)
    reader, voice = await node.reader(), node.publisher("a")
    assert await voice.publish() is Told.ACKNOWLEDGED
    await reader.until_seen(voice.last)


@in_trial
async def test_all_of_many_channels_are_caught_up_after_a_cut(trial: Trial) -> None:
    server = trial.servers.start()
    names = [f"channel {number}" for number in range(CHANNELS)]
    async with RedisEngine(server.url, timeout=5) as here, RedisEngine(server.url, timeout=5) as there:
        channels = [Channel(10, name=name, engine=here) for name in names]
        nodes = await trial.nodes_of([Channel(10, name=name, engine=there, gap="gap") for name in names])
        readers = [await node.reader() for node in nodes]
        for data in ("before", "meanwhile", "after"):
            if data == "meanwhile":
                for reader in readers:
                    await reader.until_seen("before")
                server("CLIENT", "KILL", "TYPE", "pubsub")
            async with anyio.create_task_group() as publishing:
                for start in range(20):
                    publishing.start_soon(publish_in_turn, channels[start::20], data)
        for reader in readers:
            await reader.until_seen("after")
            assert reader.seen == ["before", "meanwhile", "after"]
    trial.readers.clear()  # what they saw has no publisher that the oracle knows


async def publish_in_turn(channels: Sequence[Channel], data: str) -> None:
    for channel in channels:
        await channel.publish(data)


@in_trial
async def test_a_thread_publishes(trial: Trial) -> None:
    server = trial.servers.start()
    one, two = await trial.node(server.url), await trial.node(server.url)
    reader, voice = await two.reader(), one.publisher("a")
    async with anyio.create_task_group() as threads:
        for name in "xyz":
            threads.start_soon(anyio.to_thread.run_sync, partial(publish_in_thread, one.publisher(name).publish))
        await voice.publish(20)
    with pytest.raises(RuntimeError, match=r"from_thread\.run"):
        await anyio.to_thread.run_sync(partial(anyio.run, one.channel.publish, SSEEvent("elsewhere")))
    await trial.judge()
    assert len(reader.events) == 80


def publish_in_thread(publish: Callable[[], Coroutine[Any, Any, Told]]) -> None:
    for _ in range(20):
        anyio.from_thread.run(publish)
