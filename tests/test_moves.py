"""What the move pages say of the difference: each cell of their tables "side by side" is measured here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest
from fastapi import HTTPException, Request

from docs.generate.endings import rest_of
from h3ref.testing import AsyncTestClient, virtual_backends
from tests.moving_app import OURS, OWN, Content, asgi_app, handler_app
from tests.pages import ROOT
from tests.ports import free_port
from tests.test_docs import serving

HOW_TO = ROOT / "docs" / "how-to"
PAGES = {OWN: "move-from-fastapi", "sse-starlette": "move-from-sse-starlette", "aiohttp-sse": "move-from-aiohttp-sse"}

PATIENCE = 12.0
"""Seconds after which a server counts as one that does not end."""

Make = Callable[[Content], Any]
"""Makes an app of a kind that streams a content."""

Measure = Callable[[Make], Awaitable[str]]


def table_of(peer: str) -> dict[str, dict[str, str]]:
    """The table of a peer's page: by row, what it says of each side."""
    text = (HOW_TO / f"{PAGES[peer]}.md").read_text(encoding="utf-8")
    lines = [line for line in text.partition("## Side by side\n")[2].partition("\n## ")[0].splitlines() if "|" in line]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [peer, OURS] == [head[1], head[-1]]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


# -- over sockets


class Answer(NamedTuple):
    """What a client got."""

    status: int
    data: str
    is_cut: bool
    headers: httpx.Headers

    def __str__(self) -> str:
        return f"{self.status}, and cut" if self.is_cut else str(self.status)


async def answer_of(app: Any) -> Answer:
    async with serving(app) as url, httpx.AsyncClient() as client, client.stream("GET", f"{url}/events") as response:
        data = ""
        try:
            async for part in response.aiter_text():
                data += part
        except httpx.RemoteProtocolError:
            return Answer(response.status_code, data, True, response.headers)
        return Answer(response.status_code, data, False, response.headers)


async def refuses(make: Make) -> str:
    async def content(_: Request) -> AsyncIterator[str]:
        raise HTTPException(404)
        yield

    return str(await answer_of(make(content)))


async def raises_first(make: Make) -> str:
    async def content(_: Request) -> AsyncIterator[str]:
        raise ZeroDivisionError
        yield

    return str(await answer_of(make(content)))


async def raises_later(make: Make) -> str:
    async def content(_: Request) -> AsyncIterator[str]:
        yield "first"
        raise ZeroDivisionError

    answer = await answer_of(make(content))
    return ("arrives" if "first" in answer.data else "is lost") + (", then a cut" if answer.is_cut else "")


async def cache_control(make: Make) -> str:
    async def content(_: Request) -> AsyncIterator[str]:
        yield "1"

    answer = await answer_of(make(content))
    return f"`{answer.headers['Cache-Control']}`"


async def waits(make: Make) -> str:
    """What becomes of a handler that waits when its client leaves."""
    cancelled, told = anyio.Event(), anyio.Event()

    async def content(_: Request) -> AsyncIterator[str]:
        yield "1"
        try:
            await told.wait()
        except anyio.get_cancelled_exc_class():
            cancelled.set()
            raise

    result = "goes on"
    async with serving(make(content)) as url:
        async with httpx.AsyncClient() as client, client.stream("GET", f"{url}/events") as response:
            await anext(response.aiter_text())
        with anyio.move_on_after(5):
            await cancelled.wait()
            result = "is cancelled"
        told.set()
    return result


# -- in virtual time


async def headers_come(make: Make) -> str:
    async def content(_: Request) -> AsyncIterator[str]:
        await anyio.sleep(3)
        yield "1"

    async with AsyncTestClient(make(content)) as client, await client.stream("GET", "/events"):
        return "at once" if client.now() == 0 else f"after {client.now():g} s"


async def comments_come(make: Make) -> str:
    async def content(_: Request) -> AsyncIterator[str]:
        for number in range(6):
            yield str(number)
            await anyio.sleep(10)

    async with AsyncTestClient(make(content)) as client, await client.stream("GET", "/events") as stream:
        await stream.wait_closed(100)
        return str(len(stream.comments))


async def cleans_up(make: Make) -> str:
    done = []

    async def content(_: Request) -> AsyncIterator[str]:
        try:
            while True:
                yield "1"
                await anyio.sleep(1)
        finally:
            await anyio.sleep(1)
            done.append(True)

    await leave(make, content)
    return "goes through" if done else "is cancelled"


async def asks(make: Make) -> str:
    said = []

    async def content(request: Request) -> AsyncIterator[str]:
        try:
            while not await request.is_disconnected():
                yield "1"
                await anyio.sleep(1)
            said.append("is told")
        except anyio.get_cancelled_exc_class():
            said.append("is cancelled")
            raise

    await leave(make, content)
    return said[0]


async def leave(make: Make, content: Content) -> None:
    """Be a client that leaves after two events."""
    async with AsyncTestClient(make(content)) as client, await client.stream("GET", "/events") as stream:
        await stream.take(2)
        stream.disconnect()
        await stream.wait_closed()


# -- servers that end, in processes of their own


class Ended(NamedTuple):
    """How a server went that had an open stream."""

    seconds: float | None
    is_proper: bool
    said: str
    streamed: float

    def __str__(self) -> str:
        if self.seconds is None:
            return "does not end"
        if self.is_proper:
            return "proper end"
        return "cut" if self.streamed < GRACE else "cut, when the time is up"


GRACE = 3
UVICORN = "uvicorn tests.moving_app:served --factory --port PORT"
UVICORN_IN_TIME = f"{UVICORN} --timeout-graceful-shutdown {GRACE}"
GUNICORN = f"gunicorn tests.moving_app:served() -k uvicorn_worker.UvicornWorker --graceful-timeout {GRACE} -b :PORT"


@cache
def ended(command: str, peer: str, folder: Path) -> Ended:
    """Start a server, open a stream, and send the server a SIGTERM."""
    port = free_port()
    environment = {**os.environ, "PEER": peer, "PYTHONPATH": str(ROOT)}
    with (folder / f"{port}.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.replace("PORT", str(port)).split()],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            with stream_of(process, port) as stream:
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                received = rest_of(stream, began + PATIENCE)
                streamed = time.monotonic() - began
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, began + PATIENCE - time.monotonic()))
                seconds = None if process.poll() is None else time.monotonic() - began
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        return Ended(seconds, received.endswith(b"0\r\n\r\n"), log.read(), streamed)


def stream_of(process: subprocess.Popen[bytes], port: int) -> socket.socket:
    """Open a stream, and read its first event."""
    deadline = time.monotonic() + 30
    while True:
        try:
            stream = socket.create_connection(("127.0.0.1", port), timeout=30)
            break
        except ConnectionRefusedError:
            assert process.poll() is None, "it does not start"
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
    stream.sendall(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
    data = b""
    while b"data: " not in data:
        part = stream.recv(65536)
        assert part, data
        data += part
    return stream


ENDS: dict[str, Callable[[str, Path], str]] = {
    "a stream, when `uvicorn` shuts down": lambda peer, folder: str(ended(UVICORN, peer, folder)),
    "… `uvicorn --reload`": lambda peer, folder: str(ended(f"{UVICORN} --reload", peer, folder)),
    "… gunicorn with uvicorn's worker": lambda peer, folder: str(ended(GUNICORN, peer, folder)),
    "… `uvicorn --timeout-graceful-shutdown 3`": lambda peer, folder: str(ended(UVICORN_IN_TIME, peer, folder)),
    "in that case, a dependency's teardown that awaits": lambda peer, folder: (
        "runs" if "<teardown>" in ended(UVICORN_IN_TIME, peer, folder).said else "does not run"
    ),
    "in that case, what a `finally` awaits": lambda peer, folder: (
        "goes through" if "<cleanup>" in ended(UVICORN_IN_TIME, peer, folder).said else "is cancelled"
    ),
}

MEASURES: dict[str, Measure] = {
    "headers, if the first event comes after 3 s": headers_come,
    "an `HTTPException(404)` before the first event": refuses,
    "a handler that raises before its first event": raises_first,
    "an event right before an exception": raises_later,
    "`Cache-Control`": cache_control,
    "what a `finally` awaits, when the client has left": cleans_up,
    "a loop that calls `request.is_disconnected()`": asks,
    "comments in a minute with an event every 10 s": comments_come,
    "a handler that waits, when the client leaves": waits,
}
VIRTUAL = {headers_come, comments_come, cleans_up, asks}

CELLS = [
    pytest.param(peer, side, row, id=f"{PAGES[peer]}-{side}-{row}")
    for peer in PAGES
    for row, sides in table_of(peer).items()
    for side in sides
]


def of(rows: object) -> list[Any]:
    return [cell for cell in CELLS if cell.values[2] in rows]  # type: ignore[operator]


def test_each_row_is_measured() -> None:
    rows = {str(cell.values[2]) for cell in CELLS}
    assert rows == MEASURES.keys() | ENDS.keys()


async def check(peer: str, side: str, row: str) -> None:
    make = handler_app if peer == "aiohttp-sse" else asgi_app
    assert await MEASURES[row](partial(make, side)) == table_of(peer)[row][side]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize(("peer", "side", "row"), of([row for row in MEASURES if MEASURES[row] not in VIRTUAL]))
async def test_a_row_holds(peer: str, side: str, row: str) -> None:
    await check(peer, side, row)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends()[:1])
@pytest.mark.parametrize(("peer", "side", "row"), of([row for row in MEASURES if MEASURES[row] in VIRTUAL]))
async def test_a_row_in_virtual_time_holds(peer: str, side: str, row: str) -> None:
    await check(peer, side, row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGTERM to send")
@pytest.mark.parametrize(("peer", "side", "row"), of(ENDS))
def test_a_row_of_a_server_that_ends_holds(peer: str, side: str, row: str, folder: Path) -> None:
    assert ENDS[row](side, folder) == table_of(peer)[row][side]
