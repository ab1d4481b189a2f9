"""Diagrams of recordings: the exact text, for records written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from h3ref import trace
from h3ref.lab import story
from h3ref.lab.sequence import NARROW_WIDTH, SIDE_BY_SIDE, WIDTH, beside, draw
from h3ref.trace import Record, Step


def record(
    step: Step, after: str = "requested", *, ms: float = 0, rejected: tuple[str, str] | None = None, **more: object
) -> Record:
    error, rule = rejected or (None, None)
    fields = {"size": None, "detail": None, "exchange": 1, **more}
    return Record(
        time=5 + ms / 1000,
        step=step.name,
        who=step.who,
        to=step.to,
        trigger=step.trigger,
        before=after,
        after=after,
        error=error,
        rule=rule,
        **fields,  # type: ignore[arg-type]
    )


NOT_READY = ("ConnectionNotReady", "L-17")

REFUSED = [
    record(trace.REQUEST, detail="GET /events"),
    record(trace.START_SSE, "sse_started", ms=0.3),
    *(record(trace.GET_SSE_WRITER, "sse_started", ms=0.5 + n / 100, rejected=NOT_READY) for n in range(10)),
    record(trace.RETURNS, "sse_started", ms=1),
    record(trace.CHECKS_SSE_STARTED, "sse_started", ms=1),
    record(trace.CREATES_CONNECTION, "sse_started", ms=1.1),
    record(trace.SENDS_HEADERS, "headers_sent", ms=1.2),
    record(trace.HEADERS, "headers_sent", ms=1.2, size=124),
    record(trace.CONNECTION_READY, "headers_sent", ms=1.3),
]

CALLBACK = [
    record(trace.REQUEST, detail="GET /events"),
    record(trace.START_SSE, "sse_started"),
    record(trace.SET_STREAM_CALLBACK, "sse_started"),
    record(trace.RETURNS, "sse_started"),
    record(trace.CHECKS_SSE_STARTED, "sse_started"),
    record(trace.CREATES_CONNECTION, "sse_started"),
    record(trace.SENDS_HEADERS, "headers_sent"),
    record(trace.HEADERS, "headers_sent"),
    record(trace.CONNECTION_READY, "headers_sent"),
    record(trace.SCHEDULES_CALLBACK, "headers_sent"),
    record(trace.CALLS_CALLBACK, "streaming"),
    record(trace.SEND_EVENT, "streaming"),
    record(trace.DATA, "streaming"),
    record(trace.EVENT, "streaming", detail="data: 1\n\n"),
    record(trace.SEND_KEEP_ALIVE, "streaming"),
    record(trace.DATA, "streaming"),
    record(trace.COMMENT, "streaming", detail=": keep-alive\n\n"),
    record(trace.SEND_EVENT, "streaming"),
    record(trace.DATA, "streaming"),
    record(trace.EVENT, "streaming", detail="data: 2\n\n", size=9),
    record(trace.CLOSE, "closed"),
    record(trace.CLOSES_CONNECTION, "closed"),
    record(trace.CONNECTION_CLOSED, "closed"),
]


def lines(text: str) -> Iterator[str]:
    yield from text.strip("\n").split("\n")


def expect(found: str, wanted: str) -> None:
    assert list(found.split("\n")) == list(lines(wanted))


def test_the_broken_flow_with_times() -> None:
    expect(
        draw([*REFUSED, record(trace.DISCONNECT, "closed", ms=1000)], title="broken", times=True),
        """
broken
    ms  Client           Handler                   Adapter           Connection
   0.0   ├─ GET /events ──>│                         │                      │
   0.3   │                 ├─ start_sse() ──────────>│                      │
         │                 │   (sets flags)          │                      │
   0.5   │                 ├─ get_sse_writer() ─X    │                      │
         │                 │   ConnectionNotReady    │                      │
         │                 │   (rule L-17), 10 times │                      │
   1.0   │                 ├─ returns ──────────────>│                      │
   1.0   │                 ┊                         ├─ checks sse_started  │
   1.1   │                 ┊                         ├ creates connection ─>│
   1.2   │                 ┊                         ├─ sends headers ─────>│
   1.2   │<──────────────────────────────────────────── Headers, 124 bytes ─┤
   1.3   │              (handler                     ├─ connection ready ──>│
         │               already                     │   (too late!)        │
         │               exited!)                    │                      │
         │               [No events sent - connection hangs]                │
1000.0   ├─ disconnect ────────────────────────────────────────────────────>│
""",
    )


def test_the_callback_flow_without_times() -> None:
    expect(
        draw(CALLBACK),
        """
Client           Handler                   Adapter           Connection
 ├─ GET /events ──>│                         │                      │
 │                 ├─ start_sse() ──────────>│                      │
 │                 │   (sets flags)          │                      │
 │                 ├─ set_stream_callback ──>│                      │
 │                 │   (registers callback)  │                      │
 │                 ├─ returns ──────────────>│                      │
 │                 ┊                         ├─ checks sse_started  │
 │                 ┊                         ├ creates connection ─>│
 │                 ┊                         ├─ sends headers ─────>│
 │<─────────────────────────────────────────────────────── Headers ─┤
 │                 ┊                         ├─ connection ready ──>│
 │                 ┊                         ├─ schedules callback  │
 │               Callback                    │                      │
 │                 │<── calls callback with ─┤                      │
 │                 │                 writer  │                      │
 │                 ├─ send_event() ─────────>├─ data ──────────────>│
 │<─────────────────────────────────────────────────────── Event 1 ─┤
 │                 ├─ send_keep_alive() ────>├─ data ──────────────>│
 │<─────────────────────────────────────────────────────── Comment ─┤
 │                 ├─ send_event() ─────────>├─ data ──────────────>│
 │<────────────────────────────────────────────── Event 2, 9 bytes ─┤
 │                 ├─ close() ──────────────>├─ close ─────────────>│
 │<───────────────────────────────────────────── Connection closed ─┤
""",
    )


def test_a_single_rejection_says_no_number() -> None:
    expect(
        draw([record(trace.SEND_EVENT, "closed", rejected=("WriterClosed", "L-25"))]),
        """
Client           Handler                   Adapter           Connection
 │                 ├─ send_event() ─X        │                      │
 │                 │   WriterClosed          │                      │
 │                 │   (rule L-25)           │                      │
""",
    )


def test_a_rejected_step_from_right_to_left() -> None:
    expect(
        draw([record(trace.HANDS_OVER_WRITER, "closed", rejected=("ConnectionLost", "L-20"))]),
        """
Client           Handler                   Adapter           Connection
 │                 │      X─ hands over the ─┤                      │
 │                 │                 writer  │                      │
 │                 │         ConnectionLost  │                      │
 │                 │            (rule L-20)  │                      │
""",
    )


def test_steps_are_counted_apart_when_something_comes_between() -> None:
    drawn = draw([*REFUSED[:3], REFUSED[1], *REFUSED[3:5]])
    assert drawn.count("─X") == 2
    assert drawn.count(", 2 times") == 1


def test_a_handler_that_failed_names_its_error() -> None:
    drawn = draw([record(trace.FAILS, "closed", detail="ValueError"), record(trace.RESPONSE, "closed", size=200)])
    assert "├─ raises ValueError ────>│" in drawn
    assert " Response, 200 bytes ─┤" in drawn


def test_nobody_is_said_to_hang_who_has_a_writer_or_an_answer() -> None:
    assert "hangs" in draw(REFUSED)
    assert "hangs" not in draw(REFUSED[:-1])
    assert "hangs" not in draw(CALLBACK)
    assert "too late" not in draw(CALLBACK[:9])


def test_a_long_path_is_cut_and_its_query_left_out() -> None:
    assert "├ GET /a-veryl… ─>│" in draw([record(trace.REQUEST, detail="GET /a-verylongpath/to/somewhere?x=1")])
    assert "├─ GET /events ──>│" in draw([record(trace.REQUEST, detail="GET /events?stream=1")])


def test_every_step_fits_its_lanes() -> None:
    for step in trace.STEPS.values():
        for rejected in (None, NOT_READY):
            drawn = draw([record(step, "streaming", rejected=rejected, size=123456)], times=True)
            assert max(map(len, drawn.split("\n"))) <= WIDTH
            for row in drawn.split("\n")[1:]:
                assert row.count("│") + row.count("├") + row.count("┤") >= 2, row
    assert len(draw([])) == WIDTH - 8


def test_a_step_of_another_implementation_goes_by_its_name() -> None:
    other = Record(0.0, 1, "retries", "adapter", "adapter", None, "requested", "requested")
    assert "├─ retries" in draw([other])


def test_a_step_of_the_last_lane_alone_has_its_words_on_its_left() -> None:
    own = Record(0.0, 1, "flushes", "connection", "connection", None, "requested", "requested")
    expect(
        draw([own]),
        """
Client           Handler                   Adapter           Connection
 │                 │                         │             flushes ─┤
""",
    )


def test_nothing_in_a_record_reaches_the_terminal_but_as_text() -> None:
    request = record(trace.REQUEST, detail="GET /\x1b[2J")
    refused = record(trace.GET_SSE_WRITER, rejected=("No\x07t\n", "\x1b[31m"))
    raised = record(trace.FAILS, "closed", detail="\x1b]0;title\x07")
    drawn = draw([request, refused, raised])
    assert all(row.isprintable() for row in drawn.split("\n"))
    assert "GET /�[2J" in drawn


def test_what_can_not_be_drawn() -> None:
    with pytest.raises(ValueError, match="several exchanges"):
        draw([record(trace.REQUEST), record(trace.REQUEST, exchange=2)])
    with pytest.raises(ValueError, match="step retries: the lanes are client"):
        draw([Record(0.0, 1, "retries", "proxy", "adapter", None, "requested", "requested")])


def test_side_by_side_where_they_fit() -> None:
    both = beside(REFUSED, CALLBACK, titles=("broken", "fixed"), columns=SIDE_BY_SIDE)
    rows = both.split("\n")
    assert max(map(len, rows)) <= SIDE_BY_SIDE == 118
    left = draw(REFUSED, title="broken", times=True, narrow=True).split("\n")
    right = draw(CALLBACK, title="fixed", times=True, narrow=True).split("\n")
    assert len(rows) == max(len(left), len(right))
    assert [row[:NARROW_WIDTH].rstrip() for row in rows][: len(left)] == left
    assert [row[NARROW_WIDTH + 2 :] for row in rows] == right
    one, other = draw(REFUSED, title="broken", times=True), draw(CALLBACK, title="fixed", times=True)
    assert beside(REFUSED, CALLBACK, titles=("broken", "fixed"), columns=SIDE_BY_SIDE - 1) == f"{one}\n\n{other}"


def test_a_narrow_one_has_its_words_beside_the_lanes() -> None:
    expect(
        draw(REFUSED, narrow=True),
        """
Client  Handler Adapter Connection
 ├──────>│       │       │  GET /events
 │       ├──────>│       │  start_sse()
 │       │       │       │  (sets flags)
 │       ├───X   │       │  get_sse_writer()
 │       │       │       │  ConnectionNotReady
 │       │       │       │  (rule L-17), 10 times
 │       ├──────>│       │  returns
 │       ┊       ■       │  checks sse_started
 │       ┊       ├──────>│  creates connection
 │       ┊       ├──────>│  sends headers
 │<──────────────────────┤  Headers, 124 bytes
 │       ┊       ├──────>│  connection ready
 │       ┊       │       │  (too late!)
 │       ┊       │       │  (handler already
 │       ┊       │       │  exited!)
 │ [No events sent - connection hangs]
""",
    )


@pytest.mark.parametrize("records", [REFUSED, CALLBACK])
def test_no_word_of_a_narrow_one_is_broken(records: list[Record]) -> None:
    known = {word for row in story.tell(records) for word in words_of(row)}
    drawn = draw(records, narrow=True)
    told = {word.strip("(),") for row in drawn.split("\n")[1:] for word in re.findall(r"[\w()/,-]{2,}", row)}
    assert told <= known | {word.strip("(),") for word in known}


def words_of(row: story.Row) -> Iterator[str]:
    """All that a row may say."""
    yield from (word.strip("(),[]!") for word in " ".join((*story.ALREADY_EXITED, story.TOO_LATE)).split())
    if isinstance(row, story.Remark):
        yield from (word.strip("[],") for word in row.text.split())
        return
    for arrow in row.arrows:
        said = f"{arrow.words} {arrow.note} {arrow.record.error} rule {arrow.record.rule} {arrow.often}"
        yield from (word.strip("(),") for word in said.split())


def test_of_a_word_that_is_too_long_the_end_is_left_out() -> None:
    other = record(trace.REQUEST, detail="GET /" + "long" * 10)
    assert draw([other], narrow=True).split("\n")[2].endswith("/longlonglonglonglongl…")


def test_a_narrow_one_draws_what_goes_left_and_what_is_rejected_there() -> None:
    back = record(trace.HANDS_OVER_WRITER, rejected=("Gone", "L-1"))
    assert draw([back], narrow=True).split("\n")[1] == " │       │   X───┤       │  hands over the writer"
