"""The native adapter's `Flusher` and `Deadlines`: whose turn it is, and that nobody's trouble is another's."""

from __future__ import annotations

import anyio
import pytest

from h3ref.adapters.h11_anyio.deadlines import Deadlines
from h3ref.adapters.h11_anyio.flusher import SENDS_A_TURN, Flusher
from h3ref.adapters.h11_anyio.turns import loop_turns
from tests.waits import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


class Stream:
    """Counts how often it was sent."""

    def __init__(self, flusher: Flusher | None = None, *, fails: bool = False) -> None:
        self.sent = 0
        self._flusher = flusher
        self._fails = fails

    def flush_now(self) -> int:
        self.sent += 1
        if self._fails:
            raise RuntimeError("on purpose")
        if self._flusher is not None:
            self._flusher.put_later(self)  # as one who writes on and on
        return 1


async def test_the_first_after_quiet_is_sent_at_once_and_the_next_after_the_gap() -> None:
    flusher, stream = Flusher(loop_turns(), 0.005), Stream()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flusher.run)
        await wait_all_tasks_blocked()
        flusher.put(stream)
        assert stream.sent == 1
        flusher.put(stream)
        flusher.put(stream)
        assert stream.sent == 1
        with anyio.fail_after(10):
            while stream.sent < 2:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert stream.sent == 2


async def test_what_is_put_before_the_task_runs_is_not_forgotten() -> None:
    flusher, stream = Flusher(loop_turns(), 0), Stream()
    flusher.put(stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flusher.run)
        with anyio.fail_after(10):
            while not stream.sent:
                await anyio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert stream.sent == 1


async def test_one_streams_failure_stops_no_other() -> None:
    flusher = Flusher(loop_turns(), 0)
    streams = [Stream(), Stream(fails=True), Stream()]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flusher.run)
        for _ in range(3):
            for stream in streams:
                flusher.put(stream)
            await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert [stream.sent for stream in streams] == [3, 3, 3]


async def test_a_long_round_gives_way_and_who_writes_on_and_on_has_one_turn_in_each() -> None:
    flusher = Flusher(loop_turns(), 0)
    greedy, others = Stream(flusher), [Stream() for _ in range(3 * SENDS_A_TURN)]
    turns = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flusher.run)
        for stream in (greedy, *others):
            flusher.put_later(stream)
        with anyio.fail_after(10):
            while not all(stream.sent for stream in others):
                await anyio.lowlevel.checkpoint()
                turns += 1
        tasks.cancel_scope.cancel()
    assert turns >= 3
    assert greedy.sent <= 2


class Waiter:
    """Notes that its time was up."""

    def __init__(self) -> None:
        self.expired = anyio.Event()

    def expire(self) -> None:
        self.expired.set()


async def test_deadlines_end_the_oldest_first_and_spare_who_has_left() -> None:
    deadlines = Deadlines(0.02)
    first, gone, last = Waiter(), Waiter(), Waiter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deadlines.run)
        await wait_all_tasks_blocked()
        for waiter in (first, gone, last):
            deadlines.put(waiter)
        deadlines.discard(gone)
        with anyio.fail_after(10):
            await first.expired.wait()
            await last.expired.wait()
        deadlines.put(first)  # and again after quiet
        first.expired = anyio.Event()
        with anyio.fail_after(10):
            await first.expired.wait()
        tasks.cancel_scope.cancel()
    assert not gone.expired.is_set()
