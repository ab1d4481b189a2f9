"""`Engine`: what a channel asks of the engine that connects it with other processes; `Entry`: what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from .ids import nonce_of, place_of


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a channel as an engine keeps it; or a fence, the mark that events before it were lost.

    Attributes:
        id: `<ms>-<seq>-<nonce>`: its place in the channel, and its nonce of 8 characters; a fence's has 9.
        previous: the place of the entry before it when it was appended; "" if there was none.
        data: an event's bytes for the wire, without the line of its id.
        event_id: the id that its publisher gave it, or "".
        fence: whether it is a fence.
    """

    id: str
    previous: str
    data: bytes
    event_id: str = ""
    fence: bool = False

    @property
    def place(self) -> str:
        """Its place in the channel, `<ms>-<seq>`, which the next entry has as `previous`."""
        return place_of(self.id)

    @property
    def nonce(self) -> str:
        """Its name, which stays the same if it is stored a second time, in another place."""
        return nonce_of(self.id)


Hear = Callable[[Sequence[Entry]], None]
"""Called with entries that were appended to a channel, in order, as many as have come together."""

Lost = Callable[[], None]
"""Called when entries may have been missed up to now."""


class Engine(Protocol):
    """Keeps the entries of channels, in one order for all processes, and tells each process of new ones.

    The last entries of a channel are kept, and each names the one before it: a process that has missed five notices
    when the next one comes, and reads the five. So a notification may get lost; an entry that is kept should not.

    Enter an engine once, with `async with engine`, for as long as its channels are used; all its methods belong to the
    event loop in which you entered it. A process has one engine object, with one channel of each name.

    All methods but `unlisten` raise `RuntimeError` if the engine has not been entered, or on the thread of another
    event loop.
    """

    @property
    def connected(self) -> bool:
        """Whether the engine can be reached now, both for reading and for news."""

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
        """Append an entry, and return its id once it is kept.

        If the last entry that this engine knows of, or that `since` names, is lost though older ones are kept, a fence
        comes first, so that nothing follows on a missing entry as if it were there.

        If you cancel it, or get `EngineUncertain`, you can't know whether the entry is kept. You may call again with
        the same nonce and with `since`: then it is kept once.

        Args:
            channel: the channel's name.
            data: as `Entry.data`.
            nonce: 8 lowercase hexadecimal digits that no other entry has; for a fence, "f" and the digits of the lost
                entry.
            keep: how many entries the channel should keep; it may keep some more.
            since: for a further attempt: the last id that was known before the first one; "" if the channel was empty.
                A later entry with the same nonce is taken for this one. For a fence: the last entry that was not lost;
                any fence after it is taken for this one.
            event_id: as `Entry.event_id`.
            fence: as `Entry.fence`.

        Raises:
            EngineUnavailable: it is certainly not kept: nobody could be asked.
            EngineUncertain: it may be kept: there was no answer, too few replicas have it, or `since` is no longer
                there to search from.
            EngineRefused: it is not kept, and won't be: the request is impossible, or not permitted.
        """

    async def read(self, channel: str, after: str, most: int) -> list[Entry]:
        """Return entries from the one with an id on, that one included if it is still kept; "" begins with the first.

        If the first entry returned is another one, and does not name it as the previous one, entries between them are
        lost. If none is returned, the entry itself is lost.

        Args:
            channel: the channel's name.
            after: an entry's id, or "".
            most: the most entries to return; fewer are returned only if there are no more.

        Raises:
            EngineUnavailable: nobody could be asked, or nobody answered.
            EngineRefused: the request is impossible, or not permitted.
        """

    def listen(self, channel: str, hear: Hear, lost: Lost) -> None:
        """Have a function called, from soon on, with what any process appends to a channel.

        Args:
            channel: the channel's name.
            hear: called with new entries, those of one channel in order. Some may be missing.
            lost: called when listening has begun, and each time it has begun anew: entries appended before may have
                been missed, and entries appended after it have not.

        Raises:
            ValueError: the channel is listened to already: a process has one `Channel` of a name.
        """

    def unlisten(self, channel: str) -> None:
        """Stop calling both functions; does nothing if the channel is not listened to."""

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Start a task that belongs to the engine, and ends with it at the latest. The function must not raise."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...
