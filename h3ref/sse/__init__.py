"""The event stream format in both directions: `SSEEvent` is sent, `EventStreamParser` receives `MessageEvent`s.

The standard is WHATWG HTML, section 9.2 "Server-sent events". No I/O here: values in, bytes out, and back.
"""

from __future__ import annotations

from .event import MAX_ID_SIZE as MAX_ID_SIZE
from .event import MAX_RETRY as MAX_RETRY
from .event import SSEEvent, fault_of_id
from .parser import DEFAULT_MAX_EVENT_SIZE as DEFAULT_MAX_EVENT_SIZE
from .parser import EventStreamParser, EventTooLarge, MessageEvent

__all__ = [
    "EventStreamParser",
    "EventTooLarge",
    "MessageEvent",
    "SSEEvent",
    "fault_of_id",
]
