"""`Crowd`: a look at few tells of all, and all have their turn."""

from __future__ import annotations

import gc
import math
import weakref
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from h3ref import Limits
from h3ref._core.upkeep import Upkeep
from h3ref.adapters.asgi import clock
from h3ref.adapters.asgi.clock import Clock
from h3ref.adapters.asgi.crowd import Crowd
from h3ref.adapters.asgi.ending import LOOK_EVERY
from h3ref.lifecycle import State

ONE, OTHER = object(), object()


class Exchange:
    """As much of one as a crowd sees."""

    def __init__(self, server: object | None = ONE, state: State = State.STREAMING) -> None:
        self.server = server
        self.state = state


def crowd() -> Crowd:
    return Crowd(lambda exchange: exchange.server)  # type: ignore[attr-defined]


def of(*exchanges: Exchange) -> Any:
    return set(exchanges)


def test_what_is_new_is_looked_at_at_once_and_all_again_when_it_is_their_turn() -> None:
    found = crowd()
    streams = [Exchange() for _ in range(10)]
    assert found.take(of(*streams), 3) == of(*streams)
    seen: list[Any] = []
    for _ in range(4):
        taken = found.take(of(*streams), 3)
        assert 3 <= len(taken) <= 4, "three whose turn it is, and the one that stands for the server"
        seen += taken
    assert set(seen) == of(*streams)


def test_one_of_each_server_is_always_looked_at() -> None:
    found = crowd()
    many, few = [Exchange(ONE) for _ in range(50)], [Exchange(OTHER) for _ in range(2)]
    found.take(of(*many, *few), 1)
    for _ in range(5):
        assert found.take(of(*many, *few), 1) & of(*few)
    for _ in range(5):  # who stood for it has ended
        assert found.take(of(*many, few[1]), 1) >= of(few[1])


def test_what_has_ended_is_forgotten() -> None:
    found = crowd()
    stream = Exchange()
    assert found.take(of(stream), 5) == of(stream)
    assert found.shows_a_server
    assert found.take(of(), 5) == of()
    assert not found.shows_a_server


def test_no_stream_of_an_unfinished_round_is_kept_when_all_have_ended() -> None:
    found = crowd()
    streams = [Exchange() for _ in range(10)]
    found.take(of(*streams), 1)
    found.take(of(*streams), 1)
    kept = [weakref.ref(stream) for stream in streams]
    streams.clear()
    found.take(of(), 1)
    gc.collect()
    assert [stream() for stream in kept] == [None] * 10


def test_a_stream_without_a_head_is_not_looked_at_yet() -> None:
    found = crowd()
    stream = Exchange(state=State.REQUESTED)
    assert found.take(of(stream), 5) == of()
    stream.state = State.SSE_STARTED
    assert found.take(of(stream), 5) == of(stream)


def test_a_server_that_is_not_seen_shows_nothing() -> None:
    found = crowd()
    found.take(of(Exchange(None)), 5)
    assert not found.shows_a_server


def test_a_look_is_no_more_frequent_for_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many times of streams come in between."""
    time = 100.0
    looked: list[float] = []
    rung: list[float] = []

    class Timer:
        def __init__(self, call: Callable[[], None]) -> None:
            self.call, self.when = call, math.inf

        def set(self, when: float) -> None:
            self.when = min(self.when, when)

    class Streams(Upkeep):
        def look(self) -> float:
            looked.append(time)
            return time + 0.01

        def __len__(self) -> int:
            return 1

    def ticked() -> bool:
        rung.append(time)
        return True

    monkeypatch.setattr(clock, "Timer", Timer)
    monkeypatch.setattr(clock, "now", lambda: time)
    one: Any = Clock(Streams(Limits(), Counter()), ticked)
    one.run()
    while time < 101.0:
        time, one._timer.when = one._timer.when, math.inf
        one.run()
        one._timer.call()
    assert len(looked) > 50
    assert [later - earlier for earlier, later in pairwise(rung)] == pytest.approx([LOOK_EVERY] * 3, abs=0.011)
