"""`Limits`: how much of anything a server takes on."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server allows. Every limit has a default that suits a server in front of the public.

    Args:
        head_size: bytes of a request's line and headers; a larger head gets a 431.
        target_size: bytes of a request's target; a longer one gets a 414.
        body_size: bytes of a request's body; a larger one gets a 413.
        keep_alive: seconds that a connection may stay open without a request.
        handler_threads: plain `def` handlers that run at once; further ones wait.
        stream_threads: plain `def` streams that run at once; past it a request gets a 503.
        close_timeout: seconds that the end of a stream may take to reach a slow reader.

    Raises:
        ValueError: a limit that nothing could keep.
    """

    head_size: int = 64 * 1024
    target_size: int = 16 * 1024
    body_size: int = 1024 * 1024
    keep_alive: float = 15.0
    handler_threads: int = 40
    stream_threads: int = 256
    close_timeout: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"limit {field.name} must be more than 0, not {value!r}")
