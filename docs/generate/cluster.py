"""The table of what channels of several processes cost and take, from what `python -m tests.cluster.figures` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from .generated import table


class Row(NamedTuple):
    """A figure: what it says, how it is written, and what was to be reached.

    Attributes:
        title: what it is.
        text: how a value is written.
        reach: the least, or the most, that it should be.
        least: whether it is the least.
    """

    title: str
    text: str
    reach: float
    least: bool = False


ROWS: Final = {
    "latency": Row("process to process, median, beside one process", "+{:.1f} ms", 2),
    "cpu": Row("CPU of a delivery, two processes with 500 streams each, to one with 500", "×{:.2f}", 1.3),
    "publishes": Row("events that a process publishes a second, 50 at once", "{:,.0f}", 2500, least=True),
    "recovery": Row("server ready to event delivered, 95th percentile", "{:.0f} ms", 250),
    "channels": Row("3,000 channels caught up after a cut", "{:.2f} s", 1),
    "server": Row("the server's CPU of an event at 5,000 channels, to one channel", "×{:.2f}", 1.5),
    "failover": Row("failover by three sentinels: longest publish, beyond their `down-after`", "{:.1f} s", 2),
}


class Cluster(NamedTuple):
    """What was measured: each figure of each server and event loop, and on what."""

    about: dict[str, Any]
    figures: dict[str, dict[str, dict[str, float]]]


def load(path: Path) -> Cluster:
    """Read the figures.

    Raises:
        OSError, ValueError: they can't be read, or are of another format.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    try:
        cluster = Cluster(found["about"], found["figures"])
        _ = [one["value"] for name in ROWS for one in cluster.figures[name].values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not the figures that tests.cluster.figures writes: {error!r}") from error
    return cluster


def lines(cluster: Cluster) -> Iterator[str]:
    """The table, and what it was measured on."""
    columns = dict.fromkeys(column for figures in cluster.figures.values() for column in figures)
    rows = []
    for name, row in ROWS.items():
        found = [cluster.figures[name].get(column) for column in columns]
        reach = ("at least " if row.least else "") + row.text.format(row.reach)
        rows.append([row.title, reach, *(row.text.format(one["value"]) if one else "" for one in found)])
    head = ["", "target", *(column.replace("redis", "Redis").replace("valkey", "Valkey") for column in columns)]
    yield from table(head, rows, numbers=True)
    yield ""
    about, machine = cluster.about, cluster.about["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    yield f"Taken on {about['date']} on {machine['processor']}, {machine['cores']} cores, {machine['system']}, with"
    yield f"{machine['python']}, {versions}."
    if (about.get("load") or 0) > machine["cores"]:
        yield f"The machine was busy with other work, too: {about['load']:.0f} wanted its {machine['cores']} cores."
