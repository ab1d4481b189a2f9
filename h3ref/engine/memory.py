"""`MemoryEngine`: an engine in memory, for tests; several on one `MemoryStore` are as many processes on one server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ..errors import EngineUncertain
from .ids import place_of
from .port import Entry, Hear, Lost
from .tasks import EngineTasks


class MemoryStore:
    """What stands for the server: the entries of all channels, and those who listen.

    Args:
        clock: gives the places of entries their time, in seconds.

    Attributes:
        channels: the entries of each channel, the oldest first. A test may take some away, as a server does that loses
            them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.channels: dict[str, list[Entry]] = {}
        self._clock = clock
        self._listening: dict[MemoryEngine, None] = {}

    def append(
        self, channel: str, data: bytes, nonce: str, keep: int, since: str | None, event_id: str, fence: bool
    ) -> str:
        """Append an entry, as `Engine.append`, and tell all who listen."""
        entries = self.channels.get(channel, [])
        if since is not None:
            for entry in self._after(channel, since):
                if entry.fence if fence else entry.nonce == nonce:
                    return entry.id
        previous = entries[-1].place if entries else ""
        entry = Entry(f"{self._place_after(previous)}-{nonce}", previous, data, event_id, fence)
        self.channels[channel] = [*entries, entry][-keep:]
        for engine in tuple(self._listening):
            engine.hear(channel, entry)
        return entry.id

    def read(self, channel: str, after: str, most: int) -> list[Entry]:
        """Return entries, as `Engine.read`."""
        entries = self.channels.get(channel, [])
        return [entry for entry in entries if _number(entry.place) >= _number(place_of(after))][:most]

    def add(self, engine: MemoryEngine) -> None:
        """Have an engine told of new entries."""
        self._listening[engine] = None

    def discard(self, engine: MemoryEngine) -> None:
        """Tell an engine nothing any more."""
        self._listening.pop(engine, None)

    def _after(self, channel: str, since: str) -> list[Entry]:
        """The entries after an id, for the search for one of them that might be there."""
        entries = self.channels.get(channel, [])
        for number, entry in enumerate(entries):
            if entry.id == since:
                return entries[number + 1 :]
            if entry.previous == place_of(since):
                return entries[number:]
        if not since and not entries:
            return []
        raise EngineUncertain(f"whether it is kept in channel {channel!r} can't be told: {since or 'its begin'} is not")

    def _place_after(self, previous: str) -> str:
        """A place by the clock, but behind the last entry, also if the clock was set back."""
        milliseconds, number = _number(previous)
        now = int(self._clock() * 1000)
        return f"{now}-0" if now > milliseconds else f"{milliseconds}-{number + 1}"


class MemoryEngine(EngineTasks):
    """An engine that keeps all in memory: what one process publishes, another one does not hear.

    It is for tests of what is to run on several processes: each of several engines on one store, with a `Channel` of
    its own, stands for a process.

    Args:
        store: what it shares with other engines; left out, one of its own.
    """

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__()
        self.store = MemoryStore() if store is None else store
        self._listeners: dict[str, tuple[Hear, Lost]] = {}

    @asynccontextmanager
    async def _run(self, tasks: TaskGroup) -> AsyncIterator[None]:
        self.store.add(self)
        for _, lost in tuple(self._listeners.values()):
            tasks.start_soon(_tell, lost)
        try:
            yield
        finally:
            self.store.discard(self)

    @property
    def connected(self) -> bool:
        """`Engine`: whether it is entered."""
        return self._tasks is not None

    async def append(
        self,
        channel: str,
        data: bytes,
        *,
        nonce: str,
        keep: int,
        since: str | None = None,
        event_id: str | None = None,
        fence: bool = False,
    ) -> str:
        """`Engine`: append an entry."""
        self._entered()
        await checkpoint()
        return self.store.append(channel, data, nonce, keep, since, event_id or "", fence)

    async def read(self, channel: str, after: str, most: int) -> list[Entry]:
        """`Engine`: return entries."""
        self._entered()
        await checkpoint()
        return self.store.read(channel, after, most)

    def listen(self, channel: str, hear: Hear, lost: Lost) -> None:
        """`Engine`: have a function called with what is appended."""
        if channel in self._listeners:
            raise ValueError(f"{self!r} has a channel {channel!r} already: share one Channel of that name")
        self._listeners[channel] = (hear, lost)
        if self._tasks is not None:
            lost()

    def unlisten(self, channel: str) -> None:
        """`Engine`: call neither any more."""
        self._listeners.pop(channel, None)

    def hear(self, channel: str, entry: Entry) -> None:
        """Tell the channel of a new entry, if it is listened to."""
        if channel in self._listeners:
            self._listeners[channel][0]([entry])

    def __repr__(self) -> str:
        return "<MemoryEngine>"


async def _tell(lost: Lost) -> None:
    lost()


def _number(place: str) -> tuple[int, int]:
    milliseconds, _, number = place.partition("-")
    return (int(milliseconds), int(number)) if place else (0, 0)
