"""`Alone`: warns that a channel reaches the streams of one process only, if its server has several."""

from __future__ import annotations

import logging

from .._core.stream import Stream

log = logging.getLogger("h3ref.channel")


class Alone:
    """Warns once, when the channel gets its first subscriber.

    Args:
        name: the channel's name.
    """

    __slots__ = ("_has_looked", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._has_looked = False

    def look(self, stream: Stream) -> None:
        """Note that a stream subscribes to a channel without an engine."""
        if not self._has_looked:
            self._has_looked = True
            if stream.host.is_one_of_several:
                log.warning(
                    "channel %s has no engine, and this process is one of several: its events do not reach "
                    "the streams of the others; with Channel(engine=RedisEngine(...)) they do (said once)",
                    self._name,
                )
