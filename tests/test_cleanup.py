"""What user code that is cancelled may still do: the time it gets for that, where, and where it gets none."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest

from h3ref import Channel, H3App, H3Event, Limits, SSEWriter, WriterClosed, running
from h3ref._core import scopes
from h3ref._core.cleanup import Cleanup
from h3ref.adapters.asgi import ASGIApp
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from h3ref.testing import settle, virtual_backends
from tests.clients import ADAPTERS, ClientLike, ReplyLike, SocketClient, open_client, server_of
from tests.waits import runs_on_asyncio

pytestmark = pytest.mark.anyio

in_virtual_time = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])

EVERYWHERE = [
    (name, loop) for name in ("memory", "h11_anyio", "asgi-uvicorn", "asgi-hypercorn") for loop in ADAPTERS[name].loops
]
everywhere = pytest.mark.parametrize(
    ("adapter", "anyio_backend"), EVERYWHERE, ids=["-".join(pair) for pair in EVERYWHERE], indirect=["anyio_backend"]
)


# -- by itself: where the cancellation finds the code


class Case:
    """Code that is cancelled, and what it said."""

    def __init__(self, seconds: float = 5.0) -> None:
        self.said: list[str] = []
        self.cleanup = Cleanup("the code", seconds, lambda: self.said.append("waits"))
        self.gate = anyio.Event()
        self.gate_of_a_thread = threading.Event()
        self.scope, self.later_scope = anyio.CancelScope(), anyio.CancelScope()  # cancelled in the same moment

    async def run(self, code: Callable[[Case], Awaitable[None]], cancel: Callable[[], None] | None = None) -> list[str]:
        """Run it until it waits, cancel it, open its gates in the same moment, and return what it said."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.just_run, code(self))
            for _ in range(20):  # some code never settles
                await anyio.lowlevel.checkpoint()
            self.scope.cancel()
            (cancel or self.cleanup.cancel)()
            self.later_scope.cancel()
            self.gate.set()
            self.gate_of_a_thread.set()
        return self.said

    async def just_run(self, code: Awaitable[None]) -> None:
        await self.cleanup.run(code)

    async def clean_up(self) -> None:
        """What a `finally` awaits: something of each kind."""
        await anyio.sleep(1)
        await anyio.lowlevel.checkpoint()
        async with anyio.Lock():
            await anyio.to_thread.run_sync(self.said.append, "on a thread")
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep(0.5)
            tasks.cancel_scope.cancel()
        await anyio.sleep(1)
        self.said.append("cleaned up")


async def that_waits(case: Case) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        await case.clean_up()


async def in_a_shield_of_its_own(case: Case) -> None:
    try:
        with anyio.CancelScope(shield=True):
            await case.gate.wait()
            await anyio.sleep(1)
        await anyio.sleep_forever()
    finally:
        await case.clean_up()


async def that_waits_for_a_thread(case: Case) -> None:
    try:
        await anyio.to_thread.run_sync(case.gate_of_a_thread.wait)
        await anyio.sleep_forever()
    finally:
        await case.clean_up()


async def about_to_run(case: Case) -> None:
    try:
        await case.gate.wait()
        await anyio.sleep_forever()
    finally:
        await case.clean_up()


async def in_a_handler_of_the_exception(case: Case) -> None:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        await case.clean_up()
        raise


async def around_its_own_task_group(case: Case) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()
        case.said.append("went on behind the group")
    finally:
        await case.clean_up()


async def in_a_task_group_without_children(case: Case) -> None:
    async with anyio.create_task_group():
        try:
            await anyio.sleep_forever()
        finally:
            await case.clean_up()
    case.said.append("went on behind the group")


async def in_time_limits(case: Case) -> None:
    with anyio.move_on_after(1000), anyio.fail_after(1000):
        try:
            await anyio.sleep_forever()
        finally:
            await case.clean_up()
    case.said.append("went on behind the limits")


async def that_never_waits_for_long(case: Case) -> None:
    try:
        while True:
            await anyio.lowlevel.checkpoint()
    finally:
        await case.clean_up()


async def that_asks_whether_it_is_cancelled(case: Case) -> None:
    try:
        with anyio.CancelScope(shield=True):
            await case.gate.wait()
        await anyio.lowlevel.checkpoint_if_cancelled()
        case.said.append("was not told")
    finally:
        await case.clean_up()


async def that_polls(case: Case) -> None:
    try:
        while True:
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
    finally:
        await case.clean_up()


async def that_ends_its_own_groups(case: Case) -> None:
    try:
        while True:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                tasks.cancel_scope.cancel()
    finally:
        await case.clean_up()


async def whose_own_scope_is_cancelled_just_before(case: Case) -> None:
    try:
        with anyio.CancelScope() as case.scope:
            await anyio.sleep_forever()
        await anyio.sleep_forever()
    finally:
        await case.clean_up()


async def whose_own_scope_is_cancelled_just_after(case: Case) -> None:
    try:
        with anyio.CancelScope() as case.later_scope:
            await anyio.sleep_forever()
        await anyio.sleep_forever()
    finally:
        await case.clean_up()


PLACES = (
    that_never_waits_for_long,
    that_asks_whether_it_is_cancelled,
    that_polls,
    that_ends_its_own_groups,
    whose_own_scope_is_cancelled_just_before,
    whose_own_scope_is_cancelled_just_after,
    that_waits,
    in_a_shield_of_its_own,
    that_waits_for_a_thread,
    about_to_run,
    in_a_handler_of_the_exception,
    around_its_own_task_group,
    in_a_task_group_without_children,
    in_time_limits,
)


@in_virtual_time
@pytest.mark.parametrize("place", PLACES)
async def test_what_a_finally_awaits_goes_through(place: Callable[[Case], Awaitable[None]]) -> None:
    case = Case()
    with anyio.fail_after(60):
        assert await case.run(place) == ["waits", "on a thread", "cleaned up"]


@in_virtual_time
@pytest.mark.parametrize("place", [that_waits, in_a_shield_of_its_own, that_waits_for_a_thread, about_to_run])
async def test_the_usual_cases_need_nothing_that_anyio_and_trio_keep_private(
    place: Callable[[Case], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "_of_anyio", lambda: None)
    monkeypatch.setattr(scopes, "trio_task", lambda: None)
    case = Case()
    with anyio.fail_after(60):
        assert await case.run(place) == ["waits", "on a thread", "cleaned up"]


@pytest.mark.parametrize("anyio_backend", virtual_backends()[:1], ids=["asyncio"])
async def test_code_that_nobody_cancels_has_no_scopes_around_it() -> None:
    def count() -> int:
        return sum(isinstance(one, anyio.CancelScope) for one in gc.get_objects())

    case = Case()
    gc.collect()
    before = count()
    running_code = asyncio.create_task(case.just_run(case.gate.wait()))
    await settle()
    assert count() == before
    case.gate.set()
    await running_code


@in_virtual_time
@pytest.mark.parametrize("own", range(3))
@pytest.mark.parametrize("around", range(3))
async def test_the_scopes_stand_between_those_around_the_code_and_its_own(around: int, own: int) -> None:
    """Whenever they are made: scopes further out end the cleanup, the code's own do not, and all can be left."""
    outside, inside = [[anyio.CancelScope() for _ in range(count)] for count in (around, own)]
    left: list[str] = []

    async def code(case: Case) -> None:
        with ExitStack() as nest:
            for scope in inside:
                nest.enter_context(scope)
            try:
                await anyio.sleep_forever()
            finally:
                await anyio.sleep(1)
                case.said.append("cleaned up")
                await anyio.sleep_forever()

    async def host(case: Case) -> None:
        with ExitStack() as nest:
            for scope in outside:
                nest.enter_context(scope)
            await case.cleanup.run(code(case))
            left.append("the code")
            with anyio.move_on_after(1):
                await anyio.sleep_forever()
            left.append("a later scope")
            await anyio.sleep_forever()
        left.append("all")

    case = Case()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host, case)
        await settle()
        case.cleanup.cancel()
        await anyio.sleep(4)
        assert (case.said, left) == (["waits", "cleaned up"], [])
        await anyio.sleep(3)
        assert left == ["the code", "a later scope"]
        (outside[-1] if outside else tasks.cancel_scope).cancel()
    assert left == ["the code", "a later scope", *(["all"] if outside else [])]


@in_virtual_time
async def test_the_cancellation_is_not_lost_by_code_that_hears_of_it_late() -> None:
    async def code(case: Case) -> None:
        for _ in range(3):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
        await anyio.sleep(1)
        case.said.append("went on")

    began = anyio.current_time()
    assert await Case().run(code) == []
    assert anyio.current_time() - began == pytest.approx(3)


@pytest.mark.parametrize("anyio_backend", virtual_backends()[:1], ids=["asyncio"])
async def test_a_cancellation_that_a_library_raises_anew_is_known_all_the_same() -> None:
    async def code(case: Case) -> None:
        try:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                await anyio.sleep(1)
                raise asyncio.CancelledError  # noqa: B904
        finally:
            await anyio.sleep(1)
            case.said.append("cleaned up")

    assert await Case().run(code) == ["waits", "cleaned up"]


@in_virtual_time
async def test_children_of_its_own_task_group_are_cancelled_at_once_and_the_group_with_them() -> None:
    async def child(case: Case) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            case.said.append("the child cleaned up")

    async def code(case: Case) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child, case)
                await anyio.sleep_forever()
        finally:
            await case.clean_up()

    case = Case()
    assert [said for said in await case.run(code) if said != "waits"] == ["on a thread", "cleaned up"]


@in_virtual_time
async def test_a_cancellation_of_somebody_elses_is_passed_on_as_it_is() -> None:
    async def code(case: Case) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            case.said.append("cleaned up")

    case = Case()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(case.just_run, code(case))
        await settle()
        tasks.cancel_scope.cancel()
    assert case.said == []


@in_virtual_time
async def test_time_limits_of_the_codes_own_work_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def code(case: Case) -> None:
        with anyio.move_on_after(1):
            await case.gate.wait()
            await anyio.sleep_forever()
        with pytest.raises(TimeoutError), anyio.fail_after(1):
            await anyio.sleep_forever()
        case.said.append("went on")

    assert await Case().run(code, lambda: None) == ["went on"]
    assert not caplog.records


@in_virtual_time
@pytest.mark.parametrize(("seconds", "left", "most"), [(5, None, 5), (5, 2, 2), (2, 5, 2), (5, 0, 0)])
async def test_a_cleanup_that_takes_too_long_is_cancelled_and_logged(
    caplog: pytest.LogCaptureFixture, seconds: float, left: float | None, most: float
) -> None:
    async def code(case: Case) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(100)
            case.said.append("cleaned up")

    case = Case(seconds)

    def cancel() -> None:
        if left is not None:
            case.cleanup.hurry(left)
        case.cleanup.cancel()

    began = anyio.current_time()
    assert await case.run(code, cancel) == ["waits"]
    assert anyio.current_time() - began == pytest.approx(most)
    assert [record.getMessage() for record in caplog.records] == [
        "'the code': its cleanup took too long, and is cancelled for good: see Limits.cleanup_timeout"
    ]


@in_virtual_time
async def test_a_cleanup_that_has_begun_can_be_hurried_but_not_given_more() -> None:
    case = Case()

    async def hurry() -> None:
        await anyio.sleep(1)
        case.cleanup.hurry(60)
        await anyio.sleep(1)
        case.cleanup.hurry(1)

    async def code(case: Case) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(100)

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hurry)
        await case.run(code)
    assert anyio.current_time() - began == pytest.approx(3)


@in_virtual_time
async def test_code_that_swallows_its_cancellation_is_ended_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async def code(case: Case) -> None:
        for _ in range(3):
            try:
                await anyio.sleep(100)
                case.said.append("went on")
            except BaseException as error:  # as nobody should
                case.said.append(type(error).__name__)
        await anyio.sleep(100)
        case.said.append("went on")

    began = anyio.current_time()
    case = Case()
    name = anyio.get_cancelled_exc_class().__name__
    assert [said for said in await case.run(code) if said != "waits"] == [name] * 3
    assert anyio.current_time() - began == pytest.approx(5)
    assert len(caplog.records) == 1, "it is told once"


@pytest.mark.parametrize("waits", [False, True], ids=["ends at once", "waits"])
async def test_a_call_that_is_added_is_made_when_the_code_waits_and_not_if_it_never_does(waits: bool) -> None:
    async def code(case: Case) -> None:
        case.cleanup.add(lambda: case.said.append("called"))
        case.said.append("goes on")
        if waits:
            await anyio.lowlevel.checkpoint()
        case.said.append("is over")

    case = Case()
    await case.cleanup.run(code(case))
    assert case.said == (["goes on", "called", "is over"] if waits else ["goes on", "is over"])
    case.cleanup.add(lambda: case.said.append("called late"))
    assert case.said[-1] == "called late", "it is over, and waits for nothing"


async def test_what_is_added_before_a_wait_is_awaited_in_the_codes_own_task() -> None:
    """On trio it returns nothing to await: the code may have said already what wakes its task."""
    tasks = set[int]()

    async def before(case: Case) -> None:
        tasks.add(anyio.get_current_task().id)
        await anyio.lowlevel.checkpoint()
        case.said.append("has left")

    async def code(case: Case) -> None:
        tasks.add(anyio.get_current_task().id)
        assert case.cleanup.add_before_wait(lambda: before(case) if runs_on_asyncio() else case.said.append("has left"))
        await anyio.lowlevel.checkpoint()
        case.said.append("goes on")

    case = Case()
    assert not case.cleanup.add_before_wait(lambda: case.said.append("never")), "nothing runs yet"
    await case.cleanup.run(code(case))
    assert case.said == ["has left", "goes on"]
    assert len(tasks) == 1
    assert not case.cleanup.add_before_wait(lambda: case.said.append("never")), "it is over"
    assert case.said == ["has left", "goes on"]


@in_virtual_time
async def test_it_runs_in_the_task_that_calls_and_in_its_context() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    tasks: set[int] = set()

    async def code(case: Case) -> None:
        variable.set("of the code")
        try:
            tasks.add(anyio.get_current_task().id)
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            tasks.add(anyio.get_current_task().id)
            case.said.append(variable.get())

    async def calls(case: Case) -> None:
        tasks.add(anyio.get_current_task().id)
        await case.cleanup.run(code(case))
        case.said.append(variable.get())

    case = Case()
    async with anyio.create_task_group() as group:
        group.start_soon(calls, case)
        await settle()
        case.cleanup.cancel()
    assert case.said == ["waits", "of the code", "of the code"]
    assert len(tasks) == 1


@in_virtual_time
@pytest.mark.parametrize("waits", [False, True])
async def test_what_the_code_raises_comes_out_and_leaves_no_garbage(waits: bool) -> None:
    async def code(case: Case) -> None:
        try:
            await anyio.lowlevel.checkpoint()
            if waits:
                await anyio.sleep_forever()
        finally:
            await anyio.lowlevel.checkpoint()
            raise ValueError("the code's own")

    case = Case()
    caught: list[BaseException] = []

    async def calls() -> None:
        try:
            await case.cleanup.run(code(case))
        except ValueError as error:
            caught.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls)
        await settle()
        case.cleanup.cancel()
    assert str(caught.pop()) == "the code's own"
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, ValueError) and str(one) == "the code's own"]


# -- in an exchange: each flow, on every adapter, for each end that comes from outside


class Story:
    """An app that streams in one flow and cleans up when that ends; and what it did."""

    def __init__(self, flow: str) -> None:
        self.begun = anyio.Event()
        self.cleaning = anyio.Event()
        self.go_on = anyio.Event()
        self.cleaned = anyio.Event()
        self.flood = False
        self.writer: SSEWriter | None = None
        self.reason = ""
        self.app = H3App()
        if flow == "generated":
            self.app.sse("/stream")(self.generated)
        else:
            self.app.get("/stream", getattr(self, flow))

    async def awaited(self, event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await self.stream(writer)

    async def callback(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self.stream)

    async def generated(self, event: H3Event) -> AsyncIterator[str]:
        try:
            yield "1"
            self.writer = event.get_sse_writer()
            self.begun.set()
            while self.flood:
                yield "x" * 65536
            await anyio.sleep_forever()
        finally:
            await self.clean_up(event)

    async def stream(self, writer: SSEWriter) -> None:
        self.writer = writer
        try:
            await writer.send_event("1")
            self.begun.set()
            while self.flood:
                await writer.send_event("x" * 65536)
            await anyio.sleep_forever()
        finally:
            await self.clean_up(writer.event)

    async def clean_up(self, event: H3Event) -> None:
        self.cleaning.set()
        await anyio.to_thread.run_sync(str)
        await self.go_on.wait()
        self.reason = str(event.reason)
        self.cleaned.set()


FLOWS = ("callback", "awaited", "generated")

End_ = Callable[[Story, ClientLike, ReplyLike], Awaitable[None]]


async def the_client_leaves(story: Story, client: ClientLike, reply: ReplyLike) -> None:
    reply.disconnect()


async def the_server_ends(story: Story, client: ClientLike, reply: ReplyLike) -> None:
    for exchange in list(server_of(client).service.live):
        exchange.shut_down()


async def it_is_too_old(story: Story, client: ClientLike, reply: ReplyLike) -> None:
    """The server sees to that by itself."""


async def the_reader_does_not_read(story: Story, client: ClientLike, reply: ReplyLike) -> None:
    """Nor does this one, until it is cut."""
    await story.cleaning.wait()


async def another_task_closes_it(story: Story, client: ClientLike, reply: ReplyLike) -> None:
    assert story.writer is not None
    await story.writer.close()


ENDS: dict[End_, tuple[str, End | None, dict[str, Any]]] = {
    the_client_leaves: ("client_gone", None, {}),
    the_server_ends: ("shutdown", End.PROPER, {}),
    it_is_too_old: ("timeout", End.PROPER, {"stream_age": 0.1}),
    the_reader_does_not_read: ("slow_consumer", End.CUT, {"send_timeout": 0.1}),
    another_task_closes_it: ("complete", End.PROPER, {}),
}


@everywhere
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("flow", FLOWS)
async def test_a_stream_that_is_ended_from_outside_cleans_up(adapter: str, flow: str, end: End_) -> None:
    reason, how, limits = ENDS[end]
    story = Story(flow)
    story.flood = end is the_reader_does_not_read
    with anyio.fail_after(20):
        async with open_client(adapter, story.app, limits=Limits(**limits)) as client:
            service = server_of(client).service
            reply = await client.request("GET", "/stream")
            await story.begun.wait()
            await end(story, client, reply)
            if how is End.PROPER:
                await reply.read()  # it need not wait for the cleanup
                assert reply.end is how
                assert not story.cleaned.is_set()
            await story.cleaning.wait()
            story.go_on.set()
            await story.cleaned.wait()
            if how is End.CUT:
                await reply.read()
                assert reply.end is how
            while service.live:
                await anyio.lowlevel.checkpoint()
            assert story.reason == reason
            assert service.stats().closed[reason] == 1, "the reason that was first stays"
            assert service.stats().streams == 0


@in_virtual_time
@pytest.mark.parametrize("flow", FLOWS)
async def test_a_stream_that_waits_for_room_cleans_up_where_it_stands(flow: str) -> None:
    story = Story(flow)
    story.flood = True
    async with open_memory(story.app) as client:
        reply = await client.request("GET", "/stream")
        await settle()  # a generator stands at its yield now
        assert story.begun.is_set()
        reply.disconnect()
        story.go_on.set()
        with anyio.fail_after(1):
            await story.cleaned.wait()


@in_virtual_time
@pytest.mark.parametrize("first", [None, 0.5], ids=["before its first item", "once it has committed"])
async def test_a_generator_that_is_cancelled_early_cleans_up(first: float | None) -> None:
    said: list[str] = []

    async def generator(event: H3Event) -> AsyncIterator[str]:
        try:
            if first is not None:
                await anyio.sleep(first)
                yield "1"
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            said.append(str(event.reason))

    app = H3App()
    app.sse("/stream", commit_after=2)(generator)
    async with open_memory(app) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.request, "GET", "/stream")
        await anyio.sleep(1)
        for exchange in list(client.service.live):
            exchange.shut_down()
        await anyio.sleep(2)
    assert said == ["shutdown"]


@in_virtual_time
async def test_a_generator_whose_stream_can_not_be_opened_cleans_up() -> None:
    said: list[str] = []
    app = H3App()

    @app.sse("/stream", commit_after=1)
    async def generator(event: H3Event) -> AsyncIterator[str]:
        try:
            await anyio.sleep_forever()
            yield "1"
        finally:
            await anyio.sleep(1)
            said.append(str(event.reason))

    @app.get("/other")
    async def other(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer():
            await anyio.sleep_forever()

    async with open_memory(app, limits=Limits(streams=1)) as client:
        await client.request("GET", "/other")
        assert (await client.request("GET", "/stream")).status == 503
    assert said == ["error"]


@in_virtual_time
async def test_a_handler_that_has_started_its_stream_but_not_opened_it_cleans_up() -> None:
    said: list[str] = []

    async def handler(event: H3Event) -> None:
        event.start_sse()
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            said.append(str(event.reason))

    app = H3App()
    app.get("/stream", handler)
    async with open_memory(app) as client:
        with anyio.move_on_after(1):
            await client.request("GET", "/stream")
    assert said == ["client_gone"]


def staying(channel: Channel, said: list[str]) -> H3App:
    """An app whose callback stays after its channel's stream, and says why it has ended once it has cleaned up."""
    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async def callback(writer: SSEWriter) -> None:
        try:
            await channel.stream(writer)
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            said.append(str(writer.event.reason))

    return app


@in_virtual_time
async def test_a_stream_that_its_channel_disconnects_cleans_up() -> None:
    channel = Channel(history=10, policy="disconnect", limit=1)
    said: list[str] = []
    async with open_memory(staying(channel, said)) as client:
        reply = await client.request("GET", "/stream")
        await settle()
        for _ in range(5):
            await channel.publish("x" * 65536)
            await settle()
        await anyio.sleep(2)
        assert said == ["slow_consumer"]
        await reply.read()
        assert reply.end is End.CUT


@in_virtual_time
async def test_a_channel_that_closes_ends_callbacks_that_stay_and_they_clean_up() -> None:
    channel = Channel()
    said: list[str] = []
    async with open_memory(staying(channel, said)) as client:
        reply = await client.request("GET", "/stream")
        await settle()
        await channel.close()
        await reply.read()
        assert (reply.end, said) == (End.PROPER, [])
    assert said == ["complete"]


@in_virtual_time
@pytest.mark.parametrize("end", [the_client_leaves, the_server_ends])
async def test_what_has_closed_its_stream_is_not_cancelled(end: End_) -> None:
    said: list[str] = []
    story = Story("callback")

    async def callback(writer: SSEWriter) -> None:
        await writer.close()
        await anyio.sleep(10)  # longer than a cleanup may take
        said.append(str(writer.event.reason))

    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async with open_memory(app) as client:
        reply = await client.request("GET", "/stream")
        await settle()
        await end(story, client, reply)
    assert said == ["complete"]


# -- its time


@in_virtual_time
@pytest.mark.parametrize("flow", FLOWS)
async def test_a_cleanup_has_its_limit(flow: str, caplog: pytest.LogCaptureFixture) -> None:
    story = Story(flow)
    async with open_memory(story.app, limits=Limits(cleanup_timeout=7)) as client:
        reply = await client.request("GET", "/stream")
        await settle()
        reply.disconnect()
        began = anyio.current_time()
    assert anyio.current_time() - began == pytest.approx(7)
    assert story.cleaning.is_set()
    assert not story.cleaned.is_set()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "<H3Event GET /stream, closed>: its cleanup took too long, and is cancelled for good: "
            "see Limits.cleanup_timeout",
        )
    ]


async def test_who_cleans_up_still_counts() -> None:
    story = Story("callback")
    with anyio.fail_after(20):
        async with running(story.app, limits=Limits(streams=1)) as server:
            client = SocketClient(server)
            (await client.request("GET", "/stream")).disconnect()
            await story.cleaning.wait()
            assert server.open_connections == 1
            assert (await client.request("GET", "/stream")).status == 503
            story.go_on.set()
            while len(server.service.live) or server.open_connections > 1:  # the one that was refused
                await anyio.lowlevel.checkpoint()
            assert (await client.request("GET", "/stream")).status == 200
            await client.aclose()


@in_virtual_time
async def test_a_callback_that_swallows_its_cancellation_is_ended_by_the_limit() -> None:
    said: list[str] = []
    app = H3App()

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async def callback(writer: SSEWriter) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            said.append("swallowed")
        with pytest.raises(WriterClosed):
            await writer.send_event("too late")
        await anyio.sleep(4)
        said.append("goes on")
        await anyio.sleep(4)
        said.append("goes on for ever")

    async with open_memory(app) as client:
        (await client.request("GET", "/stream")).disconnect()
        await settle()
    assert said == ["swallowed", "goes on"]


@pytest.mark.parametrize("flow", FLOWS)
async def test_the_grace_of_a_server_bounds_the_cleanup(flow: str, caplog: pytest.LogCaptureFixture) -> None:
    story = Story(flow)
    with anyio.fail_after(20):
        async with (
            anyio.create_task_group() as tasks,
            running(story.app, grace=0.2, limits=Limits(cleanup_timeout=600)) as server,
        ):
            client = SocketClient(server)
            reply = await client.request("GET", "/stream")
            await story.begun.wait()
            tasks.start_soon(reply.read)
        assert reply.end is End.PROPER
        assert story.cleaning.is_set()
        assert "its cleanup took too long" in caplog.text
        await client.aclose()


@in_virtual_time
async def test_a_plain_handler_that_the_grace_cuts_off_cleans_up_in_what_is_left_of_it() -> None:
    said: list[str] = []
    begun = anyio.Event()

    async def handler(event: H3Event) -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            said.append("cleaned up")

    app = H3App()
    app.get("/plain", handler)
    with anyio.fail_after(600):
        async with anyio.create_task_group() as tasks, running(app, grace=60) as server:
            tasks.start_soon(ask, server.port)
            await begun.wait()
    assert said == ["cleaned up"]


async def ask(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET /plain HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"503" in await stream.receive()


@in_virtual_time
@pytest.mark.parametrize("flow", FLOWS)
async def test_the_end_of_an_asgi_application_bounds_the_cleanup(flow: str) -> None:
    story = Story(flow)
    app = ASGIApp(story.app, limits=Limits(cleanup_timeout=600, close_timeout=3))
    puts, takes = anyio.create_memory_object_stream[Any](1)
    sent: list[Any] = []

    async def receive() -> Any:
        return await takes.receive()

    async def forever() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [], "query_string": b""}
    with puts, takes:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, {"type": "lifespan"}, receive, send)
            tasks.start_soon(app, scope, forever, send)
            await settle()
            began = anyio.current_time()
            await puts.send({"type": "lifespan.shutdown"})
        assert anyio.current_time() - began == pytest.approx(3)
    assert story.cleaning.is_set()
    assert sent[-2:] == [
        {"type": "http.response.body", "body": b"", "more_body": False},
        {"type": "lifespan.shutdown.complete"},
    ]


@pytest.mark.parametrize(
    ("version", "end"), [("1.0", "shut_down"), ("1.1", "cut")], ids=["the end of HTTP/1.0", "a stream that is cut"]
)
async def test_an_end_that_is_eof_comes_before_the_cleanup_is_over(version: str, end: str) -> None:
    story = Story("callback")
    with anyio.fail_after(20):
        async with running(story.app) as server:
            async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
                await stream.send(f"GET /stream HTTP/{version}\r\nHost: test\r\n\r\n".encode())
                await story.begun.wait()
                for exchange in list(server.service.live):
                    if end == "cut":
                        server.service.streams.stop(exchange.connection)  # type: ignore[arg-type]
                    else:
                        exchange.shut_down()
                received = await everything(stream)
                assert received.endswith(b"data: 1\n\n\r\n" if end == "cut" else b"data: 1\n\n")
                assert not story.cleaned.is_set()
            story.go_on.set()
            await story.cleaned.wait()


async def everything(stream: anyio.abc.ByteReceiveStream) -> bytes:
    """All that comes up to EOF."""
    received = b""
    try:
        while True:
            received += await stream.receive()
    except anyio.EndOfStream:
        return received


# -- a time limit around a yield


def standing_at_a_yield(limit: Callable[[], Any], cleaned: anyio.Event) -> H3App:
    app = H3App()

    @app.sse("/stream")
    async def generator(event: H3Event) -> AsyncIterator[str]:
        yield "1"
        try:
            with limit():
                while True:
                    yield "x" * 65536
        finally:
            await anyio.to_thread.run_sync(str)
            cleaned.set()
        yield "the rest"

    return app


@everywhere
@pytest.mark.parametrize("limit", [anyio.move_on_after, anyio.fail_after])
async def test_a_time_limit_around_a_yield_that_expires_cuts_the_stream(
    adapter: str, limit: Callable[[float], Any], caplog: pytest.LogCaptureFixture
) -> None:
    cleaned = anyio.Event()
    with anyio.fail_after(20):
        async with open_client(adapter, standing_at_a_yield(lambda: limit(0.1), cleaned)) as client:
            service = server_of(client).service
            reply = await client.request("GET", "/stream")
            await cleaned.wait()
            await reply.read()
            assert reply.end is End.CUT
            while service.live:
                await anyio.lowlevel.checkpoint()
            assert service.stats().closed["error"] == 1
    assert "was cancelled while it stood at a yield" in caplog.text


@in_virtual_time
async def test_a_task_group_around_a_yield_that_is_cancelled_cuts_the_stream() -> None:
    app = H3App()

    @app.sse("/stream")
    async def generator(event: H3Event) -> AsyncIterator[str]:
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await anyio.sleep(1)
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel)
            while True:
                yield "x" * 65536

    async with open_memory(app) as client:
        reply = await client.request("GET", "/stream")
        await anyio.sleep(2)
        await reply.read()
        assert reply.end is End.CUT


@in_virtual_time
async def test_a_time_limit_around_the_first_yield_is_a_500_while_the_head_has_not_left() -> None:
    app = H3App()

    @app.on_response
    async def slow(event: H3Event) -> None:
        await anyio.sleep(2)

    @app.sse("/stream")
    async def generator(event: H3Event) -> AsyncIterator[str]:
        with anyio.move_on_after(1):
            yield "1"

    async with open_memory(app) as client:
        reply = await client.request("GET", "/stream")
        assert reply.status == 500


@in_virtual_time
async def test_a_time_limit_around_what_a_generator_awaits_is_its_own_business() -> None:
    app = H3App()

    @app.sse("/stream")
    async def generator(event: H3Event) -> AsyncIterator[str]:
        yield "1"
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
        yield "2"

    async with open_memory(app) as client:
        reply = await client.request("GET", "/stream")
        assert await reply.read() == b"data: 1\n\ndata: 2\n\n"
        assert reply.end is End.PROPER


@in_virtual_time
async def test_a_time_limit_around_an_awaited_writer_that_expires_cuts_the_stream() -> None:
    app = H3App()

    @app.get("/stream")
    async def handler(event: H3Event) -> None:
        event.start_sse()
        with anyio.move_on_after(1):
            async with await event.await_sse_writer() as writer:
                while True:
                    await writer.send_event("x" * 65536)

    async with open_memory(app) as client:
        reply = await client.request("GET", "/stream")
        await anyio.sleep(2)
        await reply.read()
        assert reply.end is End.CUT


@in_virtual_time
async def test_who_waits_for_a_reader_that_does_not_read_cleans_up_when_the_server_ends() -> None:
    saved: list[str] = []
    app = H3App()

    @app.get("/stream")
    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async def callback(writer: SSEWriter) -> None:
        try:
            while True:
                await writer.send_event("x" * 65536)
        finally:
            await anyio.sleep(0.1)
            saved.append("all")

    async with open_memory(app) as client:
        await client.request("GET", "/stream")
        await settle()
    assert saved == ["all"]


@in_virtual_time
async def test_who_waits_for_the_tasks_of_a_group_cleans_up_after_it() -> None:
    saved: list[str] = []
    app = H3App()

    @app.get("/stream")
    async def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(callback)

    async def callback(writer: SSEWriter) -> None:
        try:
            async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
                outer.start_soon(anyio.sleep_forever)
                inner.start_soon(anyio.sleep_forever)
                await writer.send_event("1")
            saved.append("it went on")
        finally:
            await anyio.sleep(0.1)
            saved.append("all")

    async with open_memory(app) as client:
        reply = await client.request("GET", "/stream")
        await reply.receive()
        await settle()
        reply.disconnect()
        with anyio.fail_after(5):
            while client.service.live:  # noqa: ASYNC110
                await anyio.sleep(0.1)
    assert saved == ["all"]
