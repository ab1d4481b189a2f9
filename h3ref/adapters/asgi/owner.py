"""`Owner`: the request that an `ASGIConnection` belongs to, as the connection sees it."""

from __future__ import annotations

from contextvars import Context
from typing import Protocol

from ...limits import Limits


class Owner(Protocol):
    """The request that a connection belongs to.

    Attributes:
        limits: how long what may last.
        context: the stream's, in which the helper calls the server's `send`.
    """

    limits: Limits
    context: Context

    @property
    def task(self) -> int:
        """The number of the task that streams."""

    @property
    def can_cut(self) -> bool:
        """Whether the server can tell a body without its last message from one with it."""

    def note(self) -> None:
        """The head is about to leave, or has just left."""

    def opened(self) -> None:
        """The head has left."""

    def lost(self) -> None:
        """The server says that the client has left."""
