"""`python -m tests.peers`, on suites as small as they can be: what it runs, leaves out, counts and says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import peers
from docs.generate.generated import update
from tests.pages import ROOT
from tests.peers.__main__ import SUITES, matching, parts_left_out

SUITE = """
import pytest
from sse_starlette import EventSourceResponse, JSONServerSentEvent, ServerSentEvent
from sse_starlette.event import ensure_bytes
from sse_starlette.sse import AppStatus, SendTimeoutError
from tests.anyio_compat import collapse_excgroups

@pytest.mark.parametrize("number", [1, 2])
def test_it_is_ours(number):
    assert "h3ref" in EventSourceResponse.__mro__[1].__module__
    AppStatus.should_exit = True

def test_the_next_one_begins_anew():
    assert not AppStatus.should_exit

@pytest.mark.skip
def test_skipped():
    pass
"""
LEFT_OUT = """
from sse_starlette.sse import _get_shutdown_state

def test_inside():
    assert _get_shutdown_state()
"""


def run(checkout: Path) -> subprocess.CompletedProcess[str]:
    options = ["--only", "sse-starlette", "--sse-starlette", str(checkout), "--work", str(checkout / "work")]
    return subprocess.run(
        [sys.executable, "-m", "tests.peers", *options, "--", "-p", "no:xdist"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_event.py").write_text(SUITE + "\ndef test_retry_is_int():\n    assert False\n")
    (tmp_path / "tests" / "test_issue132.py").write_text(LEFT_OUT)
    (tmp_path / "tests" / "conftest.py").write_text("raise SystemExit('theirs reaches inside')")
    return tmp_path


def test_a_suite_runs_on_ours_and_what_is_left_out_is_named_and_counted(checkout: Path) -> None:
    ended = run(checkout)
    assert "sse-starlette: 3 passed, 0 failed, 1 skipped, 2 left out:" in ended.stdout, ended.stdout + ended.stderr
    assert "compares the whole text of a message: tests/test_event.py::test_retry_is_int" in ended.stdout
    assert "sse-starlette has no test tests/test_issue152.py, which left_out.json names" in ended.stdout
    assert ended.returncode == 0


def test_a_failure_is_told(checkout: Path) -> None:
    (checkout / "tests" / "test_other.py").write_text("def test_fails():\n    assert False\n")
    ended = run(checkout)
    assert "sse-starlette: 3 passed, 1 failed, 1 skipped, 2 left out:" in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 1


def test_what_is_left_out_has_a_reason_and_stands_once() -> None:
    listed = json.loads((ROOT / "tests" / "peers" / "left_out.json").read_text(encoding="utf-8"))
    assert set(listed) == {suite.name for suite in SUITES}
    for name in listed:
        parts = parts_left_out(name)
        assert all(part.reason and part.tests for part in parts)
        tests = [test for part in parts for test in part.tests]
        assert not [test for test in tests for other in tests if test != other and matching(other, [test])]
        assert len(tests) == len(set(tests))


def test_the_page_has_the_figures_of_the_last_run_and_the_reasons() -> None:
    assert update(peers.PAGE, peers.parts, check=True, command="python -m docs.generate.peers") == 0
    figures = json.loads(peers.FIGURES.read_text(encoding="utf-8"))
    assert [name.split()[0] for name in figures] == [suite.name for suite in SUITES]
    assert all(figure["failed"] == 0 < figure["passed"] for figure in figures.values())


def test_a_name_stands_for_a_file_a_class_a_function_or_a_case() -> None:
    names = ["tests/a.py::A::test_b[1]", "tests/a.py::A::test_b[2]", "tests/a.py::test_bc", "tests/ab.py::test_b"]
    assert matching("tests/a.py", names) == names[:3]
    assert matching("tests/a.py::A", names) == names[:2]
    assert matching("tests/a.py::A::test_b[1]", names) == names[:1]
    assert matching("tests/a.py::test_b", names) == []
