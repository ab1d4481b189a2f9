"""The floor: an asyncio Protocol that does as little as an event stream needs, and checks nothing.

One event is one `transport.write` of bytes that were encoded once; it waits when the transport says so.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import cast
from urllib.parse import parse_qsl, urlsplit

from . import leash, work

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


def plain(text: str) -> bytes:
    """A plain response."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def chunk(number: int) -> bytes:
    """One event as one chunk of the body."""
    event = f"id: {number}\nevent: {work.TYPE}\ndata: {work.data()}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


class Peer(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, audience: set[Peer]) -> None:
        self.audience = audience
        self.head = b""
        self.writable = asyncio.Event()
        self.writable.set()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.audience.discard(self)
        self.writable.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        target = urlsplit(self.head.split(b" ", 2)[1].decode())
        query = dict(parse_qsl(target.query))
        self.head = b""
        if target.path == "/subscribers":
            self.transport.write(plain(str(len(self.audience))))
        elif target.path == "/go":
            self.task = asyncio.create_task(self.publish(int(query["count"]), float(query["rate"])))
        elif target.path == "/end":
            self.end()
        else:
            self.transport.write(HEAD)
            if target.path == "/first":
                self.transport.write(chunk(0))
                self.transport.write(END)
            elif target.path == "/fan":
                self.audience.add(self)
            elif target.path == "/stream":
                self.task = asyncio.create_task(self.stream(int(query["count"]), "yield" in query))

    async def stream(self, count: int, gives_way: bool) -> None:
        encoded = chunk(0)
        for _ in range(count):
            self.transport.write(encoded)
            if not self.writable.is_set():
                await self.writable.wait()
            if gives_way:
                await asyncio.sleep(0)
        self.transport.write(END)

    async def publish(self, count: int, rate: float) -> None:
        peers = list(self.audience)
        async for number in work.paced(count, rate):
            encoded = chunk(number)
            for peer in peers:
                peer.transport.write(encoded)
                if not peer.writable.is_set():
                    await peer.writable.wait()
        self.transport.write(plain("done"))

    def end(self) -> None:
        for peer in self.audience:
            peer.transport.write(END)
        self.audience.clear()
        self.transport.write(plain("done"))


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""

    async def main() -> None:
        audience: set[Peer] = set()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Peer(audience), "127.0.0.1", 0, backlog=leash.BACKLOG)
        leash.hold(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())
