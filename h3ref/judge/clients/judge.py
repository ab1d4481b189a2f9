"""`judge_client`: holds a client to the checks of the group "client"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from ..catalogue import Check
from ..verdict import Finding, Outcome, Tell, Verdict, failed, not_applicable, not_run, passed
from . import heads, returns
from .heads import Scene
from .parsing import Cases
from .program import Client
from .stage import Fault, Inapplicable, Unjudged, raised
from .vectors import ORDER

LIMIT: Final = 10.0
"""Seconds."""

SILENCE: Final = 6.0
"""Seconds: longer than the 5 s after which some HTTP libraries give up reading."""

AT_ONCE: Final = 4
"""Clients that run at the same time."""

SCENES: Final[dict[str, tuple[Scene, ...]]] = {
    "C-76": (heads.delivers_at_once,),
    "C-77": (heads.delivers_at_the_carriage_return,),
    "C-78": (heads.takes_large_events,),
    "C-79": (heads.takes_many_events,),
    "C-80": (heads.accepts_streams,),
    "C-81": (heads.bypasses_caches,),
    "C-82": (
        heads.takes_type("text/event-stream; charset=utf-8"),
        heads.takes_type("text/event-stream;charset=UTF-8;x=1"),
        heads.takes_type("Text/Event-Stream"),
    ),
    "C-83": (heads.decodes_as_utf8,),
    "C-84": (heads.refuses_other_types,),
    "C-85": (heads.ends_at_204, heads.ends_at_204_later),
    "C-86": (heads.ends_at_404, heads.ends_at_403_with_a_stream),
    "C-87": (heads.ends_at_500, heads.ends_at_503),
    "C-88": tuple(
        heads.redirected(status)
        for status in (
            "301 Moved Permanently",
            "302 Found",
            "303 See Other",
            "307 Temporary Redirect",
            "308 Permanent Redirect",
        )
    ),
    "C-89": (heads.redirected_elsewhere,),
    "C-90": (heads.takes_a_length, heads.takes_a_body_without_framing),
    "C-91": (heads.decompresses_at_once,),
    "C-92": (returns.comes_back,),
    "C-93": (returns.comes_back_after_a_cut,),
    "C-94": (returns.tries_again_without_a_head,),
    "C-95": (
        returns.id_on_return(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", "2", why="it is the id of the last event"),
        returns.id_on_return(b"data: a\n\n", None, why="no event had an id"),
        returns.keeps_the_id,
        returns.brings_the_id_through_a_redirect,
    ),
    "C-96": (
        returns.later_id(b"id: 2\n\n", "2", why="a block without data has an id, too"),
        returns.later_id(b"id\ndata: b\n\n", None, why="an empty id takes it back"),
        returns.later_id(b"id: 2\ndata: b\n", "1", why="the event of id 2 was cut off", cut=True),
    ),
    "C-97": (returns.later_id("id: é€\ndata: b\n\n".encode(), "é€", why="it goes back as UTF-8"),),
    "C-98": (
        returns.waits(b"retry: 400\n\n"),
        returns.waits(b"retry: 400\n\n", b"retry: 1x\n\nretry: -1\n\nretry: 1.5\n\nretry\n\n"),
    ),
    "C-99": (returns.bears_silence,),
    "C-72": (
        returns.forgets(b"event: e\ndata: a\ndata: hal", b"data: b\n\n", "b", why="the block before was cut off"),
        returns.forgets(b"data: \xe2\x82", b"data: b\n\n", "b", why="the character before was cut off"),
        returns.drops_each_bom,
    ),
}
"""The scenes of each check that is no matter of the format; it passes when all do that come to their point."""


class NoClient(Exception):
    """There is nothing to judge: no request came, or the output has no messages."""


async def judge_client(
    client: Client, checks: Sequence[Check], tell: Tell, *, limit: float = LIMIT, silence: float = SILENCE
) -> None:
    """Hold a client to checks.

    Args:
        client: a `Program`, or whatever runs as one.
        checks: those of the group "client" that are wanted.
        tell: is called with each verdict, as soon as it is known.
        limit: the most seconds to wait for anything that the client does.
        silence: seconds for which a quiet stream is quiet.

    Raises:
        NoClient: the client sends no request, or prints something else than messages.
        OSError: it can't be started, or nobody can listen on the loopback interface.
    """
    await _try_out(client, limit)
    places = anyio.CapacityLimiter(AT_ONCE)
    wanted = {check.id: check for check in checks}

    async def play_cases() -> None:
        findings = await Cases(client, limit, places).judge()
        for id in ORDER:
            if id in wanted:
                tell(Verdict(wanted[id], findings[id]))

    async def play_scenes(check: Check) -> None:
        findings = []
        for scene in SCENES[check.id]:
            async with places:
                findings.append(await _played(client, scene, limit, silence))
        tell(Verdict(check, _together(findings)))

    async with anyio.create_task_group() as group:
        if wanted.keys() & set(ORDER):
            group.start_soon(play_cases)
        for id, check in wanted.items():
            if id in SCENES:
                group.start_soon(play_scenes, check)


async def _played(client: Client, scene: Scene, limit: float, silence: float) -> Finding:
    async with raised(client, limit, silence) as stage:
        try:
            await scene(stage)
        except Fault as error:
            return failed(str(error), bytes(stage.transcript))
        except Unjudged as error:
            return not_run(str(error))
        except Inapplicable as error:
            return not_applicable(str(error))
    return passed("")


def _together(findings: Sequence[Finding]) -> Finding:
    """The finding of several scenes: the first that failed, else that one passed."""
    for outcome in (Outcome.FAILED, Outcome.PASSED):
        for found in findings:
            if found.outcome == outcome:
                left = sum(one.outcome == Outcome.NOT_RUN for one in findings)
                scenes = "scene" if len(findings) - left == 1 else "scenes"
                of = f" of {len(findings)}" if left else ""
                return found if found.seen else passed(f"{len(findings) - left}{of} {scenes}")
    return findings[0]


async def _try_out(client: Client, limit: float) -> None:
    async with raised(client, limit) as stage:
        try:
            visit = await stage.visit()
            await visit.open(b"data: hello\n\n")
            await visit.end()
            await stage.message()
            fault = stage.misprint
        except Unjudged as error:
            fault = str(error)
        seen = bytes(stage.transcript).decode(errors="replace")
    if fault:
        raise NoClient(f"{fault}; {seen}")
