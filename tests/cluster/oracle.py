"""The oracle: what publishers were told, held against what readers saw.

An event that was acknowledged is seen by every reader, or a `gap` stands where it would have been; none is seen
twice; one that was refused is seen by nobody; and there is one order, in which all readers see what they see, and in
which the events of each publisher are in the order of its calls.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice, pairwise
from typing import Final


class Gap(Enum):
    """What a reader sees where it is told that events are missing."""

    GAP = "gap"


GAP: Final = Gap.GAP


class Told(Enum):
    """What a publisher is told of an event."""

    ACKNOWLEDGED = "acknowledged"
    UNCERTAIN = "perhaps stored"
    REFUSED = "surely not stored"


@dataclass
class Publisher:
    """One who publishes one event after another.

    Attributes:
        name: in what the oracle says.
        told: each event, by its data, and what is said of it, which is uncertain until then; in the order of the calls.
    """

    name: str
    told: dict[str, Told] = field(default_factory=dict)

    @property
    def acknowledged(self) -> list[str]:
        return [data for data, told in self.told.items() if told is Told.ACKNOWLEDGED]


@dataclass
class Sight:
    """What one reader sees of a channel.

    Attributes:
        name: in what the oracle says.
        seen: the data of each event, and gaps, in the order of their coming.
        owed_from: how many events each publisher had begun to publish when it came: those are not owed to it.
    """

    name: str
    seen: list[str | Gap] = field(default_factory=list)
    owed_from: dict[str, int] = field(default_factory=dict)

    @property
    def gaps(self) -> int:
        return self.seen.count(GAP)

    @property
    def events(self) -> list[str]:
        return [one for one in self.seen if one is not GAP]


def violations(publishers: Iterable[Publisher], readers: Sequence[Sight]) -> list[str]:
    """What does not hold, a sentence each; empty where all does."""
    publishers = list(publishers)
    return [
        *(said for reader in readers for said in _doubled(reader)),
        *(said for reader in readers for said in _unheard_of(publishers, reader)),
        *(said for reader in readers for one in publishers for said in _lost(one, reader)),
        *_disordered(publishers, readers),
    ]


def _doubled(reader: Sight) -> Iterator[str]:
    seen = set()
    for data in reader.events:
        if data in seen:
            yield f"{reader.name} saw {data!r} twice"
        seen.add(data)


def _unheard_of(publishers: list[Publisher], reader: Sight) -> Iterator[str]:
    told = {data: verdict for one in publishers for data, verdict in one.told.items()}
    for data in reader.events:
        if data not in told:
            yield f"{reader.name} saw {data!r}, which nobody has published"
        elif told[data] is Told.REFUSED:
            yield f"{reader.name} saw {data!r}, whose publisher was told that it is not stored"


def _lost(publisher: Publisher, reader: Sight) -> Iterator[str]:
    places = {data: place for place, data in enumerate(reader.seen) if data is not GAP}
    last = -1
    missing: list[str] = []
    for data, told in islice(publisher.told.items(), reader.owed_from.get(publisher.name, 0), None):
        if data in places:
            if missing and GAP not in reader.seen[last + 1 : places[data]]:
                yield _loss(reader, missing, f"before {data!r}")
            last, missing = places[data], []
        elif told is Told.ACKNOWLEDGED:
            missing.append(data)
    if missing and GAP not in reader.seen[last + 1 :]:
        yield _loss(reader, missing, "at the end")


def _loss(reader: Sight, missing: list[str], where: str) -> str:
    which = repr(missing[0]) if len(missing) == 1 else f"{len(missing)} events from {missing[0]!r} to {missing[-1]!r}"
    return f"{reader.name} lost {which} {where}, and no gap says so"


def _disordered(publishers: list[Publisher], readers: Sequence[Sight]) -> Iterator[str]:
    """One order that all of these are part of exists if, and only if, no circle leads back to an event."""
    after: dict[str, set[str]] = {}
    orders = [reader.events for reader in readers] + [publisher.acknowledged for publisher in publishers]
    for order in orders:
        for earlier, later in pairwise(dict.fromkeys(order)):
            after.setdefault(later, set()).add(earlier)
    try:
        graphlib.TopologicalSorter(after).prepare()
    except graphlib.CycleError as error:
        circle = " before ".join(map(repr, error.args[1]))
        yield f"there is no one order: {circle}"
