"""`RUNS`: what is verified: each a flow, its surroundings, and the expected verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .spin import MODEL, Verdict, prepared, verify

HANG: Final = "P_nobody_waits"
STARTED: Final = "L_started_streams_or_ends"

FORMULAS: Final = (STARTED, "L_what_streams_ends", "L_who_left_is_let_go")
FLOWS: Final = ("callback", "awaited", "blocking", "broken")
EXCHANGE: Final = "exchange.pml"
ALL_CALLS: Final = ("CALLBACK", "AWAITED", "BLOCKING", "THREAD")


@dataclass(frozen=True)
class Run:
    """One configuration.

    Attributes:
        name: what is around, in a word or two.
        flow: as flows.py names it.
        about: what happens in it, as a phrase.
        around: what the model is to have, as its preprocessor knows it.
        small: the bounds of the part that the tests run.
        full: those of `make model`.
        violates: what does not hold, as expected; None where all does.
        eventually: whether formulas are verified, under weak fairness, and not assertions.
        model: the file that it is verified of.
    """

    name: str
    flow: str
    about: str
    around: tuple[str, ...]
    small: tuple[str, ...]
    full: tuple[str, ...]
    violates: str | None = None
    eventually: bool = False
    model: str = EXCHANGE

    @property
    def in_tests(self) -> bool:
        """Whether the tests run it, with its small bounds."""
        return self.name not in BY_HAND

    def defines(self, *, is_full: bool) -> list[str]:
        """What Spin is given."""
        bounds = self.full if is_full else self.small
        flow = [f"FLOW=flow_{'broken' if self.flow == 'broken' else 'by_handler'}"] if self.model == EXCHANGE else []
        live = ["LIVE"] if self.eventually else []
        return [f"-D{name}" for name in (*flow, *self.around, *live, *bounds)]


def _bounds(calls: int, events: int) -> tuple[str, str]:
    return f"CALLS={calls}", f"EVENTS={events}"


def _flow(name: str, *around: str, violates: str | None = None) -> Iterator[Run]:
    yield Run(name, name, "a client that stays, leaves or stalls", around, _bounds(3, 2), _bounds(4, 3), violates)
    if violates is None:
        yield Run(
            f"{name}, the server ends",
            name,
            "the same, and a shutdown",
            (*around, "STOPS"),
            _bounds(2, 1),
            _bounds(3, 2),
        )
    live = STARTED if violates else None
    yield Run(
        f"{name}, liveness", name, "all three formulas", around, _bounds(2, 1), _bounds(3, 2), live, eventually=True
    )


EXAMPLE: Final = Run(
    "broken, H3Z's example", "broken", "H3Z's own handler, which asks ten times", ("EXAMPLE",), (), (), HANG
)
"""What the counterexample is taken from."""


def _channel(policy: str, about: str) -> Iterator[Run]:
    name, around = f"channel, {policy}", (f"POLICY=of_{policy}",)
    yield Run(name, "channel", about, around, ("EVENTS=3", "HISTORY=1"), ("EVENTS=4",), model="channel.pml")
    closes = (*around, "CLOSES")
    yield Run(
        f"{name}, closes",
        "channel",
        "the same, and the channel closes",
        closes,
        ("EVENTS=2",),
        ("EVENTS=3",),
        model="channel.pml",
    )


def _engine(name: str, about: str, *faults: str) -> Run:
    return Run(f"engine, {name}", "engine", about, faults, ("FAULTS=1",), ("FAULTS=2",), model="engine.pml")


RUNS: Final = (
    *_flow("callback", "CALLBACK"),
    *_flow("awaited", "AWAITED"),
    *_flow("blocking", "BLOCKING", "THREAD"),
    *_flow("broken", "CALLBACK", violates=HANG),
    EXAMPLE,
    Run("any call", "by_handler", "a handler that may call all three", ALL_CALLS, _bounds(3, 1), _bounds(3, 2)),
    Run("HEAD", "by_handler", "the same, for a HEAD request", (*ALL_CALLS, "HEAD"), _bounds(2, 1), _bounds(3, 1)),
    Run(
        "second task",
        "awaited",
        "another task takes the writer first",
        ("AWAITED", "SECOND", "HEAD"),
        _bounds(2, 2),
        _bounds(3, 3),
    ),
    Run(
        "keep-alive",
        "callback",
        "comments between the events",
        ("CALLBACK", "KEEP_ALIVE"),
        _bounds(2, 2),
        _bounds(3, 3),
    ),
    Run("age", "callback", "a limit on the stream's age", ("CALLBACK", "AGE"), _bounds(2, 2), _bounds(3, 3)),
    Run(
        "thread",
        "by_handler",
        "a thread pulls triggers out of order",
        (*ALL_CALLS, "STRANGER"),
        _bounds(2, 1),
        _bounds(3, 1),
    ),
    Run(
        "generator",
        "callback",
        "the server sees a client leave from the request on",
        ("CALLBACK", "GENERATED"),
        _bounds(2, 2),
        _bounds(3, 3),
    ),
    Run(
        "two exchanges",
        "callback",
        "two exchanges share a slot and the shutdown",
        ("CALLBACK", "SLOTS", "STOPS"),
        _bounds(2, 1),
        _bounds(3, 1),
    ),
    *_channel("dropping", "slow subscribers miss the oldest events"),
    *_channel("cutting", "slow subscribers are cut, and come back"),
    *_channel("waiting", "the channel waits for slow subscribers"),
    _engine("cuts", "a process misses messages", "CUTS"),
    _engine("rollbacks", "the engine loses its latest entry, as in a failover", "ROLLBACKS"),
    _engine("flushes", "the engine loses all entries", "FLUSHES"),
    _engine("restarts", "a process restarts, and misses messages", "RESTARTS", "CUTS"),
    Run(
        "engine, retries",
        "engine",
        "an answer is lost, and the latest entry may be, too",
        ("RETRIES", "ROLLBACKS", "FAULTS=2"),
        (),
        (),
        model="engine.pml",
    ),
    _engine("trims", "the engine keeps two entries, and a process misses messages", "CUTS", "KEEP=2"),
)

BY_HAND: Final = {
    *("callback", "awaited, the server ends", "awaited, liveness", "blocking, the server ends", "blocking, liveness"),
    *("broken", "broken, H3Z's example", "age", "generator"),
    *(f"channel, {policy}, closes" for policy in ("dropping", "waiting")),
    *("engine, restarts", "engine, retries", "engine, trims"),
}
"""Runs that are much like others: `make model` does them all, but the tests leave these out, to take under a minute.

H3Z's example has a test of its own, for its path.
"""


def run(one: Run, *, is_full: bool, changed: dict[str, str] | None = None) -> list[Verdict]:
    """Verify one configuration; a verdict, or one for each formula."""
    with prepared(changed) as folder:
        formulas = FORMULAS if one.eventually else ()
        return verify(folder, one.model, one.defines(is_full=is_full), eventually=formulas)


def properties() -> dict[str, Any]:
    """What spec/model/properties.json says of each property, by its id."""
    told = json.loads((MODEL / "properties.json").read_text(encoding="utf-8"))
    return {item["id"]: item for item in told["properties"]}


def is_as_expected(one: Run, verdicts: list[Verdict]) -> bool:
    """Whether a run found what is expected of it, and nothing cut its search short of that."""
    found = [verdict.violated for verdict in verdicts if verdict.violated]
    return found == ([one.violates] if one.violates else []) and all(v.violated or v.is_whole for v in verdicts)
