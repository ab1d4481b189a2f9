"""`ASGIApp`: the entry point that an ASGI server calls (ASGI 3, scopes http and lifespan)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ..._core.failure import sentence_of
from ..._core.farewell import encoded_farewell
from ..._core.parking import LoopValue
from ..._core.service import Service
from ...flows import check_flow
from ...limits import Limits, check_limits
from ...stats import Stats
from .ending import Origin, check_grace
from .messages import Message, Receive, Send
from .transport import ASGILoop, answer

if TYPE_CHECKING:
    from ..._core.exchange import Flow
    from ...app import H3App
    from ...sse import SSEEvent
    from ...trace import Listener


log = logging.getLogger(__name__)

NOT_ENTERED = (
    "the app's lifespan has not been entered, and its requests are answered without it: this server asks for none, "
    "or the app is mounted in another one, in whose lifespan `async with app.lifespan():` enters it"
)


class ASGIApp:
    """An `H3App` as an ASGI 3 application.

    An `H3App` is one by itself; use this class to name a flow, a listener or limits.

    Args:
        app: whose handlers answer.
        flow: None for the default, where what a handler calls picks its flow; or `flows.broken`.
        trace: a listener that gets a `trace.Record` of each step.
        limits: how much is taken on; sockets are the ASGI server's business.
        farewell: an event that open streams get last when the server shuts down; `SSEEvent(retry=...)` tells clients
            when to come back, and nothing else.
        shutdown_grace_period: seconds that open streams get to finish by themselves, when a server that waits for
            them is about to shut down; then each gets its farewell and proper end. A server's own limit may be shorter.

    Raises:
        ValueError, TypeError: a flow that no whole server can use, limits or an event of the wrong type, or a negative
            time.
    """

    def __init__(
        self,
        app: H3App,
        *,
        flow: Flow | None = None,
        trace: Listener | None = None,
        limits: Limits | None = None,
        farewell: SSEEvent | None = None,
        shutdown_grace_period: float = 0.0,
    ) -> None:
        self._app = app
        self._flow = check_flow(flow)
        self._trace = trace
        self._limits = check_limits(limits)
        self._farewell = encoded_farewell(farewell)
        self._grace = check_grace(shutdown_grace_period)
        self._here = LoopValue("h3ref_here", self._made_here)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's lifespan.

        If the server cancels the task, the stream gets its proper end first, and then the cancellation is raised again;
        but not uvicorn's at the end of its graceful shutdown, which only its log would ever see.

        Raises:
            RuntimeError: the scope is neither http nor lifespan.
        """
        here = self._here.get()
        if scope["type"] == "lifespan":
            await here.live(receive, send)
        elif scope["type"] == "http":
            here.look_for_lifespan()
            try:
                await here.answer(scope, receive, send)
            except anyio.get_cancelled_exc_class() as error:
                if "graceful shutdown" not in str(error):
                    raise
                # Uvicorn's own, for a task that is over now: it would log a traceback for each of its streams.
        else:
            raise RuntimeError(
                f"h3ref answers the ASGI scopes http and lifespan, not {scope['type']!r}: "
                "mount an app that answers it beside this one"
            )

    @property
    def service(self) -> Service:
        """What all exchanges in this event loop share."""
        return self._here.get().service

    def stats(self) -> Stats:
        """Return the figures of this event loop as they are now; each worker process has its own."""
        return self.service.stats()

    def _made_here(self) -> _Here:
        service = Service(self._app, flow=self._flow, trace=self._trace, limits=self._limits, farewell=self._farewell)
        return _Here(service, self._grace)


class _Here:
    """An app in one event loop: what its exchanges share, and how many calls are under way."""

    def __init__(self, service: Service, grace: float) -> None:
        self.service = service
        self._grace = grace
        self._loop = ASGILoop(service)
        self._calls = 0
        self._looks_for_lifespan = True  # until the first request, or the server's own question
        self._idle: anyio.Event | None = None  # set when no call is left; made only when a task waits

    def look_for_lifespan(self) -> None:
        """Log once if the app's lifespan has not been entered when the first request comes."""
        if self._looks_for_lifespan:
            self._looks_for_lifespan = False
            if self.service.app.lacks_lifespan:
                log.warning(NOT_ENTERED)

    async def answer(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, and be counted meanwhile."""
        self._calls += 1
        try:
            await answer(self._loop, scope, receive, send, Origin(receive, send, self._grace))
        finally:
            self._calls -= 1
            if not self._calls and self._idle is not None:
                self._idle.set()

    async def live(self, receive: Receive, send: Send) -> None:
        """Enter the app's lifespan; on shutdown, first bring the streams that the server has left open to their end.

        All of this happens in the one task that ASGI has for it.
        """
        self._looks_for_lifespan = False
        asked: str = await self._asked(receive)
        try:
            if asked == "startup":
                async with self.service.app.lifespan():
                    await send({"type": "lifespan.startup.complete"})
                    asked = ""
                    asked = await self._asked(receive)
                    await self._end()
            else:
                await self._end()
        except Exception as error:
            if asked:
                await send({"type": f"lifespan.{asked}.failed", "message": f"the app's {asked}: {sentence_of(error)}"})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    async def _asked(self, receive: Receive) -> str:
        """Wait for what the server asks for next."""
        message = await receive()
        self.service.stopping = message["type"] == "lifespan.shutdown"
        return "shutdown" if self.service.stopping else "startup"

    async def _end(self) -> None:
        """Shut down all that is live, and wait until it is over, at most `close_timeout`."""
        for exchange in list(self.service.live):
            exchange.shut_down()
        if self._calls:
            self._idle = anyio.Event()
            with anyio.move_on_after(self.service.limits.close_timeout):
                await self._idle.wait()
            for exchange in list(self.service.live):
                exchange.abandon()
