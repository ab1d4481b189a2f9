"""`Visit`: one request of a client under test, and its answer, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

import anyio
import anyio.abc

from .vectors import Message

LONGEST_HEAD: Final = 64 * 1024
MOST_BYTES: Final = 2000
"""Of a transcript; what comes after them is left out."""

MOST_OF_ONE: Final = 300
"""Bytes of one thing in it."""

_MORE: Final = b"(more is left out)\n"
_TOLD: Final = {b"accept", b"accept-encoding", b"cache-control", b"last-event-id"}
ANY_ORIGIN: Final = ("Access-Control-Allow-Origin: *",)
"""A page in a browser may be the client."""


class Head(NamedTuple):
    """A request's head: its method, its target, and its fields by lower-case name."""

    method: str
    target: str
    fields: dict[str, bytes]


class Transcript:
    """What was sent, received and printed, in the order that it was seen: a proof for people."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def request(self, data: bytes) -> None:
        """Add a request: its first line, and the fields that a stream's client is judged by."""
        first, *lines = data.split(b"\r\n\r\n")[0].split(b"\r\n")
        told = [line for line in lines if line.partition(b":")[0].lower() in _TOLD]
        self._add(b"client: ", b"\r\n".join([first, *told, b""]))

    def answer(self, data: bytes) -> None:
        """Add bytes of an answer."""
        self._add(b"server: ", data if data.endswith(b"\n") else data + b"\n")

    def note(self, text: str) -> None:
        """Add what was done, or seen, besides."""
        self._add(b"(", text.encode() + b")\n")

    def message(self, message: Message) -> None:
        """Add a line that the client printed."""
        said = {"event": message.event, "data": message.data, **({} if message.id is None else {"id": message.id})}
        self._add(b"prints: ", json.dumps(said, ensure_ascii=False).encode(errors="replace") + b"\n")

    def __bytes__(self) -> bytes:
        return b"".join(self._parts)

    def _add(self, who: bytes, data: bytes) -> None:
        if len(data) > MOST_OF_ONE:
            data = b"%b ... (%d bytes)\n" % (data[:MOST_OF_ONE], len(data))
        if self._size < MOST_BYTES:
            self._parts.append(who + data)
        elif self._parts[-1] != _MORE:
            self._parts.append(_MORE)
        self._size += len(who) + len(data)


class Visit:
    """One request.

    Args:
        stream: its connection.
        head: its head.
        transcript: where to note the answer.

    Attributes:
        method, target: of the request.
    """

    def __init__(self, stream: anyio.abc.ByteStream, head: Head, transcript: Transcript) -> None:
        self.method, self.target, self._fields = head
        self._stream = stream
        self._transcript = transcript
        self._over = anyio.Event()
        self._is_chunked = True

    def field(self, name: str) -> str | None:
        """A field's value, its bytes as UTF-8; None if the request has no such field."""
        value = self._fields.get(name.lower())
        return None if value is None else value.decode(errors="backslashreplace")

    async def answer(self, status: str, *fields: str, body: str = "") -> None:
        """Answer plainly, such as `answer("204 No Content")`, and close the connection."""
        length = [] if status.startswith(("204", "304")) else [f"Content-Length: {len(body.encode())}"]
        await self._send(_head(f"HTTP/1.1 {status}", [*fields, *length]) + body.encode())
        await self._close()

    async def allow(self) -> None:
        """Answer a preflight (Fetch, section 4.8)."""
        await self.answer("204 No Content", "Access-Control-Allow-Headers: *", "Access-Control-Allow-Methods: GET")

    async def open(
        self,
        *chunks: bytes,
        media_type: str = "text/event-stream",
        fields: Sequence[str] = (),
        framing: str = "chunked",
    ) -> None:
        """Send the head of a stream, and its first bytes.

        Args:
            chunks: the first bytes.
            media_type: its Content-Type.
            fields: more fields of the head.
            framing: "chunked", "length: N", or "eof" for a body that the end of the connection ends.
        """
        self._is_chunked = framing == "chunked"
        framed = {"chunked": ["Transfer-Encoding: chunked"], "eof": []}.get(framing, [f"Content-{framing.title()}"])
        version = "HTTP/1.0" if framing == "eof" else "HTTP/1.1"
        head = [f"Content-Type: {media_type}", "Cache-Control: no-store", *fields, *framed]
        await self._send(_head(f"{version} 200 OK", head))
        for chunk in chunks:
            await self.send(chunk)

    async def send(self, data: bytes) -> None:
        """Send bytes of the stream, as a chunk of their own."""
        if data:
            self._transcript.answer(data)
            await self._send_quietly(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def end(self) -> None:
        """End the stream properly."""
        self._transcript.note("the proper end of the body")
        if self._is_chunked:
            await self._send_quietly(b"0\r\n\r\n")
        await self._close()

    async def cut(self) -> None:
        """Close the connection without the proper end; before the head, without any answer."""
        self._transcript.note("the connection is closed without the end of the body")
        await self._close()

    async def over(self) -> None:
        """Wait until it has been answered."""
        await self._over.wait()

    async def _send(self, data: bytes) -> None:
        self._transcript.answer(data)
        await self._send_quietly(data)

    async def _send_quietly(self, data: bytes) -> None:
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._transcript.note("the client has left this connection")

    async def _close(self) -> None:
        await self._stream.aclose()
        self._over.set()


def parsed_head(data: bytes) -> Head:
    """Read a request's head; the method is "" if it is not a head."""
    first, *lines = data.split(b"\r\n\r\n")[0].split(b"\r\n")
    words = first.decode("latin-1").split(" ")
    if len(words) != 3:
        return Head("", "", {})
    fields = (line.partition(b":") for line in lines)
    return Head(words[0], words[1], {name.decode("latin-1").lower(): value.strip() for name, _, value in fields})


def _head(first: str, fields: Sequence[str]) -> bytes:
    return "\r\n".join([first, *fields, *ANY_ORIGIN, "Connection: close", "", ""]).encode()
