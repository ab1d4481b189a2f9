"""`Feed`: what brings events to a stream besides its writers' own methods."""

from __future__ import annotations

from typing import Protocol


class Feed(Protocol):
    """What brings a stream events besides its writers' own methods, such as a subscription to a channel."""

    @property
    def taken(self) -> int:
        """How many events it has brought."""

    @property
    def taken_size(self) -> int:
        """How many bytes these have."""

    @property
    def waiting(self) -> int:
        """How many bytes were sent through it but not brought yet."""

    def bring_sent(self) -> None:
        """Bring, by `relay`, what a thread has sent through it by itself: something is about to be sent after that."""

    def hold(self) -> int:
        """Something else is sent now, and waits for its turn: bring nothing unasked that comes after it.

        Returns its place, for `bring`.
        """

    def bring(self, place: int | None = None) -> bool:
        """Bring, by `relay`, some of what was sent through it before a place, or so far; whether that was all."""

    def go_on(self) -> None:
        """A turn has come, or was given up; `Stream.place_of` says whether there is another."""

    def bring_rest(self) -> None:
        """Bring, by `relay`, all that it still holds for the stream."""

    def close(self) -> None:
        """The stream has ended, or wants nothing more from it: bring nothing from now on, and count nothing."""
