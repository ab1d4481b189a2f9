"""`Lifespan`: an app's own startup and shutdown, as an ASGI server asks for them."""

from __future__ import annotations

from collections import deque
from typing import Any

import anyio
import anyio.lowlevel

from .results import TimedOut
from .stream import ASGI, Message


class Lifespan:
    """The app's own lifespan, which runs in one task from the first message to the last."""

    def __init__(self, app: ASGI) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._asked: deque[str] = deque()
        self._answers: dict[str, str] = {}
        self._is_over = False
        self._failure: Exception | None = None
        self._changed = anyio.Event()

    async def run(self) -> None:
        try:
            await self._app(
                {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state},
                self._receive,
                self._send,
            )
        except Exception as error:
            self._failure = error  # with no answer before it: an app that knows no lifespan
        finally:
            self._is_over = True
            self._change()

    async def pass_on(self, what: str, within: float) -> None:
        """Tell the app of startup or shutdown, and wait until it is done, or the seconds are over."""
        if self._has_answered(what):
            return
        self._asked.append(f"lifespan.{what}")
        self._change()
        with anyio.move_on_after(within) as scope:
            while not self._has_answered(what):
                await self._changed.wait()
        if (message := self._answers.get(f"lifespan.{what}.failed")) is not None:
            raise self._failure or RuntimeError(f"the app's {what} failed: {message}")
        if self._answers and self._failure is not None:
            raise self._failure
        if scope.cancelled_caught:
            raise TimedOut(f"the app's lifespan has not finished its {what} within {within:g} s")

    def _has_answered(self, what: str) -> bool:
        return self._is_over or f"lifespan.{what}.complete" in self._answers

    async def _receive(self) -> Message:
        while not self._asked:
            await self._changed.wait()
        return {"type": self._asked.popleft()}

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if not message["type"].startswith("lifespan."):
            raise RuntimeError(f"a lifespan does not take {message['type']!r}")
        self._answers[message["type"]] = message.get("message", "")
        self._change()

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
