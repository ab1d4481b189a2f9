"""`Channel` with an engine: several processes are one channel, and what is missing anywhere is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from h3ref import Channel, EventStreamParser, H3App, H3Event, MessageEvent, SSEEvent
from h3ref.adapters.memory import MemoryServer, Reply, open_memory
from h3ref.channel import reader
from h3ref.channel.reader import without_id
from h3ref.connection import End
from h3ref.engine import EngineRefused, EngineUnavailable, EngineUncertain, Entry, Hear, Lost, MemoryEngine, MemoryStore
from h3ref.engine.ids import is_entry_id, new_nonce, place_of
from tests.waits import until, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


class Faulty(MemoryEngine):
    """An engine whose connections can be cut, and whose answers can be errors."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.mended = anyio.Event()
        self.mended.set()
        self.is_deaf = False
        self.errors: list[Exception] = []  # of the next calls
        self.reads = 0

    def hear(self, channel: str, entry: Entry) -> None:
        if not self.is_deaf and self.mended.is_set():
            super().hear(channel, entry)

    @property
    def connected(self) -> bool:
        return super().connected and self.mended.is_set()

    def listen(self, channel: str, hear: Hear, lost: Lost) -> None:
        def begin() -> None:
            if self.mended.is_set():
                lost()

        super().listen(channel, hear, begin)

    def cut(self) -> None:
        if self.mended.is_set():
            self.mended = anyio.Event()

    def mend(self) -> None:
        self.is_deaf = False
        self.mended.set()
        for _, lost in tuple(self._listeners.values()):
            lost()

    async def append(self, channel: str, data: bytes, **options: Any) -> str:
        if self.errors:
            raise self.errors.pop(0)
        if not self.mended.is_set():
            raise EngineUnavailable("it is cut off")
        return await super().append(channel, data, **options)

    async def read(self, channel: str, after: str, most: int) -> list[Entry]:
        self.reads += 1
        if self.errors:
            raise self.errors.pop(0)
        await self.mended.wait()
        return await super().read(channel, after, most)


class Process:
    """A process of its own, as far as its channel knows.

    Attributes:
        engine: its engine.
        channel: its channel, "news".
        server: what serves that.
    """

    def __init__(self, engine: Faulty, channel: Channel, server: MemoryServer) -> None:
        self.engine = engine
        self.channel = channel
        self.server = server

    async def stream(self, last_event_id: str = "", *, placed: bool = True) -> Client:
        """Open a stream, and return when the channel has it."""
        before = len(self.channel)
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        client = Client(await self.server.request("GET", "/events", headers=headers))
        if placed:
            await until(lambda: len(self.channel) > before)
        return client


class Client:
    """One who reads a stream."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self._parser = EventStreamParser()
        self.events: list[MessageEvent] = []
        self.last_event_id = ""

    async def receive(self, count: int) -> list[str]:
        """Wait for so many events, and return all that have come, as `texts`."""
        with anyio.fail_after(30):
            while len(self.events) < count:
                self._feed(await self.reply.receive())
        return self.texts

    async def rest(self) -> list[str]:
        """Read to the end, and return all, as `texts`."""
        self._feed(await self.reply.read())
        return self.texts

    async def look(self) -> None:
        """Take what has come, without waiting."""
        if self.reply._size:
            self._feed(await self.reply.receive())

    def _feed(self, data: bytes) -> None:
        self.events += self._parser.feed(data)
        self.last_event_id = self._parser.last_event_id

    @property
    def texts(self) -> list[str]:
        """The data of events; of a gap, its type."""
        return [event.data if event.type == "message" else event.type for event in self.events]


@asynccontextmanager
async def process_on(store: MemoryStore, **options: Any) -> AsyncIterator[Process]:
    async with Faulty(store) as engine:
        options = {"history": 100, "gap": "gap", "name": "news", **options}
        channel = Channel(engine=engine, **options)
        app = H3App()

        @app.get("/events")
        async def events(event: H3Event) -> None:
            event.start_sse()
            event.set_stream_callback(channel.stream)

        async with open_memory(app) as server:
            yield Process(engine, channel, server)
            await channel.close()


@asynccontextmanager
async def two_processes(**options: Any) -> AsyncIterator[tuple[Process, Process, MemoryStore]]:
    store = MemoryStore()
    async with process_on(store, **options) as one, process_on(store, **options) as other:
        yield one, other, store


async def publish(process: Process, *texts: str) -> None:
    for text in texts:
        await process.channel.publish(text)


# -- one channel


async def test_what_one_process_publishes_all_send_in_one_order_with_one_id() -> None:
    async with two_processes() as (one, other, _):
        clients = [await one.stream(), await other.stream()]
        await publish(one, "a")
        await publish(other, "b")
        await other.channel.publish(SSEEvent("c", event="kind", id="mine"))
        for client in clients:
            assert (await client.receive(3))[:2] == ["a", "b"]
        assert clients[0].events == clients[1].events
        assert is_entry_id(clients[0].events[0].last_event_id)
        assert clients[0].events[2] == MessageEvent("kind", "c", "mine")
        stats = one.channel.stats()
        assert (stats.published, stats.delivered, stats.connected, stats.gaps) == (3, 3, True, 0)


async def test_a_client_goes_on_at_another_process_by_each_kind_of_id() -> None:
    async with two_processes() as (one, other, _):
        client = await one.stream()
        await publish(one, "a", "b")
        await one.channel.publish(SSEEvent("c", id="mine"))
        await publish(one, "d")
        await client.receive(4)
        for number, event in enumerate(client.events[:3], start=1):
            again = await other.stream(event.last_event_id)
            assert await again.receive(4 - number) == client.texts[number:]


async def test_a_process_that_has_just_begun_replays_what_was_published_before_it() -> None:
    store = MemoryStore()
    async with process_on(store) as one:
        client = await one.stream()
        await publish(one, "a", "b", "c")
        await client.receive(3)
    async with process_on(store) as new:
        late = await new.stream(client.events[0].last_event_id)
        assert await late.receive(2) == ["b", "c"]
        assert new.channel.stats().published == 3


async def test_who_wants_no_history_gets_none_of_it() -> None:
    store = MemoryStore()
    async with process_on(store) as one:
        await publish(one, "old", "older")
    async with process_on(store) as new, process_on(store, newcomers="history") as historian:
        client, reader_of_all = await new.stream(), await historian.stream()
        await publish(new, "new")
        assert await client.receive(1) == ["new"]
        assert await reader_of_all.receive(3) == ["old", "older", "new"]


async def test_an_id_that_only_another_process_has_seen_so_far_is_asked_for() -> None:
    async with two_processes() as (one, other, _):
        first, second = await one.stream(), await other.stream()
        await publish(one, "a")
        await second.receive(1)
        other.engine.is_deaf = True
        await publish(one, "b", "c")
        await first.receive(3)
        client = await other.stream(first.events[1].last_event_id)
        assert await client.receive(1) == ["c"]
        assert await second.receive(3) == ["a", "b", "c"]
        assert other.channel.stats().gaps == 0


async def test_an_id_that_nobody_has_seen_is_a_gap_before_all_of_the_history() -> None:
    async with two_processes() as (one, _, _):
        await publish(one, "a", "b")
        for id in ("unknown", f"17957051951170-0-{new_nonce()}", "99999999999999999999-0-9f3a61c2", "1-1-f123456789"):
            client = await one.stream(id)
            assert await client.receive(3) == ["gap", "a", "b"]
            assert client.events[0].data == id
        first = await one.stream()
        await publish(one, "c")
        (place, _, _) = (await first.receive(1), 0, 0)
        assert place == ["c"]
        wrong = place_of(first.events[0].last_event_id) + "-00000000"
        assert await (await one.stream(wrong)).receive(4) == ["gap", "a", "b", "c"]


async def test_without_a_history_it_is_a_channel_all_the_same() -> None:
    async with two_processes(history=0) as (one, other, _):
        client = await other.stream()
        await publish(one, *map(str, range(300)))
        assert await client.receive(300) == [str(number) for number in range(300)]
        assert len(other.channel._log) == 0
        again = await other.stream(client.last_event_id)
        await publish(one, "next")
        assert await again.receive(1) == ["next"]


async def test_events_that_come_together_are_one_piece() -> None:
    store = MemoryStore()
    async with process_on(store) as one:
        client = await one.stream()
        await wait_all_tasks_blocked()
        entries: list[Entry] = []
        for number in range(3):
            place = f"{number + 1}-0"
            entries.append(Entry(f"{place}-{new_nonce()}", place_of(entries[-1].id) if entries else "", b"data: x\n\n"))
        one.engine._listeners["news"][0](entries)
        await wait_all_tasks_blocked()
        data = await client.reply.receive()
        assert data.count(b"data: x") == 3


async def test_who_leaves_last_ends_the_listening_and_who_comes_next_begins_it_again() -> None:
    async with two_processes() as (one, other, _):
        for round in range(3):
            client = await other.stream(placed=True)
            assert "news" in other.engine._listeners
            await publish(one, f"in {round}")
            assert await client.receive(1) == [f"in {round}"]
            client.reply.disconnect()
            await until(lambda: not len(other.channel))
            assert "news" not in other.engine._listeners
            await publish(one, f"missed {round}")
        again = await other.stream(client.last_event_id)
        assert await again.receive(1) == ["missed 2"]
        assert other.channel.stats().gaps == 0


async def test_what_comes_while_a_process_joins_is_sent_to_who_came_before_it() -> None:
    async with two_processes() as (one, other, _):
        await publish(one, "before")
        original, answer = other.engine.read, anyio.Event()

        async def read(channel: str, after: str, most: int) -> list[Entry]:
            await answer.wait()
            return await original(channel, after, most)

        other.engine.read = read  # type: ignore[method-assign]
        client = await other.stream(placed=False)
        await wait_all_tasks_blocked()
        assert not len(other.channel)
        await publish(one, "after")
        answer.set()
        assert await client.receive(1) == ["after"]


async def test_who_comes_where_nobody_listened_while_the_engine_is_away_may_have_missed_something() -> None:
    async with two_processes() as (one, other, _):
        other.engine.cut()
        client = await other.stream(placed=False)
        await publish(one, "missed")
        other.engine.mend()
        await until(lambda: len(other.channel))
        await publish(one, "had")
        assert await client.receive(2) == ["gap", "had"]


# -- what is refused


def test_an_engine_needs_a_name_and_readers_that_wait_for_nobody() -> None:
    engine = MemoryEngine()
    with pytest.raises(ValueError, match="needs a name"):
        Channel(engine=engine)
    with pytest.raises(ValueError, match="needs a name"):
        Channel(engine=engine, name="")
    with pytest.raises(ValueError, match='policy is "disconnect" or "drop"'):
        Channel(engine=engine, name="news", policy="wait")
    assert Channel().name == "channel"


async def test_an_id_that_looks_like_an_engines_is_refused() -> None:
    async with two_processes() as (one, _, _):
        with pytest.raises(ValueError, match="looks like one of an engine's own"):
            await one.channel.publish(SSEEvent("x", id="1795705195117-0-9f3a61c2"))
        await one.channel.publish(SSEEvent("x", id="1795705195117-0"))


async def test_a_name_is_one_channels() -> None:
    async with MemoryEngine() as engine:
        app = H3App()
        channels = [Channel(name="news", engine=engine) for _ in range(2)]

        @app.get("/:number")
        async def events(event: H3Event) -> None:
            event.start_sse()
            event.set_stream_callback(channels[int(event.params["number"])].stream)

        async with open_memory(app) as server:
            await server.request("GET", "/0")
            second = await server.request("GET", "/1")
            await second.read()
            assert second.end is End.CUT
            for channel in channels:
                await channel.close()


async def test_without_its_engine_entered_a_channel_says_so() -> None:
    channel = Channel(name="news", engine=MemoryEngine())
    with pytest.raises(RuntimeError, match="has not been entered"):
        await channel.publish("x")
    assert channel.stats().connected is False


def test_an_events_id_leaves_its_bytes_as_a_line_of_its_own() -> None:
    events: list[dict[str, Any]] = [
        {"data": "x"},
        {"data": "id: 5", "id": "5"},
        {"data": "x", "id": "5", "event": "id: 5", "retry": 3, "comment": "x\nid: 5\nid: 5"},
        {"id": "5"},
        {"id": "", "data": ""},
    ]
    for fields in events:
        event, without = SSEEvent(**fields), {name: value for name, value in fields.items() if name != "id"}
        expected = SSEEvent(**without).encode() if without else b"\n"
        assert without_id(event) == expected
    got = EventStreamParser().feed(b"id: new\n" + without_id(SSEEvent("a\nb", event="kind", id="old")))
    assert got == [MessageEvent("kind", "a\nb", "new")]


# -- what fails


async def test_what_the_engine_says_of_a_publish_is_what_publish_raises() -> None:
    async with two_processes() as (one, _, _):
        for error in (EngineUnavailable("away"), EngineUncertain("perhaps"), EngineRefused("never")):
            one.engine.errors = [error]
            with pytest.raises(type(error)):
                await publish(one, "x")
        assert one.channel.stats().errors == 3


async def test_while_the_engine_is_away_streams_stay_and_come_and_get_their_rest_later() -> None:
    async with two_processes() as (one, other, _):
        first, second = await one.stream(), await other.stream()
        await publish(one, "a")
        await second.receive(1)
        other.engine.cut()
        await publish(one, "b")
        with pytest.raises(EngineUnavailable):
            await publish(other, "x")
        live = await other.stream()  # it is there at once: what comes from now on is for it
        late = await other.stream(second.last_event_id)
        await first.receive(2)
        unknown = await other.stream(first.last_event_id, placed=False)
        await wait_all_tasks_blocked()
        assert len(other.channel) == 3
        other.engine.mend()
        await publish(one, "c")
        assert await second.receive(3) == ["a", "b", "c"]
        assert await live.receive(2) == await late.receive(2) == ["b", "c"]
        assert await unknown.receive(1) == ["c"]


async def test_one_who_waits_for_the_engine_may_leave_and_is_let_go_by_the_end_of_the_channel() -> None:
    async with two_processes() as (one, _, _):
        one.engine.cut()
        leaves, stays = await one.stream(placed=False), await one.stream(placed=False)
        await wait_all_tasks_blocked()
        leaves.reply.disconnect()
        await wait_all_tasks_blocked()
        await one.channel.close()
        assert await stays.rest() == []
        assert stays.reply.end is End.PROPER
        assert "news" not in one.engine._listeners


async def test_a_read_that_fails_is_tried_again_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    async with two_processes() as (one, _, _):
        await publish(one, "a")
        one.engine.errors = [EngineUnavailable("away"), EngineRefused("another type"), RuntimeError("a fault")]
        client = await one.stream("unknown")
        assert await client.receive(2) == ["gap", "a"]
    told = [record for record in caplog.records if "can't be read" in record.getMessage()]
    assert [record.exc_info is not None for record in told] == [False, True]


# -- what is lost


async def test_a_message_that_is_lost_is_read_when_the_next_one_comes() -> None:
    async with two_processes() as (one, other, _):
        client = await other.stream()
        await publish(one, "a")
        other.engine.is_deaf = True
        await publish(one, "b", "c")
        other.engine.is_deaf = False
        await publish(one, "d")
        assert await client.receive(4) == ["a", "b", "c", "d"]
        assert other.channel.stats().resyncs == 2


async def test_what_was_trimmed_while_a_process_was_cut_off_is_a_gap_in_its_place() -> None:
    async with two_processes() as (one, other, store):
        here, there = await one.stream(), await other.stream()
        await publish(one, "a")
        await there.receive(1)
        other.engine.cut()
        await publish(one, *map(str, range(600)))
        assert len(store.channels["news"]) == 256
        other.engine.mend()
        texts = await there.receive(258)
        assert texts == ["a", "gap", *map(str, range(344, 600))]
        assert there.events[1].data == there.events[0].last_event_id
        assert (await here.receive(601))[1:] == [*map(str, range(600))]
        assert (one.channel.stats().gaps, other.channel.stats().gaps) == (0, 1)


async def test_a_rollback_is_a_fence_that_all_tell_in_its_place_and_none_doubles() -> None:
    store = MemoryStore()
    async with process_on(store) as one, process_on(store) as other, process_on(store) as third:
        clients = [await process.stream() for process in (one, other, third)]
        await publish(one, "a", "b")
        for client in clients:
            await client.receive(2)
        third.engine.cut()
        await publish(one, "lost", "lost too")
        for client in clients[:2]:
            await client.receive(4)
        del store.channels["news"][2:]
        for process in (one, other, third):
            process.engine.mend()
        await until(lambda: len(store.channels["news"]) == 3)
        await publish(third, "c")
        for client, lost in zip(clients, (["lost", "lost too"],) * 2 + ([],), strict=True):
            assert await client.receive(4 + len(lost)) == ["a", "b", *lost, "gap", "c"]
        assert [entry.fence for entry in store.channels["news"]] == [False, False, True, False]
        gaps = {client.events[-2].last_event_id for client in clients}
        assert gaps == {store.channels["news"][2].id}, "a gap of all has the id of their fence"
        again = await other.stream(gaps.pop())
        assert await again.receive(1) == ["c"]
        stats = [process.channel.stats() for process in (one, other, third)]
        assert sum(figures.rollbacks for figures in stats) >= 1
        assert [figures.fences for figures in stats] == [1, 1, 1]


async def test_who_was_told_that_its_event_is_kept_tells_of_its_loss_though_it_never_heard_it() -> None:
    async with two_processes() as (one, other, store):
        clients = [await one.stream(), await other.stream()]
        await publish(one, "a")
        for client in clients:
            await client.receive(1)
        one.engine.is_deaf = other.engine.is_deaf = True
        await publish(one, "lost")
        store.channels["news"].pop()
        one.engine.mend()
        other.engine.mend()
        for client in clients:
            assert await client.receive(2) == ["a", "gap"]


async def test_an_entry_that_was_heard_and_lost_before_it_could_be_placed_is_a_gap() -> None:
    async with two_processes() as (one, other, store):
        clients = [await one.stream(), await other.stream()]
        await publish(one, "a")
        for client in clients:
            await client.receive(1)
        lost = Entry("99999999999999-0-00000001", "99999999999998-0", b"data: lost\n\n")
        other.engine.hear("news", lost)
        for client in clients:
            assert await client.receive(2) == ["a", "gap"]
        await publish(one, "b")
        for client in clients:
            assert await client.receive(3) == ["a", "gap", "b"]
        assert other.channel.stats().rollbacks == 1
        assert len(store.channels["news"]) == 3


async def test_after_a_flush_who_was_cut_off_has_a_gap_and_who_was_not_has_none() -> None:
    async with two_processes() as (one, other, store):
        here, there = await one.stream(), await other.stream()
        await publish(one, "a")
        await there.receive(1)
        other.engine.cut()
        await publish(one, "b")
        store.channels.clear()
        other.engine.mend()
        await publish(one, "c")
        assert await here.receive(3) == ["a", "b", "c"]
        assert await there.receive(3) == ["a", "gap", "c"]


async def test_what_was_heard_before_a_flush_does_not_come_after_what_was_read_since() -> None:
    async with two_processes() as (one, other, store):
        here, there = await one.stream(), await other.stream()
        await publish(one, "a")
        await there.receive(1)
        original, is_first = other.engine.read, [True]

        async def read(channel: str, after: str, most: int) -> list[Entry]:
            if is_first.pop() if is_first else False:
                store.channels.clear()
                await publish(one, "b", "c")
                store.channels.clear()
                await publish(one, "d")
            return await original(channel, after, most)

        other.engine.read = read  # type: ignore[method-assign]
        other.engine.mend()
        assert await here.receive(4) == ["a", "b", "c", "d"]
        assert await there.receive(3) == ["a", "gap", "d"]
        await publish(one, "e")
        assert await there.receive(4) == ["a", "gap", "d", "e"]


async def test_a_clock_that_was_set_back_changes_nothing_also_after_a_flush() -> None:
    now = [2_000_000.0]
    store = MemoryStore(lambda: now[0])
    async with process_on(store) as one, process_on(store) as other:
        here, there = await one.stream(), await other.stream()
        await publish(one, "a", "b")
        now[0] -= 3600
        await publish(one, "c")
        await there.receive(3)
        other.engine.cut()
        store.channels.clear()
        await publish(one, "d")
        other.engine.mend()
        await publish(one, "e")
        assert await here.receive(5) == ["a", "b", "c", "d", "e"]
        assert await there.receive(6) == ["a", "b", "c", "gap", "d", "e"]


async def test_what_is_stored_again_under_another_id_is_sent_once() -> None:
    async with two_processes() as (one, other, store):
        here, there = await one.stream(), await other.stream()
        await publish(one, "a")
        nonce = new_nonce()
        again = {"nonce": nonce, "keep": 256, "since": store.channels["news"][-1].id}
        await one.engine.append("news", b"data: b\n\n", **again)
        await here.receive(2)
        await there.receive(2)
        store.channels["news"].pop()
        await one.engine.append("news", b"data: b\n\n", **again)
        one.engine.mend()
        other.engine.mend()
        await publish(one, "c")
        for client in (here, there):
            assert await client.receive(3) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [EngineRefused, EngineUncertain])
async def test_a_fence_that_can_not_be_set_is_a_gap_of_ones_own(kind: type[Exception]) -> None:
    async with two_processes() as (one, _, store):
        client = await one.stream()
        await publish(one, "a", "lost")
        await client.receive(2)
        store.channels["news"].pop()
        original = one.engine.append

        async def refuse(channel: str, data: bytes, **options: Any) -> str:
            if options.get("fence"):
                raise kind("no memory, or no place to begin the search at")
            return await original(channel, data, **options)

        one.engine.append = refuse  # type: ignore[method-assign]
        one.engine.mend()
        assert await client.receive(3) == ["a", "lost", "gap"]
        assert one.channel.stats().errors == (1 if kind is EngineRefused else 3)
        await publish(one, "b")
        assert (await client.receive(4))[-1] == "b"


async def test_a_loss_that_comes_while_pages_are_read_begins_the_reading_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "PAGE", 3)
    async with two_processes() as (one, other, store):
        client = await other.stream()
        await publish(one, *"abc")
        await client.receive(3)
        other.engine.cut()
        await publish(one, *"defghijkl")
        original = other.engine.read

        async def read(channel: str, after: str, most: int) -> list[Entry]:
            page = await original(channel, after, most)
            if any(b"data: f" in entry.data for entry in page):
                del store.channels["news"][:8]
            return page

        other.engine.read = read  # type: ignore[method-assign]
        other.engine.mend()
        assert await client.receive(9) == ["a", "b", "c", "d", "e", "gap", "i", "j", "k"] or client.texts[:6] == [
            *"abcde",
            "f",
        ]
        assert "gap" in client.texts or len(client.texts) == 12
