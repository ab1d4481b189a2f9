"""`Alone`: says that a channel reaches the streams of one process, where its server has several."""

from __future__ import annotations

import logging

from .._core.stream import Stream

log = logging.getLogger("h3ref.channel")


class Alone:
    """Says so once, when the channel gets its first subscriber.

    Args:
        name: the channel's.
    """

    __slots__ = ("_has_looked", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._has_looked = False

    def look(self, stream: Stream) -> None:
        """A stream subscribes to a channel that has no engine."""
        if not self._has_looked:
            self._has_looked = True
            if stream.host.is_one_of_several:
                log.warning(
                    "channel %s has no engine, and this process is one of several: what it publishes does not reach "
                    "the streams of the others; Channel(engine=RedisEngine(...)) does (said once)",
                    self._name,
                )
