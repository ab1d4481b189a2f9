"""Every page is followed as a script, block by block; the applications in the how-tos are asked for their events."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import anyio
import httpx
import pytest
import uvicorn
from mcp import Client as MCPClient

from h3ref import EventStreamParser, H3App, MessageEvent, running
from tests import test_chat_page, test_machine_in_node, test_nginx
from tests.logs import logs_kept
from tests.pages import PAGES as ALL_PAGES
from tests.pages import ROOT, Block, blocks_of, commands_of, functions_in, reading

ELSEWHERE = {("nginx", test_nginx.PAGE), ("js", test_chat_page.PAGE), ("js", test_machine_in_node.PAGE)}
"""Languages and pages whose blocks another module runs."""

IN_A_CLONE = {"add-an-adapter", "CONTRIBUTING"}
"""Pages whose reader works in a clone of the repository."""

HOW_TO = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = [
    HOW_TO / f"{name}.md"
    for name in (
        "allow-other-origins",
        "behind-nginx",
        "mount-in-fastapi",
        "move-from-aiohttp-sse",
        "move-from-fastapi",
        "move-from-sse-starlette",
        "reach-every-client",
    )
]
BLOCKS = [
    pytest.param(page, block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), start=1)
    if "\napp = " in block
]
PATHS = {"mount-in-fastapi": "/streams/events"}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize(("page", "block"), BLOCKS)
async def test_a_block_streams(page: Path, block: str) -> None:
    names: dict[str, Any] = {"__name__": "how_to"}
    with logs_kept():
        exec(compile(block, page.name, "exec", dont_inherit=True), names)
    async with serving(names["app"]) as url, httpx.AsyncClient(base_url=url) as client:
        reply = await client.get(PATHS.get(page.stem, "/events"))
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        parser = EventStreamParser()
        messages = [*parser.feed(reply.content), *parser.close()]
        assert messages == [MessageEvent("tick", str(number), str(number)) for number in range(3)]
        if "/plain" in block:
            assert (await client.get("/plain")).json() == {"plain": "yes"}
        if "MCPServer" in block:
            async with MCPClient(f"{url}/mcp/") as mcp:
                assert (await mcp.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}
        if "HTTPException" in block:
            assert (await client.get("/events", headers={"Last-Event-ID": "2"})).status_code == 404


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an application of any of the kinds that the pages show, and give its URL."""
    if isinstance(app, H3App):
        async with running(app, port=0) as server:
            yield server.url
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if isinstance(app, aiohttp.web.Application):
            runner = aiohttp.web.AppRunner(app)
            await runner.setup()
            await aiohttp.web.SockSite(runner, listener).start()
            yield url
            await runner.cleanup()
            return
        server_of_asgi = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=20))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server_of_asgi.serve, [listener])
            yield url
            server_of_asgi.should_exit = True


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in ALL_PAGES if blocks_of(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    if page.stem in IN_A_CLONE:
        for name in ("h3ref", "tests", "spec", "docs", "notebooks", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, tmp_path / name)
    with reading(tmp_path) as reader:
        for block in blocks_of(page):
            if (block.language, page) not in ELSEWHERE:
                reader.take(block)


@pytest.mark.parametrize(
    ("language", "text", "error"),
    [
        ("python", "assert False", AssertionError),
        ("python", "def test_it():\n    raise LookupError", LookupError),
        ("python", "async def test_it():\n    raise LookupError", LookupError),
        ("text", "never printed", AssertionError),
        ("diff", "--- a/none\n+++ b/none\n@@\n-a\n+b\n", AssertionError),
        ("diff", "--- a/made.py\n+++ b/made.py\n@@ -1 +1 @@\n-a\n+b\n", AssertionError),
        ("diff", "--- a/made.py\n+++ b/made.py\n@@\n-twice\n+b\n", AssertionError),
        ("diff", "--- a/made.py\n+++ b/made.py\n@@\n-no\n+b\n", AssertionError),
        ("diff", "--- a/made.py\n+++ b/made.py\n@@\n-ne\n+b\n", AssertionError),
        ("diff", "--- a/made.py\n+++ b/made.py\n@@\n+b\n", AssertionError),
        ("diff", "-once\n+b\n", AssertionError),
        ("console", "$ false && echo yes\nyes\n", AssertionError),
        ("console", "$ echo yes\nno\n", AssertionError),
        ("console", "$ echo one; echo two\n...\nthree\n", AssertionError),
        ("console", "$ false\n", AssertionError),
        ("console", "$ echo no; exit 3\nno\n", AssertionError),
        ("console", "$ true || true\n", AssertionError),
        ("console", "$ echo 36 failed, 88 passed\n... passed\n", AssertionError),
        ("console", "$ . venv/bin/activate\n", AssertionError),
        ("console", "$ make nothing_of_the_kind\n", AssertionError),
        ("console", "$ pip install h3ref[nothing]\n", AssertionError),
        ("console", "$ pip install antigravity\n", AssertionError),
        ("console", "$ uvicorn --no-such-option module:app\n", AssertionError),
        ("ruby", "puts 1", ValueError),
        ("", "indented", ValueError),
    ],
)
def test_a_page_that_is_wrong_is_told(language: str, text: str, error: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text("once\ntwice\ntwice\n")
    with reading(tmp_path) as reader, pytest.raises(error):
        reader.take(Block(ROOT / "docs" / "none.md", 1, language, text))


def test_a_diff_says_where_by_its_lines(tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text("first\n\nonce\n    inside\nlast\n")
    diff = "--- a/made.py\n+++ b/made.py\n@@\n-first\n+begin\n\n@@\n once\n-    inside\n+    more\n+    of it\n"
    with reading(tmp_path) as reader:
        reader.take(Block(ROOT / "docs" / "none.md", 1, "diff", diff))
    assert (tmp_path / "made.py").read_text() == "begin\n\nonce\n    more\n    of it\nlast\n"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_test_that_a_page_names_is_there(page: Path) -> None:
    for file, name in re.findall(r"([\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8")):
        assert name in functions_in(ROOT / "tests" / file.removeprefix("tests/")), f"{file} has no {name}"


def test_commands_and_their_output_are_told_apart() -> None:
    block = Block(ROOT / "none.md", 1, "console", "$ one \\\n    --two   # a remark\nsays\nthis\n$ three\n")
    assert list(commands_of(block)) == [("one --two", "says\nthis\n"), ("three", "")]
