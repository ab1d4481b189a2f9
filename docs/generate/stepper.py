"""What the site's stepper shows: the bug and its fix, recorded.

`python -m docs.generate.stepper` records them again into `docs/recordings/`: of each what the server traced, as
NDJSON, and the head that its client had. A test fails when they are not what is recorded now. Both run in memory on the
virtual clock, so that each run records the same; the client of the broken one leaves after a minute.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from h3ref import ConnectionNotReady, H3App, H3Event, SSEWriter, flows
from h3ref.flows import Flow
from h3ref.lab.notebook import Run, in_memory
from h3ref.lab.recorder import Recording
from h3ref.lab.stepper import Column, fragment

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "recordings"
SPEC = ROOT / "spec" / "lifecycle.json"


def asks_too_early(event: H3Event) -> None:
    event.start_sse()
    for _ in range(10):
        try:
            # the bug: no connection yet
            writer = event.get_sse_writer()
        except ConnectionNotReady:
            continue
        writer.send_nowait("1")
        return
    log.error("Failed to get SSE writer")


def says_who_writes(event: H3Event) -> None:
    event.start_sse()
    # the fix: name a callback, and return
    event.set_stream_callback(tick)


async def tick(writer: SSEWriter) -> None:
    for number in ("1", "2", "3"):
        await writer.send_event(number)
        await anyio.sleep(1)


SAYS = {
    "broken": "The bug is `writer = event.get_sse_writer()`: it asks before the adapter has made the connection, "
    "and the adapter makes it when the handler has returned. Refused ten times, the handler leaves. Now all is ready, "
    "and nobody is left to write.",
    "fixed": "The fix is `event.set_stream_callback(tick)`: it only says who will write, and the handler returns. "
    "The headers go out, and then `tick` is called with a writer that works.",
}

CODE: dict[str, tuple[Any, ...]] = {"broken": (asks_too_early,), "fixed": (says_who_writes, tick)}
FLOWS: dict[str, Flow | None] = {"broken": flows.broken, "fixed": None}


def record(name: str) -> Run:
    """Return the run of one of the two."""

    async def run() -> Run:
        app = H3App()
        app.get("/events", CODE[name][0])
        return await in_memory(app, "/events", flow=FLOWS[name])

    return anyio.run(run)


def files_of(name: str) -> dict[str, str]:
    """What is written of a run: the files' names and their contents."""
    run = record(name)
    return {f"{name}.ndjson": run.recording.to_ndjson(), f"{name}.head.txt": f"{run.head}\n"}


def site_stepper(rules: str = "") -> str:
    """The stepper of the site, from what is in `docs/recordings/`; rules is the address of the page that has them."""
    columns = [
        Column(
            name,
            Recording.load(FOLDER / f"{name}.ndjson"),
            head=(FOLDER / f"{name}.head.txt").read_text(encoding="utf-8"),
            code=CODE[name],
            says=SAYS[name],
        )
        for name in CODE
    ]
    return fragment(columns, spec=json.loads(SPEC.read_text(encoding="utf-8")), rules=rules)


def main(arguments: Sequence[str] | None = None) -> None:
    """Record both into a folder."""
    parser = argparse.ArgumentParser(description="Record again what the site's stepper shows.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where to (%(default)s)")
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        for file, text in files_of(name).items():
            (folder / file).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
