"""The oracle that judges channels of several processes finds what is lost, doubled, made up and reordered."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.cluster.naive import NaiveChannel
from tests.cluster.oracle import GAP, Gap, Publisher, Sight, Told, violations
from tests.cluster.servers import Kind
from tests.cluster.trial import open_trial, until


def told(*events: str, uncertain: str = "", refused: str = "", name: str = "a") -> Publisher:
    publisher = Publisher(name)
    for event in events:
        verdict = Told.UNCERTAIN if event in uncertain else Told.REFUSED if event in refused else Told.ACKNOWLEDGED
        publisher.told[event] = verdict
    return publisher


def saw(*seen: str | Gap, name: str = "one", **owed_from: int) -> Sight:
    return Sight(name, list(seen), owed_from)


@pytest.mark.parametrize(
    ("publisher", "reader"),
    [
        (told("1", "2", "3"), saw("1", "2", "3")),
        (told("1", "2", "3"), saw("1", GAP, "3")),
        (told("1", "2", "3"), saw(GAP, "3")),
        (told("1", "2", "3"), saw("1", GAP)),
        (told("1", "2", "3"), saw(GAP, "1", "2", "3")),
        (told("1", "2", "3", uncertain="2"), saw("1", "3")),
        (told("1", "2", "3", uncertain="2"), saw("1", "2", "3")),
        (told("1", "2", "3", refused="2"), saw("1", "3")),
        (told("1", "2", "3"), saw("3", a=2)),
    ],
)
def test_what_holds_is_let_pass(publisher: Publisher, reader: Sight) -> None:
    assert violations([publisher], [reader]) == []


@pytest.mark.parametrize(
    ("publisher", "reader", "said"),
    [
        (told("1", "2", "3"), saw("1", "3"), "one lost '2' before '3', and no gap says so"),
        (told("1", "2", "3"), saw("3"), "one lost 2 events from '1' to '2' before '3', and no gap says so"),
        (told("1", "2", "3"), saw("1", "2"), "one lost '3' at the end, and no gap says so"),
        (told("1", "2", "3"), saw("1", "3", GAP), "one lost '2' before '3', and no gap says so"),
        (told("1", "2", "3"), saw(GAP, "1", "3"), "one lost '2' before '3', and no gap says so"),
        (told("1", "2", "3"), saw("3", a=1), "one lost '2' before '3', and no gap says so"),
        (told("1", "2", "3"), saw("1", "2", "2", "3"), "one saw '2' twice"),
        (told("1", "2", "3"), saw("1", "2", "3", GAP, "2"), "one saw '2' twice"),
        (told("1", "2", refused="2"), saw("1", "2"), "one saw '2', whose publisher was told that it is not stored"),
        (told("1"), saw("1", "9"), "one saw '9', which nobody has published"),
    ],
)
def test_what_is_lost_doubled_or_made_up_is_told(publisher: Publisher, reader: Sight, said: str) -> None:
    assert said in violations([publisher], [reader])


def test_what_is_reordered_is_told() -> None:
    one, two = told("1", "2"), told("a", "b", name="b")
    assert violations([one, two], [saw("1", "a", "2", "b"), saw("1", "a", "2", "b", name="two")]) == []
    (said,) = violations([one], [saw("2", "1")])
    assert said.startswith("there is no one order: ")
    (said,) = violations([one, two], [saw("1", "2", "a", "b"), saw("a", "b", "1", "2", name="two")])
    assert said.startswith("there is no one order: ")


def test_three_readers_each_pair_of_whom_agrees_may_have_no_order() -> None:
    publishers = [told(name, name=name) for name in "xyz"]
    readers = [saw(*seen, name=seen, **dict.fromkeys("xyz", 1)) for seen in ("xy", "yz", "zx")]
    assert violations(publishers, readers[:2]) == []
    (said,) = violations(publishers, readers)
    assert said.startswith("there is no one order: ")


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [False, True])
async def test_what_a_channel_without_memory_loses_is_found(server_kind: Kind, fault: bool) -> None:
    async with open_trial(server_kind) as trial, AsyncExitStack() as channels:
        server = trial.servers.start()
        nodes = []
        for _ in range(2):
            channel = NaiveChannel(server.port, history=100, name="news", gap="gap")
            nodes.append(await trial.node_of(await channels.enter_async_context(channel)))
            await until(channel.is_connected)
        reader, _ = [await node.reader(connected=False) for node in nodes]
        async with trial.publishing(*(node.publisher(name) for node, name in zip(nodes, "ab", strict=True))):
            await reader.until_more(20)
            if fault:
                server("CLIENT", "KILL", "TYPE", "pubsub")
            await reader.until_more(20)
        if fault:
            with pytest.raises(AssertionError, match=r"lost .* and no gap says so"):
                await trial.judge()
        else:
            await trial.judge()
