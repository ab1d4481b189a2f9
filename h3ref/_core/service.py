"""`Service`: every adapter's way in, `await service.answer(transport)`, and the way out when a server ends."""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

import anyio

from ..app import H3App
from ..connection import Transport
from ..lifecycle import Reason, State
from ..limits import Limits
from ..stats import Access, Stats
from ..trace import Listener
from .exchange import Exchange, Flow
from .logs import access_log, write_access
from .router import Handler
from .shared import Shared

log = logging.getLogger("h3ref.service")

ENDS_A_SECOND: Final = 2000
"""Streams that a server ends per second while it shuts down, unless there are too many for its grace period."""

ENDS_A_TURN: Final = 16
"""How many of them it ends together."""


class Service(Shared):
    """What all exchanges of one server share, and the way in.

    Args:
        app: whose handlers answer.
        flow: the order of steps; None for the default, where the handler's call picks it.
        trace: a listener that gets a record of each step.
        limits: how much is taken on.
        clock: gives a record its time, in seconds; worker threads read it too.
        farewell: the bytes of an event that a stream gets last when the server shuts down.
        is_one_of_several: whether other processes answer requests for the same app.

    Raises:
        TypeError: `limits` is not a `Limits`.

    Attributes:
        live: the exchanges that are not over.
        streams: the open streams; an adapter runs `streams.run()` beside them, for all that depends on time, such as
            keep-alives.
        refused: how often each limit was the reason to refuse or to cut a client, by its name in `Limits`.
        gather: asks all processes that serve the app for their figures; None, unless this is a worker process.
        stopping: whether a stream that starts now is shut down at once.
        count_connections: returns how many connections there are; None, unless an adapter whose connections are its own
            sets it.
    """

    def __init__(
        self,
        app: H3App,
        *,
        flow: Flow,
        trace: Listener | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        farewell: bytes | None = None,
        is_one_of_several: bool = False,
    ) -> None:
        super().__init__(
            app, trace=trace, limits=limits, clock=clock, farewell=farewell, is_one_of_several=is_one_of_several
        )
        self.flow = flow
        self.live: set[Exchange] = set()
        self._arrivals: dict[Exchange, tuple[str, float]] = {}  # where each comes from, and since when, for the log
        self.count_connections: Callable[[], int] | None = None
        self._count = 0
        self._ignored: dict[str, object] = {}  # names of headers that the log has been told of
        self._closed = Counter({reason: 0 for reason in Reason})
        self._events = self._bytes = 0  # of exchanges that are over

    def answer(self, transport: Transport) -> Coroutine[Any, Any, None]:
        """Answer one request, from its handler to the last byte. Whatever happens in it stays in it."""
        return self.run(self.begin(transport))  # not awaited here: that would take its memory for each stream

    def begin(self, transport: Transport, context: Context | None = None, handler: Handler | None = None) -> Exchange:
        """Begin an exchange, for an adapter that runs it in another task, by `run`: it can be cancelled before that.

        Args:
            transport: the request.
            context: that task's, if it is an asyncio task made for the exchange; else None.
            handler: answers the request in place of the app's routes; None where they do.
        """
        self._count += 1
        return Exchange(self, transport, self._count, context, handler)

    def run(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Answer the request of an exchange that has begun."""
        return exchange.run(self.flow)

    def note_begin(self, exchange: Exchange) -> None:
        self.live.add(exchange)
        if access_log.isEnabledFor(logging.INFO):
            self._arrivals[exchange] = exchange.transport.client, self.clock()  # now: a client that left has no address

    def note_end(self, exchange: Exchange) -> None:
        self.live.discard(exchange)
        reason = exchange.lifecycle.reason
        assert reason is not None, "an exchange that is over is closed"
        self._closed[reason] += 1
        self._events += exchange.event_count
        self._bytes += exchange.byte_count
        if self._arrivals and (arrival := self._arrivals.pop(exchange, None)) is not None:
            client, arrived = arrival
            write_access(exchange.describe(client, self.clock() - arrived))

    def header_ignored(self, name: str) -> None:
        """Log that a header is not sent, once for each name, since most are set on each request; on any thread."""
        said = object()
        if self._ignored.setdefault(name.lower(), said) is said:
            log.warning(
                "header %s is ignored: the server sets what is about the connection; stop setting it (said once)", name
            )

    def log_refusal(self, client: str, status: int, size: int) -> None:
        """Write the access line of a request that an adapter refuses, so that it never becomes an exchange.

        Args:
            client: the client's address, or "".
            status: the status that it is told; 0 for none.
            size: bytes of the answer.
        """
        if access_log.isEnabledFor(logging.INFO):
            write_access(Access(client, "", "", status, "refused", 0, size, 0.0))

    def stats(self) -> Stats:
        """Return the figures as they are now, on any thread; every open stream is asked for its own."""
        live = tuple(self.live)
        return Stats(
            process=os.getpid(),
            connections=None if self.count_connections is None else self.count_connections(),
            exchanges=len(live),
            streams=len(self.streams),
            opened=self._count,
            streams_opened=self.streams.opened,
            closed={reason.value: count for reason, count in self._closed.items()},
            events=self._events + sum(exchange.event_count for exchange in live),
            bytes=self._bytes + sum(exchange.byte_count for exchange in live),
            refused=dict(self.refused),
        )

    async def shut_down(self, within: float) -> None:
        """End all streams, each with its proper end, and refuse those to come; plain handlers go on.

        They end one after another in a random order, in a time that their number decides, so that their clients do not
        come back all at once.

        Args:
            within: the most seconds that this may take.
        """
        self.stopping = True
        streams = [exchange for exchange in self.live if exchange.state is not State.REQUESTED]
        random.shuffle(streams)
        pause = ENDS_A_TURN / max(ENDS_A_SECOND, len(streams) / within if within else math.inf)
        for number, exchange in enumerate(streams, start=1):
            exchange.shut_down()
            if number % ENDS_A_TURN == 0:
                await anyio.sleep(pause)
