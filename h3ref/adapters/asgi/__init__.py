"""The ASGI adapter: an `H3App` under any ASGI 3 server, and `EventSourceResponse` for Starlette and FastAPI.

`app` has the entry point, `transport` carries the bytes of one request. `response` is the drop-in, and `openapi`
describes it for FastAPI; both are imported only on demand, since they need Starlette.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .app import ASGIApp

if TYPE_CHECKING:
    from .openapi import event_stream
    from .response import EventSourceResponse

__all__ = ["ASGIApp", "EventSourceResponse", "event_stream"]


def __getattr__(name: str) -> object:
    if name == "EventSourceResponse":
        from .response import EventSourceResponse

        return EventSourceResponse
    if name == "event_stream":
        from .openapi import event_stream

        return event_stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
