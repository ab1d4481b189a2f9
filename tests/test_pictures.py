"""The committed pictures are what the code draws now, from recordings made now."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from docs.generate import pictures
from docs.generate.pictures import CARD_HIGH, CARD_WIDE, DARK, FOLDER, PICTURES, SITE
from tests.pages import PAGES

NAMES = [*PICTURES, *(name.replace(".", "-dark.") for name in DARK)]
AGAIN = "it has drifted: python -m docs.generate.pictures draws it again"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    pictures.record.cache_clear()
    pictures.broken_and_fixed.cache_clear()
    pictures.main([str(folder)])
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_what_is_drawn_now(name: str, drawn: Path) -> None:
    committed, fresh = (FOLDER / name).read_text(encoding="utf-8"), (drawn / name).read_text(encoding="utf-8")
    assert committed == fresh or pytest.fail(f"{FOLDER / name}: {AGAIN}")


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_well_formed_and_says_what_it_shows(name: str) -> None:
    root = ElementTree.parse(FOLDER / name).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text


def test_no_picture_is_left_over_and_each_is_shown() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*NAMES, *SITE}
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in NAMES:
        assert f"pictures/{name}" in pages, f"no page shows {name}"


def test_the_card_and_the_icon_are_what_is_drawn_now(drawn: Path) -> None:
    card, fresh = (imread(folder / "card.png") for folder in (FOLDER, drawn))
    assert card.shape[:2] == (CARD_HIGH, CARD_WIDE)
    assert abs(card - fresh).max() < 0.01, AGAIN
    assert (FOLDER / "favicon.svg").read_bytes() == (drawn / "favicon.svg").read_bytes(), AGAIN
