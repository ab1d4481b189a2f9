"""The bug, and the three flows that fix it: the same four events, requested in four ways.

In H3Z's order of steps, which is `flows.broken` for every handler here:

    python -m h3ref serve h3ref.examples.callback:app --flow broken --log-level debug
    curl -N http://127.0.0.1:3000/broken        # headers, then silence: Ctrl-C ends it

In the default order:

    python -m h3ref serve h3ref.examples.callback:app
    curl -N http://127.0.0.1:3000/broken        # a 500 at once, which says what to do instead
    curl -N http://127.0.0.1:3000/callback      # four events, and the proper end
    curl -N http://127.0.0.1:3000/awaited       # the same
    curl -N http://127.0.0.1:3000/blocking      # the same
"""

from __future__ import annotations

import logging

from h3ref import ConnectionNotReady, H3App, H3Event, SSEEvent, SSEWriter

log = logging.getLogger("h3ref.examples.callback")

ATTEMPTS = 10

EVENTS = (
    SSEEvent("hello world", event="greeting", id="1"),
    SSEEvent("tick"),
    SSEEvent("first line\nnext line", retry=3000),
    SSEEvent("", event="done"),
)

app = H3App()


@app.get("/broken")
def broken(event: H3Event) -> None:
    """Asks for its writer too early: the headers leave when this has returned, never before."""
    event.start_sse()
    for _ in range(ATTEMPTS):
        try:
            writer = event.get_sse_writer()
        except ConnectionNotReady:
            continue
        for message in EVENTS:  # never reached
            writer.send_nowait(message)
        return
    log.error("Failed to get SSE writer after %d attempts", ATTEMPTS)


@app.get("/callback")
def callback(event: H3Event) -> None:
    """Registers what streams, and returns; it is called when the writer is ready."""
    event.start_sse()
    event.set_stream_callback(send_all)


async def send_all(writer: SSEWriter) -> None:
    for message in EVENTS:
        await writer.send_event(message)


@app.get("/awaited")
async def awaited(event: H3Event) -> None:
    """Waits for the writer: the headers leave meanwhile."""
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await send_all(writer)


@app.get("/blocking")
def blocking(event: H3Event) -> None:
    """The same for a plain `def`: it runs on a thread of its own, and may block there."""
    with event.start_sse_blocking() as writer:
        for message in EVENTS:
            writer.send_event(message)
