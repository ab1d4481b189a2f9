"""The client: `EventSource` receives an event stream and keeps receiving it; `BlockingEventSource` is its twin.

The bytes are carried by httpx2, the stream is read by `EventStreamParser`, and what WHATWG HTML, section 9.2
decides is in `protocol.py`, which does no I/O.
"""

from __future__ import annotations

try:
    import httpx2 as httpx2
except ModuleNotFoundError as error:
    if error.name != "httpx2":
        raise
    raise ImportError('EventSource needs httpx2: pip install "h3ref[client]"', name="httpx2") from None

from .errors import EventSourceError, RefusedStatus, WrongContentType
from .protocol import ReadyState, Reconnect
from .source import BlockingEventSource, EventSource

__all__ = [
    "BlockingEventSource",
    "EventSource",
    "EventSourceError",
    "ReadyState",
    "Reconnect",
    "RefusedStatus",
    "WrongContentType",
]
