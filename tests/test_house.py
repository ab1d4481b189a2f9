"""docs/house.md, the map: its links lead somewhere, what it says of endings holds, and its paths are those of a run."""

from __future__ import annotations

import ast
import asyncio
import importlib
import logging
import math
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import anyio
import pytest

from docs.generate import house
from docs.generate.house import WORDS
from h3ref import Channel, H3App, H3Event, Reason, SSEWriter
from h3ref._core.parking import asyncio_loop
from tests.clients import open_client, raw
from tests.pages import ROOT, functions_in
from tests.waits import until

PAGE = house.PAGE
TEXT = PAGE.read_text(encoding="utf-8")

NAMED: list[tuple[str, str]] = sorted(set(re.findall(r"\[`([\w.]+)`\]\(\.\./(h3ref/[\w/]+\.py)\)", TEXT)))
"""Each name in the code that is linked, with its file; some are the files' own."""

SHOWN: list[tuple[str, str]] = sorted(set(re.findall(r'\]\(\.\./tests/(\w+\.py) "(\w+)"\)', TEXT)))
"""Each test that is linked, as the link's title, with its file."""


# -- the generated parts


def test_no_generated_part_has_drifted(capsys: pytest.CaptureFixture[str]) -> None:
    assert house.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "old"),
    [
        ("floors", "| `H3App`: an app's routes"),
        ("walls", "- No files import each other"),
        ("packages", "| `Channel`: one sender"),
        ("words", "| **abandon** |"),
    ],
)
def test_what_has_drifted_is_told_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, old: str
) -> None:
    page = tmp_path / "house.md"
    assert TEXT.count(old) == 1
    page.write_text(TEXT.replace(old, old + " altered"), encoding="utf-8")
    assert house.main(["--check", "--page", str(page)]) == 1
    assert f"drifted: {part};" in capsys.readouterr().err
    assert house.main(["--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == TEXT


def test_a_room_that_says_not_what_it_is_is_told(tmp_path: Path) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"silent.py does not say what it is"):
        house.first_line(silent)


# -- what is linked


@cache
def names_in(path: Path) -> set[str]:
    """What a file defines: functions, classes, constants, and the methods and attributes of classes, after a dot."""
    return set(_names(ast.parse(path.read_text(encoding="utf-8")).body))


def _names(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield f"{within}{node.name}"
            yield from _names(node.body, f"{within}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{within}{node.name}"
            for inner in ast.walk(node):  # what a method sets is an attribute
                if isinstance(inner, ast.Attribute) and ast.unparse(inner.value) == "self":
                    yield f"{within}{inner.attr}"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield f"{within}{ast.unparse(target)}"


@pytest.mark.parametrize(("name", "file"), NAMED, ids=[f"{file}-{name}" for name, file in NAMED])
def test_a_link_names_what_its_file_defines(name: str, file: str) -> None:
    path = ROOT / file
    is_the_file = file.removeprefix("h3ref/").endswith((name, f"{name}.py", f"{name}/__init__.py"))
    assert is_the_file or name in names_in(path), f"{file} defines no {name}"


@pytest.mark.parametrize(("file", "name"), SHOWN)
def test_a_test_that_shows_an_ending_is_there(file: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_in(ROOT / "tests" / file)


def test_the_links_are_found() -> None:
    assert len(NAMED) > 150
    assert len(SHOWN) > 30
    assert {file for file, _ in SHOWN} <= {path.name for path in (ROOT / "tests").glob("test_*.py")}


# -- tasks


TASKS: dict[str, str] = dict(
    re.findall(
        r"^\| \[`([\w.]+)`\][^|]+\| ([^|]+) \| [^|]+ \|$", TEXT.partition("| task |")[2].partition("\n\n")[0], re.M
    )
)
"""For each task in the table, what there is one for."""

TOO_SHORT = {"Upkeep._bring_to_end", "Commit._open", "Timer._sleep"}
"""Over before anybody looks, or there only where something is late."""


WORD_FOR = {"memory": "memory", "h11_anyio": "native", "asgi-hypercorn": "ASGI"}
"""By which the table names what only one adapter has."""


def our_tasks() -> set[str]:
    """Those that run, by the class and the name of what they run."""
    named = {name for task in anyio.get_running_tasks() if (name := task.name or "").startswith("h3ref.")}
    if asyncio_loop() is not None:  # where a task that is in no group of anyio's has no such name
        codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
        named |= {code.co_qualname for code in codes if code and code.co_filename.startswith(str(ROOT / "h3ref"))}
    return {".".join(name.split(".")[-2:]) for name in named}


@pytest.mark.anyio
@pytest.mark.parametrize("name", WORD_FOR)
async def test_the_tasks_that_run_are_those_of_the_table(name: str) -> None:
    app = H3App()

    @app.get("/callback")
    def by_callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(hello)

    async def hello(writer: SSEWriter) -> None:
        await writer.send_event("hello")
        await anyio.sleep_forever()

    @app.get("/blocking")
    def on_a_thread(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("hello")
            again.wait(30)
            writer.send_event("again")
            over.wait(30)

    @app.sse("/generated", commit_after=math.inf)
    async def generated(event: H3Event) -> AsyncIterator[str]:
        seen.update(our_tasks())
        yield "hello"
        await anyio.sleep_forever()

    again, over = threading.Event(), threading.Event()
    seen: set[str] = set()
    async with open_client(name, app) as client:
        for path in ("/callback", "/blocking", "/generated"):
            reply = await client.request("GET", path)
            assert b"hello" in await reply.receive()
            if path == "/blocking":  # by then the head has left, and nobody but a helper sends
                again.set()
                assert b"again" in await reply.receive()
            seen |= our_tasks()
        over.set()
    assert seen - TASKS.keys() == set(), "tasks that the table leaves out"
    missing = {task for task in TASKS.keys() - seen - TOO_SHORT if is_one_for(name, TASKS[task])}
    assert missing == set(), "tasks that the table has, and that do not run"


def is_one_for(adapter: str, what: str) -> bool:
    """Whether there is such a task on the event loop that runs."""
    if ("on asyncio" in what and asyncio_loop() is None) or ("on trio" in what and asyncio_loop() is not None):
        return False
    adapters = {word for word in WORD_FOR.values() if word in what}
    return not adapters or WORD_FOR[adapter] in adapters


# -- endings


ENDINGS = [
    [cell.strip() for cell in row.strip("| ").split(" | ")]
    for row in TEXT.partition("| what happens |")[2].partition("\n\n")[0].splitlines()[2:]
    if not row.startswith("| **")
]
"""The cells of each row of the table."""


@pytest.mark.parametrize("row", ENDINGS, ids=[row[0] for row in ENDINGS])
def test_an_ending_says_who_why_and_which_test_shows_it(row: list[str]) -> None:
    assert len(row) == 5, row
    _, who, reason, client, shown = row
    assert re.search(r"\]\(\.\./h3ref/", who)
    assert reason == "as it was" or Reason(reason.strip("`"))
    assert client
    assert re.search(r"\]\(\.\./tests/", shown)


def test_each_reason_is_one_of_an_ending() -> None:
    assert {f"`{reason}`" for reason in Reason} <= {row[2] for row in ENDINGS}


def test_each_word_for_an_ending_is_used() -> None:
    """And each is a method somewhere; proper end is what `Connection.close` is."""
    methods = {name.rpartition(".")[2] for path in (ROOT / "h3ref").rglob("*.py") for name in names_in(path)}
    assert {word.replace(" ", "_") for word in WORDS} - methods == {"proper_end"}


SYNONYMS = {
    *("abort", "destroy", "dismiss", "dispose", "drop", "end_stream", "finish", "give_back", "give_up", "interrupt"),
    *("kill", "leave", "let_go", "part_with", "quit", "remove", "shutdown", "terminate", "unsubscribe"),
}
"""Words that once said what one of ours says."""

NOT_OURS = {
    ("_core/parking.py", "_abort"),  # trio's word for what it calls
    ("channel/subscription.py", "drop"),  # the policy's word, for events
    ("adapters/asgi/connection.py", "abort"),
}

STREAMING = ("_core", "adapters", "channel")
"""The packages in which something ends; so it does in the modules at the top."""


def test_no_method_has_another_word_for_an_ending() -> None:
    files = [
        *(ROOT / "h3ref").glob("*.py"),
        *(path for name in STREAMING for path in (ROOT / "h3ref" / name).rglob("*.py")),
    ]
    functions = {
        (str(path.relative_to(ROOT / "h3ref")), node.name)
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(functions) > 500
    others = {
        (file, name)
        for file, name in functions
        if any(f"{name.strip('_')}_".startswith(f"{synonym}_") for synonym in SYNONYMS)
    }
    assert others - NOT_OURS == set()


# -- paths


def steps_of(path: str) -> list[tuple[str, CodeType]]:
    """What a path's numbered steps link to, in order: each name with its code; that of a class is what makes one."""
    section = TEXT.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
    (numbered,) = re.findall(r"^1\. .+?(?=\n\n)", section, re.MULTILINE | re.DOTALL)
    found = []
    for name, file in re.findall(r"\[`([\w.]+)`\]\(\.\./(h3ref/[\w/]+)\.py\)", numbered):
        here: Any = importlib.import_module(file.replace("/", "."))
        for part in name.split("."):
            here = getattr(here, part)
        is_class = isinstance(here, type)
        found.append((name, (here.__init__ if is_class else here).__code__))
    assert len(found) > 5
    return found


def test_who_is_called_later_than_the_page_says_is_told() -> None:
    first, second = compile("1", "first", "exec"), compile("2", "second", "exec")
    check([("first", first), ("second", second)], [second, first, second])
    with pytest.raises(AssertionError, match="second"):
        check([("first", first), ("second", second)], [second, first])


def check(steps: list[tuple[str, CodeType]], calls: list[CodeType]) -> None:
    """The steps were called, one after another, whatever else was called in between."""
    rest = iter(calls)
    for number, (name, code) in enumerate(steps):
        before = steps[number - 1][0] if number else "the beginning"
        assert any(called is code for called in rest), f"{name} is not called after {before}"


@contextmanager
def profiled() -> Iterator[list[CodeType]]:
    """The code of each call on this thread."""
    calls: list[CodeType] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            calls.append(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def streaming(callback: Callable[[SSEWriter], Any]) -> H3App:
    app = H3App()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    return app


NO_GAP = 1e-9
"""Seconds: after them it has been quiet, whenever something is sent."""


@pytest.mark.anyio
async def test_the_path_of_a_request_is_walked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="h3ref.access")

    async def tick(writer: SSEWriter) -> None:
        await writer.send_event("tick")

    async with open_client("h11_anyio", streaming(tick)) as client:
        with profiled() as calls:
            answer = await raw(client.server.port, b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n")  # type: ignore[attr-defined]
    assert answer.endswith(b"data: tick\n\n\r\n0\r\n\r\n")
    check(steps_of("The path of a request"), calls)


@pytest.mark.anyio
async def test_the_path_of_an_event_is_walked() -> None:
    goes_on = anyio.Event()
    walked: list[CodeType] = []

    async def twice(writer: SSEWriter) -> None:
        await writer.send_event("the first, with the head")
        await goes_on.wait()
        with profiled() as calls:
            await writer.send_event("tick")
        walked.extend(calls)

    async with open_client("h11_anyio", streaming(twice), flush_gap=NO_GAP) as client:
        reply = await client.request("GET", "/events")
        await reply.receive()
        goes_on.set()
        assert await reply.receive() == b"data: tick\n\n"
    check(steps_of("The path of an event"), walked)


@pytest.mark.anyio
async def test_the_path_of_an_event_through_a_channel_is_walked() -> None:
    channel = Channel(history=10)
    async with open_client("h11_anyio", streaming(channel.stream), flush_gap=NO_GAP) as client:
        replies = [await client.request("GET", "/events") for _ in range(2)]
        await until(lambda: len(channel) == 2)
        await channel.publish("the first, with the head")
        for reply in replies:
            await reply.receive()
        with profiled() as calls:
            await channel.publish("tick")
        for reply in replies:
            assert await reply.receive() == b"data: tick\n\n"
    check(steps_of("The path of an event through a channel"), calls)
