"""`Limits`: how much of anything a server takes on, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server allows. Every limit has a default that suits a server in front of the public.

    Where a limit may be None, None switches it off. Past a limit whoever came last is refused, with a status; but
    whoever does not read, or does not end what it sends, is cut.

    Args:
        head_size: bytes of a request's line and headers, and again of its body's trailers; more get a 431.
        target_size: bytes of a request's target; a longer one gets a 414.
        headers: lines of headers in a request's head; more get a 431.
        body_size: bytes of a request's body; a larger one gets a 413.
        head_timeout: seconds in which a head has to be whole, from accept or its first byte on; or None. Past it: 408,
            or the end without a word where nothing has come.
        body_timeout: seconds in which a body has to be whole, once a handler reads it; or None. Past it: 408.
        keep_alive: seconds that a connection may stay open without a request, once it has had one; or None.
        requests: requests on one connection; the answer to the last one closes it; or None.
        connections: connections at once; one more gets a 503 at once, and is closed; or None.
        connections_per_address: the same for each address, or IPv6 network of 64 bits; a proxy is one address; or None.
        streams: streams at once; a request for one more gets a 503 with Retry-After; or None.
        stream_age: seconds after which a stream ends properly, so that its client reconnects; or None.
        stream_age_jitter: up to which part of its age a stream ends earlier, at random, so that not all do at once.
        stream_keep_alive: seconds of silence after which a stream has sent a comment at the latest; or None.
        stream_buffer: bytes that may wait for one reader; from there on, whoever sends to it has to wait.
        server_buffer: bytes that may wait for all slow readers; or None. Past it, whoever took nothing for longest is
            cut. A plain answer counts whole until its last byte is taken: allow for as many of the largest as go out at
            once.
        send_timeout: seconds in which a reader has to take some of what waits for it, or it is cut; or None.
            What it takes shows only when its system opens the window again, which may be when nearly all of its buffer
            is read: one that reads less than that in this time is cut, too.
        handler_threads: plain `def` handlers and hooks that run at once; further ones wait.
            A hook that another thread of its request waits for is counted with that one.
        stream_threads: plain `def` streams that run at once; past it a request gets a 503.
        abandoned_threads: plain `def` streams that still run though they are over. Further ones take places of
            `stream_threads`; when all are taken, a request gets a 503.
            Such a thread waits without a timeout for what does not come, so that it never learns that its client left.
        close_timeout: seconds that the end of a stream may take to reach a slow reader.
        cleanup_timeout: seconds that user code which is cancelled gets for what its `finally` awaits; at a shutdown no
            more than is left of the grace. Past it, it is cancelled again, and for good.

    Raises:
        TypeError: no number, or None for a limit that can't be switched off.
        ValueError: a limit that nothing could keep.
    """

    head_size: int = 64 * 1024
    target_size: int = 16 * 1024
    headers: int = 128
    body_size: int = 1024 * 1024
    head_timeout: float | None = 10.0
    body_timeout: float | None = 30.0
    keep_alive: float | None = 15.0
    requests: int | None = 1000
    connections: int | None = 10_000
    connections_per_address: int | None = None
    streams: int | None = 9_000
    stream_age: float | None = None
    stream_age_jitter: float = 0.1
    stream_keep_alive: float | None = 15.0
    stream_buffer: int = 64 * 1024
    server_buffer: int | None = 256 * 1024 * 1024
    send_timeout: float | None = 30.0
    handler_threads: int = 40
    stream_threads: int = 256
    abandoned_threads: int = 256
    close_timeout: float = 5.0
    cleanup_timeout: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), str(field.type))


def check_limits(limits: Limits | None) -> Limits:
    """Return the limits; the defaults for None.

    Raises:
        TypeError: what is given as limits are none.
    """
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"limits are Limits(...), or None for the defaults, not {limits!r}")
    return Limits() if limits is None else limits


def _check(name: str, value: Any, kind: str) -> None:
    """Refuse a value that is none of its kind, which is the field's annotation."""
    optional = kind.endswith("| None")
    if value is None and optional:
        return
    off = "; None switches it off" if optional else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"limit {name} is a number, not {value!r}{off}")
    if name == "stream_age_jitter":
        if not 0 <= value <= 1:
            raise ValueError(f"limit {name} is a part from 0 to 1, not {value!r}")
    elif not value > 0:
        raise ValueError(f"limit {name} must be more than 0, not {value!r}{off}")
    elif not isfinite(value):
        raise ValueError(f"limit {name} must be finite, not {value!r}{off}")
    elif kind.startswith("int") and not isinstance(value, int):
        raise TypeError(f"limit {name} is a whole number, not {value!r}{off}")
