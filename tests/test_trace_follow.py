"""A recording is checked as it grows: `Follower`, and `h3ref trace --follow`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from h3ref.lab.check import Follower, check, summary
from h3ref.trace import Record
from tests.pages import ROOT
from tests.processes import IN_FOREGROUND

CASES: list[dict[str, Any]] = [
    case
    for path in sorted((ROOT / "spec" / "vectors" / "trace").glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]
]


def records_of(case: dict[str, Any]) -> list[Record]:
    return [Record.from_json(json.dumps(record)) for record in case["records"]]


LEGAL = [records_of(case) for case in CASES if not case.get("violation") and case.get("flow")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_follower_says_the_same_as_a_check_of_the_whole(case: dict[str, Any]) -> None:
    records = records_of(case)
    follower = Follower()
    found = [violation for record in records if (violation := follower.take(record))][:1]
    assert found == [violation for violation in [check(records)] if violation]
    if not found:
        assert follower.summary == summary(records)
        assert follower.hanging() == check(records, whole=True)


def test_what_is_known_no_more_is_still_counted() -> None:
    several = [replace(record, exchange=number) for number, records in enumerate(LEGAL, 1) for record in records]
    few, all_of_them = Follower(keep=2), Follower()
    for record in several:
        assert few.take(record) is None
        all_of_them.take(record)
    assert few.summary == all_of_them.summary == summary(several)
    late = several[len(LEGAL[0]) - 1]
    assert few.take(late) is not None, "it belongs to no exchange that has begun"


@contextmanager
def following(*arguments: str, stdin: Any = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "h3ref", "trace", *arguments, "--follow"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=IN_FOREGROUND,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


@pytest.fixture
def lines() -> list[str]:
    return [record.to_json() + "\n" for record in LEGAL[0]]


def test_a_file_is_followed_until_ctrl_c(tmp_path: Path, lines: list[str]) -> None:
    steps = tmp_path / "steps.ndjson"
    half = len(lines[0]) // 2
    steps.write_text(lines[0][:half])
    with following(str(steps)) as process, steps.open("a") as growing:
        growing.write(lines[0][half:])
        growing.flush()
        assert line_of(process.stdout) == f"{LEGAL[0][0].exchange} {LEGAL[0][0].detail}\n"
        growing.writelines(lines[1:])
        growing.flush()
        assert line_of(process.stdout) == f"{LEGAL[0][0].exchange} closed, {LEGAL[0][-1].reason}\n"
        process.send_signal(signal.SIGINT)
        status, out, errors = ended(process)
    assert (status, errors) == (0, "")
    assert out.startswith(f"{steps}: 1 exchange, ")


def test_the_first_impossible_record_is_the_last_word(tmp_path: Path, lines: list[str]) -> None:
    steps = tmp_path / "steps.ndjson"
    steps.write_text("")
    with following(str(steps)) as process, steps.open("a") as growing:
        growing.writelines([lines[0], lines[0].replace('"request"', '"headers"'), *lines[1:]])
        growing.flush()
        status, _, errors = ended(process)
    assert (status, errors.count("\n")) == (1, 1)
    assert errors.startswith(f"h3ref: {steps}: line 2: exchange 1, headers: ")


def test_stdin_is_followed_to_its_end(lines: list[str]) -> None:
    with following("-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines[0])
        process.stdin.flush()
        assert line_of(process.stdout).startswith("1 GET ")
        process.stdin.write("".join(lines[1:]))
        status, out, errors = ended(process)
    assert (status, errors) == (0, "")
    assert out.splitlines()[-1].startswith("stdin: 1 exchange, ")


def test_a_file_that_becomes_shorter_is_told(tmp_path: Path, lines: list[str]) -> None:
    steps = tmp_path / "steps.ndjson"
    steps.write_text(lines[0])
    with following(str(steps)) as process:
        line_of(process.stdout)
        steps.write_text("")
        status, _, errors = ended(process)
    assert (status, errors) == (2, f"h3ref: {steps}: it has become shorter: run the command again\n")


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("{}\n", [], "stdin: line 1: not a record: "),
        ("\xff\n", [], "stdin: line 1: "),
        ("", [], "stdin: no step was recorded"),
        ("", ["--whole"], "--whole is for a recording that no longer grows, and --follow for one that does"),
        ("", ["--spec", "nowhere.json"], "can't read nowhere.json: No such file or directory"),
    ],
)
def test_what_cant_be_followed_is_status_2(text: str, arguments: list[str], said: str) -> None:
    with following("-", *arguments, stdin=subprocess.PIPE) as process:
        _, errors = process.communicate(text, timeout=60)
    assert (process.returncode, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"h3ref: {said}")


def test_a_file_that_is_not_there_is_status_2(tmp_path: Path) -> None:
    with following(str(tmp_path / "nothing")) as process:
        status, _, errors = ended(process)
    assert (status, errors) == (2, f"h3ref: can't read {tmp_path / 'nothing'}: No such file or directory\n")
