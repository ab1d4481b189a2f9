"""`ShieldingConnection`: an `ASGIConnection` for trio, whose task shields the one message that waits.

On asyncio another task goes on with a call that waits, or the call is known not to have taken its message. On trio only
the task that has begun a call can go on with it. A server may take a message and wait afterwards, so a cancellation
there would leave it in doubt whether the message was sent.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, Literal

from ..._core.cleanup import Cleanup
from ..._core.parking import current_task_id, now
from ..._core.steps import Steps, begin
from ..._core.upkeep import Upkeep
from .connection import ASGIConnection
from .messages import Send, part
from .owner import Owner
from .stage import JOINING, QUIET, SENDING, WAITING

DIRECT_MOST: Final = 16 * 1024
"""Bytes that the task sends by itself. The system has room for that many, so a task that sends them seldom waits
for long."""


class ShieldingConnection(ASGIConnection):
    """Like that, but the task that streams sends by itself under every server, as long as none has made it wait.

    The one message that has to wait is sent to its end, unless the stream is cut, or has been over for
    `Limits.close_timeout`: a time limit of the user's can't end that wait. From then on the helper sends, and a task
    that waits for room can be cancelled.

    Args:
        streams: their keeper, which keeps the time.
        send, owner, turns, flow: as an `ASGIConnection` takes them.
    """

    __slots__ = ("_running", "_streams")

    def __init__(self, streams: Upkeep, send: Send, owner: Owner, *, turns: Cleanup, flow: Any = None) -> None:
        super().__init__(send, owner, turns=turns, flow=flow)
        self._streams = streams
        self._running = turns
        self._stage = self._rest = QUIET

    async def _go_on(self, steps: Steps, *, shield: bool) -> bool:
        # A scope's own deadline would not reach into what the server shields.
        self._streams.add_deadline(steps, self._owner.limits.close_timeout)
        try:
            return await steps.go_on(shield=shield)
        finally:
            self._streams.discard_deadline(steps, self._owner.limits.close_timeout)

    @property
    def is_free(self) -> bool:
        return self._rest is QUIET and self._stage <= JOINING

    @property
    def can_end(self) -> bool:
        return self.is_free and self._size <= DIRECT_MOST and current_task_id() == self._owner.task

    def send_now(self, data: bytes) -> Coroutine[Any, Any, None] | Literal[False] | None:
        if not self.is_free:
            return False
        if self._size + len(data) > DIRECT_MOST:
            self.write_chunk(data)
            return None
        if self._pending:
            data = self._behind_pending(data)
        stage, self._stage = self._stage, SENDING
        try:
            steps = self._steps = begin(self._send(part(data)))
        except Exception as error:
            self._refused(error)
            return None
        if steps is not None:
            return self._send_slowly(steps, data)
        if self._stage is SENDING:
            self._stage = stage if stage is QUIET else JOINING
            if self._pending and stage is QUIET:  # the server's own code has written it meanwhile
                self._send_with_turn(JOINING)
            self._tell_waiters()
        return None

    def _send_joined(self) -> None:
        self._turn_over()

    async def _send_slowly(self, steps: Steps, data: bytes) -> None:
        self._rest = WAITING
        self._in_flight = len(data)
        self._size += self._in_flight
        self.stalled_since = now()
        seconds = self._owner.limits.close_timeout
        self._running.cancelled = partial(self._streams.add_deadline, steps, seconds)  # then it has to end
        try:
            await steps.go_on(shield=True)
        except Exception as error:
            self._refused(error)
        else:
            self._taken()
        finally:
            self._running.cancelled = None
            self._streams.discard_deadline(steps, seconds)
        if self._pending:
            self._wake_helper()
