"""The README's first screen answers a newcomer's questions; what it links to exists. Its blocks run in test_docs."""

from __future__ import annotations

import re

import pytest

from h3ref import flows
from h3ref.connection import Connection, Transport

from .clients import ADAPTERS
from .pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:40])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"(?:\]\(|src(?:set)?=\")([^)#\"]+)[^)\"]*[)\"]", README))))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists(), link


@pytest.mark.parametrize(
    "words",
    [
        "make demo",
        "make test",
        f"[`flows.{flows.broken.__name__}`](h3ref/flows.py)",
        f"[`flows.{flows.callback.__name__}`](h3ref/flows.py)",
        "notebooks/01",
        "notebooks/02",
        f"[`{Transport.__module__.rpartition('.')[2]}.py`](h3ref/connection.py)",
        "[`adapters/memory.py`](h3ref/adapters/memory.py)",
        "(tests/clients.py)",
        "docs/pictures/",
    ],
)
def test_the_first_screen_has(words: str) -> None:
    assert words in FIRST_SCREEN


def test_what_it_says_of_adapters_holds() -> None:
    assert Transport.__module__ == Connection.__module__ == "h3ref.connection"
    assert "memory" in ADAPTERS
