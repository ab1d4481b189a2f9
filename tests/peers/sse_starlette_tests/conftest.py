"""What sse-starlette's tests find around them, as far as they need it: the one in its repository reaches inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sse_starlette.sse import AppStatus


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def app_status() -> Iterator[None]:
    """No test's shutdown is the next one's."""
    yield
    AppStatus.should_exit = False
    AppStatus.enable_automatic_graceful_drain_mode()  # type: ignore[no-untyped-call]
