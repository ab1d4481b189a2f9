"""The faults: each is a client, or a crowd of them, that does what clients should not.

Each takes the server and leaves nothing of its own open; what the server still holds afterwards is the server's.
"""

from __future__ import annotations

import random
import re
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

import anyio

from .app import STALL
from .server import HOST, ServerProcess, request

Fault = Callable[[ServerProcess, random.Random], Awaitable[None]]

CROWD: Final = 30
STREAMS: Final = ("/count", "/generated", "/feed", "/bulk")
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, with no time: closing sends RST."""

_HEAD = re.compile(rb"HTTP/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)*?Content-Length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n")


class Client:
    """A bare socket with a request on it, closed with the `with`."""

    def __init__(self, server: ServerProcess, target: str | None, *, window: int | None = None, **headers: str) -> None:
        self.sock = socket.socket()
        if window is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.setblocking(False)
        self._address = (HOST, server.port)
        self._request = b"" if target is None else request(target, **headers)
        self._ahead = b""  # answers that have come

    async def connect(self) -> Client:
        """Connect and send the request."""
        if self.sock.connect_ex(self._address):
            await anyio.wait_writable(self.sock)
        if self._request:
            self.sock.send(self._request)
        return self

    async def read(self, size: int = 65536) -> bytes:
        """Wait for bytes; b"" at the end."""
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                await anyio.wait_readable(self.sock)

    async def read_to_end(self) -> bytes:
        """Wait for the end, and return all that came before it."""
        seen = b""
        while part := await self.read():
            seen += part
        return seen

    async def read_event(self) -> None:
        """Wait until the stream is open and has brought something."""
        seen = b""
        while b"data:" not in seen and (part := await self.read()):
            seen += part

    async def read_answer(self) -> bytes:
        """Wait for one plain answer, and return its body; what follows it is kept for the next call."""
        while (head := _HEAD.match(self._ahead)) is None:
            await self._read_ahead()
        while len(self._ahead) < (end := head.end() + int(head[1])):
            await self._read_ahead()
        body, self._ahead = self._ahead[head.end() : end], self._ahead[end:]
        return body

    async def _read_ahead(self) -> None:
        part = await self.read()
        assert part, f"the answer broke off: {self._ahead!r}"
        self._ahead += part

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        anyio.notify_closing(self.sock)
        self.sock.close()


def _keeping(target: str, **headers: str) -> bytes:
    """A request after whose answer the connection stays open."""
    return request(target, **headers).replace(b"Connection: close\r\n", b"")


async def _crowd(server: ServerProcess, target: str, number: int, stack: ExitStack, **options: int) -> list[Client]:
    clients = [stack.enter_context(Client(server, target, window=options.get("window"))) for _ in range(number)]
    for client in clients:
        await client.connect()
    return clients


async def reset_in_mid_event(server: ServerProcess, chance: random.Random) -> None:
    """RST while events are on their way."""
    with ExitStack() as stack:
        for client in await _crowd(server, chance.choice(STREAMS[:2] + STREAMS[3:]), CROWD, stack):
            await client.read_event()
            client.reset()


async def leaves_at_once(server: ServerProcess, chance: random.Random) -> None:
    """RST or FIN right after the request, or in the middle of it."""
    with ExitStack() as stack:
        for client in await _crowd(server, chance.choice(STREAMS), CROWD, stack):
            if chance.random() < 0.5:
                client.reset()
        for _ in range(CROWD):
            client = await stack.enter_context(Client(server, None)).connect()
            client.sock.send(request("/count")[: chance.randrange(60)])


async def half_closes(server: ServerProcess, chance: random.Random) -> None:
    """FIN from a client that would still read: for a stream that is its end."""
    with ExitStack() as stack:
        for client in await _crowd(server, chance.choice(STREAMS), CROWD, stack):
            client.sock.shutdown(socket.SHUT_WR)
        for client in await _crowd(server, "/hello", CROWD, stack):
            client.sock.shutdown(socket.SHUT_WR)
            await client.read()


async def stops_reading(server: ServerProcess, chance: random.Random) -> None:
    """Peers whose windows stay full, until they leave."""
    with ExitStack() as stack:
        clients = await _crowd(server, "/bulk", CROWD, stack, window=4096)
        for client in clients:
            await client.read(100)
        await server.get("/hello")
        await anyio.sleep(chance.uniform(0.1, 1.0))


async def reads_a_byte_at_a_time(server: ServerProcess, chance: random.Random) -> None:
    """Peers that read a few bytes and wait."""
    with ExitStack() as stack:
        for client in await _crowd(server, "/bulk", 5, stack, window=4096):
            for _ in range(10):
                await client.read(1)
                await anyio.sleep(0.01)


async def sends_a_byte_at_a_time(server: ServerProcess, chance: random.Random) -> None:
    """A request that comes byte by byte, and then breaks off or is complete."""
    with Client(server, None) as client:
        await client.connect()
        whole = request("/hello")
        for byte in whole[: chance.choice((len(whole), len(whole) - 1))]:
            client.sock.send(bytes([byte]))
            await anyio.sleep(0.002)


async def sends_garbage(server: ServerProcess, chance: random.Random) -> None:
    """Bytes that are no HTTP, and requests with bytes changed."""
    with ExitStack() as stack:
        for _ in range(CROWD):
            client = await stack.enter_context(Client(server, None)).connect()
            data = bytearray(request("/count", last_event_id="7"))
            for _ in range(chance.randrange(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            client.sock.send(chance.randbytes(500) if chance.random() < 0.3 else bytes(data))


async def storms(server: ServerProcess, chance: random.Random) -> None:
    """Connections by the hundred, most of which say nothing."""
    with ExitStack() as stack:
        for _ in range(300):
            await stack.enter_context(Client(server, chance.choice(("/hello", None, None)))).connect()


async def exhausts_descriptors(server: ServerProcess, chance: random.Random) -> None:
    """More connections than the server has descriptors: those who got in are served, the others later."""
    open_now = int((await server.figures())["descriptors"])
    before = server.limit_descriptors(open_now + 10)
    try:
        with ExitStack() as stack:
            await _crowd(server, "/count", 40, stack)
            await anyio.sleep(0.2)
    finally:
        server.limit_descriptors(before)


async def handler_raises(server: ServerProcess, chance: random.Random) -> None:
    """Handlers that fail: a real 500."""
    with ExitStack() as stack:
        for client in await _crowd(server, "/raises", CROWD, stack):
            assert (await client.read()).startswith(b"HTTP/1.1 500"), "a handler that failed was not answered 500"


async def callback_raises(server: ServerProcess, chance: random.Random) -> None:
    """Callbacks that fail: what was sent arrives, without the proper end."""
    with ExitStack() as stack:
        for client in await _crowd(server, "/callback-raises", CROWD, stack):
            seen = await client.read_to_end()
            assert b"data: one" in seen, f"the event before the failure was lost: {seen!r}"
            assert not seen.endswith(b"0\r\n\r\n"), "a callback that failed ended its body properly"


async def handler_never_returns(server: ServerProcess, chance: random.Random) -> None:
    """Handlers that wait for ever, whose clients leave."""
    with ExitStack() as stack:
        await _crowd(server, "/never", CROWD, stack)


async def swallows_cancellation(server: ServerProcess, chance: random.Random) -> None:
    """Callbacks that go on after they were cancelled."""
    with ExitStack() as stack:
        for client in await _crowd(server, "/swallows", CROWD, stack):
            await client.read_event()


async def threads_left_alone(server: ServerProcess, chance: random.Random) -> None:
    """Blocking streams whose clients leave: each thread learns of it at its next send."""
    with ExitStack() as stack:
        for client in await _crowd(server, "/blocking", CROWD, stack):
            await client.read_event()
            client.reset()


async def stalls_the_loop(server: ServerProcess, chance: random.Random) -> None:
    """A handler that blocks the event loop, with clients that come and leave meanwhile."""
    with ExitStack() as stack:
        await _crowd(server, "/stalls", 1, stack)
        for client in await _crowd(server, "/count", CROWD, stack):
            if chance.random() < 0.5:
                client.reset()
        await anyio.sleep(STALL)


async def clock_jumps(server: ServerProcess, chance: random.Random) -> None:
    """The wall clock jumps; nothing that waits may care."""
    await server.get(f"/clock?by={chance.uniform(-1e6, 1e6)}", "POST")
    with ExitStack() as stack:
        for client in await _crowd(server, "/count", 5, stack):
            await client.read_event()


async def stops_the_process(server: ServerProcess, chance: random.Random) -> None:
    """The whole process stands still for a moment, as on a machine that sleeps."""
    server.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            await _crowd(server, "/count", CROWD, stack)
            await anyio.sleep(max(0.0, started + 0.3 - time.monotonic()))
    finally:
        server.send_signal(signal.SIGCONT)


async def users_alternate(server: ServerProcess, chance: random.Random) -> None:
    """Requests with a name and without one on one connection, apart and together: none is answered as another's."""
    with Client(server, None) as client:
        await client.connect()
        for number in range(CROWD):
            path = chance.choice(("/who", "/who-on-thread"))
            named, nameless = _keeping(path, authorization=f"user-{number}"), _keeping(path)
            if chance.random() < 0.5:
                client.sock.send(named + nameless)
                users = [await client.read_answer(), await client.read_answer()]
            else:
                client.sock.send(named)
                users = [await client.read_answer()]
                client.sock.send(nameless)
                users.append(await client.read_answer())
            assert users == [b"user-%d" % number, b"nobody"], f"requests were answered as from {users}"


async def refused_late(server: ServerProcess, chance: random.Random) -> None:
    """Streams that a hook refuses when their headers are due: a 403 each, and no slot is lost."""
    with ExitStack() as stack:
        for client in await _crowd(server, "/refused-late", CROWD, stack):
            seen = await client.read_to_end()
            assert seen.startswith(b"HTTP/1.1 403"), f"a refused stream was answered {seen[:60]!r}"
            assert b"nobody may see" not in seen, "a refused stream was sent"


async def unknown_ids(server: ServerProcess, chance: random.Random) -> None:
    """Reconnections with ids that no history holds."""
    with ExitStack() as stack:
        for _ in range(CROWD):
            client = Client(server, "/feed", last_event_id=f"{chance.getrandbits(64):x}")
            await stack.enter_context(client).connect()
            await client.read_event()


async def leaves_a_page_unread(server: ServerProcess, chance: random.Random) -> None:
    """Plain answers that nobody reads, until the clients leave."""
    with ExitStack() as stack:
        for client in await _crowd(server, "/page", CROWD, stack, window=4096):
            await client.read(100)
        await server.get("/hello")


async def leaves_before_it_is_saved(server: ServerProcess, chance: random.Random) -> None:
    """Streams that await something in their `finally`, whose clients leave: it goes through."""
    with ExitStack() as stack:
        for client in await _crowd(server, chance.choice(("/saves", "/saves-generated")), CROWD, stack):
            await client.read_event()
            if chance.random() < 0.5:
                client.reset()


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        reset_in_mid_event,
        leaves_at_once,
        half_closes,
        stops_reading,
        reads_a_byte_at_a_time,
        sends_a_byte_at_a_time,
        sends_garbage,
        storms,
        exhausts_descriptors,
        handler_raises,
        callback_raises,
        handler_never_returns,
        swallows_cancellation,
        threads_left_alone,
        stalls_the_loop,
        clock_jumps,
        stops_the_process,
        users_alternate,
        refused_late,
        unknown_ids,
        leaves_a_page_unread,
        leaves_before_it_is_saved,
    )
}
