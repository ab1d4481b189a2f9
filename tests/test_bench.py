"""The benchmark's own parts: codec, state machine, results, table, command. What it measures is never asserted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import h3ref
from h3ref.cli import main as cli
from h3ref.cli.bench import MORE
from h3ref.lab.bench import codec, command, lifecycle, machine, runner, systems
from h3ref.lab.bench.amounts import QUICK
from h3ref.lab.bench.results import Distribution, Failure, Measurement, Results, SectionNote
from h3ref.lab.bench.sections import server_sections
from h3ref.lab.bench.table import WIDTH, changes, missing, table
from h3ref.lab.bench.turns import Run, in_turns
from tests.processes import IN_FOREGROUND

TINY = replace(QUICK, codec=3, triggers=3, rounds=2)


PUBLISHED = Path(__file__).parents[1] / "notebooks" / "results" / "bench.json"


def results(**changed: Any) -> Results:
    """Results as a run has them, small."""
    found = Results(
        date="2026-01-02T03:04:05+00:00",
        seconds=1.5,
        quick=True,
        repeat=3,
        machine={"python": "CPython 3.11.7", "system": "Linux 6", "processor": "A chip", "cores": 2, "commit": None},
        versions={"h3ref": "0.1.0"},
        titles={"raw": "raw asyncio", "h3ref": "h3ref", "h3ref-broken": "h3ref, broken flow"},
        sections=(
            SectionNote("fanout", "fan-out", "some deliveries", "raw"),
            SectionNote("first", "time to first event", "some requests", "raw"),
        ),
        measurements=(
            Measurement("fanout", "100", "cpu", "us", "raw", (4.0, 5.0, 6.0), (1.0, 1.0, 1.0), 100),
            Measurement("fanout", "100", "cpu", "us", "h3ref", (2.0, 5.0, 1.5), (0.5, 1.0, 0.25), 100),
            Measurement("fanout", "500", "cpu", "us", "h3ref", (2.0,), (), 500),
            Measurement("first", "alone", "p50", "us", "raw", (2000.0,), (1.0,), 1, Distribution.of([1.0, 3.0])),
            Measurement("first", "alone", "p50", "us", "h3ref-broken", (), (), 1, Distribution.of([], 3)),
        ),
        missing={"fastapi": ["fastapi", "uvicorn"]},
        failures=(Failure("fanout", "500", "raw", "its server has ended: Killed"),),
        notes=("all of it is invented",),
    )
    return replace(found, **changed)


# -- results


def test_results_come_back_from_json() -> None:
    before = results()
    assert Results.from_json(before.to_json()) == before


def test_json_has_medians_for_those_who_read_it_without_us() -> None:
    first = json.loads(results().to_json())["measurements"][1]
    assert (first["median"], first["ratio"], first["size"]) == (2.0, 0.5, 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not the results of a benchmark, of schema 1"),
        ('{"schema": 2}', "not the results of a benchmark, of schema 1"),
        ('{"schema": 1}', "other probabilities"),
        (results().to_json().replace('"seconds"', '"minutes"'), "KeyError: 'seconds'"),
        (results().to_json().replace('"quantity"', '"what"'), "TypeError"),
    ],
)
def test_what_is_no_results_file_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Results.from_json(text)


def test_a_distribution_tells_what_part_was_at_most_so_long() -> None:
    found = Distribution.of([float(number) for number in range(1001)])
    assert found.count == 1001
    for probability in (0.0, 0.25, 0.5, 0.99, 0.9925, 1.0):
        assert found.at(probability) == pytest.approx(1000 * probability)
    with pytest.raises(ValueError, match=r"from 0 to 1, not 1\.5"):
        found.at(1.5)
    with pytest.raises(ValueError, match="no request had an event"):
        Distribution.of([], given_up=2).at(0.5)


def test_a_measurement_tells_its_medians() -> None:
    _, ours, *_, none = results().measurements
    assert (ours.median, ours.ratio) == (2.0, 0.5)
    assert (none.median, none.ratio, none.ratio_spread) == (None, None, 0.0)
    assert ours.ratio_spread == pytest.approx((0.75 - 0.375) / 2 / 0.5)


# -- the table


def test_the_table_has_every_figure_and_fits() -> None:
    lines = [*missing(results()), *table(results())]
    text = "\n".join(lines)
    assert max(map(len, lines)) <= WIDTH
    assert "not installed, so left out: fastapi (pip install fastapi uvicorn)" in lines
    rows = [" ".join(line.split()) for line in lines]
    assert "raw asyncio 5.00 x1.00 ±0%" in rows
    assert "h3ref 2.00 x0.50 ±38% 2.00" in rows
    assert "p50, ms" in text
    assert "h3ref, broken flow none" in rows
    assert "failed: raw asyncio (fanout, 500): its server has ended: Killed" in lines
    assert "note: all of it is invented" in lines


def test_changes_name_what_is_ours() -> None:
    before, ours = results(), results().measurements[1]
    faster = results(measurements=(*before.measurements[:1], replace(ours, ratios=(0.25,))))
    head, line = [" ".join(line.split()) for line in changes(before, faster) if line]
    assert head == "ratio then now change"
    assert line == "fanout, 100, cpu: h3ref 0.50 0.25 -50%"


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_the_table_is_as_wide_as_it_may_be_and_breaks_no_word(columns: int) -> None:
    published = Results.load(PUBLISHED)
    lines = [
        *missing(results(), columns=columns),
        *table(published, columns=columns),
        *changes(published, published, columns=columns),
    ]
    assert max(map(len, lines)) <= columns
    told = " ".join(" ".join(lines).split())
    for one in published.measurements:
        names = (one.case, published.title(one.system))
        assert {word for name in names for word in name.split()} <= {*told.replace(":", " ").split(), *told.split()}


@pytest.mark.parametrize("columns", [80, 120])
def test_a_case_is_one_block(columns: int) -> None:
    published = Results.load(PUBLISHED)
    heads = [line for line in table(published, columns=columns) if re.search(r"(cpu|p50|memory), \w+", line)]
    blocks = [
        case
        for section in published.sections
        if section.base == "raw"
        for case in dict.fromkeys(one.case for one in published.of(section.name))
        if section.name != "fanout"
    ]
    assert len(heads) == len(blocks) + 1  # of fan-out all cases are in one, which has a figure of each


def test_where_there_is_no_room_for_spreads_none_is_explained() -> None:
    growth = replace(
        Results.load(PUBLISHED),
        sections=tuple(section for section in Results.load(PUBLISHED).sections if section.name == "grow"),
    )
    assert not any("±" in line for line in table(growth, columns=80))
    assert any("±: how near" in line for line in table(growth, columns=120))


# -- in this process


def test_every_contender_has_its_turn_in_every_round() -> None:
    turns: list[str] = []

    def run(name: str) -> Run:
        return lambda: turns.append(name) or 1  # type: ignore[func-returns-value,redundant-expr]

    times = in_turns({"a": run("a"), "b": run("b")}, amount=1, rounds=3)
    assert "".join(turns) == "ab" + "ba" + "ab" + "ba"
    assert [len(found) for found in times.values()] == [3, 3]


def test_codec_and_lifecycle_measure_every_workload() -> None:
    found = runner.run(runner.IN_PROCESS, amounts=TINY)
    assert {one.case for one in found.of("encode")} == {one.name for one in codec.ENCODE_WORKLOADS}
    assert {one.quantity for one in found.of("encode")} == {"build and encode", "encode"}
    assert {one.case for one in found.of("parse")} == {one.name for one in codec.PARSE_WORKLOADS}
    assert {one.case for one in found.of("lifecycle")} == set(lifecycle.CASES)
    for one in found.measurements:
        assert len(one.runs) == len(one.ratios) == TINY.rounds
        assert min(one.runs) > 0
        if one.system == "h3ref":
            assert set(one.ratios) == {1.0}
    there, absent = codec.installed()
    assert {one.system for one in found.measurements} >= {one.package for one in there}
    assert found.missing == {package: [package] for package in absent}
    assert max(map(len, table(found))) <= WIDTH


@pytest.mark.parametrize("contender", [lifecycle.ours, lifecycle.machine_each, lifecycle.by_hand])
def test_every_state_machine_does_the_work(contender: Any) -> None:
    path, rejected = contender(3)
    assert (path(), rejected()) == (3, 3)


def test_a_peer_that_is_not_installed_is_named_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: object) -> Run:
        raise ImportError("no such peer")

    contenders = (codec.CONTENDERS[0], codec.Contender("absent-sse", parse=absent))
    monkeypatch.setattr(codec, "CONTENDERS", contenders)
    found = runner.run(["parse"], amounts=TINY)
    assert found.missing == {"absent-sse": ["absent-sse"]}
    assert {one.system for one in found.measurements} == {"h3ref"}


def test_a_parser_that_does_other_work_is_not_compared() -> None:
    lazy = codec.Contender("lazy-sse", parse=lambda chunks: lambda: 0)
    with pytest.raises(RuntimeError, match="lazy-sse found 0 events in a stream of 3"):
        list(codec.bench_parse((codec.CONTENDERS[0], lazy), 3, 1, lambda step: None))


# -- what is measured


def test_systems_are_chosen_by_name() -> None:
    assert systems.chosen([]) == systems.SYSTEMS
    assert [one.name for one in systems.chosen(["fastapi", "raw"])] == ["raw", "fastapi"]
    assert all(one.name.startswith("h3ref") for one in systems.chosen(["h3ref*"]))
    with pytest.raises(ValueError, match="no system 'django': there are raw, h3ref, "):
        systems.chosen(["django"])


def test_a_system_names_what_it_misses() -> None:
    system = systems.System("odd", "odd", ("odd",), ("anyio", "no-such-package"))
    assert system.missing() == ["no-such-package"]


def test_sections_shrink_to_the_files_that_may_be_open_and_say_so() -> None:
    sections, notes = server_sections(replace(QUICK, fans=(100, 5000)), files=300)
    cases = {section.name: section.cases for section in sections}
    assert [case.streams for case in cases["fanout"]] == [100]
    assert [case.streams for case in cases["memory"]] == [200]
    assert notes == [
        "no fan-out to 5000 streams: a process may open 300 files here (ulimit -n)",
        "memory of 200 silent streams, not 300, for the same reason",
    ]


def test_the_machine_is_described() -> None:
    found = machine.machine()
    assert found["processor"]
    assert found["cores"] >= 1
    assert found["python"].endswith(".".join(map(str, sys.version_info[:3])))


# -- the command


def test_help_names_every_section_and_system() -> None:
    words = MORE.replace(".", " ").replace(";", " ").replace(":", " ").split()
    assert set(runner.SECTIONS) <= set(words)
    assert set(systems.TITLES) <= set(words)


def test_the_command_prints_saves_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUICK", TINY)
    path = tmp_path / "results.json"
    assert cli.main(["bench", "--quick", "--sections", "lifecycle", "--json", str(path)]) == 0
    shown = capsys.readouterr()
    assert "transitions," in shown.out
    assert lifecycle.CASES[0] in shown.err
    assert Results.load(path).quick
    assert cli.main(["bench", "--quick", "--sections", "lifecycle", "--compare", str(path)]) == 0
    assert "then" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--sections", "speed"], 2, "there is no section 'speed': there are stream, "),
        (["--systems", "django"], 2, "there is no system 'django': there are raw, "),
        (["--sections", "lifecycle", "--json", "nowhere/x.json"], 1, "can't write nowhere/x.json"),
        (["--compare", "nowhere.json"], 1, "nowhere.json: No such file or directory"),
        (["--compare", "pyproject.toml"], 2, "not JSON"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    arguments: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("[project]\n")
    assert cli.main(["bench", *arguments]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"h3ref: {said}")
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("times", ["0", "-1", "x", "1.5"])
def test_a_number_of_times_that_is_none_is_refused(times: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "--repeat", times])
    assert caught.value.code == 2
    assert f"it must be a number, 1 or more, not '{times}'" in capsys.readouterr().err


def test_a_failure_is_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "run", lambda *_, **__: results())
    assert cli.main(["bench"]) == 1
    shown = capsys.readouterr()
    assert "failed: raw asyncio" in shown.out
    assert shown.err == "h3ref: 1 could not be measured, as said above\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_it_leaves_no_server_behind(number: signal.Signals) -> None:
    here = os.pathsep.join(filter(None, [str(Path(h3ref.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    program = "from h3ref.lab.bench.process import ServerProcess as P\n"
    program += "import h3ref.lab.bench.sections as sections, h3ref.cli.main as cli, sys\n"
    program += (
        "def measure(server, case, silent):\n    print(server.pid, flush=True)\n    import time; time.sleep(60)\n"
    )
    program += "sections.stream = measure\n"
    program += "sys.exit(cli.main(['bench', '--sections', 'stream', '--systems', 'raw', '--quick']))\n"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
        preexec_fn=IN_FOREGROUND,
    ) as bench:
        assert bench.stdout is not None
        try:
            pid = int(bench.stdout.readline())
            # The server inherits nothing but holds its end of the pipes: their end is its end.
            watch = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
            bench.send_signal(number)
            _, said = bench.communicate(timeout=20)
        finally:
            bench.kill()
    status = bench.returncode
    if number == signal.SIGINT:
        assert status == 130
        assert said.splitlines()[-1] == "h3ref: interrupted"
    else:
        assert status == -number
    if watch is not None:
        import select

        ended, _, _ = select.select([watch], [], [], 10)
        os.close(watch)
        assert ended, "the server still runs"
