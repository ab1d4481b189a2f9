"""`Frame`: what all columns show at one place of the slider. Columns stay in step while they do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from h3ref import trace
from h3ref.trace import Record

from .columns import Row

SAME_TIME = 0.25
"""Seconds: steps that are no further apart are taken together, on either side."""


@dataclass(frozen=True)
class Moment:
    """One column in one frame.

    Attributes:
        row: the last row that has come; -1 for none.
        waits: whether it stands still while another one goes on.
        state: the state that its exchange is in.
        rejected: the record that the machine rejected in this row, or None.
        time: seconds since its first record; where it waits, the time of those that go on.
        silence: seconds since its client last had something, until its stream was closed; None before a head.
        size: bytes that its client has.
        events: events that its client has.
        closed: the reason, once it is closed, else None.
    """

    row: int
    waits: bool
    state: str
    rejected: Record | None
    time: float
    silence: float | None
    size: int
    events: int
    closed: str | None


@dataclass(frozen=True)
class Frame:
    """One place of the slider.

    Attributes:
        moments: of each column.
        parts: whether the columns do different things here, for the first time after they went in step.
    """

    moments: tuple[Moment, ...]
    parts: bool


def frames_of(columns: Sequence[Sequence[Row]]) -> list[Frame]:
    """Return the frames in which one or two columns of rows are shown.

    Two go in step while they do the same. Where they differ, what happens at the same time is still shown together;
    a column whose next step comes later waits.
    """
    places = _in_step(*columns) if len(columns) == 2 else [(at,) for at in range(len(columns[0]))]
    frames: list[Frame] = []
    before: tuple[int, ...] = (-1,) * len(columns)
    same = True
    for now in places:
        time = max(rows[at].time for rows, at, was in zip(columns, now, before, strict=True) if at != was)
        moments = tuple(_moment(rows, at, at == was, time) for rows, at, was in zip(columns, now, before, strict=True))
        still = (
            len({rows[at].key if at != was else () for rows, at, was in zip(columns, now, before, strict=True)}) == 1
        )
        frames.append(Frame(moments, parts=same and not still))
        before, same = now, still
    return frames


def _in_step(left: Sequence[Row], right: Sequence[Row]) -> list[tuple[int, ...]]:
    """For each frame the row that either column has come to."""
    keys = [[row.key for row in rows] for rows in (left, right)]
    blocks = SequenceMatcher(a=keys[0], b=keys[1], autojunk=False).get_matching_blocks()
    pairs = [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]
    pairs = [(a, b) for a, b in pairs if abs(left[a].time - right[b].time) <= SAME_TIME]
    places: list[tuple[int, ...]] = []
    a = b = 0
    for next_a, next_b in [*pairs, (len(left), len(right))]:
        while a < next_a or b < next_b:
            if a < next_a and b < next_b and abs(left[a].time - right[b].time) <= SAME_TIME:
                a, b = a + 1, b + 1
            elif b == next_b or (a < next_a and left[a].time < right[b].time):
                a += 1
            else:
                b += 1
            places.append((a - 1, b - 1))
        if next_a < len(left) and next_b < len(right):
            a, b = a + 1, b + 1
            places.append((a - 1, b - 1))
    return places


def _moment(rows: Sequence[Row], at: int, waits: bool, time: float) -> Moment:
    records = [record for row in rows[: at + 1] for record in row.records]
    row = rows[at] if at >= 0 else None
    last = records[-1] if records else None
    closing = next((known.time for known in rows[: at + 1] if any(one.reason for one in known.records)), None)
    received = [(known.time, record) for known in rows[: at + 1] for record in known.received]
    closed = last.reason if last else None
    now = max(time, row.time) if row else time
    heard = [when for when, _ in received if closing is None or when < closing]
    return Moment(
        row=at,
        waits=waits,
        state=last.after if last else "requested",
        rejected=next((arrow.record for arrow in row.arrows if arrow.record.error), None) if row else None,
        time=now,
        silence=(now if closing is None else closing) - heard[-1] if heard else None,
        size=sum(record.size or 0 for _, record in received),
        events=sum(record.step == trace.EVENT.name for _, record in received),
        closed=closed,
    )
