"""The how-tos whose Python blocks are applications: each runs and is asked for its events. Links lead somewhere."""

from __future__ import annotations

import re
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

from h3ref import EventStreamParser, H3App, MessageEvent, running

HOW_TO = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = [
    HOW_TO / f"{name}.md"
    for name in (
        "behind-nginx",
        "mount-in-fastapi",
        "move-from-aiohttp-sse",
        "move-from-fastapi",
        "move-from-sse-starlette",
    )
]
BLOCKS = [
    pytest.param(page, block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), start=1)
]
PATHS = {"mount-in-fastapi": "/streams/events"}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize(("page", "block"), BLOCKS)
async def test_a_block_streams(page: Path, block: str) -> None:
    names: dict[str, Any] = {"__name__": "how_to"}
    exec(compile(block, page.name, "exec"), names)
    async with serving(names["app"]) as url, httpx.AsyncClient(base_url=url) as client:
        reply = await client.get(PATHS.get(page.stem, "/events"))
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        parser = EventStreamParser()
        messages = [*parser.feed(reply.content), *parser.close()]
        assert messages == [MessageEvent("tick", str(number), str(number)) for number in range(3)]
        if page.stem == "mount-in-fastapi":
            assert (await client.get("/plain")).json() == {"plain": "yes"}
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
        server_of_asgi = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server_of_asgi.serve, [listener])
            yield url
            server_of_asgi.should_exit = True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
