"""`Story`: what the streams of several processes went through, from a file or live, as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from h3ref import trace

from ..diagrams import timeline
from ..recorder import Recording
from .chart import Process, client_of


@dataclass(frozen=True)
class Story:
    """What happened to several processes, by one clock.

    Attributes:
        processes: with what they have recorded.
        marks: what was done to them, and when.
        heard: what each client has had, in order.
    """

    processes: Sequence[Process]
    marks: Mapping[str, float]
    heard: Mapping[str, Sequence[str]]

    def picture(self) -> Figure:
        """A row for each stream, with its client and its process; plain answers are left out."""
        streams = [
            (exchange, f"{client_of(exchange)} on {process.name}", process.died)
            for process in self.processes
            for exchange in process.recording.exchanges
            if any(record.step == trace.HEADERS.name for record in exchange)
        ]
        streams.sort(key=lambda stream: stream[0][0].time)
        return timeline(
            Recording.merged(exchange for exchange, _, _ in streams),
            names=[name for _, name, _ in streams],
            marks=self.marks,
            killed={number: died for number, (_, _, died) in enumerate(streams, 1) if died < math.inf},
        )

    def save(self, path: str | Path) -> None:
        """Write it to a file, as JSON.

        Raises:
            OSError: the file can't be written.
        """
        processes = [
            {
                "name": process.name,
                "died": process.died if process.died < math.inf else None,
                "recording": process.recording.to_ndjson().splitlines(),
            }
            for process in self.processes
        ]
        text = json.dumps({"marks": self.marks, "heard": self.heard, "processes": processes}, indent=1)
        Path(path).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Story:
        """Read what `save` has written.

        Raises:
            OSError: the file can't be read.
            ValueError: it is none of `save`.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            processes = [
                Process(
                    one["name"],
                    Recording.from_ndjson("\n".join(one["recording"])),
                    math.inf if one["died"] is None else one["died"],
                )
                for one in found["processes"]
            ]
            return cls(processes, found["marks"], found["heard"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: it is not a saved story: {error!r}") from None
