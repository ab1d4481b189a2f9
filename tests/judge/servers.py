"""Servers for the judge, in memory: `Good` does all that the catalogue asks for, others differ in one thing.

They speak in bytes, over connections that bring what is sent at once, so that a test with virtual time depends on
nothing but what a server does.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

import anyio
import anyio.abc

from h3ref.judge.catalogue import Check, Group
from h3ref.judge.contract import judge_contract
from h3ref.judge.stream import judge_stream
from h3ref.judge.verdict import Finding, Verdict
from h3ref.judge.wire import Target


class Pipe(anyio.abc.ByteStream):
    """One end of a connection in memory."""

    def __init__(
        self,
        incoming: anyio.abc.ObjectReceiveStream[bytes],
        outgoing: anyio.abc.ObjectSendStream[bytes],
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._incoming.receive()

    async def send(self, item: bytes) -> None:
        await self._outgoing.send(item)

    async def send_eof(self) -> None:
        await self._outgoing.aclose()

    async def aclose(self) -> None:
        await self._incoming.aclose()
        await self._outgoing.aclose()


def pipe() -> tuple[Pipe, Pipe]:
    """Both ends of a connection."""
    to_server, at_server = anyio.create_memory_object_stream[bytes](math.inf)
    to_client, at_client = anyio.create_memory_object_stream[bytes](64)
    return Pipe(at_client, to_server), Pipe(at_server, to_client)


class Client:
    """A connection and its request, as a server has them."""

    def __init__(self, stream: Pipe, head: bytes, pieces: int, rest: bytes) -> None:
        self._stream = stream
        self.pieces = pieces
        self.rest = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, self.version = first.split(" ")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    async def send(self, data: bytes) -> None:
        """Send bytes in one piece."""
        await self._stream.send(data)

    async def left(self) -> None:
        """Wait until the client has left."""
        try:
            while True:
                await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    async def head(self, status: str, fields: Mapping[str, str]) -> None:
        """Send a head."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        await self.send(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        """Send a part of the body: a chunk, or for HTTP/1.0 just the bytes."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data) if self.version == "HTTP/1.1" else data)

    async def end(self) -> None:
        """Send the proper end."""
        if self.version == "HTTP/1.1":
            await self.send(b"0\r\n\r\n")


class Answering(Protocol):
    """A server."""

    async def answer(self, client: Client) -> None:
        """Answer a request; the connection is closed after it."""


class Good:
    """Sends ten events, four a second, with ids from 1 on; goes on after the one that is named, and tells gaps."""

    status = "200 OK"
    fields: Mapping[str, str] = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "Access-Control-Allow-Origin": "*",
    }
    first = b"retry: 3000\n\n"
    count = 10
    gap = 0.25

    async def answer(self, client: Client) -> None:
        """Answer a request; the connection is closed after it."""
        if client.method == "OPTIONS":
            allowed = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "Last-Event-ID"}
            await client.head("204 No Content", allowed)
        elif client.method == "HEAD":
            await self.head(client)
        else:
            await self.get(client)

    async def head(self, client: Client) -> None:
        """Answer HEAD, and begin the answer to GET."""
        chunked = {"Transfer-Encoding": "chunked"} if client.version == "HTTP/1.1" else {}
        await client.head(self.status, {**self.fields, **chunked, "Connection": "close"})

    async def get(self, client: Client) -> None:
        """Answer GET."""
        await self.head(client)
        await self.body(client)
        await client.end()

    async def body(self, client: Client) -> None:
        """Send the events."""
        await client.chunk(self.first)
        begin = 1
        if "last-event-id" in client.headers:
            last = client.headers["last-event-id"]
            if last.isdigit():
                begin = int(last) + 1
            else:
                await client.chunk(b"event: gap\ndata: you have missed some\n\n")
        for number in range(begin, self.count + 1):
            await client.chunk(self.event(number))
            await anyio.sleep(self.gap)

    def event(self, number: int) -> bytes:
        """The event with that number."""
        return b"id: %d\ndata: event %d\n\n" % (number, number)


@asynccontextmanager
async def served(server: Answering) -> AsyncIterator[Target]:
    """Serve in memory, and return what the judge judges it by."""
    reading = anyio.Lock() if getattr(server, "reads_one_by_one", False) else nullcontext()
    async with anyio.create_task_group() as tasks:

        async def serve(stream: Pipe) -> None:
            head, pieces = b"", 0
            try:
                async with reading:
                    while b"\r\n\r\n" not in head:
                        head += await stream.receive()
                        pieces += 1
                head, _, rest = head.partition(b"\r\n\r\n")
                await server.answer(Client(stream, head, pieces, rest))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                pass  # the judge has left
            finally:
                await stream.aclose()

        async def connect() -> Pipe:
            ours, theirs = pipe()
            tasks.start_soon(serve, theirs)
            return ours

        yield Target("http://test/events", connect)
        tasks.cancel_scope.cancel()


MOST_REQUESTS, MOST_SECONDS = 8, {Group.STREAM: 30, Group.CONTRACT: 60}


async def judged(server: Answering, checks: tuple[Check, ...]) -> dict[str, Finding]:
    """What the judge finds of a server, by the ids of the checks, which are all of one group.

    It may take no more time than it was given, and of a stranger's server no more connections than it says.
    """
    verdicts: list[Verdict] = []
    group, begun, connections = checks[0].group, anyio.current_time(), 0
    judge = judge_stream if group == Group.STREAM else judge_contract
    async with served(server) as target:

        async def connect() -> anyio.abc.ByteStream:
            nonlocal connections
            connections += 1
            return await target.connect()

        await judge(replace(target, connect=connect), checks, verdicts.append)
    assert anyio.current_time() - begun <= MOST_SECONDS[group] + 0.001
    assert group == Group.CONTRACT or connections <= MOST_REQUESTS
    assert sorted(verdict.check.id for verdict in verdicts) == sorted(check.id for check in checks)
    return {verdict.check.id: verdict.finding for verdict in verdicts}
