"""h3ref, on its own server or as an ASGI app."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel

from h3ref import BlockingSSEWriter, Channel, H3App, H3Event, SSEEvent, SSEWriter, flows, running
from h3ref.server import DEFAULT_FLUSH_GAP

from . import leash, work

silence = Channel(name="silence")


class Room:
    """The channel that is published to; when it is ended, the next one takes its place."""

    def __init__(self) -> None:
        self.channel = patient_channel()

    async def publish(self, count: int, rate: float) -> None:
        async for number in work.paced(count, rate, anyio.sleep):
            await self.channel.publish(event_of(number))

    async def end(self) -> None:
        channel, self.channel = self.channel, patient_channel()
        await channel.close()


def patient_channel() -> Channel:
    """A channel whose readers get all events."""
    try:
        return Channel(policy="wait")
    except TypeError:  # of a commit whose channels had no other: `docs/generate/history.py` measures it, too
        return Channel()


def event_of(number: int) -> SSEEvent:
    return SSEEvent(work.data(), event=work.TYPE, id=str(number))


async def send_first(writer: SSEWriter) -> None:
    await writer.send_event(event_of(0))


def first_by_callback(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(send_first)


async def first_by_callback_on_the_loop(event: H3Event) -> None:
    first_by_callback(event)


def send_first_from_thread(writer: BlockingSSEWriter) -> None:
    writer.send_event(event_of(0))


async def first_by_def(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(send_first_from_thread)


async def first_awaited(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await send_first(writer)


def first_blocking(event: H3Event) -> None:
    with event.start_sse_blocking() as writer:
        writer.send_event(event_of(0))


async def first_generated(event: H3Event) -> AsyncIterator[SSEEvent]:
    yield event_of(0)


def app_for(flow: str) -> H3App:
    """The application; the flow is how /first asks for its writer."""
    app = H3App()
    room = Room()

    @app.get("/subscribers")
    async def subscribers(event: H3Event) -> None:
        event.send_text(str(len(room.channel)))

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(send_all)

    async def send_all(writer: SSEWriter) -> None:
        query = writer.event.query
        count, gives_way, data = int(query["count"]), "yield" in query, work.data()
        for number in range(count):
            await writer.send_event(SSEEvent(data, event=work.TYPE, id=str(number)))
            if gives_way:
                await anyio.lowlevel.checkpoint()

    @app.get("/silent")
    async def silent(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(silence.stream)

    @app.get("/fan")
    async def fan(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(room.channel.stream)

    @app.post("/go")
    async def go(event: H3Event) -> None:
        await room.publish(int(event.query["count"]), float(event.query["rate"]))
        event.send_text("done")

    @app.post("/end")
    async def end(event: H3Event) -> None:
        await room.end()
        event.send_text("done")

    if flow == "generated":
        app.sse("/first")(first_generated)
    elif flow == "awaited":
        app.get("/first", first_awaited)
    elif flow == "def":
        app.get("/first", first_by_def)
    elif flow == "blocking":
        app.get("/first", first_blocking)
    else:
        app.get("/first", first_by_callback_on_the_loop)
    return app


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    app = app_for(options.flow)
    if options.uvicorn:
        from . import asgi

        asgi.run(app, options)
        return

    async def main() -> None:
        gap = DEFAULT_FLUSH_GAP if options.flush_gap is None else options.flush_gap
        async with running(app, flow=flows.broken if options.flow == "broken" else None, flush_gap=gap) as server:
            leash.hold(server.port)
            await anyio.sleep_forever()

    anyio.run(main, backend=options.backend)
