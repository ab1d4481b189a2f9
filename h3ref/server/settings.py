"""`Settings`: what a server is told beside its app and its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._core.farewell import encoded_farewell
from .._core.service import Service
from ..flows import check_flow
from ..limits import Limits, check_limits

if TYPE_CHECKING:
    from .._core.exchange import Flow
    from ..adapters.h11_anyio import Server
    from ..adapters.h11_anyio.listeners import Listeners
    from ..app import H3App
    from ..sse import SSEEvent
    from ..trace import Listener


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is told; the arguments of `running` and `serve` explain it.

    Raises:
        TypeError, ValueError: an argument that can't be used.
    """

    flow: Flow | None
    flush_gap: float
    grace: float
    limits: Limits | None
    farewell: SSEEvent | None
    trace: Listener | None

    def __post_init__(self) -> None:
        check_flow(self.flow)
        check_limits(self.limits)
        for name in ("flush_gap", "grace"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be seconds, 0 or more, not {getattr(self, name)!r}")
        encoded_farewell(self.farewell)

    def server(
        self,
        app: H3App,
        listeners: Listeners,
        *,
        accepted: Sequence[Any] | None = None,
        is_one_of_several: bool = False,
    ) -> Server:
        """Make the server, in the event loop that it will run in; it owns what it listens on.

        Args:
            app: the app whose handlers answer.
            listeners: what it listens on.
            accepted: the sockets that it accepts on at first; None for all.
            is_one_of_several: whether other processes serve the same app in the same place.
        """
        from ..adapters.h11_anyio import Server  # here, with h11 and all: under an ASGI server nobody needs it

        service = Service(
            app,
            flow=check_flow(self.flow),
            trace=self.trace,
            limits=self.limits,
            farewell=encoded_farewell(self.farewell),
            is_one_of_several=is_one_of_several,
        )
        return Server(service, listeners, self.flush_gap, accepted)
