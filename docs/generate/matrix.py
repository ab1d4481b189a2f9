"""The matrix of docs/matrix/index.md, drawn from the results of runs in spec/results.

docs/matrix/notes.json has what a person found in a peer's documentation; the results come only from runs.

`make matrix` takes the results anew and draws it; `python -m docs.generate.matrix` draws it alone, with `--check` it
changes nothing and exits 1 when the page has drifted.

The tables are HTML, so that a cell can have a colour and lead to its evidence, further down on the same page. A blank
line would end the HTML, so that there is none.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from h3ref.judge.catalogue import Check, Group, Level, load_checks
from h3ref.judge.results import CLIENT, SERVER, Results
from h3ref.judge.verdict import Outcome, Verdict, shown

from .generated import update

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "spec" / "results"
PAGE: Final = ROOT / "docs" / "matrix" / "index.md"
NOTES: Final = ROOT / "docs" / "matrix" / "notes.json"
LEFT_OUT: Final = "left_out.json"

MARKS: Final = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.NOT_APPLICABLE: "–", Outcome.NOT_RUN: "?"}
"""The marks beside the colours, for readers who can't tell the colours apart."""

GROUPS: Final = {CLIENT: (Group.CLIENT,), SERVER: (Group.STREAM, Group.CONTRACT)}


class Note(NamedTuple):
    """What a peer's documentation says of what a check found.

    Attributes:
        checks: the ids of the checks it is on; none for the whole column.
        says: the sentences; what stands between backquotes is code.
        source: the title and the address of what was read; None where that was the peer's code.
    """

    checks: tuple[str, ...]
    says: str
    source: tuple[str, str] | None


class Tried(NamedTuple):
    """What a person saw who did twice by hand, without the judge, what a check does.

    Attributes:
        command: what does it again, in a shell at the root; a server has been started before.
        seen: the sentence that says what then happens; what stands between backquotes is code.
    """

    command: str
    seen: str


class Notes(NamedTuple):
    """What is noted of one system.

    Attributes:
        head: what its column's head says below the version.
        notes: what its documentation says.
        tried: what was tried of it by hand, by the ids of the checks.
    """

    head: str = ""
    notes: tuple[Note, ...] = ()
    tried: Mapping[str, Tried] = MappingProxyType({})

    def on(self, check: str) -> list[Note]:
        """Those on a check."""
        return [note for note in self.notes if check in note.checks]


class Column(NamedTuple):
    """One system's results; its name is that of its file, as an anchor."""

    name: str
    results: Results
    notes: Notes

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Each check's, by its id."""
        return {verdict.check.id: verdict for verdict in self.results.verdicts}


def read_notes(file: Path = NOTES) -> dict[str, Notes]:
    """The notes of each system, by its name.

    Raises:
        OSError, KeyError, ValueError: they can't be read, or are of another format.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["format"] != 1:
        raise ValueError(f"{file} has the format {found['format']}; 1 is what can be read")
    return {name: _notes(one) for name, one in found["systems"].items()}


def _notes(found: dict[str, Any]) -> Notes:
    tried = {check: Tried(one["command"], one["seen"]) for check, one in found.get("tried", {}).items()}
    return Notes(found["head"], tuple(map(_note, found["notes"])), tried)


def _note(found: dict[str, Any]) -> Note:
    source = found.get("source")
    return Note(tuple(found["checks"]), found["says"], (source["title"], source["url"]) if source else None)


def columns_in(folder: Path, checks: Sequence[Check]) -> list[Column]:
    """All results of a folder; ours stand first, as what others can be compared with, then the rest by their names.

    Raises:
        OSError, ValueError: one of them can't be read, or is of another format.
    """
    notes = read_notes()
    columns = []
    for file in sorted(folder.glob("*.json")):
        if file.name != LEFT_OUT:
            results = Results.from_json(file.read_text(encoding="utf-8"), checks)
            columns.append(Column(file.stem, results, notes.get(results.system.name, Notes())))
    return sorted(columns, key=lambda column: (not column.results.system.name.startswith("h3ref"), column.name.lower()))


def parts(folder: Path = RESULTS) -> dict[str, list[str]]:
    """The generated parts of the page."""
    checks = load_checks()
    columns = columns_in(folder, checks)
    return {
        "clients": list(_table([one for one in columns if one.results.system.kind == CLIENT], CLIENT, checks)),
        "servers": list(_table([one for one in columns if one.results.system.kind == SERVER], SERVER, checks)),
        "left_out": list(_left_out(folder)),
        "evidence": [line for column in columns for line in _evidence(column)],
    }


def _table(columns: Sequence[Column], kind: str, checks: Sequence[Check]) -> Iterator[str]:
    """The table of one kind of systems, a row for each check that has been made of one of them."""
    made = {id for column in columns for id in column.verdicts}
    yield '<div class="matrix"><table>'
    yield f"<thead><tr><th>check</th>{''.join(map(_head, columns))}</tr></thead><tbody>"
    for check in checks:
        if check.group in GROUPS[kind] and check.id in made:
            cells = "".join(_cell(column, check) for column in columns)
            name = f"{check.id} <small>{check.level}</small> {escape(check.title)}"
            yield f'<tr id="{check.id}"><th>{name}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _head(column: Column) -> str:
    system = column.results.system
    head = f" <small>{escape(column.notes.head)}</small>" if column.notes.head else ""
    return f'<th><a href="#{column.name}">{escape(system.name)}</a> <small>{escape(system.version)}</small>{head}</th>'


def _cell(column: Column, check: Check) -> str:
    verdict = column.verdicts.get(check.id)
    if verdict is None:
        return "<td></td>"
    outcome = verdict.finding.outcome
    notes = column.notes.on(check.id)
    remarks = "".join(f"; {note.says}" for note in notes).replace("`", "")
    title = escape(f"{column.results.system.name}, {check.id}: {outcome}{remarks}", quote=True)
    mark = f'<a href="#{column.name}-{check.id}" title="{title}">{_mark(verdict)}{"*" if notes else ""}</a>'
    return f'<td class="{_class(verdict)}">{mark}</td>'


def _class(verdict: Verdict) -> str:
    outcome = verdict.finding.outcome
    if outcome == Outcome.FAILED and verdict.check.level != Level.MUST:
        return "failed-should"
    return outcome.replace(" ", "-")


def _mark(verdict: Verdict) -> str:
    return "!" if _class(verdict) == "failed-should" else MARKS[verdict.finding.outcome]


def _left_out(folder: Path) -> Iterator[str]:
    file = folder / LEFT_OUT
    reasons = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, reason in sorted(reasons.items()):
        yield f"- {name}: {reason}"
    if not reasons:
        yield "None."


def _evidence(column: Column) -> Iterator[str]:
    """What one system's cells lead to."""
    system = column.results.system
    yield f'<section class="matrix-evidence" id="{column.name}">'
    yield f"<h3>{escape(f'{system.name} {system.version}')}</h3>"
    yield f"<p>Run on {escape(column.results.taken)} by <code>{escape(column.results.command)}</code></p>"
    yield from map(told, (note for note in column.notes.notes if not note.checks))
    yield "<ul>"
    for verdict in column.results.verdicts:
        check, finding = verdict.check, verdict.finding
        mark = f'<b class="{_class(verdict)}">{_mark(verdict)} {finding.outcome}</b>'
        said = f": {escape(finding.seen)}" if finding.seen else ""
        remarks = "".join(map(told, column.notes.on(check.id)))
        if tried := column.notes.tried.get(check.id):
            remarks += told_by_hand(tried)
        seen = f"{check.id} {mark} {escape(check.title)}{said}{remarks}{_bytes(verdict)}"
        yield f'<li id="{column.name}-{check.id}">{seen}</li>'
    yield "</ul></section>"


def told_by_hand(tried: Tried) -> str:
    """What was tried as the evidence has it."""
    return (
        f'<p class="note">Tried twice without the judge: {_text(tried.seen)} <code>{escape(tried.command)}</code></p>'
    )


def _text(says: str) -> str:
    """Sentences as HTML."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(says))


def told(note: Note) -> str:
    """A note as the evidence has it."""
    says = _text(note.says)
    source = f' See <a href="{escape(note.source[1])}">{escape(note.source[0])}</a>.' if note.source else ""
    return f'<p class="note">{says}{source}</p>'


def _bytes(verdict: Verdict) -> str:
    if not verdict.finding.evidence or verdict.finding.outcome != Outcome.FAILED:
        return ""
    lines = escape(shown(verdict.finding.evidence)).replace("\\n", "\\n&#10;")
    return f"<details><summary>The bytes</summary><pre>{lines}</pre></details>"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page's parts, or with --check look whether they are as they would be."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.matrix", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a part has drifted")
    options = parser.parse_args(arguments)
    return update(PAGE, parts, check=options.check, command="python -m docs.generate.matrix")


if __name__ == "__main__":
    sys.exit(main())
