"""`Recorder`: keeps the steps of the latest streams, to be found by their request's target."""

from __future__ import annotations

from collections.abc import Collection

from h3ref import trace
from h3ref.trace import Record


class Recorder:
    """A trace listener.

    Args:
        paths: the paths whose exchanges are kept.
        keep: how many exchanges are kept.
    """

    def __init__(self, paths: Collection[str], keep: int = 100) -> None:
        self._paths = paths
        self._keep = keep
        self._targets: dict[str, int] = {}
        self._records: dict[int, list[Record]] = {}

    def __call__(self, record: Record) -> None:
        if record.step == trace.REQUEST.name and record.detail is not None:
            target = record.detail.partition(" ")[2]
            if target.partition("?")[0] in self._paths:
                self._begin(record.exchange, target)
        records = self._records.get(record.exchange)
        if records is not None:
            records.append(record)

    def _begin(self, exchange: int, target: str) -> None:
        if len(self._records) >= self._keep:
            oldest = next(iter(self._records))
            del self._records[oldest]
            self._targets = {target: number for target, number in self._targets.items() if number != oldest}
        self._targets[target] = exchange
        self._records[exchange] = []

    def of(self, target: str) -> list[Record]:
        """Return what was recorded of the latest exchange with this target, so far."""
        return list(self._records.get(self._targets.get(target, -1), ()))
