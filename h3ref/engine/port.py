"""`Engine`: what a channel asks of what connects it with those of other processes; `Entry`, what that keeps."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from .ids import nonce_of, place_of


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a channel as an engine keeps it, or a fence: the mark that events before it were lost.

    Attributes:
        id: `<ms>-<seq>-<nonce>`: its place in the channel, and its nonce, of 8 characters; a fence's has 9.
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
        """Its place in the channel, `<ms>-<seq>`: what the next one calls the previous."""
        return place_of(self.id)

    @property
    def nonce(self) -> str:
        """What it is known by, also when it was stored a second time and has another place."""
        return nonce_of(self.id)


Hear = Callable[[Sequence[Entry]], None]
"""What is told the entries that were appended to a channel, in order, as many as have come together."""

Lost = Callable[[], None]
"""What is told that entries may have been missed up to now."""


class Engine(Protocol):
    """Keeps the entries of channels, in one order for all processes, and tells each process of new ones.

    The last entries of a channel are kept, and each names the one before it: whoever has heard all but the last five
    sees it by the next one that comes, and reads the five. So what is told may be lost; what is kept should not be.

    An engine is entered once, `async with engine`, for as long as its channels are used; all its methods belong to the
    event loop in which that was. A process has one object of an engine, and it has each channel once.

    All but `unlisten` raise `RuntimeError` where the engine is not entered, or on the thread of another event loop.
    """

    @property
    def connected(self) -> bool:
        """Whether what it tells and what it keeps can be reached now."""

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
        """Append an entry, and return its id when it is kept.

        If the last entry that this engine knows of, or that `since` names, is lost, though older ones are kept, a fence
        comes first: so nothing follows on what is missing as if it were not.

        Whoever cancels it, or gets `EngineUncertain`, can't know whether it is kept. They may call again with the same
        nonce and with `since`: then it is kept once.

        Args:
            channel: the channel's name.
            data: as `Entry.data`.
            nonce: 8 lowercase hexadecimal digits that no other entry has; of a fence, "f" and those of the entry that
                was lost.
            keep: how many entries the channel shall keep; it may be some more.
            since: for a further attempt: the last id that was known before the first one; "" for none, where the
                channel was empty. An entry with the nonce after it is taken for this one. For a fence: the last entry
                that was not lost; any fence after it is taken for this one.
            event_id: as `Entry.event_id`.
            fence: as `Entry.fence`.

        Raises:
            EngineUnavailable: it is surely not kept: nobody could be asked.
            EngineUncertain: it may be kept: there was no answer, too few replicas have it, or `since` is no longer
                there to search from.
            EngineRefused: it is not kept, and won't be: what is asked is not possible, or not permitted.
        """

    async def read(self, channel: str, after: str, most: int) -> list[Entry]:
        """Return entries from the one with an id on, this one included if it is still kept; "" begins with the first.

        If the first entry that is returned is another one, and does not name it as the previous one, some between them
        are lost. If none is returned, the entry itself is.

        Args:
            channel: the channel's name.
            after: an entry's id, or "".
            most: how many are returned at most; fewer are returned only where there are no more.

        Raises:
            EngineUnavailable: nobody could be asked, or nobody answered.
            EngineRefused: what is asked is not possible, or not permitted.
        """

    def listen(self, channel: str, hear: Hear, lost: Lost) -> None:
        """From soon on, have a function called with what is appended to a channel, by whatever process.

        Args:
            channel: the channel's name.
            hear: called with new entries; those of one channel in their order. Some may be missing.
            lost: called when listening has begun, and each time when it has begun anew: what was appended before that
                may have been missed, and of what was appended after it nothing was.

        Raises:
            ValueError: the channel is listened to already: a process has one `Channel` of a name.
        """

    def unlisten(self, channel: str) -> None:
        """Call neither any more; nothing, if the channel is not listened to."""

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Start a task that is the engine's, and ends with it at the latest. The function must not raise."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...
