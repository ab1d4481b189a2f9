"""Test clients: endless streams, tested in process, without a socket and in no real time.

`TestClient` drives an `H3App` or any other ASGI app from plain test functions and notebooks, on an event
loop of its own whose clock is virtual. `AsyncTestClient` does it in the loop of an async test.
`virtual_backends` gives async tests that loop's clock.
"""

from __future__ import annotations

from ..connection import End
from .asynchronous import AsyncTestClient
from .blocking import Clock, Stream, TestClient
from .clock import VirtualLoop, settle, virtual_backends, virtual_clock
from .results import Arrival, NotAStream, Response, StreamEnded, Stuck, TimedOut
from .stream import AsyncStream

__all__ = [
    "Arrival",
    "AsyncStream",
    "AsyncTestClient",
    "Clock",
    "End",
    "NotAStream",
    "Response",
    "Stream",
    "StreamEnded",
    "Stuck",
    "TestClient",
    "TimedOut",
    "VirtualLoop",
    "settle",
    "virtual_backends",
    "virtual_clock",
]
