"""`Parking`: a wake is never lost, whether it comes before, while or after somebody waits, and from which thread."""

from __future__ import annotations

import anyio
import pytest

from h3ref._core.parking import Parking, ThreadParking, current_task_id
from tests.waits import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


async def test_a_wake_ends_a_wait_that_began_before() -> None:
    parking, woken = Parking(), []

    async def wait() -> None:
        await parking.wait()
        woken.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not woken
        parking.wake()
    assert woken


async def test_a_wake_that_comes_first_ends_the_next_wait_and_only_that() -> None:
    parking = Parking()
    parking.wake()
    parking.wake()
    with anyio.fail_after(10):
        await parking.wait()
    with anyio.move_on_after(0.01) as still_waiting:
        await parking.wait()
    assert still_waiting.cancelled_caught


async def test_a_wait_that_was_cancelled_leaves_the_parking_as_good_as_new() -> None:
    parking = Parking()
    for _ in range(3):
        with anyio.move_on_after(0.001):
            await parking.wait()
    parking.wake()
    with anyio.fail_after(10):
        await parking.wait()
    with anyio.move_on_after(0.01) as still_waiting:
        await parking.wait()
    assert still_waiting.cancelled_caught, "one wake ends one wait"


async def test_a_wake_that_meets_a_cancellation_is_kept_for_the_next() -> None:
    parking = Parking()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parking.wait)
            await wait_all_tasks_blocked()
            scope.cancel()
            parking.wake()
    with anyio.move_on_after(60) as next_wait:
        await parking.wait()
    assert not next_wait.cancelled_caught


async def test_any_thread_can_wake() -> None:
    parking, told = ThreadParking(), list[bool]()

    async def wake() -> None:
        told.append(await anyio.to_thread.run_sync(parking.wake_from_thread))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wake)
            await parking.wait()
    assert told == [True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_has_ended_is_no_error(backend: str) -> None:
    async def make() -> ThreadParking:
        return ThreadParking()

    assert not anyio.run(make, backend=backend).wake_from_thread()


async def test_each_task_has_a_number_of_its_own() -> None:
    numbers = {current_task_id()}

    async def add() -> None:
        numbers.add(current_task_id())
        await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(add)
        tasks.start_soon(add)
    numbers.add(current_task_id())
    assert len(numbers) == 3
