"""`RedisEngine`: what it says of bad input and of servers that fail, and how it holds its connections."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from coredis.connection import TCPConnection

from h3ref import Channel, H3App
from h3ref.engine import EngineRefused, EngineUnavailable
from h3ref.engine.ids import new_nonce
from h3ref.redis import RedisEngine
from h3ref.redis.address import Address, sentinel_address
from h3ref.redis.engine import READS
from tests.cluster.servers import Kind, Missing, Server, Servers, program
from tests.conftest import LOOPS, missing
from tests.ports import free_port
from tests.waits import LONGER, until

pytestmark = pytest.mark.anyio

SECRET = "correct-horse"


@pytest.fixture(params=["redis", "valkey"])
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    kind: Kind = request.param
    try:
        program(kind)
    except Missing as error:
        missing(str(error))
    with Servers(kind) as running:
        yield running


@pytest.fixture
def server(servers: Servers) -> Server:
    return servers.start()


@pytest.fixture(autouse=True)
def no_password_and_no_traceback_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        assert SECRET not in record.getMessage()
        if record.levelno > logging.DEBUG:
            assert record.exc_info is None, record.getMessage()


async def publish(engine: RedisEngine, text: str = "x", channel: str = "news") -> str:
    return await engine.append(channel, text.encode(), nonce=new_nonce(), keep=256)


def is_sentence(text: str) -> bool:
    return "\n" not in text and len(text) < 200 and SECRET not in text


# -- bad input


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        f"http://user:{SECRET}@localhost",
        f"redis://user:{SECRET}@localhost:port",
        f"redis://user:{SECRET}@localhost:99999",
        f"redis://user:{SECRET}@[::1",
        f"redis://:{SECRET}@",
        f"redis://:{SECRET}@localhost/one",
        f"redis://:{SECRET}@localhost?tiemout=5",
        "unix://",
    ],
)
def test_what_is_no_url_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as refused:
        RedisEngine(url)
    assert is_sentence(str(refused.value))
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs a URL"),
        ({"url": "redis://localhost", "ttl": 0}, "ttl is a number of seconds above 0"),
        ({"url": "redis://localhost", "timeout": -1}, "timeout is a number"),
        ({"url": "redis://localhost", "patience": float("inf")}, "patience is a number"),
        ({"url": "redis://localhost", "replicas": -1}, "replicas is how many"),
        ({"url": "redis://localhost", "service": "mymaster"}, "name them too"),
        ({"sentinels": ["localhost:26379"]}, "name the service"),
        ({"sentinels": "localhost:26379", "service": "mymaster"}, "sentinels is a list"),
        ({"sentinels": [""], "service": "mymaster"}, "a sentinel is"),
        (
            {"url": "redis://localhost", "sentinels": ["localhost:26379"], "service": "mymaster"},
            "sentinels name the host",
        ),
    ],
)
def test_other_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RedisEngine(**options)


def test_a_url_says_all_that_there_is_to_say() -> None:
    plain = Address("redis://localhost")
    assert (str(plain), plain.options) == ("localhost:6379", {"db": 0})
    full = Address("redis://me:p%40ss@[::1]:7000/3")
    assert (str(full), full.options) == ("::1:7000", {"db": 3, "username": "me", "password": "p@ss"})
    path = Address("unix:///run/redis%20server.sock?db=2")
    assert (str(path), path.options) == ("/run/redis server.sock", {"db": 2})
    context = Address("rediss://localhost").options["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert str(sentinel_address(("::1", 5))) == "::1:5"
    assert str(sentinel_address("a.example")) == "a.example:26379"
    assert sentinel_address("redis://:pw@a.example:7").options["password"] == "pw"


async def test_a_server_that_is_not_there_at_the_start_is_said_in_a_sentence() -> None:
    for patience in LONGER:
        engine = RedisEngine(f"redis://:{SECRET}@127.0.0.1:{free_port()}", patience=patience)
        with pytest.raises(EngineUnavailable) as said:
            await engine.__aenter__()
        assert is_sentence(str(said.value))
        assert not engine.connected
        if not str(said.value).endswith("is not connected yet"):
            break  # else it could not be tried once in that time
    assert re.fullmatch(r"the Redis server at 127\.0\.0\.1:\d+ can't be reached: .*", str(said.value))


async def test_a_server_that_does_not_answer_is_said_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for patience in LONGER:
            engine = RedisEngine(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1, patience=patience)
            with pytest.raises(EngineUnavailable) as said:
                await engine.__aenter__()
            if not str(said.value).endswith("is not connected yet"):
                break  # else it could not be tried once in that time
        assert "does not answer" in str(said.value)


async def test_a_server_that_comes_within_the_patience_is_waited_for(server: Server) -> None:
    server.kill()
    async with anyio.create_task_group() as tasks:
        engine = RedisEngine(server.url, patience=20)
        tasks.start_soon(anyio.to_thread.run_sync, server.start)
        async with engine:
            await publish(engine)


async def test_a_wrong_password_is_said_at_once_and_is_in_no_log(servers: Servers) -> None:
    server = servers.start()
    server("CONFIG", "SET", "requirepass", "another")
    for user in ("", f":{SECRET}@", f"user:{SECRET}@"):
        engine = RedisEngine(server.url.replace("redis://", f"redis://{user}"), patience=60)
        with pytest.raises(EngineRefused, match="refuses the user or the password") as said:
            await engine.__aenter__()
        assert is_sentence(str(said.value))
        assert SECRET not in repr(engine)
    async with RedisEngine(server.url.replace("redis://", "redis://:another@")) as right:
        await publish(right)


async def test_a_user_who_may_not_is_told(server: Server) -> None:
    server("ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all", "-xadd", "-@scripting")
    async with RedisEngine(server.url.replace("redis://", "redis://reader:pw@")) as engine:
        with pytest.raises(EngineRefused, match="does not permit") as said:
            await publish(engine)
        assert is_sentence(str(said.value))


async def test_a_replica_takes_nothing_and_says_why(servers: Servers, server: Server) -> None:
    replica = servers.start_replica(server.port)
    for patience in (1.5, 30):
        with suppress(EngineUnavailable):  # it stood still for so long
            async with RedisEngine(replica.url, patience=patience) as engine:
                with pytest.raises(EngineRefused, match="read-only replica: name the primary") as said:
                    await publish(engine)
                assert is_sentence(str(said.value))
                assert await engine.read("news", "", 10) == []
            return
    raise AssertionError("it does not answer")


async def test_a_key_of_another_type_is_said_in_a_sentence(server: Server) -> None:
    server("SET", "h3ref:{news}", "not ours")
    async with RedisEngine(server.url) as engine:
        for asked in (publish(engine), engine.read("news", "", 10)):
            with pytest.raises(
                EngineRefused, match="the Redis key of channel 'news' holds another kind of value"
            ) as said:
                await asked
            assert is_sentence(str(said.value))


async def test_a_full_memory_is_said_in_a_sentence(server: Server) -> None:
    async with RedisEngine(server.url) as engine:
        server("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(EngineRefused, match="has no memory left") as said:
            await publish(engine)
        assert is_sentence(str(said.value))


async def test_a_service_that_no_sentinel_knows_is_said_in_a_sentence(servers: Servers) -> None:
    primary = servers.start()
    servers.start_replica(primary.port)
    (sentinel,) = servers.start_sentinels(primary, "mymaster", 5, number=1)
    where = f"127.0.0.1:{sentinel.port}"
    wrong = RedisEngine(sentinels=[where], service="yours", patience=30)
    with pytest.raises(EngineRefused, match="knows no service 'yours'"):
        await wrong.__aenter__()
    async with RedisEngine(sentinels=[f"127.0.0.1:{free_port()}", where], service="mymaster") as engine:
        await publish(engine)
        assert primary("EXISTS", "h3ref:{news}")


# -- what is kept where


async def test_the_layout_is_the_contracts(server: Server) -> None:
    async with RedisEngine(server.url, prefix="app", ttl=100) as engine:
        first, second = await publish(engine, "a"), await publish(engine, "b")
        entries = server("XRANGE", "app:{news}", "-", "+")
    place, nonce = second.rsplit("-", 1)
    assert isinstance(entries, list)
    assert entries[1] == [
        place.encode(),
        [b"p", first.rsplit("-", 1)[0].encode(), b"u", nonce.encode(), b"k", b"0", b"i", b"", b"d", b"b"],
    ]
    left = server("PTTL", "app:{news}")
    assert isinstance(left, int)
    assert 90_000 < left <= 100_000


async def test_without_a_time_to_live_a_channel_stays(server: Server) -> None:
    async with RedisEngine(server.url, ttl=10) as mortal, RedisEngine(server.url, ttl=None) as engine:
        await publish(mortal)
        await publish(engine)
        assert server("PTTL", "h3ref:{news}") == -1


async def test_what_is_none_of_ours_in_a_channel_harms_nobody(server: Server) -> None:
    async with RedisEngine(server.url) as engine:
        heard: list[Any] = []
        losses: list[bool] = []
        engine.listen("news", heard.extend, lambda: losses.append(True))
        await until(lambda: losses)
        for message in (b"", b"x", b"1-0  a 0 x y", b"1-0 \xff \xff 0 0 "):
            server("PUBLISH", "h3ref:{news}", message)
        server("XADD", "h3ref:{news}", "*", "unknown", "field")
        await publish(engine, "ours")
        await until(lambda: any(entry.data == b"ours" for entry in heard))
        assert [entry.data for entry in await engine.read("news", "", 10)] == [b"", b"ours"]


# -- connections


def names_of(server: Server) -> list[str]:
    listed = server("CLIENT", "LIST")
    assert isinstance(listed, bytes)
    return sorted(name for name in re.findall(r" name=(\S*) ", listed.decode()) if name)


async def test_two_named_connections_carry_all_and_are_closed_in_the_end(server: Server) -> None:
    async with RedisEngine(server.url) as engine:
        for number in range(50):
            engine.listen(f"channel {number}", lambda entries: None, lambda: None)
            await publish(engine, channel=f"channel {number}")
        assert names_of(server) == ["h3ref:commands", "h3ref:events"]
        assert engine.connected
    await until(lambda: not names_of(server))


async def test_of_very_many_reads_some_are_under_way_at_a_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, the last of thousands would be answered so late that the connection is given up."""
    asked = [0]
    request = TCPConnection.create_request

    def counted(connection: TCPConnection, command: bytes, *arguments: Any, **options: Any) -> Any:
        async def answered() -> Any:
            asked.append(asked[-1] + 1)
            try:
                return await request(connection, command, *arguments, **options)
            finally:
                asked.append(asked[-1] - 1)

        return answered() if command == b"XRANGE" else request(connection, command, *arguments, **options)

    monkeypatch.setattr(TCPConnection, "create_request", counted)
    async with RedisEngine(server.url) as engine, anyio.create_task_group() as tasks:
        for number in range(3 * READS):
            tasks.start_soon(engine.read, f"channel {number}", "", 10)
    assert (max(asked), asked[-1], len(asked)) == (READS, 0, 6 * READS + 1)


async def test_a_silent_server_is_found_out_and_is_used_again_when_it_speaks(server: Server) -> None:
    async with RedisEngine(server.url, timeout=0.4, patience=60) as engine, anyio.create_task_group() as tasks:
        losses: list[bool] = []
        engine.listen("news", lambda entries: None, lambda: losses.append(True))
        await until(lambda: losses)
        server.stop()
        try:
            await until(lambda: not engine._commands.connected and not engine._events.connected)
            tasks.start_soon(publish, engine)
        finally:
            server.go_on()
        await until(lambda: engine.connected and len(losses) >= 2)
        await publish(engine)


async def test_what_comes_together_is_told_together(server: Server) -> None:
    """coredis keeps it in a buffer of its own, which is looked for; without it, one would come after the other."""
    script = "for n = 1, 40 do redis.call('PUBLISH', KEYS[1], n .. '-0  01234567 0 0 ') end"
    async with RedisEngine(server.url) as engine:
        told: list[int] = []
        losses: list[bool] = []
        engine.listen("news", lambda entries: told.append(len(entries)), lambda: losses.append(True))
        await until(lambda: losses)
        server("EVAL", script, 1, "h3ref:{news}")
        await until(lambda: sum(told) == 40)
        assert max(told) > 10


@pytest.mark.parametrize("loop", LOOPS)
def test_an_engine_of_a_module_serves_one_event_loop_after_another(servers: Servers, loop: str) -> None:
    engine = RedisEngine(servers.start().url)

    async def use() -> None:
        async with engine:
            await publish(engine)

    for backend in (loop, *LOOPS):
        anyio.run(use, backend=backend)


async def test_an_engine_is_an_apps_lifespan(server: Server) -> None:
    engine = RedisEngine(server.url)
    news = Channel(name="news", engine=engine)
    async with H3App(lifespan=engine).lifespan():
        await news.publish("x")
        assert news.stats().connected
    assert not news.stats().connected
