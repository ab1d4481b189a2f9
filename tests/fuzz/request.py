"""The guard with h11 behind it: every cut comes to the same, and what passes means the same to a plain reader."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz import cut_of
from tests.test_guard import CASES, STATUSES, read_strictly, what_passes_is_plain
from tests.test_sse import octets

OF_A_TRAILER = 501
"""What h11 says of a trailer that is called Transfer-Encoding; the server makes a 400 of it, as of any broken body."""


def take(data: bytes) -> None:
    """Read what was sent whole and in pieces, and look at the head that the guard lets pass."""
    sent, pieces = cut_of(data)
    seen, status = read_strictly([sent])
    assert read_strictly(pieces) == (seen, status)
    assert status is None or status in STATUSES | {OF_A_TRAILER}
    what_passes_is_plain(sent)


def seeds() -> Iterator[bytes]:
    """The vectors, each cut in one way, and what was found."""
    for number, param in enumerate(CASES):
        yield bytes([number % 7, 1, 5, number % 3]) + b"".join(map(octets, param.values[0]["chunks"]))

    yield b"\0\0\0\0CONNECT /next HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    yield b"\6\1\5\2POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: a\r\n\r\n"
