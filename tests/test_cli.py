"""The command line: exit statuses, one line for what went wrong, and a server that ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

import h3ref
from h3ref.cli import main as cli
from h3ref.cli import serve
from h3ref.cli.shared import EXIT_STATUSES, USAGE
from h3ref.trace import Record

APP = """
from h3ref import H3App

app = H3App()
other = H3App()
number = 3
nothing = None


@app.get("/")
def hello(event):
    event.send_text("hello")


@app.get("/events")
def events(event):
    event.start_sse()
    event.set_stream_callback(forever)


async def forever(writer):
    import anyio

    await writer.send_event("1")
    await anyio.sleep_forever()


@app.get("/raises")
def raises(event):
    raise RuntimeError("on purpose")
"""

MODULES = {
    "good.py": APP,
    "needs.py": "import redis_that_is_not_there\n",
    "names.py": "\nfrom json import nothing_like_it\n",
    "raises.py": "x = 1\n\n1 / 0\n",
    "syntax.py": "x = (\n",
    "deep.py": "import json\njson.loads('{')\n",
    "leaves.py": "import sys\nsys.exit(3)\n",
    "lines.py": "raise ValueError('one\\ntwo')\n",
    "silent.py": "raise NotImplementedError\n",
    "without.py": "x = 1\n",
    "package/__init__.py": "import sibling_that_is_not_there\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def environment() -> dict[str, str]:
    path = [str(Path(h3ref.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "h3ref", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder, for commands that run in this process; what they import from it is forgotten after them."""
    known = set(sys.modules)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(serve, "log_to_stderr", lambda level: None)  # the root logger is the tests' own
    yield folder
    for name in sys.modules.keys() - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process, and return its exit status and what it printed: a process costs half a second."""
    try:
        status = cli.main(arguments)
    except SystemExit as exit:
        status = int(exit.code or 0)
    out, errors = capsys.readouterr()
    return status, out, errors


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that has said where it serves, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "h3ref", "serve", *arguments, "--port", "0"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("h3ref serves on http://127.0.0.1:"), line
        yield process, int(line.split(":")[2].split()[0])
    finally:
        process.kill()
        process.communicate()


def ask(port: int, path: str, *, until: bytes) -> socket.socket:
    """Send a request, and return its socket once the answer holds some bytes."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    read(sock, until)
    return sock


def read(sock: socket.socket, until: bytes) -> bytes:
    received = b""
    while until not in received:
        data = sock.recv(4096)
        assert data, received
        received += data
    return received


def answer(port: int, path: str, *, until: bytes) -> bytes:
    """Send a request, and return its answer as far as it has come when it holds some bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return read(sock, until)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "the following arguments are required: COMMAND (h3ref --help says more)"),
        ("sing", "argument COMMAND: invalid choice: 'sing'"),
        ("serve", "the following arguments are required: MODULE:APP (h3ref serve --help says more)"),
        ("serve good", "an app is named MODULE:APP, such as h3ref.examples.counter:app, not 'good'"),
        ("serve good:", "an app is named MODULE:APP"),
        ("serve :app", "an app is named MODULE:APP"),
        ("serve good.py:app", "good.py is not a module's name: write it as in an import"),
        ("serve ./good:app", "./good is not a module's name"),
        ("serve nowhere:app", "there is no module nowhere, neither here in "),
        ("serve good.part:app", "there is no module good.part, neither here in "),
        ("serve needs:app", "importing needs failed: No module named 'redis_that_is_not_there' (needs.py:1)"),
        (
            "serve package.part:app",
            "importing package.part failed: No module named 'sibling_that_is_not_there' (package",
        ),
        ("serve names:app", "importing names failed: cannot import name 'nothing_like_it' from 'json'"),
        ("serve raises:app", "importing raises raised ZeroDivisionError: division by zero (raises.py:3)"),
        ("serve syntax:app", "importing syntax raised SyntaxError: '(' was never closed (syntax.py:1)"),
        ("serve deep:app", "importing deep raised JSONDecodeError: "),
        ("serve leaves:app", "importing leaves raised SystemExit: 3 (leaves.py:2)"),
        ("serve lines:app", "importing lines raised ValueError: one two (lines.py:1)"),
        ("serve silent:app", "importing silent raised NotImplementedError (silent.py:1)"),
        ("serve good:nobody", "module good has no nobody; its apps are: app, other"),
        ("serve without:app", "module without has no app; it has no H3App"),
        ("serve good:number", "good:number is not an H3App, but of type int; its apps are: app, other"),
        ("serve good:nothing", "good:nothing is not an H3App, but of type NoneType"),
        ("serve good:app.deeper", "module good has no app.deeper"),
        ("serve good:app --port 70000", "argument --port: a port is a number from 0 to 65535, not '70000'"),
        ("serve good:app --port -1", "argument --port: "),
        ("serve good:app --backend curio", "argument --backend: invalid choice: 'curio'"),
        ("serve good:app --flow callback", "argument --flow: only broken can be chosen for a whole server"),
        ("serve good:app --flush-gap nan", "argument --flush-gap: seconds must be a number, 0 or more, not 'nan'"),
        ("serve good:app --grace soon", "argument --grace: seconds must be a number, 0 or more, not 'soon'"),
        ("tail", "the following arguments are required: URL (h3ref tail --help says more)"),
        ("demo --port 65536", "argument --port: a port is a number from 0 to 65535, not '65536'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    here: Path, arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, errors = called(capsys, *arguments.split())
    assert (status, out, errors.count("\n")) == (2, "", 1), errors
    assert errors.startswith(f"h3ref: {said}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sing", "argument COMMAND: invalid choice: 'sing'"),
        ("serve needs:app", "importing needs failed: No module named 'redis_that_is_not_there' (needs.py:1)"),
    ],
)
def test_wrong_usage_is_also_the_status_of_the_process(folder: Path, arguments: str, said: str) -> None:
    result = run(folder, *arguments.split())
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert result.stderr.startswith(f"h3ref: {said}")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_taken_port_is_status_1(folder: Path, backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(folder, "serve", "good:app", "--port", str(port), "--backend", backend)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"h3ref: port {port} on 127.0.0.1 is taken; choose another, or 0 for a free one\n"


@pytest.mark.parametrize("arguments", ["--host nowhere.invalid", "--trace nowhere/steps.ndjson"])
def test_what_fails_while_running_is_status_1(folder: Path, arguments: str) -> None:
    result = run(folder, "serve", "good:app", *arguments.split())
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("h3ref: can't ")


def test_a_missing_trio_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["serve", "good:app", "--backend", "trio"]) == USAGE
    assert capsys.readouterr().err == "h3ref: the backend trio is not installed: pip install trio\n"


@pytest.mark.parametrize("arguments", ["--help", "demo --help"])
def test_help_tells_the_exit_statuses(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, errors = called(capsys, *arguments.split())
    assert (status, errors) == (0, "")
    assert " ".join(EXIT_STATUSES.split()) in " ".join(out.split())


COMMANDS = ("", "bench", "check", "demo", "diagram", "serve", "tail", "trace")


def test_these_are_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = called(capsys, "--help")
    assert tuple(re.findall(r"^    (\w+) ", out, re.MULTILINE)) == COMMANDS[1:]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_of_a_help_is_wider_than_the_terminal_and_no_word_is_broken(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*command.split(), "--help"]
    monkeypatch.setenv("COLUMNS", "1000")
    _, unbroken, _ = called(capsys, *arguments)
    monkeypatch.setenv("COLUMNS", str(columns))
    status, out, errors = called(capsys, *arguments)
    assert (status, errors) == (0, "")
    assert max(map(len, out.splitlines())) <= columns
    assert [word for word in out.split() if word != "\\"] == unbroken.split()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_paragraph_of_a_help_is_filled_to_the_width(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = called(capsys, "check", "--help")
    paragraph = re.findall(r"^  With --contract.*?\n\n", out, re.DOTALL | re.MULTILINE)[0].strip("\n").split("\n")
    for line, following in pairwise(paragraph):
        assert len(line) + 1 + len(following.split()[0]) > columns - 2  # argparse leaves two columns


def test_a_long_command_of_a_help_goes_on_after_a_backslash(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = called(capsys, "tail", "--help")
    assert "/chat -d '{\"prompt\": \"hi\"}' \\\n      -H 'Authorization: Bearer abc'\n" in out


def test_the_help_of_serve_tells_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    status, out, errors = called(capsys, "serve", "--help")
    assert (status, errors) == (0, "")
    assert "  1    the port is taken, the app's lifespan failed, or no worker is left\n" in out
    assert "  2    wrong usage, or MODULE:APP does not exist or is not an app\n" in out


def test_a_reader_who_has_enough_is_no_failure(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "h3ref", "demo", "--once", "--port", "0"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (0, "")


def test_version(folder: Path) -> None:
    result = run(folder, "--version")
    assert result.returncode == 0
    assert result.stdout.startswith("h3ref ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_serve_answers_and_ends_with_status_0(folder: Path, number: signal.Signals, backend: str) -> None:
    with started(folder, "good:app", "--backend", backend, "--grace", "600") as (process, port):
        ask(port, "/", until=b"\r\n\r\nhello").close()
        with ask(port, "/events", until=b"data: 1\n\n") as stream:
            process.send_signal(number)
            out, errors = process.communicate(timeout=30)
            assert stream.recv(100).endswith(b"0\r\n\r\n")
    assert process.returncode == 0
    first, *others = errors.splitlines()
    assert out == ""
    assert first.startswith('info: 127.0.0.1 "GET /" 200 responded, 0 events, ')
    assert others[0] == f"info: {number.name}: shutting down"
    assert [line.partition(", ")[0] for line in others[1:]] == ['info: 127.0.0.1 "GET /events" 200 shutdown']


def test_serve_loads_nothing_that_it_does_not_need(folder: Path) -> None:
    (folder / "asked.py").write_text(
        "import sys\n"
        "from h3ref import H3App\n"
        "app = H3App()\n"
        "@app.get('/')\n"
        "def loaded(event):\n"
        "    event.send_text(' '.join(sorted(sys.modules)) + ' end')\n"
    )
    with started(folder, "asked:app", "--trace", "steps.ndjson") as (_, port):
        loaded = answer(port, "/", until=b" end").decode().split()
    assert {"h3ref.cli.serve", "h3ref.adapters.h11_anyio"} <= set(loaded)
    others = ("h3ref.lab", "h3ref.client", "h3ref.testing", "httpx2", "matplotlib", "IPython", "rich", "trio")
    assert [name for name in loaded if name.startswith(others)] == []


def test_serve_without_the_access_log(folder: Path) -> None:
    with started(folder, "good:app", "--no-access-log") as (process, port):
        ask(port, "/", until=b"\r\n\r\nhello").close()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("", "info: SIGTERM: shutting down\n")


def test_serve_logs_to_stderr(folder: Path) -> None:
    with started(folder, "good:app", "--log-level", "error") as (process, port):
        ask(port, "/raises", until=b"Internal Server Error").close()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    first, *_, last = errors.splitlines()
    assert first.startswith("error: ")
    assert last == "RuntimeError: on purpose"


def test_serve_in_the_broken_order_logs_the_evidence(folder: Path) -> None:
    with started(folder, "h3ref.examples.callback:app", "--flow", "broken", "--log-level", "debug") as (process, port):
        ask(port, "/broken", until=b"Connection: keep-alive\r\n\r\n").close()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert errors.splitlines()[:3] == [
        "error: Failed to get SSE writer after 10 attempts",
        "debug: SSE mode detected, setting up streaming connection",
        "debug: SSE headers sent, 124 bytes",
    ]


@pytest.mark.parametrize("name", ["steps.ndjson", "-"])
def test_serve_traces_into_a_file(folder: Path, name: str) -> None:
    with started(folder, "good:app", "--trace", name) as (process, port):
        ask(port, "/", until=b"hello").close()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    text = out if name == "-" else (folder / name).read_text()
    records = [Record.from_json(line) for line in text.splitlines()]
    assert [record.step for record in records] == ["request", "send_response", "returns", "response"]
    assert json.loads(text.splitlines()[0])["detail"] == "GET /"


# trace


@pytest.fixture
def recordings(folder: Path) -> Path:
    """A recording of two exchanges: one that is legal, and one in which the writer is ready before the headers."""
    vectors = json.loads((Path(h3ref.__file__).parents[1] / "spec/vectors/trace/callback.json").read_text())
    lines = [json.dumps(record) for record in vectors["cases"][0]["records"]]
    (folder / "legal.ndjson").write_text("\n".join(lines) + "\n")
    (folder / "open.ndjson").write_text("\n".join(lines[:9]) + "\n")
    (folder / "swapped.ndjson").write_text("\n".join([*lines, *lines[:7], lines[8], lines[7], *lines[9:]]) + "\n")
    (folder / "text.ndjson").write_text("\n".join([*lines[:3], "hello"]) + "\n")
    (folder / "bytes.ndjson").write_bytes(b"\xff")
    (folder / "empty.ndjson").write_text("")
    (folder / "spec.json").write_text('{"format": 1}')
    return folder


def test_trace_says_in_a_line_what_a_legal_recording_has(recordings: Path) -> None:
    ended = run(recordings, "trace", "legal.ndjson", "--whole")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "legal.ndjson: 1 exchange, 20 records: 1 complete\n"


def test_trace_reads_stdin(recordings: Path) -> None:
    text = (recordings / "legal.ndjson").read_text()
    ended = subprocess.run(
        [sys.executable, "-m", "h3ref", "trace", "-"], input=text, cwd=recordings, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "stdin: 1 exchange, 20 records: 1 complete\n"


def test_trace_names_the_first_impossible_record_its_rule_and_what_would_have_been_legal(
    recordings: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, errors = called(capsys, "trace", "swapped.ndjson")
    assert (status, out, errors.count("\n")) == (1, "", 1), errors
    assert errors.startswith("h3ref: swapped.ndjson: line 28: exchange 1, connection_ready: each headers allows one")
    assert "(T-17: " in errors
    assert "; legal here: " in errors
    assert "headers, " in errors.partition("legal here: ")[2]


def test_trace_takes_an_open_exchange_unless_the_recording_is_whole(
    recordings: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = (0, "open.ndjson: 1 exchange, 9 records: 1 still open\n", "")
    assert called(capsys, "trace", "open.ndjson") == taken
    status, _, errors = called(capsys, "trace", "--whole", "open.ndjson")
    assert status == 1
    assert "line 9: exchange 1, connection_ready: the recording ends here, and the exchange is still open" in errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("text.ndjson", "text.ndjson: line 4: not JSON: Expecting value (column 1)"),
        ("bytes.ndjson", "bytes.ndjson: 'utf-8' codec can't decode byte 0xff"),
        ("nowhere.ndjson", "can't read nowhere.ndjson: No such file or directory"),
        ("legal.ndjson --spec nowhere.json", "can't read nowhere.json: No such file or directory"),
        ("legal.ndjson --spec spec.json", "spec.json: it is not a specification of the lifecycle: 'initial'"),
        ("legal.ndjson --spec legal.ndjson", "legal.ndjson: Extra data"),
        ("empty.ndjson", "empty.ndjson: no step was recorded"),
        ("empty.ndjson --whole", "empty.ndjson: no step was recorded"),
        ("", "FILE"),
    ],
)
def test_trace_ends_with_2_when_something_cant_be_read_or_is_empty(
    recordings: Path, here: Path, arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, errors = called(capsys, "trace", *arguments.split())
    assert (status, out, errors.count("\n")) == (2, "", 1), errors
    assert complaint in errors


def test_what_serve_traces_trace_accepts_also_from_several_runs(folder: Path) -> None:
    for _ in range(2):
        with started(folder, "good:app", "--trace", "steps.ndjson") as (process, port):
            ask(port, "/", until=b"hello").close()
            with ask(port, "/events", until=b"data: 1"):
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=30)
    ended = run(folder, "trace", "--whole", "steps.ndjson")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ": 2 responded, 2 shutdown" in ended.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["trace legal.ndjson", "diagram sequence legal.ndjson"])
def test_output_that_nobody_reads_is_no_failure(recordings: Path, command: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = into(writer, recordings, command, unbuffered)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it stands for a full disk")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["trace legal.ndjson", "diagram sequence legal.ndjson"])
def test_output_that_has_no_room_is_told_in_a_line(recordings: Path, command: str, unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = into(full.fileno(), recordings, command, unbuffered)
    assert (ended.returncode, ended.stderr) == (1, "h3ref: can't write the output: No space left on device\n")


def into(stdout: int, folder: Path, command: str, unbuffered: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "h3ref", *command.split()],
        cwd=folder, env={**environment(), "PYTHONUNBUFFERED": unbuffered}, stdout=stdout, stderr=subprocess.PIPE,
        text=True, timeout=30,
    )  # fmt: skip


def test_a_diagram_is_drawn_of_stdin_as_of_a_file_also_with_a_byte_order_mark(recordings: Path) -> None:
    data = b"\xef\xbb\xbf" + (recordings / "legal.ndjson").read_bytes().replace(b"\n", b"\r\n")
    (recordings / "marked.ndjson").write_bytes(data)
    ended = subprocess.run(
        [sys.executable, "-m", "h3ref", "diagram", "sequence", "-"],
        cwd=recordings, env={**environment(), "PYTHONIOENCODING": "latin-1"}, input=data, capture_output=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode() == run(recordings, "diagram", "sequence", "marked.ndjson").stdout
