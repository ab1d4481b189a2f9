"""`Turn`: something sent on a stream that has to wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from .feed import Feed
from .parking import current_task_id


class Turn:
    """Something sent that has to wait; what is sent after it waits behind it.

    Attributes:
        size: how many bytes it has.
        places: where it stands among what each feed brings.
        task: the number of the task that waits.
    """

    __slots__ = ("_put", "_waits", "is_over", "places", "size", "task")

    def __init__(self, put: Callable[[], None], size: int, places: dict[Feed, int]) -> None:
        self._put = put
        self.size = size
        self.places = places
        self._waits = anyio.CancelScope()
        self.is_over = False
        self.task = current_task_id()

    async def wait(self, function: Callable[[], Awaitable[object]]) -> None:
        """Wait until a function returns, or `look_again` is called."""
        with anyio.CancelScope() as self._waits:
            await function()

    def look_again(self) -> None:
        """Something has changed: have the task that waits look at it."""
        self._waits.cancel()

    def take(self) -> None:
        """Send it."""
        self.is_over = True
        self._put()
