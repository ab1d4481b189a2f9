"""`Incoming`: everything from one request's client, its body and its leaving, through the one task that receives."""

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
"""Seconds, at first and at most, between two calls of a `receive` that only repeats what it has said."""


LOST: Final = (
    "%s %s: %d bytes of the request's body came when the stream was open, and nobody got them: the response listens "
    "for a client that leaves, and can't know who reads the body; give it the Request by EventSourceResponse(..., "
    "request=request), or read the body in the endpoint"
)


class Body(Enum):
    """How far the request's body has come."""

    NONE = auto()  # none is announced, and the message that says so has not come
    COMING = auto()  # or has broken off, where the client has left
    WHOLE = auto()
    HANDED_ON = auto()  # whole, and the framework's object has had all of it


class Reader(Enum):
    """Who gets the parts of the body that come."""

    HANDLER = auto()  # by `read_body`, when it begins to read
    READING = auto()  # the handler, which waits for it
    LAST = auto()  # the handler, which waits for it; then it is thrown away
    NOBODY = auto()  # it is thrown away
    REQUEST = auto()  # an object of the framework's, when it calls what `share` returned for it
    ASKING = auto()  # that object, which waits for more
    UNKNOWN = auto()  # not known: it may be code that calls the server's own `receive`
    MISSED = auto()  # nobody: the stream is open, and an unknown reader does not get it
    SERVER = auto()  # a caller is passed on to the server: nothing listens here any more


_WAITS: Final = {Reader.HANDLER: Reader.READING, Reader.NOBODY: Reader.LAST, Reader.REQUEST: Reader.ASKING}
_HAS_WAITED: Final = {waits: reader for reader, waits in _WAITS.items()}


class Incoming:
    """What comes from the client. One task calls `receive`: the one that `listen`s, as long as something needs to know.

    Args:
        receive: the server's.
        request: whose it is.
        announced: whether its headers announce a body; None if they say nothing.
        service: its limits, and the thread of its loop.

    Attributes:
        has_left: whether the client has.
    """

    __slots__ = (
        "_arrived",
        "_body",
        "_gone",
        "_parking",
        "_reader",
        "_receive",
        "_request",
        "_service",
        "_size",
        "_stage",
        "has_left",
    )

    def __init__(self, receive: Receive, request: Request, announced: bool | None, service: Shared) -> None:
        self._receive = receive
        self._service = service
        self._request = request
        self._stage = Body.COMING if _may_have_body(request, announced) else Body.NONE
        self._reader = Reader.HANDLER
        self.has_left = False
        self._parking: Parking | None = None  # where the task waits until something needs to know
        self._gone: Callable[[], None] | None = None
        self._body: bytes | bytearray = b""  # as far as it has come, and is kept
        self._size = 0  # of all parts of the body that came, up to the first one past the limit
        self._arrived: anyio.Event | None = None  # made by a reader

    # -- what is wanted

    async def read_body(self) -> bytes:
        """As `Transport.read_body`."""
        limit = self._service.limits.body_size
        declared = dict(self._request.headers).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared)} bytes, the limit is {limit}")
        try:
            with anyio.move_on_after(self._service.limits.body_timeout):
                while self._stage is Body.COMING and not self.has_left and self._size <= limit:
                    await self._next_arrival()
            body = self._body
        finally:
            if self._reader is Reader.NOBODY:
                self._body = b""
        if self._size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        if self._stage is Body.COMING and self.has_left:
            raise RequestError("the body broke off: the client has left")
        if self._stage is Body.COMING:
            raise BodyTimeout(f"the body did not come in {self._service.limits.body_timeout:g} s")
        self._body = b""
        return bytes(body)

    @property
    def may_have_body(self) -> bool:
        """Whether more of a body may come."""
        return self._stage is Body.COMING

    def share(self, *, is_read: bool) -> Receive:
        """Return a `receive` for other code that reads the body: it loses nothing of what is received here.

        Args:
            is_read: whether the body was already read to its end.
        """
        self._reader = Reader.REQUEST
        if is_read:
            self._stage = Body.HANDED_ON
        return self._receive_shared

    def spare(self) -> None:
        """Leave an announced body to any code that may read it, until the stream is open; then report what is lost."""
        self._reader = Reader.UNKNOWN if self._stage is Body.COMING else Reader.MISSED

    def opened(self) -> None:
        """The stream's head has left."""
        if self._reader is Reader.UNKNOWN:
            self._reader = Reader.MISSED
            self._wake()

    async def _receive_shared(self) -> Message:
        """As the server's `receive`, for the framework's object."""
        while True:
            if self.has_left and anyio.current_effective_deadline() == -math.inf:
                return {"type": "http.disconnect"}  # it only asks whether the client has left
            await anyio.lowlevel.checkpoint_if_cancelled()
            if self._body or self._stage is Body.WHOLE:
                data, self._body = bytes(self._body), b""
                if self._stage is Body.WHOLE:
                    self._stage = Body.HANDED_ON
                self._wake()
                return {"type": "http.request", "body": data, "more_body": self._stage is Body.COMING}
            if self.has_left:
                return {"type": "http.disconnect"}
            if self._reader is Reader.SERVER:
                return await self._receive()
            await self._next_arrival()

    async def _next_arrival(self) -> None:
        """Wait for it, as the reader that is waiting."""
        self._reader = _WAITS.get(self._reader, self._reader)
        self._wake()
        if self._arrived is None:
            self._arrived = anyio.Event()
        try:
            await self._arrived.wait()
        finally:
            self._reader = _HAS_WAITED.get(self._reader, self._reader)

    def watch(self, gone: Callable[[], None], token: anyio.lowlevel.EventLoopToken) -> None:
        """As `Transport.watch`."""
        self._gone = gone
        if self.has_left:
            gone()
        elif threading.get_ident() == self._service.loop_thread:
            self._wake()
        else:
            anyio.from_thread.run_sync(self._wake, token=token)

    def throw_away_the_rest(self) -> None:
        """No handler begins to read the body any more; but that of a Request, or of an unknown reader, stays theirs."""
        if self._reader is Reader.HANDLER:
            self._reader = Reader.NOBODY
            self._body = b""
        elif self._reader is Reader.READING:
            self._reader = Reader.LAST
        self._wake()

    # -- what comes

    async def listen(self) -> None:
        """Take what comes, as long as something needs to know, until the client leaves."""
        pause = 0.0
        while not self.has_left:
            if not self._listens:
                if self._parking is None:
                    self._parking = Parking()
                await self._parking.wait()
                continue
            was_whole = self._stage in (Body.WHOLE, Body.HANDED_ON)
            try:
                message = await self._receive()
            except Exception as error:
                log.debug("receive raised %r: taken for a client that left", error)
                message = {"type": "http.disconnect"}
            self._take(message)
            if was_whole and not self.has_left:
                pause = min(2 * pause, PAUSES[1]) or PAUSES[0]  # some middleware replays a body without ever waiting
                await anyio.sleep(pause)

    def _wake(self) -> None:
        if self._parking is not None:  # else nothing has begun to listen, or to wait for that
            self._parking.wake()

    def client_left(self) -> bool:
        """The client has left: its server shows it before, or without, saying so. Return whether anything was told."""
        self._take({"type": "http.disconnect"})
        return self._gone is not None

    @property
    def _listens(self) -> bool:
        match self._reader:
            case Reader.MISSED | Reader.ASKING:
                return True
            case Reader.UNKNOWN:
                return False
            case Reader.REQUEST:
                return self._stage is not Body.COMING or len(self._body) < self._service.limits.body_size
            case reader:
                is_read = reader is not Reader.HANDLER and self._stage is Body.COMING
                return is_read or self._gone is not None

    def close(self) -> None:
        """Nothing listens any more. Report what was taken of a body that belonged to another reader."""
        if self._reader is Reader.MISSED and self._size:
            log.warning(LOST, self._request.method, printable(self._request.target.partition("?")[0]), self._size)
        self._reader = Reader.SERVER
        self._gone = None
        if self._arrived is not None:
            self._arrived.set()

    def _take(self, message: Message) -> None:
        """Keep a part of the body while somebody may want it, or tell that the client has left."""
        if message["type"] == "http.disconnect":
            was_known, self.has_left = self.has_left, True
            if self._gone is not None and not was_known:
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
        match self._reader:
            case Reader.UNKNOWN | Reader.MISSED:
                self._size += len(data)
            case Reader.REQUEST | Reader.ASKING:
                self._keep(data)
            case Reader.HANDLER | Reader.READING | Reader.LAST if self._size <= self._service.limits.body_size:
                self._keep(data)
                self._size += len(data)

    def _keep(self, data: bytes) -> None:
        if self._body:
            self._body += data
        else:
            self._body = bytearray(data)


def _may_have_body(request: Request, announced: bool | None) -> bool:
    """Whether a body may come; HTTP/1.1 announces it (RFC 9112, section 6.3), HTTP/2 need not."""
    if announced is not None:
        return announced
    return not request.http_version.startswith("1") and request.method not in ("GET", "HEAD")
