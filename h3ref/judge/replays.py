"""Scenes of a log that is read with interruptions, and of keep-alives."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from .scenes import Site, Unplayable, has_messages, playable, scene
from .seen import content_of
from .verdict import Finding, failed, not_run, passed

_READERS, _ROUNDS, _EACH = 3, 4, 15


@dataclass
class _Reader:
    """What one of them has read.

    Attributes:
        ids: in the order in which they came.
        resumed: how often it went on where it had left off.
        evidence: the first bytes that came since then.
    """

    ids: list[int] = field(default_factory=list)
    resumed: int = 0
    evidence: bytes = b""

    @property
    def fault(self) -> str:
        """What is missing, or came twice."""
        for before, after in zip(self.ids, self.ids[1:], strict=False):
            if after > before + 1:
                return f"{after - before - 1} events after {before} are missing"
            if after <= before:
                return f"{after} comes again, after {before}"
        return ""


@scene("C-56")
async def replay(site: Site) -> Finding:
    """Several readers read what is published all the while, break off, and resume."""
    readers = [_Reader() for _ in range(_READERS)]
    refused: list[Finding] = []

    async def read(reader: _Reader) -> None:
        try:
            await _read(site, reader)
        except Unplayable as error:
            refused.append(error.finding)

    with anyio.move_on_after(site.wait * 0.8):
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(read, reader)
    if refused:
        return refused[0]
    for reader in readers:
        if reader.fault:
            return failed(reader.fault, reader.evidence)
    if not sum(reader.resumed for reader in readers):
        return not_run("nobody could go on: no events with whole numbers as ids came")
    events, times = sum(len(reader.ids) for reader in readers), sum(reader.resumed for reader in readers)
    return passed(f"{events} events, gone on with {times} times, none missing and none twice")


async def _read(site: Site, reader: _Reader) -> None:
    for turn in range(_ROUNDS):
        known = (("Last-Event-ID", str(reader.ids[-1])),) if reader.ids else ()
        async with site.opened("/log", *known) as (line, reply):
            await line.read(reply, has_messages(_EACH + turn), site.wait / 2)
            playable(reply, "/log")
        ids = [message.last_event_id for _, message in content_of(reply).messages]
        if not all(id.isdigit() for id in ids):
            return
        if reader.ids and not reader.fault:
            reader.resumed += 1
            reader.evidence = bytes(reply.body[:160])
        reader.ids += map(int, ids)


@scene("C-57")
async def keep_alives(site: Site) -> Finding:
    """A silent stream gets them, and a busy one needs none."""
    async with site.opened("/quiet") as (line, reply):
        await line.read(reply, lambda reply: bool(content_of(reply).comments), site.wait * 0.6)
        playable(reply, "/quiet")
        if not content_of(reply).comments:
            return failed(f"no keep-alive in {site.wait * 0.6:g} s of silence", reply.raw[-80:])
    busy = playable(await site.get("/busy"), "/busy")
    comments = content_of(busy).comments
    if len(comments) > 1:
        return failed(f"{len(comments)} keep-alives between events that come all the while", bytes(busy.body[:200]))
    return passed("one that is silent gets them, and one that sends does not")
