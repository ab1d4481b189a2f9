"""Headers and queries: mappings in which the last value of a name wins, and `getlist` has them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

__all__ = ["Headers", "MultiMapping"]

EVENT_STREAM: Final = "text/event-stream"
"""A stream's media type."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_OF_THE_MESSAGE = frozenset({"content-length", "date"})


class MultiMapping(Mapping[str, str]):
    """A read-only mapping in which a name may have several values; a look-up gives the last."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(self._key(name), []).append(value)

    @staticmethod
    def _key(name: str) -> str:
        return name

    def getlist(self, name: str) -> list[str]:
        """Return all values of a name in the order they came; an empty list if there are none."""
        return list(self._values.get(self._key(name), ()))

    def __getitem__(self, name: str) -> str:
        return self._values[self._key(name)][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


class Headers(MultiMapping):
    """Header fields, whose names match in any case; values are read as Latin-1 (RFC 9110, section 5.5)."""

    __slots__ = ()

    @staticmethod
    def _key(name: str) -> str:
        return name.lower()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values


def check_token(what: str, name: str) -> None:
    """Refuse a name that HTTP does not allow.

    Raises:
        ValueError: it is not a token; the text says what it was meant for.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{what} {name!r} is not a token (RFC 9110, section 5.6.2)")


def check_header(name: str, value: str) -> None:
    """Refuse a header that would break the response, or that only the server may set.

    Raises:
        TypeError: the name or the value is not a str.
        ValueError: the name or the value holds what can't be sent, or the name is Content-Length or Date; the text says
            what to do instead.
    """
    if not all(isinstance(part, str) for part in (name, value)):
        raise TypeError(f"a header's name and value are strs, not {type(name).__name__} and {type(value).__name__}")
    check_token("header name", name)
    if name.lower() in _OF_THE_MESSAGE:
        raise ValueError(f"header {name} is set by the server, which frames the response: leave it out")
    # No text shows the value, which may be a secret: a log may get to see it.
    for place, char in enumerate(value):
        if char in "\r\n\0":
            raise ValueError(
                f"header {name} must not hold CR, LF or NUL, which would split the response: "
                f"it holds {char!r} at {place}"
            )
    if value != value.strip(" \t"):
        raise ValueError(f"header {name} must not begin or end with white space")
    for place, char in enumerate(value):
        if (ord(char) < 32 and char != "\t") or ord(char) == 127 or ord(char) > 255:
            raise ValueError(
                f"header {name} must be Latin-1 text without control characters: it holds {char!r} at {place}"
            )


def is_hop_by_hop(name: str) -> bool:
    """Whether a header is about the connection to the next hop, which is the server's (RFC 9110, section 7.6.1)."""
    return name.lower() in _HOP_BY_HOP


def is_event_stream(media_type: str) -> bool:
    """Whether a media type is an event stream's; its parameters don't matter, since the encoding is always UTF-8."""
    return media_type.partition(";")[0].strip().lower() == EVENT_STREAM


def check_media_type(media_type: str) -> None:
    """Refuse a media type other than an event stream's, which clients would not read; parameters are free.

    Raises:
        ValueError: it is another one.
    """
    if not is_event_stream(media_type):
        raise ValueError(f"a stream's media type is {EVENT_STREAM}, not {media_type!r}")
