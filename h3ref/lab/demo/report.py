"""The printed part of the demo: each flow on the wire, in the log, and step by step."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import anyio

import h3ref
from h3ref import flows, trace
from h3ref.adapters.h11_anyio import Server

from .. import story
from ..log_lines import captured_log
from ..recorder import Recorder
from ..sequence import SIDE_BY_SIDE, beside
from .wire import Arrival, receive

FIXED = ("callback", "awaited", "blocking")
PATHS = ("/broken", *(f"/{name}" for name in FIXED))
SHOWN = ("broken", "callback")
"""The flows that are shown in full."""

PATIENCE = 1.0

_SUMMARY = {
    "broken": "the handler asks for its writer before there is one",
    "callback": "the handler returns, headers go out, then its callback gets the writer",
    "awaited": "the handler is suspended while the headers go out, then gets the writer",
    "blocking": "the handler's thread blocks while the headers go out, then gets the writer",
}
_LINE = re.compile(r".*?(?:\r\n|\n\n)|.+", re.DOTALL)
"""A line of HTTP, or a whole event."""

_STYLES = {"bold": "1", "dim": "2", "bad": "1;31", "good": "1;32"}


class Report:
    """Prints; in colour on a terminal, unless NO_COLOR is set.

    Args:
        everything: whether the bytes and the diagram of each flow are shown, not just those of the bug and of one fix.
    """

    def __init__(self, *, everything: bool = False) -> None:
        self.shown = ("broken", *FIXED) if everything else SHOWN
        self.coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.columns = shutil.get_terminal_size((100, 24)).columns

    def _tell(self, style: str, text: str, indent: str = "") -> None:
        """Print words in a style, filled to the width of the terminal; what goes on is indented."""
        for line in self._filled(text, indent):
            self.say(self.paint(style, line) if style else line)

    def _filled(self, text: str, indent: str) -> list[str]:
        return textwrap.wrap(
            text, self.columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )

    def paint(self, style: str, text: str) -> str:
        """Return the text in a style, where there are colours."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.coloured and text else text

    def say(self, text: str = "") -> None:
        """Print at once: the reader shall see things as they happen."""
        print(text, flush=True)

    async def run(self, fixed: Server, broken: Server, fixed_steps: Recorder, broken_steps: Recorder) -> None:
        """Run every flow, and print what happened."""
        self._tell("bold", "One handler's stream in four orders of the same steps: H3Z's, then the three that work.")
        await self._flow("broken", broken)
        for name in FIXED:
            await self._flow(name, fixed)
        await _until_idle(fixed, broken)
        self._steps(broken_steps, fixed_steps)
        self._conclusion(broken_steps, fixed_steps)
        self._places()

    async def _flow(self, name: str, server: Server) -> None:
        sign, style = ("X", "bad") if name == "broken" else ("+", "good")
        self.say()
        first, *rest = self._filled(f"{sign} {name}  {_SUMMARY[name]}", "  ")
        self.say(first.replace(f"{sign} {name}", self.paint(style, f"{sign} {name}"), 1))
        for line in rest:
            self.say(line)
        self.say(self.paint("dim", f"  GET {server.url}/{name}, as its client receives it"))
        if name == "broken":
            text = "(on a port of its own: this flow is chosen for a whole server, never by a handler)"
            self._tell("dim", f"  {text}", "  ")
        with captured_log() as lines:
            arrivals = receive(server.port, f"/{name}", patience=PATIENCE)
            if name in self.shown:
                async for arrival in arrivals:
                    self._arrival(arrival)
            else:
                self._in_brief([arrival async for arrival in arrivals])
        if lines:
            self.say(self.paint("dim", "  The server's log meanwhile"))
            for line in lines:
                self.say("            " + (self.paint("bad", line) if line.startswith("error:") else line))

    def _arrival(self, arrival: Arrival) -> None:
        if arrival.data is None:
            text = f"... nothing for {PATIENCE:.1f} s, connection still open"
            self.say(f"{'':12}{self.paint('bad', text)}")
        elif not arrival.data:
            self.say(f"{arrival.ms:7.1f} ms  {self.paint('good', 'end of the connection')}")
        else:
            self.say(f"{arrival.ms:7.1f} ms  {len(arrival.data)} bytes")
            for line in _LINE.findall(arrival.data.decode("utf-8", "replace")):
                self.say(f"{'':12}{self._visible(line)}")

    def _in_brief(self, arrivals: Sequence[Arrival]) -> None:
        data = b"".join(arrival.data or b"" for arrival in arrivals)
        events = data.count(b"\n\n")
        self.say(f"{arrivals[-1].ms:7.1f} ms  {len(data)} bytes, {events} events, end of the connection")

    def _visible(self, line: str) -> str:
        """Show CR and LF, faintly."""
        named = {"\r": "\\r", "\n": "\\n"}
        return re.sub("[\r\n]+", lambda found: self.paint("dim", "".join(named[end] for end in found[0])), line)

    def _steps(self, broken: Recorder, fixed: Recorder) -> None:
        records = {name: (broken if name == "broken" else fixed).of(f"/{name}") for name in self.shown}
        self.say()
        self.say(self.paint("bold", "The steps, as they were recorded"))
        for left, right in zip(self.shown[::2], self.shown[1::2], strict=True):
            self.say()
            drawn = beside(records[left], records[right], titles=(left, right), columns=self.columns)
            self.say(self._painted(drawn))
        if self.columns < SIDE_BY_SIDE:
            self.say()
            self.say(self.paint("bold", "The same in brief, broken next to fixed"))
            columns = [[name, *in_words(records[name])] for name in SHOWN]
            for ours, theirs in zip_longest(*columns, fillvalue=""):
                self.say(self._painted(f"  {ours:42}{theirs}".rstrip()))

    def _painted(self, diagram: str) -> str:
        if not self.coloured:
            return diagram
        bad = r"(?<=─)X|\bX (?=rule)|rule L-\d+, \d+ times|ConnectionNotReady|\(rule L-\d+\)(, \d+ times)?"
        bad += r"|\(too late!\)|\[No events sent.*?\]|\(handler(?= )|already(?= )|exited!\)"
        diagram = re.sub(bad, lambda found: self.paint("bad", found[0]), diagram)
        diagram = re.sub(r"\bEvent \d+(?=,)", lambda found: self.paint("good", found[0]), diagram)
        diagram = re.sub(r"^broken\b", lambda found: self.paint("bad", found[0]), diagram, flags=re.MULTILINE)
        names = rf"(?:^|(?<=  ))(?:{'|'.join(FIXED)})$|^awaited\b"
        return re.sub(names, lambda found: self.paint("good", found[0]), diagram, flags=re.MULTILINE)

    def _conclusion(self, broken: Recorder, fixed: Recorder) -> None:
        """What each client had in the end, counted from the recordings."""
        self.say()
        self.say(self.paint("bold", "What the client had"))
        for name in ("broken", *FIXED):
            records = (broken if name == "broken" else fixed).of(f"/{name}")
            events = sum(record.step == trace.EVENT.name for record in records)
            left = any(record.step == trace.DISCONNECT.name for record in records)
            end = f"still open when it gave up, after {PATIENCE:.1f} s of silence" if left else "ended properly"
            self._tell("bad" if left else "", f"  {name:9} headers, {events} events, {end}", " " * 12)

    def _places(self) -> None:
        self.say()
        self.say(f"Where the bug lives:  {self.paint('bad', place(flows.broken))}  broken")
        for flow in (flows.callback, flows.awaited, flows.blocking):
            self.say(f"Where the fix lives:  {self.paint('good', place(flow))}  {flow.__name__}")


def in_words(records: Sequence[trace.Record]) -> Iterator[str]:
    """Each row of the diagram as a few words; of a sent event, that it is on the wire."""
    for row in story.tell(records):
        if isinstance(row, story.Remark):
            if row.text != story.CALLBACK:
                yield row.text
        elif row.arrows[-1].record.step != trace.DATA.name:
            first = row.arrows[0]
            rejected = f"  X rule {first.record.rule}{first.often}" if first.record.error else ""
            yield f"{first.words}{rejected}{'  ' + story.TOO_LATE if row.too_late else ''}"


def place(function: Callable[..., object]) -> str:
    """The file and the line of a flow's bug or fix, the file as seen from beside the package."""
    path = Path(inspect.getsourcefile(function) or "")
    lines, first = inspect.getsourcelines(function)
    marked = next((number for number, line in enumerate(lines) if "# the bug" in line or "# the fix" in line), 0)
    return f"{path.relative_to(Path(h3ref.__file__).parents[1]).as_posix()}:{first + marked}"


async def _until_idle(*servers: Server) -> None:
    """Wait until every exchange has ended, so that its last step is recorded."""
    with anyio.move_on_after(30):
        while any(server.service.live for server in servers):  # noqa: ASYNC110  # a server tells nobody of it
            await anyio.sleep(0.005)
