"""Streams come through nginx as they are sent, with the configuration that docs/how-to/behind-nginx.md shows.

Where it is another one, the judge says who holds them back.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from h3ref import H3App, H3Event, SSEWriter, running
from h3ref.connection import End
from h3ref.judge.app import Contract
from h3ref.judge.catalogue import Group, load_checks
from h3ref.judge.contract import judge_contract
from h3ref.judge.seen import Waits
from h3ref.judge.stream import judge_stream
from h3ref.judge.verdict import Finding, Outcome, Verdict
from h3ref.judge.wire import Target, connect_to
from tests.clients import SocketClient
from tests.conftest import require_program
from tests.ports import free_port

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "behind-nginx.md"
(SHOWN,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)

SILENT = "location / { proxy_pass http://127.0.0.1:3000; }"
"""A configuration that knows nothing of streams."""

DEAF = "location / { proxy_pass http://127.0.0.1:3000; proxy_ignore_headers X-Accel-Buffering; gzip off; }"
"""One that holds back what it can."""

IMPATIENT = "location / { proxy_pass http://127.0.0.1:3000; proxy_read_timeout SECONDS; }"

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


@asynccontextmanager
async def nginx_before(app: H3App, location: str, folder: Path) -> AsyncIterator[SocketClient]:
    """Serve the app behind an nginx with that location, and return a client of nginx."""
    program = require_program("nginx", "nginx")
    port = free_port()
    async with running(app, port=0) as server:
        text = CONFIGURATION.format(
            folder=folder, port=port, location=location.replace("127.0.0.1:3000", f"127.0.0.1:{server.port}")
        )
        configuration = anyio.Path(folder / "nginx.conf")
        await configuration.write_text(text)
        command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)]
        async with await anyio.open_process(command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE) as process:
            client = SocketClient(SimpleNamespace(port=port))  # type: ignore[arg-type]
            try:
                await until_it_listens(port)
                yield client
            finally:
                await client.aclose()
                process.terminate()


async def until_it_listens(port: int) -> None:
    with anyio.fail_after(10):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.02)
            else:
                await stream.aclose()
                return


@pytest.mark.parametrize("location", [SHOWN, SILENT], ids=["shown", "silent"])
async def test_events_come_through_as_they_are_sent(location: str, tmp_path: Path) -> None:
    app = H3App()
    go_on = anyio.Event()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncGenerator[str, None]:
        yield "1"
        await go_on.wait()
        yield "2"

    async with nginx_before(app, location, tmp_path) as client:
        reply = await client.request("GET", "/events", headers={"Accept-Encoding": "gzip"})
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        assert "content-encoding" not in reply.headers
        with anyio.fail_after(10):
            assert await reply.receive() == b"data: 1\n\n"
        go_on.set()
        assert (await reply.read(), reply.end) == (b"data: 2\n\n", End.PROPER)


async def test_a_configuration_that_ignores_our_header_holds_them_back(tmp_path: Path) -> None:
    app = H3App()
    go_on = anyio.Event()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncGenerator[str, None]:
        yield "1"
        await go_on.wait()

    async with nginx_before(app, DEAF, tmp_path) as client:
        with anyio.move_on_after(0.3) as waited:
            await client.request("GET", "/events")  # not even the head comes
        assert waited.cancelled_caught
        go_on.set()
        assert await (await client.request("GET", "/events")).read() == b"data: 1\n\n"


async def test_a_stream_that_fails_is_cut(tmp_path: Path) -> None:
    app = H3App()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncGenerator[str, None]:
        yield "1"
        raise ValueError("late")

    async with nginx_before(app, SHOWN, tmp_path) as client:
        reply = await client.request("GET", "/events")
        assert (await reply.read(), reply.end) == (b"data: 1\n\n", End.CUT)


async def test_leaving_cancels_the_stream(tmp_path: Path) -> None:
    app = H3App()
    ended = anyio.Event()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncGenerator[str, None]:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with nginx_before(app, SHOWN, tmp_path) as client:
        reply = await client.request("GET", "/events")
        await reply.receive()
        reply.disconnect()
        with anyio.fail_after(10):
            await ended.wait()
        assert reply.status == 200


async def test_keep_alives_hold_the_connection(tmp_path: Path) -> None:
    app = H3App()

    @app.get("/kept")
    def kept(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(keep)

    async def keep(writer: SSEWriter) -> None:
        for _ in range(3):
            await anyio.sleep(0.4 * seconds)
            await writer.send_keep_alive()
        await writer.send_event("late")

    @app.sse("/silent")
    async def silent(event: H3Event) -> AsyncGenerator[str, None]:
        yield "early"
        await anyio.sleep_forever()

    ends: dict[str, tuple[bool, End | None]] = {}
    for seconds in (3, 30):
        async with nginx_before(app, IMPATIENT.replace("SECONDS", f"{seconds}s"), tmp_path) as client:

            async def read(client: SocketClient, path: str) -> None:
                reply = await client.request("GET", path)
                ends[path] = b"late" in await reply.read(), reply.end

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, client, "/kept")
                tasks.start_soon(read, client, "/silent")
        if ends["/kept"][1] is End.PROPER:
            break  # else the machine stood still, and its keep-alives were late
    assert ends == {"/kept": (True, End.PROPER), "/silent": (False, End.CUT)}


# The judge names it


COMPRESSING = """location / {
    proxy_pass http://127.0.0.1:3000;
    gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 0;
}"""

CHECKS = {check.id: check for check in load_checks()}

one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
"""For those that have to wait: the judge runs on both in its own tests."""


async def findings_of(judge: Any, url: str, ids: Sequence[str], **options: Any) -> dict[str, Finding]:
    verdicts: list[Verdict] = []
    await judge(Target(url, connect_to(url)), [CHECKS[id] for id in ids], verdicts.append, **options)
    return {verdict.check.id: verdict.finding for verdict in verdicts}


@one_loop
async def test_the_judge_names_who_holds_a_stream_back(tmp_path: Path) -> None:
    app = H3App()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncGenerator[str, None]:
        yield "1"
        await anyio.sleep_forever()

    async with nginx_before(app, DEAF, tmp_path) as client:
        url = f"http://127.0.0.1:{client.server.port}/events"
        waits = Waits(watch=6, short=0.5, late=0.5)
        found = await findings_of(judge_stream, url, ["C-11", "C-27"], waits=waits)
    assert found["C-11"].outcome == Outcome.FAILED
    assert re.search(r"while nginx\S* \(Server\) answers other requests: it may hold it back", found["C-11"].seen)


@one_loop
async def test_the_judge_proves_with_the_contract_who_holds_a_stream_back(tmp_path: Path) -> None:
    async with nginx_before(Contract(lambda: None).app, DEAF, tmp_path) as client:
        url = f"http://127.0.0.1:{client.server.port}"
        found = await findings_of(judge_contract, url, ["C-40"], seconds=80)
    assert found["C-40"].outcome == Outcome.FAILED
    assert re.search(r"held back, by nginx\S* \(Server\)", found["C-40"].seen)


async def test_the_judge_names_who_compresses(tmp_path: Path) -> None:
    async with nginx_before(Contract(lambda: None).app, COMPRESSING, tmp_path) as client:
        url = f"http://127.0.0.1:{client.server.port}/ticks"
        found = await findings_of(judge_stream, url, ["C-14"], waits=Waits.of(120))
    assert found["C-14"].outcome == Outcome.FAILED
    assert re.fullmatch(r"it is gzip, by nginx\S* \(Server\)", found["C-14"].seen)
    assert found["C-14"].evidence == b"Content-Encoding: gzip\r\n"


async def test_the_judge_is_content_with_what_is_shown(tmp_path: Path) -> None:
    async with nginx_before(Contract(lambda: None).app, SHOWN, tmp_path) as client:
        url = f"http://127.0.0.1:{client.server.port}"
        stream = [check.id for check in CHECKS.values() if check.group == Group.STREAM]
        found = await findings_of(judge_stream, f"{url}/ticks", stream, waits=Waits.of(120))
        found |= await findings_of(judge_contract, url, ["C-40", "C-41", "C-43", "C-44", "C-45"], seconds=240)
    assert {id: finding for id, finding in found.items() if finding.outcome == Outcome.FAILED} == {}
    assert found["C-40"].outcome == Outcome.PASSED
