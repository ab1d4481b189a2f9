"""`Endings`: ends the streams of a server that is about to shut down, for which ASGI has no message.

A server that was told to shut down waits for its open responses, and `lifespan.shutdown` comes only after them: an
endless stream would hold it up for ever. So this module reads what the server itself knows, a few times a second while
there are streams. It installs, replaces and patches nothing, and imports nothing from a server. It reads:

- uvicorn: its signal handler is a method of its `Server`, which has `should_exit`; when it shuts down for another
  reason, such as `--limit-max-requests`, none of its sockets listens any more. Under gunicorn, the worker's `alive`.
- uvicorn without its signal handler, as on a thread: `receive` is a method of the request's cycle, whose `keep_alive`
  becomes False when its server shuts down.
- hypercorn: `send` is a method of an object that knows its worker's `terminated`.

Middleware that wraps `receive` and `send` is looked through, as far as what it has wrapped can be seen.
"""

from __future__ import annotations

import logging
import math
import random
import select
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from weakref import WeakSet

import anyio

from ..._core.parking import asyncio_loop
from ...lifecycle import State
from .crowd import Crowd
from .incoming import Incoming

if TYPE_CHECKING:
    import asyncio

    from ..._core.exchange import Exchange
    from ..._core.service import Service

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.25
"""Seconds between two looks: a server whose parent passes a signal on within half a second is over within one."""

ENDS_A_LOOK: Final = 500
"""Streams that are ended together, unless there are too many for `Limits.close_timeout`."""

LOOKED_AT: Final = 200
"""Streams that are looked at each time, out of possibly many more."""

MOST_LAYERS: Final = 64
"""How many callables are looked at on the way from an application to its server."""

_SIGNALS: Final = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]
_HAS_LEFT: Final = getattr(select, "POLLRDHUP", 0)  # there on Linux only


class Origin:
    """Where one request comes from: its server's own objects behind `receive` and `send`.

    Args:
        receive: as the application was called with.
        send: likewise.
        grace: seconds that its stream gets to finish by itself once its server is about to shut down.
    """

    __slots__ = (
        "_cycle",
        "_ends_since",
        "_grace",
        "_has_head",
        "_is_over",
        "_keeps",
        "_receive",
        "_terminated",
        "_ways",
    )

    def __init__(self, receive: Callable[..., Any], send: Callable[..., Any], grace: float = 0.0) -> None:
        self._receive: Callable[..., Any] | None = receive  # until it was followed to a cycle
        self._grace = grace
        self._terminated: Any = None  # hypercorn's event
        self._is_over = False  # whether the server was seen to shut down
        self._has_head = self._keeps = False  # of the cycle, when it was looked at last
        self._ends_since: float | None = None
        self._cycle: Any = None  # uvicorn's of this request
        owner: Any = getattr(receive, "__self__", None)
        if _is_cycle(owner):
            self._cycle, self._receive = owner, None
            self._keeps = bool(owner.keep_alive)
        # Until they were followed to hypercorn's event.
        self._ways: tuple[Callable[..., Any], ...] = (receive, send) if self._cycle is None else ()

    @property
    def server(self) -> object | None:
        """What all requests of one server have in common; None if that can't be seen."""
        return self._terminated if self._cycle is None else getattr(_protocol_of(self._cycle), "server_state", None)

    @property
    def told_by(self) -> object | None:
        """What tells of its end, as of that of other requests with the same one; None if nothing does."""
        return self.server

    def note(self) -> None:
        """Note what the request shows, just before its head is sent, and just after.

        A head that says `Connection: close` makes `keep_alive` False, too. So what changes without a head in between
        tells of the shutdown. This costs next to nothing where no middleware hides the server.
        """
        cycle = self._cycle
        if cycle is None:
            if self._receive is not None:
                self._find_cycle(self._receive)
        elif not self._is_over:
            has_head, keeps = cycle.response_started, cycle.keep_alive
            self._is_over = self._keeps and not keeps and has_head == self._has_head
            self._has_head, self._keeps = has_head, keeps

    @property
    def flow(self) -> Any:
        """Uvicorn's own, whose `write_paused` says whether a message would have to wait; None for another server."""
        if self._cycle is None:
            self.note()
        return getattr(self._cycle, "flow", None)

    def look(self) -> bool:
        """Whether the request itself shows that its server is about to shut down."""
        self.note()
        if self._cycle is None:
            self._find_terminated()
            if self._terminated is not None:
                self._is_over = self._terminated.is_set()
        return self._is_over

    def is_ending(self, servers: Servers) -> bool:
        """Whether the request's server is about to shut down, as far as that can be seen."""
        return self.look() or servers.are_ending(self)

    def has_left(self) -> bool:
        """Whether the client has left, and the stream could not be told.

        Uvicorn reads nothing after a further request, and with httptools it tells that one instead.
        """
        if self._cycle is None:
            return False
        transport = self._cycle.transport
        if transport.is_closing():
            return True
        if getattr(self._cycle, "more_body", True):  # which comes before the client's FIN
            return False
        is_deaf = getattr(getattr(self._cycle, "flow", None), "read_paused", False)
        return is_deaf and _is_left(transport.get_extra_info("socket"))

    def is_due(self, now: float) -> bool:
        """Whether its time to finish by itself is up; that begins with the first such question."""
        if self._ends_since is None:
            self._ends_since = now
        return now - self._ends_since >= self._grace

    def _find_cycle(self, receive: Callable[..., Any]) -> None:
        self._receive = None
        for owner in _owners((receive,), ("_receive", "receive")):
            if _is_cycle(owner):
                self._cycle = owner
                self._has_head, self._keeps = bool(owner.response_started), bool(owner.keep_alive)
                return

    def _find_terminated(self) -> None:
        for owner in _owners(self._ways, ("_receive", "receive", "_send", "send")):
            terminated = getattr(getattr(owner, "context", None), "terminated", None)
            if hasattr(terminated, "is_set"):
                self._terminated = terminated
                break
        self._ways = ()


class Servers:
    """What one event loop's signal handlers tell about the uvicorn servers that run in it.

    A server is remembered once it was seen: its handler may be replaced, and that of the last of several servers hides
    the others.
    """

    def __init__(self) -> None:
        self._seen: WeakSet[Any] = WeakSet()
        self._ending: list[Any] = []

    def __bool__(self) -> bool:
        return bool(self._seen)

    def look(self) -> None:
        """Look at whose handlers are installed, and which of the servers seen so far are about to shut down."""
        loop = asyncio_loop()
        if loop is None:
            return
        for number in _SIGNALS:
            owner = getattr(signal.getsignal(number), "__self__", None)
            if owner is not None and owner not in self._seen and _serves_in(owner, loop):
                self._seen.add(owner)
        self._ending = [server for server in self._seen if _is_ending(server)]

    def are_ending(self, origin: Origin) -> bool:
        """Whether a request's server is about to shut down, as of the last look."""
        if not self._ending:
            return False
        server = origin.server
        if server is None:  # one that is hidden by middleware ends with the only one there is
            return len(self._seen) == len(self._ending)
        return any(getattr(ending, "server_state", None) is server for ending in self._ending)


class Endings:
    """Ends the streams of one service when their server is about to shut down.

    Args:
        service: whose streams they are; their transports have an `origin`.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._servers = Servers()
        self._crowd = Crowd(self._server_of)
        self._ends_a_look = 0  # while streams are ended
        self._failure: Exception | None = None  # the first one, which was logged

    def look(self) -> bool:
        """End the streams whose time has come; return whether any server shows when it shuts down.

        A server's streams all show the same, so only a few are looked at, and all of them once it is about to shut
        down. If there are very many, some, chosen at random, are left to the next looks, so that their clients do not
        come back all at once.
        """
        self._servers.look()
        live = self._service.live
        looked_at = [self._is_ending(exchange) for exchange in self._crowd.take(live, LOOKED_AT)]
        if any(looked_at):
            self._end_those_due(anyio.current_time())
        shows = bool(self._servers) or self._crowd.shows_a_server
        if not shows:
            self._crowd.clear()
        return shows

    def _end_those_due(self, now: float) -> None:
        live = tuple(self._service.live)
        due = [one for one in live if self._is_ending(one) and _origin_of(one).is_due(now)]
        in_time = len(due) * LOOK_EVERY / self._service.limits.close_timeout
        self._ends_a_look = max(self._ends_a_look, ENDS_A_LOOK, math.ceil(in_time)) if due else 0
        for exchange in random.sample(due, min(len(due), self._ends_a_look)):
            exchange.shut_down()

    def _is_ending(self, exchange: Exchange) -> bool:
        """Whether a stream's server is about to shut down; one whose client has left unheard is disconnected here."""
        if exchange.state is State.REQUESTED or exchange.state is State.CLOSED:
            return False
        origin = _origin_of(exchange)
        try:
            if origin.is_ending(self._servers):
                return True
            if origin.has_left():
                incoming = cast(_HasOrigin, exchange.transport).incoming
                if not incoming.client_left():  # which the framework's Request asks, too
                    exchange.disconnect()
        except Exception as error:
            self._note(error)
        return False

    def _server_of(self, exchange: Exchange) -> object | None:
        origin = _origin_of(exchange)
        try:
            origin.look()
            return origin.told_by
        except Exception as error:
            self._note(error)
            return None

    def _note(self, error: Exception) -> None:
        """Log it once: no stream may break because a server is built differently."""
        if self._failure is None:
            self._failure = error
            log.warning("this server does not show when it shuts down, so its streams may hold it up: %r", error)


class _HasOrigin(Protocol):
    origin: Origin
    incoming: Incoming


def _origin_of(exchange: Exchange) -> Origin:
    return cast(_HasOrigin, exchange.transport).origin


# -- what users say of it


def check_grace(seconds: float) -> float:
    """Return a `shutdown_grace_period`.

    Raises:
        ValueError: a negative number.
    """
    if not seconds >= 0:
        raise ValueError(f"shutdown_grace_period must be seconds, 0 or more, not {seconds!r}")
    return seconds


# -- what servers know


def _serves_in(owner: Any, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it is a uvicorn server that serves in this event loop."""
    if not isinstance(getattr(owner, "should_exit", None), bool):
        return False
    return any(listener.get_loop() is loop for listener in getattr(owner, "servers", ()))


def _is_ending(server: Any) -> bool:
    if server.should_exit or not any(listener.is_serving() for listener in server.servers):
        return True
    worker = getattr(getattr(getattr(server, "config", None), "callback_notify", None), "__self__", None)
    return getattr(worker, "alive", True) is False  # gunicorn's, which SIGQUIT has told to shut down


def _is_cycle(owner: Any) -> bool:
    """Whether it is uvicorn's object for a request."""
    return hasattr(owner, "keep_alive") and hasattr(owner, "response_started") and hasattr(owner, "transport")


def _protocol_of(cycle: Any) -> Any:
    get_protocol = getattr(getattr(cycle, "transport", None), "get_protocol", None)
    return None if get_protocol is None else get_protocol()


def _is_left(socket: Any) -> bool:
    if socket is None or not _HAS_LEFT or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), _HAS_LEFT)
    return bool(poll.poll(0))


# -- what middleware has wrapped


def _owners(ways: Iterable[Callable[..., Any]], names: Iterable[str]) -> Iterator[Any]:
    """The objects whose methods are called on the way to the server, its own last; what they hide ends the way.

    Args:
        ways: where to begin.
        names: the attributes in which an object keeps what its method calls.
    """
    left, seen = list(ways), set[int]()
    while left and len(seen) < MOST_LAYERS:
        way = left.pop(0)
        owner = getattr(way, "__self__", None)
        thing = id(way if owner is None else owner)  # a method is a new object each time it is looked up
        if thing in seen or not callable(way):
            continue
        seen.add(thing)
        if isinstance(way, FunctionType):
            left += _enclosed(way)
        elif isinstance(way, partial):
            left += (way.func, *way.args, *way.keywords.values())
        elif owner is not None:
            yield owner
            with suppress(Exception):  # a property that can't be read now
                left += [inner for name in names if (inner := getattr(owner, name, None)) is not None]


def _enclosed(function: FunctionType) -> Iterator[Any]:
    """What a function that receives or sends may call, if it comes from the function around it."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if "receive" in name or "send" in name:
            with suppress(ValueError):  # it has no value yet
                yield cell.cell_contents
