"""The harnesses for atheris run on what they begin with, so that they can't rot; and recordings that nobody wrote."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from h3ref.lab.recorder import Recording
from h3ref.trace import STEPS, Record
from tests import fuzz
from tests.fuzz import __main__ as command
from tests.fuzz import cut_of, record

T = TypeVar("T")


@pytest.mark.parametrize("name", command.HARNESSES)
def test_a_harness_takes_what_it_begins_with_and_parts_of_it(name: str) -> None:
    harness = importlib.import_module(f"tests.fuzz.{name}")
    seeds = list(harness.seeds())
    assert len(seeds) >= 20
    for seed in seeds:
        harness.take(seed)
        harness.take(seed[: len(seed) // 2])
    for data in (b"", b"\0", b"\1\2", bytes(range(256))):
        harness.take(data)


@pytest.mark.parametrize("name", command.HARNESSES)
def test_a_harness_finds_what_is_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: dict[str, tuple[str, Any]] = {
        "stream": ("h3ref.sse.EventStreamParser._count", lambda *_: None),
        "request": ("h3ref.adapters.h11_anyio.guard.Guard._judge_line", lambda *_: None),
        "record": ("h3ref.trace.Record.to_json", lambda record: "{}"),
    }
    monkeypatch.setattr(*broken[name])
    harness = importlib.import_module(f"tests.fuzz.{name}")
    with pytest.raises((AssertionError, ValueError)):
        take_all(harness)


def take_all(harness: Any) -> None:
    for seed in harness.seeds():
        harness.take(seed)


def test_an_input_says_how_it_is_cut() -> None:
    assert cut_of(b"") == (b"", [])
    assert cut_of(b"\1\2\3\4") == (b"", [])
    assert cut_of(b"\1\2\3\4abcdefghijkl") == (b"abcdefghijkl", [b"a", b"bc", b"def", b"ghij", b"k", b"l"])
    assert cut_of(b"\1\0\0\0abc") == (b"abc", [b"a", b"bc"])
    assert fuzz.CUTS == 4


def test_the_command_says_what_there_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "nothing"])
    with pytest.raises(SystemExit):
        command.main()
    assert "stream" in capsys.readouterr().err


# -- recordings

TEXTS = st.text(max_size=8)
VALUES: st.SearchStrategy[Any] = st.one_of(
    TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(TEXTS, max_size=2), st.just({})
)
RECORDS = st.builds(
    Record,
    time=st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
    exchange=st.integers(min_value=0),
    step=st.sampled_from(sorted(STEPS)) | TEXTS,
    who=TEXTS,
    to=TEXTS,
    trigger=st.none() | TEXTS,
    before=TEXTS,
    after=TEXTS,
    error=st.none() | TEXTS,
    rule=st.none() | TEXTS,
    reason=st.none() | TEXTS,
    size=st.none() | st.integers(min_value=0),
    detail=st.none() | TEXTS,
)


@settings(max_examples=300)
@given(records=st.lists(RECORDS, max_size=5))
def test_what_is_written_is_what_is_read(records: list[Record]) -> None:
    recording = Recording(records)
    text = recording.to_ndjson()
    assert Recording.from_ndjson(text) == recording
    assert Recording.from_ndjson(text.removesuffix("\n")) == recording or not records
    assert all(json.loads(line, parse_constant=pytest.fail) for line in text.splitlines())


@settings(max_examples=500)
@given(record=RECORDS, changes=st.dictionaries(st.sampled_from(list(Record.__slots__)) | TEXTS, VALUES, max_size=3))
@example(record=Record(0, 1, "", "", "", None, "", ""), changes={"time": float("inf")})
@example(record=Record(0, 1, "", "", "", None, "", ""), changes={"x_own": [None]})
def test_a_line_is_a_record_or_a_value_error_that_says_why(record: Record, changes: dict[str, Any]) -> None:
    line = json.dumps(json.loads(record.to_json()) | changes)
    found, said = read(Record.from_json, line)
    if found is None:
        assert said.startswith(("not a record: ", "not JSON: "))
    else:
        assert Record.from_json(found.to_json()) == found


ANYTHING = st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=10)


@settings(max_examples=200)
@given(text=st.text() | ANYTHING.map(json.dumps))
@example(text="[" * 100_000)
@example(text='{"a":' * 100_000)
@example(text='{"time": ' + "9" * 5000 + "}")
@example(text='{"time": -1e999}')
@example(text="-Infinity")
@example(text="\ufeff{}")
def test_what_is_no_record_is_a_value_error_that_says_why(text: str) -> None:
    found, said = read(Record.from_json, text)
    assert found is None
    assert said.startswith(("a record is a JSON object, not ", "not a record: ", "not JSON: "))


def read(reads: Callable[[str], T], text: str) -> tuple[T | None, str]:
    """What comes of a text, or what the ValueError says."""
    try:
        return reads(text), ""
    except ValueError as error:
        return None, str(error)


@settings(max_examples=500)
@given(text=st.text(alphabet='{}[]",:\\0123456789.-eEntrufalsx_ \r\n\ud800\u2028', max_size=60))
def test_text_is_a_recording_or_a_value_error_with_the_lines_number(text: str) -> None:
    recording, said = read(Recording.from_ndjson, text)
    if recording is None:
        assert said.startswith("line ")
    else:
        assert not recording


EDITS = st.tuples(
    st.integers(0, 600), st.integers(0, 8), st.text(alphabet='{}[]",:\\09.-eEntux_ \r\n\ud800', max_size=4)
)


@settings(max_examples=200)
@given(records=st.lists(RECORDS, min_size=1, max_size=3), edits=st.lists(EDITS, max_size=3))
def test_a_recording_with_other_signs_in_places_is_read_or_a_value_error_with_the_lines_number(
    records: list[Record], edits: list[tuple[int, int, str]]
) -> None:
    text = Recording(records).to_ndjson()
    for at, length, put in edits:
        text = text[:at] + put + text[at + length :]
    recording, said = read(Recording.from_ndjson, text)
    if recording is None:
        assert said.startswith("line ")
    else:
        assert Recording.from_ndjson(recording.to_ndjson()) == recording


@settings(max_examples=200)
@given(data=st.binary(max_size=80))
def test_bytes_are_taken_too(data: bytes) -> None:
    record.take(data)
