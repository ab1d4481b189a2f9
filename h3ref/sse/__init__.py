"""The event stream format, both ways: `SSEEvent` is sent, `EventStreamParser` receives `MessageEvent`s.

The standard is WHATWG HTML, section 9.2 "Server-sent events". No I/O here: values in, bytes out, and back.
"""

from __future__ import annotations

from .event import MAX_ID_SIZE, MAX_RETRY, SSEEvent, fault_of_id
from .parser import DEFAULT_MAX_EVENT_SIZE, EventStreamParser, EventTooLarge, MessageEvent

__all__ = [
    "DEFAULT_MAX_EVENT_SIZE",
    "MAX_ID_SIZE",
    "MAX_RETRY",
    "EventStreamParser",
    "EventTooLarge",
    "MessageEvent",
    "SSEEvent",
    "fault_of_id",
]
