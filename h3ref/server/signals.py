"""`FirstSignal`: the first SIGINT or SIGTERM ends a process in order, the second at once, even if its loop is stuck."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from .._core.parking import Parking, caller_from_threads

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

PARENTS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
"""A terminal sends these to all foreground processes; they are for the parent, which tells its workers."""

REPLACED: Final = "another process takes its place"
"""The name of an end that no signal has caused."""


class FirstSignal:
    """Waits for the first signal, in the event loop that it is made in. From then on a signal ends the process.

    Args:
        numbers: which signals.
    """

    def __init__(self, numbers: Sequence[signal.Signals] = SIGNALS) -> None:
        self._numbers = numbers
        self._has_come = False
        self._taken: list[str] = []
        self._parking = Parking()
        self._instead: Callable[[], None] | None = None
        self._call_soon = caller_from_threads()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take signals while the body runs, on the main thread."""
        before = {number: signal.signal(number, self._take) for number in self._numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set outside Python

    @contextmanager
    def calling(self, instead: Callable[[], None]) -> Iterator[None]:
        """While the body runs, call a function when the signal comes, instead of waking the task that waits."""
        self._instead = instead
        try:
            yield
        finally:
            self._instead = None

    @property
    def name(self) -> str | None:
        """The signal that has come, or the name that was told instead; None if nothing has come."""
        return self._taken[0] if self._taken else None

    def tell(self, name: str) -> None:
        """Act as if a signal had come, on any thread; the next real one still counts as the first."""
        if not self._taken:
            self._taken.append(name)
            self._call_soon(self._wake)

    async def wait(self) -> None:
        """Wait until it has come."""
        await self._parking.wait()

    def _take(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        # The other signal keeps this handler until the loop runs: if it is pending already, Python would drop it.
        if self._has_come:
            signal.raise_signal(number)
        self._has_come = True
        self._taken.append(signal.Signals(number).name)
        self._call_soon(self._end)

    def _end(self) -> None:
        for number in self._numbers:  # so that a second one needs no Python either
            signal.signal(number, signal.SIG_DFL)
        self._wake()

    def _wake(self) -> None:
        if self._instead is not None:
            self._instead()
        else:
            self._parking.wake()


class PassedOnSignal(FirstSignal):
    """As `FirstSignal`, but passed on to others first: a second signal waits until all of them have been told.

    So the second signal ends this process together with all of them. It needs an event loop that nobody blocks.

    Args:
        tell: called with the first one's name.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self._held: list[int] = []

    def _take(self, number: int, frame: FrameType | None) -> None:
        for each in self._numbers:
            signal.signal(each, self._hold)
        self._taken.append(signal.Signals(number).name)
        self._call_soon(self._end)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held.append(number)

    def _end(self) -> None:
        self._tell(self._taken[0])
        super()._end()
        for number in self._held:
            signal.raise_signal(number)
