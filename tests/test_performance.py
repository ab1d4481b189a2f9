"""docs/performance.md: its tables are those of the results that are kept, and say what is in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs.generate import performance_tables
from docs.generate.cluster import ROWS
from docs.generate.performance_tables import PAGE, PARTS_OF_PAGE, RESULTS
from h3ref.lab.bench.systems import SYSTEMS


def test_no_table_has_drifted_from_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert performance_tables.main(["--check"]) == 0, capsys.readouterr().err


def test_the_results_are_of_a_full_run_in_which_nothing_failed() -> None:
    results, history, profiles, imports, cluster, workers = performance_tables.found_in(RESULTS)
    assert not results.quick
    assert (results.failures, history.failures) == ((), ())
    assert set(results.titles) == {system.name for system in SYSTEMS}
    assert [one.name for one in profiles] == ["one stream", "fan-out to 500", "a request with one event"]
    assert all(one.looks >= 200 for one in profiles)
    assert imports.runs >= 15
    assert set(cluster.figures) == set(ROWS)
    assert list(cluster.figures["cpu"]) == ["redis asyncio", "redis trio", "valkey asyncio", "valkey trio"]
    assert list(workers.figures) == ["asyncio", "trio"]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(RESULTS, tmp_path / "results")
    shutil.copy(PAGE, tmp_path)
    return tmp_path


def arguments(folder: Path) -> list[str]:
    return ["--results", str(folder / "results"), "--page", str(folder / PAGE.name)]


@pytest.mark.parametrize("name", PARTS_OF_PAGE)
def test_a_part_that_was_altered_is_named_and_mended(
    copied: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = copied / PAGE.name
    before = page.read_text()
    page.write_text(before.replace(f"<!-- generated: {name} -->\n\n", f"<!-- generated: {name} -->\n\naltered ", 1))
    assert performance_tables.main(["--check", *arguments(copied)]) == 1
    assert f"drifted: {name};" in capsys.readouterr().err
    assert performance_tables.main(arguments(copied)) == 0
    assert page.read_text() == before


@pytest.mark.parametrize("name", ["bench", "history", "profile", "imports", "cluster", "workers"])
def test_results_that_can_not_be_read_are_told_in_one_line(
    copied: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "results" / f"{name}.json").write_text("{}")
    assert performance_tables.main(arguments(copied)) == 1
    assert capsys.readouterr().err.count("\n") == 1
