"""Where time goes, and what a commit was worth: that the right things are looked at. Speed is never asserted."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest

import h3ref
from docs.generate import history, imports, profile
from h3ref.lab.bench.load import check
from h3ref.lab.bench.process import ServerFailed, ServerProcess
from h3ref.lab.bench.systems import System

HOUSE = str(Path(h3ref.__file__).parent)


@pytest.mark.parametrize(
    ("files", "part"),
    [
        (["h3ref/sse/event.py"], "`SSEEvent`: its values checked, and encoded"),
        (["h3ref/adapters/h11_anyio/stream.py", "h3ref/writer.py"], "framing, and the system call that sends"),
        (["python/asyncio/tasks.py", "packages/anyio/_core.py", "h3ref/writer.py"], "the writer"),
        (["h3ref/writer.py", "h3ref/_core/order.py"], "the writer"),
        (["packages/h11/_connection.py", "h3ref/adapters/h11_anyio/peer.py"], "the guard, and h11"),
        (["h3ref/adapters/h11_anyio/peer.py"], "accepting, reading and closing"),
        (["h3ref/adapters/h11_anyio/flusher.py"], "rounds of sending, deadlines, watching for a client that leaves"),
        (["h3ref/lab/bench/servers/ours.py", "h3ref/_core/exchange.py"], "the benchmark's own handler"),
        (["h3ref/_core/exchange.py"], "the application, the exchange and its flow"),
        (["python/asyncio/events.py", "h3ref/lab/bench/servers/__main__.py"], profile.LOOP),
    ],
)
def test_a_look_counts_for_the_innermost_function_of_ours(files: list[str], part: str) -> None:
    assert profile.part_of([f"/somewhere/{file}:f.<locals>.g" for file in files]) == part


def test_each_module_of_the_native_adapter_is_named_by_one_part() -> None:
    for path in Path(HOUSE, "adapters", "h11_anyio").glob("[a-z]*.py"):
        named = [part for part, files in profile.PARTS.items() if f"h11_anyio/{path.name}" in files]
        assert len(named) == (path.name != "group.py"), f"{path.name}: {named}"  # which counts as the channel's


@pytest.mark.skipif(sys.platform == "win32", reason="CPU time is not counted so")
@pytest.mark.parametrize("workload", profile.WORKLOADS, ids=lambda workload: workload.name)
def test_a_server_is_looked_at_under_load(workload: profile.Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    once = workload._replace(times=1)
    for more in (1, 10, 100):  # a fast machine is through with few before it is looked at once
        amounts = profile.Amounts(events=20_000 * more, streams=20, deliveries=50_000 * more, requests=60 * more)
        monkeypatch.setattr(profile, "AMOUNTS", amounts)
        found = profile.profile(once)
        if found.looks:
            break
    assert found.cost > 0
    assert found.looks == sum(found.parts.values()) > 0
    assert set(found.parts) <= {*profile.PARTS, profile.LOOP}


def test_a_profile_comes_back_from_json(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    one = profile.Profile("one stream", "event", 1.25, 4, {"the writer": 1, profile.LOOP: 3})
    path.write_text(json.dumps({"machine": {}, "profiles": [one._asdict()]}))
    assert profile.load(path) == [one]
    assert list(profile.lines([one])) == [
        "one stream: 1.25 us of CPU an event; 4 looks",
        "   75.0%  the event loop itself",
        "   25.0%  the writer",
    ]
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no profile: KeyError"):
        profile.load(path)


def test_what_an_import_takes_comes_back_from_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "measured", functools.partial(imports.measured, runs=1))
    path = tmp_path / "imports.json"
    assert imports.main([str(path)]) == 0
    found = imports.load(path)
    assert found.runs == 1
    assert min(found.python, found.h3ref, found.starlette) > 0
    path.write_text("{}")
    with pytest.raises(ValueError, match="has no times of imports: KeyError"):
        imports.load(path)


def test_an_import_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(imports.PROGRAMS, "starlette", "import nothing_like_it")
    assert imports.main([str(tmp_path / "imports.json")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No module named 'nothing_like_it'" in said


def test_times_of_imports_are_told_without_the_start_of_python() -> None:
    found = imports.Imports(runs=15, python=10.0, h3ref=60.0, starlette=110.0)
    assert found.ratio == 0.5
    first, _ = imports.lines(found)
    assert first.startswith("`import h3ref` takes 50 ms, and `import starlette.applications` 100 ms: ×0.5.")


def test_a_server_is_of_the_folder_that_it_is_told(tmp_path: Path) -> None:
    """A folder with another h3ref in it, whose server says so."""
    bench = tmp_path / "h3ref" / "lab" / "bench"
    bench.mkdir(parents=True)
    for package in (bench.parents[1], bench.parent, bench):
        (package / "__init__.py").touch()
    (bench / "servers.py").write_text("import sys; sys.exit('another h3ref')")
    with pytest.raises(ServerFailed, match="another h3ref"), ServerProcess("old", ["ours"], tmp_path):
        pass


@pytest.mark.skipif(not Path(HOUSE).parent.joinpath(".git").exists(), reason="no git checkout")
def test_a_commit_serves_beside_today() -> None:
    with history.checked_out(["HEAD"]) as [system]:
        assert isinstance(system, System)
        assert system.home is not None
        assert system.home.joinpath("h3ref", "lab", "bench", "servers", "ours.py").is_file()
        with ServerProcess(system.title, system.arguments, system.home) as server:
            check(server.port)
    assert not system.home.exists()


def test_what_is_no_commit_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert history.main([str(tmp_path / "x.json"), "no-such-commit"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no-such-commit" in said or "not a git repository" in said
