"""`h3ref diagram`: the state machine and recordings as pictures, or as Mermaid text."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .shared import FAILED, USAGE, CommandError, add_command, exit_statuses, write_out

if TYPE_CHECKING:
    from ..lab.recorder import Recording
    from .shared import Commands

MACHINE, SEQUENCE, SIDE_BY_SIDE, TIMELINE = KINDS = ("machine", "sequence", "side-by-side", "timeline")
DRAWN, WRITTEN = (".svg", ".png"), ".mmd"

MORE: Final = """\
kinds:
  machine       the state machine; with a recording, the path taken and what was rejected (the default)
  sequence      the steps of one exchange between client, handler, adapter and connection
  side-by-side  two exchanges next to each other, from two recordings or from one
  timeline      a row for each exchange, from one or more recordings

A recording is what `h3ref serve --trace FILE` writes; - is the standard input. Drawing needs the extra lab;
Mermaid text, which GitHub and others draw inside Markdown, needs nothing.

examples:
  h3ref diagram
  h3ref diagram sequence run.ndjson -o run.svg
  h3ref diagram machine run.ndjson --exchange /events -o path.png
  h3ref diagram side-by-side broken.ndjson fixed.ndjson -o both.png --scale
  h3ref diagram timeline run.ndjson -o run.svg"""


def add(commands: Commands) -> None:
    """Add `diagram`."""
    parser = add_command(
        commands,
        "diagram",
        run,
        summary="draw the state machine, or a recording",
        description="Draw the state machine, or what a server recorded, as SVG, PNG or Mermaid text.",
        more=MORE,
        statuses=exit_statuses(
            failed="the extra lab is not installed, or FILE can't be written",
            usage="wrong usage, or a recording can't be read or drawn; the line says which and why",
        ),
    )
    parser.add_argument("kind", nargs="?", type=_kind, default=MACHINE, metavar="KIND", help="what to draw (see below)")
    parser.add_argument(
        "recordings", nargs="*", metavar="RECORDING", help="a file of NDJSON, or - for the standard input"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=_output,
        metavar="FILE",
        help="the file to write, ending in .svg, .png or .mmd, in any case; without it, Mermaid text is printed",
    )
    parser.add_argument(
        "--exchange",
        action="append",
        default=[],
        metavar="WHAT",
        dest="exchanges",
        help="the exchange to draw, by its number or its path (the latest one counts), if a recording has several; "
        "may be given twice for side-by-side",
    )
    parser.add_argument("--scale", action="store_true", help="draw the steps of a sequence to scale in time")
    parser.add_argument(
        "--title",
        action="append",
        default=[],
        metavar="TEXT",
        dest="titles",
        help="a heading; two for side-by-side, by default the names of the files",
    )


def run(options: argparse.Namespace) -> None:
    """Draw a diagram.

    Raises:
        CommandError: it can't be drawn or written; the text says why, and `--help` explains the status.
    """
    output: Path | None = options.output
    drawn = output is not None and output.suffix.lower() in DRAWN
    try:
        _check(options)
        recordings = [_load(name) for name in options.recordings]
        if not drawn:
            text = _text(options, recordings)
    except (OSError, ValueError, LookupError) as error:
        raise CommandError(_why(error), USAGE) from error
    if drawn and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("drawing needs matplotlib: pip install 'h3ref[lab]'", FAILED)
    try:
        if drawn:
            _draw(options, recordings)
        elif output is not None:
            output.write_text(text, encoding="utf-8")
        else:
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(encoding="utf-8")
            write_out(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"can't write {output}: {error.strerror or error}", FAILED) from error
    except (ValueError, LookupError) as error:
        raise CommandError(_why(error), USAGE) from error


def _check(options: argparse.Namespace) -> None:
    """Refuse arguments that do not fit together, before a file is read."""
    kind, output, count = options.kind, options.output, len(options.recordings)
    most = {MACHINE: 1, SEQUENCE: 1, SIDE_BY_SIDE: 2}.get(kind, count)
    if count < (0 if kind == MACHINE else 1) or count > most:
        wanted = {MACHINE: "one recording or none", SEQUENCE: "one recording", SIDE_BY_SIDE: "one or two recordings"}
        raise ValueError(f"{kind} takes {wanted.get(kind, 'one recording or more')}, not {count}")
    if options.recordings.count("-") > 1:
        raise ValueError("the standard input can be read only once")
    if kind in (SIDE_BY_SIDE, TIMELINE) and (output is None or output.suffix.lower() == WRITTEN):
        raise ValueError(f"{kind} can't be drawn as Mermaid text: give -o FILE.svg or -o FILE.png")
    if options.scale and kind not in (SEQUENCE, SIDE_BY_SIDE):
        raise ValueError(f"--scale is for {SEQUENCE} and {SIDE_BY_SIDE}, not for {kind}")
    if options.scale and (output is None or output.suffix.lower() == WRITTEN):
        raise ValueError("--scale is not for Mermaid text: give -o FILE.svg or -o FILE.png")
    if options.exchanges and (kind == TIMELINE or not count):
        raise ValueError(
            f"--exchange chooses from a recording, {'and a timeline shows all' if count else 'and there is none'}"
        )
    allowed = 2 if kind == SIDE_BY_SIDE else 1
    for name, given in (("--exchange", options.exchanges), ("--title", options.titles)):
        if len(given) > allowed:
            raise ValueError(
                f"{name} can be given {'twice' if allowed == 2 else 'once'} for {kind}, not {len(given)} times"
            )


def _load(name: str) -> Recording:
    from ..lab.recorder import Recording

    if name != "-":
        recording = Recording.load(name)
    else:
        try:
            recording = Recording.from_ndjson(sys.stdin.buffer.read().decode("utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"the standard input: {error}") from error
    if not recording:
        raise ValueError(f"{name}: no step was recorded")
    return recording


def _chosen(options: argparse.Namespace, recordings: Sequence[Recording], count: int) -> list[Recording]:
    """As many exchanges as are wanted: those that --exchange names, or else all there are.

    Raises:
        ValueError: there are too many or too few.
        LookupError: a recording has no such exchange.
    """
    whats = [int(what) if what.isascii() and what.isdigit() else what for what in options.exchanges]
    if len(recordings) == count:
        return [
            _single(recording, name, whats[min(place, len(whats) - 1)] if whats else None)
            for place, (recording, name) in enumerate(zip(recordings, options.recordings, strict=True))
        ]
    recording, name = recordings[0], options.recordings[0]
    if whats:
        if len(whats) != count:
            raise ValueError(f"{options.kind} of one recording takes --exchange twice, not once")
        return [_single(recording, name, what) for what in whats]
    if len(recording.exchanges) != count:
        raise ValueError(f"{name} has {_listed(recording)}: choose two with --exchange, or give two recordings")
    return list(recording.exchanges)


def _single(recording: Recording, name: str, what: int | str | None) -> Recording:
    if what is not None:
        try:
            return recording.of(what)
        except LookupError as error:
            raise LookupError(f"{name}: {error.args[0]}") from error
    if len(recording.exchanges) > 1:
        raise ValueError(f"{name} has {_listed(recording)}: choose one with --exchange")
    return recording


def _listed(recording: Recording) -> str:
    """The number of exchanges, and the first of them."""
    found = [f"{exchange[0].exchange} {exchange[0].detail or ''}".strip() for exchange in recording.exchanges]
    more = ", …" if len(found) > 5 else ""
    return f"{len(found)} exchange{'' if len(found) == 1 else 's'} ({', '.join(found[:5])}{more})"


def _text(options: argparse.Namespace, recordings: Sequence[Recording]) -> str:
    from ..lab import diagrams

    title = next(iter(options.titles), "")
    if options.kind == MACHINE:
        return diagrams.mermaid_machine(_chosen(options, recordings, 1)[0] if recordings else None, title=title)
    return diagrams.mermaid_sequence(_chosen(options, recordings, 1)[0], title=title)


def _draw(options: argparse.Namespace, recordings: Sequence[Recording]) -> None:
    from ..lab import diagrams

    title = next(iter(options.titles), "")
    if options.kind == MACHINE:
        figure = diagrams.machine(_chosen(options, recordings, 1)[0] if recordings else None, title=title)
    elif options.kind == SEQUENCE:
        figure = diagrams.sequence(_chosen(options, recordings, 1)[0], title=title, scale=options.scale)
    elif options.kind == TIMELINE:
        figure = diagrams.timeline(recordings, title=title)
    else:
        left, right = _chosen(options, recordings, 2)
        figure = diagrams.side_by_side(left, right, titles=_titles(options, left, right), scale=options.scale)
    diagrams.save(figure, options.output)


def _titles(options: argparse.Namespace, left: Recording, right: Recording) -> tuple[str, str]:
    """The given titles; otherwise the files' names, or the requests if both are from one file."""
    names = [Path(name).stem for name in options.recordings] if len(options.recordings) == 2 else ["", ""]
    given: list[str] = options.titles
    first, second = given + names[len(given) :]
    return first or left[0].detail or "", second or right[0].detail or ""


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"can't read {error.filename}: {error.strerror}" if error.strerror else str(error)
    return str(error.args[0] if error.args else error)


def _kind(text: str) -> str:
    if text not in KINDS:
        raise argparse.ArgumentTypeError(f"KIND comes first, one of {', '.join(KINDS)}, not {text!r}")
    return text


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (*DRAWN, WRITTEN):
        raise argparse.ArgumentTypeError(f"FILE ends in {', '.join(DRAWN)} or {WRITTEN}, not {text!r}")
    return path
