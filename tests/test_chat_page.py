"""The chat that docs/how-to/chat-in-fastapi.md builds, asked by what a browser's page has: real fetch-event-source."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from types import ModuleType
from typing import Any

import anyio
import pytest

from tests.asgi_servers import on_uvicorn
from tests.npm import installed
from tests.pages import ROOT, blocks_of, module_of

PAGE = ROOT / "docs" / "how-to" / "chat-in-fastapi.md"
PROJECT = Path(__file__).parent / "fetch_event_source"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True),
    pytest.mark.timeout(300),  # npm may have to fetch the library
]


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's program, beside the function that the page shows."""
    folder = tmp_path_factory.mktemp("client") / "whole"
    shutil.copytree(installed(request, PROJECT), folder)
    (function,) = (block.text for block in blocks_of(PAGE) if block.language == "js")
    (folder / "chat.mjs").write_text(function, encoding="utf-8")
    return folder / "client.mjs"


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    chat = module_of(PAGE, "chat.py")
    monkeypatch.setattr(chat, "DATABASE", str(tmp_path / "chat.db"))
    chat.create()
    return chat


class Posts:
    """An app that counts its POSTs."""

    def __init__(self, app: Any, patience: int | None = None) -> None:
        self.count = 0
        self.enough = anyio.Event()
        self._app = app
        self._patience = patience

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.count += 1
            if self.count == self._patience:
                self.enough.set()
        await self._app(scope, receive, send)


@asynccontextmanager
async def asking(posts: Posts, program: Path, how: str, tab: str = "shown") -> AsyncIterator[anyio.abc.Process]:
    async with on_uvicorn(posts, bare=True) as server:
        command = ["node", str(program), how, f"http://127.0.0.1:{server.port}/chat", tab]
        async with await anyio.open_process(command, stdin=DEVNULL, stdout=PIPE, stderr=None) as process:
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.kill()


async def two_words(text: str) -> AsyncIterator[str]:
    yield "two "
    await anyio.sleep(0.05)
    yield "words"


class Failing:
    """A model that raises after so many words."""

    def __init__(self, words: int, error: Exception) -> None:
        self._words = words
        self._error = error

    async def __call__(self, text: str) -> AsyncIterator[str]:
        for _ in range(self._words):
            yield "word "
        raise self._error


ENDS = ["done", "refused", "error", "cut"]


def model_for(chat: ModuleType, end: str) -> Any:
    return {
        "done": two_words,
        "refused": Failing(0, chat.ModelFailed()),
        "error": Failing(1, chat.ModelFailed()),
        "cut": Failing(1, ZeroDivisionError()),
    }[end]


EXPECTED = {
    "done": (["two ", "words"], None),
    "refused": ([], "the chat answered with 502"),
    "error": (["word "], "the model has failed"),
}


@pytest.mark.parametrize("tab", ["shown", "hidden"])
@pytest.mark.parametrize("end", ENDS)
async def test_the_page_asks_once_however_it_ends(chat: ModuleType, program: Path, end: str, tab: str) -> None:
    model = model_for(chat, end)
    chat.app.dependency_overrides[chat.model] = lambda: model
    posts = Posts(chat.app)
    async with asking(posts, program, "ask", tab) as process:
        assert process.stdout is not None
        said = b"".join([part async for part in process.stdout])
        assert await process.wait() == 0  # nothing is left that could ask again
    found = json.loads(said)
    assert posts.count == 1
    if end == "cut":
        assert found["tokens"] == ["word "]
        assert found["error"] in ("terminated", "fetch failed")  # undici's words for a body that broke off
    else:
        assert (found["tokens"], found["error"]) == EXPECTED[end]


@pytest.mark.parametrize("end", ["refused", "cut"])
async def test_by_default_a_failure_is_asked_again_and_again(chat: ModuleType, program: Path, end: str) -> None:
    model = model_for(chat, end)
    chat.app.dependency_overrides[chat.model] = lambda: model
    posts = Posts(chat.app, patience=3)
    async with asking(posts, program, "defaults"):
        with anyio.fail_after(60):
            await posts.enough.wait()


async def test_by_default_a_tab_that_is_shown_again_asks_again(chat: ModuleType, program: Path) -> None:
    chat.app.dependency_overrides[chat.model] = lambda: two_words
    posts = Posts(chat.app, patience=2)
    async with asking(posts, program, "defaults", "hidden"):
        with anyio.fail_after(60):
            await posts.enough.wait()
