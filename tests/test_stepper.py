"""The stepper: what it shows is recorded, its machine is the specification's, and a browser shows and moves it."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from docs.generate import stepper
from docs.generate.stepper import CODE, FOLDER, SPEC
from h3ref.lab.notebook import Run, step_through
from h3ref.lab.recorder import Recording
from h3ref.lab.stepper import Column, page, style
from h3ref.lab.stepper.columns import rows_of
from h3ref.lab.stepper.frames import frames_of
from h3ref.lab.stepper.game import H3Z, STEPS, results_of
from tests.accessibility import axe, faults
from tests.chromium import PATIENCE, launched
from tests.pages import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.timeout(300)  # npm may have to fetch axe

VECTORS = sorted((ROOT / "spec" / "vectors" / "lifecycle").glob("*.json"))
RULES = json.loads(SPEC.read_text(encoding="utf-8"))

NARROW, WIDE = 390, 1280
"""Pixels: a telephone, and a small window on a desk."""

SMALLEST = 13
"""Pixels of the smallest letters."""

# -- the recordings


@pytest.mark.parametrize("name", CODE)
def test_a_recording_is_what_is_recorded_now(name: str) -> None:
    for file, text in stepper.files_of(name).items():
        committed = (FOLDER / file).read_text(encoding="utf-8")
        assert committed == text, f"{file} has drifted: python -m docs.generate.stepper records it again"


def test_no_recording_is_left_over(tmp_path: Path) -> None:
    stepper.main([str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {name: stepper.record(name) for name in CODE}


def test_columns_go_in_step_until_one_waits_and_its_silence_is_counted(runs: dict[str, Run]) -> None:
    rows = [rows_of(run.recording) for run in runs.values()]
    frames = frames_of(rows)
    taken = [tuple(those[m.row].key[0] for those, m in zip(rows, f.moments, strict=True)) for f in frames]
    both = ["checks_sse_started", "creates_connection", "sends_headers", "headers", "connection_ready"]
    assert taken[:2] == [("request", "request"), ("start_sse", "start_sse")]
    assert taken[2] == ("get_sse_writer", "set_stream_callback")
    assert [frame.parts for frame in frames[:4]] == [False, False, True, False]
    assert taken[3:9] == [("returns", "returns"), *((step, step) for step in both)]
    broken, fixed = zip(*(frame.moments for frame in frames[9:]), strict=True)
    assert [moment.waits for moment in broken] == [True] * (len(broken) - 1) + [False]
    assert {moment.silence for moment in broken} == {0, 1, 2, 3, 60}
    assert [broken[-1].events, fixed[-1].events] == [0, 3]
    assert [moment.closed for moment in (broken[-1], fixed[-1])] == ["client_gone", "complete"]


def test_every_record_is_in_a_row_and_in_one_only(runs: dict[str, Run]) -> None:
    for run in runs.values():
        assert [record for row in rows_of(run.recording) for record in row.records] == list(run.recording)


def test_what_a_client_has_is_all_that_it_received(runs: dict[str, Run]) -> None:
    for run in runs.values():
        last = frames_of([rows_of(run.recording)])[-1].moments[0]
        assert last.events == len(run.events)
        head = next(record.size or 0 for record in run.recording if record.step == "headers")
        assert last.size == head + len(run.body)


def test_steps_of_one_kind_are_one_row_and_a_long_recording_is_cut_in_its_middle(runs: dict[str, Run]) -> None:
    rows = rows_of(runs["broken"].recording)
    assert [(row.key[0], row.arrows[0].times) for row in rows][2] == ("get_sse_writer", 10)
    events = [record for record in runs["fixed"].recording if record.step in ("send_event", "data", "event")][:3]
    many = Recording([*runs["fixed"].recording[:11], *events * 500, *runs["fixed"].recording[-3:]])
    folded = rows_of(many)
    assert len(folded) < 50
    assert Counter(record for row in folded for record in row.records) == Counter(many)
    assert frames_of([folded])[-1].moments[0].events == 500


# -- as text, and where no script may run


def test_a_notebook_shows_it_or_a_table_where_no_script_may_run(runs: dict[str, Run]) -> None:
    shown = step_through(**runs, code=CODE)
    markup = shown._repr_html_()
    (inside,) = re.findall(r'srcdoc="([^"]*)"', markup)
    assert html.unescape(inside).startswith("<!DOCTYPE html>")
    assert "<script>" not in markup.replace(inside, ""), "all that runs is in the frame"
    still = markup[: markup.index("<style>")]
    assert "get_sse_writer() × 10" in still
    assert "The client has 124 bytes, 0 events" in still
    assert "60 s of silence" in repr(shown)


def test_one_recording_is_enough_and_it_need_be_no_run(runs: dict[str, Run]) -> None:
    assert "silence" not in repr(step_through(fixed=runs["fixed"].recording))


def test_what_it_cant_show_it_refuses(runs: dict[str, Run]) -> None:
    run = runs["fixed"]
    with pytest.raises(ValueError, match="one recording or two beside each other, not 0"):
        step_through()
    with pytest.raises(ValueError, match="not 3"):
        step_through(a=run, b=run, c=run)
    with pytest.raises(ValueError, match="late: nothing was recorded"):
        step_through(late=Recording())
    with pytest.raises(ValueError, match="code is given for other, but the recordings are fixed"):
        step_through(fixed=run, code={"other": ""})


def test_what_a_recording_says_is_text_and_no_markup(runs: dict[str, Run]) -> None:
    nasty = "</script><script>document.body.remove()</script>"
    text = page([Column(nasty, runs["fixed"].recording, head=nasty, code=nasty, says=nasty)], spec=RULES)
    assert "</script><script>document" not in text


def test_it_asks_no_other_host_for_anything() -> None:
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//|https?://|fetch\(|import\(", stepper.site_stepper())
    assert not re.findall(r"@import|url\(", style())


# -- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The site's stepper, on a page of its own."""
    text = stepper.site_stepper("rules.html")
    path = tmp_path_factory.mktemp("stepper") / "page.html"
    path.write_text(
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>The stepper</title><body class="h3step-page" data-theme="auto"><main>{text}</main></body></html>',
        encoding="utf-8",
    )
    return path.as_uri()


class Shown:
    """The page in a browser."""

    def __init__(self, tab: Page, address: str) -> None:
        self.tab = tab
        self.errors: list[str] = []
        tab.set_default_timeout(PATIENCE)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.goto(address)

    @property
    def at(self) -> int:
        return int(self.tab.locator(".h3step-bar input").input_value())

    @property
    def last(self) -> int:
        return int(self.tab.locator(".h3step-bar input").get_attribute("max") or 0)

    @property
    def states(self) -> list[str]:
        """The state that is lit in each column."""
        return self.tab.locator(".h3step-states .now").all_inner_texts()

    @property
    def says(self) -> str:
        return self.tab.locator(".h3step-say").inner_text()

    @property
    def order(self) -> list[str]:
        """The cards, from the first to the last."""
        found: list[str] = self.tab.evaluate("[...document.querySelectorAll('[data-step]')].map(c => c.dataset.step)")
        return found

    @property
    def verdict(self) -> str:
        return self.tab.locator(".h3game-verdict").inner_text()

    def card(self, name: str) -> Locator:
        return self.tab.locator(f'[data-step="{name}"]')


@pytest.fixture
def shown(browser: Browser, address: str) -> Iterator[Shown]:
    with browser.new_context(viewport={"width": WIDE, "height": 900}, has_touch=True) as context:
        found = Shown(context.new_page(), address)
        yield found
        assert not found.errors


def test_its_machine_passes_all_lifecycle_vectors(shown: Shown) -> None:
    cases = [case for path in VECTORS for case in json.loads(path.read_text(encoding="utf-8"))["cases"]]
    assert sum(len(case["steps"]) for case in cases) >= 517
    wrong = shown.tab.evaluate(
        """([spec, cases]) => cases.flatMap(({name, steps}) => {
            const machine = new h3step.Machine(spec);
            return steps.flatMap((step) => {
                const {error, rule, state} = machine.pull(step.trigger, step.tell);
                const found = [error, state, machine.reason, step.rule ? rule : null];
                const wanted = [step.error ?? null, step.state, step.reason ?? null, step.rule ?? null];
                return JSON.stringify(found) === JSON.stringify(wanted) ? [] : [[name, step, found]];
            });
        })""",
        [RULES, cases],
    )
    assert wrong == []


def test_a_machine_of_other_rules_fails_the_vectors(shown: Shown) -> None:
    changed = json.loads(
        SPEC.read_text(encoding="utf-8").replace('"error": "ConnectionNotReady"', '"next": "streaming"')
    )
    judged = shown.tab.evaluate("([spec, order]) => h3step.judge(spec, order)", [changed, H3Z])
    assert [result["error"] for result in judged][1] is None


def test_every_order_of_the_steps_is_judged_as_python_judges_it(shown: Shown) -> None:
    orders = list(permutations(STEPS))
    assert len(orders) == 120
    judged = shown.tab.evaluate("([spec, orders]) => orders.map((order) => h3step.judge(spec, order))", [RULES, orders])
    right = []
    for order, found in zip(orders, judged, strict=True):
        keys = ("trigger", "state", "error", "rule", "why")
        wanted = [{key: getattr(result, key) for key in keys} for result in results_of(order, RULES)]
        assert [{key: result[key] for key in keys} for result in found] == wanted
        if not any(result.error for result in results_of(order, RULES)):
            right.append(order)
    assert right == [STEPS], "there is one order that no rule objects to"


def test_it_begins_at_the_end_and_goes_by_keys(shown: Shown) -> None:
    assert shown.at == shown.last
    assert "60 s of silence" in shown.says
    shown.tab.keyboard.press("ArrowLeft")  # nothing has the focus, and it is in view
    assert shown.at == shown.last - 1
    shown.tab.locator(".h3step-bar input").focus()
    for key, wanted in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", shown.last)):
        shown.tab.keyboard.press(key)
        assert shown.at == wanted
    shown.tab.locator(".h3step-play").focus()
    for key, wanted in (("Home", 0), ("ArrowRight", 1), ("End", shown.last), ("ArrowRight", shown.last)):
        shown.tab.keyboard.press(key)
        assert shown.at == wanted


def test_where_they_part_it_is_lit_and_said(shown: Shown) -> None:
    shown.tab.locator(".h3step-bar input").focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        shown.tab.keyboard.press(key)
    assert shown.states == ["sse_started", "sse_started"]
    assert "get_sse_writer() × 10 (ConnectionNotReady, rule L-17)" in shown.says
    assert shown.tab.locator(".h3step-say").get_attribute("aria-live") == "polite"
    assert shown.tab.locator(".broken .h3step-states .now.refused").count() == 1
    lit = [text.strip() for text in shown.tab.locator(".lit").all_inner_texts()]
    assert lit == ["writer = event.get_sse_writer()", "event.set_stream_callback(tick)"]
    assert shown.tab.locator(".broken .bug").count() == 2
    assert shown.tab.locator(".fixed .fix").count() == 2
    assert shown.tab.locator(".broken .h3step-rows .row:not(.to-come)").count() == 3
    assert shown.tab.locator(".h3step-has").all_inner_texts() == ["nothing yet", "nothing yet"]


def test_the_broken_one_waits_while_the_fixed_one_goes_on(shown: Shown) -> None:
    shown.tab.locator(".h3step-bar input").focus()
    shown.tab.keyboard.press("End")
    seen = []
    for _ in range(shown.last):
        shown.tab.keyboard.press("ArrowLeft")
        status = shown.tab.locator(".broken .h3step-status").inner_text()
        rows = shown.tab.locator(".broken .h3step-rows .row:not(.to-come)").count()
        if "silence" in status:
            seen.append((status, rows))
    assert {status for status, _ in seen} == {"1 s of silence", "2 s of silence", "3 s of silence"}
    assert len({rows for _, rows in seen}) == 1


def test_it_plays_to_the_end_and_pauses(shown: Shown) -> None:
    play = shown.tab.locator(".h3step-play")
    shown.tab.clock.install()
    shown.tab.reload()
    play.click()
    assert shown.at == 0
    assert play.inner_text() == "⏸ Pause"
    shown.tab.clock.run_for(1000)
    assert shown.at == 1
    play.click()
    shown.tab.clock.run_for(60_000)
    assert (shown.at, play.inner_text()) == (1, "▶ Play")
    play.click()
    shown.tab.clock.run_for(1000)
    assert shown.at == 2
    shown.tab.clock.run_for(2000)
    assert shown.at == 2, "where they part it stays longer"
    shown.tab.clock.run_for(60_000)
    assert (shown.at, play.inner_text()) == (shown.last, "▶ Play")


def test_a_finger_across_the_columns_takes_a_step(shown: Shown) -> None:
    swipe = """([from, to]) => {
        const target = document.querySelector(".h3step-columns");
        const touch = (x) => new Touch({identifier: 1, target, clientX: x, clientY: 300});
        target.dispatchEvent(new TouchEvent("touchstart", {touches: [touch(from)], changedTouches: [touch(from)]}));
        target.dispatchEvent(new TouchEvent("touchend", {touches: [], changedTouches: [touch(to)]}));
    }"""
    shown.tab.evaluate(swipe, [100, 300])
    assert shown.at == shown.last - 1
    shown.tab.evaluate(swipe, [300, 100])
    assert shown.at == shown.last
    shown.tab.evaluate(swipe, [300, 280])
    assert shown.at == shown.last


# -- the cards


def test_it_begins_with_h3zs_order_as_without_a_script(shown: Shown, browser: Browser, address: str) -> None:
    assert shown.order == list(H3Z)
    with browser.new_context(java_script_enabled=False) as context:
        still = context.new_page()
        still.goto(address)
        for place in (".h3game-verdict", ".h3game-cards"):
            plain, live = (tab.locator(place).text_content() for tab in (still, shown.tab))
            assert plain == live
    assert "get_writer is rejected in sse_started by rule L-17: ConnectionNotReady." in shown.verdict
    assert shown.tab.locator(".h3game-verdict a").get_attribute("href") == "rules.html#L-17"


def test_keys_and_buttons_move_a_card_and_the_right_order_is_praised(shown: Shown) -> None:
    later = shown.card("get_writer").locator('[data-by="1"]')
    later.focus()
    shown.tab.keyboard.press("Enter")
    assert shown.order == list(STEPS)
    assert shown.tab.evaluate("document.activeElement.getAttribute('aria-label')") == "get_writer later"
    assert "No rule objects" in shown.verdict
    wire = shown.tab.locator(".h3game-verdict pre").inner_text()
    assert re.search("HTTP/1.1 200.*data: 1.*proper end", wire, re.DOTALL)
    shown.card("close").locator(".h3game-grip").focus()
    shown.tab.keyboard.press("Home")
    assert shown.order == ["close", *STEPS[:-1]]
    assert "start_sse is rejected in closed by rule L-05: ResponseAlreadySent." in shown.verdict
    shown.tab.keyboard.press("ArrowDown")
    assert shown.order[:2] == ["start_sse", "close"]
    assert shown.tab.evaluate("document.activeElement.closest('[data-step]').dataset.step") == "close"
    shown.tab.locator('[data-order="steps"]').click()
    assert shown.order == list(STEPS)
    shown.tab.locator('[data-order="first"]').click()
    assert shown.order == list(H3Z)


def test_a_card_is_dragged(shown: Shown) -> None:
    shown.card("get_writer").scroll_into_view_if_needed()
    begin, end = (shown.card(name).bounding_box() for name in ("get_writer", "send_headers"))
    assert begin is not None
    assert end is not None
    shown.tab.mouse.move(begin["x"] + 200, begin["y"] + begin["height"] / 2)
    shown.tab.mouse.down()
    shown.tab.mouse.move(end["x"] + 200, end["y"] + end["height"] - 4, steps=8)
    shown.tab.mouse.up()
    assert shown.order == list(STEPS)
    shown.tab.mouse.move(begin["x"] + 200, begin["y"])
    assert shown.order == list(STEPS), "let go, it stays"


def test_a_finger_drags_a_card_by_its_grip(shown: Shown) -> None:
    grip = shown.card("get_writer").locator(".h3game-grip")
    grip.scroll_into_view_if_needed()
    assert grip.evaluate("grip => getComputedStyle(grip).touchAction") == "none"
    begin, end = grip.bounding_box(), shown.card("send_headers").bounding_box()
    assert begin is not None
    assert end is not None
    session = shown.tab.context.new_cdp_session(shown.tab)
    x, y, to = begin["x"] + 10, begin["y"] + 10, end["y"] + end["height"] - 4
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 9):
        point = {"x": x, "y": y + (to - y) * step / 8}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert shown.order == list(STEPS)


def test_an_order_is_in_the_address_and_can_be_shared(shown: Shown, browser: Browser, address: str) -> None:
    shown.card("close").locator('[data-by="-1"]').click()
    assert shown.tab.url.endswith("#order=start_sse,get_writer,send_headers,close,send_event")
    with browser.new_context() as context:
        other = Shown(context.new_page(), shown.tab.url)
        assert (other.order, other.verdict) == (shown.order, shown.verdict)
        other.tab.evaluate("order => location.hash = order", f"#order={','.join(STEPS)}")
        other.tab.wait_for_function("document.querySelector('.h3game-verdict').textContent.includes('No rule objects')")
        assert other.order == list(STEPS)
        for wrong in ("#order=start_sse", "#order=close,close,close,close,close", "#L-17"):
            again = Shown(context.new_page(), address + wrong)
            assert again.order == list(H3Z)
            assert not again.errors


# -- for whoever sees it


def test_without_a_script_it_is_a_picture_of_the_end(browser: Browser, address: str) -> None:
    with browser.new_context(java_script_enabled=False, viewport={"width": WIDE, "height": 900}) as context:
        tab = context.new_page()
        tab.goto(address)
        assert tab.locator(".h3step-bar").is_hidden()
        assert tab.locator(".h3step-rows .row").evaluate_all("rows => rows.length") > 20
        assert tab.locator(".broken .h3step-status").inner_text() == "60 s of silence, the client left"
        assert tab.locator(".h3step-states .now").all_inner_texts() == ["closed", "closed"]
        assert tab.locator(".h3game button:visible").count() == 0


TEXTS = """() => {
    const small = [];
    const walker = document.createTreeWalker(document.querySelector(".h3step"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const {parentElement: element, textContent} = walker.currentNode;
        if (!textContent.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
        const size = parseFloat(getComputedStyle(element).fontSize);
        if (size < 13) small.push([textContent.trim().slice(0, 40), size]);
    }
    return {
        small,
        over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        columns: [...document.querySelectorAll(".h3step-column")].map((column) => column.getBoundingClientRect().left),
        cut: [...document.querySelectorAll(".h3step *")].filter((element) =>
            element.scrollWidth > element.clientWidth + 1 && element.clientWidth && !element.closest(".h3step-hidden")
            && getComputedStyle(element).display !== "inline"
        ).map((element) => `${element.className}: ${element.textContent.slice(0, 40)}`),
    };
}"""


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_on_a_phone_and_by_everyone(
    browser: Browser, address: str, request: pytest.FixtureRequest, width: int, scheme: Any
) -> None:
    with browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme) as context:
        shown = Shown(context.new_page(), address)
        program = axe(request)
        for place in (shown.last, 2, 0):
            shown.tab.locator(".h3step-bar input").fill(str(place))
            assert shown.at == place
            assert faults(shown.tab, program) == []
            seen = shown.tab.evaluate(TEXTS)
            assert (seen["small"], seen["over"], seen["cut"]) == ([], 0, [])
            assert len(set(seen["columns"])) == (1 if width == NARROW else 2), "they stand beside each other, or below"
        shown.tab.locator('[data-order="steps"]').click()
        assert faults(shown.tab, program) == []


def test_axe_finds_what_is_wrong(shown: Shown, request: pytest.FixtureRequest) -> None:
    shown.tab.add_style_tag(content=".h3step-says { color: #ccc !important; }")
    assert [fault["id"] for fault in faults(shown.tab, axe(request))] == ["color-contrast"]


def test_the_sites_switch_decides_over_the_system(browser: Browser, address: str) -> None:
    ground = "getComputedStyle(document.querySelector('.h3step')).getPropertyValue('--h3-ground')"
    found = {}
    for scheme in ("light", "dark"):
        with browser.new_context(color_scheme=scheme) as context:
            tab = context.new_page()
            tab.goto(address)
            for theme in ("auto", "light", "dark"):
                tab.evaluate("theme => document.body.dataset.theme = theme", theme)
                found[scheme, theme] = tab.evaluate(ground).strip()
    light, dark = "#ffffff", "#131416"
    assert [found["light", theme] for theme in ("auto", "light", "dark")] == [light, light, dark]
    assert [found["dark", theme] for theme in ("auto", "light", "dark")] == [dark, light, dark]


def test_what_has_the_focus_is_seen(shown: Shown) -> None:
    shown.tab.keyboard.press("Tab")
    outline = shown.tab.evaluate("getComputedStyle(document.activeElement).outline")
    assert "solid 3px" in outline or "3px solid" in outline


def test_nothing_moves_by_itself(shown: Shown) -> None:
    """Only Play does, when it is asked for: there is nothing to leave out for whoever wants reduced motion."""
    text = (ROOT / "h3ref" / "lab" / "stepper" / "stepper.css").read_text(encoding="utf-8")
    assert not re.findall(r"\b(?:transition|animation)\b|scroll-behavior", text)
    assert shown.at == shown.last


# -- in a notebook's frame


def test_a_frame_is_as_high_as_what_is_in_it_and_as_dark_as_what_is_around_it(
    browser: Browser, runs: dict[str, Run]
) -> None:
    with browser.new_context(viewport={"width": 900, "height": 900}) as context:
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.set_content(f'<body data-jp-theme-light="false">{step_through(code={}, **runs)._repr_html_()}</body>')
        assert tab.locator(".h3step-still").is_hidden()
        inside = tab.frame_locator("iframe")
        inside.locator(".h3step-play").wait_for()
        assert inside.locator("body").get_attribute("data-theme") == "dark"
        tab.evaluate("document.body.dataset.jpThemeLight = 'true'")
        inside.locator('body[data-theme="light"]').wait_for()
        tab.wait_for_function(
            "(frame => frame.contentDocument.documentElement.scrollHeight <= frame.clientHeight)"
            "(document.querySelector('iframe'))"
        )
        inside.locator(".h3step-back").click()
        assert "waits" in inside.locator(".h3step-say").inner_text() or inside.locator(".to-come").count()
