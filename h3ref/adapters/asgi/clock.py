"""`Clock`: looks after an ASGI application's streams, since ASGI gives it no task of its own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from ..._core.parking import current_task_id, now, start_task
from ..._core.stream import Stream
from ..._core.timer import Timer
from ..._core.upkeep import Upkeep
from .ending import LOOK_EVERY

log = logging.getLogger(__name__)


class Clock:
    """Has the streams of all requests in this event loop looked at, when it is time.

    It belongs to the loop, and to no request: what it does has an empty context, and what it starts for a stream has
    the stream's.

    Args:
        streams: those of all requests.
        ticked: called a quarter of a second after a stream has begun; and again, while there are streams, as long as it
            returns True.
    """

    def __init__(self, streams: Upkeep, ticked: Callable[[], bool]) -> None:
        self._streams = streams
        self._ticked = ticked
        self._timer = Timer(self._ring)
        self._ticks_at = math.inf
        self._tasks: dict[int, object] = {}  # those that do something for a stream
        streams.attend(self)

    def look_at(self, when: float) -> None:
        self._timer.set(when)

    def start(self, function: Callable[[Stream], Coroutine[Any, Any, None]], stream: Stream) -> None:
        task = start_task(self._run, function, stream, context=stream.host.context.copy())
        self._tasks[id(task)] = task

    async def _run(self, function: Callable[[Stream], Coroutine[Any, Any, None]], stream: Stream) -> None:
        try:
            await function(stream)
        except Exception:  # on trio it would end the loop
            log.exception("%r could not be looked after", stream)
        finally:
            self._tasks.pop(current_task_id(), None)

    def run(self) -> None:
        """A stream has begun."""
        if self._ticks_at == math.inf:
            self._ticks_at = now() + LOOK_EVERY
            self._timer.set(self._ticks_at)

    def _ring(self) -> None:
        next_look = math.inf
        try:
            if self._ticks_at <= now():  # not as often as a stream's own time comes
                self._tick()
            next_look = self._streams.look()
        except Exception:
            log.exception("looking after the streams failed; it goes on")
        next_look = min(next_look, self._ticks_at)
        if next_look < math.inf:
            self._timer.set(next_look)

    def _tick(self) -> None:
        goes_on = True
        try:
            goes_on = self._ticked()
        finally:
            self._ticks_at = now() + LOOK_EVERY if goes_on and len(self._streams) else math.inf
