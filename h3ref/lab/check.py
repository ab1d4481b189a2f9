"""`check` holds a recording against `spec/lifecycle.json`, and names the first record that no legal run contains.

    violation = check(Recording.load("steps.ndjson"))
    print(violation or "every record is one that a legal run may contain")

The rules are data, those of the JSON: the cells (L-01...) say what each trigger does, the orders (T-01...) which steps
stand on which. Nothing here knows a step by name, but for `request`, which begins an exchange.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from h3ref._core.jsons import read_json
from h3ref.trace import REQUEST, Record

_PACKAGED = Path(__file__).with_name("lifecycle.json")  # put there when a wheel is built
_IN_SOURCE = Path(__file__).resolve().parents[2] / "spec" / "lifecycle.json"

_FORMAT = 1
_KINDS = ("after", "each", "not_after", "in", "reasons", "not_reasons", "only")
_ORDER = {"id", "steps", "why"}
_LAWS = ("begins", "continues", "named", "decided", "explained", "ages", "ends")


@dataclass(frozen=True)
class Violation:
    """The first record that no legal run contains, or an exchange that a whole recording leaves open.

    Attributes:
        index: the record's index in the recording; its line in NDJSON is one more.
        record: the record.
        rule: the id of the rule that it breaks.
        problem: what is wrong with it.
        why: the reason that the rule has.
        legal: the steps that could have come here instead.
    """

    index: int
    record: Record
    rule: str
    problem: str
    why: str
    legal: tuple[str, ...]

    @property
    def line(self) -> int:
        """The number of its line in NDJSON."""
        return self.index + 1

    def __str__(self) -> str:
        """All of it, in one line."""
        here = f"legal here: {', '.join(self.legal)}" if self.legal else "nothing may come here"
        record = self.record
        return (
            f"line {self.line}: exchange {record.exchange}, {record.step}: "
            f"{self.problem} ({self.rule}: {self.why}); {here}"
        )


class Rules:
    """What a specification says of recordings.

    Args:
        spec: the content of a lifecycle.json; spec/formats.md describes it.

    Raises:
        ValueError: it is not one, or has a rule that this reader does not know.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        try:
            if spec["format"] != _FORMAT:
                raise ValueError(f"its format is {spec['format']!r}, but this reader knows only {_FORMAT}")
            self.initial: str = spec["initial"]
            self.final: str = spec["final"]
            self.triggers: dict[str, Mapping[str, Any]] = {trigger["name"]: trigger for trigger in spec["triggers"]}
            self.cells: dict[tuple[str, str], Mapping[str, Any]] = {
                (cell["state"], cell["trigger"]): cell for cell in spec["cells"]
            }
            self.states: frozenset[str] = frozenset(state["name"] for state in spec["states"])
            self.steps: dict[str, Mapping[str, Any]] = {step["name"]: step for step in spec["steps"]}
            self.laws: dict[str, Mapping[str, Any]] = {
                order["law"]: order for order in spec["orders"] if "law" in order
            }
            orders = [order for order in spec["orders"] if "law" not in order]
            self.orders: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self.steps}
            for order in orders:
                for name in order["steps"]:
                    self.orders[name].append(order)
            unknown = [
                order["id"] for order in orders if len(kinds := order.keys() - _ORDER) != 1 or not kinds <= {*_KINDS}
            ]
            for rule in [*spec["cells"], *spec["orders"]]:
                _ = rule["id"], rule["why"]
            for step in spec["steps"]:
                _ = step["who"], step["to"], step["trigger"]
            for pair in product(self.states, self.triggers):
                _ = self.cells[pair]
            for law in [order for order in self.laws.values() if order["law"] == "ends"]:
                _ = law["by"], law["reasons"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is not a specification of the lifecycle: {error} is missing or misplaced") from error
        if unknown or set(self.laws) != set(_LAWS):
            raise ValueError(f"its laws must be {', '.join(_LAWS)}, and its orders {', '.join(_KINDS)}: {unknown}")

    def reasons_of(self, trigger: str) -> list[str]:
        """The reasons that a trigger may give."""
        found = self.triggers[trigger]
        told: list[str] = found.get("may_be_told", [])
        return told or ([found["gives"]] if found["gives"] else [])


def load_rules(path: str | Path | None = None) -> Rules:
    """Read a lifecycle.json.

    Args:
        path: the file; None for the one that came with this package.

    Raises:
        OSError: it can't be read.
        ValueError: it is not such a file; the text has its name.
    """
    path = path if path is not None else _PACKAGED if _PACKAGED.exists() else _IN_SOURCE
    try:
        return Rules(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check(records: Iterable[Record], *, whole: bool = False, rules: Rules | None = None) -> Violation | None:
    """Return the first record that no legal run contains; None if there is none.

    Args:
        records: a recording, of one exchange or of several.
        whole: whether the recording goes on to the end, so that an exchange that is still open is a violation too,
            at its last record.
        rules: what to hold it against; the package's own if left out.
    """
    follower = Follower(rules)
    for record in records:
        if violation := follower.take(record):
            return violation
    return follower.hanging() if whole else None


def summary(records: Iterable[Record], *, rules: Rules | None = None) -> str:
    """Say in one line what a legal recording has: exchanges, records, and how the exchanges ended."""
    follower = Follower(rules)
    for record in records:
        if violation := follower.take(record):
            raise ValueError(str(violation))
    return follower.summary


class Follower:
    """Checks records one by one, as they come, also of a server that goes on for weeks.

    Of the exchanges that have ended it knows the latest ones; a record of an older one is found, too, as one that has
    no beginning.

    Args:
        rules: what to hold them against; the package's own if left out.
        keep: how many ended exchanges it remembers.
    """

    def __init__(self, rules: Rules | None = None, *, keep: int = 10_000) -> None:
        self._rules = rules or load_rules()
        self._keep = keep
        self._known: dict[int, _Exchange] = {}
        self._ended: dict[int, None] = {}  # the numbers of those that have, in the order in which they did
        self._before = _Counts()  # of those that are known no more
        self._index = -1

    def take(self, record: Record) -> Violation | None:
        """Check the next record; once one is found that no legal run contains, nothing more can be said."""
        self._index += 1
        number = record.exchange
        if number not in self._known or record.step == REQUEST.name:
            self._forget(number)
            self._known[number] = _Exchange(self._rules)
        exchange = self._known[number]
        if violation := exchange.violation(self._index, record):
            return violation
        exchange.take(self._index, record)
        if exchange.has_ended and number not in self._ended:
            self._ended[number] = None
            if len(self._ended) > self._keep:
                self._forget(next(iter(self._ended)))
        return None

    def _forget(self, number: int) -> None:
        """Keep no more of an exchange than its figures."""
        self._ended.pop(number, None)
        if (exchange := self._known.pop(number, None)) is not None:
            self._before.add(exchange)

    def hanging(self) -> Violation | None:
        """The first exchange that is still open, where nothing more will come; None if all have ended."""
        return next((exchange.hanging() for exchange in self._known.values() if not exchange.has_ended), None)

    @property
    def summary(self) -> str:
        """What has come so far, in one line: exchanges, records, and how the exchanges ended."""
        counts = _Counts(self._before.exchanges, self._before.records, Counter(self._before.ends))
        for exchange in self._known.values():
            counts.add(exchange)
        return str(counts)


@dataclass
class _Counts:
    """Figures of exchanges."""

    exchanges: int = 0
    records: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def add(self, exchange: _Exchange) -> None:
        if exchange.size:
            self.exchanges += 1
            self.records += exchange.size
            self.ends[str(exchange.last.reason) if exchange.has_ended else "still open"] += 1

    def __str__(self) -> str:
        ends = sorted(self.ends.items(), key=lambda item: item[0] == "still open")
        said = ", ".join(f"{count} {end}" for end, count in ends)
        return f"{_some(self.exchanges, 'exchange')}, {_some(self.records, 'record')}{f': {said}' if said else ''}"


class _Exchange:
    """What of one exchange has been seen so far."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._taken: Counter[str] = Counter()  # steps that were not rejected
        self._method = ""
        self._index = 0
        self._last: Record | None = None
        self.size = 0

    def take(self, index: int, record: Record) -> None:
        """Add a record that is legal here."""
        if self._last is None:
            self._method = (record.detail or "").partition(" ")[0]
        if record.error is None:
            self._taken[record.step] += 1
        self.size += 1
        self._index, self._last = index, record

    @property
    def last(self) -> Record:
        """The latest record."""
        assert self._last is not None, "it is begun by a record, which is added"
        return self._last

    @property
    def has_ended(self) -> bool:
        """Whether nothing has to come any more."""
        law = self._rules.laws["ends"]
        return self._count(law["by"]) > 0 or self.last.reason in law["reasons"]

    def hanging(self) -> Violation:
        """What is wrong when the recording of it ends here."""
        law = self._rules.laws["ends"]
        problem = f"the recording ends here, and the exchange is still open, in {self.last.after}"
        return Violation(self._index, self.last, law["id"], problem, law["why"], self._legal())

    def violation(self, index: int, record: Record) -> Violation | None:
        fault = self._fault(record)
        if fault is None:
            return None
        rule, problem = fault
        return Violation(index, record, rule["id"], problem, rule["why"], self._legal())

    def _fault(self, record: Record) -> tuple[Mapping[str, Any], str] | None:
        """The rule that the record breaks here, and how."""
        for law, problem in (
            ("begins", self._beginning(record)),
            ("named", self._naming(record)),
            ("continues", self._continuing(record)),
            ("ages", self._aging(record)),
        ):
            if problem:
                return self._rules.laws[law], problem
        return self._decision(record) or self._explanation(record) or self._order(record)

    # -- the laws

    def _beginning(self, record: Record) -> str:
        if self._last is not None:
            return ""
        if record.step != REQUEST.name:
            return "an exchange begins with request"
        if record.before != self._rules.initial:
            return f"an exchange begins in {self._rules.initial}, not in {record.before}"
        method, space, target = (record.detail or "").partition(" ")
        if not (method and space and target):
            return f"its detail is the method and the target, as in GET /events, not {record.detail!r}"
        return ""

    def _naming(self, record: Record) -> str:
        step = self._rules.steps.get(record.step)
        if step is None:
            return f"there is no step {record.step!r}"
        for name in ("who", "to", "trigger"):
            wanted, found = step[name], getattr(record, name)
            if wanted != found:
                return f"{name} is {wanted or 'absent'} for this step, not {found or 'absent'}"
        return ""

    def _continuing(self, record: Record) -> str:
        if self._last is None or record.before == self.last.after:
            return ""
        return f"before must be {self.last.after}, as after was in {self.last.step}, not {record.before}"

    def _aging(self, record: Record) -> str:
        if self._last is None or record.time >= self.last.time:
            return ""
        return f"time goes back from {self.last.time} to {record.time}"

    def _decision(self, record: Record) -> tuple[Mapping[str, Any], str] | None:
        if record.trigger is None:
            law = self._rules.laws["decided"]
            if record.error or record.rule:
                return (
                    law,
                    f"it pulls no trigger, so nothing can reject it, with {record.error or record.rule} or otherwise",
                )
            if record.after != record.before:
                return law, f"it pulls no trigger, so after must be {record.before}, not {record.after}"
            return None
        cell = self._rules.cells[record.before, record.trigger]
        wanted = (cell.get("next", record.before), cell.get("error"), cell["id"] if "error" in cell else None)
        if (record.after, record.error, record.rule) == wanted:
            return None
        found = f"{record.error} by {record.rule}" if record.error else f"accepted, and leads to {record.after}"
        return cell, f"{record.trigger} in {record.before} {_said(cell)}; here it is {found}"

    def _explanation(self, record: Record) -> tuple[Mapping[str, Any], str] | None:
        law = self._rules.laws["explained"]
        if record.after != self._rules.final:
            return (law, f"{record.after} has no reason, and not {record.reason}") if record.reason else None
        if record.before == self._rules.final:
            kept = self.last.reason
            return None if record.reason == kept else (law, f"the reason stays {kept}, and is not {record.reason}")
        given = self._rules.reasons_of(record.trigger or "")
        if record.reason in given:
            return None
        return law, f"{record.trigger} closes for {' or '.join(given)}, not for {record.reason or 'no reason'}"

    # -- the orders

    def _order(self, record: Record) -> tuple[Mapping[str, Any], str] | None:
        if record.error is not None:  # it was rejected, so it did nothing that could come too early
            return None
        for order in self._rules.orders[record.step]:
            if problem := self._disorder(order, record):
                return order, problem
        return None

    def _disorder(self, order: Mapping[str, Any], record: Record) -> str:
        match order:
            case {"after": names} if not self._count(names):
                return f"it comes after {_or(names)}, and there was none"
            case {"each": names} if self._count(order["steps"]) >= self._count(names):
                number = self._count(names)
                return f"each {_or(names)} allows one {_or(order['steps'])}, and there {_were(number)}"
            case {"not_after": names} if self._count(names):
                came = [name for name in names if self._taken[name]]
                return f"it can't come after {_or(came)}"
            case {"in": states} if record.before not in states:
                return f"it is taken in {_or(states)}, not in {record.before}"
            case {"reasons": reasons} if record.reason not in reasons:
                return f"it is for an exchange that is closed for {_or(reasons)}, not {record.reason or record.after}"
            case {"not_reasons": reasons} if record.reason in reasons:
                return f"it can't come when the exchange is closed for {record.reason}"
            case {"only": {"before": before, "reason": reason, "method": method}}:
                if (record.before, record.reason) == (before, reason) and self._method != method:
                    return f"in {before} an exchange is {reason} for {method} alone, not for {self._method}"
        return ""

    def _count(self, names: Iterable[str]) -> int:
        return sum(self._taken[name] for name in names)

    # -- what could have come

    def _legal(self) -> tuple[str, ...]:
        if self._last is None:
            return (REQUEST.name,)
        names = (name for name in self._rules.steps if name != REQUEST.name)
        return tuple(name for name in names if any(self._fault(record) is None for record in self._candidates(name)))

    def _candidates(self, name: str) -> Iterator[Record]:
        """The records with which the step would be accepted here, as far as the machine is concerned."""
        assert self.last is not None, "the first record is a request"
        step, state = self._rules.steps[name], self.last.after
        record = replace(
            self.last, step=name, who=step["who"], to=step["to"], trigger=step["trigger"], before=state, after=state,
            error=None, rule=None, size=None, detail=None,
        )  # fmt: skip
        if record.trigger is None:
            yield record
            return
        cell = self._rules.cells[state, record.trigger]
        if cell.get("next") == self._rules.final and not cell.get("keeps_reason"):
            for reason in self._rules.reasons_of(record.trigger):
                yield replace(record, after=cell["next"], reason=reason)
        elif "next" in cell:
            yield replace(record, after=cell["next"])


def _said(cell: Mapping[str, Any]) -> str:
    if "error" in cell:
        return f"is rejected: {cell['error']} by {cell['id']}"
    return f"is accepted by {cell['id']}, and leads to {cell['next']}"


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _or(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _were(number: int) -> str:
    return ("was none", "was one, which has had its own")[number] if number < 2 else f"were {number}, which had theirs"
