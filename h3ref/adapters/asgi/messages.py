"""ASGI's messages of the http scope, and the two functions that pass them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from itertools import chain
from typing import Any, Final

from ..._core.answer import STREAM_HEADERS
from ..._core.pairs import Pairs
from ...headers import EVENT_STREAM

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def start(status: int, headers: list[tuple[str, str]]) -> tuple[dict[str, Any], int]:
    """The message that begins a response, and the head's size in HTTP/1.1 without what the server adds."""
    known = _KNOWN.get(tuple(headers))
    if known is None:
        raw, size = [_encoded(*pair) for pair in headers], _size(headers)
    else:
        raw, size = [*known[0]], known[1]  # servers and middlewares change the list
    return {"type": "http.response.start", "status": status, "headers": raw}, size


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("latin-1"), value.encode("latin-1")


def part(data: bytes, *, more: bool = True) -> dict[str, Any]:
    """The message that carries a part of a body, or its end."""
    return {"type": "http.response.body", "body": data, "more_body": more}


class ScopeHeaders(Pairs):
    """A request's headers, as its scope has them: a pair need not be a tuple, nor a name be in lower case.

    Args:
        headers: the scope's.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: Iterable[Iterable[bytes]]) -> None:
        self._headers = headers

    def take_apart(self) -> list[tuple[bytes, bytes]]:
        return [(bytes(name).lower(), bytes(value)) for name, value in self._headers]

    def announce_body(self) -> bool | None:
        """Whether they say that a body comes, or none; None if they say nothing (RFC 9112, section 6.3)."""
        announced = None
        for name, value in self._headers:
            if len(name) == _LENGTH and bytes(name).lower() == b"content-length":
                announced = bytes(value) != b"0"
            elif len(name) == _ENCODING and bytes(name).lower() == b"transfer-encoding":
                return True  # no matter what a length says beside it
        return announced


_LENGTH: Final = len(b"content-length")
_ENCODING: Final = len(b"transfer-encoding")


class _End(bytes):
    """Stands for the end of the body, after what is pending."""


END: Final = _End()


def _size(headers: list[tuple[str, str]]) -> int:
    return len("HTTP/1.1 200 OK\r\n\r\n") + sum(map(len, chain(*headers))) + 4 * len(headers)


HEADERS: Final = [*STREAM_HEADERS[:-1], ("Content-Type", f"{EVENT_STREAM}; charset=utf-8")]
"""Those of a stream, as Starlette's own responses name the charset."""

_KNOWN: Final = {
    tuple(headers): ([_encoded(*pair) for pair in headers], _size(headers)) for headers in (STREAM_HEADERS, HEADERS)
}
"""The headers of nearly all streams as they are sent, and the size that they make."""
