"""Figures, lifecycles and recordings show themselves in Jupyter."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from h3ref.lifecycle import Lifecycle

from ..recorder import Recording
from .files import png
from .lanes import sequence
from .states import machine
from .streams import timeline

Picture = tuple[bytes, dict[str, int]]


def register(ipython: Any) -> None:
    """Register the formatters on an `InteractiveShell`; a second time changes nothing.

    A picture is a PNG, as wide on the page as it was drawn. The text beside it says the same: of a recording its
    diagram in text, of a diagram what it shows, so that outputs can be compared by their text.
    """
    formatters = ipython.display_formatter.formatters
    formatters["image/png"].for_type(Figure, _picture)
    formatters["image/png"].for_type(Lifecycle, lambda lifecycle: _picture(machine(lifecycle)))
    formatters["image/png"].for_type(Recording, _picture_of_recording)
    formatters["text/plain"].for_type(Figure, lambda figure, printer, cycle: printer.text(_words(figure)))
    formatters["text/plain"].for_type(Recording, lambda recording, printer, cycle: printer.text(str(recording)))


def _picture(figure: Figure) -> Picture:
    width, height = figure.get_size_inches() * figure.dpi
    return png(figure), {"width": round(width), "height": round(height)}


def _picture_of_recording(recording: Recording) -> Picture:
    return _picture(timeline(recording) if len(recording.exchanges) > 1 else sequence(recording))


def _words(figure: Figure) -> str:
    return str(figure.get_label()) or repr(figure)
