"""A process that serves a channel, until SIGTERM: `python -m tests.cluster.process LOOP [URL]`.

With the URL of a server its channel is one with those of others, else it is one of its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from h3ref import Channel, H3App, H3Event, SSEEvent, running
from h3ref.redis import RedisEngine

PATIENCE = 60.0
"""Real seconds that it gets to start, and to end."""


class ServerProcess:
    """Such a process.

    Attributes:
        port: where it listens.
    """

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.port = port
        self.pid = process.pid

    async def end(self) -> None:
        """Tell it to end, and see that it does so in order."""
        self._process.terminate()
        with anyio.fail_after(PATIENCE):
            status = await self._process.wait()
        assert status == 0, f"it ended with status {status}"

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


@asynccontextmanager
async def server_process(loop: str, url: str = "") -> AsyncIterator[ServerProcess]:
    """Run such a process while the body runs; whatever happens, it is gone afterwards."""
    command = [sys.executable, "-m", "tests.cluster.process", loop, url]
    async with await anyio.open_process(command, stdout=subprocess.PIPE, stderr=None) as process:
        try:
            assert process.stdout is not None
            with anyio.fail_after(PATIENCE):
                said = await TextReceiveStream(process.stdout).receive()
            yield ServerProcess(process, int(said))
        finally:
            if process.returncode is None:
                process.kill()


async def main(url: str) -> None:
    """Serve, say the port, and end in order when told to."""
    engine = RedisEngine(url, timeout=1, patience=10) if url else None
    news = Channel(history=1000, name="news", engine=engine, gap="gap")
    app = H3App()

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(news.stream)

    @app.post("/publish")
    async def publish(event: H3Event) -> None:
        for data in json.loads(await event.read_body()):
            await news.publish(SSEEvent(data))
        event.send_text("published")

    @app.post("/burst")
    async def burst(event: H3Event) -> None:
        number, pause, size = (float(event.query[name]) for name in ("number", "pause", "size"))
        for _ in range(int(number)):
            await news.publish(SSEEvent(f"{time.monotonic_ns()}".ljust(int(size))))  # a clock that all processes share
            await anyio.sleep(pause)
        event.send_text("published")

    @app.get("/figures")
    def figures(event: H3Event) -> None:
        event.send_json({"cpu": time.process_time(), "delivered": news.stats().delivered, "streams": len(news)})

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with engine or nullcontext(), running(app, port=0) as server:
            print(server.port, flush=True)
            async for _ in signals:
                break


if __name__ == "__main__":
    anyio.run(main, sys.argv[2], backend=sys.argv[1])
