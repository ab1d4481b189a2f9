"""The pages speak English: what no native author would write is refused, where a pattern can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.pages import PAGES, ROOT

REFUSED = {
    "whoever, or a noun": re.compile(
        r"(?:(?:^|[.:;,] |\*\* )(?!.*\?$)Who|[.:;] who) (?!is who|asks\b.*\?)(?:[a-z]+s|takes|has|does) ", re.MULTILINE
    ),
    "for whoever, or an infinitive": re.compile(r"\b(?:for|to|by) who [a-z]+s\b"),
    "a user is they, a client is it": re.compile(r"\b(?:he|him|his)\b"),
}
"""What to write in its place, and how it is found."""

LEFT = {
    "docs/matrix/index.md",  # what the judge says, and the names of peers
    "docs/proof.md",  # drawn from the model's own words
    "docs/house.md",  # a map, with first lines of docstrings in it
}
"""Pages that are generated for the most part."""


def prose_of(text: str) -> str:
    """Leave out what is no prose: blocks of code, what stands in back quotes, and headings that are questions."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`|^#.*\?$", "", text, flags=re.MULTILINE)


def found_in(text: str) -> Iterator[str]:
    """Yield what is refused in a text, with what to write."""
    prose = prose_of(text)
    for instead, pattern in REFUSED.items():
        for match in pattern.finditer(prose):
            yield f"{match.group()!r}: {instead}"


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in PAGES])
def test_a_page_has_nothing_that_is_refused(page: str) -> None:
    if page not in LEFT:
        assert list(found_in((ROOT / page).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "Who asks too early gets an error.",
        "It is closed; who waits gets a 503.",
        "A method for who wants more.",
        "A reader gets what he missed.",
    ],
)
def test_what_is_refused_is_found(text: str) -> None:
    assert len(list(found_in(text))) == 1


@pytest.mark.parametrize(
    "text",
    ["Whoever asks too early gets an error.", "A user who asks gets it.", "### Who waits for a reader?", "`who asks`"],
)
def test_english_is_not(text: str) -> None:
    assert list(found_in(text)) == []


def test_the_change_log_is_a_summary_by_area_and_says_nothing_twice() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith("#")]
    assert len(headings) == len(set(headings))
    assert sum(line.startswith("### ") for line in headings) > 5
    begun = [line for line in lines if line.startswith("- ")]
    assert len(begun) == len(set(begun))
    area = ""
    for line in lines:
        area = line if line.startswith("#") else area
        assert not line.startswith("- ") or area.startswith("### "), f"{line}: it belongs under an area's heading"


def test_each_word_of_ours_is_in_the_glossary() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = set(re.findall(r"^(.+)\n: ", text, re.MULTILINE))
    assert {"flow", "exchange", "commit", "gap", "farewell", "round", "cut", "proper end"} <= terms
