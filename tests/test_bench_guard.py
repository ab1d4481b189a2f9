"""The guard of the benchmark: it sees what has moved, and takes no noise for it. What it measures is never asserted."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests import bench_guard
from tests.bench_guard import Row, interval, lines, main
from tests.test_bench_servers import TINY


def row(changes: list[float], noise: list[float]) -> Row:
    return Row("a row: cpu", "us", [10.0] * len(changes), changes, noise)


def test_an_interval_leaves_out_what_is_rare() -> None:
    assert interval([float(number) for number in range(12)]) == (2.0, 9.0)
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert interval([1.0]) == (1.0, 1.0)


@pytest.mark.parametrize("count", [6, 12, 20])
def test_an_interval_has_the_median_in_95_of_100_cases(count: int) -> None:
    drawn = random.Random(0)
    within = 0
    for _ in range(2000):
        low, high = interval([drawn.lognormvariate(0, 0.1) for _ in range(count)])
        within += low <= 1.0 <= high
    assert within >= 0.94 * 2000


def test_what_has_moved_is_told_and_noise_is_not() -> None:
    near = [0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03, 1.0]
    assert row([one * 1.2 for one in near], near).moved == pytest.approx(0.2, abs=0.02)
    assert row([one * 0.8 for one in near], near).moved == pytest.approx(-0.2, abs=0.02)
    assert row(near[::-1], near).moved == 0.0
    assert row([one * 1.02 for one in near], near).moved == 0.0
    rows = [row([1.2] * 8, near), row([0.8] * 8, near), row(near, near)]
    said = list(lines(rows, "HEAD^", "HEAD"))
    assert [line.rpartition("  ")[2] for line in said[1:3]] == ["risen by 20.0%", "fallen by 20.0%"]
    assert said[3].endswith("1.030")
    assert said[-1] == "3 rows: 1 risen and 1 fallen by more than their noise"


def test_a_commit_is_measured_beside_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_guard, "SYSTEMS", {"h3ref": ("ours",)})
    monkeypatch.setattr(bench_guard, "AMOUNTS", replace(TINY, silent=50))
    assert main(["--base", "HEAD", "--rounds", "1", "--only", "one stream", "--only", "memory"]) in (0, 1)
    said = capsys.readouterr().out
    assert "h3ref: memory of a silent stream: memory" in said
    assert "h3ref: one stream, yielding: " in said
    assert "first" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base", "no-such-commit"], "it could not be measured: fatal: "),
        (["--base", "HEAD", "--only", "nothing-like-it"], "no row has one of these words in its name: nothing-like-it"),
    ],
)
def test_what_can_not_be_measured_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
