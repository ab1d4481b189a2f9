"""What the notebooks share: one request, and all that is known of it."""

from __future__ import annotations

import math

import anyio
import pytest

from h3ref import H3App, H3Event, SSEWriter, flows
from h3ref.connection import End
from h3ref.examples.callback import app as example
from h3ref.lab.notebook import Received, compare, in_memory, on_socket, raw_get, recorded, virtually

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]  # as in a notebook

app = H3App()


@app.get("/hourly")
def hourly(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(every_hour)


async def every_hour(writer: SSEWriter) -> None:
    while True:
        await writer.send_event("cuckoo")
        await anyio.sleep(3600)


@app.get("/failing")
def failing(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(fail)


async def fail(writer: SSEWriter) -> None:
    await writer.send_event("so far so good")
    raise RuntimeError("no more")


@app.get("/silent")
async def silent(event: H3Event) -> None:
    await anyio.sleep(math.inf)


@app.post("/echo")
async def echo(event: H3Event) -> None:
    event.send_text(f"{event.headers['x-name']}: {(await event.read_body()).decode()}")


async def test_on_a_socket_every_byte_is_kept() -> None:
    run = await on_socket(example, "/broken", flow=flows.broken, silence=0.1)
    assert run.wire == flows.H3Z_HEAD.wire
    assert (run.status, run.headers["content-type"], run.body, run.events) == (200, "text/event-stream", b"", [])
    assert (run.end, run.reason, run.recording[-1].step) == (None, "client_gone", "disconnect")
    assert run.log[0] == "error: Failed to get SSE writer after 10 attempts"


async def test_in_memory_hours_take_no_time_and_the_times_are_exact() -> None:
    with anyio.fail_after(10):
        run = await in_memory(app, "/hourly", silence=4000, until=lambda body: body.count(b"cuckoo") == 3)
    assert [at for at, _ in run.arrivals] == [0, 3600, 7200]
    assert [record.time for record in run.recording if record.step == "event"] == [0, 3600, 7200]
    assert (run.end, run.reason, run.wire) == (None, "client_gone", b"")
    assert [message.data for message in run.events] == ["cuckoo"] * 3


async def test_in_memory_a_client_leaves_after_silence() -> None:
    run = await in_memory(app, "/hourly", silence=60)
    assert (len(run.events), run.recording[-1].step, run.recording[-1].time) == (1, "disconnect", 60)


async def test_in_memory_a_client_leaves_that_never_gets_a_head() -> None:
    run = await in_memory(app, "/silent", silence=60)
    assert (run.status, run.end, run.body) == (0, None, b"")


async def test_on_a_socket_a_client_leaves_when_it_has_what_it_wants() -> None:
    def has_one(received: Received) -> bool:
        return b"cuckoo" in received.body

    run = await on_socket(app, "/hourly", silence=5, until=has_one)
    assert (len(run.events), run.end, run.reason) == (1, None, "client_gone")


@pytest.mark.parametrize("how", [on_socket, in_memory])
async def test_a_body_that_is_cut_is_told_from_one_that_ends(how: type) -> None:
    cut, proper = await how(app, "/failing"), await how(example, "/callback")
    assert (cut.end, len(cut.events), cut.reason) == (End.CUT, 1, "error")
    assert (proper.end, len(proper.events), proper.reason) == (End.PROPER, 4, "complete")


@pytest.mark.parametrize("how", [on_socket, in_memory])
async def test_a_log_line_is_the_same_on_every_machine(how: type) -> None:
    assert (await how(app, "/failing")).log == ("error: <H3Event GET /failing, streaming> raised RuntimeError",)


@pytest.mark.parametrize("how", [on_socket, in_memory])
async def test_a_request_may_have_headers_and_a_body(how: type) -> None:
    run = await how(app, "/echo", method="POST", headers={"X-Name": "echo"}, body=b"hello")
    assert (run.status, run.body, run.end, run.reason) == (200, b"echo: hello", End.PROPER, "responded")


async def test_several_requests_to_one_server() -> None:
    async with recorded(example) as (server, recorder):
        first, second = await raw_get(server.port, "/callback"), await raw_get(server.port, "/awaited")
    assert first.body == second.body
    assert [exchange.path for exchange in recorder.recording.exchanges] == ["/callback", "/awaited"]


async def test_the_virtual_clock_is_a_loop_of_its_own() -> None:
    async def sleeper(seconds: float) -> float:
        await anyio.sleep(seconds)
        return anyio.current_time()

    assert await virtually(sleeper, 1e6) == 1e6


async def test_compare_shows_steps_in_columns() -> None:
    broken = await in_memory(example, "/broken", flow=flows.broken)
    fixed = await in_memory(example, "/callback")
    assert (broken.event_times, fixed.event_times) == ([], [0.0] * 4)
    lines = compare(broken=broken.recording, fixed=fixed.recording).splitlines()
    assert lines[0].split() == ["broken", "fixed"]
    assert lines[4] == "get_sse_writer × 10  set_stream_callback"
    assert "send_event × 4" in lines[13]
