"""`Direct`: how the task that streams sends by itself, if its connection allows that."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol


class Running(Protocol):
    """Code that runs now and again.

    Attributes:
        turn: a number above 0 while it runs, and a new one each time it has waited; below 1 at other times.
    """

    turn: int

    def add(self, call: Callable[[], None]) -> None:
        """Call a function, which raises nothing, when it waits; at once, if it waits now or is over."""


class Direct(Protocol):
    """The `direct` of a connection through which the task that streams can send bytes by itself.

    What that task sends leaves before it goes on, at the cost of a call; another task would send it a turn later.

    A connection, with or without a direct way, may also have the attribute `can_end`, which is True if the calling task
    could send the end by itself: then its `end_now(cut=...)` does what `close` or `cut` does, and returns what the task
    has to await, shielded and bounded in time, if the server or the reader makes it wait.
    """

    @property
    def is_free(self) -> bool:
        """Whether nothing is under way, so that bytes could leave at once."""

    @property
    def buffered(self) -> int:
        """How many bytes were written and have not left yet."""

    def send_now(self, data: bytes) -> Coroutine[Any, Any, None] | Literal[False] | None:
        """Send bytes, with all that was written before, in the calling task, which is the one that streams.

        Returns what the task has to await, if the server makes it wait; False, having sent nothing, if it is not free.
        """
