"""Another language needs no rule of its own: a machine in JavaScript reads lifecycle.json, and a server is traced."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL

import pytest

from h3ref.lab.check import check
from h3ref.lab.recorder import Recording
from tests.conftest import require_program
from tests.pages import ROOT
from tests.ports import free_port
from tests.waits import blocking_until

PAGE = ROOT / "docs" / "how-to" / "trace-in-another-language.md"
VECTORS = sorted((ROOT / "spec" / "vectors" / "lifecycle").glob("*.json"))
RUNNER = Path(__file__).parent / "machine_in_node" / "run.mjs"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    node = require_program("node", "nodejs")
    return subprocess.run([node, *map(str, arguments)], capture_output=True, text=True, timeout=120, stdin=DEVNULL)


def test_it_passes_all_lifecycle_vectors() -> None:
    cases = [case for path in VECTORS for case in json.loads(path.read_text(encoding="utf-8"))["cases"]]
    done = run(RUNNER, ROOT / "spec" / "lifecycle.json", *VECTORS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{len(cases)} cases, {sum(len(case['steps']) for case in cases)} steps\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"next": "headers_sent"', '"next": "streaming"'),
        ('"error": "ConnectionNotReady"', '"error": "WriterClosed"'),
        ('"keeps_reason": true', '"keeps_reason": false'),
        ('"gives": "complete"', '"gives": "shutdown"'),
        ('"id": "L-17"', '"id": "L-99"'),
    ],
)
def test_the_vectors_find_another_machine(old: str, new: str, tmp_path: Path) -> None:
    text = (ROOT / "spec" / "lifecycle.json").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "lifecycle.json").write_text(text.replace(old, new, 1), encoding="utf-8")
    done = run(RUNNER, tmp_path / "lifecycle.json", *VECTORS)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr


@contextmanager
def shown_server(folder: Path, alter: str = "", to: str = "") -> Iterator[tuple[int, Path]]:
    """The page's server, with one text in it altered, on a free port, and the file that it traces into."""
    node = require_program("node", "nodejs")
    port = free_port()
    for name, text in re.findall(r"```js\n// (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        assert not alter or name == "trace.mjs" or alter in text
        (folder / name).write_text(
            text.replace("listen(3000)", f'listen({port}, "127.0.0.1")').replace(alter or "\0", to)
        )
    shutil.copy(ROOT / "spec" / "lifecycle.json", folder)
    steps = folder / "steps.ndjson"
    with (
        steps.open("wb") as out,
        subprocess.Popen([node, "server.mjs"], cwd=folder, stdin=DEVNULL, stdout=out) as process,
    ):
        try:
            yield port, steps
        finally:
            process.kill()


def traced(port: int, steps: Path, count: int) -> Recording:
    """Ask for so many streams, one after the other, and return what was recorded once all have ended."""

    def ask() -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/events", timeout=30) as answer:
                return bytes(answer.read())
        except OSError:  # it does not listen yet
            return b""

    blocking_until(ask)
    for _ in range(count - 1):
        assert ask() == b"data: hello\n\n"
    blocking_until(lambda: steps.read_text().count('"connection_closed"') == count)
    return Recording.from_ndjson(steps.read_text())


def test_what_the_pages_server_traces_is_legal(tmp_path: Path) -> None:
    with shown_server(tmp_path) as (port, steps):
        recording = traced(port, steps, 3)
    assert check(recording, whole=True) is None
    assert [record.step for record in recording].count("hands_over_writer") == 3


def test_a_step_that_is_left_out_is_found(tmp_path: Path) -> None:
    with shown_server(tmp_path, ', "sends_headers"]', "]") as (port, steps):
        recording = traced(port, steps, 1)
    violation = check(recording)
    assert violation is not None
    assert (violation.record.step, violation.rule) == ("headers", "T-16")


def test_the_bug_in_the_pages_server_is_named(tmp_path: Path) -> None:
    with shown_server(tmp_path, '"sends_headers"]', '"hands_over_writer", "sends_headers"]') as (port, steps):
        recording = traced(port, steps, 1)
    early = next(record for record in recording if record.step == "hands_over_writer")
    assert (early.error, early.rule, early.after) == ("ConnectionNotReady", "L-17", "sse_started")
