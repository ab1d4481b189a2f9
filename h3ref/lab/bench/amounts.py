"""`Amounts`: how much of everything a run of the benchmark does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of everything a run does.

    Attributes:
        events, yielding: of the one stream.
        fans: to how many streams.
        deliveries: of each fan-out, all streams together.
        alone, together: requests for a first event, one at a time, or `at_once` at a time.
        silent: streams whose memory is measured.
        paced: streams that get `rate` events a second, for `seconds` seconds.
        few: numbers of streams, each with another rate, for `few_seconds`.
        busy: events a second to as many as `paced`, for as long as those get theirs.
        grown: numbers of streams that together get `steady` deliveries a second, for `lasting` seconds.
        codec, triggers: events or connections in a round of encode, parse and lifecycle.
        rounds: of those.
    """

    events: int = 100_000
    yielding: int = 20_000
    fans: tuple[int, ...] = (100, 500, 2000, 5000)
    deliveries: int = 20_000
    alone: int = 300
    together: int = 500
    at_once: int = 50
    silent: int = 2000
    paced: int = 500
    rate: float = 10.0
    seconds: float = 1.0
    few: tuple[tuple[int, float], ...] = ((20, 50.0), (2, 1000.0), (1, 1000.0))
    few_seconds: float = 0.5
    busy: float = 50.0
    grown: tuple[int, ...] = (100, 500, 1000, 2000, 5000)
    steady: float = 5000.0
    lasting: float = 1.5
    codec: int = 2000
    triggers: int = 500
    rounds: int = 15


FULL: Final = Amounts()
QUICK: Final = Amounts(
    events=5000,
    yielding=3000,
    fans=(100, 500),
    deliveries=4000,
    alone=60,
    together=100,
    silent=300,
    paced=100,
    rate=20.0,
    seconds=0.5,
    grown=(100, 500),
    lasting=0.5,
    codec=400,
    triggers=200,
    rounds=7,
)
LIVE: Final = Amounts(
    fans=(100,),
    deliveries=2000,
    alone=30,
    together=50,
    at_once=25,
    seconds=0.5,
    few=((2, 1000.0),),
)
"""As much as the reader of a notebook waits for, in the sections fanout, first and pace; of `FULL` it has the cases."""
