"""Flows, the orders of steps: the bug, and the three ways that make it impossible, side by side.

Each line is one step. A step pulls its trigger of the state machine first and moves bytes second, so that a
wrong order is rejected before anything is sent; the value that one step returns is what the next one needs.
Adapters have no part in this: they carry the bytes that a step hands them.

The default, `by_handler`, dispatches by the handler's own call. `broken` is H3Z's order; "option" is H3Z's word, too.
"""

from __future__ import annotations

import logging

from ._core.exchange import Exchange, Flow
from .blocking import BlockingSSEWriter
from .connection import StreamHead
from .lifecycle import State
from .writer import SSEWriter

log = logging.getLogger(__name__)


async def by_handler(exchange: Exchange) -> None:
    """The default: the handler runs, and what it calls picks the flow; a plain response needs none."""
    await exchange.run_handler(awaited, blocking)  # these are for await_sse_writer() and start_sse_blocking()
    if exchange.state is State.SSE_STARTED:
        await callback(exchange)
    await exchange.close()


async def callback(exchange: Exchange) -> None:
    """Option 2: the handler has returned; then headers, then the writer, then the callback."""
    exchange.check_sse_started()
    callback = exchange.take_callback()
    connection = exchange.create_connection()
    await exchange.send_headers(connection)
    writer = exchange.connection_ready(connection)
    await exchange.run_callback(callback, writer)  # the fix: called once there is something to write to


async def awaited(exchange: Exchange) -> SSEWriter:
    """Option 1: the handler is suspended in its `await`; headers, then the writer is handed over to it."""
    exchange.check_sse_started()
    connection = exchange.create_connection()
    await exchange.send_headers(connection)
    writer = exchange.connection_ready(connection)
    return exchange.hand_over(writer)  # the fix: the handler goes on once there is something to write to


async def blocking(exchange: Exchange) -> BlockingSSEWriter:
    """Option 3: the handler's thread blocks; start, headers, then the writer is handed over to it."""
    exchange.event.start_sse()
    exchange.check_sse_started()
    connection = exchange.create_connection()
    await exchange.send_headers(connection)
    writer = exchange.connection_ready(connection)
    return BlockingSSEWriter(exchange.hand_over(writer))  # the fix, for a thread


async def broken(exchange: Exchange) -> None:
    """H3Z's bug: the handler asks for its writer in here, is refused, and leaves; the headers go out too late.

    Nobody is left to take the writer that is ready at last, so the client waits for ever.
    """
    await exchange.run_handler()  # the bug: it asks for its writer in here, before anything is ready
    if exchange.state is State.SSE_STARTED:
        exchange.check_sse_started()
        log.debug("SSE mode detected, setting up streaming connection")
        connection = exchange.create_connection()
        size = await exchange.send_headers(connection, H3Z_HEAD)
        log.debug("SSE headers sent, %d bytes", size)
        exchange.connection_ready(connection)
        await exchange.wait_until_closed()
    await exchange.close()


H3Z_HEAD = StreamHead(
    headers=[("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"), ("Content-Type", "text/event-stream")],
    wire=b"HTTP/1.1 200 OK\r\n"
    b"Cache-Control: no-cache\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Connection: keep-alive\r\n"
    b"\r\n",
)
"""The 124 bytes that H3Z sends. There is neither a length nor chunks, so only the connection's end could end them."""

_PARTS = (callback, awaited, blocking)


def check_flow(flow: Flow | None) -> Flow:
    """Return the flow that a whole server shall use; None is the default.

    Raises:
        ValueError: one of the three that only a handler's call can pick.
        TypeError: no flow at all.
    """
    if flow is None:
        return by_handler
    if flow in _PARTS:
        raise ValueError(f"{flow.__name__} is picked by what the handler calls; leave flow out to have all three")
    if not callable(flow):
        raise TypeError(f"flow is None or a flow such as flows.broken, not {flow!r}")
    return flow


__all__ = ["H3Z_HEAD", "Flow", "awaited", "blocking", "broken", "by_handler", "callback", "check_flow"]
