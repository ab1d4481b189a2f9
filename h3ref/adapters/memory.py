"""The memory adapter: an app answers inside this process, without a socket, for tests and notebooks.

It is also the adapter to copy: `MemoryTransport` and `MemoryConnection` are the port's two halves, and
`open_memory` is the way in. Everything runs on the caller's event loop and clock, so that under a virtual
clock a stream of hours takes no time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from .._core.lifespan import Held
from .._core.owned import Owned
from .._core.parking import now
from .._core.service import Service
from ..connection import End, Request, Response, StreamHead
from ..errors import BodyTooLarge
from ..flows import check_flow
from ..limits import Limits
from ..sse import SSEEvent
from ..stats import Stats

if TYPE_CHECKING:
    from .._core.exchange import Flow
    from ..app import H3App
    from ..trace import Listener

__all__ = ["MemoryServer", "Reply", "open_memory"]


class Reply:
    """The client's side of one exchange. Read it with `receive`, or leave with `disconnect`."""

    def __init__(self, request: Request) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.end: End | None = None
        self._request = request
        self._chunks: list[bytes] = []
        self._size = 0  # of these
        self._changed = anyio.Event()
        self._gone: Callable[[], None] | None = None
        self._waiting_since: float | None = None  # while there is something that has not been received
        self.is_connected = True

    async def receive(self) -> bytes:
        """Wait for bytes of the body and return all that have come; b"" when the body has ended."""
        while not self._chunks and self.end is None:
            await self._next_change()
        data = b"".join(self._chunks)
        self._clear()
        self._change()
        return data

    async def read(self) -> bytes:
        """Return the whole body, once it has ended."""
        data = b""
        while chunk := await self.receive():
            data += chunk
        return data

    def disconnect(self) -> None:
        """Leave, like a client that closes its socket."""
        if self.is_connected:
            self.is_connected = False
            self._clear()
            self._change()
            if self._gone is not None:
                self._gone()

    # -- the adapter's side

    async def _headed(self) -> None:
        while not self.status and self.end is None:
            await self._next_change()

    def _begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self._change()

    def _add(self, data: bytes) -> None:
        if data and self.is_connected:
            self._chunks.append(data)
            self._size += len(data)
            if self._waiting_since is None:
                self._waiting_since = now()
            self._change()

    def _clear(self) -> None:
        self._chunks.clear()
        self._size = 0
        self._waiting_since = None

    def _end(self, end: End) -> None:
        if self.end is None:
            self.end = end
            self._change()

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _next_change(self) -> None:
        await self._changed.wait()

    async def _drained_below(self, mark: int) -> None:
        while self.is_connected and self.end is None and self._size >= mark:
            await self._next_change()


class MemoryConnection:
    """Carries a stream to a `Reply`. What the client has not received counts as buffered."""

    adapter_type = "memory"
    sharing = None

    def __init__(self, reply: Reply, limits: Limits) -> None:
        self._reply = reply
        self._limits = limits

    @property
    def buffered(self) -> int:
        return self._reply._size

    @property
    def stalled_since(self) -> float | None:
        return self._reply._waiting_since

    async def send_headers(self, head: StreamHead) -> int:
        self._reply._begin(200, _headers_of(head.wire) if head.wire else head.headers)
        return len(head.wire) if head.wire else _head_size(200, head.headers)

    def write_chunk(self, data: bytes) -> None:
        self._reply._add(data)

    async def drain(self) -> None:
        await self._reply._drained_below(self._limits.stream_buffer)

    async def flush(self) -> None:
        await self._reply._drained_below(1)

    async def close(self) -> None:
        await self._end(End.PROPER)

    async def cut(self) -> None:
        await self._end(End.CUT)

    async def _end(self, end: End) -> None:
        # What is buffered lies with the client already, so there is nothing to wait for.
        self._reply._end(end)


class MemoryTransport:
    """One request, and the `Reply` that its client reads."""

    client = ""  # it has no address

    def __init__(self, request: Request, body: bytes, reply: Reply, limits: Limits) -> None:
        self.request = request
        self._body = body
        self._reply = reply
        self._limits = limits

    async def read_body(self) -> bytes:
        if len(self._body) > self._limits.body_size:
            raise BodyTooLarge(f"the body has {len(self._body)} bytes, and the limit is {self._limits.body_size}")
        return self._body

    def watch(self, gone: Callable[[], None]) -> None:
        self._reply._gone = gone
        if not self._reply.is_connected:
            gone()  # it has left already

    async def send_response(self, response: Response) -> int:
        framed = list(response.headers)
        if response.status not in (204, 304):
            framed.append(("Content-Length", str(len(response.body))))
        self._reply._begin(response.status, framed)
        if self.request.method != "HEAD":
            self._reply._add(response.body)
        self._reply._end(End.PROPER)
        return _head_size(response.status, framed) + len(response.body)

    def create_connection(self) -> MemoryConnection:
        return MemoryConnection(self._reply, self._limits)

    def release(self) -> None:
        """Do nothing: only the client holds its `Reply`."""


class MemoryServer:
    """An app that answers in this process."""

    def __init__(self, service: Service, tasks: TaskGroup) -> None:
        self.service = service
        self._tasks = tasks
        self._context = copy_context()  # each request begins with it, whoever sends it

    async def request(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        """Send a request and return its reply as soon as the head is there; a stream goes on after that."""
        fields = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        request = Request(method.upper(), target, fields)
        reply = Reply(request)
        transport = MemoryTransport(request, body, reply, self.service.limits)
        self._context.copy().run(self._tasks.start_soon, self._answer, transport, reply)
        try:
            await reply._headed()
        except BaseException:
            reply.disconnect()  # a client that waits no longer has left
            raise
        return reply

    def stats(self) -> Stats:
        """Return the figures as they are now."""
        return self.service.stats()

    async def _answer(self, transport: MemoryTransport, reply: Reply) -> None:
        try:
            await self.service.answer(transport)
        finally:
            reply._end(End.CUT)
            reply._gone = None  # the exchange, which has it, is over


@asynccontextmanager
async def open_memory(
    app: H3App,
    *,
    flow: Flow | None = None,
    trace: Listener | None = None,
    limits: Limits | None = None,
    farewell: SSEEvent | None = None,
) -> AsyncIterator[MemoryServer]:
    """Serve an app in this process. On leaving, in any task, open streams are shut down and end properly.

    Args:
        app: the app whose handlers answer.
        flow: None for the default, or `flows.broken`.
        trace: a listener that gets a `trace.Record` of each step, with the event loop's time.
        limits: how much it takes on.
        farewell: the last event of open streams on leaving, such as one with a `retry`.
    """
    service = Service(
        app,
        flow=check_flow(flow),
        trace=trace,
        limits=limits,
        clock=_loop_clock(),
        farewell=None if farewell is None else farewell.encode(),
    )
    async with Owned(_serving(service)) as server:
        yield server


@asynccontextmanager
async def _serving(service: Service) -> AsyncIterator[MemoryServer]:
    body = anyio.CancelScope()
    async with Held(service.app.lifespan(), body.cancel), anyio.create_task_group() as helpers:
        helpers.start_soon(service.streams.run)
        async with anyio.create_task_group() as tasks:
            with body:
                yield MemoryServer(service, tasks)
            for exchange in list(service.live):
                exchange.shut_down()
        helpers.cancel_scope.cancel()


def _loop_clock() -> Callable[[], float]:
    """The running event loop's clock, which worker threads may read; under a virtual clock it is virtual."""
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        import trio

        return trio.lowlevel.current_clock().current_time


def _headers_of(wire: bytes) -> list[tuple[str, str]]:
    """The headers in the bytes of a head, which may have more than the flow's own."""
    lines = [line.partition(": ") for line in wire.decode("latin-1").split("\r\n")[1:] if line]
    return [(name, value) for name, _, value in lines]


def _head_size(status: int, headers: Iterable[tuple[str, str]]) -> int:
    """The head's size in HTTP/1.1."""
    return len(f"HTTP/1.1 {status} OK\r\n\r\n") + sum(len(name) + len(value) + 4 for name, value in headers)
