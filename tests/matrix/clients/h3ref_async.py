"""h3ref's own `EventSource`, as docs/how-to/receive.md has it."""

import sys

import anyio
from printing import show

from h3ref import EventSource


async def main(url: str) -> None:
    async with EventSource(url) as source:
        async for message in source:
            show(message.type, message.data, message.last_event_id)


anyio.run(main, sys.argv[1])
