"""h3ref: Server-Sent Events with a connection lifecycle that can't be run in the wrong order."""

from __future__ import annotations

import logging

from . import flows
from .app import H3App
from .channel import Channel
from .errors import (
    BackpressureDetected,
    BodyTooLarge,
    ConnectionLost,
    ConnectionNotReady,
    H3Error,
    LifecycleError,
    RequestError,
    ResponseAlreadySent,
    ShuttingDown,
    SSEAlreadyStarted,
    SSENotStarted,
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
from .writer import BlockingSSEWriter, SSEWriter

logging.getLogger(__name__).addHandler(logging.NullHandler())
