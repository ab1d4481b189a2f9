"""`on_a_socket` and `in_memory` take the path of a recording on the real server, in H3Z's order.

What the recording's handler did, a real handler does, call by call, and compares the state and the rejection after
each. All else the server does by itself, so that its own recording tells whether it took the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio

from h3ref import H3App, H3Event, flows, running
from h3ref.adapters.memory import open_memory
from h3ref.errors import LifecycleError
from h3ref.lab.recorder import Recorder, Recording
from h3ref.trace import Record

CALLS: Final[dict[str, Callable[[H3Event], Any]]] = {
    "start_sse": H3Event.start_sse,
    "get_sse_writer": H3Event.get_sse_writer,
}


class Diverged(Exception):
    """The server did something else than the recording; the text says where."""


@dataclass(frozen=True)
class Replay:
    """What the server did.

    Attributes:
        recording: its steps, until the client left.
        status: what the client got; 0 for nothing.
        received: its bytes: on a socket all of them, in memory those of the body.
        ended: whether it saw an end.
    """

    recording: Recording
    status: int
    received: bytes
    ended: bool


def app_of(path: Iterable[Record]) -> H3App:
    """An app whose handler does what the recording's did."""
    todo = [record for record in path if record.who == "handler" and record.step != "returns"]
    app = H3App()

    @app.get("/events")
    def handler(event: H3Event) -> None:
        for record in todo:
            error = None
            try:
                CALLS[record.step](event)
            except LifecycleError as rejected:
                error = type(rejected).__name__
            if (event.state, error) != (record.after, record.error):
                raise Diverged(f"{record.step}: {event.state}, {error}; recorded: {record.after}, {record.error}")

    return app


async def on_a_socket(path: Recording, *, silence: float) -> Replay:
    """Take it on the native server; the client leaves when all steps are taken, and it gets nothing for so long.

    Args:
        path: what to take.
        silence: seconds.
    """
    recorder = Recorder()
    async with running(app_of(path), port=0, flow=flows.broken, trace=recorder) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as client:
            await client.send(b"GET /events HTTP/1.1\r\nHost: h3ref\r\n\r\n")
            await recorder.until(path[-1].step)
            received, ended = await client.receive(), False
            with anyio.move_on_after(silence):
                try:
                    while True:
                        received += await client.receive()
                except anyio.EndOfStream:
                    ended = True
        await recorder.until("disconnect")
    status = int(received.split(b" ", 2)[1])
    return Replay(_until_left(recorder.recording), status, received, ended)


async def in_memory(path: Recording, *, silence: float) -> Replay:
    """As `on_a_socket`, in memory, where the client can see the body alone."""
    recorder = Recorder()
    async with open_memory(app_of(path), flow=flows.broken, trace=recorder) as server:
        reply = await server.request("GET", "/events")
        await recorder.until(path[-1].step)
        received = b""
        with anyio.move_on_after(silence):
            received = await reply.receive()
        ended = reply.end is not None
        reply.disconnect()
        await recorder.until("disconnect")
    return Replay(_until_left(recorder.recording), reply.status, received, ended)


def same_steps(path: Recording, found: Recording) -> bool:
    """Whether both have the same steps with the same states, rejections and reasons; sizes are the server's alone."""
    return list(map(_bare, path)) == list(map(_bare, found))


def _bare(record: Record) -> Record:
    return replace(record, time=0.0, exchange=1, size=None)


def _until_left(recording: Recording) -> Recording:
    return Recording(record for record in recording if record.before != "closed" and record.step != "disconnect")
