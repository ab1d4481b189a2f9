"""`AppStatus`, with which an app says that its streams are to end, and the code that watches it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...adapters.asgi.ending import Origin, Servers


class AppStatus:
    """What all responses of a process look at, a few times a second.

    Attributes:
        should_exit: whether all streams are to end, and later ones too; set it as you like, on any thread.
        enable_automatic_graceful_drain: whether a stream ends by itself when its server is about to shut down.
    """

    should_exit: bool = False
    enable_automatic_graceful_drain: bool = True

    @staticmethod
    def disable_automatic_graceful_drain() -> None:
        """Let streams run on when their server is about to shut down, until `should_exit` is set: it waits for them."""
        AppStatus.enable_automatic_graceful_drain = False

    @staticmethod
    def enable_automatic_graceful_drain_mode() -> None:
        """Let streams end by themselves again when their server is about to shut down."""
        AppStatus.enable_automatic_graceful_drain = True


class Exit(Origin):
    """Tells of the end of a request's server; `AppStatus` counts as one.

    Args:
        receive: the app's argument.
        send: likewise.
        grace: seconds that the stream gets to finish by itself.
        event: set when they begin.
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
