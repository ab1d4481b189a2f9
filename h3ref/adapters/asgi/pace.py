"""`Pace`: the deadline of each message of a response, and since when its stream is silent; with it, its keep-alive."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import anyio

from ..._core.stream import Stream
from ...errors import H3Error
from .transport import Message, Send

log = logging.getLogger(__name__)


class Pace:
    """A `send` with a deadline for each message, which knows since when the stream has been silent."""

    __slots__ = ("_last", "_send", "_sending", "_timeout")

    def __init__(self, send: Send, timeout: float | None) -> None:
        self._send = send
        self._timeout = timeout
        self._sending = False
        self._last = anyio.current_time()

    @property
    def silent_since(self) -> float:
        """The loop's time when the last message was taken; now, while one is under way."""
        return anyio.current_time() if self._sending else self._last

    async def send(self, message: Message) -> None:
        """Pass a message on.

        Raises:
            TimeoutError: it was not taken in time; being an OSError, it means what all of them mean: the client is
                gone.
        """
        self._sending = True
        try:
            if self._timeout is None:
                await self._send(message)
            else:
                with anyio.fail_after(self._timeout):
                    await self._send(message)
        finally:
            self._sending = False
            self._last = anyio.current_time()


async def keep_alive(
    stream: Stream, seconds: float, pace: Pace, comment: Callable[[], bytes | None] | None = None
) -> None:
    """Send a comment each time the stream has been silent for some seconds; runs until it is cancelled.

    Args:
        stream: the stream.
        seconds: how long a silence may last.
        pace: says since when it lasts.
        comment: returns the bytes to send; left out, or when it returns None, it is the stream's own keep-alive.
    """
    last = pace.silent_since
    while True:
        last = max(last, pace.silent_since)
        wait = last + seconds - anyio.current_time()
        if wait > 0:
            await anyio.sleep(wait)
            continue
        last = anyio.current_time()
        if stream.is_active:
            data = _made_by(comment)
            if data is not None:
                stream.offer(data)
            else:
                with suppress(H3Error):  # it has just ended
                    await stream.send_keep_alive()


def _made_by(comment: Callable[[], bytes | None] | None) -> bytes | None:
    try:
        return comment and comment()
    except Exception:
        log.exception("the ping_message_factory raised; the usual comment is sent instead")
        return None
