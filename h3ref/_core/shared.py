"""`Shared`: what all exchanges of one server share."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from anyio.lowlevel import current_token

from ..app import H3App
from ..limits import Limits, check_limits
from ..stats import Stats
from ..trace import Listener
from .threads import ThreadPool
from .upkeep import Upkeep


class Shared(ABC):
    """The part of a `Service` that its exchanges see; the docstring there says what each attribute is."""

    def __init__(
        self,
        app: H3App,
        *,
        trace: Listener | None,
        limits: Limits | None,
        clock: Callable[[], float],
        farewell: bytes | None,
        is_one_of_several: bool,
    ) -> None:
        self.app = app
        self.trace = trace
        self.clock = clock
        self.limits = check_limits(limits)
        self.refused: Counter[str] = Counter()
        self.threads = ThreadPool(self.limits, self.refused)
        self.streams = Upkeep(self.limits, self.refused)
        self.farewell = farewell
        self.is_one_of_several = is_one_of_several
        self.gather: Callable[[], Awaitable[list[Stats]]] | None = None
        self.loop_thread = threading.get_ident()
        self.token = current_token()
        self.stopping = False

    @abstractmethod
    def stats(self) -> Stats:
        """Return the figures as they are now, on any thread."""

    async def all_stats(self) -> list[Stats]:
        """Return those of all processes that serve beside this one, as far as it knows any, in a fixed order."""
        return [self.stats()] if self.gather is None else await self.gather()

    @abstractmethod
    def note_begin(self, exchange: Any) -> None:
        """An exchange begins to run."""

    @abstractmethod
    def note_end(self, exchange: Any) -> None:
        """It is over."""

    @abstractmethod
    def header_ignored(self, name: str) -> None:
        """Log that a header is not sent, once for each name, since most are set on each request; on any thread."""
