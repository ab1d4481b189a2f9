"""The native adapter's `Flusher`, `Watcher`, `Deadlines`: whose turn it is, and that nobody's trouble is another's."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from h3ref import Limits
from h3ref.adapters.h11_anyio.deadlines import Deadlines
from h3ref.adapters.h11_anyio.flusher import SENDS_A_TURN, Flusher
from h3ref.adapters.h11_anyio.loop import Loop
from h3ref.adapters.h11_anyio.stream import StreamConnection
from h3ref.adapters.h11_anyio.turns import loop_turns
from h3ref.connection import StreamHead
from tests.waits import until, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def a_loop(gap: float = 0.0005, limits: Limits | None = None) -> AsyncIterator[Loop]:
    """What all connections of a server share, at work."""
    loop = Loop(gap, limits or Limits(), lambda stream: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop.run)
        await wait_all_tasks_blocked()
        try:
            yield loop
        finally:
            loop.stop()
    loop.watcher.release()


class Stream:
    """Counts how often it was sent."""

    def __init__(self, flusher: Flusher | None = None, *, fails: bool = False) -> None:
        self.sent = 0
        self.size = 0
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


async def test_what_is_new_leaves_when_the_turn_is_over_and_begins_no_gap() -> None:
    async with a_loop(gap=30) as loop:
        first, second, gone = (Stream(fails=fails) for fails in (True, False, False))
        for stream in (first, second, gone):
            loop.flusher.put_new(stream)
            loop.flusher.put_new(stream)
        loop.flusher.discard(gone)
        assert [stream.sent for stream in (first, second, gone)] == [0, 0, 0], "they may have more by its end"
        await wait_all_tasks_blocked()
        assert [stream.sent for stream in (first, second, gone)] == [1, 1, 0]
        loop.flusher.put(second)
        assert second.sent == 2, "the gap would be half a minute"


async def test_more_new_ones_than_a_turn_sends_to_leave_in_rounds() -> None:
    async with a_loop(gap=0) as loop:
        streams = [Stream() for _ in range(3 * SENDS_A_TURN)]
        for stream in streams:
            loop.flusher.put_new(stream)
        await until(lambda: any(stream.sent for stream in streams))
        assert sum(stream.sent for stream in streams) < len(streams), "on trio the second round may be over"
        await wait_all_tasks_blocked()
        assert {stream.sent for stream in streams} == {1}


async def test_who_is_over_by_the_end_of_the_turn_is_not_watched_and_another_is() -> None:
    seen: list[str] = []
    ours, theirs = socket.socketpair()
    over, other = socket.socketpair()
    with ours, theirs, over, other:
        async with a_loop() as loop:
            for sock, name in ((ours, "stays"), (over, "is over")):
                sock.setblocking(False)
                loop.watcher.watch_soon(sock, partial(seen.append, name))
            loop.watcher.await_write(ours, partial(seen.append, "writes"))
            loop.watcher.discard_write(ours)
            loop.watcher.discard(over)
            theirs.send(b"1")
            other.send(b"1")
            await until(lambda: seen)
            loop.watcher.discard(ours)
    assert set(seen) == {"stays"}


async def test_one_that_can_not_be_watched_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    ours, theirs = socket.socketpair()
    closed, left = socket.socketpair()
    closed.close()
    with ours, theirs, left:
        async with a_loop() as loop:
            for sock, name in ((closed, "closed"), (ours, "open")):
                loop.watcher.watch_soon(sock, partial(seen.append, name))
            theirs.send(b"1")
            await until(lambda: seen)
            loop.watcher.discard(ours)
    assert set(seen) == {"open"}
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]


@pytest.mark.parametrize("reads", [True, False])
async def test_a_stream_whose_reader_falls_behind_at_its_very_end_is_waited_for_in_time(reads: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        async with a_loop(limits=Limits(close_timeout=30 if reads else 0.01)) as loop:
            connection = StreamConnection(ours, loop, lambda: None, lambda: None, chunked=True, bodiless=False)
            await connection.send_headers(StreamHead([]))
            connection.write_chunk(b"x" * 60_000)  # not so much that it is sent at once
            assert connection.can_end
            received: list[bytes] = []
            async with anyio.create_task_group() as tasks:
                waits = connection.end_now(cut=False)
                assert waits is not None, "the socket takes less than that"
                if reads:
                    tasks.start_soon(receive_all, theirs, received)
                with anyio.CancelScope() as scope:
                    scope.cancel()  # which waits until the end is there, or given up
                    await waits
                ours.close()
            if not reads:
                await receive_all(theirs, received)
            assert b"".join(received).endswith(b"x\r\n0\r\n\r\n") is reads


async def receive_all(sock: socket.socket, received: list[bytes]) -> None:
    while True:
        try:
            received.append(sock.recv(65536))
        except BlockingIOError:
            await anyio.wait_readable(sock)
            continue
        if not received[-1]:
            return


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
