"""What a lifecycle or a recording marks in the state machine: the state now, the path taken, what was rejected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from h3ref.errors import LifecycleError
from h3ref.lifecycle import Lifecycle, State
from h3ref.trace import Record


@dataclass
class Rejection:
    """A trigger that a state rejected."""

    trigger: str
    error: str
    rule: str
    times: int = 1

    @property
    def words(self) -> str:
        """Both in a line."""
        return f"{self.name}: {self.error} ({self.rule})"

    @property
    def name(self) -> str:
        """The trigger, and how often."""
        return f"{self.trigger} ×{self.times}" if self.times > 1 else self.trigger


@dataclass
class Marks:
    """Marks for the drawn machine and for its Mermaid text.

    Attributes:
        current: the state now, or at the end of the recording; None without any.
        reason: why it is closed.
        tag: the words that stand at it.
        steps: how often each trigger was pulled on the path, one after the other.
        rejected: by the state that rejected.
    """

    current: State | None = None
    reason: str | None = None
    tag: str = "now"
    steps: list[tuple[State, str, int]] = field(default_factory=list)
    rejected: dict[State, list[Rejection]] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Lifecycle | Sequence[Record] | None, rejected: Iterable[LifecycleError]) -> Marks:
        """Read the marks from a lifecycle or the records of one exchange.

        Raises:
            ValueError: the records are of several exchanges, or name a state that does not exist.
        """
        marks = cls()
        if isinstance(subject, Lifecycle):
            marks.current, marks.reason = subject.state, subject.reason
        elif subject is not None:
            marks._follow(subject)
        for error in rejected:
            marks._reject(State(error.state), error.trigger, type(error).__name__, error.rule)
        return marks

    def _follow(self, records: Sequence[Record]) -> None:
        if len({record.exchange for record in records}) > 1:
            raise ValueError("the records belong to several exchanges: draw one at a time")
        self.tag = "here it ends"
        for record in records:
            before, after = State(record.before), State(record.after)
            if record.error:
                self._reject(before, record.trigger or record.step, record.error, record.rule or "")
            elif record.trigger:
                times = 1
                if self.steps and self.steps[-1][:2] == (before, record.trigger):
                    times += self.steps.pop()[2]
                self.steps.append((before, record.trigger, times))
            self.current = after
            self.reason = self.reason or record.reason
        if self.current is not State.CLOSED and records:
            self.tag = "here it stays"

    def _reject(self, state: State, trigger: str, error: str, rule: str) -> None:
        found = self.rejected.setdefault(state, [])
        for rejection in found:
            if (rejection.trigger, rejection.error, rejection.rule) == (trigger, error, rule):
                rejection.times += 1
                return
        found.append(Rejection(trigger, error, rule))

    def numbers(self, state: State, trigger: str) -> str:
        """The places of an edge in the path, such as "4" or "4, 6", or "" when it was not taken."""
        places = [str(place) for place, step in enumerate(self.steps, start=1) if step[:2] == (state, trigger)]
        return ", ".join(places) if len(places) <= 3 else f"{places[0]}, {places[1]} … {places[-1]}"

    def times(self, state: State, trigger: str) -> int:
        """How often an edge was taken in all."""
        return sum(times for *edge, times in self.steps if edge == [state, trigger])
