"""One client for every adapter, so that one test can run on all of them.

async with open_client("h11_anyio", app) as client:
    reply = await client.request("GET", "/events")
    assert reply.status == 200
    assert await reply.receive() == b"data: 1\\n\\n"     # b"" at the end
    assert reply.end is End.PROPER
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Literal, NamedTuple, Protocol

import anyio
import anyio.abc
import h11

from h3ref import H3App, running
from h3ref.adapters.h11_anyio import Server
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from tests.asgi_servers import ASGIServer, on_granian, on_hypercorn, on_uvicorn
from tests.notebook_adapter import notebooks_serving

Ability = Literal["farewell", "keep-alives", "bodies that come late", "HTTP/1.0", "release"]
"""What an adapter may lack, for a server below it decides that, or since it is a notebook's single page."""


class Adapter(NamedTuple):
    """How to serve an app through an adapter, the event loops that it runs on, and what it can't do."""

    open_server: Callable[..., AbstractAsyncContextManager[Any]]
    loops: tuple[str, ...] = ("asyncio", "trio")
    lacks: tuple[Ability, ...] = ()


ADAPTERS = {
    "memory": Adapter(open_memory),
    "h11_anyio": Adapter(running),
    "asgi-uvicorn": Adapter(on_uvicorn, ("asyncio",), lacks=("farewell", "HTTP/1.0")),
    "asgi-hypercorn": Adapter(on_hypercorn, lacks=("farewell",)),
    "asgi-granian": Adapter(on_granian, ("asyncio",), lacks=("farewell", "HTTP/1.0")),
    "notebook": Adapter(
        notebooks_serving(), lacks=("farewell", "keep-alives", "bodies that come late", "HTTP/1.0", "release")
    ),
}


class ReplyLike(Protocol):
    """What a test sees of one exchange; `memory.Reply` is one."""

    status: int
    headers: dict[str, str]
    end: End | None

    async def receive(self) -> bytes: ...

    async def read(self) -> bytes: ...

    def disconnect(self) -> None: ...


class ClientLike(Protocol):
    """What sends requests; `memory.MemoryServer` is one."""

    async def request(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> ReplyLike: ...


class SocketReply:
    """A reply that is read from a socket, by h11."""

    def __init__(self, stream: anyio.abc.SocketStream, parser: h11.Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.end: End | None = None
        self._stream = stream
        self._parser = parser

    async def begin(self) -> None:
        """Read the head."""
        head = await self._next()
        assert isinstance(head, h11.Response), f"a response was expected, not {head!r}"
        self.status = head.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}

    async def receive(self) -> bytes:
        """Return the next bytes of the body, b"" at its end."""
        if self.end is not None:
            return b""
        try:
            event = await self._next()
        except (h11.RemoteProtocolError, anyio.BrokenResourceError):
            self.end = End.CUT
            return b""
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self.end = End.PROPER
        return b""

    async def read(self) -> bytes:
        """Return the rest of the body."""
        chunks = []
        while chunk := await self.receive():
            chunks.append(chunk)
        return b"".join(chunks)

    async def send(self, data: bytes) -> None:
        """Send a part of the request's body."""
        await self._stream.send(self._parser.send(h11.Data(data=data)) or b"")

    async def closed(self) -> None:
        """Wait until the server has closed the socket."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await self._stream.receive()

    def disconnect(self) -> None:
        """Leave without a word."""
        self._stream.extra(anyio.abc.SocketAttribute.raw_socket).shutdown(socket.SHUT_RDWR)

    async def _next(self) -> Any:
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            try:
                self._parser.receive_data(await self._stream.receive())
            except anyio.EndOfStream:
                self._parser.receive_data(b"")
        return event


class SocketClient:
    """Sends each request on a socket of its own."""

    def __init__(self, server: Server | ASGIServer) -> None:
        self.server = server
        self._streams: list[anyio.abc.SocketStream] = []

    async def request(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> SocketReply:
        """Send a request and return its reply as soon as the head is there."""
        stream = await self.connect()
        parser = h11.Connection(h11.CLIENT)
        fields = {"Host": "test", **(headers or {}), **({"Content-Length": str(len(body))} if body else {})}
        request = h11.Request(
            method=method, target=target, headers=[(n.encode(), v.encode()) for n, v in fields.items()]
        )
        data = parser.send(request) or b""
        if body:
            data += parser.send(h11.Data(data=body)) or b""
        await stream.send(data + (parser.send(h11.EndOfMessage()) or b""))
        reply = SocketReply(stream, parser)
        try:
            await reply.begin()
        except BaseException:
            reply.disconnect()
            raise
        return reply

    async def begin(self, method: str, target: str, *, length: int) -> SocketReply:
        """Send a request's head, to whose reply the body is sent in parts; `await reply.begin()` reads the answer's."""
        stream = await self.connect()
        parser = h11.Connection(h11.CLIENT)
        fields = [("Host", "test"), ("Content-Length", str(length))]
        await stream.send(parser.send(h11.Request(method=method, target=target, headers=fields)) or b"")
        return SocketReply(stream, parser)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes back until the server closes."""
        stream, received = await self.connect(), b""
        await stream.send(data)
        with suppress(anyio.EndOfStream), anyio.fail_after(10):
            while True:
                received += await stream.receive()
        return received

    async def connect(self) -> anyio.abc.SocketStream:
        """Connect to the server: by its own `connect`, where its sockets have no port."""
        connect = getattr(self.server, "connect", None)
        stream: anyio.abc.SocketStream = await (
            anyio.connect_tcp("127.0.0.1", self.server.port) if connect is None else connect()
        )
        self._streams.append(stream)
        return stream

    async def aclose(self) -> None:
        """Close every socket."""
        with anyio.CancelScope(shield=True):
            for stream in self._streams:
                await anyio.aclose_forcefully(stream)


@asynccontextmanager
async def open_client(adapter: str, app: H3App, **options: Any) -> AsyncIterator[ClientLike]:
    """Serve an app through the named adapter, and return a client for it."""
    async with ADAPTERS[adapter].open_server(app, **options) as server:
        if hasattr(server, "request"):  # it is a client itself, as in memory
            yield server
            return
        client = SocketClient(server)
        try:
            yield client
        finally:
            await client.aclose()


def server_of(client: ClientLike) -> Any:
    """What the client talks to; its `service` knows the live exchanges."""
    return client.server if isinstance(client, SocketClient) else client


async def saying(port: int, data: bytes) -> anyio.abc.SocketStream:
    """Connect to a port of this machine; bytes are there before the server looks, so that no time is up before."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    sent = sock.send(data) if data else 0
    stream = await anyio.abc.SocketStream.from_socket(sock)
    await stream.send(data[sent:])
    return stream


async def raw(port: int, data: bytes) -> bytes:
    """Send bytes to a port of this machine, and return all that comes back until the server closes."""
    received = b""
    async with await saying(port, data) as stream:
        with anyio.fail_after(30):
            try:
                while True:
                    received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    return received
