"""`ChannelStats`: a channel's figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """A channel's figures, as `Channel.stats` reads them; with an engine, those of this process.

    Attributes:
        subscribers: streams that get its events now.
        published: events published so far; with an engine, those of all processes that have reached this one.
        delivered: events given to a stream, summed over all streams so far.
        dropped: events that a stream missed because its reader was too slow, summed likewise.
        disconnected: streams that were ended because their reader was too slow.
        gaps: clients that came with a last event ID that the history does not reach back to; with an engine, also gaps
            that all subscribers were told of.
        largest_lag: bytes that wait for the slowest subscriber now.
        connected: whether the engine can be reached now; None without one.
        resyncs: how often the engine's memory was read, because listening had begun anew or an event was missing.
        rollbacks: how often the engine had lost events that this process has had, as a failover can do.
        fences: marks in the engine's order of events that tell all processes of such a loss.
        errors: requests to the engine that failed, whether they were tried again or not.
    """

    subscribers: int
    published: int
    delivered: int
    dropped: int
    disconnected: int
    gaps: int
    largest_lag: int
    connected: bool | None = None
    resyncs: int = 0
    rollbacks: int = 0
    fences: int = 0
    errors: int = 0
