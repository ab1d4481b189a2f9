"""Diagrams as Mermaid text, which many sites draw inside Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from h3ref.errors import LifecycleError
from h3ref.lifecycle import TABLE, Lifecycle, State
from h3ref.trace import LANES, Record

from .. import story
from ..story import Arrow, Line
from .marks import Marks


def mermaid_machine(
    subject: Lifecycle | Sequence[Record] | None = None,
    *,
    rejected: Iterable[LifecycleError] = (),
    title: str = "",
) -> str:
    """Return the state machine as a Mermaid `stateDiagram-v2`, marked as `machine` marks it.

    Arguments and errors are those of `machine`.
    """
    marks = Marks.of(subject, rejected)
    head = ["---", f"title: {json.dumps(escape(title))}", "---"] if title else []
    lines = [*head, "stateDiagram-v2", "    direction LR", f"    [*] --> {State.REQUESTED}"]
    for (before, after), triggers in _edges():
        words = []
        for trigger in triggers:
            numbers = marks.numbers(before, trigger)
            words.append(f"{numbers}. {trigger}" if numbers else trigger)
        lines.append(f"    {before} --> {after}: {'<br/>'.join(map(escape, words))}")
    lines.append(f"    {State.CLOSED} --> [*]")
    for state, found in marks.rejected.items():
        lines.append(f"    note left of {state}")
        lines += [f"        {escape(rejection.words)}" for rejection in found]
        lines.append("    end note")
    if marks.current is not None:
        why = f": {marks.reason}" if marks.reason else ""
        lines.append("    classDef current stroke-width:4px,font-weight:bold")
        lines.append(f"    class {marks.current} current")
        lines.append(f"    note right of {marks.current}")
        lines.append(f"        {escape(marks.tag + why)}")
        lines.append("    end note")
    return "\n".join(lines) + "\n"


def _edges() -> Iterator[tuple[tuple[State, State], list[str]]]:
    edges: dict[tuple[State, State], list[str]] = {}
    for (state, trigger), cell in TABLE.items():
        if isinstance(cell.outcome, State):
            edges.setdefault((state, cell.outcome), []).append(trigger)
    order = list(State)
    yield from sorted(edges.items(), key=lambda edge: (order.index(edge[0][0]), order.index(edge[0][1])))


def mermaid_sequence(recording: Sequence[Record], *, title: str = "", limit: int | None = None) -> str:
    """Return the steps of one exchange as a Mermaid `sequenceDiagram`.

    Args:
        recording: the records of one exchange.
        title: a heading.
        limit: the most rows, as in `sequence`.

    Raises:
        ValueError: the records are of several exchanges, or one is between lanes that don't exist.
    """
    rows = story.tell(recording, limit=limit)
    lines = ["sequenceDiagram"]
    if title:
        lines.append(f"    title {escape(title)}")
    lines += [f"    participant {lane} as {lane.title()}" for lane in LANES]
    for row in rows:
        if isinstance(row, Line):
            lines += [f"    {_arrow(arrow)}" for arrow in row.arrows]
            if row.too_late:
                lines.append(f"    Note over handler: {escape(' '.join(story.ALREADY_EXITED))}")
                lines.append(f"    Note over adapter: {escape(story.TOO_LATE)}")
        elif row.text == story.CALLBACK:
            lines.append(f"    Note over handler: {escape(row.text)}")
        else:
            lines.append(f"    Note over {LANES[0]},{LANES[-1]}: {escape(row.text)}")
    return "\n".join(lines) + "\n"


def _arrow(arrow: Arrow) -> str:
    record = arrow.record
    head = "--x" if record.error else "->>"
    words = [arrow.words, arrow.note]
    if record.error:
        words.append(f"{record.error} (rule {record.rule}{arrow.often})")
    return f"{record.who}{head}{record.to}: {'<br/>'.join(escape(word) for word in words if word)}"


_SPECIAL = re.compile(r"""[;#"'`<>{}%:\\]|\bend\b|[^\S ]|[\x00-\x1f\x7f]""", re.IGNORECASE)


def escape(text: str) -> str:
    """The text as Mermaid takes it: what means something to it is written as a character's number.

    >>> escape("a; end")
    'a#59; #101;nd'
    """
    return _SPECIAL.sub(_numbered, " ".join(text.split()))


def _numbered(found: re.Match[str]) -> str:
    first, rest = found[0][0], found[0][1:]
    return f"#{ord(first)};{rest}"
