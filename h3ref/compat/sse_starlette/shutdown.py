"""`AppStatus`, by which an application says that its streams are to end, and what looks at it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...adapters.asgi.ending import Origin, Servers


class AppStatus:
    """What all responses of a process look at, a few times a second.

    Attributes:
        should_exit: whether all streams are to end, and those to come with them; set it as you like, on any thread.
        enable_automatic_graceful_drain: whether a stream ends by itself when its server is about to.
    """

    should_exit: bool = False
    enable_automatic_graceful_drain: bool = True

    @staticmethod
    def disable_automatic_graceful_drain() -> None:
        """Let streams be when their server is about to end, until `should_exit` is set: it waits for them."""
        AppStatus.enable_automatic_graceful_drain = False

    @staticmethod
    def enable_automatic_graceful_drain_mode() -> None:
        """Let streams end by themselves again when their server is about to."""
        AppStatus.enable_automatic_graceful_drain = True


class Exit(Origin):
    """What tells of the end of a request's server, `AppStatus` included.

    Args:
        receive: as the application was called with.
        send: likewise.
        grace: seconds that the stream gets to finish by itself.
        event: is set when they begin.
    """

    __slots__ = ("_event",)

    def __init__(
        self, receive: Callable[..., Any], send: Callable[..., Awaitable[None]], grace: float, event: anyio.Event | None
    ) -> None:
        super().__init__(receive, send, grace)
        self._event = event

    @property
    def told_by(self) -> object | None:
        return super().told_by or AppStatus  # whose `should_exit` may be set at any time

    def is_ending(self, servers: Servers) -> bool:
        is_ending = AppStatus.should_exit or (AppStatus.enable_automatic_graceful_drain and super().is_ending(servers))
        if is_ending and self._event is not None:
            self._event.set()
        return is_ending
