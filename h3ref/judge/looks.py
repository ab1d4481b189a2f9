"""`look`: registers functions that judge a check by what was seen of a stream; `judge_by` calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .catalogue import Check
from .seen import Seen
from .verdict import Finding, Verdict, not_run

Judge = Callable[[Seen], Finding]


class Look(NamedTuple):
    """How a check is judged.

    Attributes:
        judge: says what was found.
        needs: the answers that it looks at, as `Seen` names them.
        in_time: whether it may be asked where no head came.
        of_events: whether it looks at the events, so that there have to be some that can be read.
    """

    judge: Judge
    needs: tuple[str, ...]
    in_time: bool
    of_events: bool


LOOKS: Final[dict[str, Look]] = {}


def look(id: str, *needs: str, in_time: bool = False, of_events: bool = False) -> Callable[[Judge], Judge]:
    """Register a function as the judge of a check, and name what it needs besides `main`."""

    def register(judge: Judge) -> Judge:
        LOOKS[id] = Look(judge, ("main", *needs), in_time, of_events)
        return judge

    return register


def judge_by(check: Check, seen: Seen) -> Verdict:
    """Judge a check by what was seen."""
    found = LOOKS[check.id]
    return Verdict(check, _missing(found, seen) or found.judge(seen))


def _missing(found: Look, seen: Seen) -> Finding | None:
    if seen.main is None or (seen.main.head is None and not found.in_time):
        return not_run("no head came")
    for name in found.needs:
        if getattr(seen, name) is None:
            return not_run("the time was up before")
    if not found.of_events:
        return None
    head = seen.main.head
    if head is None or head.status != 200:
        return not_run("there is no stream to look at")
    if seen.content.fault:
        return not_run(seen.content.fault)
    return None
