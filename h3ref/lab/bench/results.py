"""`Results`: what a run found, as plain dataclasses, to JSON and back; `h3ref.lab.bench` explains the format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

SCHEMA: Final = 1

PROBABILITIES: Final = (*(number / 200 for number in range(200)), 0.998, 0.999, 0.9995, 0.9999, 1.0)
"""Where a distribution is kept."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """The quantiles of many delays, all repetitions together.

    Attributes:
        count: how many delays there were.
        given_up: how many requests there were besides, that had no event.
        quantiles: in microseconds, at `PROBABILITIES`; empty when there were no delays.
    """

    count: int
    given_up: int
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, delays: Sequence[float], given_up: int = 0) -> Self:
        """The distribution of these delays, in microseconds."""
        ordered = sorted(delays)
        return cls(len(ordered), given_up, tuple(_quantile(ordered, one) for one in PROBABILITIES) if ordered else ())

    def at(self, probability: float) -> float:
        """The delay that this part of all did not exceed.

        Raises:
            ValueError: there were none.
        """
        if not self.quantiles:
            raise ValueError("no request had an event: there is no delay")
        for low, high in zip(range(len(PROBABILITIES) - 1), range(1, len(PROBABILITIES)), strict=True):
            before, after = PROBABILITIES[low], PROBABILITIES[high]
            if before <= probability <= after:
                part = (probability - before) / (after - before)
                return self.quantiles[low] + part * (self.quantiles[high] - self.quantiles[low])
        raise ValueError(f"a probability is from 0 to 1, not {probability!r}")


def quantile(values: Sequence[float], probability: float) -> float:
    """The value that this part of all does not exceed, between two values as a straight line has it."""
    return _quantile(sorted(values), probability)


def _quantile(ordered: Sequence[float], probability: float) -> float:
    place = probability * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (place - low) * (ordered[high] - ordered[low]), 3)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one system; less is better in all of them.

    Attributes:
        section, case: what was done, such as "fanout" and "500".
        quantity: what was measured of it: "cpu", "instructions", "p50", "p99", "memory" or "time".
        unit: "us", "KB", or "k" for thousands.
        system: of `systems.SYSTEMS`, or in encode, parse and lifecycle a package.
        runs: the figure of each repetition.
        ratios: each divided by the section's base in the same repetition; empty where that has none.
        size: what the case counts, such as 500 streams; 0 when it counts nothing.
        distribution: of delays, where they were taken.
    """

    section: str
    case: str
    quantity: str
    unit: str
    system: str
    runs: tuple[float, ...]
    ratios: tuple[float, ...] = ()
    size: int = 0
    distribution: Distribution | None = None

    @property
    def median(self) -> float | None:
        """The figure to tell; None when no repetition had one."""
        return median(self.runs) if self.runs else None

    @property
    def ratio(self) -> float | None:
        """How many times the base's cost."""
        return median(self.ratios) if self.ratios else None

    @property
    def ratio_spread(self) -> float:
        """How far the middle half of the ratios reaches to either side, as a part of their median."""
        if not any(self.ratios):
            return 0.0
        return (quantile(self.ratios, 0.75) - quantile(self.ratios, 0.25)) / 2 / median(self.ratios)


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, and why."""

    section: str
    case: str
    system: str
    why: str


@dataclass(frozen=True, slots=True)
class SectionNote:
    """What a section is, for readers of its figures; `base` is what the ratios refer to."""

    name: str
    title: str
    work: str
    base: str


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run."""

    date: str
    seconds: float
    quick: bool
    repeat: int
    machine: dict[str, Any]
    versions: dict[str, str]
    titles: dict[str, str]
    sections: tuple[SectionNote, ...]
    measurements: tuple[Measurement, ...]
    missing: dict[str, list[str]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA

    def of(self, section: str, *, case: str | None = None, quantity: str | None = None) -> Iterator[Measurement]:
        """The measurements of a section; of one case and one quantity, if told."""
        for one in self.measurements:
            if one.section == section and case in (None, one.case) and quantity in (None, one.quantity):
                yield one

    def title(self, system: str) -> str:
        """A system's name for people."""
        return self.titles.get(system, system)

    def to_json(self) -> str:
        """The results as JSON, with a line for each measurement."""
        document = asdict(self)
        for measurement in document["measurements"]:
            for key in ("runs", "ratios"):
                measurement[key] = [round(number, 4) for number in measurement[key]]
            measurement |= {"median": _rounded(measurement["runs"]), "ratio": _rounded(measurement["ratios"])}
            if not measurement["size"]:
                del measurement["size"]
            if measurement["distribution"] is None:
                del measurement["distribution"]
        document["probabilities"] = PROBABILITIES
        lines = []
        for key in ("schema", *(key for key in document if key != "schema")):
            value = document[key]
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
                rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in value)
                lines.append(f'  "{key}": [\n{rows}\n  ]')
            else:
                lines.append(f'  "{key}": {json.dumps(value, ensure_ascii=False)}')
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is no JSON, or not of this format.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"not the results of a benchmark, of schema {SCHEMA}")
        if tuple(document.get("probabilities", ())) != PROBABILITIES:
            raise ValueError("its distributions have other probabilities")
        try:
            known = {one.name: document[one.name] for one in fields(cls)}
            known["sections"] = tuple(SectionNote(**one) for one in known["sections"])
            known["failures"] = tuple(Failure(**one) for one in known["failures"])
            known["notes"] = tuple(known["notes"])
            known["measurements"] = tuple(_measurement(one) for one in known["measurements"])
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the results of a benchmark: {type(error).__name__}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the JSON; raises OSError where that can't be."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a file that `save` wrote.

        Raises:
            OSError: it can't be read.
            ValueError: it is not of this format; the text says how.
        """
        return cls.from_json(path.read_text(encoding="utf-8"))


def _measurement(row: dict[str, Any]) -> Measurement:
    row = {key: value for key, value in row.items() if key not in ("median", "ratio")}
    row["runs"], row["ratios"] = tuple(row["runs"]), tuple(row["ratios"])
    if (distribution := row.get("distribution")) is not None:
        row["distribution"] = Distribution(**{**distribution, "quantiles": tuple(distribution["quantiles"])})
    return Measurement(**row)


def _rounded(values: Sequence[float]) -> float | None:
    return round(median(values), 4) if values else None
