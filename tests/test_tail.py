"""`h3ref tail`: what it prints, and how it ends; as a process where that makes a difference."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from h3ref import MessageEvent
from h3ref.cli.main import main
from h3ref.cli.tail import line, ndjson
from tests.processes import IN_FOREGROUND

EVENTS = b'retry: 20\nid: 1\ndata: one\n\nevent: note\ndata: {"a":\ndata: 1}\n\n'
TAIL = [sys.executable, "-m", "h3ref", "tail"]


class Handler(BaseHTTPRequestHandler):
    """Answers by path; a stream ends at the connection's end, but /endless doesn't end."""

    requests: list[dict[str, Any]]
    release: threading.Event

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.requests.append({"method": self.command, "body": body, **{k.lower(): v for k, v in self.headers.items()}})
        if self.path.startswith("/to:"):
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{self.connection.getsockname()[1]}/there")
            self.end_headers()
            return
        if self.path == "/refused":
            self.send_error(403)
            return
        if self.path == "/resumable" and "Last-Event-ID" in self.headers:
            self.send_response(204)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path == "/page" else "text/event-stream")
        self.end_headers()
        self.wfile.write(EVENTS)
        if self.path == "/endless":
            self.release.wait(20)

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Serving:
    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.requests = Handler.requests


@pytest.fixture
def server() -> Iterator[Serving]:
    Handler.requests = []
    Handler.release = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Serving(server)
        finally:
            Handler.release.set()
            server.shutdown()
            thread.join()


def tail_as_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TAIL, *arguments], capture_output=True, text=True, timeout=30, check=False, encoding="utf-8"
    )


def tail(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same without the process, which takes a hundred times as long to start."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            status: Any = main(["tail", *arguments])
        except SystemExit as ended:
            status = ended.code
    return subprocess.CompletedProcess([*TAIL, *arguments], status, out.getvalue(), errors.getvalue())


@contextmanager
def tailing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*TAIL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=IN_FOREGROUND,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


LINES = ["message\t1\tone", 'note\t1\t"{\\"a\\":\\n1}"']


@pytest.mark.parametrize("run", [tail, tail_as_a_process])
def test_an_event_is_a_line(server: Serving, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = run(server.url + "/", "--no-reconnect")
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == LINES
    assert ended.stderr.splitlines() == [f"h3ref: connected to {server.url}/", "h3ref: the stream ended"]


def test_ndjson(server: Serving) -> None:
    ended = tail(server.url + "/", "--no-reconnect", "--ndjson", "-q")
    assert [json.loads(text) for text in ended.stdout.splitlines()] == [
        {"type": "message", "data": "one", "lastEventId": "1"},
        {"type": "note", "data": '{"a":\n1}', "lastEventId": "1"},
    ]
    assert ended.stderr == ""


def test_it_reconnects_until_the_server_says_204(server: Serving) -> None:
    ended = tail(server.url + "/resumable")
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == LINES
    assert ended.stderr.splitlines()[1] == "h3ref: the stream ended; reconnecting in 0.0 s"
    assert [request.get("last-event-id") for request in server.requests] == [None, "1"]


def test_max(server: Serving) -> None:
    ended = tail(server.url + "/", "--max", "5")
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [*LINES, *LINES, LINES[0]]


def test_a_body_makes_it_a_post_that_is_sent_once(server: Serving) -> None:
    ended = tail(server.url + "/", "-d", '{"prompt": "é"}', "-H", "Authorization: Bearer a:b", "-H", "x-a:1")
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == LINES
    (request,) = server.requests
    assert request["method"] == "POST"
    assert json.loads(request["body"]) == {"prompt": "é"}
    assert (request["authorization"], request["x-a"]) == ("Bearer a:b", "1")


def test_method_and_last_event_id(server: Serving) -> None:
    assert tail(server.url + "/", "-X", "put", "-d", "[]", "--last-event-id", "é").returncode == 0
    (request,) = server.requests
    assert request["method"] == "PUT"
    assert request["last-event-id"].encode("latin-1").decode() == "é"


def test_a_redirect_to_another_origin_leaves_headers_behind_and_a_body_is_a_refusal(server: Serving) -> None:
    assert tail(server.url + "/to:localhost", "-H", "Authorization: Bearer secret", "--no-reconnect").returncode == 0
    first, second = server.requests
    assert first["authorization"] == "Bearer secret"
    assert second["host"].startswith("localhost")
    assert "secret" not in str(second)
    ended = tail(server.url + "/to:localhost", "-d", '"secret"')
    assert ended.returncode == 1
    assert "another origin" in ended.stderr
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("path", "text", "run"),
    [
        ("/refused", "403 Forbidden", tail),
        ("/page", "text/html", tail),
        ("/page", "text/html", tail_as_a_process),
    ],
)
def test_a_refusal_is_one_line_and_status_1(
    server: Serving, path: str, text: str, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    ended = run(server.url + path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (only,) = ended.stderr.splitlines()
    assert only.startswith("h3ref: ")
    assert text in only


def test_a_failed_connection_is_one_line_and_status_1() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_port
    ended = tail(f"http://127.0.0.1:{port}/")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "ConnectError" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["not-a-url"],
        ["ftp://127.0.0.1/"],
        ["http://127.0.0.1:1/", "-H", "no colon"],
        ["http://127.0.0.1:1/", "-H", "a b: c"],
        ["http://127.0.0.1:1/", "-H", "a: é"],
        ["http://127.0.0.1:1/", "-H", "a: b\nc: d"],
        ["http://127.0.0.1:1/", "-d", "{"],
        ["http://127.0.0.1:1/", "-X", "GET", "-d", "{}"],
        ["http://127.0.0.1:1/", "--max", "0"],
        ["http://127.0.0.1:1/", "--heartbeat", "0"],
        ["http://127.0.0.1:1/", "--heartbeat", "1e300"],
        ["http://127.0.0.1:99999/"],
        ["http://[::1"],
        ["http://a..b/"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str]) -> None:
    ended = tail(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1


def test_a_header_that_would_be_two_is_refused_by_name_before_anything_is_asked() -> None:
    ended = tail("http://127.0.0.1:1/", "-H", "a: b\r\nc: d")
    assert ended.returncode == 2
    said = "h3ref: argument -H/--header: a header's value is printable text, which that of a is not"
    assert ended.stderr.startswith(said), ended.stderr
    assert "c: d" not in ended.stderr, "what a value says may be a secret"


def test_ctrl_c_ends_it_quietly_with_130_and_lines_come_at_once(server: Serving) -> None:
    with tailing(server.url + "/endless") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert [process.stdout.readline().rstrip("\n") for _ in LINES] == LINES
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read().splitlines() == [f"h3ref: connected to {server.url}/endless"]


def test_ctrl_c_ends_a_wait_for_a_reconnection(server: Serving) -> None:
    with tailing(server.url + "/", "-q") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_ends_it_quietly(server: Serving) -> None:
    with tailing(server.url + "/", "-q") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        os.close(os.dup(process.stdout.fileno()))
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it stands for a full disk")
def test_output_that_has_no_room_ends_it_with_a_line(server: Serving) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*TAIL, server.url + "/endless", "-q"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
        )
    assert (ended.returncode, ended.stderr) == (1, "h3ref: can't write the output: No space left on device\n")


def test_help_says_the_exit_statuses() -> None:
    ended = tail("--help")
    assert ended.returncode == 0
    for status in ("0 ", "1 ", "2 ", "130 "):
        assert f"\n  {status}" in ended.stdout


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (MessageEvent("message", "é 🎉", ""), "message\t-\té 🎉"),
        (MessageEvent("a\tb", "", "\x1b[2J"), '"a\\tb"\t"\\u001b[2J"\t'),
        (MessageEvent("message", "\u202etxt\x9b\x7f", "1"), 'message\t1\t"\\u202etxt\\u009b\\u007f"'),
        (MessageEvent("message", "\U000e0001\n", "1"), 'message\t1\t"\\udb40\\udc01\\n"'),
    ],
)
def test_a_line_does_nothing_to_the_terminal(message: MessageEvent, shown: str) -> None:
    assert line(message) == shown


def test_ndjson_is_one_line_whatever_is_in_it() -> None:
    message = MessageEvent("é", "a\u2028b\n", "\x85")
    text = ndjson(message)
    assert json.loads(text) == {"type": "é", "data": "a\u2028b\n", "lastEventId": "\x85"}
    assert len(text.splitlines()) == 1
