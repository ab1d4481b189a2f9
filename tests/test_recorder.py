"""`Recorder` and `Recording`: what is kept, found, waited for, saved and read again; and whose time it has."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from h3ref import H3App, H3Event, SSEWriter, running, trace
from h3ref.adapters.memory import open_memory
from h3ref.lab.recorder import Recorder, Recording
from h3ref.lifecycle import Lifecycle
from h3ref.testing import virtual_backends
from h3ref.trace import Listener, Record, Step
from tests.waits import wait_all_tasks_blocked


def take(listener: Listener, exchange: int, *steps: Step, target: str = "GET /events") -> None:
    """Record the steps of an exchange, its request first."""
    life = Lifecycle(listener, exchange)
    life.take(trace.REQUEST, detail=target)
    for step in steps:
        life.take(step)


def recorded(*targets: str) -> Recorder:
    """A recorder of one exchange for each request."""
    recorder = Recorder()
    for number, target in enumerate(targets, 1):
        take(recorder, number, trace.START_SSE, trace.RETURNS, target=target)
    return recorder


def numbers(recording: Recording) -> list[int]:
    return [exchange[0].exchange for exchange in recording.exchanges]


app = H3App()


@app.get("/events")
async def events(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(tick)


async def tick(writer: SSEWriter) -> None:
    for number in range(3):
        if number:
            await anyio.sleep(1)
        await writer.send_event(f"{number}")


@app.get("/thread")
def thread(event: H3Event) -> None:
    with event.start_sse_blocking() as writer:
        writer.send_event("from a thread")


# What is found


def test_a_recording_is_a_sequence_that_never_changes() -> None:
    recorder = recorded("GET /events")
    recording = recorder.recording
    take(recorder, 2)
    assert [record.step for record in recording] == ["request", "start_sse", "returns"]
    assert (len(recording), len(recorder.recording)) == (3, 4)
    assert isinstance(recording[1:], Recording)
    assert recording[1:] == Recording(list(recording)[1:])
    assert hash(recording) == hash(Recording(recording))
    assert recording[-1].step == "returns"
    assert repr(recording) == "<Recording of GET /events: 3 records>"


def test_recordings_of_several_servers_are_merged_by_time_and_numbered_anew() -> None:
    one, other = Recorder(), Recorder()
    take(one, 1, trace.START_SSE, target="GET /a")
    take(other, 1, trace.START_SSE, target="GET /b")
    take(one, 2, trace.START_SSE, target="GET /c")
    take(other, 1, trace.START_SSE, target="GET /d")  # by a later run
    merged = Recording.merged([one.recording, other.recording])
    assert [(exchange[0].exchange, exchange.path) for exchange in merged.exchanges] == [
        (1, "/a"),
        (2, "/b"),
        (3, "/c"),
        (4, "/d"),
    ]
    assert sorted(record.time for record in merged) == [record.time for record in merged]
    assert Recording.merged([]) == Recording()


def test_exchanges_come_in_the_order_of_their_first_records() -> None:
    recorder = Recorder()
    lives = {number: Lifecycle(recorder, number) for number in (1, 2)}
    for number in (1, 2):
        lives[number].take(trace.REQUEST, detail=f"GET /{number}")
    for number in (2, 1, 2):
        lives[number].take(trace.DATA)
    assert [record.exchange for record in recorder.recording] == [1, 2, 2, 1, 2]
    assert [[record.step for record in exchange] for exchange in recorder.recording.exchanges] == [
        ["request", "data"],
        ["request", "data", "data"],
    ]


def test_a_number_that_is_used_again_is_another_exchange() -> None:
    first, second = recorded("GET /first").recording, recorded("GET /second").recording
    both = Recording([*first, *second])
    assert both.exchanges == (first, second)
    assert both.of("/first") == first
    with pytest.raises(LookupError, match=r"2 exchanges have the number 1 \(GET /first, GET /second\)"):
        both.of(1)


@pytest.mark.parametrize(
    ("what", "number"),
    [
        (1, 1),
        ("/events", 3),
        ("GET /events", 2),
        ("/events?topic=a", 3),
        ("POST /events", 3),
        ("POST /events?topic=a", 3),
        ("GET /events?topic=b", 1),
    ],
)
def test_an_exchange_is_found_by_number_and_by_request_the_latest_first(what: int | str, number: int) -> None:
    recorder = recorded("GET /events?topic=b", "GET /events?topic=a", "POST /events?topic=a", "GET /other")
    assert numbers(recorder.of(what)) == [number]
    assert numbers(recorder.recording.of(what)) == [number]


@pytest.mark.parametrize("what", [0, 3, "/event", "/events?", "DELETE /events", "events", ""])
def test_an_exchange_that_there_is_not_is_told_with_those_that_there_are(what: int | str) -> None:
    with pytest.raises(LookupError) as caught:
        recorded("GET /events?topic=a", "GET /other").of(what)
    assert str(caught.value) == f"no exchange {what!r} was recorded; there is 1 (GET /events?topic=a), 2 (GET /other)"
    with pytest.raises(LookupError, match="there is none at all"):
        Recording().of(what)


def test_an_exchange_has_a_path_and_states() -> None:
    recording = recorded("GET /events?topic=a").recording
    assert (recording.path, recording.states) == ("/events", ("requested", "sse_started"))
    assert (Recording().path, Recording().states) == ("", ())
    assert recording[1:].path == ""
    for name in ("path", "states"):
        with pytest.raises(ValueError, match=f"{name} is for one exchange, and this recording has 2"):
            getattr(recorded("GET /a", "GET /b").recording, name)


def test_a_recording_as_text_is_its_diagrams() -> None:
    recorder = recorded("GET /a", "GET /b")
    assert "├─ start_sse()" in str(recorder.of("/a"))
    assert str(recorder.recording).count("Handler") == 2
    assert str(recorder.recording).startswith("GET /a\n")
    assert "Client" in str(Recording())


# What is kept


def test_the_latest_exchanges_are_kept_and_a_late_record_does_not_bring_one_back() -> None:
    recorder = Recorder(keep=2)
    first = Lifecycle(recorder, 1)
    first.take(trace.REQUEST, detail="GET /1")
    for number in (2, 3):
        take(recorder, number, target=f"GET /{number}")
    first.take(trace.DISCONNECT)
    assert numbers(recorder.recording) == [2, 3]


def test_only_exchanges_of_the_paths_that_are_named_are_kept_and_counted() -> None:
    recorder = Recorder(keep=2, paths=("/events",))
    for number, target in enumerate(("GET /events?a", "GET /state", "GET /events?b", "GET /state", "GET /state"), 1):
        take(recorder, number, trace.START_SSE, target=target)
    assert numbers(recorder.recording) == [1, 3]
    assert len(recorder.recording) == 4


@pytest.mark.parametrize("keep", [0, -1])
def test_to_keep_nothing_is_refused(keep: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, or None for all; not {keep}"):
        Recorder(keep=keep)


def test_records_of_many_threads_are_all_kept_each_exchange_in_its_order() -> None:
    recorder = Recorder()
    steps = [trace.START_SSE, *[trace.DATA] * 200]
    threads = [threading.Thread(target=take, args=(recorder, number, *steps)) for number in range(1, 9)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(numbers(recorder.recording)) == list(range(1, 9))
    for exchange in recorder.recording.exchanges:
        assert [record.step for record in exchange] == ["request", *[step.name for step in steps]]


# What is waited for


async def test_until_returns_at_once_what_is_there_already(anyio_backend: str) -> None:
    recorder = recorded("GET /a", "GET /b")
    with anyio.fail_after(10):
        assert (await recorder.until("start_sse")).exchange == 1
        assert (await recorder.until("start_sse", exchange="/b")).exchange == 2
        assert (await recorder.until(lambda record: record.after == "sse_started", exchange=2)).step == "start_sse"


async def test_until_waits_for_a_record_of_this_loop(anyio_backend: str) -> None:
    recorder, found = Recorder(), []

    async def wait() -> None:
        found.append(await recorder.until("returns", exchange="/b"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        take(recorder, 1, trace.RETURNS, target="GET /a")
        await wait_all_tasks_blocked()
        assert not found
        take(recorder, 2, trace.RETURNS, target="GET /b")
    assert [record.exchange for record in found] == [2]


async def test_until_waits_for_the_latest_of_several_exchanges(anyio_backend: str) -> None:
    recorder = Recorder()
    older, newer = Lifecycle(recorder, 1), Lifecycle(recorder, 2)
    older.take(trace.REQUEST, detail="GET /events")
    newer.take(trace.REQUEST, detail="GET /events")
    older.take(trace.RETURNS)
    with anyio.move_on_after(0.01) as waited:
        await recorder.until("returns", exchange="/events")
    assert waited.cancelled_caught
    newer.take(trace.RETURNS)
    assert (await recorder.until("returns", exchange="/events")).exchange == 2


async def test_until_is_woken_by_a_worker_thread_that_holds_the_exchanges_lock(anyio_backend: str) -> None:
    recorder = Recorder()
    async with anyio.create_task_group() as tasks, open_memory(app, trace=recorder) as server:
        tasks.start_soon(anyio.to_thread.run_sync, take, recorder, 7, trace.RETURNS)
        with anyio.fail_after(10):
            await recorder.until("returns", exchange=7)
            await server.request("GET", "/thread")
            record = await recorder.until("event", exchange="/thread")
        assert record.detail == "data: from a thread\n\n"


async def test_until_raises_what_its_function_raises_and_the_server_goes_on(anyio_backend: str) -> None:
    def wrong(record: Record) -> bool:
        return record.step == "headers" and bool(1 / 0)

    recorder = Recorder()
    async with open_memory(app, trace=recorder) as server:

        async def wait() -> None:
            with pytest.raises(ZeroDivisionError):
                await recorder.until(wrong)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await wait_all_tasks_blocked()
                reply = await server.request("GET", "/events")
            assert await reply.receive() == b"data: 0\n\n"
            reply.disconnect()


async def test_a_function_may_look_at_the_recording(anyio_backend: str) -> None:
    recorder = Recorder()
    async with open_memory(app, trace=recorder) as server:
        await server.request("GET", "/thread")
        with anyio.fail_after(10):
            await recorder.until(lambda _: len(recorder.recording.of("/thread")) > 5)
    assert len(recorder.recording.of("/thread")) > 5


async def test_until_refuses_a_step_that_there_is_not(anyio_backend: str) -> None:
    with pytest.raises(ValueError, match="no step 'conection_closed': it is one of request, start_sse"):
        await Recorder().until("conection_closed")


async def test_who_no_longer_waits_leaves_nothing_behind(anyio_backend: str) -> None:
    recorder = Recorder()
    with anyio.move_on_after(0):
        await recorder.until("returns")
    assert not recorder._waiting
    take(recorder, 1, trace.RETURNS)


# Whose time it has


@pytest.mark.parametrize("anyio_backend", virtual_backends(), indirect=True)
async def test_a_callback_that_sleeps_a_second_is_recorded_as_a_second_of_virtual_time(anyio_backend: object) -> None:
    recorder = Recorder()
    async with open_memory(app, trace=recorder) as server:
        await (await server.request("GET", "/events")).read()
    sent = [record for record in recorder.of("/events") if record.step == "event"]
    assert [(record.time - sent[0].time) * 1000 for record in sent] == [0, 1000, 2000]
    assert recorder.recording[0].time == sent[0].time


@pytest.mark.parametrize("anyio_backend", virtual_backends(), indirect=True)
async def test_a_worker_thread_has_virtual_time_too(anyio_backend: object) -> None:
    recorder = Recorder()
    async with open_memory(app, trace=recorder) as server:
        await anyio.sleep(3600)
        await (await server.request("GET", "/thread")).read()
        now = anyio.current_time()
    assert {record.time for record in recorder.of("/thread")} == {now}


async def test_on_a_socket_time_only_goes_forward(anyio_backend: str) -> None:
    recorder = Recorder()
    async with (
        running(app, port=0, trace=recorder) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(b"GET /thread HTTP/1.1\r\nHost: h\r\n\r\n")
        with anyio.fail_after(10):
            await recorder.until("connection_closed", exchange="/thread")
    times = [record.time for record in recorder.recording]
    assert times == sorted(times)
    assert len(set(times)) > 1


# What is saved


def test_a_recording_comes_back_from_its_file(tmp_path: Path) -> None:
    recording = recorded("GET /events?ü=\u2028", "GET /b").recording
    file = tmp_path / "steps.ndjson"
    recording.save(file)
    assert Recording.load(file) == Recording.load(str(file)) == recording
    assert file.read_bytes().count(b"\n") == len(recording)
    assert Recording.from_ndjson(recording.to_ndjson()) == recording
    assert Recording.from_ndjson("") == Recording()
    assert Recording().to_ndjson() == ""


def test_other_line_ends_inside_a_string_and_a_missing_last_one_do_no_harm() -> None:
    record = replace(recorded("GET /events").recording[0], detail="GET /\u2028\u0085\x0b")
    line = record.to_json().encode().decode("unicode_escape").replace("\x0b", "\\u000b")
    assert Recording.from_ndjson(line) == Recording.from_ndjson(line + "\r\n") == Recording([record])


LINE = (
    '{"time": %s, "exchange": 1, "step": "returns", "who": "handler", "to": "adapter",'
    ' "before": "requested", "after": "requested"}'
)


@pytest.mark.parametrize(
    ("number", "line", "complaint"),
    [
        (1, "hello", "not JSON: Expecting value (column 1)"),
        (2, "", "it is empty; each line is a record"),
        (3, "[]", "a record is a JSON object, not list"),
        (3, "[" * 100_000, "it is nested too deeply"),
        (3, LINE % "1e999", "time is too large a number"),
        (3, LINE % f"1{'0' * 400}", "time is too large a number"),
        (3, '{"time": 1}', "missing ['after', 'before', 'exchange', 'step', 'to', 'who']"),
    ],
)
def test_a_line_that_is_no_record_is_told_by_its_number(number: int, line: str, complaint: str, tmp_path: Path) -> None:
    lines = recorded("GET /events").recording.to_ndjson().splitlines()
    lines.insert(number - 1, line)
    with pytest.raises(ValueError, match=f"^line {number}: ") as caught:
        Recording.from_ndjson("\n".join(lines) + "\n")
    assert complaint in str(caught.value)
    file = tmp_path / "steps.ndjson"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=rf"steps\.ndjson: line {number}: "):
        Recording.load(file)


def test_a_file_that_is_not_utf_8_is_told_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "steps.ndjson"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"steps\.ndjson: 'utf-8' codec can't decode"):
        Recording.load(file)
