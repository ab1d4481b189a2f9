"""`judge_contract`: judges an app with the routes of spec/formats.md, as no stranger's server may be judged.

Each check is a scene. Those that only look are played together, a few at a time; those that strain the server come
after them, one by one, and the one that ends it is the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import anyio

from . import endings as endings  # these register their scenes
from . import injections as injections
from . import openings as openings
from . import pressure as pressure
from . import replays as replays
from . import requests as requests
from .catalogue import Check
from .scenes import SCENES, Site, Unplayable
from .verdict import Finding, Tell, Verdict, failed, not_run
from .wire import Target, Unreachable

AT_ONCE: Final = 4
"""Scenes that are played together, each on three connections at most."""

STRAINING: Final = ("C-46", "C-47", "C-59", "C-51", "C-58")
"""Scenes that are played alone, in this order."""

SHARES: Final = 4 + len(STRAINING)
"""Parts that the time is cut into: three to begin the scenes that look, one for the last of them, and one for each that
strains."""

NOTICE: Final = (
    "this strains the server: readers that read nothing, an event without an end, requests that stop in the middle, "
    "and at last a POST to /shutdown, which ends it"
)


async def judge_contract(target: Target, checks: Sequence[Check], tell: Tell, *, seconds: float = 60.0) -> None:
    """Judge an app with the contract's routes.

    Args:
        target: their root.
        checks: of the group contract, those that are wanted.
        tell: is called with each verdict.
        seconds: how long it may take in all.

    Raises:
        Unreachable: no connection can be had at all.
    """
    site = Site(target, seconds / SHARES)
    async with site.lines.line():  # whether there is somebody
        pass
    looking = anyio.current_time() + seconds * 3 / SHARES
    at_once = anyio.Semaphore(AT_ONCE)

    async def play(check: Check) -> None:
        async with at_once:
            tell(Verdict(check, await _found(check, site, looking)))

    async with anyio.create_task_group() as tasks:
        for check in checks:
            if check.id not in STRAINING:
                tasks.start_soon(play, check)
    wanted = {check.id: check for check in checks}
    for id in STRAINING:
        if id in wanted:
            tell(Verdict(wanted[id], await _found(wanted[id], site)))


async def _found(check: Check, site: Site, until: float = math.inf) -> Finding:
    """Play a scene, if there is still time for it."""
    if anyio.current_time() >= until:
        return not_run("the time was up before")
    try:
        with anyio.move_on_after(site.wait):
            return await SCENES[check.id](site)
    except Unplayable as error:
        return error.finding
    except Unreachable as error:
        return failed(f"the server takes no connection any more: {error}")
    return failed(f"not done in {site.wait:g} s")
