"""People in a chat room: readers, each with a stream of their own, and one who writes without a pause."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import httpx2

from h3ref.client import EventSource

PACE: Final = 0.1
"""Seconds between two messages."""

PATIENCE: Final = 60.0
"""Seconds that a message may take to reach everybody, whatever is down meanwhile."""

NOT_NOW: Final = (500, 502, 503, 504)
"""What is answered, by a proxy or by a server, where coming back helps."""


class Reader:
    """Somebody who reads what is written, as a browser's page does.

    Attributes:
        name: what they are called.
        heard: the messages that came, in their order.
        connections: how often their stream was opened.
    """

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.heard: list[str] = []
        self.connections = 0
        self._url = url
        self._changed = anyio.Event()

    async def run(self) -> None:
        """Read until cancelled."""
        async with EventSource(
            f"{self._url}/chat/events",
            params={"user": self.name},
            reconnection_time=0.1,
            max_reconnection_time=1.0,
            patient=True,
            retry_statuses=NOT_NOW,
            on_open=self._count,
        ) as source:
            async for message in source:
                if message.type == "message":
                    self.heard.append(json.loads(message.data)["text"])
                    self._changed.set()
                    self._changed = anyio.Event()

    def _count(self, response: httpx2.Response) -> None:
        self.connections += 1

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, which is looked at with each message."""
        while not condition():
            await self._changed.wait()


class Writer:
    """Somebody who writes messages that are all different.

    Attributes:
        acknowledged: those of which the server has said that it has them.
        unanswered: those of which it has not: they may have been published, or not.
    """

    def __init__(self, url: str, pace: float = PACE) -> None:
        self.acknowledged: list[str] = []
        self.unanswered: list[str] = []
        self._url = url
        self._pace = pace
        self._count = 0

    async def run(self) -> None:
        """Write until cancelled."""
        async with httpx2.AsyncClient(timeout=PATIENCE) as client:
            while True:
                self._count += 1
                text = f"message {self._count}"
                self.unanswered.append(text)
                try:
                    reply = await client.post(f"{self._url}/chat/send", json={"user": "writer", "text": text})
                except httpx2.HTTPError:
                    pass  # nobody writes it a second time, who might have published it
                else:
                    if reply.status_code == 200:
                        self.unanswered.remove(text)
                        self.acknowledged.append(text)
                await anyio.sleep(self._pace)


async def until_all_hear(writer: Writer, readers: Sequence[Reader], more: int = 5) -> None:
    """Wait until that many further messages are acknowledged, and everybody has heard them all.

    Raises:
        TimeoutError: that takes too long.
    """
    wanted = len(writer.acknowledged) + more
    with anyio.fail_after(PATIENCE):
        for reader in readers:
            await reader.until(lambda: len(writer.acknowledged) >= wanted)
        known = list(writer.acknowledged)
        for reader in readers:
            await reader.until(lambda reader=reader: set(known) <= set(reader.heard))  # type: ignore[misc]


class Verdict:
    """What became of the messages.

    Attributes:
        lost: for each reader, acknowledged messages that did not come.
        doubled: for each reader, messages that came more than once.
        orders: in how many orders the readers have heard those that all of them have.
    """

    def __init__(self, writer: Writer, readers: Sequence[Reader]) -> None:
        self.lost = {reader.name: [one for one in writer.acknowledged if one not in reader.heard] for reader in readers}
        self.doubled = {
            reader.name: [text for text, count in Counter(reader.heard).items() if count > 1] for reader in readers
        }
        common = set.intersection(*(set(reader.heard) for reader in readers))
        self.orders = len({tuple(text for text in reader.heard if text in common) for reader in readers})

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost, nothing doubled, and all have heard it in one order."""
        return not any(self.lost.values()) and not any(self.doubled.values()) and self.orders == 1

    def tell(self, writer: Writer, readers: Sequence[Reader]) -> str:
        """What became of them, in words."""
        more = f" {len(writer.unanswered)} more were not; these may have come, or not." if writer.unanswered else ""
        lines = [
            f"{len(writer.acknowledged)} messages were acknowledged.{more}",
            f"{'':8}{'streams':>8}{'heard':>8}{'lost':>8}{'doubled':>8}",
        ]
        for reader in readers:
            lost, doubled = len(self.lost[reader.name]), len(self.doubled[reader.name])
            lines.append(f"{reader.name:8}{reader.connections:8}{len(reader.heard):8}{lost:8}{doubled:8}")
        orders = "All heard them in one order." if self.orders == 1 else f"They came in {self.orders} orders."
        return "\n".join([*lines, orders])
