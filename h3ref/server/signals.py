"""`FirstSignal`: the first SIGINT or SIGTERM ends a process in order, the second at once, whatever its loop does."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from .._core.parking import Parking, caller_from_threads

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class FirstSignal:
    """Waits for the first signal, in the event loop that it is made in. From then on a signal ends the process."""

    def __init__(self) -> None:
        self._taken: list[signal.Signals] = []
        self._parking = Parking()
        self._instead: Callable[[], None] | None = None
        self._call_soon = caller_from_threads()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take signals while the body runs, on the main thread."""
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set outside Python

    @contextmanager
    def calling(self, instead: Callable[[], None]) -> Iterator[None]:
        """Call a function when it comes while the body runs, instead of waking who waits."""
        self._instead = instead
        try:
            yield
        finally:
            self._instead = None

    @property
    def name(self) -> str | None:
        """The signal that has come; None as long as none has."""
        return self._taken[0].name if self._taken else None

    async def wait(self) -> None:
        """Wait until it has come."""
        await self._parking.wait()

    def _take(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        # The other signal keeps this handler until the loop runs: if it is pending already, Python would drop it.
        if self._taken:
            signal.raise_signal(number)
        self._taken.append(signal.Signals(number))
        self._call_soon(self._tell)

    def _tell(self) -> None:
        for number in SIGNALS:  # so that a second one needs no Python either
            signal.signal(number, signal.SIG_DFL)
        if self._instead is not None:
            self._instead()
        else:
            self._parking.wake()
