"""The ASGI adapter: an `H3App` under any ASGI 3 server, and `EventSourceResponse` for Starlette and FastAPI.

`app` has the entry point, `transport` carries the bytes of one request, `response` is the drop-in, imported
only when it is asked for, since it needs Starlette.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .app import ASGIApp

if TYPE_CHECKING:
    from .response import EventSourceResponse

__all__ = ["ASGIApp", "EventSourceResponse"]


def __getattr__(name: str) -> object:
    if name == "EventSourceResponse":
        from .response import EventSourceResponse

        return EventSourceResponse
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
