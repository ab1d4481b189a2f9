"""A client's sockets: probed when they are silent, closed by any thread at any moment; TLS's needs are read once."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import httpx2
import pytest

from h3ref import BlockingEventSource, EventSource, MessageEvent, ReadyState
from h3ref.client import sockets
from tests.conftest import require_program
from tests.test_client import (
    HEAD,
    PROPER_END,
    SOON,
    TWINS,
    URL,
    Scripted,
    chunk,
    collect,
    data_of,
    scripted,
    streaming,
)
from tests.waits import until

pytestmark = pytest.mark.anyio

EVENT = [HEAD, chunk(b"data: 1\n\n"), Scripted.HOLD]
PROBED = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): sockets.PROBE_AFTER,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): sockets.PROBE_EVERY,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): sockets.PROBES,
}


def options_of(response: httpx2.Response) -> dict[tuple[int, int], int]:
    sock = response.extensions["network_stream"].get_extra_info("socket")
    return {option: sock.getsockopt(*option) for option in PROBED}


# -- peers that vanish


@TWINS
async def test_a_sources_connection_is_probed_when_it_is_silent(twin: Any) -> None:
    found: list[Any] = []
    async with scripted(EVENT) as server:
        await collect(twin, server.url, 1, on_open=lambda response: found.append(options_of(response)))
    assert found == [PROBED]


@TWINS
@pytest.mark.parametrize("older", [False, True])
async def test_so_is_a_given_clients_before_the_answer_and_one_that_was_open_before(twin: Any, older: bool) -> None:
    found: list[Any] = []

    def heard(response: httpx2.Response) -> None:  # before the source sees it
        found.append(options_of(response))

    async def aheard(response: httpx2.Response) -> None:
        heard(response)

    plain = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0.05] if older else []
    async with scripted([*plain, *EVENT]) as server:
        if twin is EventSource:
            async with httpx2.AsyncClient() as client:
                if older:
                    await client.get(server.url)
                client.event_hooks = {"response": [aheard]}
                await collect(twin, server.url, 1, client=client, on_open=heard)
        else:

            def block() -> None:
                with httpx2.Client() as client:
                    if older:
                        client.get(server.url)
                    client.event_hooks = {"response": [heard]}
                    with BlockingEventSource(server.url, client=client, on_open=heard) as source:
                        next(source)

            await anyio.to_thread.run_sync(block)
    off = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert found[0][off] == (0 if older else 1)


async def test_a_client_that_probes_already_keeps_its_times() -> None:
    mine = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)]
    async with (
        scripted(EVENT) as server,
        httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(socket_options=mine)) as client,
        EventSource(server.url, client=client) as source,
    ):
        assert source.response is not None
        assert options_of(source.response)[socket.IPPROTO_TCP, socket.TCP_KEEPIDLE] == 7


@TWINS
async def test_a_unix_socket_has_no_peer_that_vanishes(twin: Any, tmp_path: Path) -> None:
    server = Scripted((EVENT,))
    path = str(tmp_path / "socket")
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.answer)
        if twin is EventSource:
            transport = httpx2.AsyncHTTPTransport(uds=path)
            async with (
                httpx2.AsyncClient(transport=transport) as client,
                EventSource(URL, client=client) as source,
            ):
                assert (await anext(source)).data == "1"
        else:

            def block() -> None:
                transport = httpx2.HTTPTransport(uds=path)
                with httpx2.Client(transport=transport) as plain, BlockingEventSource(URL, client=plain) as source:
                    assert next(source).data == "1"

            await anyio.to_thread.run_sync(block)
        with anyio.fail_after(10):
            await server.left.wait()
        tasks.cancel_scope.cancel()


# -- TLS


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ssl.SSLContext]]:
    """What httpx2 builds, wherever."""
    contexts: list[ssl.SSLContext] = []
    original: Callable[..., None] = ssl.SSLContext.load_verify_locations

    def load(context: ssl.SSLContext, *args: Any, **options: Any) -> None:
        contexts.append(context)
        original(context, *args, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load)
    sockets._trusted.cache_clear()
    yield contexts
    sockets._trusted.cache_clear()


@TWINS
async def test_http_alone_reads_no_certificates(twin: Any, built: list[ssl.SSLContext]) -> None:
    async with scripted(*[EVENT] * 3) as server:
        for _ in range(3):
            await collect(twin, server.url, 1)
    assert built == []


@TWINS
async def test_https_reads_them_once_for_all_sources_and_reconnections(twin: Any, built: list[ssl.SSLContext]) -> None:
    redirect = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
    asked: list[bytes] = []

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive())
            await stream.send(b"this is no TLS\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        url = f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/"
        patience: dict[str, Any] = {"patient": True, "max_reconnects": 1}
        for options in ({}, patience):
            with pytest.raises(httpx2.ConnectError):
                await collect(twin, url, **options)
        async with scripted([redirect % url.encode()]) as first:
            with pytest.raises(httpx2.ConnectError):
                await collect(twin, first.url)
        tasks.cancel_scope.cancel()
    assert len(asked) == 4
    assert len(built) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One for 127.0.0.1 that nobody trusts, and its key."""
    openssl, folder = require_program("openssl", "openssl"), tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    arguments = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=localhost"
    addresses = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *arguments.split(), *addresses], check=True, capture_output=True)
    return certificate, key


def answer_over_tls(listener: socket.socket, certificate: tuple[Path, Path]) -> None:
    """Answer the next connection, if it trusts the certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    raw, _ = listener.accept()
    raw.settimeout(30)
    with raw, contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
        connection.recv(65536)
        connection.sendall(HEAD + chunk(b"data: 1\n\n") + PROPER_END)


@TWINS
async def test_a_certificate_is_checked(
    twin: Any, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, answer_over_tls, listener, certificate)
            with pytest.raises(httpx2.ConnectError):
                await collect(twin, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, answer_over_tls, listener, certificate)
            assert data_of(await collect(twin, url, 1)) == ["1"]


# -- a close at any moment


class Elsewhere:
    """Closes a source on another thread, and waits until that has returned."""

    def __init__(self, source: BlockingEventSource) -> None:
        self._source = source

    def __call__(self, *args: object) -> None:
        thread = threading.Thread(target=self._source.close)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("script", [EVENT, [HEAD, chunk(b"data: 1\n\n"), PROPER_END]])
async def test_a_close_just_before_a_step_is_the_end_of_the_iteration(script: list[Any], given: bool) -> None:
    async with scripted(script, EVENT, EVENT) as server:

        def block() -> list[MessageEvent]:
            with httpx2.Client() as client:
                source = BlockingEventSource(server.url, client=client if given else None, reconnection_time=0)
                with source:
                    messages = [next(source)]
                    is_over = source._is_over

                    def then_closed() -> bool:
                        over = is_over()
                        Elsewhere(source)()
                        return over

                    source._is_over = then_closed  # type: ignore[method-assign]
                    messages += source
                    assert source.ready_state is ReadyState.CLOSED
                    return messages

        with anyio.fail_after(10):
            assert data_of(await anyio.to_thread.run_sync(block)) == ["1"]
        assert len(server.requests) == 1


async def test_a_close_that_is_at_work_is_the_end_for_who_iterates() -> None:
    async with scripted(EVENT) as server:

        def block() -> list[MessageEvent]:
            with BlockingEventSource(server.url) as source:
                assert next(source).data == "1"
                begun, go_on = threading.Event(), threading.Event()
                disconnect = source._disconnect

                def slowly() -> None:
                    begun.set()
                    go_on.wait(30)
                    disconnect()

                source._disconnect = slowly  # type: ignore[method-assign]
                thread = threading.Thread(target=source.close)
                thread.start()
                assert begun.wait(30)
                source._is_over = lambda: False  # type: ignore[method-assign]
                source._step()  # it was about to, when the other began
                go_on.set()
                thread.join()
                return []

        await anyio.to_thread.run_sync(block)
        assert len(server.requests) == 1


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_source_that_is_closed_while_it_connects_sends_nothing(attempt: int) -> None:
    async with scripted([HEAD, PROPER_END], [HEAD, Scripted.HOLD]) as server:

        def block() -> list[MessageEvent]:
            asked: list[httpx2.Request] = []

            def hook(request: httpx2.Request) -> None:
                asked.append(request)
                if len(asked) == attempt:
                    Elsewhere(source)()

            with httpx2.Client(event_hooks={"request": [hook]}) as client:
                source = BlockingEventSource(server.url, client=client, reconnection_time=0)
                with source:
                    return list(source)

        with anyio.fail_after(10):
            assert await anyio.to_thread.run_sync(block) == []
        assert len(server.requests) == attempt - 1


async def test_a_source_that_is_closed_between_two_redirects_follows_no_further() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with scripted([redirect], EVENT) as server:

        def block() -> list[MessageEvent]:
            with httpx2.Client(event_hooks={"response": [lambda response: Elsewhere(source)()]}) as client:
                source = BlockingEventSource(server.url, client=client, follow_redirects=True)
                with source:
                    return list(source)

        assert await anyio.to_thread.run_sync(block) == []
        assert len(server.requests) == 1


async def test_a_hook_is_not_told_of_an_opening_after_the_close() -> None:
    opened: list[httpx2.Response] = []
    async with scripted(EVENT) as server:

        def block() -> list[MessageEvent]:
            with BlockingEventSource(server.url, on_open=opened.append) as source:
                return list(source)

        original = BlockingEventSource._send

        def answered(source: BlockingEventSource, *args: Any) -> httpx2.Response:
            response = original(source, *args)
            Elsewhere(source)()
            return response

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlockingEventSource, "_send", answered)
            assert await anyio.to_thread.run_sync(block) == []
    assert opened == []


def lines_until_close(moment: int) -> int:
    """Close a source, on another thread, before the `moment`th line of the client's code that its reader runs.

    Returns:
        How many lines there are.
    """
    asked = closed_at = lines = 0
    house = str(Path(sockets.__file__).parent)

    def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        request.extensions["trace"]("http11.send_request_headers.started", {})  # as httpcore2 does, before it sends
        asked += 1
        return streaming(b"retry: 0\ndata: 1\n\n") if asked < 3 else httpx2.Response(204)

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal closed_at, lines
        if not frame.f_code.co_filename.startswith(house) or frame.f_code.co_name == "_turn":  # which holds a lock
            return None
        if event == "line" and source._client is not None:  # once it is entered
            lines += 1
            if lines == moment:
                Elsewhere(source)()
                closed_at = asked
        return trace

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as client:
        source = BlockingEventSource(URL, client=client, max_reconnection_time=0)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with source:
                received = data_of(list(source))
        finally:
            sys.settrace(before)
        assert source.ready_state is ReadyState.CLOSED
    if lines >= moment:
        assert asked == closed_at, f"asked again after a close before line {moment}"
    else:
        assert received == ["1", "1"]
    return lines


def test_whenever_another_thread_closes_a_source_its_iteration_ends_and_nothing_is_asked() -> None:
    moment = 1
    while moment <= lines_until_close(moment):
        moment += 1
    assert moment > 200


@TWINS
async def test_a_closed_source_asks_no_more_though_its_hook_closed_it(twin: Any) -> None:
    async with scripted([HEAD, PROPER_END], EVENT) as server:
        if twin is EventSource:
            async with EventSource(server.url, reconnection_time=SOON) as source, anyio.create_task_group() as tasks:
                source._on_reconnect = lambda delay, error: tasks.start_soon(source.aclose)
                assert [message async for message in source] == []
        else:

            def block() -> None:
                with BlockingEventSource(server.url, reconnection_time=60.0) as source:
                    source._on_reconnect = lambda delay, error: source.close()
                    assert list(source) == []

            with anyio.fail_after(10):
                await anyio.to_thread.run_sync(block)
        await until(lambda: len(server.requests) == 1)
