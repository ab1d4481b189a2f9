"""Harnesses for atheris, a fuzzer that follows which lines an input reaches: `make fuzz SECONDS=60`.

Each module here has `take(data)`, which raises if something does not hold for those bytes, and `seeds()`, bytes to
begin with. An input begins with how it is cut, see `cut_of`.
"""

from __future__ import annotations

from itertools import cycle

CUTS = 4
"""Bytes of an input that say how the rest is cut: each is the size of a piece, over and over; 0 is the whole rest."""


def cut_of(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return what an input holds, whole and in its pieces."""
    sizes, rest = data[:CUTS], data[CUTS:]
    pieces, at = list[bytes](), 0
    for size in cycle(sizes or b"\0"):
        if at >= len(rest):
            return rest, pieces
        piece = rest[at : at + (size or len(rest))]
        at += len(piece)
        pieces.append(piece)
    raise AssertionError("a cycle has no end")
