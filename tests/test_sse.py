"""The event stream format: the vectors, a literal transcription of the standard to compare with, and hard use."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from enum import Enum
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h3ref
from h3ref import BlockingSSEWriter, EventStreamParser, EventTooLarge, H3App, H3Event, MessageEvent, SSEEvent, SSEWriter
from h3ref.sse import DEFAULT_MAX_EVENT_SIZE, MAX_RETRY, fault_of_id
from tests.clients import open_client
from tests.flow_runs import Over

VECTORS_DIR = Path(__file__).resolve().parents[1] / "spec" / "vectors"

Case = dict[str, Any]
Outcome = tuple[list[MessageEvent], str | None, str, int | None]


def vectors(kind: str) -> dict[str, dict[str, Any]]:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((VECTORS_DIR / kind).glob("*.json"))
    }


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{theme}: {case['name']}")
        for theme, file in vectors(kind).items()
        for case in file["cases"]
    ]


ENCODE, PARSE, EXCHANGE = cases("encode"), cases("parse"), cases("exchange")


def octets(value: Any) -> bytes:
    """Bytes as the vectors write them."""
    match value:
        case str():
            return value.encode()
        case {"hex": digits, **rest} if not rest:
            return bytes.fromhex(digits)
        case {"repeat": part, "times": times, **rest} if not rest:
            return octets(part) * int(times)
        case [*parts]:
            return b"".join(map(octets, parts))
    raise ValueError(f"no bytes: {value!r}")


def field(value: Any) -> Any:
    """A field's value as the vectors write it."""
    match value:
        case {"code_points": numbers}:
            return "".join(map(chr, numbers))
        case {"repeat": part, "times": times}:
            return str(part) * int(times)
    return value


def sent(fields: dict[str, Any]) -> SSEEvent:
    return SSEEvent(**{name: field(value) for name, value in fields.items()})


# -- the vectors


@pytest.mark.parametrize("case", ENCODE)
def test_encode_vector(case: Case) -> None:
    if "error" not in case:
        assert sent(case["fields"]).encode() == octets(case["bytes"])
        return
    with pytest.raises({"type": TypeError, "value": ValueError}[case["error"]], match=case["field"]) as caught:
        sent(case["fields"])
    assert not isinstance(caught.value, UnicodeError)


Cut = Callable[[bytes], Iterator[bytes]]


def whole(stream: bytes) -> Iterator[bytes]:
    yield stream


def by_one(stream: bytes) -> Iterator[bytes]:
    for at in range(len(stream)):
        yield stream[at : at + 1]


def cut_at(sizes: Sequence[int]) -> Cut:
    """Pieces of these sizes, over and over."""

    def cut(stream: bytes) -> Iterator[bytes]:
        at = 0
        for size in cycle(sizes):
            if at >= len(stream):
                return
            yield stream[at : at + size]
            at += size

    return cut


CUTS = st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any).map(cut_at)


def received(parser: EventStreamParser, chunks: Iterator[bytes]) -> tuple[list[MessageEvent], str | None]:
    """All that comes out of one connection's stream, and the error's name."""
    messages: list[MessageEvent] = []
    try:
        for chunk in chunks:
            messages += parser.feed(chunk)
        messages += parser.close()
    except EventTooLarge:
        parser.close()
        return messages, "EventTooLarge"
    return messages, None


def run_parse_case(case: Case, cut: Cut | None) -> None:
    limit = case.get("max_event_size", DEFAULT_MAX_EVENT_SIZE)
    parser = EventStreamParser(limit, last_event_id=case.get("starts_from", ""))
    messages: list[MessageEvent] = []
    errors = []
    for connection in ("chunks", "then"):
        if connection in case:
            chunks = [octets(chunk) for chunk in case[connection]]
            more, error = received(parser, cut(b"".join(chunks)) if cut else iter(chunks))
            messages += more
            errors.append(error)
    assert messages == [MessageEvent(**message) for message in case["messages"]]
    assert errors == [case.get("error"), None][: len(errors)]
    assert (parser.last_event_id, parser.retry) == (case["last_event_id"], case["retry"])


@pytest.mark.parametrize("case", PARSE)
def test_parse_vector(case: Case) -> None:
    for cut in (None, whole, by_one):  # as written first
        run_parse_case(case, cut)


@settings(max_examples=1000)
@given(case=st.sampled_from([param.values[0] for param in PARSE]), cut=CUTS)
def test_parse_vectors_at_random_cuts(case: Case, cut: Cut) -> None:
    run_parse_case(case, cut)


def test_the_vectors_have_the_shape_that_the_readme_describes() -> None:
    keys = {
        "encode": ({"name", "fields"}, {"bytes", "error", "field"}),
        "parse": (
            {"name", "chunks", "messages", "last_event_id", "retry"},
            {"max_event_size", "starts_from", "then", "error"},
        ),
        "exchange": (
            {"name", "flow", "steps", "status", "end"},
            {"request", "before", "messages", "last_event_id", "retry", "blocks"},
        ),
    }
    for kind, (required, optional) in keys.items():
        for theme, file in vectors(kind).items():
            assert file.keys() == {"format", "kind", "about", "cases"}, theme
            assert (file["format"], file["kind"]) == (1, kind), theme
            names = [case["name"] for case in file["cases"]]
            assert names, theme
            assert len(set(names)) == len(names), theme
            for case in file["cases"]:
                assert required <= case.keys() <= required | optional, case["name"]
    for case in (param.values[0] for param in ENCODE):
        assert isinstance(case, dict)
        assert ("bytes" in case) != ("error" in case)
        assert ("field" in case) == ("error" in case)
    assert len(ENCODE) + len(PARSE) + len(EXCHANGE) >= 200


# -- the exchange vectors, on every adapter and both event loops


class OnPurposeError(Exception):
    """What a handler of a vector fails with."""


REJECTIONS: dict[str, type[Exception]] = {"value": ValueError, "type": TypeError, "WriterClosed": h3ref.WriterClosed}


def events_of(step: Case, last_event_id: str) -> Iterator[dict[str, Any]]:
    """The fields of each event that a step sends."""
    if "send" in step:
        yield step["send"]
    elif "count" in step:
        count = step["count"]
        first = int(last_event_id) + 1 if last_event_id.isascii() and last_event_id.isdigit() else 0
        for number in range(first, count["to"] + 1):
            yield {"data": str(number), "event": count["event"], "id": str(number)}


def calls(steps: Sequence[Case], event: H3Event) -> Iterator[tuple[Callable[[Any], Any], type[Exception] | None]]:
    """What the steps do with a writer of either kind, and how it is rejected."""
    for step in steps:
        rejection = REJECTIONS[step["error"]] if "error" in step else None
        if "keep_alive" in step:
            yield lambda writer: writer.send_keep_alive(), rejection
        elif "close" in step:
            yield lambda writer: writer.close(), rejection
        elif "fail" in step:
            raise OnPurposeError
        else:
            for fields in events_of(step, event.last_event_id):
                yield sending(fields), rejection


def sending(fields: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda writer: writer.send_event(sent(fields))


def app_of(case: Case) -> H3App:
    app = H3App()
    steps, flow = case["steps"], case["flow"]

    async def take_steps(writer: SSEWriter) -> None:
        for call, rejection in calls(steps, writer.event):
            if rejection is None:
                await call(writer)
            else:
                with pytest.raises(rejection):
                    await call(writer)

    def before(event: H3Event) -> None:
        for word in case.get("before", "").split(", "):
            if word == "fail":
                raise OnPurposeError
            if word == "start_sse":
                event.start_sse()
            elif word == "set_stream_callback":
                event.set_stream_callback(take_steps)
            else:
                assert word == ""

    async def by_callback(event: H3Event) -> None:
        before(event)
        event.start_sse()
        event.set_stream_callback(take_steps)

    async def awaited(event: H3Event) -> None:
        before(event)
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await take_steps(writer)

    def blocking(event: H3Event) -> None:
        before(event)
        writer: BlockingSSEWriter
        with event.start_sse_blocking() as writer:
            for call, rejection in calls(steps, event):
                if rejection is None:
                    call(writer)
                else:
                    with pytest.raises(rejection):
                        call(writer)

    async def over(event: H3Event) -> None:
        before(event)
        event.start_sse()
        event.set_stream_callback(Over().stream)

    async def none(event: H3Event) -> None:
        before(event)

    async def generator(event: H3Event) -> AsyncIterator[SSEEvent]:
        before(event)
        for step in steps:
            if "fail" in step:
                raise OnPurposeError
            assert step.keys() <= {"send", "count"}
            for fields in events_of(step, event.last_event_id):
                yield sent(fields)

    handlers: dict[str, Callable[[H3Event], Awaitable[None] | None]]
    handlers = {"callback": by_callback, "awaited": awaited, "blocking": blocking, "over": over, "none": none}
    if flow == "generator":
        app.sse("/")(generator)
    else:
        app.get("/", handlers[flow])
    return app


@pytest.mark.anyio
@pytest.mark.parametrize("case", EXCHANGE)
async def test_exchange_vector(case: Case, adapter: str) -> None:
    request = {"method": "GET", "headers": {}} | case.get("request", {})
    with anyio.fail_after(10):
        async with open_client(adapter, app_of(case)) as client:
            reply = await client.request(request["method"], "/", headers=request["headers"])
            assert reply.status == case["status"]
            parser = EventStreamParser(last_event_id=request["headers"].get("Last-Event-ID", ""))
            messages: list[MessageEvent] = []
            body = b""
            while chunk := await reply.receive():
                body += chunk
                if reply.status == 200:
                    messages += parser.feed(chunk)
            assert reply.end is not None
            assert reply.end.value == case["end"]
    if case["status"] == 200:
        assert reply.headers["content-type"].partition(";")[0] == "text/event-stream"
        assert messages == [MessageEvent(**message) for message in case["messages"]]
        assert (parser.last_event_id, parser.retry) == (case["last_event_id"], case["retry"])
    if "blocks" in case:
        *blocks, rest = body.split(b"\n\n")
        assert (len(blocks), all(blocks), rest) == (case["blocks"], True, b"")


# -- the standard, transcribed step by step and without a thought for speed


def decoded(data: bytes) -> str:
    """The Encoding Standard's UTF-8 decoder (section 8.1.1) with error mode "replacement"."""
    text: list[str] = []
    code_point = seen = needed = 0
    lower, upper = 0x80, 0xBF
    at = 0
    while at < len(data):
        byte = data[at]
        at += 1
        if not needed:
            if byte <= 0x7F:
                text.append(chr(byte))
            elif 0xC2 <= byte <= 0xDF:
                needed, code_point = 1, byte & 0x1F
            elif 0xE0 <= byte <= 0xEF:
                lower = 0xA0 if byte == 0xE0 else lower
                upper = 0x9F if byte == 0xED else upper
                needed, code_point = 2, byte & 0xF
            elif 0xF0 <= byte <= 0xF4:
                lower = 0x90 if byte == 0xF0 else lower
                upper = 0x8F if byte == 0xF4 else upper
                needed, code_point = 3, byte & 0x7
            else:
                text.append("\ufffd")
            continue
        if not lower <= byte <= upper:
            code_point = seen = needed = 0
            lower, upper = 0x80, 0xBF
            at -= 1  # "restore byte to ioQueue"
            text.append("\ufffd")
            continue
        lower, upper = 0x80, 0xBF
        code_point = code_point << 6 | byte & 0x3F
        seen += 1
        if seen == needed:
            text.append(chr(code_point))
            code_point = seen = needed = 0
    return "".join(text) + ("\ufffd" if needed else "")


def lines_by_the_standard(stream: bytes) -> list[str]:
    """Section 9.2.5 for a whole stream, character by character."""
    text = decoded(stream.removeprefix(b"\xef\xbb\xbf"))
    lines: list[str] = []
    line = ""
    for at, character in enumerate(text):
        if character == "\n" and at and text[at - 1] == "\r":
            continue
        if character in "\r\n":
            lines.append(line)
            line = ""
        else:
            line += character
    return lines


def by_the_standard(stream: bytes) -> Outcome:
    """Section 9.2.6 for a whole stream."""
    messages: list[MessageEvent] = []
    data = event_type = last_event_id_buffer = last_event_id = ""
    retry: int | None = None
    for line in lines_by_the_standard(stream):  # what follows the last line end is pending data, which is discarded
        if line == "":
            last_event_id = last_event_id_buffer
            if data == "":
                event_type = ""
                continue
            if data[-1] == "\n":
                data = data[:-1]
            messages.append(MessageEvent(event_type or "message", data, last_event_id))
            data = event_type = ""
            continue
        if line[0] == ":":
            continue
        name, value = line, ""
        if ":" in line:
            name, value = line[: line.index(":")], line[line.index(":") + 1 :]
            if value[:1] == " ":
                value = value[1:]
        if name == "event":
            event_type = value
        elif name == "data":
            data += value + "\n"
        elif name == "id":
            if "\0" not in value:
                last_event_id_buffer = value
        elif name == "retry" and value and all(character in "0123456789" for character in value):
            value = value.lstrip("0") or "0"  # Python makes no number of thousands of digits
            retry = min(int(value), MAX_RETRY) if len(value) < 20 else MAX_RETRY
    return messages, None, last_event_id, retry


def outcome(stream: bytes, cut: Cut, limit: int = DEFAULT_MAX_EVENT_SIZE) -> Outcome:
    parser = EventStreamParser(limit)
    messages, error = received(parser, cut(stream))
    return messages, error, parser.last_event_id, parser.retry


TOKENS = (
    *(b"data", b"id", b"event", b"retry", b"data: ", b"id: ", b"event: ", b"retry: ", b": "),
    *(b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"1", b"23", b"x", b"\xef\xbb\xbf", b"\xef", b"\xbb"),
    *(b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xe2\x82", b"\xf0\x9f", b"\xff", b"\x80", b"\xed\xa0\x80"),
)
STREAMS = st.lists(st.sampled_from(TOKENS), max_size=40).map(b"".join)


@settings(max_examples=1000)
@given(stream=STREAMS, cut=CUTS)
def test_the_parser_does_what_the_standard_says_however_the_stream_is_cut(stream: bytes, cut: Cut) -> None:
    expected = by_the_standard(stream)
    assert outcome(stream, whole) == expected
    assert outcome(stream, by_one) == expected
    assert outcome(stream, cut) == expected


@settings(max_examples=500)
@given(stream=STREAMS, limit=st.integers(1, 40), cut=CUTS)
def test_the_limit_strikes_at_the_same_place_however_the_stream_is_cut(stream: bytes, limit: int, cut: Cut) -> None:
    expected = outcome(stream, whole, limit)
    assert outcome(stream, by_one, limit) == expected
    assert outcome(stream, cut, limit) == expected
    size = largest_size(stream)
    assert (expected[1] == "EventTooLarge") == (size > limit)
    if size <= limit:
        assert expected == by_the_standard(stream)


def largest_size(stream: bytes) -> int:
    """The most that a block and the line being received ever have, as spec/formats.md defines it."""
    if b"\xef\xbb\xbf".startswith(stream):
        return 0
    lines = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    block = largest = 0
    for line in lines:
        largest = max(largest, block + len(line))
        if not line:
            block = 0
        elif not line.startswith(b":"):
            block += len(line)
    return largest


def heard(stream: bytes, cut: Cut) -> tuple[list[tuple[str, int]], list[MessageEvent]]:
    """Each comment with how many messages came before it, and the messages."""
    comments: list[tuple[str, int]] = []
    messages: list[MessageEvent] = []
    parser = EventStreamParser(comments=lambda text, before: comments.append((text, len(messages) + before)))
    for chunk in cut(stream):
        messages += parser.feed(chunk)
    return comments, messages


@settings(max_examples=500)
@given(stream=STREAMS, cut=CUTS)
def test_comments_are_told_in_their_order_and_change_nothing_however_the_stream_is_cut(stream: bytes, cut: Cut) -> None:
    texts = [line[1:].removeprefix(" ") for line in lines_by_the_standard(stream) if line.startswith(":")]
    expected = heard(stream, whole)
    assert [text for text, _ in expected[0]] == texts
    assert expected[1] == by_the_standard(stream)[0]
    assert heard(stream, by_one) == heard(stream, cut) == expected


@pytest.mark.parametrize("cut", [whole, by_one])
def test_a_comment_is_told_when_its_line_has_ended_and_with_its_place(cut: Cut) -> None:
    assert heard(b":Hello\n", cut) == ([("Hello", 0)], [])
    assert heard(b":\n: \n:  x\n::y\n", cut)[0] == [("", 0), ("", 0), (" x", 0), (":y", 0)]
    assert heard(b": no line end", cut) == ([], [])
    one, two = MessageEvent("message", "1", ""), MessageEvent("message", "2", "")
    stream = b":a\ndata: 1\n:b\n\n:c\ndata: 2\n\n:d\n"
    assert heard(stream, cut) == ([("a", 0), ("b", 0), ("c", 1), ("d", 2)], [one, two])


def test_a_comment_of_ours_is_told_as_it_was_written() -> None:
    event = SSEEvent("1", comment="two\n lines")
    assert [text for text, _ in heard(event.encode(), whole)[0]] == ["two", " lines"]


def test_a_message_has_the_reconnection_time_of_its_own_block() -> None:
    stream = b"retry: 5\n\nretry: 10\nretry: x\ndata: 1\n\ndata: 2\n\ndata: 3\nretry:007\n\nretry: 8\ndata: 4\n"
    parser = EventStreamParser()
    messages = parser.feed(stream)
    assert [message.retry for message in messages] == [10, None, 7]
    assert messages[0] == MessageEvent("message", "1", "") == ("message", "1", "")
    assert repr(messages[:2]) == (
        "[MessageEvent(type='message', data='1', last_event_id='', retry=10), "
        "MessageEvent(type='message', data='2', last_event_id='')]"
    )
    assert messages[0].to_event() == SSEEvent("1")
    other = messages[0]._replace(data="x")
    assert (other, other.retry) == (MessageEvent("message", "x", ""), 10)
    kept = pickle.loads(pickle.dumps(messages))
    assert (kept, [message.retry for message in kept]) == (messages, [10, None, 7])
    parser.close()
    assert [message.retry for message in parser.feed(b"data: 5\n\n")] == [None]
    assert parser.retry == 8


@settings(max_examples=500)
@given(stream=STREAMS, cut=CUTS)
def test_the_reconnection_time_of_a_message_does_not_depend_on_how_the_stream_is_cut(stream: bytes, cut: Cut) -> None:
    expected: list[int | None] = []
    retry = has_data = None
    for line in lines_by_the_standard(stream):
        name, _, value = line.partition(":")
        if not line:
            expected += [retry] if has_data else []
            retry = has_data = None
        elif name == "data":
            has_data = True
        elif name == "retry" and re.fullmatch("[0-9]+", value.removeprefix(" ")):
            retry = min(int(value), MAX_RETRY)
    for any_cut in (whole, by_one, cut):
        parser = EventStreamParser()
        messages, _ = received(parser, any_cut(stream))
        assert [message.retry for message in messages] == expected


def test_without_a_limit_an_event_may_have_any_size() -> None:
    data = "x" * (DEFAULT_MAX_EVENT_SIZE + 1)
    stream = f"data: {data}\n\n".encode()
    with pytest.raises(EventTooLarge):
        EventStreamParser().feed(stream)
    assert EventStreamParser(None).feed(stream) == [MessageEvent("message", data, "")]
    with pytest.raises(ValueError, match="or None for no limit, not 0"):
        EventStreamParser(0)


HARD_BYTES = st.sampled_from([0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF])
LEADS = st.sampled_from([0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFE, 0xFF])


@settings(max_examples=1000)
@given(data=st.lists(st.one_of(HARD_BYTES, LEADS), max_size=12).map(bytes), cut=CUTS)
def test_invalid_utf8_is_replaced_as_the_encoding_standard_says(data: bytes, cut: Cut) -> None:
    expected = [MessageEvent("message", decoded(data), "")]
    stream = b"data: " + data + b"\n\n"
    assert outcome(stream, whole)[0] == outcome(stream, cut)[0] == expected


def test_every_sequence_of_two_bytes_is_decoded_as_the_encoding_standard_says() -> None:
    pairs = [bytes((first, second)) for first in range(0x80, 0x100) for second in range(0x20, 0x100)]
    stream = b"".join(b"data:x" + pair + b"\n\n" for pair in pairs)
    assert [message.data for message in EventStreamParser().feed(stream)] == ["x" + decoded(pair) for pair in pairs]


# -- there and back

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
BREAKS = st.lists(st.one_of(TEXT, st.sampled_from(["\n", "\r", "\r\n", ":", " ", "data: x"]))).map("".join)
LINE = TEXT.map(lambda text: text.replace("\n", "").replace("\r", "").replace("\0", ""))
ID = LINE.map(
    lambda text: "".join(char for char in text if char == "\t" or ord(char) not in {*range(32), 127}).strip(" \t")
)
EVENTS = st.builds(
    lambda data, event, id, retry, comment: SSEEvent(
        data if data is not None or id is not None or retry is not None or comment is not None else "",
        event=event if data is not None else None,
        id=id,
        retry=retry,
        comment=comment,
    ),
    *(
        st.none() | BREAKS,
        st.none() | LINE,
        st.none() | ID,
        st.none() | st.integers(0, MAX_RETRY),
        st.none() | BREAKS,
    ),
)


@settings(max_examples=500)
@given(events=st.lists(EVENTS, max_size=6), cut=CUTS)
def test_what_is_encoded_is_what_is_parsed(events: list[SSEEvent], cut: Cut) -> None:
    expected: list[MessageEvent] = []
    last_event_id, retry = "", None
    for event in events:
        last_event_id = event.id if event.id is not None else last_event_id
        retry = event.retry if event.retry is not None else retry
        if event.data is not None:
            data = event.data.replace("\r\n", "\n").replace("\r", "\n")
            expected.append(MessageEvent(event.event or "message", data, last_event_id))
    stream = b"".join(event.encode() for event in events)
    for any_cut in (whole, by_one, cut):
        assert outcome(stream, any_cut) == (expected, None, last_event_id, retry)


# -- a message that is sent on


def test_a_message_is_sent_on_with_its_type_data_and_id() -> None:
    assert MessageEvent("tick", "a\nb", "7").to_event() == SSEEvent("a\nb", event="tick", id="7")
    assert MessageEvent("message", "", "").to_event() == SSEEvent("")
    assert MessageEvent("", "x", "").to_event().encode() == b"event: \ndata: x\n\n"


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("1\x01", "it holds '\\x01' at 1"),
        ("\x7f", "it holds '\\x7f' at 0"),
        ("a\nb", "one line"),
        ("1 ", "begin nor end"),
        ("\t1", "begin nor end"),
        ("secret" * 11_000, "it has 66000"),
        ("\ud800", "surrogate"),
    ],
)
def test_an_id_that_cant_be_sent_is_left_out_with_one_line_in_the_log(
    id: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert MessageEvent("tick", "x", id).to_event() == SSEEvent("x", event="tick")
    [record] = caplog.records
    assert (record.name, record.levelname) == ("h3ref.sse", "WARNING")
    assert record.getMessage().startswith("a message is passed on without its id, which can't be sent")
    assert said in record.getMessage()
    assert "secret" not in record.getMessage()


def test_a_type_that_cant_be_sent_is_sent_as_no_other_one(caplog: pytest.LogCaptureFixture) -> None:
    [message] = EventStreamParser().feed(b"event: a\0b\nid: 1\ndata: x\n\n")
    assert message.to_event() == SSEEvent("x", event="a\ufffdb", id="1")
    [record] = caplog.records
    assert "NUL" in record.getMessage()


def test_a_message_that_no_parser_makes_is_refused_as_an_event_is() -> None:
    for message in (MessageEvent("a\nb", "x", ""), MessageEvent("message", "\ud800", "")):
        with pytest.raises(ValueError, match=r"one line|surrogate"):
            message.to_event()
    with pytest.raises(TypeError, match=r"json\.dumps"):
        MessageEvent("message", 1, "").to_event()  # type: ignore[arg-type]


FOREIGN = st.lists(
    st.tuples(
        st.sampled_from([b"data: ", b"id: ", b"event: ", b"id:"]),
        st.binary(max_size=12) | st.sampled_from([b"a\x7f", b"\t", b"7 ", b"\0", b"7" * 4097, b"\xc2\x85", b"7"]),
    ),
    max_size=20,
).map(lambda lines: b"".join(name + value + b"\n" + b"\n" * (name == b"data: ") for name, value in lines))


@settings(max_examples=500)
@given(stream=FOREIGN)
def test_whatever_a_server_sends_can_be_sent_on(stream: bytes) -> None:
    parser = EventStreamParser()
    for message in EventStreamParser().feed(stream + b"\n"):
        [again] = parser.feed(message.to_event().encode())
        assert again.type == message.type.replace("\0", "\ufffd")
        assert again.data == message.data
        if message.last_event_id and fault_of_id(message.last_event_id) is None:
            assert again.last_event_id == message.last_event_id


# -- SSEEvent, a value


def test_an_event_shows_its_fields_and_cant_be_changed() -> None:
    event = SSEEvent("d", event="e", id="i", retry=1, comment="c")
    assert (event.data, event.event, event.id, event.retry, event.comment) == ("d", "e", "i", 1, "c")
    assert repr(event) == "SSEEvent('d', event='e', id='i', retry=1, comment='c')"
    assert repr(SSEEvent(id="")) == "SSEEvent(id='')"
    for name in ("data", "event", "id", "retry", "comment", "other"):
        with pytest.raises(AttributeError):
            setattr(event, name, "x")
        with pytest.raises(AttributeError):
            delattr(event, name)


def test_events_are_equal_by_their_fields() -> None:
    assert SSEEvent("a", id="1") == SSEEvent("a", id="1")
    assert SSEEvent("a", id="1") != SSEEvent("a")
    assert SSEEvent("a") != "a"
    assert len({SSEEvent("a"), SSEEvent("a"), SSEEvent("b")}) == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))])
def test_a_copied_or_pickled_event_is_the_same(copied: Callable[[SSEEvent], SSEEvent]) -> None:
    event = SSEEvent("a\nb", event="e", id="i", retry=1, comment="c")
    assert copied(event) == event
    assert copied(event).encode() == event.encode()


def test_a_str_that_formats_itself_otherwise_is_sent_as_what_it_is() -> None:
    class Kind(str, Enum):  # noqa: UP042  a StrEnum formats itself as its value
        TICK = "tick"

    class Sly(str):
        def __str__(self) -> str:
            return "x\nevent: evil"

        def __format__(self, spec: str) -> str:
            return str(self)

        def isprintable(self) -> bool:
            return True

    event = SSEEvent(Sly("d"), event=Kind.TICK, id=Sly("1"), comment=Sly("c"))
    assert event.encode() == b": c\nevent: tick\nid: 1\ndata: d\n\n"
    assert type(event.event) is type(event.data) is str


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(TypeError, match="decode it first"):
        SSEEvent(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"json\.dumps"):
        SSEEvent({"a": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='pass data=""'):
        SSEEvent(event="tick")
    with pytest.raises(ValueError, match=r"no header could bring it back: it holds '\\x1b' at 2"):
        SSEEvent("x", id="12\x1b3")
    with pytest.raises(ValueError, match="neither begin nor end with a space or TAB"):
        SSEEvent("x", id="1 ")
    with pytest.raises(ValueError, match=r"at most 4096 bytes, .*: it has 4098"):
        SSEEvent("x", id="☂" * 1366)


def test_an_integer_of_thousands_of_digits_is_refused_by_name() -> None:
    for retry in (10**5000, -(10**5000)):
        with pytest.raises(ValueError, match="retry must be from 0"):
            SSEEvent("x", retry=retry)


def test_data_is_the_only_positional_field() -> None:
    with pytest.raises(TypeError):
        SSEEvent("x", "tick")  # type: ignore[call-arg]


# -- the parser, in hard use


def test_a_message_reads_its_data_as_json() -> None:
    [message] = EventStreamParser().feed(b'data: {"a":\ndata: [1]}\n\ndata: {"a"')
    assert message.json() == {"a": [1]}
    with pytest.raises(json.JSONDecodeError):
        MessageEvent("message", "no", "").json()


def test_the_limit_is_16_mib_unless_it_is_told() -> None:
    stream = b"data: " + b"x" * (DEFAULT_MAX_EVENT_SIZE - 6) + b"\n\n"
    [message] = EventStreamParser().feed(stream)
    assert len(message.data) == 16 * 1024 * 1024 - 6
    with pytest.raises(EventTooLarge, match="16777216") as caught:
        EventStreamParser().feed(b"x" + stream)
    assert caught.value.limit == DEFAULT_MAX_EVENT_SIZE
    assert isinstance(caught.value, h3ref.H3Error)
    assert pickle.loads(pickle.dumps(caught.value)).limit == caught.value.limit
    with pytest.raises(ValueError, match="at least 1"):
        EventStreamParser(0)


def test_messages_before_an_error_come_first_and_the_error_stays_until_close() -> None:
    parser = EventStreamParser(10)
    assert parser.feed(b"data: a\n\ndata: 0123456789") == [MessageEvent("message", "a", "")]
    for _ in range(2):
        with pytest.raises(EventTooLarge):
            parser.feed(b"\n\ndata: b\n\n")
    assert parser.close() == []
    assert parser.feed(b"data: c\n\n") == [MessageEvent("message", "c", "")]


def test_close_raises_an_error_that_was_not_raised_before() -> None:
    parser = EventStreamParser(10)
    assert parser.feed(b"data: a\n\ndata: 0123456789") == [MessageEvent("message", "a", "")]
    with pytest.raises(EventTooLarge):
        parser.close()
    assert parser.close() == []


def test_the_last_event_id_is_read_only() -> None:
    with pytest.raises(AttributeError):
        EventStreamParser().last_event_id = "1"  # type: ignore[misc]


# Linear cost. Were the held bytes copied or searched again at each chunk, each of these would move some
# millions of times a million bytes, which takes many minutes; the test run's limit is one minute. As it is,
# each takes a few seconds.

MANY = 2_500_000


def test_a_long_line_in_chunks_of_one_byte() -> None:
    parser = EventStreamParser()
    parser.feed(b"data: ")
    feed = parser.feed
    for _ in range(MANY):
        feed(b"x")
    [message] = parser.feed(b"\n\n")
    assert len(message.data) == MANY


def test_many_lines_in_chunks_of_one_byte() -> None:
    parser = EventStreamParser()
    feed = parser.feed
    for _ in range(MANY // 10):
        for chunk in (b"d", b"a", b"t", b"a", b"\n"):
            feed(chunk)
    [message] = parser.feed(b"\n")
    assert message.data == "\n" * (MANY // 10 - 1)


def test_line_ends_alone_in_chunks_of_one_byte() -> None:
    feed = EventStreamParser().feed
    for _ in range(MANY // 10):
        assert not feed(b"\r")
        assert not feed(b"\n")


@pytest.mark.parametrize("size", [64, 16 * 1024, 20_000_000])
@pytest.mark.parametrize("line", [b"data: x\n", b"data: " + b"x" * 10_000_000 + b"\n", b"data:\r\n"])
def test_ten_million_bytes_of_data(line: bytes, size: int) -> None:
    stream = line * (10_000_000 // len(line) or 1)
    parser = EventStreamParser()
    for at in range(0, len(stream), size):
        assert not parser.feed(stream[at : at + size])
    [message] = parser.feed(b"\n")
    assert len(message.data) > 1_000_000


def test_the_cost_near_the_limit_is_linear_too() -> None:
    parser = EventStreamParser(5_000_010)
    assert not parser.feed(b"data:" + b"x" * 5_000_000 + b"\n")
    for _ in range(MANY // 15):
        assert not parser.feed(b":\n")
        assert not parser.feed(b":abcd\n")
    assert len(parser.feed(b"\n")) == 1
