"""`Options`: the arguments of a channel, checked."""

from __future__ import annotations

from typing import Final, Literal

from ..connection import HIGH_WATER
from ..sse import SSEEvent

Newcomers = Literal["live", "history"]
Policy = Literal["disconnect", "drop", "wait"]

DEFAULT_LIMITS: Final = {"disconnect": 16 * HIGH_WATER, "drop": 16 * HIGH_WATER, "wait": HIGH_WATER}
"""Bytes. Where publishers don't wait, they leave a subscriber time for a burst of events over a slow network."""


class Options:
    """A channel's options; the docstring of `Channel` explains them.

    Attributes:
        mark: bytes that a connection itself may hold: half of the limit, so that something is left to drop.
    """

    def __init__(
        self,
        history: int,
        name: str | None,
        newcomers: Newcomers,
        policy: Policy | None,
        limit: int | None,
        gap: str | None,
        engine: object,
    ) -> None:
        if history < 0:
            raise ValueError(f"history is the number of events to keep, 0 or more, not {history}")
        if newcomers not in ("live", "history"):
            raise ValueError(f'newcomers is "live" or "history", not {newcomers!r}')
        if policy is None:
            policy = "disconnect" if history else "drop"
        if policy not in DEFAULT_LIMITS:
            raise ValueError(f'policy is "disconnect", "drop" or "wait", not {policy!r}')
        if limit is not None and limit < 1:
            raise ValueError(f"limit is the number of bytes that may wait for a subscriber, 1 or more, not {limit}")
        if gap is not None:
            SSEEvent("", event=gap)
        if engine is not None and not name:
            raise ValueError('with an engine a channel needs a name, by which processes share it: name="news"')
        if engine is not None and policy == "wait":
            raise ValueError('with an engine, policy is "disconnect" or "drop": "wait" would stop the whole process')
        self.name = "channel" if name is None else name
        self.newcomers = newcomers
        self.policy = policy
        self.limit = DEFAULT_LIMITS[policy] if limit is None else limit
        self.mark = min(HIGH_WATER, self.limit) if policy == "wait" else max(1, min(HIGH_WATER, self.limit // 2))
        self._gap = gap

    def made_gap(self, last_event_id: str, id: str | None = None) -> bytes | None:
        """The event that says that events are missing after an id; None if none is wanted."""
        return None if self._gap is None else SSEEvent(last_event_id, event=self._gap, id=id).encode()
