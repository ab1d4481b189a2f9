"""Plays the format's vectors to a client, and says which check each failure belongs to.

All cases that can follow one another go as one stream, once with each in one piece and once in pieces of one byte. What
fails there is played again, alone, and only that counts: so one case can't spoil the next. A case that needs
something that another check found missing is left out, so that one fault is found once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import anyio

from ..verdict import Finding, failed, not_run, passed
from .program import Client
from .stage import Unjudged, raised
from .vectors import BASIC, ORDER, PIECES, Case, Message, ends, is_mark, joined, load, mark


class Played(NamedTuple):
    """What came of a case.

    Attributes:
        case: the case.
        met: whether the client printed what it must.
        found: what it printed.
        evidence: what was sent and received.
    """

    case: Case
    met: bool
    found: Sequence[Message] = ()
    evidence: bytes = b""


class Cases:
    """Plays the cases to a client.

    Args:
        client: the client.
        limit: the most seconds to wait for anything that it does.
        places: how many clients run at the same time.
    """

    def __init__(self, client: Client, limit: float, places: anyio.CapacityLimiter) -> None:
        self._client = client
        self._limit = limit
        self._places = places

    async def judge(self) -> dict[str, Finding]:
        """Play all cases, and return each check's finding."""
        together, alone = joined(load())
        whole: dict[str, Played] = {}
        pieces: dict[str, Played] = {}
        async with anyio.create_task_group() as group:
            group.start_soon(self._play_stream, together, False, whole)
            group.start_soon(self._play_stream, together, True, pieces)
            for case in alone:
                group.start_soon(self._play_alone, case, False, whole)
        return findings(whole, pieces)

    async def _play_stream(self, cases: Sequence[Case], in_bytes: bool, played: dict[str, Played]) -> None:
        """Play cases in one stream, and those that fail there again."""
        async with self._places, raised(self._client, self._limit) as stage:
            messages: list[Message] = []
            try:
                visit = await stage.visit()
                async with anyio.create_task_group() as group:

                    async def send() -> None:
                        await visit.open()
                        for number, case in enumerate(cases):
                            for chunk in (*_cut(case.stream, in_bytes), mark(number)):
                                await visit.send(chunk)
                        await visit.end()

                    group.start_soon(send)
                    last = len(cases) - 1
                    while (message := await stage.message()) and not is_mark(message, last):
                        messages.append(message)
                    if message:
                        messages.append(message)
                    group.cancel_scope.cancel()
            except Unjudged:
                pass
        doubted = []
        for case, met in zip(cases, _met(cases, messages), strict=True):
            if met:
                played[case.name] = Played(case, True)
            else:
                doubted.append(case)
        async with anyio.create_task_group() as group:
            for case in doubted:
                group.start_soon(self._play_alone, case, in_bytes, played)

    async def _play_alone(self, case: Case, in_bytes: bool, played: dict[str, Played]) -> None:
        """Play a case as a stream of its own."""
        async with self._places, raised(self._client, self._limit) as stage:
            found: list[Message] = []
            try:
                visit = await stage.visit()
                await visit.open(*_cut(case.stream, in_bytes))
                if ends(case):
                    await visit.send(mark(0))
                    await visit.end()
                    while (message := await stage.message()) and not is_mark(message, 0):
                        found.append(message)
                    reached = message is not None
                else:
                    await visit.end()
                    found, reached = await stage.dismiss(), True
            except Unjudged as error:
                reached = False
                stage.transcript.note(str(error))
            if not reached:
                stage.transcript.note("the event that was sent behind it was not printed")
            met = reached and case.is_met_by(found)
            evidence = bytes(stage.transcript)
            played[case.name] = Played(case, met, found, evidence)


def findings(whole: dict[str, Played], pieces: dict[str, Played]) -> dict[str, Finding]:
    """Return each check's finding, from the cases as they are and in pieces of one byte."""
    found: dict[str, Finding] = {}
    missing: set[str] = set()
    for check in ORDER:
        if check == PIECES:
            mine = [one for name, one in pieces.items() if whole[name].met]
        else:
            mine = [one for one in whole.values() if one.case.check == check]
        judged = [one for one in mine if not missing & (one.case.needs - {check})]
        wrong = [one for one in judged if not one.met]
        if wrong:
            missing.add(check)
            first = wrong[0]
            more = f"; {len(wrong)} of {len(judged)} cases" if len(judged) > 1 else ""
            text = f"{first.case.name}: prints {_listed(first.found)}, must print {_listed(first.case.messages)}{more}"
            found[check] = failed(text, first.evidence)
        elif judged:
            found[check] = passed("1 case" if len(judged) == 1 else f"{len(judged)} cases")
        else:
            found[check] = not_run(f"it needs something that {', '.join(sorted(missing)) or BASIC} found missing")
    return found


def _met(cases: Sequence[Case], messages: Sequence[Message]) -> Iterable[bool]:
    """For each case of a stream, whether what came before its mark is what it must lead to."""
    at = 0
    for number, case in enumerate(cases):
        end = next((index for index in range(at, len(messages)) if is_mark(messages[index], number)), None)
        yield end is not None and case.is_met_by(messages[at:end])
        if end is not None:
            at = end + 1


def _cut(stream: bytes, in_bytes: bool) -> Sequence[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))] if in_bytes else [stream]


def _listed(messages: Sequence[Message]) -> str:
    if not messages:
        return "no message"
    return ", ".join(
        f"{one.data[:60]!r}" + (f" of type {one.event[:40]!r}" if one.event != "message" else "")
        + (f" with id {one.id[:40]!r}" if one.id else "")
        for one in messages[:4]
    ) + (f" and {len(messages) - 4} more" if len(messages) > 4 else "")  # fmt: skip
