"""`Tasks`: what a request's task raises that no exchange may keep to itself ends the server, in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import H3App, H3Event
from h3ref.server import running


@pytest.mark.parametrize("failure", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_ends_the_process_lets_the_server_end_in_order(failure: type[BaseException]) -> None:
    app, ended = H3App(), list[int]()

    @app.get("/end")
    async def end(event: H3Event) -> None:
        raise failure

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("first")
            await anyio.sleep_forever()

    async def main() -> None:
        try:
            async with running(app) as server:
                await anyio.to_thread.run_sync(ask, server.port, "/events", reader)
                await anyio.to_thread.run_sync(ask, server.port, "/end", other)
                await anyio.sleep_forever()
        finally:
            ended.append(server.open_connections)

    with socket.socket() as reader, socket.socket() as other:
        with pytest.raises(failure):
            asyncio.run(main())
        assert ended == [0]
        reader.settimeout(30)
        assert read(reader).endswith(b"data: first\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "run", [asyncio.run, lambda main: anyio.run(lambda: main, backend="trio")], ids=["asyncio", "trio"]
)
def test_what_no_exchange_keeps_to_itself_ends_the_server_as_it_is(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    failure = GeneratorExit("as of a task that is thrown away")
    app = H3App()

    @app.get("/end")
    async def end(event: H3Event) -> None:
        raise failure

    async def main() -> None:
        with socket.socket() as other, anyio.fail_after(10):
            async with running(app) as server:
                await anyio.to_thread.run_sync(ask, server.port, "/end", other)
                await anyio.to_thread.run_sync(read, other)

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main())
    assert caught.value.exceptions == (failure,)


def ask(port: int, target: str, sock: socket.socket) -> None:
    sock.connect(("127.0.0.1", port))
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    if target == "/events":
        sock.recv(1, socket.MSG_PEEK)


def read(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))
