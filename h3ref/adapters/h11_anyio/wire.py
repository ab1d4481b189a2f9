"""Bytes of HTTP/1.1 (RFC 9112): plain responses by h11; streams without it, since it takes twenty times as long."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from functools import lru_cache

import h11

from ..._core.answer import phrase
from ..._core.pairs import Pairs
from ...connection import Response

LAST_CHUNK = b"0\r\n\r\n"


class HeaderLines(Pairs):
    """A request's headers as one piece of memory, for as long as its stream lasts; taken apart on request.

    They are taken apart as RFC 9112, section 5.1, says and h11 does: names in lower case, values without surrounding
    white space.

    Args:
        fields: the lines, each with its end, as the guard lets them pass.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: bytes) -> None:
        self._fields = fields

    def take_apart(self) -> list[tuple[bytes, bytes]]:
        lines = (line.partition(b":") for line in self._fields.split(b"\r\n")[:-1])
        return [(name.lower(), value.strip(b" \t")) for name, _, value in lines]


def chunk(data: bytes) -> bytes:
    """Frame data as one chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_head(headers: list[tuple[str, str]], *, chunked: bool) -> bytes:
    """The head of a stream: its end is the end of the connection, so it says `Connection: close`."""
    return _stream_head(tuple(headers), chunked, int(time.time()))


@lru_cache(maxsize=64)
def _stream_head(headers: tuple[tuple[str, str], ...], chunked: bool, second: int) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    fields = "\r\n".join(lines)
    return f"HTTP/1.1 200 OK\r\nDate: {_date_of(second)}\r\nConnection: close\r\n{fields}\r\n\r\n".encode("latin-1")


def date() -> str:
    """The value of Date now (RFC 9110, section 6.6.1)."""
    return _date_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


def with_host(fields: bytes, target: bytes) -> bytes:
    """Return the headers' lines with the host that a target in absolute form names, in place of Host's.

    RFC 9112, section 3.2.2.
    """
    found = re.match(rb"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#]*)", target)
    if found is None:
        return fields
    others = (line for line in fields.splitlines(keepends=True) if line[:5].lower() != b"host:")
    return b"".join([b"host:%b\r\n" % found[1], *others])


def respond(parser: h11.Connection, response: Response, *, close: bool, bodiless: bool = False) -> list[bytes]:
    """Return a plain response's head and its body, which is not copied, since many clients may get the same.

    The response to a HEAD has no body, though it says how long that would be.
    """
    headers = [("Date", date()), *response.headers]
    if response.status not in (204, 304):
        headers.append(("Content-Length", str(len(response.body))))
    if close:
        headers.append(("Connection", "close"))
    head = h11.Response(
        status_code=response.status,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
        reason=phrase(response.status).encode(),
    )
    data = parser.send(head) or b""
    body = b"" if bodiless else response.body
    if body:
        parser.send_with_data_passthrough(h11.Data(data=body))  # its length is in the head, so nothing frames it
    parser.send(h11.EndOfMessage())
    return [data, body]
