"""`Progress`: tells on stderr what is being measured: a bar by rich if that is installed, otherwise lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress:
    """Told each step as it begins; this one keeps silent."""

    def begin(self, total: int) -> None:
        """Say how many steps will come."""

    def step(self, text: str) -> None:
        """The next step begins."""

    def say(self, text: str) -> None:
        """Something to be seen apart from the steps."""

    def end(self) -> None:
        """No step will come."""


class Lines(Progress):
    """A line for each thing that is measured, without its repetitions and systems: for logs and pipes."""

    def __init__(self) -> None:
        self._last = ""

    def step(self, text: str) -> None:
        what = text.partition(": ")[0]
        if what != self._last and not what.startswith("starting "):
            self.say(what)
        self._last = what

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Drawn(Progress):
    """A bar that is drawn at each step and never between: a thread that draws would disturb what is measured."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._bar: Bar = Progress(
            BarColumn(24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=Console(stderr=True, highlight=False),
            auto_refresh=False,
            transient=True,
        )
        self._task: TaskID | None = None

    def begin(self, total: int) -> None:
        self._bar.start()
        self._task = self._bar.add_task("", total=total)

    def step(self, text: str) -> None:
        if self._task is not None:
            begun = bool(self._bar.tasks[0].description)
            self._bar.update(self._task, description=text, advance=1 if begun else 0, refresh=True)

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False)

    def end(self) -> None:
        self._bar.stop()


def shown() -> Progress:
    """The progress that suits stderr."""
    if not sys.stderr.isatty():
        return Lines()
    try:
        return Drawn()
    except ImportError:
        return Lines()
