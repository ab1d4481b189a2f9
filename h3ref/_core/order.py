"""`Order`: everything sent on a stream leaves in the order of the calls, no matter who sends it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel

from .. import trace
from ..connection import HIGH_WATER, Connection
from ..lifecycle import Lifecycle, State
from .feed import Feed
from .turn import Turn

_STREAMING = State.STREAMING


class Order:
    """The order in which events leave: those of feeds, those that wait for their turn, and the room for the others.

    What has to wait for the reader keeps its place, and what is sent or published after it waits behind it.

    Args:
        lifecycle: where the exchange is in its life.
        connection: what takes the bytes.
        high_water: bytes that may wait for the reader: from there on, senders have to wait.

    Attributes:
        room: bytes that fit for sure before a sender needs to look at the buffer, or to give way to other tasks; none
            once the stream is closed, so that a sender need not ask for its state.
        count: events that came through no feed, or through one that is over.
    """

    __slots__ = ("_feeds", "_size", "_turns", "_unyielded", "connection", "count", "high_water", "lifecycle", "room")

    def __init__(self, lifecycle: Lifecycle, connection: Connection, high_water: int) -> None:
        self.lifecycle = lifecycle
        self.connection = connection
        self.high_water = high_water
        self.count = 0
        self._feeds: tuple[Feed, ...] = ()  # what else brings it events
        self._turns: tuple[Turn, ...] = ()  # what waits, in the order of the calls
        self._unyielded = 0  # bytes sent outside feeds since other tasks last had their turn
        self.room = min(HIGH_WATER, high_water)
        self._size = self.room  # minus the room, it says how many bytes were sent: they are counted just once

    @property
    def is_active(self) -> bool:
        """Whether it can still be written to."""
        return self.lifecycle.state is _STREAMING

    @property
    def event_count(self) -> int:
        """Events taken so far; keep-alives are not counted."""
        return self.count + (sum(feed.taken for feed in self._feeds) if self._feeds else 0)

    @property
    def byte_count(self) -> int:
        """Bytes of the events and keep-alives taken so far, without what frames them on the way."""
        return self._size - self.room + (sum(feed.taken_size for feed in self._feeds) if self._feeds else 0)

    @property
    def waiting(self) -> int:
        """Bytes that wait for the reader, in its connection, in a feed, or for their turn."""
        size = self.connection.buffered
        for feed in self._feeds:
            size += feed.waiting
        for turn in self._turns:
            size += turn.size
        return size

    def check(self) -> None:
        """Raise what a send would raise now, above all if the stream has ended."""
        if self.lifecycle.state is not _STREAMING:
            self.lifecycle.take(trace.SEND_EVENT)  # raises, and records the rejection

    # -- turns

    async def take_turn(self, put: Callable[[bytes], None], data: bytes) -> None:
        """Send it after all that was sent before: at once if there is room, else when its turn has come."""
        if not self.is_active:
            await anyio.lowlevel.checkpoint()
            self.check()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self.waiting < self.high_water:
            self._bring_all()
            put(data)
            await self._give_way(len(data))
        else:
            await self._wait_for_turn(partial(put, data), len(data))
        # What a feed brings fills the buffer unseen, so with a feed each event has to look.
        self._set_room(0 if self._feeds else self.room_for(None))

    async def _give_way(self, size: int) -> None:
        """Let the other tasks run: at least once in 64 KiB, since a sender may wait for nothing else."""
        self._unyielded += size
        if not self._feeds or self._unyielded >= HIGH_WATER:
            self._unyielded = 0
            await anyio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_for_turn(self, put: Callable[[], None], size: int) -> None:
        turn = Turn(put, size, {feed: feed.hold() for feed in self._feeds})
        self._turns = (*self._turns, turn)
        self._set_room(0)
        try:
            while self.is_active and not turn.is_over:
                await self._come_closer(turn)
        finally:
            self._forget(turn)
        if not turn.is_over:
            self.check()

    async def _come_closer(self, turn: Turn) -> None:
        """Wait until no other turn is before it, and there is room; then bring what was sent before it, and take it."""
        if self._turns[0] is not turn:
            await turn.wait(anyio.sleep_forever)
            return
        await turn.wait(self.connection.drain)
        await anyio.lowlevel.checkpoint()
        if not self.is_active or turn.is_over:
            return
        if self.connection.buffered < self.high_water and all(
            feed.bring(place) for feed, place in tuple(turn.places.items())
        ):
            turn.take()

    def _forget(self, turn: Turn) -> None:
        """It was taken, or given up: let the turns behind it go on."""
        self._turns = tuple(other for other in self._turns if other is not turn)
        for feed in self._feeds:
            feed.go_on()
        if self._turns:
            self._turns[0].look_again()

    def _bring_all(self) -> None:
        """Take all turns, each in its place, and bring what was sent through feeds so far."""
        turns, self._turns = self._turns, ()
        for turn in turns:
            for feed, place in turn.places.items():
                while not feed.bring(place):
                    pass
            turn.take()
            turn.look_again()
        for feed in self._feeds:
            while not feed.bring():
                pass
            feed.go_on()

    def _set_room(self, room: int) -> None:
        self._size += room - self.room
        self.room = room

    # -- its feeds

    def room_for(self, feed: Feed | None) -> int:
        """Bytes that can be sent, for sure and in their place, before a sender has to look, or to give way."""
        if not self.is_active or self._turns or any(other is not feed for other in self._feeds):
            return 0
        return min(HIGH_WATER, self.high_water - self.connection.buffered)

    def place_of(self, feed: Feed) -> int | None:
        """The place, as `Feed.hold` returned it, before which a feed has to stop, for another's turn.

        None if nothing waits; -1 for a feed that came after what waits.
        """
        return self._turns[0].places.get(feed, -1) if self._turns else None

    def add_feed(self, feed: Feed) -> None:
        """Ask this feed, too, for what it still holds before the stream ends; a second call does nothing."""
        if not any(other is feed for other in self._feeds):
            for other in self._feeds:
                other.bring_sent()
            self._feeds = (*self._feeds, feed)
        self._set_room(0)

    def discard_feed(self, feed: Feed) -> None:
        """Let a feed bring its rest, and no more; what it has brought stays counted. A second call does nothing."""
        if any(other is feed for other in self._feeds):
            if self._turns and self.is_active:
                self._bring_all()
            self._feeds = tuple(other for other in self._feeds if other is not feed)
            self._close_feed(feed, rest=True)

    def _close_feed(self, feed: Feed, *, rest: bool) -> None:
        if rest:
            feed.bring_rest()
        feed.close()
        self.count += feed.taken
        self._size += feed.taken_size
        for turn in self._turns:
            turn.places.pop(feed, None)

    def close_feeds(self, task: int, *, rest: bool) -> None:
        """The stream ends now: tell its feeds, and all who wait to send except the task that streams.

        That task is cancelled instead: once, and for that reason.
        """
        self._set_room(0)
        feeds, self._feeds = self._feeds, ()
        for feed in feeds:
            self._close_feed(feed, rest=rest)
        for turn in self._turns:
            if turn.task != task:
                turn.look_again()
