"""`Feed`: what brings events to a stream beside its writers' own methods."""

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
        """How many bytes were sent through it that it has not brought."""

    def bring_sent(self) -> None:
        """Bring what a thread has sent through it by itself, by `relay`: something is to be sent after it."""

    def hold(self) -> int:
        """Something else is sent now, and waits for its turn: bring nothing by itself that comes after it.

        Returns the place of that, for `bring`.
        """

    def bring(self, place: int | None = None) -> bool:
        """Bring some of what was sent through it before a place, or so far, by `relay`; whether that was all."""

    def go_on(self) -> None:
        """A turn has come, or was given up; `Stream.place_of` says whether there is another."""

    def bring_rest(self) -> None:
        """Bring all that it still holds for the stream, by `relay`."""

    def close(self) -> None:
        """The stream has ended, or wants nothing of it any more: bring nothing from now on, and count nothing."""
