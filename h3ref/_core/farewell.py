"""Farewells: the last event of a stream, before a proper end that its own code does not begin."""

from __future__ import annotations

from ..sse import SSEEvent


def encoded_farewell(event: SSEEvent | None) -> bytes | None:
    """Return the bytes of a farewell; None for none.

    Raises:
        TypeError: it is no event.
    """
    if event is not None and not isinstance(event, SSEEvent):
        raise TypeError(f"farewell is an SSEEvent, or None for none, not {event!r}")
    return None if event is None else event.encode()
