"""Servers with one deliberate fault each, and the check that is meant for it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio

from tests.judge.servers import Answering, Client, Good


@dataclass(frozen=True)
class Faulty:
    """A server that is wrong in one thing.

    Attributes:
        name: what is wrong.
        check: the id of the check that has to find it.
        server: makes the server.
        related: musts that can't hold either, because of the same fault.
    """

    name: str
    check: str
    server: Callable[[], Answering]
    related: frozenset[str] = frozenset()


FAULTY: list[Faulty] = []


def faulty(check: str, *related: str) -> Callable[[type[Good]], type[Good]]:
    """Add a server to the table."""

    def add(server: type[Good]) -> type[Good]:
        FAULTY.append(Faulty((server.__doc__ or "").rstrip("."), check, server, frozenset(related)))
        return server

    return add


def with_fields(check: str, name: str, **fields: str) -> None:
    """Add a server whose head differs: fields with these values, or none with that name where it is empty."""
    changed = {key.replace("_", "-"): value for key, value in fields.items()}
    FAULTY.append(Faulty(name, check, lambda: _Changed({**Good.fields, **changed})))


class _Changed(Good):
    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields


def with_events(check: str, name: str, event: Callable[[int], bytes], *related: str) -> None:
    """Add a server that sends other events."""
    FAULTY.append(Faulty(name, check, lambda: _Sending(event), frozenset(related)))


class _Sending(Good):
    def __init__(self, event: Callable[[int], bytes]) -> None:
        self._event = event

    def event(self, number: int) -> bytes:
        """The event with that number."""
        return self._event(number)


def with_first(check: str, name: str, first: bytes) -> None:
    """Add a server that begins its stream in another way."""
    FAULTY.append(Faulty(name, check, lambda: _Beginning(first)))


class _Beginning(Good):
    def __init__(self, first: bytes) -> None:
        self.first = first


# -- the head


@faulty("C-01")
class Refuses(Good):
    """The status is 403."""

    status = "403 Forbidden"


@faulty("C-01")
class Redirects(Good):
    """It is elsewhere."""

    status = "302 Found"


@faulty("C-01")
class Empty(Good):
    """It is answered with 204 at once."""

    status = "204 No Content"

    async def get(self, client: Client) -> None:
        """Nothing but a head."""
        await client.head(self.status, {"Connection": "close"})


with_fields("C-02", "it is text/plain", Content_Type="text/plain")
with_fields("C-02", "it is JSON, as a list of types says", Content_Type="application/json, text/event-stream")
with_fields("C-02", "it has no type", Content_Type="")
with_fields("C-03", "it names Latin-1", Content_Type="text/event-stream; charset=iso-8859-1")
with_fields("C-06", "it has a length beside its chunks", Content_Length="100")
with_fields("C-06", "its length is no number", Content_Length="many")
with_fields("C-09", "it may be cached", Cache_Control="max-age=60, no-transform")
with_fields("C-09", "nothing is said of caches", Cache_Control="")
with_fields("C-10", "it may be transformed", Cache_Control="no-cache")
with_fields("C-04", "a field's name has a blank", **{"X Name": "1"})
with_fields("C-04", "a field's value has a NUL", X_Name="1\x002")
with_fields("C-32", "* and credentials", Access_Control_Allow_Credentials="true")
with_fields("C-32", "the origin is repeated without Vary", Access_Control_Allow_Origin="https://h3ref.example")
with_fields("C-32", "two origins", Access_Control_Allow_Origin="https://a.example, https://b.example")


@faulty("C-02")
class TwoTypes(Good):
    """It has two types."""

    fields: Mapping[str, str] = {**Good.fields, "content-type": "text/html"}


@faulty("C-04")
class BareLines(Good):
    """The head's lines end with LF alone."""

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        lines = "".join(f"{name}: {value}\n" for name, value in self.fields.items())
        await client.send(f"HTTP/1.1 200 OK\n{lines}Connection: close\nTransfer-Encoding: chunked\n\n".encode())

    async def answer(self, client: Client) -> None:
        """As Good, but that nothing chunked is said to HTTP/1.0."""
        await (Good().answer(client) if client.version == "HTTP/1.0" else super().answer(client))


@faulty("C-04", "C-01")
class NoStatusLine(Good):
    """The status line has no version."""

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        await client.send(b"200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n")
        await client.send(b"Transfer-Encoding: chunked\r\n\r\n" if client.version == "HTTP/1.1" else b"\r\n")


# -- the framing


@faulty("C-05")
class Decimal(Good):
    """The sizes of chunks are decimal."""

    async def body(self, client: Client) -> None:
        """Send chunks of 40 bytes."""
        for number in range(1, 6):
            data = self.event(number).removesuffix(b"\n\n").ljust(38, b"x") + b"\n\n"
            await client.send(b"40\r\n" + data + b"\r\n" if client.version == "HTTP/1.1" else data)


@faulty("C-05")
class NoChunks(Good):
    """It says that it is chunked, and is not."""

    async def get(self, client: Client) -> None:
        """Send the events as they are."""
        await self.head(client)
        for number in range(1, 5):
            await client.send(self.event(number))
            await anyio.sleep(self.gap)


@faulty("C-05")
class GoesOn(Good):
    """Bytes come after the last chunk."""

    async def get(self, client: Client) -> None:
        """Send it, and more."""
        await super().get(client)
        await client.send(b"data: late\n\n")


@faulty("C-05")
class OtherCoding(Good):
    """A transfer coding that is not chunked."""

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        if client.version == "HTTP/1.0":
            await super().head(client)
        else:
            await client.head("200 OK", {**self.fields, "Transfer-Encoding": "identity"})

    async def get(self, client: Client) -> None:
        """Send the events as they are."""
        await self.head(client)
        for number in range(1, 5):
            await client.send(self.event(number))


@faulty("C-07")
class Crashes(Good):
    """The last chunk does not come."""

    async def get(self, client: Client) -> None:
        """Send it without the end."""
        await self.head(client)
        await self.body(client)


@faulty("C-07")
class TooShort(Good):
    """The length says more than comes."""

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        await client.head("200 OK", {**self.fields, "Content-Length": "1000"})

    async def get(self, client: Client) -> None:
        """Send less."""
        await self.head(client)
        await client.send(self.first + b"".join(map(self.event, range(1, 11))))


@faulty("C-08")
class EndsWithConnection(Good):
    """HTTP/1.1 gets a body that ends with the connection."""

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        await client.head("200 OK", {**self.fields, "Connection": "close"})

    async def get(self, client: Client) -> None:
        """Send the events as they are."""
        await self.head(client)
        for data in (self.first, *map(self.event, range(1, 11))):
            await client.send(data)


@faulty("C-29")
class ChunksForAll(Good):
    """HTTP/1.0 gets chunks."""

    async def get(self, client: Client) -> None:
        """As for HTTP/1.1."""
        client.version = "HTTP/1.1"
        await super().get(client)


# -- time


@faulty("C-11")
class Silent(Good):
    """Not even a head comes."""

    async def get(self, client: Client) -> None:
        """Nothing."""
        await anyio.sleep_forever()


@faulty("C-11")
class HeldToTheEnd(Good):
    """A proxy holds the head back until the stream's end, in a minute."""

    fields: Mapping[str, str] = {**Good.fields, "Server": "nginx/1.22.1"}

    async def get(self, client: Client) -> None:
        """All at the end."""
        await anyio.sleep(60)
        await super().get(client)


@faulty("C-11")
class LeavesAtOnce(Good):
    """It closes the connection before the head."""

    async def get(self, client: Client) -> None:
        """Nothing."""


@faulty("C-12")
class Broken(Good):
    """The head, and then silence."""

    async def body(self, client: Client) -> None:
        """Nothing."""
        await anyio.sleep_forever()


@faulty("C-13")
class FullBuffers(Good):
    """A proxy hands on full buffers."""

    async def body(self, client: Client) -> None:
        """Gather what is sent, and send 4096 bytes at a time."""
        whole = self.first + b"".join(b"id: %d\ndata: %s\n\n" % (number, b"x" * 90) for number in range(1, 200))
        for begin in range(0, len(whole), 4096):
            await client.chunk(whole[begin : begin + 4096])
            await anyio.sleep(1)


@faulty("C-13")
class FullCompressor(Good):
    """A compressor is not flushed."""

    async def get(self, client: Client) -> None:
        """Compress for who takes it, without a flush."""
        if "gzip" not in client.headers.get("accept-encoding", ""):
            await super().get(client)
            return
        await client.head("200 OK", {**self.fields, "Content-Encoding": "gzip", "Transfer-Encoding": "chunked"})
        packed = zlib.compressobj(wbits=31)
        for number in range(1, 300):
            if data := packed.compress(self.event(number)):
                await client.chunk(data)
            await anyio.sleep(self.gap)


@faulty("C-13")
class HeldKeepAlives(Good):
    """Keep-alives come together."""

    async def body(self, client: Client) -> None:
        """Three at a time."""
        await super().body(client)
        await client.chunk(b": ping\n\n" * 3)


@faulty("C-14")
class Compresses(Good):
    """It is compressed, with a flush after each event."""

    async def get(self, client: Client) -> None:
        """Compress for who takes it."""
        if "gzip" not in client.headers.get("accept-encoding", ""):
            await super().get(client)
            return
        await client.head("200 OK", {**self.fields, "Content-Encoding": "gzip", "Transfer-Encoding": "chunked"})
        packed = zlib.compressobj(wbits=31)
        for number in range(1, 11):
            await client.chunk(packed.compress(self.event(number)) + packed.flush(zlib.Z_SYNC_FLUSH))
            await anyio.sleep(self.gap)
        await client.end()


@faulty("C-13")
class HoldsTheHead(Good):
    """A compressor holds even the head back."""

    async def get(self, client: Client) -> None:
        """Nothing for who takes gzip."""
        if "gzip" in client.headers.get("accept-encoding", ""):
            await anyio.sleep_forever()
        await super().get(client)


class Coded(Good):
    """Says of its body for browsers that it is something which it is not."""

    coding = ""

    async def get(self, client: Client) -> None:
        """Answer GET."""
        if "gzip" in client.headers.get("accept-encoding", ""):
            self.fields = {**self.fields, "Content-Encoding": self.coding}
        await super().get(client)


@faulty("C-14")
class NoGzip(Coded):
    """It says that it is gzip, and is not."""

    coding = "gzip"


@faulty("C-14")
class Brotli(Coded):
    """It is in a coding that nobody asked for."""

    coding = "br"


@faulty("C-26")
class NoHeartbeat(Good):
    """It is silent for long."""

    gap = math.inf

    async def body(self, client: Client) -> None:
        """One event, and then the next one in an hour."""
        await client.chunk(self.first + self.event(1))
        await anyio.sleep(3600)


# -- what it says

with_events("C-15", "Latin-1", lambda number: b"id: %d\ndata: caf\xe9\n\n" % number)
with_events("C-15", "half a character", lambda number: b"id: %d\ndata: \xf0\x9f\x98\n\n" % number)
with_events("C-16", "an event without data", lambda number: b"id: %d\nevent: ping\n\n" % number)
with_events("C-18", "data in capitals", lambda number: b"id: %d\nData: %d\ndata: x\n\n" % (number, number))
with_events("C-18", "a line end in data", lambda number: b'id: %d\ndata: {\n  "a": 1\n}\n\n' % number)
with_events("C-18", "chunks in chunks", lambda number: b"1b\r\nid: %d\r\ndata: x\r\n\r\n\r\n" % number)
with_events("C-19", "a NUL in data", lambda number: b"id: %d\ndata: a\0b\n\n" % number)
with_events("C-20", "lines that end with CR", lambda number: b"id: %d\rdata: x\r\r" % number)
with_events("C-20", "two kinds of line ends", lambda number: b"id: %d\r\ndata: x\r\n\r\n" % number)
with_events("C-21", "a byte order mark before each event", lambda number: b"\xef\xbb\xbfid: %d\ndata: x\n\n" % number)
with_events("C-22", "an id with a blank at its end", lambda number: b"id: %d \ndata: x\n\n" % number)
with_events("C-22", "an id with a control character", lambda number: b"id: a\x07%d\ndata: x\n\n" % number)
with_events("C-22", "an id of 5,000 bytes", lambda number: b"id: %05000d\ndata: x\n\n" % number)
with_events("C-23", "no ids", lambda number: b"data: %d\n\n" % number)
with_first("C-24", "a retry in words", b"retry: 3s\n\n")
with_first("C-24", "a retry of 5 ms", b"retry: 5\n\n")
with_first("C-24", "a retry of a day", b"retry: 86400000\n\n")
with_first("C-25", "no retry", b": hello\n\n")


@faulty("C-17")
class NoLastLine(Good):
    """The last event has no blank line."""

    def event(self, number: int) -> bytes:
        """The event with that number."""
        return super().event(number).removesuffix(b"\n" if number == self.count else b"")


# -- other requests


@faulty("C-27")
class NoHead(Good):
    """HEAD is not allowed."""

    async def answer(self, client: Client) -> None:
        """405 for HEAD."""
        if client.method == "HEAD":
            await client.head("405 Method Not Allowed", {"Allow": "GET", "Connection": "close"})
        else:
            await super().answer(client)


@faulty("C-27")
class HangsForHead(Good):
    """HEAD is not answered."""

    async def answer(self, client: Client) -> None:
        """Nothing for HEAD."""
        if client.method == "HEAD":
            await anyio.sleep_forever()
        await super().answer(client)


@faulty("C-28")
class BodyForHead(Good):
    """HEAD gets the stream."""

    async def answer(self, client: Client) -> None:
        """HEAD as GET."""
        client.method = client.method.replace("HEAD", "GET")
        await super().answer(client)


class Picky(Good):
    """Refuses some requests."""

    refused = "400 Bad Request"

    def refuses(self, client: Client) -> bool:
        """Whether it refuses this one."""
        raise NotImplementedError

    async def get(self, client: Client) -> None:
        """Answer GET."""
        if self.refuses(client):
            await client.head(self.refused, {"Content-Length": "0", "Connection": "close"})
        else:
            await super().get(client)


@faulty("C-30")
class NoOldVersion(Picky):
    """HTTP/1.0 is refused."""

    refused = "505 HTTP Version Not Supported"

    def refuses(self, client: Client) -> bool:
        """HTTP/1.0."""
        return client.version == "HTTP/1.0"


@faulty("C-31")
class OneAccept(Picky):
    """Accept has to be text/event-stream."""

    refused = "406 Not Acceptable"

    def refuses(self, client: Client) -> bool:
        """All others."""
        return client.headers.get("accept") != "text/event-stream"


@faulty("C-35")
class Throttles(Picky):
    """Who comes back at once gets a 429."""

    refused = "429 Too Many Requests"

    def refuses(self, client: Client) -> bool:
        """Whoever comes back."""
        return client.headers.get("last-event-id", "").isdigit()


@faulty("C-36")
class RefusesStrangers(Picky):
    """An id that it does not know gets a 400."""

    def refuses(self, client: Client) -> bool:
        """An id that is no number."""
        return not client.headers.get("last-event-id", "1").isdigit()


@faulty("C-36")
class HidesGaps(Good):
    """An id that it does not know gets what is new, without a word."""

    async def body(self, client: Client) -> None:
        """Go on with the eighth."""
        if not client.headers.get("last-event-id", "1").isdigit():
            client.headers["last-event-id"] = "7"
        await super().body(client)


@faulty("C-37")
class OneReader(Picky):
    """A second reader is refused."""

    refused = "503 Service Unavailable"

    def __init__(self) -> None:
        self._reading = 0

    def refuses(self, client: Client) -> bool:
        """While another one reads."""
        return self._reading > 1 and client.version == "HTTP/1.1"

    async def get(self, client: Client) -> None:
        """Count the readers."""
        self._reading += 1
        try:
            await super().get(client)
        finally:
            self._reading -= 1


@faulty("C-33")
class NoPreflight(Good):
    """A preflight has to have a token."""

    async def answer(self, client: Client) -> None:
        """401 for OPTIONS."""
        if client.method == "OPTIONS":
            await client.head("401 Unauthorized", {"Content-Length": "0", "Connection": "close"})
        else:
            await super().answer(client)


@faulty("C-34")
class Forgets(Good):
    """Who comes back gets all again."""

    async def body(self, client: Client) -> None:
        """From the beginning."""
        if client.headers.get("last-event-id", "").isdigit():
            del client.headers["last-event-id"]
        await super().body(client)


@faulty("C-34")
class SkipsOne(Good):
    """Who comes back misses one."""

    async def body(self, client: Client) -> None:
        """One too late."""
        if (last := client.headers.get("last-event-id", "")).isdigit():
            client.headers["last-event-id"] = str(int(last) + 1)
        await super().body(client)
