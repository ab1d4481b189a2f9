"""`Load`: the benchmark's client, with many streams on one selector, in the benchmark's own process.

It is Python, so it is not fast. That does not count against a server: its CPU is read from its own clock, and the
time of an arrival is the kernel's where the system tells it (Linux does), not when this client got round to it.
"""

from __future__ import annotations

import http.client
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from types import TracebackType
from typing import Final, Self

from h3ref.sse import EventStreamParser

from .reader import BadResponse, Reader

HOST: Final = "127.0.0.1"
PATIENCE: Final = 60.0
"""Seconds that one measurement may take."""

BUFFER: Final = 256 * 1024
_TIMESTAMP: Final = 35  # SO_TIMESTAMPNS of Linux, which Python has no name for
_TIMESPEC: Final = struct.Struct("ll")


class LoadError(Exception):
    """A server did not do what was asked of it; the text says what."""


class Client:
    """One connection with its request."""

    __slots__ = ("began", "reader", "socket")

    def __init__(self, peer: socket.socket, began: int, reader: Reader) -> None:
        self.socket = peer
        self.began = began
        self.reader = reader


class Load:
    """Streams from one server, closed when the context is left.

    Args:
        port: where the server listens.
        patience: seconds after which `LoadError` is raised, for all that is done with it together.
    """

    def __init__(self, port: int, patience: float = PATIENCE) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._clients: set[Client] = set()
        self._stamped = stamps_arrivals()
        # The kernel stamps arrivals while any socket asks for it, and takes a moment to begin: so one always does.
        self._asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if self._stamped:
            self._asking.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        self._deadline = time.monotonic() + patience
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.socket.close()
        self._clients.clear()
        self._selector.close()
        self._asking.close()

    def open(self, count: int, path: str, *, at_once: int = 100, delays: list[int] | None = None) -> None:
        """Open streams, and return when all have their heads.

        Args:
            at_once: how many may wait for their head at a time.
            delays: where the age of each event goes, in nanoseconds.
        """
        opened, waiting = 0, set[Client]()

        def so_far() -> str:
            return f"{opened - len(waiting)} of {count} heads of {path}"

        while opened < count or waiting:
            while opened < count and len(waiting) < at_once:
                waiting.add(self._connect(path, Reader(delays)))
                opened += 1
            for client, _, _ in self._arrivals(so_far):
                if client.reader.head is not None:
                    waiting.discard(client)

    def receive(self, count: int) -> None:
        """Read until that many events have come on all streams together, counting those that came before."""
        events = sum(client.reader.events for client in self._clients)

        def so_far() -> str:
            return f"{events} of {count} events"

        while events < count:
            for _, found, _ in self._arrivals(so_far):
                events += found

    def finish(self) -> None:
        """Read until every stream has ended."""
        going = {client for client in self._clients if not client.reader.ended}
        while going:
            for client, _, _ in self._arrivals(lambda: f"the ends of all but {len(going)} streams"):
                if client.reader.ended:
                    going.discard(client)

    def requests(self, path: str, count: int, at_once: int, give_up: float | None = None) -> list[int]:
        """Make requests, each on a new connection, and read each to its end.

        Returns:
            The nanoseconds from the start of connecting to the first event, of each request that had one.

        Args:
            at_once: how many are under way at a time.
            give_up: seconds after which a request that has no event is given up.
        """
        delays: list[int] = []
        made, under_way = 0, set[Client]()
        while made < count or under_way:
            while made < count and len(under_way) < at_once:
                under_way.add(self._connect(path, Reader()))
                made += 1
            for client, found, arrival in self._arrivals(lambda: f"{len(delays)} of {count} answers", give_up):
                if found and found == client.reader.events:
                    delays.append(arrival - client.began)
                if client.reader.ended:
                    under_way.discard(client)
                    self._close(client)
            if give_up is not None:
                for client in [one for one in under_way if time.time_ns() - one.began > give_up * 1e9]:
                    under_way.discard(client)
                    self._close(client)
        return delays

    def _connect(self, path: str, reader: Reader) -> Client:
        peer = socket.socket()
        client = Client(peer, time.time_ns(), reader)
        self._clients.add(client)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._stamped:
            peer.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        client.began = time.time_ns()
        try:
            peer.connect((HOST, self._port))  # on this machine this takes no time to wait for
        except OSError as error:
            raise LoadError(f"connecting failed: {error.strerror}") from error
        peer.setblocking(False)
        peer.sendall(request(path, self._port))
        self._selector.register(peer, selectors.EVENT_READ, client)
        return client

    def _close(self, client: Client) -> None:
        self._clients.discard(client)
        self._forget(client)
        client.socket.close()

    def _forget(self, client: Client) -> None:
        if client.socket in self._selector.get_map():
            self._selector.unregister(client.socket)

    def _arrivals(self, so_far: Callable[[], str], within: float | None = None) -> Iterator[tuple[Client, int, int]]:
        """Wait for bytes, and yield each client that got some, how many events were in them, and when they came."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise LoadError(f"only {so_far()} came within {self._patience:g} s")
        for key, _ in self._selector.select(left if within is None else min(left, within)):
            client: Client = key.data
            try:
                data, arrival = self._receive(client.socket)
                if not data and not client.reader.ended:
                    raise LoadError(f"a connection was closed early, after {so_far()}")
                found = client.reader.feed(data, arrival)
            except BlockingIOError:
                continue
            except BadResponse as error:
                raise LoadError(f"it {error}") from None
            except OSError as error:
                raise LoadError(f"a connection failed after {so_far()}: {error.strerror}") from error
            if not data:
                self._forget(client)
            yield client, found, arrival

    def _receive(self, peer: socket.socket) -> tuple[bytes, int]:
        if not self._stamped:
            return peer.recv(BUFFER), time.time_ns()
        data, extra, _, _ = peer.recvmsg(BUFFER, 64)
        for level, kind, stamp in extra:
            if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMP):
                seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                return data, seconds * 1_000_000_000 + nanoseconds
        return data, time.time_ns()


def request(path: str, port: int) -> bytes:
    """A client's request for a stream."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept: text/event-stream\r\n\r\n".encode()


def ask(port: int, method: str, path: str, patience: float = PATIENCE) -> str:
    """Make a plain request, and return the body of its answer.

    Raises:
        LoadError: no answer, or a status other than 200.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=patience)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"{method} {path} failed: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LoadError(f"{method} {path} was answered {response.status}")
    return body


def check(port: int, count: int = 3) -> None:
    """Read one stream as a client does that takes no short cuts.

    Raises:
        LoadError: it is not a stream of that many events, or `Reader` would count differently.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("GET", f"/stream?count={count}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"its stream failed: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    kind = response.getheader("Content-Type", "")
    if response.status != 200 or not kind.startswith("text/event-stream"):
        raise LoadError(f"its stream was answered with status {response.status} and {kind or 'no content type'}")
    parser = EventStreamParser()
    messages = [*parser.feed(body), *parser.close()]
    if len(messages) != count or any(one.type != "tick" or not one.data.startswith("t=") for one in messages):
        raise LoadError(f"its stream of {count} events has unexpected ones: {messages}")


@cache
def stamps_arrivals() -> bool:
    """Whether the kernel tells when bytes arrived."""
    if sys.platform != "linux" or _TIMESPEC.size != 16:
        return False
    with socket.create_server((HOST, 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()
        with far:
            try:
                near.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
            except OSError:
                return False
            near.settimeout(1)
            for _ in range(20):  # the kernel starts to do so some time after the first socket has asked for it
                far.send(b"x")
                extra = near.recvmsg(1, 64)[1]
                if any((level, kind) == (socket.SOL_SOCKET, _TIMESTAMP) for level, kind, _ in extra):
                    return True
                time.sleep(0.001)
    return False
