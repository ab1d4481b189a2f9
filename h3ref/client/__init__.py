"""The client: `EventSource` receives an event stream and keeps receiving it; `BlockingEventSource` is its twin.

httpx2 carries the bytes, and `EventStreamParser` reads the stream. `protocol.py` makes the decisions of WHATWG HTML,
section 9.2, and `redirects.py` those about redirects; neither does I/O.
"""

from __future__ import annotations

try:
    import httpx2 as httpx2
except ModuleNotFoundError as error:
    if error.name != "httpx2":
        raise
    raise ImportError('EventSource needs httpx2: pip install "h3ref[client]"', name="httpx2") from None

from .blocking import BlockingEventSource
from .errors import EventSourceError, RedirectRefused, RefusedStatus, WrongContentType
from .event_source import EventSource
from .protocol import ReadyState, Reconnect, is_stream
from .redirects import FollowRedirects

__all__ = [
    "BlockingEventSource",
    "EventSource",
    "EventSourceError",
    "FollowRedirects",
    "ReadyState",
    "Reconnect",
    "RedirectRefused",
    "RefusedStatus",
    "WrongContentType",
    "is_stream",
]
