"""`Limits`: how much a server takes on, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server allows. Every limit has a default that suits a server open to the public.

    Where a limit may be None, None switches it off. Past a limit the newest request or connection is refused, with a
    status; but a client that does not read, or does not finish what it sends, is cut.

    Args:
        head_size: bytes of a request's line and headers, and again of its body's trailers; more get a 431.
        target_size: bytes of a request's target; a longer one gets a 414.
        headers: header lines in a request's head; more get a 431.
        body_size: bytes of a request's body; a larger one gets a 413.
        head_timeout: seconds within which a head has to be complete, from accept or its first byte on; or None. Past
            it: 408, or the end without an answer if nothing has come.
        body_timeout: seconds within which a body has to be complete, once a handler reads it; or None. Past it: 408.
        keep_alive: seconds that a connection may stay open without a request, once it has had one; or None.
        requests: requests on one connection; the answer to the last one closes it; or None.
        connections: open connections; a further one gets a 503 at once, and is closed; or None.
        connections_per_address: the same for each address, or IPv6 network of 64 bits; a proxy is one address; or None.
        streams: open streams; a request for a further one gets a 503 with Retry-After; or None.
        stream_age: seconds after which a stream ends properly, so that its client reconnects; or None.
        stream_age_jitter: the largest fraction of its age by which a stream ends earlier, at random, so that not all
            end at once.
        stream_keep_alive: seconds of silence within which a stream sends a comment; or None.
        stream_buffer: bytes that may wait for one reader; from there on, code that sends to it has to wait.
        server_buffer: bytes that may wait for all slow readers together; or None. Past it, the reader that has taken
            nothing for longest is cut. A plain answer counts in full until its last byte is taken: allow for as many of
            the largest as go out at once.
        send_timeout: seconds within which a reader has to take some of what waits for it, or it is cut; or None. What
            it takes shows only when its system opens the window again, perhaps not until nearly all of its buffer has
            been read: a reader that reads less than that in this time is cut, too.
        handler_threads: plain `def` handlers and hooks that run at once; further ones wait. A hook that another thread
            of its request waits for counts together with that thread.
        stream_threads: plain `def` streams that run at once; past it a request gets a 503.
        abandoned_threads: plain `def` streams that still run although they are over. Further ones take places of
            `stream_threads`; when all are taken, a request gets a 503. Such a thread waits without a timeout for
            something that does not come, so it never learns that its client has left.
        close_timeout: seconds that the end of a stream may take to reach a slow reader.
        cleanup_timeout: seconds that cancelled user code gets for what its `finally` awaits; at a shutdown no more than
            is left of the grace. Past it, the code is cancelled again, and for good.

    Raises:
        TypeError: not a number, or None for a limit that can't be switched off.
        ValueError: a number out of the limit's range.
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
    """Return the limits, or the defaults for None.

    Raises:
        TypeError: `limits` is neither.
    """
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"limits are Limits(...), or None for the defaults, not {limits!r}")
    return Limits() if limits is None else limits


def _check(name: str, value: Any, kind: str) -> None:
    """Refuse a value that does not fit its field's annotation."""
    optional = kind.endswith("| None")
    if value is None and optional:
        return
    off = "; None switches it off" if optional else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"limit {name} is a number, not {value!r}{off}")
    if name == "stream_age_jitter":
        if not 0 <= value <= 1:
            raise ValueError(f"limit {name} is a fraction from 0 to 1, not {value!r}")
    elif not value > 0:
        raise ValueError(f"limit {name} must be more than 0, not {value!r}{off}")
    elif not isfinite(value):
        raise ValueError(f"limit {name} must be finite, not {value!r}{off}")
    elif kind.startswith("int") and not isinstance(value, int):
        raise TypeError(f"limit {name} is a whole number, not {value!r}{off}")
