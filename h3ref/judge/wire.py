"""The judge's side of a connection: requests as bytes of its own, and answers as they come."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.abc

from .reply import Reply

Connect = Callable[[], Awaitable[anyio.abc.ByteStream]]
"""Opens a connection to the server; the way to it is not the judge's to know, so that tests have their own."""

Enough = Callable[[Reply], bool]

MOST_BYTES: Final = 512 * 1024
"""So much of an answer is read at most."""

MOST_PARTS: Final = 4096
"""The most parts, so that a server that sends byte by byte costs the judge little."""

MOST_CONNECTIONS: Final = 8
"""Connections that are open at once."""

_PART: Final = 65536


class Unreachable(Exception):
    """No connection could be had, so that there is nothing to judge."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is judged, and what each request says.

    Attributes:
        url: the stream's, or that of the contract's routes.
        headers: fields of each request, beside those that a check sends; one of the same name takes its place.
        method: of the requests for a stream.
        body: sent with it; None for none.
        connect: opens a connection.
    """

    url: str
    connect: Connect
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    body: bytes | None = None

    @property
    def host(self) -> str:
        """The value of the field Host."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def path(self) -> str:
        """The request's target."""
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def at(self, path: str) -> Target:
        """A route below this one, asked for with GET."""
        parts = urlsplit(self.url)
        url = parts._replace(path=parts.path.rstrip("/") + path.partition("?")[0], query=path.partition("?")[2])
        return replace(self, url=url.geturl(), method="GET", body=None)

    def request(
        self, *fields: tuple[str, str], method: str | None = None, version: str = "1.1", close: bool = True
    ) -> bytes:
        """A request in bytes.

        Args:
            fields: sent as they are, in this order; those of `headers` take the place of the same names.
            method: another one than the target's; it has no body.
            version: of HTTP.
            close: whether the connection is for this request alone.
        """
        used = method or self.method
        own = {name.lower() for name, _ in self.headers}
        sent = [("Host", self.host), *[pair for pair in fields if pair[0].lower() not in own], *self.headers]
        body = self.body if method is None and self.body is not None else b""
        if method is None and self.body is not None:
            sent.append(("Content-Length", str(len(body))))
            if "content-type" not in own:
                sent.append(("Content-Type", "application/json"))
        if close and version == "1.1":
            sent.append(("Connection", "close"))
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent)
        return f"{used} {self.path} HTTP/{version}\r\n{lines}\r\n".encode() + body


def connect_to(url: str) -> Connect:
    """Opens connections to a URL's server, with TLS for https.

    Raises:
        ValueError: it is not an http or https URL.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"a URL begins with http:// or https:// and names a host, not {url!r}")
    if not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError(f"{url!r} has blanks or non-ASCII characters: escape them with %")
    secure = ssl.create_default_context() if parts.scheme == "https" else None

    async def connect() -> anyio.abc.ByteStream:
        if secure is None:
            return await anyio.connect_tcp(host, port or 80)
        return await anyio.connect_tcp(
            host, port or 443, tls=True, ssl_context=secure, tls_standard_compatible=False, tls_hostname=host
        )

    return connect


class Line:
    """A connection, on which requests are sent and answers are read, one after the other.

    Args:
        stream: the connection.
        most: the most bytes of a body to read.
    """

    def __init__(self, stream: anyio.abc.ByteStream, most: int = MOST_BYTES) -> None:
        self.stream = stream
        self._most = most

    async def send(self, data: bytes) -> None:
        """Send bytes; that the server has gone shows when its answer is read."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await self.stream.send(data)

    async def ask(self, request: bytes, enough: Enough | None = None, seconds: float = math.inf) -> Reply:
        """Send a request, and read its answer as `read` does."""
        await self.send(request)
        method = request.partition(b" ")[0].decode("latin-1")
        return await self.read(Reply(method, anyio.current_time(), request), enough, seconds)

    async def read(self, reply: Reply, enough: Enough | None = None, seconds: float = math.inf) -> Reply:
        """Read an answer further, until it is over, is enough, is too much, or the time is up.

        Args:
            reply: the answer.
            enough: says whether what has come is; asked after each part. None for all that comes.
            seconds: how long at most.
        """
        with anyio.move_on_after(seconds):
            while not (reply.is_over or self._is_too_much(reply) or (enough and enough(reply))):
                await self._receive(reply)
        return reply

    async def read_end(self, reply: Reply, seconds: float) -> Reply:
        """Read on after an answer's proper end, to see what follows: the connection's end, or bytes too many."""
        with anyio.move_on_after(seconds):
            while reply.closed is None and len(reply.rest) < _PART:
                await self._receive(reply)
        return reply

    def _is_too_much(self, reply: Reply) -> bool:
        return len(reply.body) >= self._most or len(reply.arrivals) >= MOST_PARTS

    async def _receive(self, reply: Reply) -> None:
        try:
            data = await self.stream.receive(_PART)
        except anyio.EndOfStream:
            reply.close("end", anyio.current_time())
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):  # an SSLError is an OSError
            reply.close("reset", anyio.current_time())
        else:
            reply.feed(data, anyio.current_time())


class Lines:
    """Opens connections, no more at once than a polite client may.

    Args:
        connect: opens one.
        seconds: how long that may take.
        most: how many at once.
        most_bytes: the most bytes of a body to read.
    """

    def __init__(
        self, connect: Connect, seconds: float, most: int = MOST_CONNECTIONS, most_bytes: int = MOST_BYTES
    ) -> None:
        self._most_bytes = most_bytes
        self._connect = connect
        self._seconds = seconds
        self._places = anyio.Semaphore(most)

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """A connection, once there is a place for it; closed on leaving, whatever is still to come.

        Raises:
            Unreachable: it can't be had.
        """
        async with self._places:
            try:
                with anyio.fail_after(self._seconds):
                    stream = await self._connect()
            except TimeoutError as error:
                raise Unreachable(f"no connection in {self._seconds:g} s") from error
            except (OSError, anyio.BrokenResourceError) as error:  # an SSLError is an OSError
                raise Unreachable(str(error) or type(error).__name__) from error
            try:
                yield Line(stream, self._most_bytes)
            finally:
                await anyio.aclose_forcefully(stream)
