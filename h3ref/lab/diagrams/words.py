"""A diagram in one line of words: for readers who can't see it, and so that a notebook's text can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from h3ref import trace
from h3ref.lifecycle import State
from h3ref.trace import Record

from .. import story
from .marks import Marks


def of_sequence(records: Sequence[Record], title: str = "") -> str:
    """A sequence diagram in words."""
    request = next((record.detail for record in records if record.step == trace.REQUEST.name and record.detail), "")
    name = ": ".join(filter(None, [title, request]))
    return f"sequence diagram{f' of {name}' if name else ''}: {', '.join(of_exchange(records))}"


def of_exchange(records: Sequence[Record]) -> list[str]:
    """How an exchange went, in a few words each: its states, its events, its rejections, its end."""
    if not records:
        return ["nothing was recorded"]
    states = list(dict.fromkeys([records[0].before, *(record.after for record in records)]))
    told = [" → ".join(states)]
    if events := sum(record.step == trace.EVENT.name for record in records):
        told.append(f"{events} event{'s' if events > 1 else ''}")
    rejected = Counter((record.trigger or record.step, record.error, record.rule) for record in records if record.error)
    for (trigger, error, rule), times in rejected.items():
        told.append(f"{trigger} rejected with {error} ({rule}){f' {times} times' if times > 1 else ''}")
    if any(isinstance(row, story.Remark) and row.text == story.HANGS for row in story.tell(records)):
        told.append("hangs")
    told.append(end_of(records))
    return told


def end_of(records: Sequence[Record]) -> str:
    """How an exchange ended, in a word: why it is closed, or that it is open."""
    last = records[-1]
    if last.after == State.CLOSED:
        return next((record.reason for record in records if record.reason), "closed")
    return f"open, {last.after}"


def of_machine(marks: Marks, title: str = "") -> str:
    """The drawn state machine in words."""
    told = [f"path: {' → '.join(_path(marks))}"] if marks.steps else []
    told += [f"rejected in {state}: {'; '.join(r.words for r in found)}" for state, found in marks.rejected.items()]
    if marks.current is not None:
        told.append(f"{marks.tag}: {marks.current}{f' ({marks.reason})' if marks.reason else ''}")
    name = f"state machine{f' of {title}' if title else ''}"
    return f"{name}: {'; '.join(told) or f'five states, from {State.REQUESTED} to {State.CLOSED}'}"


def _path(marks: Marks) -> list[str]:
    return [f"{trigger} ×{times}" if times > 1 else trigger for _, trigger, times in marks.steps]


def of_timeline(ends: Sequence[str], title: str = "", missed: int = 0) -> str:
    """A timeline in words: how many streams ended in which way, and how many events were missed and sent later."""
    told = [f"{count} {end}" for end, count in Counter(ends).items()] or ["nothing was recorded"]
    told += [f"{missed} missed and sent later"] if missed else []
    name = f"timeline of {len(ends)} exchange{'' if len(ends) == 1 else 's'}{f', {title}' if title else ''}"
    return f"{name}: {'; '.join(told)}"
