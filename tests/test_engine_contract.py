"""What every engine does: the same tests for all of them, see `Engine`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import anyio.to_thread
import pytest

from h3ref.engine import Engine, EngineUncertain, Entry
from h3ref.engine.ids import is_entry_id, new_nonce
from tests.engines import ENGINES, Backend
from tests.waits import until

pytestmark = pytest.mark.anyio

KEEP = 256


Make = Callable[[], Engine]


@pytest.fixture(params=ENGINES)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    async with ENGINES[request.param]() as entered:
        yield entered


@pytest.fixture
def make(backend: Backend) -> Make:
    return backend.make


@pytest.fixture
async def engine(make: Make) -> AsyncIterator[Engine]:
    async with make() as entered:
        yield entered


async def append(engine: Engine, channel: str, *texts: str, keep: int = KEEP) -> list[str]:
    return [await engine.append(channel, text.encode(), nonce=new_nonce(), keep=keep) for text in texts]


def texts_of(entries: Sequence[Entry]) -> list[str]:
    return [entry.data.decode() for entry in entries]


class Ears:
    """Listens to a channel, and remembers."""

    def __init__(self, engine: Engine, channel: str) -> None:
        self.heard: list[Entry] = []
        self.losses = 0
        engine.listen(channel, self.heard.extend, self._lost)

    def _lost(self) -> None:
        self.losses += 1


# -- keeping


async def test_what_is_appended_is_read_as_it_was(engine: Engine) -> None:
    plain, own = new_nonce(), new_nonce()
    data = b"event: \xf0\x9f\x90\x8d\ndata: a\0b\r\xff\n\n"
    first = await engine.append("news", data, nonce=plain, keep=KEEP)
    second = await engine.append("news", b"", nonce=own, keep=KEEP, event_id="an id: of its own")
    one, two = await engine.read("news", "", 10)
    assert (one.id, one.previous, one.data, one.event_id, one.fence) == (first, "", data, "", False)
    assert (two.id, two.previous, two.data, two.event_id) == (second, one.place, b"", "an id: of its own")
    assert one.nonce == plain
    assert two.nonce == own


async def test_an_id_is_a_place_and_the_nonce(engine: Engine) -> None:
    nonce = new_nonce()
    id = await engine.append("news", b"x", nonce=nonce, keep=KEEP)
    milliseconds, number, end = id.split("-")
    assert is_entry_id(id)
    assert end == nonce
    assert (milliseconds, number) == (str(int(milliseconds)), str(int(number)))


async def test_each_entry_names_the_one_before_it(engine: Engine) -> None:
    await append(engine, "news", *map(str, range(20)))
    entries = await engine.read("news", "", 100)
    assert [entry.previous for entry in entries] == ["", *(entry.place for entry in entries[:-1])]


async def test_a_read_begins_with_the_entry_that_it_is_after(engine: Engine) -> None:
    ids = await append(engine, "news", "a", "b", "c", "d")
    assert texts_of(await engine.read("news", ids[1], 10)) == ["b", "c", "d"]
    assert texts_of(await engine.read("news", ids[1], 2)) == ["b", "c"]
    assert texts_of(await engine.read("news", ids[3], 10)) == ["d"]
    assert texts_of(await engine.read("news", "", 3)) == ["a", "b", "c"]


async def test_of_a_channel_that_is_not_there_nothing_is_read(engine: Engine) -> None:
    assert await engine.read("nothing", "", 10) == []
    assert await engine.read("nothing", "1795705195117-0-9f3a61c2", 10) == []


async def test_a_channel_keeps_what_it_shall_and_little_more(engine: Engine) -> None:
    ids = await append(engine, "news", *map(str, range(1000)), keep=300)
    entries = await engine.read("news", "", 2000)
    assert 300 <= len(entries) <= 500
    assert texts_of(entries) == [str(number) for number in range(1000 - len(entries), 1000)]
    (first, *_) = await engine.read("news", ids[10], 2000)
    assert first == entries[0], "it is trimmed, so that the oldest one comes, which does not name it"
    assert first.previous != ids[10].rpartition("-")[0]


async def test_channels_are_apart_whatever_their_names(engine: Engine) -> None:
    names = ["news", "new", "a:b", "{a}", "a}b", " ", "zwei\nZeilen", "é", "x" * 300]
    for name in names:
        await append(engine, name, name)
    for name in names:
        assert texts_of(await engine.read(name, "", 10)) == [name]


async def test_many_at_once_are_in_one_order(make: Make) -> None:
    async with make() as one, make() as other, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(append, one if number % 2 else other, "news", f"{number} a", f"{number} b")
    async with make() as engine:
        entries = await engine.read("news", "", 1000)
    assert len({entry.id for entry in entries}) == len(entries) == 100
    assert [entry.previous for entry in entries] == ["", *(entry.place for entry in entries[:-1])]
    texts = texts_of(entries)
    assert all(texts.index(f"{number} a") < texts.index(f"{number} b") for number in range(50))


# -- a second time


async def test_what_is_appended_again_is_kept_once(make: Make) -> None:
    async with make() as engine, make() as other:
        (before,) = await append(engine, "news", "before")
        nonce = new_nonce()
        id = await engine.append("news", b"once", nonce=nonce, keep=KEEP)
        await append(other, "news", "after")
        assert await engine.append("news", b"once", nonce=nonce, keep=KEEP, since=before) == id
        assert await other.append("news", b"once", nonce=nonce, keep=KEEP, since=before) == id
        assert texts_of(await engine.read("news", "", 10)) == ["before", "once", "after"]


async def test_what_was_not_kept_is_kept_when_it_comes_again(engine: Engine) -> None:
    assert is_entry_id(await engine.append("news", b"first", nonce=new_nonce(), keep=KEEP, since=""))
    (before,) = await append(engine, "news", "before")
    await append(engine, "news", "between")
    await engine.append("news", b"again", nonce=new_nonce(), keep=KEEP, since=before)
    assert texts_of(await engine.read("news", "", 10)) == ["first", "before", "between", "again"]


async def test_the_first_entry_of_all_may_come_again_too(engine: Engine) -> None:
    nonce = new_nonce()
    id = await engine.append("news", b"once", nonce=nonce, keep=KEEP)
    assert await engine.append("news", b"once", nonce=nonce, keep=KEEP, since="") == id


async def test_where_the_search_can_no_longer_begin_it_is_uncertain(engine: Engine) -> None:
    (old,) = await append(engine, "news", "old")
    await append(engine, "news", *map(str, range(1000)), keep=300)
    for since in (old, ""):
        with pytest.raises(EngineUncertain):
            await engine.append("news", b"x", nonce=new_nonce(), keep=300, since=since)


async def test_of_one_loss_there_is_one_fence(make: Make) -> None:
    async with make() as engine, make() as other:
        (common,) = await append(engine, "news", "common")
        await append(engine, "news", "new")
        fence = await engine.append("news", b"", nonce="f0123abcd", keep=KEEP, since=common, fence=True)
        assert fence.endswith("-f0123abcd")
        assert is_entry_id(fence)
        for again in ("f0123abcd", "fffffffff"):
            assert await other.append("news", b"", nonce=again, keep=KEEP, since=common, fence=True) == fence
        *_, last = await engine.read("news", "", 10)
        assert (last.id, last.fence, last.data) == (fence, True, b"")
        (next,) = await append(engine, "news", "next")
        assert await engine.append("news", b"", nonce="f89abcdef", keep=KEEP, since=next, fence=True) != fence
        assert [entry.fence for entry in await engine.read("news", "", 10)] == [False, False, True, False, True]


async def test_nothing_follows_on_what_is_lost_but_a_fence(backend: Backend) -> None:
    async with backend.make() as engine, backend.make() as other:
        await append(engine, "news", "a", "b")
        ears = Ears(other, "news")
        await until(lambda: ears.losses)
        (lost,) = await append(engine, "news", "lost")
        await until(lambda: ears.heard)
        backend.lose("news")
        async with backend.make() as newcomer:
            await append(newcomer, "news", "by one who does not know")
        await append(engine, "news", "c", "d")
        await append(other, "news", "e")
        entries = await engine.read("news", "", 10)
        assert [entry.fence for entry in entries] == [False, False, False, True, False, False, False]
        assert texts_of(entries) == ["a", "b", "by one who does not know", "", "c", "d", "e"]
        assert entries[3].nonce == "f" + lost[-8:]
        assert [entry.previous for entry in entries[1:]] == [entry.place for entry in entries[:-1]]
        await until(lambda: len(ears.heard) == 6)
        assert ears.heard[1:] == entries[2:]


async def test_what_was_only_trimmed_is_not_lost(make: Make) -> None:
    async with make() as engine, make() as other:
        await append(other, "news", "known to it")
        await append(engine, "news", *map(str, range(1000)), keep=256)
        await append(other, "news", "another")
        assert not any(entry.fence for entry in await engine.read("news", "", 2000))


# -- listening


async def test_all_hear_what_any_appends_in_one_order(make: Make) -> None:
    async with make() as one, make() as other:
        ears = [Ears(one, "news"), Ears(other, "news")]
        quiet = Ears(other, "else")
        await until(lambda: all(ear.losses == 1 for ear in (*ears, quiet)))
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(append, one if number % 2 else other, "news", str(number))
        await until(lambda: all(len(ear.heard) == 20 for ear in ears))
        kept = await one.read("news", "", 100)
        assert ears[0].heard == ears[1].heard == kept
        assert quiet.heard == []


async def test_a_fence_and_an_own_id_are_heard_as_they_are_read(engine: Engine) -> None:
    ears = Ears(engine, "news")
    await until(lambda: ears.losses)
    data = b"data: \xff\0 a  b\n\n"
    await engine.append("news", data, nonce=new_nonce(), keep=KEEP, event_id="mine: 1 2  ")
    await engine.append("news", b"", nonce="f0123abcd", keep=KEEP, since="", fence=True)
    await engine.append("news", b"", nonce=new_nonce(), keep=KEEP)
    await until(lambda: len(ears.heard) == 3)
    assert ears.heard == await engine.read("news", "", 10)


async def test_what_comes_again_is_heard_once(engine: Engine) -> None:
    ears = Ears(engine, "news")
    await until(lambda: ears.losses)
    nonce = new_nonce()
    for _ in range(3):
        await engine.append("news", b"once", nonce=nonce, keep=KEEP, since="")
    await append(engine, "news", "last")
    await until(lambda: ears.heard and ears.heard[-1].data == b"last")
    assert texts_of(ears.heard) == ["once", "last"]


async def test_who_listens_no_more_hears_no_more(engine: Engine) -> None:
    ears = Ears(engine, "news")
    await until(lambda: ears.losses)
    await append(engine, "news", "heard")
    await until(lambda: ears.heard)
    engine.unlisten("news")
    engine.unlisten("news")
    again = Ears(engine, "news")
    await until(lambda: again.losses)
    await append(engine, "news", "not heard")
    await until(lambda: again.heard)
    assert texts_of(ears.heard) == ["heard"]
    assert texts_of(again.heard) == ["not heard"]


async def test_a_channel_is_listened_to_once(engine: Engine) -> None:
    Ears(engine, "news")
    with pytest.raises(ValueError, match="already has a channel 'news': share one Channel of that name"):
        Ears(engine, "news")


# -- entering


async def test_an_engine_that_is_not_entered_does_nothing(make: Make) -> None:
    engine = make()
    assert not engine.connected
    for _ in range(2):
        with pytest.raises(RuntimeError, match="has not been entered"):
            await append(engine, "news", "x")
        with pytest.raises(RuntimeError, match="has not been entered"):
            await engine.read("news", "", 1)
        with pytest.raises(RuntimeError, match="has not been entered"):
            engine.start_soon(anyio.sleep, 0)
        with pytest.raises(RuntimeError, match="has not been entered"):
            Ears(engine, "news")
        engine.unlisten("news")
        async with engine:
            assert engine.connected
            ears = Ears(engine, "news")
            await until(lambda ears=ears: ears.losses)
            await append(engine, "news", "x")
        assert not engine.connected


async def test_it_is_entered_once(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="has been entered already"):
        await engine.__aenter__()
    await append(engine, "news", "it goes on")


async def test_what_it_started_ends_with_it(make: Make) -> None:
    ended: list[bool] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async with make() as engine:
        engine.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        assert not ended
    assert ended


async def test_another_thread_is_told_how(engine: Engine) -> None:
    def ask() -> None:
        anyio.run(append, engine, "news", "x")

    with pytest.raises(RuntimeError, match="the event loop of another thread"):
        await anyio.to_thread.run_sync(ask)


async def test_a_thread_of_the_loop_appends(engine: Engine) -> None:
    await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(append, engine, "news", "x"))
    assert texts_of(await engine.read("news", "", 10)) == ["x"]
