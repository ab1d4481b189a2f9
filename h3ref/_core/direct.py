"""`Direct`: how the task that streams sends by itself, if its connection allows that."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol


class Running(Protocol):
    """Code that runs now and again.

    Attributes:
        turn: a number above 0 while it runs, another one each time when it has waited; else it is below 1.
    """

    turn: int

    def add(self, call: Callable[[], None]) -> None:
        """Call a function, which raises nothing, when it waits: at once, if it does so now, or is over."""


class Direct(Protocol):
    """What a connection is, too, whose bytes the task that streams can send by itself: the `direct` of it.

    What it sends leaves before it goes on, at the cost of a call; from a task of its own it would leave a turn later.

    Also one that has no direct way may have the attribute `can_end`, which is True while that task could send the end
    by itself: then `close` and `cut` have no scope of their own around what they wait for, and leave it to the stream
    to bound that.
    """

    @property
    def is_free(self) -> bool:
        """Whether nothing is under way, so that it could leave at once."""

    @property
    def buffered(self) -> int:
        """How many bytes were written, and have not left yet."""

    def send_now(self, data: bytes) -> Coroutine[Any, Any, None] | Literal[False] | None:
        """Send bytes, and all that was written, in the task that calls, which is the one that streams.

        Returns what it has to await, if the server makes it wait; False, and sends nothing, if it is not free.
        """
