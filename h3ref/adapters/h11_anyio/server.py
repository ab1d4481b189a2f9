"""`Server`: listens, accepts clients, and ends in order."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import anyio
import h11
from anyio.abc import TaskGroup

from ..._core.lifespan import Held
from ..._core.service import Service
from ...stats import Stats
from .acceptor import Acceptor
from .guard import Head
from .listeners import Listeners
from .loop import Loop
from .peer import ClientConnection
from .sockets import READ_SIZE, bound_silence, send_at_once
from .tasks import Tasks

log = logging.getLogger(__name__)

ASKED_WITHIN = 2.0
"""Seconds in which connected clients may ask and be answered, when another process takes a server's place."""

FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
"""What a client is told when there is no room for it."""


class Server:
    """An app on a port of this machine, or on a socket in its file system, with HTTP/1.1 in the clear.

    Args:
        service: answers requests.
        listeners: what it listens on; closed at the end.
        flush_gap: seconds, as in `Flusher`.
        accepted: the sockets from which it takes connections at first; None for all that it listens on.

    Attributes:
        host: the host that it was told to listen on; "" for a socket in the file system.
        port: the port that it listens on; 0 likewise.
    """

    def __init__(
        self, service: Service, listeners: Listeners, flush_gap: float, accepted: Sequence[socket.socket] | None = None
    ) -> None:
        self._listeners = listeners
        self._accepted = listeners.sockets if accepted is None else accepted
        self._acceptors: dict[socket.socket, Acceptor] = {}
        for listener in listeners:
            bound_silence(listener, service.limits.send_timeout)
            send_at_once(listener)
        self.service = service
        self.host = listeners.host
        self.loop = Loop(flush_gap, service.limits, service.streams.stop)
        self.port = listeners.port
        self._clients: set[ClientConnection] = set()
        service.count_connections = self._clients.__len__
        self._by_address: Counter[str] = Counter()  # empty without a limit for each
        self._changed: anyio.Event | None = None  # set when a client has left or streams; made by whoever waits
        self._tasks: Tasks
        self._group: TaskGroup  # that the acceptors are in

    @property
    def url(self) -> str:
        """The URL for a client on this machine, without a slash at the end; or a socket's path behind "unix:"."""
        return self._listeners.url

    @property
    def is_accepting(self) -> bool:
        """Whether it takes new connections, and further requests on those it has."""
        return bool(self._acceptors)

    @property
    def open_connections(self) -> int:
        """The number of clients that are connected."""
        return len(self._clients)

    def stats(self) -> Stats:
        """Return the figures as they are now."""
        return self.service.stats()

    @asynccontextmanager
    async def serving(self, grace: float, stuck: Callable[[], None]) -> AsyncIterator[None]:
        """Enter the app's lifespan, serve while the body runs, then shut down within `grace` seconds, and leave it.

        `stuck` is called if user code is still running after that, which can't be ended; it is waited for.

        Raises:
            Exception: what the lifespan raised.
        """
        failure: Exception | None = None
        body = anyio.CancelScope()
        try:
            async with Held(self.service.app.lifespan(), body.cancel) as held, anyio.create_task_group() as tasks:
                self._tasks = Tasks(tasks, self._cancel)
                tasks.start_soon(self.loop.run)
                tasks.start_soon(self.service.streams.run)
                self._group = tasks
                self.accept_on(self._accepted)
                try:
                    with body:
                        yield
                except Exception as error:  # carried past the task group, which would wrap it
                    failure = error
                finally:
                    over = anyio.current_time() + grace
                    with anyio.CancelScope(shield=True):
                        await self._shut_down(grace, stuck)
                    held.seconds = max(over - anyio.current_time(), grace * 0.1)
                    self.loop.stop()
                    tasks.cancel_scope.cancel()
        finally:
            self._close_listeners()
            self.loop.watcher.release()
        if failure is not None:
            raise failure

    def accept_on(self, listeners: Iterable[socket.socket]) -> None:
        """Accept connections on these sockets, too, which are among those that it listens on."""
        for listener in listeners:
            if listener not in self._acceptors:
                self._acceptors[listener] = Acceptor(listener, self.loop.watcher, self._begin)
                self._group.start_soon(self._acceptors[listener].run)

    def stop_accepting_on(self, listeners: Iterable[socket.socket]) -> None:
        """Stop accepting connections on these sockets; other processes may go on."""
        for listener in list(listeners):
            if (acceptor := self._acceptors.pop(listener, None)) is not None:
                acceptor.stop()

    async def hand_over(self) -> None:
        """Leave new clients to other processes that listen here; connected ones are answered, if they ask in time.

        A stream that begins is not a lost request, unlike a 503, after which browsers do not come back.
        """
        self.stop_accepting_on(self._acceptors)
        with anyio.move_on_after(ASKED_WITHIN):
            while not all(client.is_streaming for client in self._clients):
                await self._next_change()

    def _begin(self, sock: socket.socket, peer: Any) -> None:
        limits = self.service.limits
        sock.setblocking(False)
        host = peer[0] if isinstance(peer, tuple) else ""  # a socket in the file system knows no address
        if limits.connections is not None and len(self._clients) >= limits.connections:
            self._turn_away(sock, host, "connections")
            return
        address = None
        if host and limits.connections_per_address is not None:
            address = network_of(host)
            if self._by_address[address] >= limits.connections_per_address:
                self._turn_away(sock, host, "connections_per_address")
                return
        try:
            client = ClientConnection(sock, self, address)
        except OSError as error:
            log.debug("a client left at once: %s", error)
            sock.close()
            return
        self._clients.add(client)
        if address is not None:
            self._by_address[address] += 1
        try:
            client.begin()
        except Exception:
            log.exception("serving a connection failed")
            client.release()

    def _turn_away(self, sock: socket.socket, host: str, limit: str) -> None:
        """Say that there is no room, in one packet and without waiting: a storm must not cost more than that."""
        self.service.refused[limit] += 1
        log.debug("a connection was refused: limit %s", limit)
        with suppress(OSError):
            with suppress(BlockingIOError):
                sock.recv(READ_SIZE)  # unread bytes would make closing cost the client the answer
            sock.send(FULL)
        self.service.log_refusal(host, 503, len(FULL))
        sock.close()

    def answer(self, client: ClientConnection, request: Head | h11.RemoteProtocolError) -> None:
        """Start a task that answers a client's request, or refuses it."""
        self._tasks.start(client.serve, request)

    def _cancel(self) -> None:
        for exchange in list(self.service.live):
            exchange.cancel()

    def discard(self, client: ClientConnection) -> None:
        """Note that a client's socket is closed; or that a task is over that had to end after that."""
        if client in self._clients:
            self._clients.discard(client)
            if client.address is not None:
                self._by_address[client.address] -= 1
                if not self._by_address[client.address]:
                    del self._by_address[client.address]
        self.tell_changed()

    def tell_changed(self) -> None:
        """Note that a client has left, or that its stream has begun."""
        if self._changed is not None:
            self._changed.set()

    async def _next_change(self) -> None:
        self._changed = anyio.Event()
        await self._changed.wait()

    async def _shut_down(self, grace: float, stuck: Callable[[], None]) -> None:
        """Accept no more; end the streams; let plain handlers finish; then cut what is left."""
        self.service.stopping = True
        self._close_listeners()
        for client in list(self._clients):
            client.release_if_idle()
        with anyio.move_on_after(grace * 0.8):
            await self.service.shut_down(within=grace * 0.4)
            await self._until_idle()
        if self._is_busy:
            log.warning(
                "%d connections are still open, and %d requests not over, after %g s: they are cut",
                len(self._clients),
                len(self.service.live),
                grace * 0.8,
            )
            for exchange in list(self.service.live):
                exchange.shut_down()
                exchange.abandon(within=grace * 0.1)
            with anyio.move_on_after(grace * 0.1):
                await self._until_idle()
            for client in self._clients:
                client.cut()
            with anyio.move_on_after(grace * 0.1):
                await self._until_idle()
        if self._is_busy:
            stuck()
            await self._until_idle()

    def _close_listeners(self) -> None:
        self.stop_accepting_on(self._acceptors)
        self._listeners.close()

    @property
    def _is_busy(self) -> bool:
        """Whether a client is connected, or something still runs for one that was."""
        return bool(self._clients or self.service.live)

    async def _until_idle(self) -> None:
        while self._is_busy:
            await self._next_change()

    def __repr__(self) -> str:
        return f"<Server {self.url}, {len(self._clients)} connections>"


def network_of(host: str) -> str:
    """What connections are counted by: the address, or for IPv6 its network of 64 bits, since one client has that."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv4Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ip_network((address, 64), strict=False))
