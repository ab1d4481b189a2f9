"""The state machine beside two others: `transitions` with a machine for each connection, and a dict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from transitions import Machine, MachineError

from h3ref.errors import LifecycleError
from h3ref.lifecycle import TABLE, TRIGGERS, Lifecycle, State

from .results import Measurement
from .turns import OURS, Run, Tell, in_turns, measurements

PATH: Final = ("start_sse", "send_headers", "get_writer", "close")
"""The triggers of a stream from its request to its end."""

MACHINE_EACH: Final = "transitions, a machine each"
BY_HAND: Final = "a dict, checks nothing else"

CASES: Final = ("new, and the four triggers of a stream", "a trigger that is rejected")

LEGAL: Final = {key: outcome for key, (_, outcome) in TABLE.items() if isinstance(outcome, State)}


class Connection:
    """What `transitions` documents: a model that gets a machine of its own, and methods for its triggers."""

    def __init__(self) -> None:
        self.machine = Machine(self, states=State, transitions=ROWS, initial=State.REQUESTED, auto_transitions=False)


ROWS: Final[list[Any]] = [
    {"trigger": trigger, "source": state, "dest": outcome} for (state, trigger), outcome in LEGAL.items()
]


def ours(count: int) -> tuple[Run, Run]:
    """h3ref's `Lifecycle`."""

    def path() -> int:
        for _ in range(count):
            lifecycle = Lifecycle()
            for name in PATH:
                lifecycle.trigger(name)
        return count

    def rejected() -> int:
        lifecycle, found = Lifecycle(), 0
        for _ in range(count):
            try:
                lifecycle.trigger("get_writer")
            except LifecycleError:
                found += 1
        return found

    return path, rejected


def machine_each(count: int) -> tuple[Run, Run]:
    """A machine for each connection."""

    def path() -> int:
        for _ in range(count):
            connection = Connection()
            for name in PATH:
                getattr(connection, name)()
        return count

    def rejected() -> int:
        connection, found = Connection(), 0
        pull = connection.get_writer  # type: ignore[attr-defined]  # the machine adds it
        for _ in range(count):
            try:
                pull()
            except MachineError:
                found += 1
        return found

    return path, rejected


def by_hand(count: int) -> tuple[Run, Run]:
    """The least there can be: neither atomic nor with a reason or a remedy."""

    def path() -> int:
        for _ in range(count):
            state = State.REQUESTED
            for name in PATH:
                state = LEGAL[state, name]
        return count

    def rejected() -> int:
        found = 0
        for _ in range(count):
            try:
                LEGAL[State.REQUESTED, TRIGGERS[3]]
            except KeyError:
                found += 1
        return found

    return path, rejected


def bench(count: int, rounds: int, tell: Tell) -> Iterator[Measurement]:
    """Time a connection's whole path, and a trigger that is rejected."""
    contenders = {OURS: ours(count), MACHINE_EACH: machine_each(count), BY_HAND: by_hand(count)}
    for number, case in enumerate(CASES):
        tell(case)
        times = in_turns({name: runs[number] for name, runs in contenders.items()}, count, rounds)
        yield from measurements("lifecycle", case, "time", times)
