"""What listens beside an exchange of an ASGI server on trio, and the scopes that are put around code that has begun."""

from __future__ import annotations

import gc
import inspect
import re
from collections.abc import AsyncIterator
from contextvars import ContextVar, copy_context
from typing import Any

import anyio
import pytest
import trio

from h3ref import H3Event
from h3ref._core import scopes
from h3ref._core.companion import accompanied
from h3ref._core.steps import begin
from h3ref.adapters.asgi import EventSourceResponse
from h3ref.connection import End
from h3ref.testing import virtual_backends
from h3ref.trace import Record
from tests.test_asgi import Call, only
from tests.waits import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", virtual_backends()[1:], ids=["trio"]),
]


def tasks_living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


class Gate:
    """Code that waits until it is told, or cancelled by the companion."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.end = anyio.Event()

    def cancel(self) -> None:
        self.cancelled += 1
        self.end.set()

    async def run(self) -> None:
        await self.end.wait()

    async def accompanied(self, meanwhile: Any) -> None:
        with anyio.fail_after(60):
            await accompanied(self.run(), copy_context(), self.cancel, meanwhile)


# -- the companion


async def test_one_that_does_not_let_itself_be_cancelled_is_left_to_itself_in_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate, over = Gate(), anyio.Event()

    async def meanwhile() -> None:
        gate.end.set()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)
        over.set()

    began = anyio.current_time()
    await gate.accompanied(meanwhile)
    assert anyio.current_time() - began == pytest.approx(5)
    [record] = caplog.records
    assert "does not end 5 s after its cancellation" in record.getMessage()
    await over.wait()


async def test_code_that_never_waits_has_no_company() -> None:
    tasks: list[int] = []

    async def items() -> AsyncIterator[str]:
        tasks.append(tasks_living())
        yield "1"
        tasks.append(tasks_living())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(items())(scope, receive, send)

    class Prompt(Call):
        async def send(self, message: Any) -> None:
            self.sent.append(dict(message))

    await Prompt(app).run()  # the clock of all streams begins to run
    tasks.clear()
    before = tasks_living()
    call = Prompt(app)
    await call.run()
    assert (tasks, tasks_living()) == ([before, before], before)
    assert [message["type"] for message in call.sent] == ["http.response.start", *["http.response.body"] * 2]
    assert call.end is End.PROPER


async def test_what_listens_has_ended_when_the_code_has() -> None:
    gate, ended = Gate(), anyio.Event()

    async def meanwhile() -> None:
        try:
            gate.end.set()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            ended.set()

    before = tasks_living()
    await gate.accompanied(meanwhile)
    assert ended.is_set()
    assert (tasks_living(), gate.cancelled) == (before, 0)


async def test_what_listens_may_return() -> None:
    gate = Gate()

    async def meanwhile() -> None:
        gate.end.set()

    await gate.accompanied(meanwhile)
    assert gate.cancelled == 0


async def test_what_listens_may_raise_which_ends_the_code_and_is_told() -> None:
    gate = Gate()

    async def meanwhile() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await gate.accompanied(meanwhile)
    assert gate.cancelled == 1


@pytest.mark.parametrize("before", [False, True])
async def test_a_cancellation_is_heard_once_and_raised_when_the_code_is_over(before: bool) -> None:
    gate = Gate()
    with anyio.CancelScope() as scope:
        if before:
            scope.cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gate.accompanied, anyio.sleep_forever)
            await anyio.wait_all_tasks_blocked()
            assert gate.cancelled == before
            scope.cancel()
    assert scope.cancelled_caught
    assert gate.cancelled == 1


async def test_the_code_keeps_the_context_of_the_task() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")
    seen: list[str] = []

    async def code() -> None:
        await anyio.sleep(1)
        seen.append(variable.get())

    variable.set("the request's")
    await accompanied(code(), copy_context(), lambda: None, anyio.sleep_forever)
    assert seen == ["the request's"]


async def test_a_server_that_cancels_is_heard_though_the_handler_shields_itself() -> None:
    records: list[Record] = []
    inside, over = anyio.Event(), anyio.Event()

    async def handler(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")
            with anyio.CancelScope(shield=True):
                inside.set()
                await over.wait()

    call = Call(only(handler, trace=records.append))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.run)
            await inside.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
                assert (records[-1].after, records[-1].reason) == ("closed", "shutdown")
                over.set()
    assert call.end is End.PROPER


async def test_where_trio_lets_no_scope_be_put_around_code_it_has_a_task_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scopes, "trio_task", lambda: None)
    cleaned_up: list[bool] = []

    async def items() -> AsyncIterator[str]:
        try:
            yield "1"
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            cleaned_up.append(True)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(items())(scope, receive, send)

    call = Call(app)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.run)
            await until(lambda: call.body)
            tasks.cancel_scope.cancel()
    assert cleaned_up == [True]
    assert (call.body, call.end) == (b"data: 1\n\n", End.PROPER)


# -- scopes that are put around code that has begun


async def in_scopes(log: list[str]) -> None:
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 1)
            await anyio.sleep(1)
    log.append("over")


@pytest.mark.parametrize("names", ["_OF_A_TASK", "_OF_A_STATUS", "_OF_A_SCOPE"])
async def test_a_trio_that_lacks_a_private_name_that_is_used_is_told_apart(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scopes.base() is not None
    monkeypatch.setattr(scopes, names, (*getattr(scopes, names), "_renamed"))
    scopes._knows.cache_clear()
    try:
        assert scopes.base() is None
    finally:
        scopes._knows.cache_clear()


async def test_every_private_name_of_trios_that_is_used_is_asked_for() -> None:
    used = set(re.findall(r"\.(_[a-z]\w+|parent|effectively_cancelled)\b", inspect.getsource(scopes)))
    trios = used & {*dir(trio.CancelScope), *dir(trio.lowlevel.Task), *dir(type(trio.CancelScope()._cancel_status))}
    assert trios - {"_pending_excs"} <= {*scopes._OF_A_TASK, *scopes._OF_A_STATUS, *scopes._OF_A_SCOPE}


async def test_a_call_that_has_entered_scopes_is_gone_on_with_in_another() -> None:
    log: list[str] = []
    with anyio.CancelScope() as around:
        steps = begin(in_scopes(log))
        assert steps is not None
        around.cancel()
        assert not await steps.go_on(trio.current_time() + 10, shield=True)
    assert log == ["over"]
    await anyio.sleep(1)  # no scope is left


async def test_a_call_is_given_up_at_its_deadline() -> None:
    async def call() -> None:
        with anyio.CancelScope():
            await anyio.sleep_forever()

    steps = begin(call())
    assert steps is not None
    began = trio.current_time()
    assert await steps.go_on(began + 2)
    assert trio.current_time() == began + 2


async def test_a_call_that_is_abandoned_ends_though_it_shields_itself() -> None:
    async def call() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            steps = begin(call())
            assert steps is not None

            async def abandon() -> None:
                await anyio.sleep(1)
                steps.abandon()

            tasks.start_soon(abandon)
            assert await steps.go_on(shield=True)
            steps.abandon()  # once more, which does nothing


async def test_a_task_that_is_cancelled_begins_a_call_when_it_is_shielded() -> None:
    begun: list[bool] = []

    async def call() -> None:
        begun.append(True)
        await trio.lowlevel.checkpoint_if_cancelled()

    with anyio.CancelScope() as scope:
        scope.cancel()
        steps = begin(call())
        assert (steps is not None, begun) == (True, [])
        assert steps is not None
        assert not await steps.go_on(shield=True)
        assert begun == [True]


async def test_one_call_within_another_is_put_into_its_scope() -> None:
    log: list[str] = []

    async def outer() -> None:
        inner = begin(in_scopes(log))
        assert inner is not None
        assert not await inner.go_on(trio.current_time() + 10)
        log.append("outer")

    steps = begin(outer())
    assert steps is not None
    assert not await steps.go_on(trio.current_time() + 20, shield=True)
    assert log == ["over", "outer"]


async def test_code_that_nobody_cancels_has_no_scopes_around_it() -> None:
    from h3ref._core.cleanup import Cleanup

    def count() -> int:
        return sum(isinstance(one, trio.CancelScope) for one in gc.get_objects())

    counted: list[int] = []

    async def code() -> None:
        counted.append(count())

    gc.collect()
    before = count()
    await Cleanup("the code", 5.0, lambda: None).run(code())
    assert counted == [before]
