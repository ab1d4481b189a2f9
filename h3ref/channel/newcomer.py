"""`Newcomer`: a stream that waits for its place in a channel."""

from __future__ import annotations

from .._core.parking import Parking
from .._core.stream import Stream
from .subscription import Subscription


class Newcomer:
    """A stream that becomes a subscriber once the channel is up to date.

    Args:
        stream: the stream itself.
        last_event_id: the id of the last event that its client has; "" for none.

    Attributes:
        missed: whether events may have been published since it came that nobody can tell from older ones.
        subscription: its place, once it has one.
        goal: the number of the look at the engine after which it gets its place.
    """

    def __init__(self, stream: Stream, last_event_id: str) -> None:
        self.stream = stream
        self.last_event_id = last_event_id
        self.parking = Parking()
        self.missed = False
        self.subscription: Subscription | None = None
        self.goal = 0
