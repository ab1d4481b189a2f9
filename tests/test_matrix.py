"""docs/matrix: its columns are those of the systems, its page is what the results say, and ours are green."""

from __future__ import annotations

import json
import os
import re
import sys
from html.parser import HTMLParser

import pytest

from docs.generate import matrix
from h3ref.judge.catalogue import Group, load_checks
from h3ref.judge.results import CLIENT, SERVER, Results
from h3ref.judge.verdict import Outcome
from tests.matrix.__main__ import LEFT_OUT, RESULTS
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
    assert left_out.keys() >= NOT_HERE.keys()
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
    assert {target.removeprefix("#") for target in page.targets} <= page.places


def test_a_mark_says_what_a_colour_says() -> None:
    text = matrix.PAGE.read_text(encoding="utf-8")
    cells = set(re.findall(r'<td class="([\w-]+)"><a [^>]+>(.)</a></td>', text))
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
