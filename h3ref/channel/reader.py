"""`Reader`: brings a channel its engine's entries, each once and in order, and says where some are missing."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Any, Final, Protocol

import anyio

from .._core.stream import Stream
from ..engine.ids import fence_nonce, is_entry_id, new_nonce, nonce_of, number_of
from ..engine.port import Engine, Entry
from ..errors import EngineError, EngineRefused, EngineUncertain
from ..sse import SSEEvent
from .chain import Chain, Link, are_joined
from .newcomer import Newcomer
from .subscription import Subscription

log = logging.getLogger("h3ref.channel")

FEWEST_KEPT: Final = 256
"""The fewest entries that an engine is asked to keep, so that a process cut off for a moment finds what it missed."""

PAGE: Final = 1000
"""Entries that are read at a time."""

ATTEMPTS: Final = 3
"""Attempts at a fence that may have been appended or not; after these, only this process is told of the gap."""

PAUSES: Final = (0.05, 1.0)
"""Seconds between two attempts to read: those after the first failure, and the most of all."""

Event = tuple[str | None, bytes]
"""An event's id and its bytes, as the channel's log keeps them."""


class Home(Protocol):
    """What a reader asks of its channel."""

    name: str

    def __len__(self) -> int:
        """The number of subscribers."""

    def bring(self, events: Sequence[Event]) -> None:
        """Keep events, and pass them on to all subscribers."""

    def bring_gap(self, id: str | None) -> None:
        """Tell all subscribers that events are missing here; with the id of the fence that says so, if there is one."""

    def place(self, stream: Stream, last_event_id: str, missed: bool = False) -> Subscription:
        """Make a stream a subscriber, by what the log has now; a live one may have missed events."""

    def has(self, last_event_id: str) -> bool:
        """Whether the history reaches back to an event."""


class Listening(Enum):
    """Where a reader is."""

    IDLE = auto()  # nobody needs it
    JOINING = auto()  # it listens, or is about to, and has yet to read what it lacks
    JOINED = auto()  # it has, and what it hears follows


class Reader:
    """Reads the entries of one channel: those that are heard, and from the engine's memory those that are not.

    Each entry names the one before it. An entry that names the last one is passed on; a known one is not. Anything else
    means that something was not heard, or was lost: then what the engine has after the last entry is read.

    Args:
        channel: the channel that it reads for.
        engine: the engine that it reads from.
        history: how many entries the channel wants kept.
    """

    def __init__(self, channel: Home, engine: Engine, history: int) -> None:
        self._channel = channel
        self._engine = engine
        self._keep = max(history, FEWEST_KEPT)
        self._chain = Chain(self._keep)
        self._where = Listening.IDLE
        self._subscribed = False  # whether the engine has said so, since it was asked to
        self._asked = self._answered = 0  # how often what the engine has was to be read, and was
        self._scope: anyio.CancelScope | None = None  # of the task that reads it
        self._most = 4 * self._keep  # entries that are held back; the engine's memory has all
        self._heard: deque[Entry] = deque(maxlen=self._most)  # while what it has is read
        self._owed: dict[str, str] = {}  # the ids of entries that are still to come, by their nonce: it has had them
        self._first_heard = ""  # the nonce of the first one since it joins
        self._was_cut = False  # whether something may have been missed since what the engine has was read
        self._waiting: dict[Newcomer, None] = {}
        self._unsure = 0  # attempts at a fence of which it is not known what became
        self._resyncs = self._rollbacks = self._fences = self._errors = 0

    @property
    def streams(self) -> list[Stream]:
        """The streams that wait for their place."""
        return [newcomer.stream for newcomer in self._waiting]

    def figures(self) -> dict[str, Any]:
        """Its part of the channel's figures, by name."""
        return {
            "connected": self._engine.connected,
            "resyncs": self._resyncs,
            "rollbacks": self._rollbacks,
            "fences": self._fences,
            "errors": self._errors,
        }

    # -- what the channel wants

    async def publish(self, event: SSEEvent) -> None:
        """Append an event. Raises as `Engine.append` does, and ValueError for an id that looks like an engine's."""
        if event.id is not None and is_entry_id(event.id):
            raise ValueError(f"the id {event.id!r} looks like one of an engine's own: give the event another, or none")
        nonce = new_nonce()
        try:
            id = await self._engine.append(
                self._channel.name, without_id(event), nonce=nonce, keep=self._keep, event_id=event.id
            )
        except EngineError:
            self._errors += 1
            raise
        if self._where is not Listening.IDLE and not self._chain.knows(nonce):
            self._owe(id)

    async def admit(self, newcomer: Newcomer) -> Subscription:
        """Wait until the newcomer can have its place, and return that; it may be given while the engine is away.

        A newcomer without a last event ID gets what comes from now on. So it need not wait, unless nobody has listened
        so far.
        """
        if self._where is Listening.IDLE:
            self._join()
        id = newcomer.last_event_id
        if self._where is Listening.JOINED and (not id or self._channel.has(id)):
            return self._channel.place(newcomer.stream, id)
        if self._where is Listening.JOINED:
            self._ask()  # another process may have sent what has not come here yet
        newcomer.goal = self._asked
        newcomer.missed = self._where is Listening.JOINING and not self._engine.connected
        self._waiting[newcomer] = None
        try:
            await newcomer.parking.wait()
        except BaseException:
            self._waiting.pop(newcomer, None)
            if newcomer.subscription is not None:
                newcomer.stream.discard_feed(newcomer.subscription)
            self.rest()
            raise
        assert newcomer.subscription is not None, "it is woken when it has its place"
        return newcomer.subscription

    def rest(self) -> None:
        """Stop listening if nobody is there to read."""
        if self._where is not Listening.IDLE and not self._waiting and not len(self._channel):
            self._where = Listening.IDLE
            self._subscribed = False
            self._heard.clear()
            self._engine.unlisten(self._channel.name)
            if self._scope is not None:
                self._scope.cancel()

    # -- what the engine tells

    def _join(self) -> None:
        self._where = Listening.JOINING
        self._first_heard = ""
        self._asked += 1
        try:
            self._engine.listen(self._channel.name, self._hear, self._lose)
        except BaseException:
            self._where = Listening.IDLE
            raise

    def _lose(self) -> None:
        """Note that something may have been missed up to now."""
        self._was_cut = self._where is Listening.JOINED
        self._subscribed = True
        self._heard.clear()
        self._first_heard = ""
        self._ask()

    def _hear(self, entries: Sequence[Entry]) -> None:
        if not self._subscribed:  # what is still on its way from a time before
            return
        if self._answered < self._asked:
            self._first_heard = self._first_heard or entries[0].nonce
            self._heard.extend(entries)
        else:
            self._follow(entries, unbroken=True)

    def _follow(self, entries: Iterable[Entry], *, unbroken: bool) -> None:
        """Pass on what follows; where the chain is broken, have the engine's memory read.

        What was heard during that may be older than what was read.
        """
        events = _Events(self._channel)
        entries = iter(entries)
        for entry in entries:
            link = self._chain.link_of(entry, unbroken=unbroken)
            if link is Link.BROKEN:
                events.bring()
                self._heard.extend((entry, *entries))
                self._ask()
                return
            if link is not Link.KNOWN:
                self._go_on_to(entry)
                unbroken = True
            if link is Link.NEXT:
                self._add(events, entry)
        events.bring()

    def _go_on_to(self, entry: Entry) -> None:
        self._chain.take(entry)
        self._owed.pop(entry.nonce, None)

    def _add(self, events: _Events, entry: Entry) -> None:
        if entry.fence:
            self._fences += 1
            events.bring()
            self._channel.bring_gap(entry.id)
        else:
            events.add(entry)

    # -- reading what it lacks

    def _ask(self) -> None:
        """Have the engine's entries looked at once more, beginning after now."""
        self._asked += 1
        self._start()

    def _start(self) -> None:
        if self._scope is None and self._subscribed and self._answered < self._asked:
            self._scope = anyio.CancelScope()
            self._engine.start_soon(self._catch_up, self._scope)

    async def _catch_up(self, scope: anyio.CancelScope) -> None:
        """Read what is missing until nothing is; after any failure, try again."""
        try:
            with scope:
                failures = 0
                while self._answered < self._asked:
                    goal = self._asked
                    try:
                        await self._look()
                    except Exception as error:
                        failures += 1
                        self._tell(error, failures)
                        await anyio.sleep(_pause(failures))
                    else:
                        failures = 0
                        if not scope.cancel_called:
                            self._reach(goal)
        finally:
            self._scope = None
        self._start()  # it was stopped, and may be needed again

    def _tell(self, error: Exception, failures: int) -> None:
        self._errors += 1
        if not isinstance(error, EngineError):
            log.error("channel %s can't be read; trying again", self._channel.name, exc_info=error)
        elif failures == 1:
            log.warning("channel %s can't be read; trying again: %s", self._channel.name, error)

    def _reach(self, goal: int) -> None:
        """Note that everything has been read that was there when that many looks had been asked for."""
        self._answered = goal
        self._resyncs += 1
        self._place_live()
        self._where = Listening.JOINED
        for newcomer in [newcomer for newcomer in self._waiting if newcomer.goal <= goal]:
            self._place(newcomer)
        if goal == self._asked:
            heard = tuple(self._heard)
            self._heard.clear()
            self._follow(heard, unbroken=False)

    def _place_live(self) -> None:
        """Give their places to newcomers that get what comes from now on."""
        if self._where is Listening.JOINING:
            for newcomer in [newcomer for newcomer in self._waiting if not newcomer.last_event_id]:
                self._place(newcomer)

    def _place(self, newcomer: Newcomer) -> None:
        del self._waiting[newcomer]
        newcomer.subscription = self._channel.place(newcomer.stream, newcomer.last_event_id, newcomer.missed)
        newcomer.parking.wake()

    async def _look(self) -> None:
        """Read what there is, and check that every entry is there that the engine is known to have had."""
        heard = tuple(self._heard)
        for entry in heard:
            self._owe(entry.id)
        owed = tuple(self._owed.items())
        await self._read()
        lost = [id for nonce, id in owed if not self._chain.knows(nonce)]
        if lost and (lost := await self._not_trimmed(lost)):
            if not await self._append_fence(self._chain.last or "", nonce_of(lost[-1])):
                self._channel.bring_gap(None)
            self._count_rollback(len(lost))
            await self._read()  # the fence, in its place
        for nonce, _ in owed:
            self._owed.pop(nonce, None)
        for entry in heard:
            if self._heard and self._heard[0] is entry:  # else there was no room for it
                self._heard.popleft()

    def _owe(self, id: str) -> None:
        """Note that the engine has had an entry: if it does not come, it is lost."""
        self._owed[nonce_of(id)] = id
        if len(self._owed) > self._most:
            del self._owed[next(iter(self._owed))]

    async def _not_trimmed(self, ids: Sequence[str]) -> list[str]:
        """Those of the missing entries that were not trimmed, as entries are that are older than all it has."""
        first = await self._engine.read(self._channel.name, "", 1)
        return [id for id in ids if not first or number_of(id) > number_of(first[0].id)]

    async def _read(self) -> None:
        """Read what the engine has after the last entry."""
        chain = self._chain
        while True:
            page = await self._engine.read(self._channel.name, chain.last or "", PAGE)
            if chain.last and not (page and (page[0].id == chain.last or chain.follows(page[0]))):
                await self._find_common()
                continue
            if chain.last == "" and self._was_cut and not (page and page[0].previous):
                self._channel.bring_gap(None)  # it was empty before, and may have been emptied again
            self._was_cut = False
            self._take(page)
            if chain.last is None:
                chain.last = ""
            if len(page) < PAGE:
                return

    async def _find_common(self) -> None:
        """Continue where the engine lacks the last entry: after the last one that both have, or else with a gap."""
        chain = self._chain
        found = chain.compare(await self._read_all())
        if found.common is None:
            self._channel.bring_gap(None)
            self._was_cut = False
            chain.begin_anew()
        elif found.needs_fence and await self._append_fence(found.common.id, found.lost[-1]):
            return  # all read again, and find it in its place
        else:
            if found.lost:
                self._count_rollback(len(found.lost))
            if found.needs_fence:
                self._channel.bring_gap(None)
            chain.go_back_to(found.common)
        self._take(found.rest)
        if chain.last is None:
            chain.last = ""

    def _count_rollback(self, lost: int) -> None:
        self._rollbacks += 1
        log.warning("channel %s: the engine has lost %d events that were published", self._channel.name, lost)

    async def _append_fence(self, since: str, lost: str) -> bool:
        """Tell all processes that an entry is lost; False if that is refused, or too much has come since."""
        try:
            await self._engine.append(
                self._channel.name, b"", nonce=fence_nonce(lost), keep=self._keep, since=since, fence=True
            )
        except EngineRefused as error:
            self._tell(error, 1)
            self._unsure = 0
            return False
        except EngineUncertain as error:
            self._unsure += 1
            if self._unsure < ATTEMPTS:
                raise
            self._tell(error, 1)
            self._unsure = 0
            return False
        self._unsure = 0
        return True

    async def _read_all(self) -> list[Entry]:
        """All that the engine has; if a page does not continue the one before it, begin again."""
        entries: list[Entry] = []
        while True:
            page = await self._engine.read(self._channel.name, entries[-1].id if entries else "", PAGE)
            if entries and not are_joined(entries, page):
                entries = []
                continue
            entries += page[1:] if entries and page[0].id == entries[-1].id else page
            if len(page) < PAGE:
                return entries

    def _take(self, entries: Sequence[Entry]) -> None:
        """Pass on what is not known of entries that the engine has in a row; where one is missing, tell of a gap."""
        events = _Events(self._channel)
        for entry in entries:
            if entry.id == self._chain.last:
                continue
            if self._where is Listening.JOINING and entry.nonce == self._first_heard:
                events.bring()
                self._place_live()
            if self._chain.last is not None and not self._chain.follows(entry):
                events.bring()
                self._channel.bring_gap(None)
            is_known = self._chain.knows(entry.nonce)
            self._go_on_to(entry)
            if not is_known:
                self._add(events, entry)
        events.bring()


class _Events:
    """Consecutive events, which are passed on together."""

    def __init__(self, channel: Home) -> None:
        self._channel = channel
        self._events: list[Event] = []

    def add(self, entry: Entry) -> None:
        id = entry.event_id or entry.id
        self._events.append((id, b"id: %b\n%b" % (id.encode(), entry.data)))

    def bring(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._channel.bring(events)


def without_id(event: SSEEvent) -> bytes:
    """An event's bytes without its id, which has a line of its own: data and comments have prefixes."""
    data = event.encode()
    if event.id is None:
        return data
    line = f"id: {event.id}\n".encode()
    if data.startswith(line):
        return data[len(line) :]
    return data.replace(b"\n" + line, b"\n", 1)


def _pause(failures: int) -> float:
    """Seconds until another attempt: more after each failure, and never the same for all."""
    first, most = PAUSES
    return min(most, first * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)
