"""Channels of several processes where the server itself is replaced: by a replica, by sentinels, by a deploy."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from h3ref.engine import EngineUnavailable, EngineUncertain
from tests.cluster.oracle import Told
from tests.cluster.servers import HOST, entries_of
from tests.cluster.trial import Reader, Trial, in_trial, until

pytestmark = pytest.mark.anyio

KEY = "h3ref:{news}"

DOWN_AFTER = 0.5
"""Seconds of silence after which the sentinels take a server for dead."""


@in_trial
async def test_what_a_replica_lacks_that_takes_over_is_a_gap(trial: Trial) -> None:
    primary = trial.servers.start()
    front, link = await trial.proxy(primary.port), await trial.proxy(primary.port)
    replica = await anyio.to_thread.run_sync(trial.servers.start_replica, link.port)
    one, two, cut = [await trial.node(front.url) for _ in range(3)]
    readers = [await node.reader() for node in (one, two, cut)]
    voice = one.publisher("a")
    await voice.publish(20)
    await until(lambda: replica("XLEN", KEY) == 20)
    link.stall()
    await voice.publish(10)
    for reader in readers:
        await reader.until_seen(voice.last)
    primary.kill()
    replica("REPLICAOF", "NO", "ONE")
    front.retarget(replica.port)
    await trial.finish(voice)
    await voice.publish(10)
    await trial.judge()
    for reader in readers:
        assert reader.events == voice.acknowledged, "who saw what was lost sees it once"
        assert reader.gaps == 1, "somebody else may not have seen it"
    kinds = [fields[5] for _, fields in entries_of(replica("XRANGE", KEY, "-", "+"))]
    assert kinds.count(b"1") == 1, "there is one fence for all"
    assert [node.channel.stats().fences for node in (one, two, cut)] == [1, 1, 1]
    # Who comes back from before the loss is told, too; from the gap, goes on behind it.
    gap = readers[0].seen.index(next(one for one in readers[0].seen if not isinstance(one, str)))
    early, late = await two.reader(readers[0].ids[19]), await two.reader(readers[0].ids[gap])
    await early.until_seen(voice.last)
    await late.until_seen(voice.last)
    assert early.gaps == 1
    assert late.events == readers[0].seen[gap + 1 :]


@in_trial
async def test_a_process_that_has_not_seen_what_a_replica_lacks_is_told_so(trial: Trial) -> None:
    primary = trial.servers.start()
    link = await trial.proxy(primary.port)
    fronts = [await trial.proxy(primary.port) for _ in range(2)]
    replica = await anyio.to_thread.run_sync(trial.servers.start_replica, link.port)
    one, two = [await trial.node(front.url) for front in fronts]
    near, far = await one.reader(), await two.reader()
    voice = one.publisher("a")
    await voice.publish(20)
    await far.until_seen(voice.last)
    await until(lambda: replica("XLEN", KEY) == 20)
    link.stall()
    await fronts[1].refuse()
    await voice.publish(10)
    await near.until_seen(voice.last)
    primary.kill()
    replica("REPLICAOF", "NO", "ONE")
    for front in fronts:
        front.retarget(replica.port)
    await fronts[1].accept()
    await trial.finish(voice)
    await trial.judge()
    assert near.events == voice.acknowledged
    assert far.events == [*voice.acknowledged[:20], *voice.acknowledged[30:]]
    assert (near.gaps, far.gaps) == (1, 1)


@in_trial
async def test_with_replicas_what_is_acknowledged_survives_the_primary(trial: Trial) -> None:
    primary = trial.servers.start()
    front, link = await trial.proxy(primary.port), await trial.proxy(primary.port)
    replica = await anyio.to_thread.run_sync(trial.servers.start_replica, link.port)
    one = await trial.node(front.url, replicas=1, timeout=0.3, patience=1.0)
    two = await trial.node(front.url)
    reader, voice = await two.reader(), one.publisher("a")
    await voice.publish(20)
    await trial.finish(voice)
    link.stall()
    assert await voice.publish(2) is not Told.ACKNOWLEDGED
    for number in range(20):
        with pytest.raises((EngineUncertain, EngineUnavailable)) as said:
            await one.channel.publish(f"perhaps {number}")
        if "replica" in str(said.value):
            break  # else the primary stood still, too
    assert "too few replicas have it" in str(said.value)
    await reader.until_seen(f"perhaps {number}")
    primary.kill()
    replica("REPLICAOF", "NO", "ONE")
    second = await anyio.to_thread.run_sync(trial.servers.start_replica, replica.port)
    front.retarget(replica.port)
    await voice.publish(5)
    await trial.finish(voice)
    await reader.until_seen(voice.last)
    reader.seen[:] = [seen for seen in reader.seen if not str(seen).startswith("perhaps")]  # nobody's, for the oracle
    entries = second("XRANGE", KEY, "-", "+")
    assert isinstance(entries, list)
    kept = b" ".join(repr(entry).encode() for entry in entries)
    assert all(b"data: %s\\n" % data.encode() in kept for data in voice.acknowledged)


@in_trial
async def test_sentinels_name_another_primary(trial: Trial) -> None:
    primary = trial.servers.start()
    replicas = [await anyio.to_thread.run_sync(trial.servers.start_replica, primary.port) for _ in range(2)]
    start = trial.servers.start_sentinels
    sentinels = await anyio.to_thread.run_sync(start, primary, "service", DOWN_AFTER)
    addresses = [(HOST, sentinel.port) for sentinel in sentinels]
    nodes = [await trial.node(sentinels=addresses, service="service") for _ in range(2)]
    readers = [await node.reader() for node in nodes]
    voices = [node.publisher(name) for node, name in zip(nodes, "ab", strict=True)]
    async with trial.publishing(*voices):
        await all_have_seen_more(readers, 50)
        primary.kill()
        await all_have_seen_more(readers, 50)
    assert any(replica.info("role") == "master" for replica in replicas)
    await trial.judge()


@in_trial
async def test_a_deploy_of_everything_loses_nothing(trial: Trial) -> None:
    server = trial.servers.start("--appendonly", "yes", "--appendfsync", "always")
    processes = [await trial.process(server.url) for _ in range(2)]
    fronts = [await trial.proxy(process.port) for process in processes]
    voices = [await trial.publisher_at(name, front.port) for name, front in zip("ab", fronts, strict=True)]
    readers = [trial.reader_at(front.port) for front in fronts for _ in range(2)]
    async with trial.publishing(*voices, pause=0.01):
        await all_have_seen_more(readers, 10)
        for reader in readers:
            reader.owed_from.update(trial.begun())
        for front, process in zip(fronts, processes, strict=True):
            new = await trial.process(server.url)
            front.retarget(new.port)
            await process.end()
            await all_have_seen_more(readers, 10)
        server.kill()
        await anyio.sleep(0.1)  # in which some publish
        server.start()
        await all_have_seen_more(readers, 10)
    await trial.judge()
    assert [reader.gaps for reader in readers] == [0] * 4


async def all_have_seen_more(readers: Sequence[Reader], number: int) -> None:
    """Wait until each reader has seen so many more."""
    for reader in readers:
        await reader.until_more(number)
