"""sse-starlette: its EventSourceResponse and its events, in Starlette."""

from __future__ import annotations

import argparse

from sse_starlette import EventSourceResponse, ServerSentEvent

from . import asgi, work
from .endpoints import of_events


def event_of(number: int, data: str) -> ServerSentEvent:
    return ServerSentEvent(data, event=work.TYPE, id=str(number))


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    asgi.run(of_events(work.Audience(), event_of, EventSourceResponse), options)
