"""`StreamHost`: what a stream asks of the exchange that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from ..lifecycle import Reason

if TYPE_CHECKING:
    from anyio.lowlevel import EventLoopToken

    from .direct import Running
    from .expiry import Expiry


class StreamHost(Protocol):
    """What a stream asks of the exchange that it belongs to."""

    @property
    def task(self) -> int:
        """The number of the task that answers the request, and streams."""

    @property
    def running(self) -> Running:
        """What streams, as it runs."""

    @property
    def token(self) -> EventLoopToken:
        """The event loop's, for a thread that anyio did not start."""

    @property
    def loop_thread(self) -> int:
        """The thread of the event loop."""

    @property
    def context(self) -> Context:
        """The context in which others start a task for the stream."""

    @property
    def is_one_of_several(self) -> bool:
        """Whether its server's process is one of several that serve the same app."""

    @property
    def uses_thread(self) -> bool:
        """Whether any of its code runs on a worker thread, which can't be cancelled."""

    @property
    def expiry(self) -> Expiry | None:
        """When its permission is over; None if it has no limit."""

    def cancel_from_outside(self) -> None:
        """Cancel the code that streams, unless it makes this call itself."""

    def expire(self) -> None:
        """The stream's permission is over: it gets its last event, and its proper end."""

    def stop(self, reason: Reason) -> None:
        """Close the stream, and cancel the code that streams, even if it makes this call itself."""

    def fail(self, error: Exception) -> None:
        """A step beside what streams has failed: it is cancelled, and the error is reported."""

    def release(self) -> None:
        """The stream's connection has ended, while a thread may never end: give back what is held."""

    def tell_thread_ended(self, call: Callable[[], None]) -> bool:
        """Call a function when the thread that streams has ended, or is left to itself; False if there is none."""
