"""Ids of entries: `<ms>-<seq>-<nonce>`, the place in the channel and the name of the entry itself.

A place alone is not enough: a server that has lost entries gives the same place to another entry. Nor is a nonce: an
entry that is stored again after that has another place.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

LARGEST: Final = 2**64 - 1
"""The largest value of each number in a place."""

_ID: Final = re.compile(r"(\d{1,20})-(\d{1,20})-f?[0-9a-f]{8}", re.ASCII)


def new_nonce() -> str:
    """Return a nonce for an event."""
    return secrets.token_hex(4)


def fence_nonce(lost: str) -> str:
    """Return the nonce of the fence that stands for a lost entry, given that entry's nonce."""
    return f"f{lost[-8:]}"


def place_of(id: str) -> str:
    """The place in an id; "" for ""."""
    return id.rpartition("-")[0]


def nonce_of(id: str) -> str:
    """The nonce in an id."""
    return id.rpartition("-")[2]


def number_of(place: str) -> tuple[int, int]:
    """A place, or that in an id, as numbers, which grow for ever on a server that has lost nothing; (0, 0) for ""."""
    if not place:
        return (0, 0)
    milliseconds, number = place.split("-")[:2]
    return int(milliseconds), int(number)


def is_entry_id(id: str) -> bool:
    """Whether an id is one that an engine could have given."""
    found = _ID.fullmatch(id)
    return found is not None and int(found[1]) <= LARGEST and int(found[2]) <= LARGEST
