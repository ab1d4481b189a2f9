"""ASGI's messages of the http scope, and the two functions that pass them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from itertools import chain
from typing import Any, Final

from ..._core.answer import STREAM_HEADERS
from ...headers import EVENT_STREAM

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def start(status: int, headers: list[tuple[str, str]]) -> dict[str, Any]:
    """The message that begins a response."""
    known = _KNOWN.get(tuple(headers))
    raw = [_encoded(*pair) for pair in headers] if known is None else [*known[0]]  # servers and middlewares change it
    return {"type": "http.response.start", "status": status, "headers": raw}


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("latin-1"), value.encode("latin-1")


def part(data: bytes, *, more: bool = True) -> dict[str, Any]:
    """The message that carries a part of a body, or its end."""
    return {"type": "http.response.body", "body": data, "more_body": more}


class _End(bytes):
    """Stands for the end of the body, behind what is pending."""


END: Final = _End()


def head_size(status: int, headers: list[tuple[str, str]]) -> int:
    """The size that the head has in HTTP/1.1, without what the server adds."""
    known = _KNOWN.get(tuple(headers))
    return _size(headers) if known is None else known[1]


def _size(headers: list[tuple[str, str]]) -> int:
    return len("HTTP/1.1 200 OK\r\n\r\n") + sum(map(len, chain(*headers))) + 4 * len(headers)


HEADERS: Final = [*STREAM_HEADERS[:-1], ("Content-Type", f"{EVENT_STREAM}; charset=utf-8")]
"""Those of a stream, as Starlette's own responses name the charset."""

_KNOWN: Final = {
    tuple(headers): ([_encoded(*pair) for pair in headers], _size(headers)) for headers in (STREAM_HEADERS, HEADERS)
}
"""The headers of nearly all streams as they are sent, and the size that they make."""
