"""The pictures of the README and the docs, drawn from recordings of the examples, and from the benchmark's results.

`python -m docs.generate.pictures` draws them again into `docs/pictures/`; a test fails when one of them is not what is
drawn now. The examples run in memory on the virtual clock, so that each run records the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from h3ref import H3App, H3Event, SSEWriter, flows
from h3ref.examples import callback
from h3ref.flows import Flow
from h3ref.lab import diagrams
from h3ref.lab.bench.plots import scaling
from h3ref.lab.bench.results import Results
from h3ref.lab.diagrams.files import svg
from h3ref.lab.diagrams.palette import dark
from h3ref.lab.diagrams.style import Drawing
from h3ref.lab.notebook import in_memory
from h3ref.lab.recorder import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
RESULTS = ROOT / "notebooks" / "results" / "bench.json"


def fixed(event: H3Event) -> None:
    """The handler of `callback.broken`, made right: it says who streams, and returns."""
    event.start_sse()
    event.set_stream_callback(send_two)


async def send_two(writer: SSEWriter) -> None:
    """As in the drawing by hand that this project began with: two events, then the end."""
    for message in callback.EVENTS[:2]:
        await writer.send_event(message)
    await writer.close()


@cache
def record(handler: Callable[[H3Event], Awaitable[None] | None], flow: Flow | None = None) -> Recording:
    """Return the recording of one request that this handler answers."""

    async def run() -> Recording:
        app = H3App()
        app.get("/events", handler)
        return (await in_memory(app, "/events", flow=flow)).recording

    return anyio.run(run)


@cache
def broken_and_fixed() -> tuple[Figure, ...]:
    """The bug beside its fix, each on a sheet of its own, so that a narrow page has one below the other."""
    drawing = diagrams.side_by_side(record(callback.broken, flows.broken), record(fixed))
    assert isinstance(drawing, Drawing)
    return drawing.parts


def the_machine() -> Figure:
    """The state machine."""
    return diagrams.machine()


def the_broken_path() -> Figure:
    """The path of the broken order through the machine, and what was rejected on the way."""
    return diagrams.machine(record(callback.broken, flows.broken))


def grown(quantity: str) -> Figure:
    """What more streams cost, from the results that the page of performance is written from."""
    return scaling(Results.load(RESULTS), section="grow", quantity=quantity)


PICTURES: dict[str, Callable[[], Figure]] = {
    "broken.svg": lambda: broken_and_fixed()[0],
    "broken-path.svg": the_broken_path,
    "fixed.svg": lambda: broken_and_fixed()[1],
    "growth-cpu.svg": partial(grown, "cpu"),
    "growth-p99.svg": partial(grown, "p99"),
    "machine.svg": the_machine,
}

DARK = ("broken.svg", "fixed.svg")
"""Those that the README shows: it can pick a file, where the pages of the site change a drawing's colours."""


def drawn() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file."""
    for name, draw in PICTURES.items():
        text = svg(draw())
        yield name, text
        if name in DARK:
            yield name.replace(".", "-dark."), dark(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures into a folder."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the docs again.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where to (%(default)s)")
    folder: Path = parser.parse_args(arguments).folder
    for name, text in drawn():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
