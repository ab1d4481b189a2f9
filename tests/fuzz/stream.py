"""`EventStreamParser`, beside the standard's own steps; and with a limit, however the stream is cut."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz import CUTS, cut_of
from tests.test_sse import by_the_standard, cases, largest_size, octets, outcome, whole


def take(data: bytes) -> None:
    """Hold the parser against the transcription, and one with a limit against itself."""
    stream, pieces = cut_of(data)
    expected = by_the_standard(stream)
    assert outcome(stream, whole) == expected
    assert outcome(stream, lambda _: iter(pieces)) == expected
    limit = 1 + sum(data[:CUTS])
    limited = outcome(stream, whole, limit)
    assert outcome(stream, lambda _: iter(pieces), limit) == limited
    assert (limited[1] is not None) == (largest_size(stream) > limit)


def seeds() -> Iterator[bytes]:
    """The vectors, each cut in one way."""
    for number, param in enumerate(cases("parse")):
        chunks = param.values[0]["chunks"]
        yield bytes([number % 7, 1, 5, number % 3]) + b"".join(map(octets, chunks))
