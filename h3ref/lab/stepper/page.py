"""The stepper as HTML: a fragment for an existing page, or a page of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from h3ref import trace
from h3ref.lifecycle import State
from h3ref.trace import LANES

from ..story import Arrow
from .columns import Column, Row, rows_of
from .frames import Frame, Moment, frames_of
from .game import as_json, game
from .words import below, clock, count, has, label, sentence, status, summary, whole

_HERE = Path(__file__).parent
_STEP_OF_CODE = {trace.CALLS_CALLBACK.name: "def "}  # a callback begins at its own first line
_MARKS = {"broken": "✗", "fixed": "✓"}


@cache
def style() -> str:
    """The style sheet, the one that the site and notebooks share."""
    return (_HERE / "stepper.css").read_text(encoding="utf-8")


@cache
def script() -> str:
    """The program, the one that the site and notebooks share."""
    return (_HERE / "stepper.js").read_text(encoding="utf-8")


def page(columns: Sequence[Column], *, spec: dict[str, Any] | None = None, rules: str = "") -> str:
    """Return a whole page with nothing but the stepper. Arguments and errors are those of `fragment`."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{_title(columns)}</title>\n"
        '<link rel="icon" href="data:,">\n<body class="h3step-page">\n<main>\n'
        f"{fragment(columns, spec=spec, rules=rules)}\n</main>\n</body>\n</html>\n"
    )


def _title(columns: Sequence[Column]) -> str:
    return f"{escape(' and '.join(column.title for column in columns))}, step by step"


def fragment(columns: Sequence[Column], *, spec: dict[str, Any] | None = None, rules: str = "") -> str:
    """Return the stepper as HTML that needs nothing else. Without JavaScript it shows the last step of each column.

    Args:
        columns: one or two.
        spec: the contents of lifecycle.json, to have the steps as cards to be put in order, too.
        rules: the address of a page where each rule's id is an anchor, for links to it.

    Raises:
        ValueError: there are no columns or more than two, one has no records, or `story.tell` refuses them.
    """
    if not 1 <= len(columns) <= 2:
        raise ValueError(f"the stepper shows one recording or two beside each other, not {len(columns)}")
    for column in columns:
        if not column.records:
            raise ValueError(f"{column.title}: nothing was recorded, so there is nothing to step through")
    rows = [rows_of(column.records) for column in columns]
    frames = frames_of(rows)
    parts = [
        f"<style>{style()}</style>",
        f'<section class="h3step" aria-label="{_title(columns)}">',
        f'<div class="h3step-recordings">\n<div class="h3step-top">{_controls(len(frames))}',
        f'<p class="h3step-say" aria-live="polite">{whole(_said(columns, rows, frames[-1]))}</p></div>',
        f'<div class="h3step-columns of-{len(columns)}">',
        *(
            _column(column, those, [frame.moments[number] for frame in frames])
            for number, (column, those) in enumerate(zip(columns, rows, strict=True))
        ),
        "</div>",
        "</div>",
        f'<script type="application/json" class="h3step-facts">{as_json(_facts(columns, rows, frames))}</script>',
        *([game(spec, _wire(columns[-1], rows[-1]), rules)] if spec else []),
        "</section>",
        f"<script>{script()}</script>",
    ]
    return "\n".join(parts)


def _controls(number: int) -> str:
    return (
        '<div class="h3step-bar" hidden>'
        '<button type="button" class="h3step-play">▶ Play</button>'
        '<button type="button" class="h3step-back" aria-label="one step back">‹</button>'
        f'<input type="range" min="0" max="{number - 1}" value="{number - 1}" step="1" aria-label="step">'
        '<button type="button" class="h3step-on" aria-label="one step on">›</button>'
        '<span class="h3step-clock"></span></div>'
    )


def _facts(columns: Sequence[Column], rows: Sequence[list[Row]], frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """What the program lights: for each frame what it says, and what each column shows."""
    return [
        {
            "parts": frame.parts,
            "time": clock(max(moment.time for moment in frame.moments)),
            "says": _said(columns, rows, frame),
            "columns": [
                {
                    "row": moment.row,
                    "waits": moment.waits,
                    "state": moment.state,
                    "rejected": moment.rejected is not None,
                    "has": has(moment),
                    "status": status(moment, _row(those, moment)),
                    "line": None if moment.waits else _line_of(column, _row(those, moment)),
                }
                for column, those, moment in zip(columns, rows, frame.moments, strict=True)
            ],
        }
        for frame in frames
    ]


def _said(columns: Sequence[Column], rows: Sequence[list[Row]], frame: Frame) -> str:
    return " ".join(
        sentence(column.title, moment, _row(those, moment))
        for column, those, moment in zip(columns, rows, frame.moments, strict=True)
    )


def _row(rows: Sequence[Row], moment: Moment) -> Row | None:
    return rows[moment.row] if moment.row >= 0 else None


def _line_of(column: Column, row: Row | None) -> int | None:
    """The line of code that takes the step of a row; None where it is not the handler's."""
    if row is None or not row.arrows:
        return None
    step = row.arrows[0].record.step
    lines = [number for number, line in enumerate(column.source) if _STEP_OF_CODE.get(step, f"{step}(") in line]
    return (lines[-1] if step in _STEP_OF_CODE else lines[0]) if lines else None


def _column(column: Column, rows: list[Row], moments: list[Moment]) -> str:
    last = moments[-1]
    ended = status(last, rows[-1])
    kind = column.title if column.title in _MARKS else "plain"
    mark = f'<span aria-hidden="true">{_MARKS[kind]}</span> ' if kind in _MARKS else ""
    states = {moment.state for moment in moments}
    return "\n".join(
        [
            f'<section class="h3step-column {kind}" aria-label="{escape(column.title)}">',
            f'<p class="h3step-title"><span>{mark}{escape(column.title)}</span> '
            f'<span class="h3step-status{" silent" if "silence" in ended else ""}">{escape(ended)}</span></p>',
            f'<p class="h3step-says">{_with_code(column.says or summary(rows, last))}</p>',
            *([_code(column, rows)] if column.source else []),
            '<ol class="h3step-states" aria-label="state of the machine">',
            *(_state(state, states, last) for state in State),
            "</ol>",
            f'<div class="h3step-client"><p><b>The client has</b> <span class="h3step-has">{has(last)}</span></p>',
            f'<pre tabindex="0" role="group" aria-label="the bytes">{"".join(_received(column, rows))}</pre>',
            "</div>",
            f'<div class="h3step-lanes" aria-hidden="true">{"".join(f"<span>{lane}</span>" for lane in LANES)}</div>',
            '<ol class="h3step-rows">',
            *_rows(rows),
            "</ol>",
            "</section>",
        ]
    )


def _with_code(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", whole(text))


def _code(column: Column, rows: Sequence[Row]) -> str:
    """The code with its decisive lines marked: what is rejected, and what a comment calls the bug or the fix."""
    rejected = {_line_of(column, row) for row in rows if any(arrow.record.error for arrow in row.arrows)}
    found = []
    mark = ""
    for number, line in enumerate(column.source):
        named = re.search(r"# the (bug|fix)\b", line)
        kinds = ["line", named[1] if named else mark or ("bug" if number in rejected else "")]
        indent = len(line) - len(line.lstrip())
        begins = f"<span>{escape(line[: indent + 1])}</span>" if indent else escape(line[:1])  # no line ends before it
        place = f'data-line="{number}" style="--indent:{indent}"'
        text = f"{begins}{escape(line[indent + 1 :])}" or " "
        found.append(f'<span class="{" ".join(kinds).strip()}" {place}>{text}</span>')
        mark = named[1] if named and line.strip().startswith("#") else ""
    return f'<pre class="h3step-code" tabindex="0" role="group" aria-label="the code">{"".join(found)}</pre>'


def _state(state: State, been: set[str], last: Moment) -> str:
    kind = "now" if state == last.state else "past" if state in been else ""
    current = ' aria-current="step"' if state == last.state else ""
    return f'<li class="{kind}" data-state="{state}"{current}>{state}</li>'


def _received(column: Column, rows: Sequence[Row]) -> Iterator[str]:
    """The bytes that came to the client, each with the row that brought them."""
    for number, row in enumerate(rows):
        for record in row.received:
            yield f'<span data-row="{number}">{escape(_text_of(column, record))}</span>'


def _text_of(column: Column, record: trace.Record) -> str:
    if record.step == trace.HEADERS.name and column.head:
        return column.head.rstrip("\n") + "\n\n"
    if record.step == trace.CONNECTION_CLOSED.name:
        cut = any(other.step == trace.CUTS_CONNECTION.name for other in column.records)
        return "— cut, without the proper end —\n" if cut else "— the proper end —\n"
    if record.detail:
        return record.detail
    return f"{record.step}: {count(record.size, 'byte')}\n" if record.size is not None else f"{record.step}\n"


def _wire(column: Column, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What leaves on the wire in the right order: the head, the first event and the end, as recorded."""
    found: dict[str, str] = {}
    for row in rows:
        for record in row.received:
            found.setdefault(record.step, _text_of(column, record))
    return [(step, found[step]) for step in found]


def _rows(rows: Sequence[Row]) -> Iterator[str]:
    before = ""
    for number, row in enumerate(rows):
        now = clock(row.time)
        time = f'<span class="time">{now}</span>' if now != before else ""
        before = now
        kinds = ["row", *(["absent"] if row.absent else []), *(["now"] if number == len(rows) - 1 else [])]
        inside = _arrows(row) if row.arrows else f'<div class="words">{escape(row.words)}</div>'
        yield f'<li class="{" ".join(kinds)}" data-row="{number}">{time}{inside}</li>'


def _arrows(row: Row) -> str:
    first = row.arrows[0]
    start, end = (LANES.index(lane) for lane in (first.record.who, first.record.to))
    texts = [label(row, arrow) for arrow in row.arrows]
    own = start == end
    kind = " ".join(
        [
            "own" if own else "right" if end > start else "left",
            *(["rejected"] if first.record.error else []),
            *(["wire"] if "client" in (first.record.who, first.record.to) else []),
        ]
    )
    notes = [whole(text) for text in (below(first), *(["too late!"] if row.too_late else [])) if text]
    note = "".join(f'<div class="note">{text}</div>' for text in notes)
    who = f'<span class="h3step-hidden">{first.record.who} to {first.record.to}: </span>'
    lines = "".join(_line(arrow) for arrow in row.arrows)
    return (
        f'<div class="step {kind}" style="--from:{start};--to:{end}"><div class="label">{who}'
        f"<span>{escape(', '.join(texts))}</span></div>{lines}{note}</div>"
    )


def _line(arrow: Arrow) -> str:
    start, end = (LANES.index(lane) for lane in (arrow.record.who, arrow.record.to))
    cross = '<span class="cross">✗</span>' if arrow.record.error else ""
    return f'<div class="line" style="--at:{min(start, end)};--over:{abs(end - start)}">{cross}</div>'
