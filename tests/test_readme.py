"""The README's first screen answers a newcomer's questions; what it links to exists. Its blocks run in test_docs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import get_args

import pytest

from h3ref import Limits, flows
from h3ref._core.generator import DEFAULT_COMMIT_AFTER
from h3ref.adapters.asgi.response import DEFAULT_PING
from h3ref.channel.options import Policy
from h3ref.connection import Connection, Transport
from h3ref.lab.demo.report import place
from tests.clients import ADAPTERS
from tests.pages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:45])


LINK: dict[Callable[..., object], str] = {
    flow: place(flow).replace(":", "#L") for flow in (flows.broken, flows.callback, flows.awaited, flows.blocking)
}
"""To the line of a flow's bug or fix."""


@pytest.mark.parametrize("link", sorted(set(re.findall(r"(?:\]\(|src(?:set)?=\")([^)#\"]+)[^)\"]*[)\"]", README))))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists(), link


def test_what_it_links_to_is_in_the_sdist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    linked = {link.partition("/")[0] for link in re.findall(r"\]\(([^):#]+)[^)]*\)", README)}
    assert {f"/{name}" for name in linked} <= included


@pytest.mark.parametrize(
    "words",
    [
        "make demo",
        "make test",
        f"[`flows.broken`]({LINK[flows.broken]})",
        f"[`flows.callback`]({LINK[flows.callback]})",
        f"[`awaited`]({LINK[flows.awaited]})",
        f"[`blocking`]({LINK[flows.blocking]})",
        "notebooks/01",
        "notebooks/02",
        f"[`{Transport.__module__.rpartition('.')[2]}.py`](h3ref/connection.py)",
        "[`adapters/memory.py`](h3ref/adapters/memory.py)",
        "(tests/clients.py)",
        "docs/pictures/",
        "(CONTRIBUTING.md)",
        "(docs/house.md)",
    ],
)
def test_the_first_screen_has(words: str) -> None:
    assert words in FIRST_SCREEN


@pytest.mark.parametrize("text", [README, HOME], ids=["README", "home"])
def test_it_opens_with_the_readers_trouble_then_the_bug_then_what_fixes_it(text: str) -> None:
    trouble = text.index("Your stream returned 200, and then nothing.")
    bug, fix, install = (text.index(part) for part in (_line_of(flows.broken), _line_of(flows.callback), "pip install"))
    assert trouble < 200
    assert bug < fix < text.index("## Why choose it")
    assert install < text.index("## Why choose it")
    assert "flows.py" in text


def _line_of(flow: Callable[..., object]) -> str:
    path, _, line = place(flow).partition(":")
    code = (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1].partition("  # the ")[0].strip()
    return f"`{code}`"


@pytest.mark.parametrize("flow", [flows.broken, flows.callback])
def test_the_line_that_it_quotes_is_the_line_that_it_links(flow: Callable[..., object]) -> None:
    (row,) = (row for row in README.splitlines() if f"({LINK[flow]})" in row)
    assert _line_of(flow) in row


def test_what_it_says_of_adapters_holds() -> None:
    assert Transport.__module__ == Connection.__module__ == "h3ref.connection"
    assert "memory" in ADAPTERS


def test_what_it_says_of_time_and_of_slow_readers_holds() -> None:
    text = " ".join(README.split())
    assert "its first item, for which the headers wait a second at most (`commit_after`)" in text
    assert DEFAULT_COMMIT_AFTER == 1
    assert "A silent stream is kept alive** by a comment every 15 seconds" in text
    assert Limits().stream_keep_alive == DEFAULT_PING == 15
    assert "what happens to a slow reader: it is cut and resumes, it misses events, or all others wait for it" in text
    assert get_args(Policy) == ("disconnect", "drop", "wait")
