"""What the notebooks share: `on_socket` and `in_memory` run one request and return all that is known about it.

    from h3ref.lab.notebook import in_memory, on_socket

    run = await on_socket(app, "/broken", flow=flows.broken)    # a real socket: bytes, and an order of steps
    run = await in_memory(app, "/events")                       # the virtual clock: times too, the same in every run

For scenes of more than one request there is `recorded`, a server with its recorder on a real socket, and
`virtually`, which runs an async function under the virtual clock, where `recorded_in_memory` is its counterpart.
Importing this module registers the Jupyter formatters of `h3ref.lab.diagrams`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby, zip_longest
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread
import h11
from IPython.core.getipython import get_ipython

from h3ref import EventStreamParser, H3App, Limits, MessageEvent, running
from h3ref._core.exchange import Flow
from h3ref.adapters.h11_anyio import Server
from h3ref.adapters.memory import MemoryServer, open_memory
from h3ref.connection import End
from h3ref.headers import Headers
from h3ref.lifecycle import State
from h3ref.testing import VirtualLoop
from h3ref.trace import DATA, EVENT, Record

from .code import CodeBeside, Piece
from .diagrams import jupyter
from .log_lines import captured_log
from .recorder import Recorder, Recording
from .silence import receive_within
from .stepper import Code, Column, Stepper

__all__ = [
    "Arrival",
    "End",
    "Run",
    "code_beside",
    "in_memory",
    "on_socket",
    "raw_get",
    "recorded",
    "recorded_in_memory",
    "step_through",
    "virtually",
]

T = TypeVar("T")

SILENCE = 0.5
"""Seconds without a byte after which the client on a socket leaves."""

VIRTUAL_SILENCE = 60.0
"""The same in memory, where they take no time."""

NOTICED = 5.0
"""Seconds that a server has to notice that its client has left; after that its own end closes the exchange."""


class Arrival(NamedTuple):
    """What came at once.

    Attributes:
        at: seconds since the request.
        data: the bytes.
    """

    at: float
    data: bytes


@dataclass(frozen=True)
class Run:
    """One request: what its client had, and what its server recorded and logged.

    Attributes:
        status: the HTTP status; 0 if the client left before there was one.
        headers: of the response, looked up in any case.
        body: its body, without its framing.
        end: how the body ended, `End.PROPER` or `End.CUT`; None if the client left first.
        arrivals: the bytes as they came: on a socket all of them, in memory those of the body. Only in memory do
            their times mean anything, and do the same bytes come together in each run.
        recording: the steps that the server took.
        log: what the package logged meanwhile, as lines "level: message", without tracebacks.
        wire: all bytes that came by the socket; b"" in memory.
    """

    status: int
    headers: Headers
    body: bytes
    end: End | None
    arrivals: tuple[Arrival, ...]
    recording: Recording
    log: tuple[str, ...]
    wire: bytes = b""

    @property
    def events(self) -> list[MessageEvent]:
        """The events that the client dispatches."""
        parser = EventStreamParser()
        return [*parser.feed(self.body), *parser.close()]

    @property
    def head(self) -> str:
        """The head of the answer as text: its status, and each header on a line of its own; "" if there was none."""
        return (
            "\n".join([f"HTTP/1.1 {self.status}", *(f"{k}: {v}" for k, v in self.headers.items())])
            if self.status
            else ""
        )

    @property
    def event_times(self) -> list[float]:
        """Seconds from the request to each event, as its server recorded them."""
        return [record.time - self.recording[0].time for record in self.recording if record.step == EVENT.name]

    @property
    def reason(self) -> str | None:
        """Why the server says that the exchange is closed; None if it recorded no end."""
        return self.recording[-1].reason if self.recording else None


@dataclass
class Received:
    """What a client on a socket has received so far; `Run` says what the fields mean."""

    status: int = 0
    headers: Headers = field(default_factory=lambda: Headers(()))
    body: bytes = b""
    end: End | None = None
    arrivals: list[Arrival] = field(default_factory=list)

    @property
    def wire(self) -> bytes:
        """All bytes, as they were on the wire."""
        return b"".join(data for _, data in self.arrivals)


async def raw_get(
    port: int,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    silence: float = SILENCE,
    until: Callable[[Received], bool] | None = None,
) -> Received:
    """Send a request to a port of this machine; return what came when the response ends, or the client leaves.

    Args:
        silence: seconds without a byte after which the client leaves.
        until: asked after each reading; when it returns true, the client leaves.
    """
    received = Received()
    parser = h11.Connection(h11.CLIENT)
    fields = [("Host", f"127.0.0.1:{port}"), ("Accept", "*/*"), *(headers or {}).items()]
    if body:
        fields.append(("Content-Length", str(len(body))))
    request = parser.send(h11.Request(method=method, target=target, headers=fields)) or b""
    request += (parser.send(h11.Data(data=body)) or b"") + (parser.send(h11.EndOfMessage()) or b"")
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        begin = anyio.current_time()
        await stream.send(request)
        while received.end is None and not (until and until(received)):
            data = await receive_within(stream, silence)
            if data is None:
                break
            if data:
                received.arrivals.append(Arrival(anyio.current_time() - begin, data))
            _parse(parser, data, received)
    return received


def _parse(parser: h11.Connection, data: bytes, received: Received) -> None:
    try:
        parser.receive_data(data)
        while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            match event:
                case h11.Response():
                    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
                    received.status, received.headers = event.status_code, Headers(pairs)
                case h11.Data():
                    received.body += bytes(event.data)
                case h11.EndOfMessage():
                    received.end = End.PROPER
                case h11.ConnectionClosed():
                    break
    except h11.RemoteProtocolError:
        if data:
            raise
        received.end = End.CUT  # the end of the connection, before that of the body


@asynccontextmanager
async def recorded(
    app: H3App, *, flow: Flow | None = None, limits: Limits | None = None
) -> AsyncIterator[tuple[Server, Recorder]]:
    """Serve an app on a free port of this machine, with a recorder; on leaving, open streams are shut down."""
    recorder = Recorder()
    async with running(app, flow=flow, limits=limits, trace=recorder) as server:
        yield server, recorder


async def on_socket(
    app: H3App,
    target: str = "/events",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    flow: Flow | None = None,
    limits: Limits | None = None,
    silence: float = SILENCE,
    until: Callable[[Received], bool] | None = None,
) -> Run:
    """Serve an app on a real socket, send one request to it as `raw_get` does, and return what happened."""
    with captured_log(tracebacks=False) as log:
        async with recorded(app, flow=flow, limits=limits) as (server, recorder):
            received = await raw_get(
                server.port, target, method=method, headers=headers, body=body, silence=silence, until=until
            )
            with anyio.move_on_after(NOTICED):
                await recorder.until(_is_closed)
    return Run(
        received.status,
        received.headers,
        received.body,
        received.end,
        tuple(received.arrivals),
        recorder.recording,
        tuple(log),
        received.wire,
    )


def _is_closed(record: Record) -> bool:
    return record.after == State.CLOSED


async def virtually(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run an async function under the virtual clock, where hours take no time, and return its result.

    It gets an event loop of its own, on a thread of its own: that of the notebook goes on meanwhile.
    """
    return await anyio.to_thread.run_sync(
        lambda: anyio.run(function, *args, backend_options={"loop_factory": VirtualLoop})
    )


@asynccontextmanager
async def recorded_in_memory(
    app: H3App, *, flow: Flow | None = None, limits: Limits | None = None
) -> AsyncIterator[tuple[MemoryServer, Recorder]]:
    """Serve an app in this process, with a recorder whose times are those of the event loop's clock.

    Args:
        limits: left out, the usual ones, but without keep-alives: so that silence is seen as silence.
    """
    recorder = Recorder()
    limits = Limits(stream_keep_alive=None) if limits is None else limits
    async with open_memory(app, flow=flow, limits=limits, trace=recorder) as server:
        yield server, recorder


async def in_memory(
    app: H3App,
    target: str = "/events",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    flow: Flow | None = None,
    limits: Limits | None = None,
    silence: float = VIRTUAL_SILENCE,
    until: Callable[[bytes], bool] | None = None,
) -> Run:
    """Send one request to an app in this process, under the virtual clock, and return what happened.

    Args:
        silence: virtual seconds without a byte after which the client leaves.
        until: asked after each reading, with the body so far; when it returns true, the client leaves.
    """

    async def client() -> Run:
        arrivals: list[Arrival] = []
        reply = None
        async with recorded_in_memory(app, flow=flow, limits=limits) as (server, recorder):
            begin = anyio.current_time()
            with anyio.move_on_after(silence):
                reply = await server.request(method, target, headers=headers, body=body)
            while reply is not None:
                data: bytes | None = None
                with anyio.move_on_after(silence):
                    data = await reply.receive()
                if data:
                    arrivals.append(Arrival(anyio.current_time() - begin, data))
                if not data or (until and until(b"".join(data for _, data in arrivals))):
                    break
            if reply is not None and reply.end is None:
                reply.disconnect()
            with anyio.move_on_after(NOTICED):
                await recorder.until(_is_closed)
        return Run(
            status=reply.status if reply else 0,
            headers=Headers(list(reply.headers.items()) if reply else ()),
            body=b"".join(data for _, data in arrivals),
            end=reply.end if reply and reply.is_connected else None,
            arrivals=tuple(arrivals),
            recording=recorder.recording,
            log=(),
        )

    with captured_log(tracebacks=False) as log:
        run = await virtually(client)
    return replace(run, log=tuple(log))


def compare(**recordings: Recording) -> str:
    """Return the steps of recordings as text, a column for each; a step taken many times over is one line.

    What carries a sent event on (`data` and `event`) is left out: it follows each `send_event`.
    """
    columns = []
    for name, recording in recordings.items():
        steps = [record.step for record in recording if record.step not in (DATA.name, EVENT.name)]
        counted = [(step, len([*same])) for step, same in groupby(steps)]
        columns.append([name, "", *(step if count == 1 else f"{step} × {count}" for step, count in counted)])
    widths = [max(map(len, column)) + 2 for column in columns]
    return "\n".join(
        "".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip_longest(*columns, fillvalue="")
    )


def step_through(*, code: Mapping[str, Code] | None = None, **recordings: Run | Recording) -> Stepper:
    """Return recordings of one exchange each, to be stepped through in the notebook, with no server and no widget.

    Two go in step while they do the same, and one waits where the other goes on, its silence counted:

        step_through(broken=broken, fixed=fixed, code={"broken": example.broken, "fixed": example.callback})

    Args:
        code: for a column what answers, as a function, several, or text: the line that a step comes from is lit.
        recordings: one or two, by the headings of their columns; of a `Run` the head that its client had is shown, too.

    Raises:
        ValueError: there are none or more than two, or one is empty or of several exchanges; or code is for none.
    """
    code = code or {}
    if unknown := sorted(code.keys() - recordings.keys()):
        raise ValueError(f"code is given for {', '.join(unknown)}, but the recordings are {', '.join(recordings)}")
    return Stepper(
        [
            Column(name, run.recording, run.head, code.get(name, ""))
            if isinstance(run, Run)
            else Column(name, run, code=code.get(name, ""))
            for name, run in recordings.items()
        ]
    )


def code_beside(*, bug: Sequence[str] = (), fix: Sequence[str] = (), **columns: Piece) -> CodeBeside:
    """Return code in columns, coloured, the line on which all depends marked in each.

        code_beside(broken=one, fixed=other, bug=["get_sse_writer()"], fix=["set_stream_callback"])

    Args:
        bug, fix: what the line has in it that is marked.
        columns: by its heading, each piece: a function, several, or text; _ in a heading is a blank.

    Raises:
        ValueError: what is to be marked is in no line of any piece, or in several of one.
    """
    return CodeBeside({name.replace("_", " "): piece for name, piece in columns.items()}, bug=bug, fix=fix)


if (shell := get_ipython()) is not None:
    jupyter.register(shell)
