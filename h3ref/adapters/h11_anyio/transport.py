"""`H11Transport`: one request on a client's connection."""

from __future__ import annotations

from collections.abc import Callable
from sys import intern
from typing import Protocol

import anyio
import h11

from ..._core.parking import Parking
from ..._core.service import Service
from ..._core.target import origin_form
from ...connection import Request, Response
from ...errors import BodyTimeout, BodyTooLarge, RequestError
from .guard import Guard, Head
from .refused import Refused
from .stream import StreamConnection
from .wire import HeaderLines, respond, with_host

UNREAD = (h11.SEND_BODY, h11.ERROR)
"""States of the parser in which a request's body was not read to its end, so no other request can follow."""


class TrailersTooLarge(RequestError):
    """The request's trailers are larger than its head may be: answered with 431."""

    status = 431


class Client(Protocol):
    """What a request asks of its client's connection."""

    @property
    def service(self) -> Service: ...

    @property
    def client(self) -> str:
        """The client's address."""

    @property
    def guard(self) -> Guard:
        """The guard that everything the client sends has passed."""

    @property
    def is_last_request(self) -> bool:
        """Whether no other request may follow."""

    def read(self, take: Callable[[bytes], None]) -> None:
        """From now on give what the client sends to `take`, b"" at its end; on any thread."""

    def stop_reading(self) -> None:
        """Leave to the system what the client sends."""

    @property
    def parser(self) -> h11.Connection:
        """The parser, which reads a body and frames a plain answer."""

    def feed(self, data: bytes) -> None:
        """Give the parser what has arrived."""

    async def send(self, whole: list[bytes]) -> None:
        """Send bytes outside of a stream, which are taken out of the list."""

    def open_stream(
        self, gone: Callable[[], None], opened: Callable[[], None], *, chunked: bool, bodiless: bool
    ) -> StreamConnection:
        """Give the socket to a stream; there will be no further request on it."""

    def release_parser(self) -> None:
        """Drop the parser: there will be no further request, nor anything of this one's body."""

    def release(self) -> None:
        """Close the socket."""


class H11Transport:
    """One request on a client's connection.

    What the client sends has one reader: the watcher. A task that wants the body waits until it is told what has come.
    """

    __slots__ = (
        "_body",
        "_broken",
        "_client",
        "_gone",
        "_has_ended",
        "_is_open",
        "_reading",
        "_size",
        "request",
    )

    def __init__(self, client: Client, head: Head) -> None:
        self._client = client
        self._gone: Callable[[], None] | None = None
        self._body = bytearray()  # as far as it has come
        self._size = 0  # of all that came of the body
        self._broken: h11.RemoteProtocolError | None = None  # why the body can't be read to its end
        self._reading: Parking | None = None  # where somebody waits for the body
        self._has_ended = False  # what the client sends
        self._is_open = False  # whether the stream's head is sent: nobody may begin to read the body then
        target, fields = head.target.decode("latin-1"), head.fields
        if target[:1] != "/":
            target, fields = origin_form(target), with_host(fields, head.target)
        # Interned, for nearly all streams have the same: each would keep its own.
        method, version = intern(head.method.decode()), intern(head.http_version.decode())
        self.request = Request(method, target, HeaderLines(fields), version)

    @property
    def client(self) -> str:
        """The client's address."""
        return self._client.client

    def _take_arrived(self) -> None:
        """Take what the parser has of the body, when somebody wants to know; a stream never does."""
        try:
            while isinstance(event := self._client.parser.next_event(), h11.Data):
                self._body += event.data
                self._size += len(event.data)
            self._client.guard.check()
        except h11.RemoteProtocolError as error:
            self._broken = error

    async def read_body(self) -> bytes:
        limit = self._client.service.limits.body_size
        declared = dict(self.request.headers).get(b"content-length", b"0")
        if int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared)} bytes, and the limit is {limit}")
        self._take_arrived()
        try:
            if self._is_incomplete:
                await self._receive_rest()
            self._check_body(limit)
            body, self._body = self._body, bytearray()
            return bytes(body)
        finally:
            self._release_parser()

    def _check_body(self, limit: int) -> None:
        if isinstance(self._broken, Refused) and self._broken.limit is not None:
            self._client.service.refused[self._broken.limit] += 1
            raise TrailersTooLarge(str(self._broken)) from self._broken  # of a body's refusals the only one by a limit
        if self._broken is not None:
            why = f": {self._broken}" if isinstance(self._broken, Refused) else ""
            raise RequestError(f"the body is malformed or broke off{why}") from self._broken
        if self._size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")

    @property
    def _is_incomplete(self) -> bool:
        limit = self._client.service.limits.body_size
        return self._client.parser.their_state is h11.SEND_BODY and self._size <= limit and self._broken is None

    async def _receive_rest(self) -> None:
        """Wait until nothing of the body can come any more.

        Raises:
            BodyTimeout: it took too long.
        """
        seconds = self._client.service.limits.body_timeout
        reading = self._reading = Parking()
        self._client.read(self._take)
        try:
            with anyio.move_on_after(seconds):
                if self._client.parser.they_are_waiting_for_100_continue:
                    go_on = self._client.parser.send(
                        h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    )
                    await self._client.send([go_on or b""])
                while self._is_incomplete:
                    await reading.wait()
            if self._is_incomplete:
                raise BodyTimeout(f"the body did not come in {seconds:g} s")
        finally:
            self._reading = None
            self._stop_reading()

    def _stop_reading(self) -> None:
        """Leave to the system what comes next, unless the client is watched: a thread may be starting that now."""
        self._client.stop_reading()
        if self._gone is not None and not self._has_ended:
            self._client.read(self._take)

    def watch(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        if self._has_ended:
            gone()
        else:
            self._client.read(self._take)

    def _take(self, data: bytes) -> None:
        """Keep what belongs to the body while somebody may want it, and drop the rest; b"" is the client's end."""
        self._has_ended = not data
        if (self._reading is not None or not self._is_open) and self._is_incomplete:
            self._client.feed(data)
            self._take_arrived()
        if self._reading is not None:
            if self._gone is None and not self._is_incomplete:
                self._stop_reading()  # what follows is the next request's
            self._reading.wake()
        if self._has_ended and self._gone is not None:
            self._gone()

    async def send_response(self, response: Response) -> int:
        self._take_arrived()
        unread = self._client.parser.their_state in UNREAD
        watched = self._gone is not None  # since then what the client sent was thrown away, requests too
        close = unread or watched or self._client.is_last_request or self._client.service.stopping
        pieces = respond(self._client.parser, response, close=close, bodiless=self.request.method == "HEAD")
        del response  # the client's connection alone holds its body, so that it can release it
        size = sum(map(len, pieces))
        await self._client.send(pieces)
        return size

    def release(self) -> None:
        """Close the client's socket after the stream has ended, without waiting for a thread that has not."""
        self._client.release()

    def keep_nothing(self) -> None:
        """Drop what refers to an exchange that is over, and would otherwise wait for the garbage collector."""
        self._gone = None

    def create_connection(self) -> StreamConnection:
        assert self._gone is not None, "start_sse watches first, or the machine rejects this"
        return self._client.open_stream(
            self._gone,
            self._opened,
            chunked=self.request.http_version != "1.0",
            bodiless=self.request.method == "HEAD",
        )

    def _opened(self) -> None:
        self._is_open = True
        self._release_parser()

    def _release_parser(self) -> None:
        """Drop the parser, which takes more memory than all the rest, if nobody can want the body any more."""
        if self._is_open and self._reading is None:
            self._body.clear()
            self._client.release_parser()
