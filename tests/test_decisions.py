"""docs/decisions.md: each decision says what, why, what was rejected, and which tests hold it; and they are there."""

from __future__ import annotations

import re

import pytest

from tests.pages import ROOT, functions_in

PAGE = ROOT / "docs" / "decisions.md"
PARTS = ["Decided", "Because", "Rejected", "Held by"]
DECISIONS: list[tuple[str, str]] = re.findall(
    r"^### ([^\n]+)\n\n(.+?)(?=\n\n|\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


def parts_of(decision: str) -> dict[str, str]:
    """What stands behind each bold word of a decision."""
    return dict(re.findall(r"^- \*\*(.+?):\*\* (.+?)(?=\n- |\Z)", decision, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(("question", "decision"), DECISIONS, ids=[question[:50] for question, _ in DECISIONS])
def test_a_decision_has_its_reason_and_names_tests_that_exist(question: str, decision: str) -> None:
    assert question.endswith("?")
    parts = parts_of(decision)
    assert list(parts) == PARTS
    named = re.findall(r"\[`([\w/]+\.py)::(\w+)`\]\((\S+)\)", parts["Held by"])
    assert named
    assert parts["Held by"].split() == [f"[`{file}::{test}`]({link})" for file, test, link in named], "nothing else"
    for file, test, link in named:
        assert link == f"../tests/{file}"
        assert test.startswith("test_")
        assert test in functions_in(ROOT / "tests" / file), f"{file} has no {test}"


def test_each_decision_is_read_and_stands_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(DECISIONS) == text.count("\n### ") == text.count("**Held by:**") >= 30
    assert len({question for question, _ in DECISIONS}) == len(DECISIONS)
