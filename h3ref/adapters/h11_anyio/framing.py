"""Where a request ends: the header fields that say so, and its body, counted or chunked.

Sections are those of RFC 9112, where no other RFC is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .grammar import Bytes, chunk_line, framing_fields, host, trailer_line
from .refused import Refused
from .wire import chunk

CHUNK_LINE_SIZE = 256
"""Bytes of the line that begins a chunk: nobody reads its extensions, and they must not outgrow what it carries."""

LENGTH_DIGITS = 18
"""More digits than any body needs, and few enough to count with."""


def body_of(fields: Bytes, version: bytes, trailer_size: int) -> Body:
    """Judge the fields that decide where the request leads and where it ends; return its body.

    Args:
        fields: those fields of its head, in lower case.
        version: the HTTP version.
        trailer_size: bytes that its trailers may have.

    Raises:
        Refused: the fields could be read in two ways, or not at all.
    """
    found: list[tuple[bytes, bytes]] = framing_fields(fields)
    if len(found) == 1 and found[0][0] == b"host" and host(found[0][1]):
        return _NO_BODY  # as nearly always
    hosts, lengths, codings = 0, list[bytes](), list[bytes]()
    for name, value in found:
        value = value.rstrip(b" \t")
        if name == b"host":
            hosts += 1
            if not host(value):
                raise Refused(400, "Host is a host's name or address, with or without a port")
        elif name == b"content-length":
            lengths.append(value)
        else:
            codings.append(value)
    # Section 3.2. An empty Host is a client's that has no name for the server.
    if hosts > 1:
        raise Refused(400, "a request has only one Host")
    if not hosts and version == b"1.1":
        raise Refused(400, "a request of HTTP/1.1 has a Host")
    if codings:  # sections 6.1 and 6.3
        if lengths:
            raise Refused(400, "a request has Content-Length or Transfer-Encoding, not both")
        if version == b"1.0":
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
        if codings != [b"chunked"]:
            raise Refused(400, "Transfer-Encoding must be chunked, and nothing else")
        return _Chunked(trailer_size)
    if not lengths:
        return _NO_BODY
    if len(lengths) > 1:  # section 6.3 would let one pass that is repeated; nobody in good faith sends it
        raise Refused(400, "a request has only one Content-Length")
    if not lengths[0].isdigit():
        raise Refused(400, "Content-Length is a number in decimal digits")  # RFC 9110, section 8.6
    if len(lengths[0]) > LENGTH_DIGITS:
        raise Refused(413, "the body is too large", "body_size")
    return _Counted(int(lengths[0]))


class Body(Protocol):
    """A request's body, as it comes by."""

    refused: Refused | None

    def take(self, data: Bytes, start: int) -> tuple[int, bytes]:
        """Return where in data, from `start` on, that ends which belongs to it and is well formed; and what passes.

        That is what came before `start`, and the body.
        """


class _Counted:
    """As long as Content-Length says."""

    __slots__ = ("_left", "refused")

    def __init__(self, size: int) -> None:
        self.refused: Refused | None = None
        self._left = size

    def take(self, data: Bytes, start: int) -> tuple[int, bytes]:
        size = min(self._left, len(data) - start)
        self._left -= size
        return start + size, bytes(data[: start + size])


_NO_BODY = _Counted(0)


class _Chunked:
    """As long as its chunks say (section 7.1).

    The parser gets what has come at once as one chunk, without extensions: reading a chunk takes it as long as reading
    thousands of bytes, and a client may send chunks of one byte.
    """

    __slots__ = ("_end", "_left", "_line", "_pieces", "_step", "_trailer_size", "refused")

    def __init__(self, trailer_size: int) -> None:
        self.refused: Refused | None = None
        self._trailer_size = trailer_size
        self._left = 0  # bytes of the chunk's data, or of its end, that have not come
        self._line = bytearray()  # a line that has not ended
        self._step: Callable[[Bytes, int], int] | None = self._take_size  # what comes next; None after the end
        self._pieces: list[Bytes] = []  # of the data that has come now
        self._end: list[Bytes] = []  # the lines behind it

    def take(self, data: Bytes, start: int) -> tuple[int, bytes]:
        at = start
        try:
            while self._step is not None and at < len(data):
                at = self._step(data, at)
        except Refused as refused:
            self.refused, self._step = refused, None
        come = b"".join(self._pieces)
        passed = b"".join([data[:start], chunk(come) if come else b"", *self._end])
        self._pieces.clear()
        self._end.clear()
        return at, passed

    def _take_size(self, data: Bytes, at: int) -> int:
        at = self._take_line(data, at, CHUNK_LINE_SIZE, 400, "the line that begins a chunk is too long")
        if self._line.endswith(b"\n"):
            found = chunk_line(self._line)
            if found is None:
                raise Refused(400, "a chunk begins with its size in hexadecimal digits, then CR and LF")
            self._left = int(found[1], 16)
            self._step = self._take_data if self._left else self._take_trailer
            if not self._left:
                self._end.append(b"0\r\n")
            self._line.clear()
        return at

    def _take_data(self, data: Bytes, at: int) -> int:
        size = min(self._left, len(data) - at)
        self._pieces.append(data[at : at + size])
        self._left -= size
        if not self._left:
            self._left, self._step = 2, self._take_data_end
        return at + size

    def _take_data_end(self, data: Bytes, at: int) -> int:
        if data[at] != b"\r\n"[-self._left]:
            raise Refused(400, "a chunk's data is as long as its size says, and ends with CR and LF")
        self._left -= 1
        if not self._left:
            self._step = self._take_size
        return at + 1

    def _take_trailer(self, data: Bytes, at: int) -> int:
        start = at - len(self._line)
        at = self._take_line(data, at, self._trailer_size, 431, "the trailers are too large", "head_size")
        if self._line.endswith(b"\n"):
            self._trailer_size -= at - start
            if self._line == b"\r\n":
                self._step = None
            elif not trailer_line(self._line):
                raise Refused(400, "a trailer is a name, a colon and a value, and ends with CR and LF")
            self._end.append(bytes(self._line))
            self._line.clear()
        return at

    def _take_line(self, data: Bytes, at: int, size: int, status: int, rule: str, limit: str | None = None) -> int:
        """Add to the line what data has of it, and return where that ends."""
        end = data.find(b"\n", at) + 1 or len(data)
        if len(self._line) + end - at > size:
            raise Refused(status, rule, limit)
        self._line += data[at:end]
        return end
