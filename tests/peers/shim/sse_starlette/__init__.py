"""`h3ref.compat.sse_starlette` by the name that others import it by: this folder comes first on their path.

Where sse-starlette's own suite reaches inside for what a user does in another way, this lets it: its log has the name
that it reads, and its stand-in for "the server is about to end" sets `AppStatus.should_exit`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import anyio

from h3ref.compat import sse_starlette
from h3ref.compat.sse_starlette import JSONServerSentEvent, ServerSentEvent, event, sse

__all__ = ["EventSourceResponse", "JSONServerSentEvent", "ServerSentEvent"]


class EventSourceResponse(sse_starlette.EventSourceResponse):
    """One whose wait for the server's end a test may replace."""

    async def _listen_for_exit_signal(self) -> None:
        await anyio.sleep_forever()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if "_listen_for_exit_signal" not in vars(self):
            await super().__call__(scope, receive, send)
            return
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._set_should_exit)
            try:
                await super().__call__(scope, receive, send)
            except Exception as error:  # carried past the task group, which would wrap it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _set_should_exit(self) -> None:
        await self._listen_for_exit_signal()
        sse_starlette.AppStatus.should_exit = True


def _named_as_there(record: logging.LogRecord) -> bool:
    record.name = "sse_starlette.sse"
    return True


logging.getLogger("h3ref.compat.sse_starlette").addFilter(_named_as_there)
sse.EventSourceResponse = EventSourceResponse  # type: ignore[misc]
sys.modules |= {f"{__name__}.event": event, f"{__name__}.sse": sse}
