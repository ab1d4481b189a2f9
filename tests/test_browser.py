"""A browser's own EventSource: what it makes of our streams, how it comes back, and the demo's page in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import h3ref
from h3ref import H3App, H3Event, SSEEvent, SSEWriter, running
from h3ref.cors import cors
from h3ref.writer import stream_of
from tests.chromium import PATIENCE, launched
from tests.pages import ROOT, module_of
from tests.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page

CONNECTING, OPEN, CLOSED = 0, 1, 2

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>EventSource</title>
<link rel="icon" href="data:,">
<script>
  let source;
  const seen = [];
  function listen(path, types, options) {
    source = new EventSource(path, options);
    for (const type of ["open", "error"]) source.addEventListener(type, () => seen.push([type, source.readyState]));
    for (const type of ["message", ...types]) {
      source.addEventListener(type, (event) => seen.push([event.type, event.data, event.lastEventId]));
    }
  }
</script>
</html>
"""

Answer = Callable[[H3Event], Awaitable[None]]


class Site:
    """An app with a page that notes all that its EventSource tells, and with a stream that a test scripts.

    Attributes:
        answers: what the requests for /events get, one each; a 204 when there are no more.
        requests: the requests for /events so far.
        may_cut: released once for each cut.
    """

    def __init__(self, page: Page, backend: str) -> None:
        self.page = page
        self.backend = backend
        self.port = free_port()
        self.answers: list[Answer] = []
        self.requests: list[H3Event] = []
        self.may_cut = threading.Semaphore(0)
        self.app = H3App()
        self.app.get("/", lambda event: event.send_html(PAGE))
        self.app.get("/events", self._events)

    async def _events(self, event: H3Event) -> None:
        self.requests.append(event)
        if len(self.requests) <= len(self.answers):
            await self.answers[len(self.requests) - 1](event)
        else:
            event.set_status(204)
            event.send_text("")

    @contextmanager
    def serving(self) -> Iterator[BlockingPortal]:
        """Serve the app on a thread, again on the same port, and return the way to its event loop."""
        with (
            start_blocking_portal(self.backend) as portal,
            portal.wrap_async_context_manager(running(self.app, port=self.port)),
        ):
            yield portal

    def sends(self, *messages: SSEEvent | str, cut: bool = False) -> Answer:
        """An answer that streams messages, and then ends the body properly, or cuts it when it may.

        What comes right before a cut, Chromium may throw away unread, whoever sent it: so a test waits until
        all is shown, and then releases `may_cut`.
        """

        async def answer(event: H3Event) -> None:
            event.start_sse()
            async with await event.await_sse_writer() as writer:
                for message in messages:
                    await writer.send_event(message)
                if cut:
                    await anyio.to_thread.run_sync(self.may_cut.acquire, abandon_on_cancel=True)
                    raise RuntimeError("on purpose")

        return answer

    def listen(self, path: str = "/events", *types: str, **options: object) -> None:
        """Open the page, and in it an EventSource that notes messages of these types, too."""
        self.page.goto(f"http://127.0.0.1:{self.port}/")
        self.page.evaluate("([path, types, options]) => listen(path, types, options)", [path, types, options])

    def seen(self, count: int) -> list[Any]:
        """Wait until that much was noted, and return all: ["open", readyState], [type, data, lastEventId]."""
        self.until("count => seen.length >= count", count)
        found: list[Any] = self.page.evaluate("seen")
        return found

    def until(self, expression: str, argument: object = None) -> None:
        """Wait until an expression holds in the page."""
        try:
            self.page.wait_for_function(expression, arg=argument)
        except Exception as error:
            raise AssertionError(f"{expression}, {argument}; seen: {self.page.evaluate('seen')}") from error

    def closed(self) -> list[Any]:
        """Wait until the source has given up, and return all that was noted before."""
        self.until("source.readyState === EventSource.CLOSED && seen.at(-1)[0] === 'error'")
        seen: list[Any] = self.page.evaluate("seen")
        assert seen[-1] == ["error", CLOSED]
        return seen[:-1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE)
        yield context.new_page()


@pytest.fixture
def site(page: Page, anyio_backend: str) -> Iterator[Site]:
    site = Site(page, anyio_backend)
    with site.serving():
        yield site


one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For what is the same on both event loops: the bytes, and what a browser reads in them."""

# -- a permission


@one_loop
def test_a_page_renews_its_permission_and_misses_nothing(page: Page, anyio_backend: str) -> None:
    feed = module_of(ROOT / "docs" / "how-to" / "expire-a-stream.md", "feed.py")
    streams: list[H3Event] = []
    feed.app.on_request(lambda event: streams.append(event) if event.target.startswith("/news") else None)
    shown = "[...document.querySelectorAll('li')].map(item => item.textContent)"

    def publish(number: int) -> None:
        portal.call(feed.news.publish, SSEEvent(str(number), id=str(number)))

    def until_shown(*numbers: int) -> None:
        page.wait_for_function(f"wanted => {shown}.join() === wanted", arg=",".join(map(str, numbers)))

    with (
        start_blocking_portal(anyio_backend) as portal,
        portal.wrap_async_context_manager(running(feed.app, port=0)) as server,
    ):
        page.goto(server.url)
        page.wait_for_function("source && source.readyState === EventSource.OPEN")
        page.evaluate("window.first = source")
        publish(1)
        until_shown(1)
        streams[0].expires_in(0, farewell=feed.EXPIRED)
        page.wait_for_function("source.readyState === EventSource.CONNECTING")
        publish(2)
        until_shown(1, 2)
        assert len(feed.ends) == 2
        assert [event.last_event_id for event in streams] == ["", "1"]
        assert page.evaluate("first === source")
        # It sleeps while its permission ends, and comes back with the old one.
        feed.ends.update(dict.fromkeys(feed.ends, 0.0))
        streams[1].expires_in(0)
        page.wait_for_function("source.readyState === EventSource.CLOSED")
        publish(3)
        until_shown(1, 2, 3)
        assert not page.evaluate("first === source")
        assert [event.query["lastEventID"] for event in streams] == ["", "", "", "2"]


# -- what it receives


async def tick(writer: SSEWriter) -> None:
    await writer.send_event(SSEEvent("1", event="tick", id="a"))
    await writer.send_event("2")


def streams_of_each_flow(app: H3App) -> None:
    @app.get("/callback")
    def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(tick)

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await tick(writer)

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event(SSEEvent("1", event="tick", id="a"))
            writer.send_event("2")

    @app.sse("/generated")
    async def generated(event: H3Event) -> Any:
        yield SSEEvent("1", event="tick", id="a")
        yield "2"


@pytest.mark.parametrize("route", ["callback", "awaited", "blocking", "generated"])
def test_every_flow_is_a_stream(site: Site, route: str) -> None:
    streams_of_each_flow(site.app)
    site.listen(f"/{route}", "tick")
    assert site.seen(4)[:4] == [["open", OPEN], ["tick", "1", "a"], ["message", "2", "a"], ["error", CONNECTING]]


DATA = (
    "",
    " ",
    "  leading and trailing white space \t",
    "one\ntwo",
    "\n",
    "\none\n\ntwo\n",
    "data: not a field",
    ": not a comment",
    "Grüße, 日本語, עברית, ☂, 🎉 and e\u0301",
    "no line ends: \x0b \x0c \x1c \x1d \x1e \x85 \u2028 \u2029",
    "\ufeffno byte order mark",
    "\0 \x01 \x1b \x7f \ufffd \ufffe \U0010ffff",
    '"<script>&amp;\\n',
)


@one_loop
def test_data_arrives_as_it_was_sent(site: Site) -> None:
    site.answers = [site.sends(*(SSEEvent(data, event="typed", id=str(at)) for at, data in enumerate(DATA)))]
    site.listen("/events", "typed")
    assert site.seen(1 + len(DATA))[1 : 1 + len(DATA)] == [["typed", data, str(at)] for at, data in enumerate(DATA)]


@one_loop
def test_each_kind_of_line_end_arrives_as_a_line_feed(site: Site) -> None:
    site.answers = [site.sends("one\r\ntwo\rthree\nfour")]
    site.listen()
    assert site.seen(2)[1] == ["message", "one\ntwo\nthree\nfour", ""]


@one_loop
def test_types_and_ids_may_be_any_text_in_one_line(site: Site) -> None:
    kind, number = "größe: ☂ 日本", "ключ: 🎉 1"
    site.answers = [site.sends(SSEEvent("1", event=kind, id=number))]
    site.listen("/events", kind)
    assert site.seen(2)[1] == [kind, "1", number]


def test_an_event_of_a_megabyte(site: Site) -> None:
    data = "".join(f"{number:05} ☂ and some more text\n" for number in range(40_000))
    assert len(data.encode()) > 2**20
    site.answers = [site.sends(SSEEvent(data, id="1"), "small")]
    site.listen()
    messages = site.seen(3)[1:3]
    assert messages[0] == ["message", data, "1"]
    assert messages[1] == ["message", "small", "1"]


@one_loop
def test_ten_thousand_events_in_order(site: Site) -> None:
    count = 10_000
    site.answers = [site.sends(*(SSEEvent(str(number), id=str(number)) for number in range(count)))]
    site.listen()
    assert site.seen(1 + count)[1 : 1 + count] == [["message", str(number), str(number)] for number in range(count)]


@one_loop
def test_what_has_no_data_is_no_message(site: Site) -> None:
    async def answer(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_keep_alive()
            await writer.send_event(SSEEvent(comment="data: no\nevent: no"))
            await writer.send_event(SSEEvent(retry=1))
            await writer.send_event(SSEEvent(id="7"))
            await writer.send_keep_alive()
            await writer.send_event(SSEEvent("one", comment="with a comment"))
            await writer.send_keep_alive()

    site.answers = [answer]
    site.listen()
    assert site.closed() == [["open", OPEN], ["message", "one", "7"], ["error", CONNECTING]]


def test_events_come_as_they_are_sent(site: Site) -> None:
    shown = threading.Event()

    @site.app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")
            assert shown.wait(PATIENCE / 1000), "the page had the first event before the second was sent"
            writer.send_event("2")

    site.listen("/blocking")
    assert site.seen(2) == [["open", OPEN], ["message", "1", ""]]
    shown.set()
    assert site.seen(3)[2] == ["message", "2", ""]


def test_a_stream_without_events_is_open(site: Site) -> None:
    async def answer(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer():
            await anyio.sleep_forever()

    site.answers = [answer]
    site.listen()
    assert site.seen(1) == [["open", OPEN]]


def test_the_answer_to_a_post_streams_to_fetch(site: Site) -> None:
    shown = threading.Event()

    @site.app.sse("/prompt", method="POST")
    def prompt(event: H3Event) -> Iterator[str]:
        for word in anyio.from_thread.run(event.read_body).decode().split():
            yield word
            assert shown.wait(PATIENCE / 1000), "the page had the first word before the second was sent"

    site.listen()
    site.page.evaluate(
        """async () => {
            const answer = await fetch("/prompt", {method: "POST", body: "grüne ☂"});
            const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
            window.received = "";
            window.ended = (async () => {
                for (let part; !(part = await reader.read()).done;) window.received += part.value;
                return answer.headers.get("Content-Type");
            })();
        }"""
    )
    site.until('window.received === "data: grüne\\n\\n"')
    shown.set()
    assert site.page.evaluate("ended") == "text/event-stream"
    assert site.page.evaluate("received") == "data: grüne\n\ndata: ☂\n\n"


# -- how it ends, and comes back


@pytest.mark.parametrize("cut", [False, True], ids=["a proper end", "a cut"])
@pytest.mark.parametrize("number", ["a b", "ünï ☂ 日本 🎉"])
def test_it_comes_back_with_the_last_event_id_until_a_204(site: Site, cut: bool, number: str) -> None:
    site.answers = [site.sends(SSEEvent("one", id=number, retry=1), "two", cut=cut), site.sends("three", cut=cut)]
    site.listen()
    for count in (3, 6) if cut else ():
        site.seen(count)
        site.may_cut.release()
    assert site.closed() == [
        ["open", OPEN],
        ["message", "one", number],
        ["message", "two", number],
        ["error", CONNECTING],
        ["open", OPEN],
        ["message", "three", number],
        ["error", CONNECTING],
    ]
    assert [request.last_event_id for request in site.requests] == ["", number, number]
    assert [request.headers.get("Accept") for request in site.requests] == ["text/event-stream"] * 3


@one_loop
def test_an_empty_id_is_forgotten(site: Site) -> None:
    site.answers = [site.sends(SSEEvent("one", id="1", retry=1)), site.sends(SSEEvent("two", id=""))]
    site.listen()
    assert [what for what in site.closed() if what[0] == "message"] == [["message", "one", "1"], ["message", "two", ""]]
    assert ["last-event-id" in request.headers for request in site.requests] == [False, True, False]


@one_loop
def test_an_event_cut_in_the_middle_is_not_dispatched_and_its_id_not_kept(site: Site) -> None:
    async def answer(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await stream_of(writer).send(b"id: 1\nretry: 1\ndata: one\n\nid: 2\ndata: half an ev")
            await anyio.to_thread.run_sync(site.may_cut.acquire, abandon_on_cancel=True)
            raise RuntimeError("on purpose")

    site.answers = [answer, site.sends(SSEEvent("two", id="2"))]
    site.listen()
    site.seen(2)
    site.may_cut.release()
    messages = [what for what in site.closed() if what[0] == "message"]
    assert messages == [["message", "one", "1"], ["message", "two", "2"]]
    assert [request.last_event_id for request in site.requests] == ["", "1", "2"]


IDS = (
    "a\tb",
    "\u00a01\u00a0",
    "\x80\x85\x9f",
    "\u3000\u20281",
    "\ufeff1",
    "\ufdd0\U0010ffff",
    "\\\"a,b;c=:'",
    "7" * 4096,
    "☂" * 1365,
)


@one_loop
def test_it_brings_back_every_kind_of_id_that_can_be_sent(site: Site) -> None:
    site.answers = [site.sends(SSEEvent("x", id=id, retry=1)) for id in IDS]
    site.listen()
    messages = [seen for seen in site.closed() if seen[0] == "message"]
    assert messages == [["message", "x", id] for id in IDS]
    assert [request.last_event_id for request in site.requests] == ["", *IDS]


@one_loop
def test_it_waits_as_long_as_retry_says(site: Site) -> None:
    times = []

    async def answer(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event(SSEEvent(retry=4500))
        times.append(time.monotonic())

    async def back(event: H3Event) -> None:
        times.append(time.monotonic())
        event.send_error(404)

    site.answers = [answer, back]
    site.listen()
    assert site.closed() == [["open", OPEN], ["error", CONNECTING]]
    assert times[1] - times[0] > 4.4, "without retry it is 3 s in Chromium"


def test_a_server_that_ends_and_comes_back_costs_no_event(page: Page, anyio_backend: str) -> None:
    async def answer(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            number = int(event.last_event_id or 0) + 1
            await writer.send_event(SSEEvent(str(number), id=str(number), retry=50))
            await anyio.sleep_forever()

    site = Site(page, anyio_backend)
    site.answers = [answer, answer]
    with site.serving():
        site.listen()
        assert site.seen(2) == [["open", OPEN], ["message", "1", "1"]]
    site.seen(3)
    with site.serving():
        site.until("seen.at(-1)[0] === 'message'")
    messages = [what for what in site.page.evaluate("seen") if what[0] == "message"]
    assert messages == [["message", "1", "1"], ["message", "2", "2"]]


async def raising(event: H3Event) -> None:
    raise RuntimeError("on purpose")


async def raising_after_the_start(event: H3Event) -> None:
    event.start_sse()
    raise RuntimeError("on purpose")


async def nobody_writes(event: H3Event) -> None:
    event.start_sse()


async def not_found(event: H3Event) -> None:
    event.send_error(404)


async def no_stream(event: H3Event) -> None:
    event.send_text("data: no event stream\n\n")


async def nothing_new(event: H3Event) -> None:
    event.set_status(204)
    event.send_text("")


@one_loop
@pytest.mark.parametrize("answer", [raising, raising_after_the_start, nobody_writes, not_found, no_stream, nothing_new])
def test_what_is_no_stream_is_an_error_and_ends_it(site: Site, answer: Answer) -> None:
    site.answers = [answer]
    site.listen()
    assert site.closed() == []
    assert len(site.requests) == 1


LEAVE: dict[str, Callable[[Page], object]] = {
    "the source is closed": lambda page: page.evaluate("source.close()"),
    "another page is opened": lambda page: page.goto("about:blank"),
    "the page is loaded again": lambda page: page.reload(),
    "the tab is closed": lambda page: page.close(),
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_a_page_that_leaves_is_noticed(site: Site, leave: Callable[[Page], object]) -> None:
    left = threading.Event()

    async def answer(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            try:
                await writer.send_event("1")
                await anyio.sleep_forever()
            finally:
                left.set()

    site.answers = [answer]
    site.listen()
    site.seen(2)
    assert not left.is_set()
    leave(site.page)
    assert left.wait(PATIENCE / 1000)
    assert len(site.requests) == 1


# -- pages of another origin


@pytest.fixture
def elsewhere(page: Page, anyio_backend: str) -> Iterator[Site]:
    """A site on another port, which is another origin; its page listens to the streams of `site`."""
    elsewhere = Site(page, anyio_backend)
    with elsewhere.serving():
        yield elsewhere


def origin_of(site: Site) -> str:
    return f"http://127.0.0.1:{site.port}"


ASK = """([url, options]) => fetch(url, options).then(
    async (reply) => [reply.status, reply.headers.get("Last-Event-ID"), await reply.text()], () => "refused")"""


@one_loop
@pytest.mark.parametrize("credentials", [False, True])
def test_a_page_of_an_allowed_origin_listens_and_comes_back(site: Site, elsewhere: Site, credentials: bool) -> None:
    cors(site.app, origins=[origin_of(elsewhere)], credentials=credentials)
    site.answers = [site.sends(SSEEvent("1", id='"é', retry=50)), site.sends("2")]
    elsewhere.listen(f"{origin_of(site)}/events", withCredentials=credentials)
    messages = [what for what in elsewhere.closed() if what[0] == "message"]
    assert messages == [["message", "1", '"é'], ["message", "2", '"é']]
    assert [request.method for request in site.requests] == ["GET"] * 3, "a browser's EventSource asks no preflight"
    assert site.requests[1].last_event_id == '"é'


@one_loop
@pytest.mark.parametrize("options", [None, {"origins": ["https://page.example"]}], ids=["without cors", "not allowed"])
def test_a_page_of_another_origin_learns_nothing(site: Site, elsewhere: Site, options: Any) -> None:
    if options:
        cors(site.app, **options)
    site.answers = [site.sends("1")]
    elsewhere.listen(f"{origin_of(site)}/events")
    assert elsewhere.closed() == []
    assert elsewhere.page.evaluate(ASK, [f"{origin_of(site)}/nowhere", {}]) == "refused"


@one_loop
def test_a_page_of_an_allowed_origin_asks_by_fetch_and_reads_errors(site: Site, elsewhere: Site) -> None:
    cors(site.app, origins=[origin_of(elsewhere)], headers=["Content-Type", "Authorization"])

    @site.app.post("/ask")
    async def ask(event: H3Event) -> None:
        asked = await event.read_json()
        event.set_header("Last-Event-ID", event.last_event_id)
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event(asked["a"])

    elsewhere.page.goto(origin_of(elsewhere))
    headers = {"Content-Type": "application/json", "Authorization": "Bearer x", "Last-Event-ID": "7"}
    options = {"method": "POST", "headers": headers, "body": '{"a": "b"}'}
    assert elsewhere.page.evaluate(ASK, [f"{origin_of(site)}/ask", options]) == [200, "7", "data: b\n\n"]
    assert elsewhere.page.evaluate(ASK, [f"{origin_of(site)}/nowhere", options]) == [404, None, "Not Found"]
    options["headers"] = {**headers, "X-Not-Allowed": "1"}
    assert elsewhere.page.evaluate(ASK, [f"{origin_of(site)}/ask", options]) == "refused"


# -- pages of ours


@contextmanager
def watched(page: Page) -> Iterator[None]:
    """Fail if the page logs an error or a warning, or lets an exception out."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    yield
    assert faults == []


class Demo:
    """`h3ref demo` as a process of its own, on a free port."""

    def __init__(self) -> None:
        path = [str(Path(h3ref.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "h3ref", "demo", "--port", "0"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        printed = ""
        for line in self.process.stdout:
            printed += line
            if found := re.search(r"(http://127\.0\.0\.1:\d+/)  \(Ctrl-C", line):
                self.url = found[1]
                return
        self.process.communicate()
        raise AssertionError(f"the demo has ended: {printed}")

    def end(self) -> int:
        """Let it end as Ctrl-C does, and return its exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=30)
        finally:
            self.process.kill()
        return self.process.returncode


@pytest.fixture
def demo() -> Iterator[Demo]:
    demo = Demo()
    yield demo
    assert demo.end() == 0


def rows(panel: FrameLocator) -> list[list[str]]:
    """The type, lastEventId and data of the events that a panel shows."""
    return [row.locator("td").all_inner_texts()[1:] for row in panel.locator("#events tr").all()]


SOME = re.compile(r"^([3-9]|\d\d+) events · ")
"""What a panel says that has had some events."""


def test_the_demo_shows_the_broken_flow_open_and_silent_and_the_fixed_ones_ticking(page: Page, demo: Demo) -> None:
    from playwright.sync_api import expect

    with watched(page):
        page.goto(demo.url)
        broken, fixed = page.frame_locator("#broken"), page.frame_locator("#fixed")

        expect(fixed.locator("#sum")).to_have_text(SOME)
        shown = rows(fixed)
        first = int(shown[0][1])
        assert shown == [["tick", str(number), str(number)] for number in range(first, first + len(shown))]
        expect(fixed.locator("#ready")).to_have_text("1 OPEN")
        expect(fixed.locator("#states .now")).to_have_text("streaming")
        expect(fixed.locator("#rejected")).to_have_text("")

        expect(broken.locator("#sum")).to_have_text(re.compile(r"^0 events · ([2-9]|\d\d+) s of silence$"))
        expect(broken.locator("#verdict")).to_contain_text("nothing since")
        expect(broken.locator("#ready")).to_have_text("1 OPEN")
        expect(broken.locator("#states .now")).to_have_text("headers_sent")
        expect(broken.locator("#rejected")).to_contain_text("rejected 10 times: ConnectionNotReady, rule L-17")
        expect(broken.locator("#none")).to_be_visible()
        assert rows(broken) == []

        for choice in ("awaited", "blocking", "callback"):
            fixed.get_by_label(choice).check()
            expect(fixed.locator("#picture")).to_contain_text(f"GET /ticks/{choice}")
            expect(fixed.locator("#sum")).to_have_text(SOME)
            expect(fixed.locator("#states .now")).to_have_text("streaming")
        fixed.get_by_role("button", name="Leave").click()
        expect(fixed.locator("#states .now")).to_have_text("closed(client_gone)")

        expect(broken.locator("#ready")).to_have_text("1 OPEN")
        broken.get_by_role("button", name="Leave").click()
        expect(broken.locator("#verdict")).to_contain_text("You left")
        expect(broken.locator("#ready")).to_have_text("2 CLOSED")
        expect(broken.locator("#states .now")).to_have_text("closed(client_gone)")
        broken.get_by_role("button", name="Open a new stream").click()
        expect(broken.locator("#verdict")).to_contain_text("nothing since")


WIDTH_OF = "name => document.querySelector(`#strip .${name}`)?.getBBox().width ?? 0"


def test_the_strips_of_the_demo_grow_and_whoever_comes_late_sees_the_same(browser: Browser, demo: Demo) -> None:
    from playwright.sync_api import expect

    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE)
        for _ in range(2):  # the second page is opened when the first has long been there
            page = context.new_page()
            with watched(page):
                page.goto(demo.url)
                expect(page.frame_locator("#fixed").locator("#strip .event").nth(2)).to_be_attached()
                expect(page.frame_locator("#broken").locator("#strip .event")).to_have_count(0)
                (broken,) = (frame for frame in page.frames if frame.url.endswith("/panel/broken"))
                broken.wait_for_function(f"({WIDTH_OF})('silent') > 0")
                width = broken.evaluate(WIDTH_OF, "silent")
                broken.wait_for_function(f"width => ({WIDTH_OF})('silent') > width", arg=width)
                expect(page.frame_locator("#broken").locator("#sum")).to_contain_text("s of silence")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_drawing_of_the_demo_is_whole_and_can_be_read(
    browser: Browser, demo: Demo, width: int, scheme: Any
) -> None:
    from playwright.sync_api import expect

    with browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(demo.url)
        expect(page.frame_locator("#fixed").locator("#sum")).to_have_text(SOME)
        expect(page.frame_locator("#broken").locator("#picture")).to_contain_text("No events sent - connection hangs")
        expect(page.frame_locator("#fixed").locator("#picture")).to_contain_text("Event 3")
        for frame in page.frames[1:]:
            texts = frame.evaluate(
                """() => [...document.querySelectorAll("#picture text")].map(text => {
                    const box = text.getBBox(), whole = text.ownerSVGElement.viewBox.baseVal;
                    return [text.textContent, box.x, box.x + box.width - whole.width, 13 * text.getScreenCTM().a];
                })"""
            )
            assert len(texts) > 10
            for text, left, over, size in texts:
                assert left >= 0, text
                assert over <= 0, text
                assert size >= 13, f"{text}: {size} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
