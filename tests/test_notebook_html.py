"""What notebooks show as HTML: code in columns with its decisive lines, the matrix of cells, and the reasons."""

from __future__ import annotations

import inspect
import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from h3ref import State, flows
from h3ref.examples import callback as example
from h3ref.lab.cells import ACCEPTED, NOTHING, REFUSED, Cells, Reasons
from h3ref.lab.code import CodeBeside
from h3ref.lab.notebook import code_beside
from h3ref.lab.themed import style
from h3ref.lifecycle import TRIGGERS
from tests.chromium import launched
from tests.pages import ROOT

LIFECYCLE = ROOT / "spec" / "lifecycle.json"
CELLS: list[dict[str, Any]] = json.loads(LIFECYCLE.read_text(encoding="utf-8"))["cells"]
TRIED = {
    (cell["state"], cell["trigger"]): (cell["error"], cell["id"]) if "error" in cell else (cell["next"], "")
    for cell in CELLS
}
IDS = {(cell["state"], cell["trigger"]): cell["id"] for cell in CELLS}


class Parts(HTMLParser):
    """The text of each element of some class, and every link."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[tuple[str, str]] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag not in ("br", "wbr"):
            self._open.append(found.get("class") or "")
            self.texts.append((self._open[-1], ""))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            name, text = self.texts[-1]
            self.texts[-1] = name, text + data


def lines_of(html: str, mark: str) -> list[str]:
    """The text of each line that is marked so."""
    found = re.findall(rf'^<b class="line {mark}"[^>]*>(.*?)</b>$', html, re.MULTILINE)
    return [re.sub("<[^>]+>", "", line).strip() for line in found]


def test_code_stands_in_columns_and_the_decisive_line_of_each_is_marked() -> None:
    shown = code_beside(
        broken_one=example.broken,
        fixed=(example.callback, example.send_all),
        bug=["event.get_sse_writer()"],
        fix=["event.set_stream_callback(send_all)"],
    )
    html = shown._repr_html_()
    assert re.findall("<figcaption>(.*?)</figcaption>", html) == ["broken one", "fixed"]
    assert lines_of(html, "bug") == ["writer = event.get_sse_writer()"]
    assert lines_of(html, "fix") == ["event.set_stream_callback(send_all)"]
    assert re.search(r"^bug: +writer = event.get_sse_writer\(\)$", repr(shown), re.MULTILINE)
    assert "async def send_all" in re.sub("<[^>]+>", "", html)
    assert len(re.findall('class="line', html)) == len([line for line in repr(shown).split("\n")]) - 2 - 1


def test_code_is_lines_even_where_a_page_drops_styles() -> None:
    (block,) = re.findall("<pre>(.*)</pre>", code_beside(one=example.callback)._repr_html_(), re.DOTALL)
    assert unescape(re.sub("<[^>]+>", "", block)) == inspect.getsource(example.callback).strip()


@pytest.mark.slow
def test_in_jupyterlab_the_breaks_between_lines_make_no_lines_of_their_own() -> None:
    own = ".jp-ThemedContainer .jp-RenderedHTMLCommon pre { white-space: pre-wrap; padding: 0; line-height: 3; }"
    html = code_beside(one=example.callback, two="one = 1\ntwo = 2")._repr_html_()
    with launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_content(
            f"<!DOCTYPE html><style>{own}</style><body class=jp-ThemedContainer><div class=jp-RenderedHTMLCommon>{html}"
        )
        tops = page.evaluate("[...document.querySelectorAll('figure:last-child .line')].map(each => each.offsetTop)")
    assert tops[1] - tops[0] < 25


def test_the_lines_of_the_flows_are_as_they_stand_in_their_file() -> None:
    html = CodeBeside({"the flow": flows.broken}, bug=["await exchange.run_handler()"])._repr_html_()
    (line,) = lines_of(html, "bug")
    assert line.startswith("await exchange.run_handler()")
    assert "# the bug" in line


@pytest.mark.parametrize("mark", ["no such line", "event"])
def test_a_mark_is_of_one_line(mark: str) -> None:
    with pytest.raises(ValueError, match=f"'{mark}' is to mark one line, and is in "):
        code_beside(broken=example.broken, bug=[mark])


def test_every_cell_has_its_kind_and_leads_to_its_rule() -> None:
    cells = Cells(TRIED, IDS)
    html = cells._repr_html_()
    parts = Parts(html)
    kinds = re.findall('<td class="(.*?)"', html)
    assert len(kinds) == len(State) * len(TRIGGERS) == 40
    assert kinds.count(REFUSED) == sum("error" in cell for cell in CELLS)
    nothing = [cell for cell in CELLS if cell.get("next") == cell["state"] == State.CLOSED]
    assert kinds.count(NOTHING) == len(nothing)
    assert kinds.count(ACCEPTED) == 40 - len(nothing) - kinds.count(REFUSED)
    assert sorted(parts.links) == sorted(f"#{cell['id']}" for cell in CELLS)
    plain = re.sub("<wbr>", "", html)
    refused = f'<td class="{REFUSED}" data-state="sse_started"><span>✗ ConnectionNotReady</span><br>'
    assert f'{refused}<a href="#L-17">L-17</a></td>' in plain
    assert "sse_started: ✗ ConnectionNotReady; headers_sent: → streaming" in repr(cells)


def test_a_cell_that_was_not_tried_is_named() -> None:
    fewer = {cell: found for cell, found in TRIED.items() if cell != ("streaming", "close")}
    with pytest.raises(ValueError, match="1 cells were not tried, such as close in streaming"):
        Cells(fewer, IDS)


def test_each_reason_is_an_anchor_that_leads_to_the_specification() -> None:
    told = Reasons(CELLS)._repr_markdown_()
    for cell in CELLS:
        rule = cell["id"]
        (line,) = (line for line in told.split("\n") if line.startswith(f'- <a id="{rule}"></a>'))
        assert f"[{rule}](../spec/rules.md#{rule})" in line
        assert line.endswith(cell["why"])
    page = (LIFECYCLE.parent / "rules.md").read_text(encoding="utf-8")
    assert all(f'<a id="{cell["id"]}"></a>' in page for cell in CELLS)
    assert "L-17  get_writer in sse_started: refused, ConnectionNotReady." in repr(Reasons(CELLS))


def test_every_colour_has_a_dark_one() -> None:
    light, *dark = (set(re.findall("--h3lab-([\\w-]+):", part)) for part in re.findall(r"\.h3lab \{(.*?)\}", style("")))
    assert dark == [light, light]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_columns_stand_below_each_other_on_a_phone_and_all_can_be_read(scheme: Any) -> None:
    shown = code_beside(broken=example.broken, fixed=example.callback, bug=["event.get_sse_writer()"])
    html = f"<!DOCTYPE html><body>{shown._repr_html_()}{Cells(TRIED, IDS)._repr_html_()}"
    with launched() as browser:
        for width, columns in ((390, 1), (759, 1), (1280, 2)):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.set_content(html)
            lefts = page.evaluate("[...document.querySelectorAll('figure')].map(each => each.offsetLeft)")
            assert len(set(lefts)) == columns
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            sizes = page.evaluate(
                "[...document.querySelectorAll('.line, td, th')]"
                ".map(each => parseFloat(getComputedStyle(each).fontSize))"
            )
            assert min(sizes) >= 13
