"""The stepper: what it shows is recorded, its machine is the specification's, and a browser shows and moves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate import stepper
from docs.generate.stepper import CODE, FOLDER

# -- the recordings


@pytest.mark.parametrize("name", CODE)
def test_a_recording_is_what_is_recorded_now(name: str) -> None:
    for file, text in stepper.files_of(name).items():
        committed = (FOLDER / file).read_text(encoding="utf-8")
        assert committed == text, f"{file} has drifted: python -m docs.generate.stepper records it again"


def test_no_recording_is_left_over(tmp_path: Path) -> None:
    stepper.main([str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}
