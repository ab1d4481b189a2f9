"""The connection state machine: which step may follow which, for one request with its response.

Here a connection is the life of one exchange, as in the specification, and not the `Connection` of the port. It begins
as `requested`. The handler either answers plainly (`send_response`: closed at once) or asks for a stream (`start_sse`).
Then, and only then, the headers may go out (`send_headers`); once they are on their way, and not before, anybody may
have the writer (`get_writer`), and only with the writer can an event be sent: an event that is sent while the head is
still on its way follows it. `close`, `disconnect` and `fail` end it from any state, and the first of them gives the
reason.

The table below is the whole machine. `spec/lifecycle.json` is its normative twin, with a reason for each cell; a test
keeps the two equal, in both directions. A cell is the next state, or the exception that rejects the trigger. Cells are
numbered row by row, which gives each its rule: L-01 is the first cell, L-40 the last.

The table runs on `transitions`, whose vocabulary is known beyond this project: states, events (our triggers), and for
each event a transition from each state. The machine is built at import, from the table alone, and nothing else is asked
when a trigger is pulled. Its `Transition` is extended by the cell, so a rejection is part of the machine just as a next
state is, and is found by the same look-up. Its `Event.trigger` is overridden: the library's own goes through callbacks,
conditions and a queue that no cell has, takes sixty times as long, and rejects with a `MachineError` that knows no
rule.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import transitions
from transitions import Machine

from .errors import (
    ConnectionLost,
    ConnectionNotReady,
    LifecycleError,
    ResponseAlreadySent,
    SSEAlreadyStarted,
    SSENotStarted,
    WriterClosed,
)
from .trace import Listener, Record, Step

log = logging.getLogger(__name__)


class State(StrEnum):
    """The states of a connection."""

    REQUESTED = "requested"
    SSE_STARTED = "sse_started"
    HEADERS_SENT = "headers_sent"
    STREAMING = "streaming"
    CLOSED = "closed"


class Reason(StrEnum):
    """Why a connection is closed."""

    RESPONDED = "responded"
    CLIENT_GONE = "client_gone"
    ERROR = "error"
    COMPLETE = "complete"
    SHUTDOWN = "shutdown"
    SLOW_CONSUMER = "slow_consumer"
    TIMEOUT = "timeout"


Outcome = State | type[LifecycleError]

STARTED, SENT, STREAMING, CLOSED = State.SSE_STARTED, State.HEADERS_SENT, State.STREAMING, State.CLOSED

# fmt: off
_ROWS: dict[str, tuple[Outcome, ...]] = {
    # trigger        requested      sse_started         headers_sent         streaming            closed
    "start_sse":     (STARTED,       SSEAlreadyStarted,  SSEAlreadyStarted,   SSEAlreadyStarted,   ResponseAlreadySent),
    "send_response": (CLOSED,        SSEAlreadyStarted,  SSEAlreadyStarted,   SSEAlreadyStarted,   ResponseAlreadySent),
    "send_headers":  (SSENotStarted, SENT,               ResponseAlreadySent, ResponseAlreadySent, ConnectionLost),
    "get_writer":    (SSENotStarted, ConnectionNotReady, STREAMING,           STREAMING,           ConnectionLost),
    "send_event":    (SSENotStarted, ConnectionNotReady, ConnectionNotReady,  STREAMING,           WriterClosed),
    "close":         (CLOSED,        CLOSED,             CLOSED,              CLOSED,              CLOSED),
    "disconnect":    (CLOSED,        CLOSED,             CLOSED,              CLOSED,              CLOSED),
    "fail":          (CLOSED,        CLOSED,             CLOSED,              CLOSED,              CLOSED),
}
# fmt: on


class Cell(NamedTuple):
    """One cell of the table: the rule's id, and the next state or the exception that rejects."""

    rule: str
    outcome: Outcome


TABLE: dict[tuple[State, str], Cell] = {
    (state, trigger): Cell(f"L-{row * len(State) + column:02}", outcome)
    for row, (trigger, outcomes) in enumerate(_ROWS.items())
    for column, (state, outcome) in enumerate(zip(State, outcomes, strict=True), start=1)
}

TRIGGERS = tuple(_ROWS)

_REASONS = {"send_response": Reason.RESPONDED, "disconnect": Reason.CLIENT_GONE, "fail": Reason.ERROR}
"""The reason that each closing trigger gives; `close` is told one, or means complete."""

_DEFAULTS = {trigger: _REASONS.get(trigger) for trigger in TRIGGERS} | {"close": Reason.COMPLETE}
"""The reason that each trigger gives when it is told none."""

_CLOSE_REASONS = (Reason.COMPLETE, Reason.SHUTDOWN, Reason.SLOW_CONSUMER, Reason.TIMEOUT)


class _Transition(transitions.Transition):
    """A cell of the table. One that rejects leads nowhere: its `dest` is None, which `transitions` calls internal."""

    def __init__(self, source: str, dest: Any, *args: Any, cell: Cell, **kwargs: Any) -> None:
        super().__init__(source, dest, *args, **kwargs)
        self.cell = cell


class _Event(transitions.Event):
    """A trigger: it finds the cell for a lifecycle's state, and does what the cell says."""

    transitions: dict[str, list[_Transition]]  # type: ignore[assignment]  # `_Machine` makes no others

    def trigger(self, model: Any, reason: Reason | None = None) -> bool:
        rule, outcome = self.transitions[model._state][0].cell
        if not isinstance(outcome, State):
            raise outcome(model._state, self.name, rule, model._reason)
        if outcome is CLOSED and model._reason is None:
            model._reason = reason  # before the state, so that nobody sees closed without its reason
        model._state = outcome
        return True


class _Machine(Machine):
    event_cls = _Event
    transition_cls = _Transition


def _build_machine() -> Machine:
    """Build the machine that serves every connection: a trigger costs microseconds, a connection no machine."""
    machine = _Machine(model=None, states=[state.value for state in State], initial=None, auto_transitions=False)
    for (state, trigger), cell in TABLE.items():
        dest = cell.outcome.value if isinstance(cell.outcome, State) else None
        machine.add_transition(trigger, state.value, dest, cell=cell)
    return machine


_MACHINE = _build_machine()


class Lifecycle:
    """The state of one connection. Triggers are atomic: any thread may pull one.

    Args:
        listener: gets a `trace.Record` of each step that is taken through `take`.
        exchange: the number in those records.
        clock: gives their time, in seconds; it is read on the thread that takes the step.
    """

    __slots__ = ("_clock", "_exchange", "_listener", "_lock", "_reason", "_state")

    def __init__(
        self,
        listener: Listener | None = None,
        exchange: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = State.REQUESTED
        self._reason: Reason | None = None
        self._lock = threading.Lock()
        self._listener = listener
        self._exchange = exchange
        self._clock = clock

    @property
    def state(self) -> State:
        """The state now; only a trigger changes it."""
        return self._state

    @property
    def reason(self) -> Reason | None:
        """Why it is closed; None while it is not. The first reason stays."""
        return self._reason

    @property
    def traced(self) -> bool:
        """Whether there is a listener, so that a step's details are worth collecting."""
        return self._listener is not None

    def trigger(self, name: str, reason: str | None = None) -> State:
        """Pull a trigger and return the state it leads to.

        Args:
            name: one of `TRIGGERS`.
            reason: with `close` only: complete (the default), shutdown, slow_consumer or timeout.

        Raises:
            LifecycleError: the table rejects it; the subclass says which kind of rejection it is.
            ValueError: no such trigger, or a reason that this trigger can't give.
        """
        why = _DEFAULTS[name] if reason is None and name in _DEFAULTS else _reason_of(name, reason)
        with self._lock:
            _MACHINE.events[name].trigger(self, why)
            return self._state

    def take(
        self, step: Step, *, reason: str | None = None, size: int | None = None, detail: str | None = None
    ) -> State:
        """Take a step of an exchange: pull its trigger, if it has one, then tell the listener.

        Raises as `trigger` does; a rejected step is recorded too.
        """
        listener = self._listener
        if listener is None:
            if step.trigger is None:
                return self._state
            # As `trigger`, in place: it is done four times for each stream.
            why = _DEFAULTS[step.trigger] if reason is None else _reason_of(step.trigger, reason)
            with self._lock:
                _MACHINE.events[step.trigger].trigger(self, why)
                return self._state
        why = _reason_of(step.trigger, reason) if step.trigger else None
        with self._lock:  # so that the records stand in the order of the triggers
            before, error = self._state, None
            try:
                if step.trigger is not None:
                    _MACHINE.events[step.trigger].trigger(self, why)
                return self._state
            except LifecycleError as rejected:
                error = rejected
                raise
            finally:
                self._tell(listener, step, before, error, size, detail)

    def _tell(
        self,
        listener: Listener,
        step: Step,
        before: State,
        error: LifecycleError | None,
        size: int | None,
        detail: str | None,
    ) -> None:
        record = Record(
            time=self._clock(),
            exchange=self._exchange,
            step=step.name,
            who=step.who,
            to=step.to,
            trigger=step.trigger,
            before=before,
            after=self._state,
            error=type(error).__name__ if error else None,
            rule=error.rule if error else None,
            reason=self._reason,
            size=size,
            detail=detail,
        )
        try:
            listener(record)
        except Exception:
            log.exception("a trace listener raised; the exchange goes on")

    def __repr__(self) -> str:
        why = f", reason={self._reason.value}" if self._reason else ""
        return f"<Lifecycle {self._state.value}{why}>"


def _reason_of(name: str, reason: str | None) -> Reason | None:
    if name not in _DEFAULTS:
        raise ValueError(f"there is no trigger {name!r}: the triggers are {', '.join(TRIGGERS)}")
    if reason is None:
        return _DEFAULTS[name]
    if name != "close":
        raise ValueError(f"{name} gives its own reason, and only close can be told one: leave out {reason!r}")
    if reason not in _CLOSE_REASONS:
        raise ValueError(f"close can't be told {reason!r}: its reasons are {', '.join(_CLOSE_REASONS)}")
    return Reason(reason)
