"""h3ref: Server-Sent Events with a connection lifecycle that can't be run in the wrong order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from . import flows
from .app import H3App
from .blocking import BlockingSSEWriter
from .channel import Channel, ChannelStats
from .errors import (
    AppNotFound,
    BackpressureDetected,
    BodyTimeout,
    BodyTooLarge,
    ChannelClosed,
    ConnectionLost,
    ConnectionNotReady,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    EngineUncertain,
    H3Error,
    LifecycleError,
    PermissionExpired,
    RequestError,
    ResponseAlreadySent,
    ShuttingDown,
    SSEAlreadyStarted,
    SSENotStarted,
    StartupFailed,
    TooManyStreams,
    Unanswered,
    WriteError,
    WriterClosed,
)
from .event import H3Event
from .lifecycle import Lifecycle, Reason, State
from .limits import Limits
from .server import running, serve
from .sse import EventStreamParser, EventTooLarge, MessageEvent, SSEEvent
from .stats import Stats
from .writer import SSEWriter

if TYPE_CHECKING:
    from .client import BlockingEventSource as BlockingEventSource
    from .client import EventSource as EventSource
    from .client import EventSourceError as EventSourceError
    from .client import ReadyState as ReadyState
    from .client import RedirectRefused as RedirectRefused
    from .client import RefusedStatus as RefusedStatus
    from .client import WrongContentType as WrongContentType

__all__ = [
    "AppNotFound",
    "BackpressureDetected",
    "BlockingSSEWriter",
    "BodyTimeout",
    "BodyTooLarge",
    "Channel",
    "ChannelClosed",
    "ChannelStats",
    "ConnectionLost",
    "ConnectionNotReady",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "EngineUncertain",
    "EventStreamParser",
    "EventTooLarge",
    "H3App",
    "H3Error",
    "H3Event",
    "Lifecycle",
    "LifecycleError",
    "Limits",
    "MessageEvent",
    "PermissionExpired",
    "Reason",
    "RequestError",
    "ResponseAlreadySent",
    "SSEAlreadyStarted",
    "SSEEvent",
    "SSENotStarted",
    "SSEWriter",
    "ShuttingDown",
    "StartupFailed",
    "State",
    "Stats",
    "TooManyStreams",
    "Unanswered",
    "WriteError",
    "WriterClosed",
    "flows",
    "running",
    "serve",
]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

# Not in __all__: `from h3ref import *` must work without httpx2.
_OF_THE_CLIENT = (
    "BlockingEventSource",
    "EventSource",
    "EventSourceError",
    "ReadyState",
    "RedirectRefused",
    "RefusedStatus",
    "WrongContentType",
)


def __getattr__(name: str) -> object:
    """Import the client when it is first asked for: it needs httpx2, which the server side does not."""
    if name in _OF_THE_CLIENT:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_THE_CLIENT})
