"""Servers that are right, and differ in all that is free."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from tests.judge.servers import Client, Good

CORRECT: list[type[Good]] = [Good]


def correct(server: type[Good]) -> type[Good]:
    """Add a server to the table."""
    CORRECT.append(server)
    return server


@correct
class Windows(Good):
    """Lines end with CRLF, after a byte order mark."""

    first = b"\xef\xbb\xbfretry: 3000\r\n\r\n"

    def event(self, number: int) -> bytes:
        """The event with that number."""
        return b"id: %d\r\ndata: event %d\r\n\r\n" % (number, number)


@correct
class Terse(Good):
    """No blank behind a colon, a field without one, an empty value, several lines of data."""

    def event(self, number: int) -> bytes:
        """The event with that number."""
        return b"event:tick\nid:%d\ndata\ndata:\ndata:x\n: why not\n\n" % number


@correct
class Bytewise(Good):
    """Each byte is a chunk of its own."""

    gap = 0.1

    async def body(self, client: Client) -> None:
        """As Good, but byte by byte."""
        whole = client.chunk

        async def bytewise(data: bytes) -> None:
            for byte in data:
                await whole(bytes([byte]))

        client.chunk = bytewise  # type: ignore[method-assign]
        await super().body(client)


@correct
class AtOnce(Good):
    """All events leave in one chunk, with an extension, and a trailer at the end."""

    async def get(self, client: Client) -> None:
        """Answer GET."""
        await self.head(client)
        last = int(last) if (last := client.headers.get("last-event-id", "0")).isdigit() else 0
        data = self.first + b"".join(map(self.event, range(last + 1, self.count + 1)))
        if client.version == "HTTP/1.1":
            await client.send(b'%X;name="value"\r\n%b\r\n000\r\nX-Sum: 1\r\n\r\n' % (len(data), data))
        else:
            await client.send(data)


@correct
class Finite(Good):
    """The body has a length."""

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        await client.head("200 OK", {**self.fields, "Content-Length": str(len(self._whole(client)))})

    async def get(self, client: Client) -> None:
        """Answer GET."""
        await self.head(client)
        await client.send(self._whole(client))

    def _whole(self, client: Client) -> bytes:
        last = int(last) if (last := client.headers.get("last-event-id", "0")).isdigit() else 0
        return self.first + b"".join(map(self.event, range(last + 1, self.count + 1)))


@correct
class Hinted(Good):
    """An interim head comes before the head, whose names are in lower case and whose reason is empty."""

    status = "200 "
    fields: Mapping[str, str] = {name.lower(): value for name, value in Good.fields.items()}

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        if client.version == "HTTP/1.1":
            await client.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        await super().head(client)


@correct
class Named(Good):
    """The type in capitals, with a charset; CORS for one origin."""

    fields: Mapping[str, str] = {
        "Content-Type": 'Text/Event-Stream; charset="UTF-8"',
        "Cache-Control": "No-Store, No-Transform",
        "Access-Control-Allow-Origin": "https://h3ref.example",
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Accept, Origin",
    }


@correct
class Private(Good):
    """No other origin may read it, and OPTIONS is not allowed."""

    fields: Mapping[str, str] = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"}

    async def answer(self, client: Client) -> None:
        """Answer a request."""
        if client.method == "OPTIONS":
            await client.head("405 Method Not Allowed", {"Content-Length": "0", "Connection": "close"})
        else:
            await super().answer(client)


@correct
class Quiet(Good):
    """One event, and then nothing but keep-alives."""

    async def body(self, client: Client) -> None:
        """Comments, one every 15 s."""
        await client.chunk(self.first)
        if "last-event-id" not in client.headers:
            await client.chunk(self.event(1))
        while True:
            await anyio.sleep(15)
            await client.chunk(b": keep-alive\n\n")


@correct
class Padded(Good):
    """A comment of 2 KB comes first, as old browsers wanted; ids are words, and one is reset."""

    first = b": " + b"-" * 2048 + b"\nretry: 10000\n\n"

    def event(self, number: int) -> bytes:
        """The event with that number; the id of the last one is empty."""
        return super().event(number) if number < self.count else b"id\ndata: that is all\n\n"


@correct
class ReplaysAll(Good):
    """Who comes with an id that it does not know gets all, and who has had all gets a 204."""

    async def get(self, client: Client) -> None:
        """Answer GET."""
        last = client.headers.get("last-event-id", "")
        if last.isdigit() and int(last) >= self.count:
            await client.head("204 No Content", {"Connection": "close"})
            return
        if not last.isdigit():
            client.headers.pop("last-event-id", None)
        await super().get(client)


@correct
class StaysOpen(Good):
    """Plain answers leave the connection open, and HEAD is one."""

    async def answer(self, client: Client) -> None:
        """Answer a request, and wait for the next one."""
        await super().answer(client)
        if client.method in ("HEAD", "OPTIONS"):
            await anyio.sleep_forever()


@correct
class Rushes(Good):
    """Thousands of events as fast as they can be written."""

    count = 5000
    gap = 0


@correct
class Large(Good):
    """Events of 100 KB, in chunks of 16 KB."""

    count = 8

    async def body(self, client: Client) -> None:
        """As Good, but in parts."""
        whole = client.chunk

        async def parts(data: bytes) -> None:
            for begin in range(0, len(data), 16384):
                await whole(data[begin : begin + 16384])

        client.chunk = parts  # type: ignore[method-assign]
        await super().body(client)

    def event(self, number: int) -> bytes:
        """The event with that number."""
        return b"id: %d\ndata: %s\n\n" % (number, b"x" * 100_000)
