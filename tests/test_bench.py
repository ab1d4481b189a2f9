"""The benchmarks run and report; what they measure is never asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from h3ref.lab.bench import codec

TINY = ["--rounds", "2", "--events", "3"]


def test_the_codec_benchmark_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "codec.json"
    assert codec.main([*TINY, "--json", str(path)]) == 0
    shown = capsys.readouterr()
    for task, workloads in (
        ("build and encode", codec.ENCODE_WORKLOADS),
        ("encode", codec.ENCODE_WORKLOADS),
        ("parse", codec.PARSE_WORKLOADS),
    ):
        for workload in workloads:
            assert f"{task}: {workload.name}" in shown.out
            assert f"{task}, {workload.name}" in shown.err
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["events"], document["rounds"]) == (3, 2)
    there, missing = codec.installed()
    assert document["missing"] == missing
    assert {result["package"] for result in document["results"]} == {one.package for one in there}
    for result in document["results"]:
        assert 0 < result["best"] <= result["median"]
        assert 0 < result["ratio_min"] <= result["ratio_median"]


def test_a_peer_that_is_not_installed_is_named_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(_: object) -> codec.Run:
        raise ImportError("no such peer")

    ours = codec.CONTENDERS[0]
    monkeypatch.setattr(codec, "CONTENDERS", (ours, codec.Contender("absent-sse", parse=absent)))
    assert codec.main(TINY) == 0
    shown = capsys.readouterr()
    assert "not measured: absent-sse" in shown.err
    assert "absent-sse" not in shown.out
    assert "h3ref" in shown.out


def test_a_parser_that_does_other_work_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = codec.Contender("lazy-sse", parse=lambda chunks: lambda: 0)
    monkeypatch.setattr(codec, "CONTENDERS", (codec.CONTENDERS[0], lazy))
    with pytest.raises(RuntimeError, match="lazy-sse found 0 events in a stream of 3"):
        codec.main(TINY)


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--events", "-1"], ["--events", "x"]])
def test_a_count_that_is_none_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        codec.main(arguments)
    assert caught.value.code == 2
    assert "invalid" in capsys.readouterr().err
