"""What others' channels of several processes get wrong, and what their own tests ask for, each held against ours.

Who is meant stands at each test. The faults were seen in Litestar 2.25, broadcaster 0.3, Socket.IO 4, Mercure, nchan
and django-eventstream; the tests are Litestar's `test_backends`, Mercure's `bolt_test`, Socket.IO's
`connection-state-recovery` and Centrifuge's `broker_redis_test`.
"""

from __future__ import annotations

import re

import anyio
import pytest

from h3ref import Channel, SSEEvent
from h3ref.redis import RedisEngine
from tests.cluster.oracle import GAP
from tests.cluster.servers import entries_of
from tests.cluster.trial import GAP_EVENT, Trial, in_trial, until

pytestmark = pytest.mark.anyio

KEY = "h3ref:{news}"


@in_trial
async def test_all_channels_and_streams_of_a_process_share_two_connections(trial: Trial) -> None:
    """Elsewhere each subscriber has a connection, and one that waits for an XREAD is the publishers', too."""
    server = trial.servers.start()
    engine = RedisEngine(server.url)
    async with engine:
        nodes = await trial.nodes_of([Channel(10, name=f"channel {n}", engine=engine) for n in range(20)])
        readers = [await node.reader() for node in nodes for _ in range(5)]
        for node in nodes:
            await node.channel.publish(node.channel.name)
        for number, reader in enumerate(readers):
            await reader.until_seen(f"channel {number // 5}")
            assert len(reader.seen) == 1, "and nothing of another channel"
        clients = server("CLIENT", "LIST")
        assert isinstance(clients, bytes)
        names = [re.search(r" name=(\S*)", line)[1] for line in clients.decode().splitlines()]  # type: ignore[index]
        ours = [name for name in names if name]
        assert len(ours) == 2, names
        assert all("h3ref" in name for name in ours)
        assert len(names) == 3, "the third is this test's"
        assert server.info("blocked_clients") == "0"
        for reader in readers:
            reader.seen.clear()


@in_trial
async def test_a_channel_does_not_grow_for_ever_and_goes_when_it_is_abandoned(trial: Trial) -> None:
    """Litestar and broadcaster never trim. Litestar's test_discards_history_entries, test_redis_stream_…_expires."""
    server = trial.servers.start()
    node = await trial.node(server.url, history=100, ttl=600)
    reader, voice = await node.reader(), node.publisher("a")
    for number in (500, 200):
        await voice.publish(number)
        length = server("XLEN", KEY)
        assert isinstance(length, int)
        assert 256 <= length < 500
    remaining = server("PTTL", KEY)
    assert isinstance(remaining, int)
    assert 500_000 < remaining <= 600_000
    server("PEXPIRE", KEY, 1)  # the ten minutes are over
    await until(lambda: not server("EXISTS", KEY))
    await voice.publish(5)
    await reader.until_seen(voice.last)
    assert reader.seen == voice.acknowledged, "what has expired was seen: there is no gap"


@in_trial
async def test_newcomers_get_no_history_unless_the_channel_says_so(trial: Trial) -> None:
    """Litestar: whoever asked for none got all of it. Its test_get_history; Mercure's RetrieveAllHistory."""
    server = trial.servers.start()
    one, two = await trial.node(server.url), await trial.node(server.url, history=5, newcomers="history")
    voice = one.publisher("a")
    await voice.publish(10)
    live, last = await one.reader(), await two.reader()
    other = await (await trial.node(server.url)).reader()
    await voice.publish(1)
    for reader in (live, other, last):
        await reader.until_seen(voice.last)
    assert live.seen == other.seen == voice.acknowledged[10:]
    assert last.seen == voice.acknowledged[5:]


@in_trial
async def test_a_process_that_has_heard_nothing_yet_misses_nothing_either(trial: Trial) -> None:
    """Socket.IO reads from `$` again until its first event. "replay … even if the client did not receive any"."""
    server = trial.servers.start()
    proxy = await trial.proxy(server.port)
    one, two = await trial.node(server.url), await trial.node(proxy.url)
    reader, voice = await two.reader(), one.publisher("a")
    for _ in range(3):
        await proxy.refuse()
        await voice.publish(2)
        await proxy.accept()
        await reader.until_seen(voice.last)
    assert reader.events == voice.acknowledged


@in_trial
async def test_a_replay_of_any_length_is_whole_and_has_its_ids(trial: Trial) -> None:
    """Socket.IO: capped at 100 reads, and without ids. Mercure's History, HistoryAndLive; Centrifuge's Recover."""
    server = trial.servers.start()
    one, two = await trial.node(server.url, history=3000), await trial.node(server.url, history=3000)
    reader, voice = await one.reader(), one.publisher("a")
    async with anyio.create_task_group() as publishing:
        voices = [one.publisher(name) for name in "bcdefghijk"]
        for each in voices:
            publishing.start_soon(each.publish, 200)
    await voice.publish(1)
    await reader.until_seen(voice.last)
    back = await two.reader(reader.ids[0])
    await voice.publish(1)
    await reader.until_seen(voice.last)
    await back.until_seen(voice.last)
    assert back.seen == reader.seen[1:]
    assert back.ids == reader.ids[1:]
    assert len(set(back.ids)) == 2001
    assert all(re.fullmatch(r"\d+-\d+-[0-9a-f]{8}", id) for id in back.ids)


@in_trial
async def test_a_process_that_has_just_started_replays_at_once(trial: Trial) -> None:
    """Mercure: not before its first publish. nchan: not after it lost Redis."""
    server = trial.servers.start()
    one = await trial.node(server.url)
    reader, voice = await one.reader(), one.publisher("a")
    await voice.publish(10)
    await reader.until_seen(voice.last)
    two = await trial.node(server.url)
    back = await two.reader(reader.ids[4])
    await back.until_seen(voice.last)
    assert back.seen == voice.acknowledged[5:]
    server("CLIENT", "KILL", "TYPE", "pubsub")
    server("CLIENT", "KILL", "TYPE", "normal")
    again = await two.reader(reader.ids[6])
    await again.until_seen(voice.last)
    assert again.seen == voice.acknowledged[7:]


@in_trial
async def test_a_client_from_before_a_flush_is_told_and_gets_what_comes(trial: Trial) -> None:
    """django-eventstream: nothing, until its ids are higher again."""
    server = trial.servers.start()
    one = await trial.node(server.url)
    reader, voice = await one.reader(), one.publisher("a")
    await voice.publish(5)
    server("XSETID", KEY, "99999999999999-0")
    await voice.publish(5)
    await reader.until_seen(voice.last)
    server("FLUSHALL")
    two = await trial.node(server.url)
    back = await two.reader(reader.ids[-1])
    await back.until(lambda: back.gaps)
    await voice.publish(5)
    await back.until_seen(voice.last)
    assert back.seen == [GAP, *voice.acknowledged[10:]]
    assert [int(id.partition("-")[0]) < 99999999999999 for id in back.ids[1:]] == [True] * 5


BOGUS = [
    "711131",
    "0-0-00000000",
    "99999999999999999999-0-aaaaaaaa",
    "1795705195117-18446744073709551616-9f3a61c2",
    "1795705195117-0-9F3A61C2",
    "-",
    "+",
    "$",
    "(1-0-aaaaaaaa",
    "1-0",
    "ü",
    "x" * 4000,
]


@in_trial
async def test_an_id_that_nobody_gave_is_a_gap_and_no_error(trial: Trial) -> None:
    """Mercure's LogsBogusLastEventID, UnknownLastEventID; Socket.IO's "offset is not a string", "unknown session"."""
    server = trial.servers.start()
    node = await trial.node(server.url)
    first, voice = await node.reader(), node.publisher("a")
    await voice.publish(3)
    await first.until_seen(voice.last)
    other = first.ids[1].rpartition("-")[0] + "-ffffffff"  # the place is right, and was another entry's
    before = server.info("total_error_replies")
    for id in (*BOGUS, other, first.ids[1] + "0"):
        back = await node.reader(id.encode().decode("latin-1"))
        await back.until_seen(voice.last)
        assert back.seen == [GAP, *voice.acknowledged], id
    assert server.info("total_error_replies") == before


@in_trial
async def test_a_gap_is_a_place_to_come_back_to(trial: Trial) -> None:
    """Ids that stand for nothing spoil the cursor elsewhere: who was told of a gap got it, or all, again and again."""
    server = trial.servers.start()
    proxy = await trial.proxy(server.port)
    one, two = await trial.node(server.url), await trial.node(proxy.url)
    reader, voice = await two.reader(), one.publisher("a")
    await voice.publish(5)
    await reader.until_seen(voice.last)
    await proxy.refuse()
    server("FLUSHALL")
    await voice.publish(5)
    await proxy.accept()
    await reader.until_seen(voice.last)
    assert reader.seen[5] is GAP
    for node in (one, two):
        back = await node.reader(reader.ids[6])
        await back.until_seen(voice.last)
        assert back.seen == voice.acknowledged[6:]
    after_gap = await two.reader(reader.ids[5])
    await after_gap.until_seen(voice.last)
    assert [one for one in after_gap.seen if one is not GAP] == voice.acknowledged[5:]


@in_trial
async def test_ids_of_a_publishers_own_are_found_in_every_process(trial: Trial) -> None:
    """What Mercure's updates have: the publisher's own ids, on the wire and in the history."""
    server = trial.servers.start()
    one, two = await trial.node(server.url), await trial.node(server.url)
    for number in range(5):
        await one.channel.publish(SSEEvent(f"{number}", id=f"order {number}"))
    back = await two.reader("order 2")
    await back.until(lambda: len(back.seen) == 2)
    assert (back.seen, back.ids) == (["3", "4"], ["order 3", "order 4"])
    with pytest.raises(ValueError, match="1795705195117-0-9f3a61c2"):
        await one.channel.publish(SSEEvent("mine", id="1795705195117-0-9f3a61c2"))
    back.seen.clear()


@in_trial
async def test_every_process_sends_the_same_bytes(trial: Trial) -> None:
    """Litestar's test_pub_sub, Centrifuge's two nodes: what is published here is heard there, whatever it is."""
    server = trial.servers.start()
    one, two = await trial.node(server.url), await trial.node(server.url)
    await until(lambda: one.connected and two.connected)
    replies = [await node.request() for node in (one, two)]
    await until(lambda: len(one.channel) == len(two.channel) == 1)
    events = [
        SSEEvent("a\nb\n\nc", event="tick"),
        SSEEvent("ü 🦆 \x00", retry=5),
        SSEEvent("", id="mine", event="empty"),
        SSEEvent("x" * 1_000_000),
        SSEEvent("with a comment", comment="so"),
        SSEEvent("end"),
    ]
    for event in events:
        await one.channel.publish(event)
    received = []
    for reply in replies:
        data = b""
        while not data.endswith(b"data: end\n\n"):
            data += await reply.receive()
        received.append(data)
    assert received[0] == received[1]
    for event, block in zip(events, received[0].split(b"\n\n"), strict=False):
        lines = [line for line in block.split(b"\n") if event.id is not None or not line.startswith(b"id: ")]
        assert sorted(lines) == sorted(event.encode().rstrip(b"\n").split(b"\n"))


@in_trial
async def test_what_is_stored_is_laid_out_as_the_contract_says(trial: Trial) -> None:
    """So that other programs, and the next release, can read it."""
    server = trial.servers.start()
    node = await trial.node(server.url)
    await node.channel.publish("1")
    await node.channel.publish(SSEEvent("2", id="mine", event="tick"))
    first, second = entries_of(server("XRANGE", KEY, "-", "+"))
    assert first[1][::2] == second[1][::2] == [b"p", b"u", b"k", b"i", b"d"]
    assert [first[1][1], *first[1][5::2]] == [b"", b"0", b"", b"data: 1\n\n"]
    assert [second[1][1], *second[1][5::2]] == [first[0].encode(), b"0", b"mine", b"event: tick\ndata: 2\n\n"]
    assert re.fullmatch(rb"[0-9a-f]{8}", first[1][3])


@in_trial
async def test_an_engine_ends_at_once_whatever_is_on_its_way(trial: Trial) -> None:
    """Litestar's test_pub_sub_shutdown_leftover_messages."""
    server = trial.servers.start()
    voice = (await trial.node(server.url)).publisher("a")
    with anyio.fail_after(20):
        async with RedisEngine(server.url) as engine:
            node = await trial.node_of(Channel(10, name="news", engine=engine, gap=GAP_EVENT))
            await node.reader()
            await voice.publish(100)
    trial.readers.clear()


@in_trial
async def test_an_engine_that_fails_just_as_it_is_left_is_left_in_order(trial: Trial) -> None:
    """As one whose server answers no more; what is raised at the end is nothing that anybody could use."""

    async def watch(connection: object, seconds: float) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise TimeoutError("it did not answer in time")

    server = trial.servers.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("h3ref.redis.ears.watch", watch)
        patch.setattr("h3ref.redis.engine.watch", watch)
        async with RedisEngine(server.url) as engine:
            await until(lambda: engine.connected)
