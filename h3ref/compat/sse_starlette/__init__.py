"""sse-starlette's names, arguments and bytes on top of h3ref's streams.

Its two modules have the same names as there, so that in an import only the first word changes. The meaning is that of
sse-starlette 3.7; where that hurts, h3ref goes its own way, and docs/how-to/move-from-sse-starlette.md says so.
"""

from __future__ import annotations

from .event import JSONServerSentEvent, ServerSentEvent
from .shutdown import AppStatus
from .sse import EventSourceResponse
from .way import SendTimeoutError

__all__ = ["AppStatus", "EventSourceResponse", "JSONServerSentEvent", "SendTimeoutError", "ServerSentEvent"]
