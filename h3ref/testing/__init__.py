"""Test clients: they test endless streams in process, without a socket and in no real time.

`TestClient` drives an `H3App` or any other ASGI app from plain test functions and notebooks, in an event loop of its
own whose clock is virtual. `AsyncTestClient` does so in the loop of an async test, which gets a virtual clock from
`virtual_backends`.
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
