"""Lets figures, lifecycles and recordings show themselves in Jupyter."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from h3ref.lifecycle import Lifecycle

from ..recorder import Recording
from .files import html
from .lanes import sequence
from .states import machine
from .streams import timeline
from .style import Drawing


def register(ipython: Any) -> None:
    """Register the formatters on an `InteractiveShell`; a second time changes nothing.

    A picture is an image in HTML, as wide on the page as it was drawn, and has a sentence that says what it shows. The
    text beside it says the same: of a recording its diagram in text, of a diagram the sentence, so that outputs can be
    compared by their text.
    """
    formatters = ipython.display_formatter.formatters
    formatters["text/html"].for_type(Figure, html)
    formatters["text/html"].for_type(Drawing, html)
    formatters["text/html"].for_type(Lifecycle, lambda lifecycle: html(machine(lifecycle)))
    formatters["text/html"].for_type(Recording, _picture_of_recording)
    formatters["text/plain"].for_type(Drawing, lambda figure, printer, cycle: printer.text(_words(figure)))
    formatters["text/plain"].for_type(Figure, lambda figure, printer, cycle: printer.text(_words(figure)))
    formatters["text/plain"].for_type(Recording, lambda recording, printer, cycle: printer.text(str(recording)))


def _picture_of_recording(recording: Recording) -> str:
    return html(timeline(recording) if len(recording.exchanges) > 1 else sequence(recording))


def _words(figure: Figure) -> str:
    return str(figure.get_label()) or repr(figure)
