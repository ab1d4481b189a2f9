"""Bytes of HTTP/1.1 that are framed by hand, because h11 would take twenty times as long (RFC 9112)."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Frame data as one chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_head(headers: list[tuple[str, str]], *, chunked: bool) -> bytes:
    """The head of a stream: its end is the end of the connection, so it says `Connection: close`."""
    lines = [f"{name}: {value}" for name, value in headers]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    fields = "\r\n".join(lines)
    return f"HTTP/1.1 200 OK\r\nDate: {date()}\r\nConnection: close\r\n{fields}\r\n\r\n".encode("latin-1")


def date() -> str:
    """The value of Date now (RFC 9110, section 6.6.1)."""
    return _date_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)
