"""h3ref as a response: its EventSourceResponse and its events, in Starlette."""

from __future__ import annotations

import argparse

from h3ref import SSEEvent
from h3ref.adapters.asgi import EventSourceResponse

from . import asgi, work
from .endpoints import of_events


def event_of(number: int, data: str) -> SSEEvent:
    return SSEEvent(data, event=work.TYPE, id=str(number))


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    asgi.run(of_events(work.Audience(), event_of, EventSourceResponse), options)
