"""docs/matrix: its columns are those of the systems, its page is what the results say, and ours are green."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.generate import matrix
from h3ref.judge.catalogue import Group, Level, load_checks
from h3ref.judge.results import CLIENT, SERVER, Results
from h3ref.judge.verdict import Outcome
from tests.matrix.__main__ import LEFT_OUT, PORT, RESULTS, main
from tests.matrix.by_hand import bytes_of
from tests.matrix.h3z import unpack
from tests.matrix.systems import CLIENTS, NOT_HERE, ROOT, SERVERS, Absent, Client, Server
from tests.matrix.taking import judged, running
from tests.ports import free_port

CHECKS = load_checks()
SYSTEMS: tuple[Client | Server, ...] = (*CLIENTS, *SERVERS)
OURS = [system for system in SYSTEMS if system.ours]
HERE = os.path.relpath(sys.executable, ROOT)


def results_of(system: Client | Server) -> Results:
    return Results.from_json((RESULTS / f"{system.file}.json").read_text(encoding="utf-8"), CHECKS)


def test_the_page_is_drawn_from_the_results() -> None:
    assert matrix.main(["--check"]) == 0, "make matrix draws it, or python -m docs.generate.matrix"


def test_each_system_has_a_column_or_the_reason_why_not() -> None:
    columns = {file.stem for file in RESULTS.glob("*.json")} - {LEFT_OUT.stem}
    left_out = json.loads(LEFT_OUT.read_text(encoding="utf-8"))
    assert left_out == left_out | NOT_HERE
    assert columns | {system.file for system in SYSTEMS if system.name in left_out} == {one.file for one in SYSTEMS}
    assert len({system.file for system in SYSTEMS}) == len(SYSTEMS)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: str(system.file))
def test_a_column_is_a_whole_run_of_its_system(system: Client | Server) -> None:
    results = results_of(system)
    kind, groups = (CLIENT, {Group.CLIENT}) if isinstance(system, Client) else (SERVER, {Group.STREAM, Group.CONTRACT})
    assert (results.system.name, results.system.kind) == (system.name, kind)
    assert results.system.version
    assert [verdict.check.id for verdict in results.verdicts] == [one.id for one in CHECKS if one.group in groups]
    for verdict in results.verdicts:
        assert verdict.finding.seen, verdict


NOT_OURS = {"h3ref under granian": {"C-58"}}
"""What our columns show of the server that runs h3ref: granian tells an app nothing of its end, and waits for ever."""


@pytest.mark.parametrize("system", OURS, ids=lambda system: str(system.file))
def test_ours_are_green(system: Client | Server) -> None:
    not_so = {
        verdict.check.id: verdict.finding.seen
        for verdict in results_of(system).verdicts
        if verdict.finding.outcome in (Outcome.FAILED, Outcome.NOT_RUN)
    }
    assert not_so.keys() == NOT_OURS.get(system.name, set()), not_so


@pytest.mark.slow
@pytest.mark.parametrize("client", [one for one in CLIENTS if one.ours], ids=lambda client: str(client.file))
def test_our_clients_do_what_their_columns_say(client: Client) -> None:
    """Those of servers are taken in test_judge_servers, where a clock of the test's own makes them sure."""
    found = Results.from_json(judged(client, HERE, limit=60), CHECKS)
    outcomes = {verdict.check.id: verdict.finding.outcome for verdict in found.verdicts}
    assert outcomes == {verdict.check.id: verdict.finding.outcome for verdict in results_of(client).verdicts}


def test_a_client_whose_package_is_not_there_is_said_to_be() -> None:
    with pytest.raises(Absent, match="no-such-package is not installed"):
        Client("x", "python", "x.py", "no-such-package").version()
    with pytest.raises(Absent, match="no-such-package is not installed"):
        Client("x", "node", "x.mjs", "no-such-package").version()


def test_a_server_that_does_not_start_is_said_to() -> None:
    server = Server("x", "{python} -c 'raise SystemExit(\"no {port}\")'", "h3ref")
    port = free_port()
    with pytest.raises(Absent, match=f"it does not start: no {port}"), running(server, sys.executable, port):
        pass


def test_a_port_of_another_program_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr("tests.matrix.__main__.PORT", port)
        assert main(["--only", "Django"]) == 2
    assert capsys.readouterr().err.startswith(f"port {port} is another program's, ")


# -- the notes

PEERS = [system for system in SYSTEMS if not system.ours]


def test_notes_are_on_cells_that_there_are() -> None:
    names = {system.name for system in SYSTEMS}
    ids = {check.id for check in CHECKS}
    for name, notes in matrix.read_notes().items():
        assert name in names
        for note in notes.notes:
            assert ids.issuperset(note.checks), (name, note)
            assert note.says.endswith("."), (name, note)
            assert note.source is None or note.source[1].startswith("https://"), (name, note)


@pytest.mark.parametrize("system", PEERS, ids=lambda system: str(system.file))
def test_what_a_peer_fails_was_looked_up_in_its_documentation(system: Client | Server) -> None:
    """A hint may fail without a note. A run that fails anew where nothing is noted is looked at before it is shown."""
    notes = matrix.read_notes().get(system.name, matrix.Notes())
    bare = {
        verdict.check.id: verdict.finding.seen
        for verdict in results_of(system).verdicts
        if verdict.finding.outcome == Outcome.FAILED and verdict.check.level != Level.MAY
        if not notes.on(verdict.check.id)
    }
    assert not bare, f"read what {system.name} documents, and note it in {matrix.NOTES.name}: {bare}"


@pytest.mark.parametrize("system", PEERS, ids=lambda system: str(system.file))
def test_what_a_peer_fails_was_tried_by_hand_and_nothing_else_is_said_to_be(system: Client | Server) -> None:
    """A cell that is red anew is tried twice, without the judge, before it is shown; what is green again needs none."""
    tried = matrix.read_notes().get(system.name, matrix.Notes()).tried
    failed = {verdict.check.id for verdict in results_of(system).verdicts if verdict.finding.outcome == Outcome.FAILED}
    assert failed == tried.keys(), f"try {system.name} by hand, and say in {matrix.NOTES.name} how, and what happens"
    for check, one in tried.items():
        assert one.seen.endswith("."), (check, one)
        if isinstance(system, Client):
            assert shlex.split(one.command)[:4] == ["python", "-m", "tests.matrix.by_hand", system.name], (check, one)
        else:
            assert "curl " in one.command, (check, one)
            assert f"127.0.0.1:{PORT}" in one.command, (check, one)


def test_what_was_tried_stands_beside_its_cell() -> None:
    page = matrix.PAGE.read_text(encoding="utf-8")
    files = {system.name: system.file for system in SYSTEMS}
    for name, notes in matrix.read_notes().items():
        for check, tried in notes.tried.items():
            item = page.partition(f'<li id="{files[name]}-{check}">')[2].partition("</li>")[0]
            assert matrix.told_by_hand(tried) in item, (name, check)


def test_by_hand_a_client_is_given_its_answers_in_turn() -> None:
    """It ends with its client, so that the seconds are only the most that it may take.

    What a client prints comes by a pipe of its own, and may be shown behind the question that it asks next.
    """
    answers = ["retry: 1\\nid: 7\\ndata: {a*3}\\n\\n", "HTTP/1.1 204 No Content\\r\\n\\r\\n"]
    command = [sys.executable, "-m", "tests.matrix.by_hand", "h3ref BlockingEventSource", *answers, "--seconds", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line[4:].strip() for line in done.stdout.splitlines()]
    kinds = [line.split()[0] for line in lines]
    assert (kinds[0], sorted(kinds[1:-1]), kinds[-1]) == ("asks", ["asks", "prints"], "ended"), lines
    [printed] = [line for line in lines if line.startswith("prints")]
    assert '"data": "aaa"' in printed
    [again] = [line for line in lines[1:] if line.startswith("asks")]
    assert "last-event-id: 7" in again.lower()
    assert lines[3] == "ended   with status 0"


def test_by_hand_an_answer_is_written_with_escapes() -> None:
    assert bytes_of("") == b"", "an end before the head"
    assert bytes_of(r"HTTP/1.1 204 No\r\n\r\n") == b"HTTP/1.1 204 No\r\n\r\n"
    assert bytes_of(r"data: \xff{x*4}\n\n").partition(b"\r\n\r\n")[2] == b"data: \xffxxxx\n\n"


def test_a_note_stands_beside_what_it_is_on() -> None:
    text = matrix.PAGE.read_text(encoding="utf-8")
    for name, notes in matrix.read_notes().items():
        for note in notes.notes:
            told = matrix.told(note)
            assert text.count(told) >= max(1, len(note.checks)), (name, told)


def test_a_note_has_its_code_and_its_source_escaped() -> None:
    note = matrix.Note((), "`a<b` & c.", ("d & e", "https://example.com/?a&b"))
    assert matrix.told(note) == (
        '<p class="note"><code>a&lt;b</code> &amp; c. See <a href="https://example.com/?a&amp;b">d &amp; e</a>.</p>'
    )


def test_notes_of_another_format_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.json"
    file.write_text('{"format": 2, "systems": {}}', encoding="utf-8")
    with pytest.raises(ValueError, match="has the format 2; 1 is what can be read"):
        matrix.read_notes(file)


def test_what_is_built_from_checkouts_says_that_it_needs_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for given in ([], ["--h3z", str(tmp_path)], ["--libxev", str(tmp_path)]):
        assert main(["--only", "H3Z", *given]) == 2
        said = capsys.readouterr().err
        assert said.startswith("H3Z: not taken, ")
        assert said.endswith(" make matrix H3Z=PATH LIBXEV=PATH\n")


def test_a_checkout_without_the_commit_is_said_to_be_one(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    missing = unpack(tmp_path, "842213e", tmp_path / "out")
    assert missing.startswith("the checkout that is to have the commit 842213e has none")
    assert not (tmp_path / "out").exists()


# -- the page


class Page(HTMLParser):
    """The places of a page, and what its cells lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if place := found.get("id"):
            self.places.add(place)
        if tag == "a" and (target := found.get("href")):
            self.targets.append(target)


def test_each_cell_leads_to_its_evidence() -> None:
    page = Page()
    page.feed(matrix.PAGE.read_text(encoding="utf-8"))
    assert len(page.targets) > 40 * len(CLIENTS)
    assert {target[1:] for target in page.targets if target.startswith("#")} <= page.places


def test_a_mark_says_what_a_colour_says() -> None:
    text = matrix.PAGE.read_text(encoding="utf-8")
    cells = set(re.findall(r'<td class="([\w-]+)"><a [^>]+>(.)\*?</a></td>', text))
    assert cells <= {
        ("passed", "✓"),
        ("failed", "✗"),
        ("failed-should", "!"),
        ("not-applicable", "–"),
        ("not-run", "?"),
    }
    assert len(cells) == 5


def test_the_html_is_not_cut_by_a_blank_line() -> None:
    for name, lines in matrix.parts().items():
        assert name == "left_out" or all(line.strip() for line in "\n".join(lines).split("\n"))
