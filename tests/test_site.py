"""The site: it builds without a warning, no link in it is dead, and a browser shows each page whole."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode, urlsplit

import pytest

from h3ref import ConnectionNotReady, flows
from h3ref.lifecycle import TRIGGERS
from tests.accessibility import axe, faults
from tests.chromium import launched
from tests.conftest import require_program
from tests.live_cells import cells, served
from tests.pages import PAGES, ROOT, contains
from tests.test_versioning import DOCUMENTED

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NARROW, WIDE = 390, 1280
"""Pixels: a telephone, and a small window on a desk, where no code and no table has to be scrolled sideways."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *SPHINX, "-d", str(folder / "doctrees"), str(ROOT), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return folder / "html"


SPHINX = ("-c", str(ROOT / "docs"), "-b", "html", "-W", "--keep-going", "-n", "-q")


def test_make_docs_builds_it_as_the_tests_do() -> None:
    (line,) = re.findall(r"-m sphinx (.+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert {option.replace(f"{ROOT}/", "") for option in SPHINX} <= set(line.split())


class Page(HTMLParser):
    """The places of a page, and what it points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.places.add(value or "")
            elif name in ("href", "src") and value:
                self.targets.add(value)
            elif name == "srcset" and value:
                self.targets.update(part.split()[0] for part in value.split(","))


@cache
def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def dead_ends(site: Path) -> Iterator[str]:
    """Yield what leads nowhere within the site, each with its page."""
    for path in sorted(site.rglob("*.html")):
        for target in page(path).targets:
            address = urlsplit(target)
            if address.scheme or address.netloc:
                continue
            there = (path.parent / unquote(address.path)).resolve() if address.path else path
            there = there / "index.html" if there.is_dir() else there
            lost = address.fragment and there.suffix == ".html" and there.exists()
            if not there.exists() or (lost and unquote(address.fragment) not in page(there).places):
                yield f"{path.relative_to(site)}: {target}"


def test_every_link_and_picture_is_there(site: Path) -> None:
    assert not list(dead_ends(site))


def test_a_dead_end_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there"></a><a href="b.html#not"></a><img src="none.png">')
    (tmp_path / "b.html").write_text('<p id="there"><a href="a.html"></a><a href="http://127.0.0.1/x"></a>')
    assert sorted(dead_ends(tmp_path)) == ["a.html: b.html#not", "a.html: none.png"]


def test_a_link_to_what_a_file_defines_leads_to_its_line(site: Path) -> None:
    line = inspect.getsourcelines(flows.by_handler)[1]
    assert f"../source/h3ref/flows.py.html#line-{line}" in page(site / "docs" / "house.html").targets


def test_every_page_is_in_it(site: Path) -> None:
    written = {*PAGES, *(ROOT / "notebooks").glob("*.ipynb")} - {ROOT / "README.md"}
    assert len(written) > 30
    for path in written:
        assert (site / path.relative_to(ROOT).with_suffix(".html")).exists(), path


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    places = {place for path in (site / "docs" / "reference").glob("*.html") for place in page(path).places}
    assert {*DOCUMENTED, "module-h3ref.flows"} - places == set()


def test_llms_txt_lists_each_page_and_each_is_there_as_markdown(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# h3ref\n\n> \S", text)
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)(?:: \S|$)", text, re.MULTILINE)
    written = {*PAGES, *(ROOT / "notebooks").glob("*.ipynb")} - {ROOT / "README.md", ROOT / "docs" / "index.md"}
    assert {str(path.relative_to(ROOT).with_suffix(".md").as_posix()) for path in written} <= set(links)
    assert len(links) == len(set(links))
    for link in links:
        assert (site / link).read_text(encoding="utf-8").startswith("# "), link


def test_one_file_has_all_pages_as_documentation_for_tools(site: Path) -> None:
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    pages = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", (site / "llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("docs/index.md", *pages):
        assert (site / name).read_text(encoding="utf-8") in whole, name
    assert "Serve an app until SIGINT or SIGTERM" in whole, "docstrings are in it"
    assert "| limit " in whole or "stream_buffer" in whole, "what directives make is in it"
    assert 'states = " → ".join(run.recording.states)' in whole, "notebooks are in it"
    assert "[source]" not in whole
    assert str(ROOT) not in whole


def test_a_table_that_a_cell_puts_out_is_a_table(site: Path) -> None:
    text = (site / "notebooks" / "04-the-machine.html").read_text(encoding="utf-8")
    (table,) = re.findall(r"<table.*?</table>", text, re.DOTALL)
    assert table.count("<tr") == 1 + len(TRIGGERS)
    assert "ConnectionNotReady" in table.replace("<wbr>", "")  # where a long word may break
    assert "| --- |" not in text


def test_each_term_of_the_glossary_is_a_place(site: Path) -> None:
    terms = re.findall(r"^(.+)\n: ", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(terms) > 25
    places = page(site / "docs" / "glossary.html").places
    assert {f"term-{term.replace(' ', '-')}" for term in terms} <= places


def test_each_rule_is_a_place(site: Path) -> None:
    spec = json.loads((ROOT / "spec" / "lifecycle.json").read_text(encoding="utf-8"))
    rules = {rule["id"] for rule in (*spec["cells"], *spec["orders"])}
    assert len(rules) == 79
    assert rules <= page(site / "spec" / "rules.html").places


def test_it_speaks_of_no_machine(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for mark in (str(ROOT), str(Path.home()), sys.prefix):
            assert mark not in text, f"{path.relative_to(site)} has {mark}"


def test_it_asks_no_other_host_for_anything(site: Path) -> None:
    for path in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"((?:https?:)?//[^\"]+)", path.read_text(encoding="utf-8")
        )
        assert not loaded, f"{path.relative_to(site)} loads {loaded}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


LOOK = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = (element) => {
        for (let above = element.parentElement; above; above = above.parentElement) {
            if (["auto", "scroll", "hidden"].includes(getComputedStyle(above).overflowX)) return true;
        }
        return false;
    };
    const wide = document.documentElement.scrollWidth <= width ? [] : [...document.querySelectorAll("article *")]
        .filter((element) => element.getBoundingClientRect().right > width + 1 && !scrolls(element))
        .map((element) => `${element.tagName}: ${element.textContent.trim().slice(0, 60)}`);
    return {
        over: document.documentElement.scrollWidth - width,
        wide: wide.slice(0, 5),
        cut: [...document.querySelectorAll("article .highlight pre, article .table-wrapper")]
            .filter((element) => element.scrollWidth > element.clientWidth + 1)
            .map((element) => element.textContent.trim().slice(0, 60)),
        broken: [...document.images].filter((image) => !image.complete || !image.naturalWidth).map(({ src }) => src),
    };
}"""


def pages_of(site: Path) -> list[Path]:
    """All pages but those that show a file, of which two stand for all."""
    forwards = site / "index.html"  # to another page, at once
    paths = [path for path in site.rglob("*.html") if "source" not in path.relative_to(site).parts and path != forwards]
    assert len(paths) > 20
    return [*paths, site / "source" / "h3ref" / "flows.py.html", site / "source" / "spec" / "lifecycle.json.html"]


def on_each_page(site: Path, browser: Browser, width: int, program: str) -> Iterator[tuple[Path, Any]]:
    """Run a program in each page at a width; yield the page's path in the site, and what the program returns."""
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        tab = context.new_page()
        for path in pages_of(site):
            tab.goto(path.as_uri())
            yield path.relative_to(site), tab.evaluate(program)


RESIZED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""The page has been told of its new size: a browser does that before the next frame."""


def test_everybody_can_read_every_page(site: Path, browser: Browser, request: pytest.FixtureRequest) -> None:
    """axe-core finds nothing serious: on a desk, in the dark as to contrast, on a telephone as to scrolling."""
    program = axe(request)
    wrong: dict[str, Any] = {}
    with browser.new_context(viewport={"width": WIDE, "height": 900}, color_scheme="light") as context:
        tab = context.new_page()
        for path in pages_of(site):
            tab.set_viewport_size({"width": WIDE, "height": 900})
            tab.emulate_media(color_scheme="light")
            tab.goto(path.as_uri())
            found = faults(tab, program)
            tab.emulate_media(color_scheme="dark")
            found += faults(tab, program, rules=["color-contrast"])
            tab.set_viewport_size({"width": NARROW, "height": 900})
            tab.wait_for_function("() => innerWidth === 390")
            tab.evaluate(RESIZED)
            found += faults(tab, program, rules=["scrollable-region-focusable"])
            if found:
                wrong[str(path.relative_to(site))] = found
    assert not wrong


DRAWINGS = """() => [...document.querySelectorAll("article svg[role=img], article img")].map((drawing) => {
    const rounded = (box) => [box.left, box.top, box.right, box.bottom];
    const card = drawing.getBoundingClientRect();
    const frames = [...drawing.querySelectorAll("path")]
        .filter((path) => /Q.*Q.*Q.*Q.*z/s.test(path.getAttribute("d")) && !path.closest(".text"))
        .map((path) => path.getBoundingClientRect())
        .filter((box) => box.width > 30 && box.height > 15);
    const texts = [...drawing.querySelectorAll(".text")].map((text) => {
        const letters = text.querySelector("g[transform*=scale], path") ?? text;
        const box = text.getBoundingClientRect();
        const crossed = frames.some((frame) => {
            const beside = box.right <= frame.left || box.left >= frame.right || box.bottom <= frame.top ||
                box.top >= frame.bottom;
            const within = box.left >= frame.left + 2 && box.right <= frame.right - 2 && box.top >= frame.top + 1 &&
                box.bottom <= frame.bottom - 1;
            return !beside && !within;
        });
        const matrix = letters.getScreenCTM();
        return {size: Math.hypot(matrix.c, matrix.d) * 100, crossed, box: rounded(box),
                within: box.left >= card.left + 2 && box.right <= card.right - 2 && box.top >= card.top + 2 &&
                    box.bottom <= card.bottom - 2};
    });
    return {
        alt: drawing.getAttribute("aria-label") ?? drawing.getAttribute("alt") ?? "", texts, wide: card.width,
        src: (drawing.getAttribute("src") ?? "").slice(0, 80),
    };
})"""


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_every_drawing_can_be_read_where_it_stands(site: Path, browser: Browser, width: int) -> None:
    """Its letters have 13 pixels and more, touch no frame, and it has a sentence for those who can't see it."""
    wrong: list[str] = []
    letters = 0
    for path, drawings in on_each_page(site, browser, width, DRAWINGS):
        for drawing in drawings if path.name != "py-modindex.html" else ():  # its signs fold lists
            where = f"{path}: {drawing['alt'][:60]!r} {drawing['src']}"
            if len(drawing["alt"].split()) < 4 or re.search(r"\.(?:png|svg)\b", drawing["alt"]):
                wrong.append(f"{where} does not say what it shows")
            letters += len(drawing["texts"])
            small = [text["size"] for text in drawing["texts"] if text["size"] < 12.99]
            crossed = [text["box"] for text in drawing["texts"] if text["crossed"] or not text["within"]]
            if small or crossed:
                wrong.append(f"{where}: {len(small)} texts of {min(small, default=0)} px; on a frame: {crossed}")
    assert letters > 500
    assert not wrong, "\n".join(wrong)


def test_a_page_says_what_it_is_about(site: Path) -> None:
    for path in site.glob("docs/**/*.html"):
        text = path.read_text(encoding="utf-8")
        assert re.search(r'<meta name="description" content="[^"]{30,260}" />', text), path
        assert re.search(r'<meta property="og:title" content="[^"<]+" />', text), path
        (card,) = re.findall(r'<meta property="og:image" content="([^"]+)" />', text)
        assert (path.parent / card).resolve().exists(), f"{path}: {card}"
        assert 'rel="icon"' in text or 'rel="shortcut icon"' in text, path


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_every_page_fits_and_has_its_pictures(site: Path, browser: Browser, width: int) -> None:
    wrong: dict[str, Any] = {}
    for path, seen in on_each_page(site, browser, width, LOOK):
        cut = seen["cut"] if width == WIDE and "source" not in path.parts else []
        if seen["over"] > 0 or seen["broken"] or cut:
            wrong[str(path)] = seen
    assert not wrong


BROKEN_WORDS = """() => {
    const found = [];
    const texts = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode()); ) {
        for (const word of text.data.matchAll(/(?<![\\w-])([A-Z]+-\\d+|--?[A-Za-z][a-z0-9-]*)(?![\\w-])/g)) {
            const range = document.createRange();
            range.setStart(text, word.index);
            range.setEnd(text, word.index + word[0].length);
            const boxes = [...range.getClientRects()].filter(({ width }) => width > 1);
            if (new Set(boxes.map(({ top }) => Math.round(top))).size > 1) found.push(word[0]);
        }
    }
    return found;
}"""


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_no_line_ends_within_an_id_or_an_option(site: Path, browser: Browser, width: int) -> None:
    wrong = {str(path): found for path, found in on_each_page(site, browser, width, BROKEN_WORDS) if found}
    assert not wrong


def test_an_id_in_an_errors_text_leads_to_its_rule(site: Path) -> None:
    text = (site / "notebooks" / "01-the-bug.html").read_text(encoding="utf-8")
    assert re.search(r'\(rule <a class="whole" href="\.\./spec/rules\.html#L-17">L-17</a>\)', text)
    assert "../matrix/index.html#C-13" in page(site / "docs" / "how-to" / "my-stream-does-not-arrive.html").targets


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("L-17", "spec/rules.html#L-17"),
        ("t-38", "spec/rules.html#T-38"),
        ("C-40", "docs/matrix/index.html#C-40"),
        (str(ConnectionNotReady("sse_started", "get_writer", "L-17")), "spec/rules.html#L-17"),
        ("await_sse_writer", "docs/reference/app.html#h3ref.H3Event.await_sse_writer"),
        ("abandon", "docs/glossary.html#term-abandon"),
    ],
)
def test_the_search_finds_first_what_is_named(site: Path, browser: Browser, words: str, first: str) -> None:
    with served(site) as url, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"{url}/search.html?{urlencode({'q': words})}")
        result = tab.locator("ul.search > li > a").first
        result.wait_for()
        assert result.get_attribute("href") == first


def test_the_page_of_the_search_asks_for_words(site: Path, browser: Browser) -> None:
    with served(site) as url, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"{url}/search.html")
        tab.locator("article input").fill("T-38")
        tab.locator("article button").click()
        tab.locator("ul.search a[href='spec/rules.html#T-38']").wait_for()


def test_the_search_finds_what_an_error_advises(site: Path, browser: Browser) -> None:
    with served(site) as url, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"{url}/search.html?{urlencode({'q': ConnectionNotReady.remedy})}")
        tab.locator("ul.search > li > a[href='docs/reference/errors.html']").wait_for()


SCROLLING = """() => [...document.querySelectorAll("article .table-wrapper, article .matrix")].map((box) => ({
    scrolls: box.scrollWidth > box.clientWidth + 1,
    says: box.previousElementSibling?.innerText === "this table scrolls →" && box.classList.contains("more"),
}))"""


def test_a_table_says_that_it_scrolls_as_long_as_it_does(site: Path, browser: Browser) -> None:
    with browser.new_context(viewport={"width": NARROW, "height": 900}) as context:
        tab = context.new_page()
        for name in ("performance", "proof", "matrix/index", "glossary"):
            tab.goto((site / "docs" / f"{name}.html").as_uri())
            boxes = tab.evaluate(SCROLLING)
            assert all(box["scrolls"] == box["says"] for box in boxes), name
            assert any(box["scrolls"] for box in boxes) == (name != "glossary"), name
        tab.goto((site / "docs" / "proof.html").as_uri())
        tab.set_viewport_size({"width": 2 * WIDE, "height": 900})
        tab.locator(".scrolls").first.wait_for(state="detached")
        assert tab.locator(".more").count() == 0


@pytest.mark.parametrize("name", ["index", "why"])
def test_the_stepper_runs_in_the_sites_pages(site: Path, browser: Browser, name: str) -> None:
    with browser.new_context(viewport={"width": WIDE, "height": 900}) as context:
        tab = context.new_page()
        tab.goto((site / "docs" / f"{name}.html").as_uri())
        assert tab.locator(".h3step.live .h3step-play").is_visible()
        there = tab.locator(".h3game-verdict a").get_attribute("href")
        assert there == "../spec/rules.html#L-17"
        assert "L-17" in page(site / "spec" / "rules.html").places
        tab.locator(".h3step-play").click()
        assert tab.locator(".h3step-bar input").input_value() == "0"


def test_the_first_screen_shows_the_line_of_the_bug_the_line_of_the_fix_and_what_comes_of_them(
    site: Path, browser: Browser
) -> None:
    with browser.new_context(viewport={"width": WIDE, "height": 900}) as context:
        tab = context.new_page()
        tab.goto((site / "docs" / "index.html").as_uri())
        for place in (".broken .bug", ".fixed .fix", ".broken .h3step-status", ".fixed .h3step-status"):
            box = tab.locator(place).last.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 900, f"{place} has to be scrolled to"


LONG = 180_000
"""Milliseconds that a page gets to load Python, on a machine that does much else."""


@pytest.fixture(scope="module")
def hosted(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The site on a host of files; its cells need npm when it is built."""
    require_program("npm", "npm")
    with served(site) as url:
        yield url


def finish(tab: Any, number: int, state: str = "done") -> None:
    """Wait until a cell has come to its end, and see which."""
    tab.locator(f".live-cell >> nth={number}").wait_for()
    tab.wait_for_function(
        "number => !['loading', 'running', undefined].includes("
        "document.querySelectorAll('.live-cell')[number].dataset.state)",
        arg=number,
        timeout=LONG,
    )
    assert tab.locator(".live-cell").nth(number).get_attribute("data-state") == state


@pytest.mark.parametrize("name", sorted({cell.page for cell in cells()}))
def test_a_cell_puts_out_in_the_page_what_stands_there(hosted: str, browser: Browser, name: str) -> None:
    with browser.new_context() as context:
        tab = context.new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{hosted}/{name}.html")
        for cell in (cell for cell in cells() if cell.page == name):
            tab.locator(".live-run").nth(cell.number).click()
            finish(tab, cell.number)
            put_out = tab.locator(".live-result").nth(cell.number).locator(".live-output").inner_text()
            assert contains(put_out, cell.said)
    assert [url for url in asked if not url.startswith((hosted, "about:", "data:"))] == []


def test_a_cell_is_edited_run_by_keys_stopped_and_put_back(
    hosted: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    program = axe(request)
    with browser.new_context(viewport={"width": NARROW, "height": 900}) as context:
        tab = context.new_page()
        tab.goto(f"{hosted}/docs/why.html")
        bar = tab.locator(".live-bar").nth(1)
        bar.get_by_role("button", name="Edit").click()
        area = tab.locator(".live-cell").nth(1).locator("textarea")
        code = area.input_value()
        area.fill(code.replace("hello", "good day"))
        area.press("Control+Enter")
        finish(tab, 1)
        result = tab.locator(".live-result").nth(1)
        assert result.locator(".live-output").inner_text().strip() == "good day"
        assert "GET /events: 200, 1 event, complete" in result.inner_text()
        assert tab.frame_locator(".live-result iframe").locator(".h3step").is_visible()

        area.fill("1 / 0")
        area.press("Control+Enter")
        finish(tab, 1, "failed")
        assert result.locator(".live-failure").inner_text() == "✗ ZeroDivisionError: division by zero"
        result.locator("summary").click()
        assert "cell.py" in result.locator("details pre").inner_text()
        for part in (".live-bar >> nth=1", ".live-result >> nth=1"):
            tab.locator(part).scroll_into_view_if_needed()
        assert faults(tab, program, ".live-bar") == []
        assert faults(tab, program, ".live-result") == []

        area.fill("print('begun')\nwhile True:\n    pass")
        area.press("Control+Enter")
        tab.wait_for_function("document.querySelectorAll('.live-result')[1].innerText.includes('begun')", timeout=LONG)
        bar.get_by_role("button", name="Stop").click()
        finish(tab, 1, "stopped")

        bar.get_by_role("button", name="Reset").click()
        bar.locator(".live-run").click()
        finish(tab, 1)
        assert result.locator(".live-output").inner_text().strip() == "hello"
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_cell_opened_from_a_file_says_what_it_needs(hosted: str, site: Path, browser: Browser) -> None:
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto((site / "docs" / "why.html").as_uri())
        tab.locator(".live-run").first.click()
        assert "Cells need a server" in tab.locator(".live-says").first.inner_text()
