"""The guard in front of the parser: the vectors cut in every way, h11 behind it, and the real server."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from h3ref import H3App, H3Event, Limits, running
from h3ref.adapters.h11_anyio import Server, framing, grammar
from h3ref.adapters.h11_anyio import guard as guard_module
from h3ref.adapters.h11_anyio.guard import Guard
from h3ref.adapters.h11_anyio.refused import Refused
from h3ref.adapters.h11_anyio.wire import HeaderLines
from tests.clients import raw
from tests.test_h11_anyio import answers, says_close
from tests.test_sse import CUTS, Case, Cut, by_one, cases, octets, vectors, whole

CASES = cases("request")
REFUSED = [param for param in CASES if "status" in param.values[0]]
SCANS = ("line_end", "request_line", "field_line", "token")
NEXT = b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n"
LIMITED = ("head_size", "target_size", "headers")
STATUSES = {400, 413, 414, 431, 501, 505}


class RequestLine(NamedTuple):
    """What a request asks for."""

    method: bytes
    target: bytes
    http_version: bytes


class Seen(NamedTuple):
    """A request that has come whole."""

    line: RequestLine
    body: bytes


def read(
    pieces: Iterable[bytes], head_size: int = 65536, target_size: int = 16384, headers: int = 128
) -> tuple[list[Seen], int | None]:
    """The requests that h11 makes of what the guard lets through, as a server reads them, and the refusal's status.

    The guard's own reading of each head is the same: the server asks h11 only for a body, and for a plain answer.
    """
    guard, parser, seen = Guard(head_size, target_size, headers), h11.Connection(h11.SERVER), list[Seen]()
    body = b""
    try:
        for piece in pieces:
            passed = guard.receive(piece)
            while True:
                if passed:
                    parser.receive_data(passed)
                is_head = parser.their_state is h11.IDLE and guard.head is not None
                event = parser.next_event()
                assert is_head == isinstance(event, h11.Request)
                passed = b""
                if isinstance(event, h11.Request):
                    line = RequestLine(event.method, event.target, event.http_version)
                    assert guard.head is not None
                    assert (*line, list(event.headers)) == (*guard.head[:3], as_h11_has(guard.head.fields))
                    body = b""
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    seen.append(Seen(line, body))
                    parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    parser.send(h11.EndOfMessage())
                    if parser.our_state is h11.MUST_CLOSE:
                        return seen, None
                    parser.start_next_cycle()
                    assert parser.trailing_data == (b"", False), "the parser gets nothing ahead of its time"
                    passed = guard.next_request()
                    if not passed:
                        break
                else:
                    break
            guard.check()
    except Refused as refused:
        return seen, refused.error_status_hint
    return seen, None


def as_h11_has(fields: bytes) -> list[tuple[bytes, bytes]]:
    """The headers as we read them; but h11 tells the value of Transfer-Encoding in lower case, not as it came."""
    framing = b"transfer-encoding"
    return [(name, value.lower() if name == framing else value) for name, value in HeaderLines(fields)]


def run(case: Case, cut: Cut | None) -> None:
    chunks = [octets(chunk) for chunk in case["chunks"]]
    limits = {name: case[name] for name in LIMITED if name in case}
    seen, status = read(cut(b"".join(chunks)) if cut else chunks, **limits)
    expected = [
        Seen(
            RequestLine(*(one[part].encode() for part in ("method", "target", "http_version"))),
            octets(one.get("body", "")),
        )
        for one in case["requests"]
    ]
    assert (seen, status) == (expected, case.get("status"))


# -- the vectors, each a rule


@pytest.mark.parametrize("case", CASES)
def test_request_vector(case: Case) -> None:
    for cut in (None, whole, by_one):  # as written first
        run(case, cut)


@settings(max_examples=1000)
@given(case=st.sampled_from([param.values[0] for param in CASES]), cut=CUTS)
def test_request_vectors_at_random_cuts(case: Case, cut: Cut) -> None:
    run(case, cut)


def test_the_vectors_have_the_shape_that_the_readme_describes() -> None:
    for theme, file in vectors("request").items():
        assert file.keys() == {"format", "kind", "about", "cases"}, theme
        assert (file["format"], file["kind"]) == (1, "request"), theme
        names = [case["name"] for case in file["cases"]]
        assert len(set(names)) == len(names) > 0, theme
        for case in file["cases"]:
            assert {"name", "chunks", "requests"} <= case.keys(), case["name"]
            assert case.keys() <= {"name", "chunks", "requests", "status", *LIMITED}, case["name"]
            assert case.get("status", 400) in STATUSES
            for request in case["requests"]:
                assert {"method", "target", "http_version"} <= request.keys()
                assert request.keys() <= {"method", "target", "http_version", "body"}
    assert {param.values[0]["status"] for param in REFUSED} == STATUSES
    assert len(CASES) >= 200


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_a_rule_and_nothing_that_the_client_sent(case: Case) -> None:
    refused = refusal(case)
    assert re.fullmatch(r"[A-Za-z0-9/.,' -]{10,100}", str(refused))
    assert any(f'"{refused}"' in Path(str(module.__file__)).read_text() for module in (guard_module, framing))


def refusal(case: Case) -> Refused:
    """What the guard raises, sooner or later."""
    guard = Guard(case.get("head_size", 65536), case.get("target_size", 16384), case.get("headers", 128))
    try:
        passed = guard.receive(b"".join(map(octets, case["chunks"])))
        while passed:
            guard.check()
            passed = guard.next_request()
    except Refused as refused:
        return refused
    raise AssertionError("it was not refused")


# -- after a refusal, and ahead of its time


def test_after_a_refused_body_nothing_comes_out_or_is_kept() -> None:
    guard = Guard(65536, 16384, 128)
    head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert guard.receive(head + b"1\r\na\r\nxyz\r\n" + NEXT).startswith(head + b"1\r\na\r\n")
    for _ in range(2):
        with pytest.raises(Refused, match="a chunk begins with its size"):
            guard.check()
        assert guard.receive(NEXT * 100) == b""
        assert not guard._held
    guard = Guard(65536, 16384, 128)
    guard.receive(NEXT + head + b"xyz\r\n" + NEXT)
    assert guard.next_request().startswith(head)
    assert not guard._held


def test_what_is_sent_ahead_is_held_until_its_turn() -> None:
    guard = Guard(65536, 16384, 128)
    first = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n"
    assert guard.receive(first) == first
    assert guard.receive(b"abc" + NEXT[:10]) == b"abc"
    assert guard.receive(NEXT[10:] + NEXT) == b""
    assert guard.next_request() == NEXT
    assert guard.next_request() == NEXT
    assert guard.next_request() == b""
    assert guard.head is None


def test_what_has_come_of_a_body_reaches_the_parser_as_one_chunk_however_small_its_own_are() -> None:
    """A parser takes as long for a chunk of one byte as for thousands of bytes, and the client has the choice."""
    guard = Guard(65536, 16384, 128)
    head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = head + b'1;a="b"\r\na\r\n' * 10_000 + b"2\r\nb"
    assert guard.receive(sent) == head + b"2711\r\n" + b"a" * 10_000 + b"b\r\n"
    assert guard.receive(b"c\r\n00") == b"1\r\nc\r\n"
    assert guard.receive(b"0\r\nX: y\r\n") == b"0\r\nX: y\r\n"
    assert guard.receive(b"\r\n" + NEXT) == b"\r\n"
    assert guard.next_request() == NEXT


def test_a_whole_request_is_passed_on_as_it_is() -> None:
    for request in (NEXT, b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"):
        assert Guard(65536, 16384, 128).receive(request) is request


class Counting:
    """A pattern's method that counts the bytes it is given to look through."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.bytes = 0

    def __call__(self, data: bytes, start: int = 0, end: int | None = None) -> Any:
        self.bytes += (len(data) if end is None else end) - start
        return self.call(data, start) if end is None else self.call(data, start, end)


PATTERNS = {
    name: found
    for name, value in [*vars(grammar).items(), ("head_matcher", grammar.head_matcher(128))]
    if isinstance(found := getattr(value, "__self__", value), re.Pattern)
}


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_repeats_a_group_possessively_since_not_every_python_can(name: str) -> None:
    parser: Any = importlib.import_module("re._parser")
    parsed = parser.parse(PATTERNS[name].pattern, PATTERNS[name].flags)
    assert [group for group in possessive(parsed) if len(group) != 1 or str(group[0][0]) not in SETS] == []


SETS = ("IN", "LITERAL", "NOT_LITERAL", "ANY")


def possessive(parsed: Any) -> Iterator[Any]:
    """What a parsed pattern repeats without going back, at any depth."""
    if isinstance(parsed, tuple) and str(parsed[0]) in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"):
        yield parsed[1][-1] if isinstance(parsed[1], tuple) else parsed[1]
    if not isinstance(parsed, (str, bytes, int)) and parsed is not None:
        for part in parsed:
            yield from possessive(part)


@pytest.mark.parametrize(
    ("begin", "part", "end"),
    [
        (b"GET / HTTP/1.1\r\nHost: ", b"%41", b"@\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: ", b"%", b"\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: test\r\n", b"X:\r\n", b"X\r\n\r\n"),
    ],
    ids=["bytes of a host", "percent signs", "headers"],
)
def test_a_large_head_that_fails_at_its_end_is_refused_in_no_time(begin: bytes, part: bytes, end: bytes) -> None:
    """A pattern that went back through all it has seen, byte by byte, would take hours here, and the test's time."""
    guard = Guard(1 << 22, 16384, 1 << 20)
    with pytest.raises(Refused):
        guard.receive(begin + part * 400_000 + end)


@pytest.mark.parametrize("head", ["target", "value", "lines"])
def test_a_head_is_judged_in_a_time_that_grows_with_its_size_alone(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = b"GET / HTTP/1.1\r\nHost: test\r\n"
    sent = {
        "target": b"GET /" + b"x" * 15_000,
        "value": sent + b"X: " + b"x" * 15_000,
        "lines": sent + b"X: 1\r\n" * 2500,
    }[head]
    counters = [Counting(getattr(guard_module, name)) for name in SCANS]
    for name, counter in zip(SCANS, counters, strict=True):
        monkeypatch.setattr(guard_module, name, counter)
    guard = Guard(65536, 16384, 3000)
    for byte in by_one(sent):
        assert guard.receive(byte) == b""
    assert sum(counter.bytes for counter in counters) < 5 * len(sent)


# -- h11 behind the guard, with requests that nobody thought of


def mostly(good: list[str], bad: list[str]) -> st.SearchStrategy[str]:
    """One that is right nineteen times out of twenty, so that whole requests come out right often enough."""
    return st.integers(0, 19).flatmap(lambda number: st.sampled_from(good if number else bad))


METHODS = mostly(["GET", "POST", "X", "x-y"], ["G(T", "", "G T"])
TARGETS = mostly(["/", "/a?b", "*", "http://test/"], ["/\x7f", "/é", "", "/ x", "http:///"])
VERSIONS = mostly(["HTTP/1.1"] * 5 + ["HTTP/1.0"], ["HTTP/2.0", "http/1.1", "HTTP/1.10", ""])
ENDS = mostly(["\r\n"], ["\n", "\r", "\r\r\n", "\n\r", "", "\r\n "])
HOSTS = mostly(["Host: test\r\n", "host:[::1]:80\r\n"], ["", "Host: a b\r\n", "Host: a\r\nHost: a\r\n"])
NAMES = mostly(
    ["X", "Connection", "Expect", "Upgrade", "Accept"], ["Host", "Content-Length", "X Y", "X ", " X", "", "X:Y"]
)
BLANKS = mostly([" ", ""], ["\t", "  "])
VALUES = mostly(["a:1", "close", "keep-alive", "100-continue", "h2c", "é", ""], ["a\x01b", "\x00", "\x7f"])
CODED = mostly(
    ["Transfer-Encoding: chunked", "transfer-encoding:Chunked "],
    ["Transfer-Encoding: gzip", "Transfer-Encoding : chunked"],
)
SIZED = mostly(
    ["Content-Length: 3", "content-length:03"], ["Content-Length: 3, 3", "Content-Length: +3", "Content-Length:"]
)
CHUNKS = mostly(
    ["3\r\nabc\r\n0\r\n\r\n", "3;a=b\r\nabc\r\n0\r\nX: 1\r\n\r\n", "0\r\n\r\n", "0\r\nContent-Length: a\r\n\r\n"],
    ["0\n\r\n", "xyz\r\n", "3\r\nabcd", "3\r\nab", ""],
)
BODIES = mostly(["abc"], ["", "ab", "abcd"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, or something like it."""
    text = " ".join(map(draw, (METHODS, TARGETS, VERSIONS))) + draw(ENDS) + draw(HOSTS)
    for _ in range(draw(st.integers(0, 3))):
        text += draw(NAMES) + ":" + draw(BLANKS) + draw(VALUES) + draw(ENDS)
    kind = draw(st.sampled_from(["none", "sized", "coded"] * 6 + ["both"]))
    if kind in ("sized", "both"):
        text += draw(SIZED) + draw(ENDS)
    if kind in ("coded", "both"):
        text += draw(CODED) + draw(ENDS)
    body = "" if kind == "none" else draw(BODIES) if kind == "sized" else draw(CHUNKS)
    return (text + draw(ENDS) + body).encode("latin-1")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request that the vectors have, with bytes changed, lost or doubled."""
    case: Any = draw(st.sampled_from(CASES)).values[0]
    data = bytearray(b"".join(map(octets, case["chunks"]))[:3000])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        new = draw(
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b" ", b":", b"\0", b"\x80", b";", b"0", b"a", bytes(data[at : at + 9])]
            )
        )
        data[at : at + draw(st.integers(0, 2))] = new
    return bytes(data)


@settings(max_examples=600)
@given(sent=st.lists(st.one_of(requests(), damaged()), min_size=1, max_size=3).map(b"".join), cut=CUTS)
@example(sent=b"\r\n\r\n", cut=by_one)
@example(sent=b"", cut=whole)
def test_what_passes_h11_reads_or_refuses_and_every_cut_comes_to_the_same(sent: bytes, cut: Cut) -> None:
    outcome = read_strictly([sent])
    assert read_strictly(cut(sent)) == outcome
    assert outcome[1] is None or outcome[1] in STATUSES


def read_strictly(pieces: Iterable[bytes]) -> tuple[list[Seen], int | None]:
    """As `read`; a refusal of a body by h11 is one like any other, with a status that a client may get."""
    try:
        return read(pieces)
    except h11.RemoteProtocolError as error:
        return [], error.error_status_hint


@settings(max_examples=300)
@given(sent=requests())
def test_what_passes_means_the_same_to_a_reader_that_takes_nothing_on_trust(sent: bytes) -> None:
    what_passes_is_plain(sent)


def what_passes_is_plain(sent: bytes) -> None:
    """Where the guard lets a head pass, splitting it in the plainest way gives what h11 has read."""
    guard = Guard(65536, 16384, 128)
    try:
        passed = guard.receive(sent)
    except Refused:
        return
    if not passed:
        return
    head, end, _ = passed.partition(b"\r\n\r\n")
    assert end
    lines = head.split(b"\r\n")
    assert not any(byte in line for line in lines for byte in b"\r\n\0")
    method, target, version = lines[0].split(b" ")
    assert guard.head is not None
    assert guard.head[:3] == (method, target, version.removeprefix(b"HTTP/"))
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    assert all(name and name == name.strip() for name in names)
    assert names.count(b"host") <= 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1


# -- through the server


def make_app() -> tuple[H3App, list[str]]:
    app, served = H3App(), list[str]()

    @app.post("/")
    @app.get("/*")
    async def handler(event: H3Event) -> None:
        served.append(event.target)
        event.send_bytes(await event.read_body())

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        served.append(event.target)
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await writer.send_event("1")
            await anyio.sleep(0.05)  # time in which what was sent ahead could become a request
            await writer.send_event("2")

    return app, served


class Served(NamedTuple):
    """A server, and the targets of the requests that its handlers have had."""

    server: Server
    targets: list[str]


@pytest.fixture
async def site() -> AsyncIterator[Served]:
    app, served = make_app()
    async with running(app, limits=Limits(head_size=8000, target_size=1000, body_size=1000)) as server:
        yield Served(server, served)


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.anyio
@pytest.mark.parametrize("case", [param for param in REFUSED if not param.values[0].keys() & set(LIMITED)])
async def test_a_refused_request_is_answered_and_nothing_after_it_is_served(
    case: Case, site: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "h3ref")
    sent = b"".join(map(octets, case["chunks"]))
    data = await raw(site.server.port, sent + SMUGGLED)
    *before, (status, text) = answers(data)
    assert [status for status, _ in before] == [200] * len(case["requests"])
    assert status == case["status"]
    assert re.search(rb"^[A-Z][A-Za-z -]+: [a-zA-Z]", text)
    assert says_close(data[data.rindex(b"HTTP/1.1 %d " % status) :])
    assert "/smuggled" not in site.targets
    assert not caplog.records


@pytest.mark.anyio
@pytest.mark.parametrize("case", [param for param in REFUSED if param.values[0].keys() & set(LIMITED)])
async def test_a_request_past_a_limit_of_its_own_is_answered_as_the_vector_says(case: Case) -> None:
    app, served = make_app()
    limits = Limits(**{name: case[name] for name in LIMITED if name in case})
    sent = b"".join(map(octets, case["chunks"]))
    async with running(app, limits=limits) as server:
        data = await raw(server.port, sent + SMUGGLED)
        refused = server.stats().refused
    assert [status for status, _ in answers(data)] == [case["status"]]
    assert says_close(data)
    assert "/smuggled" not in served
    # "headers" and "head_size" have one status.
    assert set(refused) <= {400: set(), 414: {"target_size"}, 431: {"head_size", "headers"}}[case["status"]]
    assert sum(refused.values()) == (case["status"] != 400)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"x" * 1000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: x\r\n" * 128 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, 413),
        (
            b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000,
            413,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: x\r\n" * 2000 + b"\r\n",
            431,
        ),
    ],
    ids=["target", "head", "headers", "body", "chunks", "trailers"],
)
async def test_what_is_too_large_is_refused_and_nothing_after_it_is_served(
    request_bytes: bytes, status: int, site: Served
) -> None:
    data = await raw(site.server.port, request_bytes + SMUGGLED)
    assert [status for status, _ in answers(data)] == [status]
    assert says_close(data)
    assert "/smuggled" not in site.targets


@pytest.mark.anyio
async def test_pipelined_requests_are_answered_in_order_however_they_are_cut(site: Served) -> None:
    requests = [f"GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for number in range(20)]
    requests.insert(7, b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    requests.insert(9, b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 40\r\n\r\n" + SMUGGLED.ljust(40))
    last = b"GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    sent = b"".join(requests) + last
    for size in (len(sent), 1, 7, 50):
        site.targets.clear()
        async with await anyio.connect_tcp("127.0.0.1", site.server.port) as stream:
            for at in range(0, len(sent), size):
                await stream.send(sent[at : at + size])
            received = b""
            with anyio.fail_after(10):
                async for data in stream:
                    received += data
        bodies = [body for _, body in answers(received)]
        assert len(bodies) == 23
        assert (bodies[7], bodies[9]) == (b"abc", SMUGGLED.ljust(40))
        expected = [f"/{number}" for number in range(20)]
        assert [target for target in site.targets if target != "/"] == [*expected, "/last"]


@pytest.mark.anyio
@pytest.mark.parametrize("ahead", [True, False], ids=["with the request", "during the stream"])
async def test_what_is_sent_after_a_streams_request_is_no_request(ahead: bool, site: Served) -> None:
    request = b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n"
    async with await anyio.connect_tcp("127.0.0.1", site.server.port) as stream:
        await stream.send(request + SMUGGLED if ahead else request)
        received = b""
        with anyio.fail_after(10):
            async for data in stream:
                if not received and not ahead:
                    await stream.send(SMUGGLED * 3)
                received += data
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.endswith(b"data: 2\n\n\r\n0\r\n\r\n")
    assert site.targets == ["/stream"]


@pytest.mark.anyio
async def test_a_refused_pipelined_request_does_not_cost_the_answers_before_it(site: Served) -> None:
    data = await raw(site.server.port, NEXT + NEXT + b"GET / HTTP/1.1\nHost: test\n\n" + SMUGGLED)
    assert [status for status, _ in answers(data)] == [200, 200, 400]
    assert site.targets == ["/next", "/next"]
