"""aiohttp-sse-client2, as its README has it; without aiohttp's limit of 5 minutes in all."""

import asyncio
import sys

import aiohttp
from aiohttp_sse_client2 import client
from printing import show


async def main(url: str) -> None:
    async with client.EventSource(url, timeout=aiohttp.ClientTimeout(total=None)) as source:
        async for event in source:
            show(event.type, event.data, event.last_event_id)


asyncio.run(main(sys.argv[1]))
