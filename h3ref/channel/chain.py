"""`Chain`: the latest entries of a channel that a process has had, and how another entry follows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import dropwhile, islice
from typing import Final

from ..engine.ids import place_of
from ..engine.port import Entry

FEWEST_KNOWN: Final = 1024
"""The fewest entries that stay known, so that they are told from new ones if they come again, as after a failover."""


class Link(Enum):
    """How an entry that is heard continues the chain."""

    NEXT = auto()  # it is new, and nothing is missing before it
    KNOWN = auto()  # it is known
    AGAIN = auto()  # it is known, and has been stored again in this place
    BROKEN = auto()  # something is missing, or was lost


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the engine has, compared with what is known.

    Attributes:
        common: the last entry that both have; None if they share none.
        rest: the engine's entries after it.
        lost: the nonces of known entries after it that the engine no longer has, in the order in which they came.
    """

    common: Entry | None
    rest: Sequence[Entry]
    lost: Sequence[str]

    @property
    def needs_fence(self) -> bool:
        """Whether others have to be told that entries are lost, and nobody has told them."""
        return bool(self.lost) and not any(entry.fence for entry in self.rest)


class Chain:
    """The last entries of a channel that a process knows.

    Args:
        keep: how many entries the engine is asked to keep.

    Attributes:
        last: the id of the last one; "" if the channel was empty, None if nobody has looked.
    """

    def __init__(self, keep: int) -> None:
        self.last: str | None = None
        self._known: dict[str, str] = {}  # the id of each, by its nonce, in the order in which they came
        self._most = max(FEWEST_KNOWN, keep + keep // 4 + 256)  # an engine may keep some more than it is asked to

    def link_of(self, entry: Entry, *, unbroken: bool) -> Link:
        """How an entry that was heard continues the chain.

        If it was heard right after the last one, and is the first of its channel, it follows on: earlier entries have
        been heard, and have expired.

        Args:
            entry: the entry that was heard.
            unbroken: whether it was heard right after the last one.
        """
        if self._known.get(entry.nonce) == entry.id:
            return Link.KNOWN
        if not self.follows(entry) and not (unbroken and not entry.previous):
            return Link.BROKEN
        return Link.AGAIN if self.knows(entry.nonce) else Link.NEXT

    def follows(self, entry: Entry) -> bool:
        """Whether an entry names the last one as the one before it."""
        return self.last is not None and entry.previous == place_of(self.last)

    def knows(self, nonce: str) -> bool:
        """Whether an entry is known, at whatever place."""
        return nonce in self._known

    def take(self, entry: Entry) -> None:
        """Advance to an entry, which is now the last one."""
        self._known.pop(entry.nonce, None)
        self._known[entry.nonce] = self.last = entry.id
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def go_back_to(self, entry: Entry) -> None:
        """Continue from a known entry; later ones stay known."""
        self.last = entry.id

    def begin_anew(self) -> None:
        """Continue with whatever comes."""
        self.last = None

    def compare(self, entries: Sequence[Entry]) -> Comparison:
        """Compare all that the engine has with what is known."""
        shared = [number for number, entry in enumerate(entries) if self._known.get(entry.nonce) == entry.id]
        if not shared:
            return Comparison(None, entries, ())
        common, rest = entries[shared[-1]], entries[shared[-1] + 1 :]
        kept = {entry.nonce for entry in rest}
        return Comparison(common, rest, [nonce for nonce in self._known_after(common) if nonce not in kept])

    def _known_after(self, entry: Entry) -> Iterable[str]:
        return islice(dropwhile(lambda nonce: nonce != entry.nonce, self._known), 1, None)


def are_joined(page: Sequence[Entry], next: Sequence[Entry]) -> bool:
    """Whether a page that was read after another continues from its last entry: it may have been trimmed meanwhile."""
    return bool(next) and (next[0].id == page[-1].id or next[0].previous == page[-1].place)
