"""`Backlog`: what all slow readers together have not taken, within the room that a server has for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Holder(Protocol):
    """Something that holds bytes that its reader has not taken."""

    def cut_now(self) -> None:
        """Be cut, and drop everything: what has not left never will."""


class Backlog:
    """What all slow readers together have not taken; nothing is counted for readers that keep up.

    Past the limit, the one that has taken nothing for longest is cut.

    Args:
        limit: bytes, or None.
        stop: called with the reader that is about to be cut, so that nothing more is made for it.
    """

    def __init__(self, limit: int | None, stop: Callable[[Any], None]) -> None:
        self._limit = limit
        self._stop = stop
        self._held: dict[Holder, int] = {}  # the one that took something last comes last
        self.size = 0

    def put(self, holder: Holder, size: int, *, took: bool) -> None:
        """Count bytes for a reader that has, or has not, just taken some of them."""
        known = self._held.get(holder, 0)
        if took:
            self._held.pop(holder, None)
        self._held[holder] = size
        self.size += size - known
        if self._limit is not None and self.size > self._limit:
            self._make_room()

    def discard(self, holder: Holder) -> None:
        """Forget a reader that has taken everything, or holds nothing any more."""
        self.size -= self._held.pop(holder, 0)

    def _make_room(self) -> None:
        while self._held and self._limit is not None and self.size > self._limit:
            holder = next(iter(self._held))
            log.info("the buffers of slow readers are full: one that reads nothing is cut")
            self._stop(holder)
            holder.cut_now()
            self.discard(holder)
