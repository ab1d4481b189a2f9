"""Starlette alone: a StreamingResponse, with events formatted where they are yielded."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from . import asgi, work
from .endpoints import of_events


def encoded(number: int, data: str) -> str:
    return f"id: {number}\nevent: {work.TYPE}\ndata: {data}\n\n"


def streaming(events: AsyncIterator[str]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    asgi.run(of_events(work.Audience(), encoded, streaming), options)
