"""The pictures of the README and the docs, drawn from recordings of the examples, and from the benchmark's results.

`python -m docs.generate.pictures` draws them again into `docs/pictures/`; a test fails when one of them is not what is
drawn now. The examples run in memory on the virtual clock, so that each run records the same.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from h3ref import H3App, H3Event, SSEWriter, flows
from h3ref.examples import callback
from h3ref.flows import Flow
from h3ref.lab import diagrams
from h3ref.lab.bench.plots import ratios, scaling
from h3ref.lab.bench.results import Results
from h3ref.lab.diagrams.files import svg
from h3ref.lab.diagrams.palette import dark
from h3ref.lab.diagrams.style import (
    BOX,
    CARD,
    FAINT,
    PIXELS_PER_INCH,
    SOFT,
    STATE_COLOURS,
    Drawing,
    Sheet,
    plain,
)
from h3ref.lab.notebook import in_memory
from h3ref.lab.recorder import Recording
from h3ref.lifecycle import State

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


CARD_WIDE, CARD_HIGH = 1200, 630
"""Pixels, as those who show links ask for."""


def card() -> bytes:
    """What is shown with a link to the site: its name, what it is for, and the five states."""
    with plain():
        sheet = Sheet(CARD_WIDE, CARD_HIGH, "h3ref")
        sheet.box(0, 0, CARD_WIDE, CARD_HIGH, radius=0)
        sheet.text(80, 150, "h3ref", size=96, weight="Sans-Bold")
        sheet.text(84, 262, "Server-Sent Events for Python, with a lifecycle", size=40, colour=SOFT)
        sheet.text(84, 318, "that can't be run in the wrong order", size=40, colour=SOFT)
        for number, state in enumerate(State):
            x = 80 + 214 * number
            sheet.box(x, 430, 184, 84, fill=BOX, line=FAINT, thick=2, radius=14)
            sheet.box(x + 16, 492, 152, 8, fill=STATE_COLOURS[state], radius=4, order=4)
            sheet.text(x + 92, 462, state, size=22, weight="Sans-Bold", align="center")
            if number:
                sheet.line([(x - 28, 472), (x - 12, 472)], colour=SOFT, thick=3)
                sheet.head(x - 4, 472, "right", colour=SOFT, size=14)
        buffer = io.BytesIO()
        sheet.figure.savefig(buffer, format="png", dpi=PIXELS_PER_INCH, metadata={"Software": "h3ref"})
    return buffer.getvalue()


def favicon() -> str:
    """The five states as strokes, each as high as the stream has come far."""
    strokes = "".join(
        f'<rect x="{5 + 11 * number}" y="{52 - high}" width="8" height="{high}" rx="2" fill="{colour}"/>'
        for number, (colour, high) in enumerate(zip(STATE_COLOURS.values(), (12, 20, 28, 40, 40), strict=True))
    )
    ground = f'<rect width="64" height="64" rx="12" fill="{CARD}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{ground}{strokes}</svg>\n'


PICTURES: dict[str, Callable[[], Figure]] = {
    "broken.svg": lambda: broken_and_fixed()[0],
    "broken-path.svg": the_broken_path,
    "fixed.svg": lambda: broken_and_fixed()[1],
    "growth-cpu.svg": partial(grown, "cpu"),
    "growth-p99.svg": partial(grown, "p99"),
    "machine.svg": the_machine,
    "ratios.svg": lambda: ratios(Results.load(RESULTS)),
}

SITE: dict[str, Callable[[], bytes]] = {
    "card.png": card,
    "favicon.svg": lambda: favicon().encode(),
}
"""What stands for the whole site: where a link to it is passed on, and in a browser's tab."""

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
    for name, draw in SITE.items():
        (folder / name).write_bytes(draw())


if __name__ == "__main__":
    main()
