"""SECURITY.md: each promise names the tests that hold it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from h3ref import Limits
from tests.pages import functions_in

HOME = Path(__file__).parent.parent
PAGE = (HOME / "SECURITY.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)[2:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:50])
def test_each_threat_names_tests_that_exist(row: tuple[str, str, str]) -> None:
    names = re.findall(r"`([^`]+)`", row[2])
    assert names
    assert row[2] == " ".join(f"`{name}`" for name in names)
    for name in names:
        path, _, function = name.partition("::")
        assert function.startswith("test_")
        assert function in functions_in(HOME / path), name


def test_each_row_is_read() -> None:
    assert len(ROWS) == PAGE.count("\n| ") - 2 >= 18
    assert len({threat for threat, _, _ in ROWS}) == len(ROWS)


def test_each_limit_that_a_row_names_exists() -> None:
    named = set(re.findall(r"`(\w+_(?:size|timeout|threads|buffer|alive|age))`", "".join(does for _, does, _ in ROWS)))
    assert named - {"max_event_size"} <= {field for field in Limits.__dataclass_fields__}


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (HOME / link).exists(), link
