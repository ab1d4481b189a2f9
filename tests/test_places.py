"""Where a server listens besides a port of its own: a socket in the file system, an open one, a port that is shared."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from h3ref import H3App, H3Event, Limits, running
from tests.servers import read_all, started
from tests.waits import until

LAST = b"GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no sockets in its file system")


def hello_app() -> H3App:
    app = H3App()

    @app.get("/hello")
    async def hello(event: H3Event) -> None:
        event.send_text("hello")

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("open")
            await anyio.sleep_forever()

    return app


async def ask(path: Path | str, request: bytes = LAST) -> bytes:
    """All that a server on a socket in the file system answers."""
    async with await anyio.connect_unix(str(path)) as stream:
        await stream.send(request)
        return await all_of(stream)


async def all_of(stream: anyio.abc.ByteReceiveStream) -> bytes:
    data = b""
    with anyio.fail_after(20):
        try:
            while True:
                data += await stream.receive()
        except anyio.EndOfStream:
            return data


@pytest.mark.anyio
async def test_a_socket_in_the_file_system_serves_all_that_a_port_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "h3ref.access")
    path = tmp_path / "h3ref.sock"
    async with running(hello_app(), uds=path, limits=Limits(connections_per_address=1)) as server:
        assert (server.url, server.host, server.port) == (f"unix:{path}", "", 0)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert (await ask(path)).endswith(b"\r\n\r\nhello")
        stream = await anyio.connect_unix(str(path))
        await stream.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        await until(lambda: server.stats().events)
        assert (await ask(path)).endswith(b"\r\n\r\nhello"), "clients without an address are not counted by it"
    assert not path.exists()
    assert (await all_of(stream)).endswith(b"data: open\n\n\r\n0\r\n\r\n")
    await stream.aclose()
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["-", "-", "-"]


@pytest.mark.anyio
async def test_a_socket_that_a_dead_server_has_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "h3ref.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    async with running(hello_app(), uds=path):
        assert (await ask(path)).endswith(b"hello")


@pytest.mark.anyio
async def test_a_path_that_somebody_uses_is_taken(tmp_path: Path) -> None:
    path, other = tmp_path / "h3ref.sock", tmp_path / "a file"
    other.touch()
    async with running(hello_app(), uds=path):
        for taken in (path, other):
            with pytest.raises(OSError, match=rf"{taken} is taken: a server listens there, or it is a file of another"):
                async with running(hello_app(), uds=taken):
                    pass
        assert (await ask(path)).endswith(b"hello"), "it goes on"
    assert other.exists()


@pytest.mark.anyio
async def test_the_end_of_a_server_removes_no_other_servers_socket(tmp_path: Path) -> None:
    path = tmp_path / "h3ref.sock"
    async with running(hello_app(), uds=path):
        path.unlink()
        second = running(hello_app(), uds=path)
        await second.__aenter__()
    assert path.exists()
    assert (await ask(path)).endswith(b"hello")
    await second.__aexit__(None, None, None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "why"),
    [("no folder/h3ref.sock", "No such file or directory"), ("x" * 200, "AF_UNIX path too long")],
)
async def test_a_path_that_can_not_be_is_said(tmp_path: Path, path: str, why: str) -> None:
    with pytest.raises(OSError, match=f"can't listen on .*: {why}"):
        async with running(hello_app(), uds=tmp_path / path):
            pass


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("place", "why"),
    [
        ({"uds": ""}, "uds is the path of a socket, a str without NUL, not ''"),
        ({"uds": "\0abstract"}, "uds is the path of a socket"),
        ({"fd": -1}, "fd is the number of an open socket, not -1"),
        ({"fd": "3"}, "fd is the number of an open socket, not '3'"),
        ({"fd": 3, "uds": "x"}, "not on both"),
        ({"fd": 3, "reuse_port": True}, "reuse_port is for a host and a port"),
    ],
)
async def test_places_that_are_none_are_refused(place: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        async with running(hello_app(), **place):
            pass


@pytest.mark.anyio
async def test_an_open_socket_is_served_and_closed(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with running(hello_app(), fd=listener.detach()) as server:
        assert (server.url, server.port) == (f"http://127.0.0.1:{port}", port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(LAST)
            assert (await all_of(stream)).endswith(b"hello")
    with pytest.raises(OSError, match="All connection attempts failed"):
        await anyio.connect_tcp("127.0.0.1", port)

    path = tmp_path / "h3ref.sock"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))  # it does not listen yet
    async with running(hello_app(), fd=unix.detach()) as server:
        assert server.url == f"unix:{path}"
        assert (await ask(path)).endswith(b"hello")
    assert path.exists(), "who has made it removes it"


@pytest.mark.anyio
async def test_what_is_no_socket_that_connections_come_to_is_said(tmp_path: Path) -> None:
    with ExitStack() as stack:
        file = stack.enter_context((tmp_path / "file").open("w"))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        one, _ = pair = socket.socketpair()
        for sock in pair:
            stack.enter_context(sock)
        for descriptor in (file.fileno(), udp.fileno(), one.fileno(), 999_999):
            with pytest.raises(OSError, match=f"descriptor {descriptor}"):
                async with running(hello_app(), fd=descriptor):
                    pass
        os.fstat(file.fileno())  # it is still its owner's
        os.fstat(udp.fileno())


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one of the two gets all")
async def test_a_port_is_shared_by_those_who_all_say_so() -> None:
    async with running(hello_app(), reuse_port=True) as one:
        async with running(hello_app(), port=one.port, reuse_port=True) as two:
            for _ in range(40):
                async with await anyio.connect_tcp("127.0.0.1", one.port) as stream:
                    await stream.send(LAST)
                    assert (await all_of(stream)).endswith(b"hello")
            assert one.stats().opened
            assert two.stats().opened
        with pytest.raises(OSError, match="is taken"):
            async with running(hello_app(), port=one.port):
                pass


def test_the_command_serves_a_path_and_an_open_socket(tmp_path: Path) -> None:
    path = tmp_path / "h3ref.sock"
    with started(["-m", "h3ref", "serve", "h3ref.examples.counter:app", "--uds", str(path)], tmp_path) as served:
        assert f"h3ref serves on unix:{path} (Ctrl-C ends it)" in served.said[-1]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(LAST)
            assert read_all(sock).startswith(b"HTTP/1.1 404")
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 0
    assert not path.exists()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        command = ["-m", "h3ref", "serve", "h3ref.examples.counter:app", "--fd", str(listener.fileno())]
        with started(command, tmp_path, pass_fds=(listener.fileno(),)) as served:
            assert f"http://127.0.0.1:{listener.getsockname()[1]} " in served.said[-1]
            served.process.send_signal(signal.SIGTERM)
            assert served.end() == 0
