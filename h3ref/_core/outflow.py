"""`Outflow`: the bytes that a connection still holds, for tasks that wait until it holds fewer."""

from __future__ import annotations

import anyio


class Outflow:
    """The connection's own side of it: says how much there is, and tells when bytes have left.

    Attributes:
        buffered: how many bytes there are; 0 once it takes no more, so that nobody waits for ever.
    """

    __slots__ = ("_progress",)

    def __init__(self) -> None:
        self._progress: anyio.Event | None = None  # set when bytes have left; made only when a task waits

    @property
    def buffered(self) -> int:
        raise NotImplementedError

    async def _until_below(self, mark: int) -> None:
        while self.buffered >= mark:
            if self._progress is None:
                self._progress = anyio.Event()
            await self._progress.wait()

    def _tell_waiters(self) -> None:
        if self._progress is not None:
            self._progress.set()
            self._progress = None
