"""The demo of a cluster: its timeline, what it says where a program is missing, and a run of all of it."""

from __future__ import annotations

import math

import pytest

from h3ref import trace
from h3ref.lab.cluster.chart import Process, draw, stays
from h3ref.lab.recorder import Recording
from h3ref.trace import Record, Step


def step(what: Step, exchange: int, at: float, after: str = "streaming", detail: str | None = None) -> Record:
    return Record(
        time=at,
        exchange=exchange,
        step=what.name,
        who=what.who,
        to=what.to,
        trigger=what.trigger,
        before="streaming",
        after=after,
        error=None,
        rule=None,
        reason="shutdown" if after == "closed" else None,
        size=None,
        detail=detail,
    )


def stream(exchange: int, user: str, begin: float, end: float | None, *events: float) -> list[Record]:
    """What a process records of a stream."""
    return [
        step(trace.REQUEST, exchange, begin, detail=f"GET /chat/events?user={user}"),
        step(trace.HEADERS, exchange, begin),
        *(step(trace.EVENT, exchange, at) for at in events),
        *([] if end is None else [step(trace.CLOSES, exchange, end, "closed")]),
    ]


ONE = Process("server 1, worker 1", Recording([*stream(1, "ann", 10, 14, 11, 13), *stream(2, "bob", 10, None, 12)]), 16)
IDLE = Process("server 1, worker 2", Recording([step(trace.REQUEST, 1, 10, detail="POST /chat/send")]))
OTHER = Process("server 2, worker 1", Recording([*stream(1, "ann", 15, None, 19), *stream(2, "bob", 17, 20)]))


def test_a_row_says_which_process_has_the_stream_and_when_events_came() -> None:
    drawn = draw([ONE, IDLE, OTHER], {"server 1 is killed": 14.0, "all is deployed anew": 19.5}, columns=45)
    assert drawn.split("\n") == [
        "     0 s     2 s     4 s     6 s     8 s    10 s",
        "                     ▼ server 1 is killed",
        "                      all is deployed anew ▼",
        "ann  aaaaAaaaaaaaAaaaa···bbbbbbbbbbbbbbbbBbbb",
        "bob  aaaaaaaaAaaaaaaaaaaaaaaaa···bbbbbbbbbbbb",
        "",
        "a  server 1, worker 1",
        "b  server 2, worker 1",
    ]


def test_a_stream_that_nobody_closed_ends_with_its_process() -> None:
    assert [(stay.client, stay.process, stay.end) for stay in stays([ONE, IDLE, OTHER])] == [
        ("ann", 0, 14),
        ("bob", 0, 16),
        ("ann", 2, math.inf),
        ("bob", 2, 20),
    ]


def test_nothing_is_drawn_of_nothing() -> None:
    with pytest.raises(ValueError, match="no stream was recorded"):
        draw([IDLE], {})
