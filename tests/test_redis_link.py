"""`Link`: a connection to Redis is made again, however its loss is told."""

from __future__ import annotations

from typing import NoReturn

import anyio
import pytest
from coredis.connection import BaseConnection
from coredis.exceptions import ConnectionError as LostConnection

from h3ref.redis.address import Address, addresses
from h3ref.redis.link import Link
from tests.cluster.servers import one_server
from tests.conftest import require_program

pytestmark = pytest.mark.anyio


async def fail(error: Exception) -> NoReturn:
    raise error


def link_to(url: str, serve: object) -> Link:
    address, sentinels = addresses(url, (), None)
    assert isinstance(address, Address)
    return Link("h3ref:test", address, sentinels, "", 2.0, serve)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "errors", [[LostConnection("gone")], [LostConnection("gone"), TimeoutError("silent"), OSError("broken")]], ids=len
)
async def test_a_loss_that_a_task_group_tells_is_one_like_others(errors: list[Exception]) -> None:
    require_program("redis-server", "redis-server")
    again, count = anyio.Event(), 0

    async def serve(connection: BaseConnection) -> None:
        nonlocal count
        count += 1
        if count > 1:
            again.set()
            await anyio.sleep_forever()
        async with anyio.create_task_group() as tasks:
            for error in errors:
                tasks.start_soon(fail, error)

    with one_server("redis") as server:
        link = link_to(server.url, serve)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.run)
            with anyio.fail_after(20):
                await again.wait()
            assert link.connected
            tasks.cancel_scope.cancel()
