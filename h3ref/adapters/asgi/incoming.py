"""`Incoming`: what comes from the client of one request, its body and its leaving, by the one task that receives."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import anyio
import anyio.from_thread
import anyio.lowlevel

from ..._core.logs import printable
from ..._core.parking import Parking
from ..._core.shared import Shared
from ...connection import Request
from ...errors import BodyTimeout, BodyTooLarge, RequestError
from .messages import Message, Receive

log = logging.getLogger(__name__)

PAUSES: Final = (0.01, 1.0)
"""Seconds, the first ones and the most, between two calls of a `receive` that only repeats what it has said."""


LOST: Final = (
    "%s %s: %d bytes of the request's body came when the stream was open, and nobody got them: the response listens "
    "for a client that leaves, and can't know who reads the body; give it the Request by EventSourceResponse(..., "
    "request=request), or read the body in the endpoint"
)


class Body(Enum):
    """How far the request's body has come."""

    NONE = auto()  # none is announced, and the message that says so has not come
    COMING = auto()
    WHOLE = auto()
    BROKEN_OFF = auto()


class Reader(Enum):
    """Who reads the body, if anybody does."""

    HANDLER = auto()  # by `read_body`, as long as the stream is not open; then it is thrown away
    REQUEST = auto()  # an object of the framework's, by what `share` returned for it, at any time
    UNKNOWN = auto()  # nobody said so: it may be somebody who calls the server's own `receive`


class Incoming:
    """What comes from the client. One task calls `receive`: that which `listen`s, as long as somebody wants to know.

    Args:
        receive: the server's.
        request: says whether a body may come.
        service: its limits, and the thread of its loop.
    """

    def __init__(self, receive: Receive, request: Request, service: Shared) -> None:
        self._receive = receive
        self._service = service
        self._request = request
        self._stage = Body.COMING if _may_have_body(request) else Body.NONE
        self._parking = Parking()  # where the task waits until somebody wants to know
        self._gone: Callable[[], None] | None = None
        self._body = bytearray()  # as far as it has come
        self._size = 0  # of all that came of the body, up to the first part past the limit
        self._reader = Reader.HANDLER
        self._is_open = False  # whether the stream's head has left
        self._is_over = False  # whether nobody listens any more
        self._is_told = False  # whether the framework's object has had all of the body
        self._is_wanted = True  # somebody may still begin to read the body
        self._is_read = False  # while somebody waits for it
        self.has_left = False  # the client
        self._arrived: anyio.Event | None = None  # made by who reads

    # -- what is wanted

    async def read_body(self) -> bytes:
        """As `Transport.read_body`."""
        limit = self._service.limits.body_size
        declared = dict(self._request.headers).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared)} bytes, the limit is {limit}")
        self._is_read = True
        self._parking.wake()
        try:
            with anyio.move_on_after(self._service.limits.body_timeout) as bounded:
                while self._stage is Body.COMING and self._size <= limit:
                    await self._next_arrival()
            body = self._body
        finally:
            self._is_read = False
            if not self._is_wanted:
                self._body = bytearray()
        if bounded.cancelled_caught and self._stage is Body.COMING:
            raise BodyTimeout(f"the body did not come in {self._service.limits.body_timeout:g} s")
        if self._size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        if self._stage is Body.BROKEN_OFF:
            raise RequestError("the body broke off: the client has left")
        self._body = bytearray()
        return bytes(body)

    def share(self, *, is_read: bool) -> Receive:
        """Return a `receive` for who reads the body beside: it loses nothing of what is received here.

        Args:
            is_read: whether the body was read to its end before.
        """
        self._reader = Reader.REQUEST
        self._is_told = is_read
        if is_read:
            self._stage = Body.WHOLE
        return self._receive_shared

    def spare(self) -> None:
        """Leave a body that is announced to whoever may read it, until the stream is open; then tell what is lost."""
        self._reader = Reader.UNKNOWN
        self._is_open = self._stage is Body.NONE  # there is nothing to leave

    def opened(self) -> None:
        """The stream's head has left."""
        self._is_open = True
        self._parking.wake()

    async def _receive_shared(self) -> Message:
        """As the server's `receive`, for the framework's object."""
        while True:
            if self.has_left and anyio.current_effective_deadline() == -math.inf:
                return {"type": "http.disconnect"}  # it only asks whether the client has left
            await anyio.lowlevel.checkpoint_if_cancelled()
            if self._body or (not self._is_told and self._stage in (Body.NONE, Body.WHOLE)):
                data, self._body = bytes(self._body), bytearray()
                self._is_told = self._stage is not Body.COMING
                self._parking.wake()
                return {"type": "http.request", "body": data, "more_body": self._stage is Body.COMING}
            if self.has_left:
                return {"type": "http.disconnect"}
            if self._is_over:
                return await self._receive()
            self._is_read = True
            self._parking.wake()
            try:
                await self._next_arrival()
            finally:
                self._is_read = False

    async def _next_arrival(self) -> None:
        if self._arrived is None:
            self._arrived = anyio.Event()
        await self._arrived.wait()

    def watch(self, gone: Callable[[], None], token: anyio.lowlevel.EventLoopToken) -> None:
        """As `Transport.watch`."""
        self._gone = gone
        if self.has_left:
            gone()
        elif threading.get_ident() == self._service.loop_thread:
            self._parking.wake()
        else:
            anyio.from_thread.run_sync(self._parking.wake, token=token)

    def throw_away_the_rest(self) -> None:
        """Nobody begins to read the body any more."""
        if self._reader is Reader.REQUEST:
            return
        self._is_wanted = False
        if not self._is_read:
            self._body.clear()
        self._parking.wake()

    # -- what comes

    async def listen(self) -> None:
        """Take what comes, as long as somebody wants to know, until the client leaves."""
        pause = 0.0
        while not self.has_left:
            if not self._listens:
                await self._parking.wait()
                continue
            was_whole = self._stage is Body.WHOLE
            try:
                message = await self._receive()
            except Exception as error:
                log.debug("receive raised %r: taken for a client that left", error)
                message = {"type": "http.disconnect"}
            self._take(message)
            if was_whole and not self.has_left:
                pause = min(2 * pause, PAUSES[1]) or PAUSES[0]  # some middleware replays a body without ever waiting
                await anyio.sleep(pause)

    @property
    def _listens(self) -> bool:
        if self._reader is Reader.UNKNOWN:
            return self._is_open
        if self._reader is Reader.REQUEST:
            has_room = len(self._body) < self._service.limits.body_size
            return self._stage is not Body.COMING or self._is_read or has_room
        return self._gone is not None or ((self._is_read or not self._is_wanted) and self._stage is Body.COMING)

    def close(self) -> None:
        """Nobody listens any more. What was taken of a body that was somebody else's is told."""
        self._is_over = True
        if self._arrived is not None:
            self._arrived.set()
        if self._reader is Reader.UNKNOWN and self._size:
            log.warning(LOST, self._request.method, printable(self._request.target.partition("?")[0]), self._size)

    def _take(self, message: Message) -> None:
        """Keep a part of the body while somebody may want it, or tell that the client has left."""
        if message["type"] == "http.disconnect":
            self.has_left = True
            if self._stage is Body.COMING:
                self._stage = Body.BROKEN_OFF
            if self._gone is not None:
                self._gone()
        elif self._stage is Body.NONE:
            self._stage = Body.WHOLE
        elif self._stage is Body.COMING:
            self._take_part(message)
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None

    def _take_part(self, message: Message) -> None:
        if not message.get("more_body", False):
            self._stage = Body.WHOLE
        data = message.get("body", b"")
        if self._reader is Reader.UNKNOWN:
            self._size += len(data)
        elif self._reader is Reader.REQUEST:
            self._body += data
        elif (self._is_read or self._is_wanted) and self._size <= self._service.limits.body_size:
            self._body += data
            self._size += len(data)


def _may_have_body(request: Request) -> bool:
    """Whether a body may come; HTTP/1.1 announces it (RFC 9112, section 6.3), HTTP/2 need not."""
    named = dict(request.headers)
    if b"content-length" in named:
        return named[b"content-length"] != b"0"
    return b"transfer-encoding" in named or (
        not request.http_version.startswith("1") and request.method not in ("GET", "HEAD")
    )
