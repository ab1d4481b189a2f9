"""`MemoryEngine`: an engine in memory, for tests; several on one `MemoryStore` act as several processes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ..errors import EngineUncertain
from .ids import fence_nonce, nonce_of, number_of, place_of
from .port import Entry, Hear, Lost
from .tasks import EngineTasks


class MemoryStore:
    """Stands for the server: the entries of all channels, and the engines that listen.

    Args:
        clock: gives the places of entries their time, in seconds.

    Attributes:
        channels: the entries of each channel, oldest first. A test may remove some, like a server that loses them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.channels: dict[str, list[Entry]] = {}
        self._clock = clock
        self._listening: dict[MemoryEngine, None] = {}

    def append(
        self,
        channel: str,
        data: bytes,
        nonce: str,
        keep: int,
        since: str | None,
        event_id: str,
        fence: bool,
        last: str | None = None,
    ) -> str:
        """Append an entry, as `Engine.append`, and tell all who listen.

        Args:
            channel: as there; so are those that follow.
            data: likewise.
            nonce: likewise.
            keep: likewise.
            since: likewise.
            event_id: likewise.
            fence: likewise.
            last: the last entry that the engine knows of.
        """
        if since is not None and (found := self._find(channel, nonce, since, fence)):
            return found
        if last and not fence and self._has_lost(channel, last):
            self._append(channel, b"", fence_nonce(nonce_of(last)), keep, "", True)
        return self._append(channel, data, nonce, keep, event_id, fence)

    def _append(self, channel: str, data: bytes, nonce: str, keep: int, event_id: str, fence: bool) -> str:
        entries = self.channels.get(channel, [])
        previous = entries[-1].place if entries else ""
        entry = Entry(f"{self._place_after(previous)}-{nonce}", previous, data, event_id, fence)
        self.channels[channel] = [*entries, entry][-keep:]
        for engine in tuple(self._listening):
            engine.hear(channel, entry)
        return entry.id

    def read(self, channel: str, after: str, most: int) -> list[Entry]:
        """Return entries, as `Engine.read`."""
        entries = self.channels.get(channel, [])
        return [entry for entry in entries if number_of(entry.place) >= number_of(after)][:most]

    def add(self, engine: MemoryEngine) -> None:
        """Have an engine told of new entries."""
        self._listening[engine] = None

    def discard(self, engine: MemoryEngine) -> None:
        """Stop telling an engine of new entries."""
        self._listening.pop(engine, None)

    def _find(self, channel: str, nonce: str, since: str, fence: bool) -> str | None:
        """Find the entry with a nonce after another one, or for a fence any fence; None if there is surely none."""
        entries = self.channels.get(channel, [])
        for entry in reversed(entries):
            if entry.id == since or (since and not fence and number_of(entry.place) < number_of(since)):
                return None
            if entry.fence if fence else entry.nonce == nonce:
                return entry.id
        if (entries[0].previous if entries else "") in ("", place_of(since)) and not (fence and since):
            return None
        raise EngineUncertain(f"channel {channel!r} has not kept what came after {since or 'its beginning'}")

    def _has_lost(self, channel: str, last: str) -> bool:
        """Whether it lacks an entry, though it has older ones, and nobody has been told so."""
        entries = self.channels.get(channel, [])
        if not entries or any(entry.id == last for entry in entries):
            return False
        later = [entry for entry in entries if number_of(entry.place) > number_of(last)]
        return len(later) < len(entries) and not any(entry.fence for entry in later)

    def _place_after(self, previous: str) -> str:
        """A place by the clock, but after the last entry, even if the clock was set back."""
        milliseconds, number = number_of(previous)
        now = int(self._clock() * 1000)
        return f"{now}-0" if now > milliseconds else f"{milliseconds}-{number + 1}"


class MemoryEngine(EngineTasks):
    """An engine that keeps everything in memory: what one process publishes, another one does not hear.

    It is for tests of code that will run in several processes: give several engines one store, and each a `Channel` of
    its own; then each stands for a process.

    Args:
        store: what it shares with other engines; left out, a store of its own.
    """

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__()
        self.store = MemoryStore() if store is None else store
        self._listeners: dict[str, tuple[Hear, Lost]] = {}
        self._last: dict[str, str] = {}  # the id of the last entry that it knows of, by channel

    @asynccontextmanager
    async def _run(self, tasks: TaskGroup) -> AsyncIterator[None]:
        self.store.add(self)
        try:
            yield
        finally:
            self.store.discard(self)
            self._listeners.clear()

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
        last = self._last.get(channel) if since is None else since
        self._last[channel] = id = self.store.append(channel, data, nonce, keep, since, event_id or "", fence, last)
        return id

    async def read(self, channel: str, after: str, most: int) -> list[Entry]:
        """`Engine`: return entries."""
        self._entered()
        await checkpoint()
        return self.store.read(channel, after, most)

    def listen(self, channel: str, hear: Hear, lost: Lost) -> None:
        """`Engine`: have a function called with what is appended."""
        self._entered()
        if channel in self._listeners:
            raise ValueError(f"{self!r} already has a channel {channel!r}: share one Channel of that name")
        self._listeners[channel] = (hear, lost)
        lost()

    def unlisten(self, channel: str) -> None:
        """`Engine`: stop calling the functions."""
        self._listeners.pop(channel, None)

    def hear(self, channel: str, entry: Entry) -> None:
        """Tell the channel of a new entry, if somebody listens to it."""
        if channel in self._listeners:
            self._last[channel] = entry.id
            self._listeners[channel][0]([entry])

    def __repr__(self) -> str:
        return "<MemoryEngine>"
