"""Diagrams, drawn and as Mermaid text: nothing overlaps or is cut, and they say what was recorded."""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import anyio
import matplotlib
import matplotlib.style
import numpy
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from h3ref import flows, trace
from h3ref._core.exchange import Flow
from h3ref.cli import main as cli
from h3ref.errors import LifecycleError
from h3ref.examples import callback as example
from h3ref.lab import diagrams
from h3ref.lab.charts import arrivals
from h3ref.lab.diagrams import jupyter, palette
from h3ref.lab.diagrams.axis import round_step, times_of
from h3ref.lab.diagrams.files import html, svg
from h3ref.lab.diagrams.lanes import LIMIT
from h3ref.lab.diagrams.mermaid import escape
from h3ref.lab.diagrams.style import (
    BOX,
    CARD,
    INK,
    PATH_TINT,
    SOFT,
    STATE_COLOURS,
    WIDTH,
    WIRE,
    WRONG,
    WRONG_TINT,
    Drawing,
    Sheet,
    cut,
    plain,
    shown,
    width_of,
    wrap,
)
from h3ref.lab.model.graph import Edge
from h3ref.lab.model.graph import draw as draw_flows
from h3ref.lab.recorder import Recording
from h3ref.lab.story import Remark, tell
from h3ref.lifecycle import TABLE, TRIGGERS, Lifecycle, State
from h3ref.trace import STEPS, Record, Step
from tests.test_sequence import CALLBACK, REFUSED, record

FLOWS = ("broken", "callback", "awaited", "blocking")


@cache
def recorded(name: str) -> Recording:
    """One request to the example's handler of this name, in the flow that it is about."""
    from h3ref.lab.notebook import in_memory

    flow: Flow | None = flows.broken if name == "broken" else None

    async def run() -> Recording:
        return (await in_memory(example.app, f"/{name}", flow=flow)).recording

    return anyio.run(run)


def pulled(*triggers: str) -> list[Record]:
    """The records of triggers that are pulled one after the other, rejected or not."""
    steps = {step.trigger: step for step in reversed(STEPS.values())}
    records: list[Record] = []
    lifecycle = Lifecycle(records.append, 1)
    for trigger in triggers:
        with suppress(LifecycleError):
            lifecycle.take(steps[trigger])
    return [replace(record, time=number / 1000) for number, record in enumerate(records)]


def rejections() -> list[LifecycleError]:
    """One for each cell that rejects."""
    return [
        cell.outcome(state, trigger, cell.rule)
        for (state, trigger), cell in TABLE.items()
        if not isinstance(cell.outcome, State)
    ]


def with_events(count: int, *, every: float = 0.01) -> list[Record]:
    """The callback's recording, with so many events."""
    head, tail = CALLBACK[:11], CALLBACK[-3:]
    steps = (trace.SEND_EVENT, trace.DATA, trace.EVENT)
    events = [record(step, "streaming", ms=10, size=99) for _ in range(count) for step in steps]
    return [replace(one, time=number * every / 3) for number, one in enumerate([*head, *events, *tail])]


def streams(count: int) -> list[Record]:
    """Streams side by side in one recording, each of another kind and length."""
    kinds = [
        pulled("start_sse", "get_writer", "send_headers"),
        pulled("start_sse", "send_headers", "get_writer", "send_event", "send_event", "close"),
        pulled("send_response"),
        pulled("start_sse", "send_headers", "get_writer", "send_event", "disconnect"),
        pulled("start_sse", "fail", "send_event"),
    ]
    found: list[Record] = []
    for number in range(count):
        request = record(trace.REQUEST, detail=f"GET /stream/{'x' * (number % 40)}?topic={number}", exchange=number + 1)
        found.append(replace(request, time=number / 50))
        for place, one in enumerate(kinds[number % len(kinds)], start=1):
            found.append(replace(one, exchange=number + 1, time=number / 50 + place * (number % 7 + 1) / 30))
            if one.trigger == "send_event" and not one.error:
                found.append(replace(found[-1], step="event", who="connection", to="client", trigger=None))
    return sorted(found, key=lambda one: one.time)


LONG = [
    record(trace.REQUEST, detail=f"GET /{'a/very/long/path/' * 8}end?and=a&query=string"),
    record(trace.START_SSE, "sse_started"),
    record(trace.GET_SSE_WRITER, "sse_started", rejected=("AnExceptionOfAnotherImplementationWithALongName", "L-17")),
    record(trace.RETURNS, "sse_started"),
    record(trace.FAILS, "closed", detail="ValueError: " + "something went wrong with $x^2$ and $y$ 事 \x1b[31m " * 9),
]
OTHER = [
    Record(0.0, 1, "retries_what_did_not_work_at_first", "connection", "connection", None, "requested", "requested"),
    Record(0.1, 1, "asks", "connection", "handler", None, "requested", "requested", "NotToday", "X-1"),
    Record(0.2, 1, "tells", "client", "client", None, "requested", "requested"),
]
AT_ONCE = [replace(one, time=5.0) for one in CALLBACK]
LATE = [
    *(replace(one, time=5 + number / 1e5) for number, one in enumerate(CALLBACK[:-1])),
    replace(CALLBACK[-1], time=90),
]
WALK = ("start_sse", "send_headers", "get_writer", *("send_event", "get_writer") * 9, *("send_event",) * 1234)

RECORDINGS: dict[str, Callable[[], Sequence[Record]]] = {
    **{name: lambda name=name: recorded(name) for name in FLOWS},  # type: ignore[misc]
    "refused": lambda: [*REFUSED, record(trace.DISCONNECT, "closed", ms=1000, reason="client_gone")],
    "hanging": lambda: REFUSED,
    "many events": lambda: with_events(400),
    "empty": lambda: [],
    "one": lambda: [record(trace.REQUEST, detail="GET /")],
    "long": lambda: LONG,
    "other": lambda: OTHER,
    "at once": lambda: AT_ONCE,
    "late": lambda: LATE,
}

MACHINES: dict[str, Callable[[], Figure]] = {
    "alone": diagrams.machine,
    "titled": lambda: diagrams.machine(title="A long title that goes on and on " * 8),
    "new": lambda: diagrams.machine(Lifecycle()),
    "every rejection": lambda: diagrams.machine(rejected=rejections()),
    "rejections twice": lambda: diagrams.machine(pulled(*TRIGGERS, *TRIGGERS, "close"), rejected=rejections()),
    "streaming": lambda: diagrams.machine(pulled(*WALK)),
    "after the end": lambda: diagrams.machine(
        pulled(*WALK, "close", "disconnect", "fail", "disconnect", "close", "fail")
    ),
    **{
        f"{trigger} from {state}": lambda way=way, trigger=trigger: diagrams.machine(pulled(*way, trigger))  # type: ignore[misc]
        for state, way in {
            "requested": (),
            "sse_started": WALK[:1],
            "headers_sent": WALK[:2],
            "streaming": WALK[:3],
        }.items()
        for trigger in TRIGGERS
    },
    **{name: lambda name=name: diagrams.machine(recorded(name)) for name in FLOWS},  # type: ignore[misc]
    "empty": lambda: diagrams.machine([]),
}


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text()]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


def check(figure: Figure) -> None:
    """No two texts overlap, and none is cut by the edge of the card; at both rates of dots."""
    found = texts(figure)
    assert found
    for dpi in (192, 96):
        figure.set_dpi(dpi)
        pixel = dpi / 96
        inner = figure.bbox.padded(-4 * pixel)
        boxes = [text.get_window_extent(renderer(dpi)).padded(-0.5 * pixel) for text in found]
        for text, box in zip(found, boxes, strict=True):
            assert inner.contains(box.x0, box.y0), f"{text.get_text()!r} is cut"
            assert inner.contains(box.x1, box.y1), f"{text.get_text()!r} is cut"
        left, bottom, right, top = numpy.array([box.extents for box in boxes]).T
        beside = (left[:, None] > right) | (bottom[:, None] > top)
        for one, other in numpy.argwhere(~(beside | beside.T)):
            assert one == other, f"{found[one].get_text()!r} and {found[other].get_text()!r} overlap"


@cache
def renderer(dpi: int) -> RendererAgg:
    """What measures texts; one for all figures, so that it measures the same words once."""
    return RendererAgg(1, 1, dpi)  # type: ignore[no-untyped-call]


# -- the check itself


@pytest.mark.parametrize(
    ("x", "y", "wrong"), [(60, 40, "overlap"), (290, 40, "cut"), (100, 3, "cut"), (150, 90, None), (2, 90, "cut")]
)
def test_the_check_finds_what_overlaps_or_is_cut(x: float, y: float, wrong: str | None) -> None:
    with plain():
        sheet = Sheet(300, 120, "a sheet")
        sheet.text(40, 40, "some words")
        sheet.text(x, y, "others")
    if wrong is None:
        check(sheet.figure)
    else:
        with pytest.raises(AssertionError, match=wrong):
            check(sheet.figure)


# -- sequences


@pytest.mark.slow
@pytest.mark.parametrize("scale", [False, True], ids=["even", "scale"])
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_sequence_has_room_for_its_words(name: str, scale: bool) -> None:
    records = RECORDINGS[name]()
    check(diagrams.sequence(records, title="A title " * 40 if name == "long" else "", scale=scale))
    check(diagrams.side_by_side(records, RECORDINGS["callback"](), scale=scale, times=True))
    check(diagrams.side_by_side(RECORDINGS["broken"](), records, titles=("broken", "A title " * 40), scale=scale))


def test_the_picture_of_the_bug() -> None:
    figure = diagrams.sequence(recorded("broken"), title="broken")
    said = words(figure)
    for word in ("Client", "Handler", "Adapter", "Connection", "GET /broken", "get_sse_writer()", "ConnectionNotReady"):
        assert word in said.split("\n"), word
    assert "rule L-17, 10 times" in said
    assert "(too late!)" in said
    assert "(handler\nalready\nexited!)" in said
    assert "[No events sent - connection hangs]" in said
    assert "Headers, 124 bytes" in said
    assert "rejected by the state machine" in said, "a legend"
    assert figure.get_label() == (
        "sequence diagram of broken: GET /broken: requested → sse_started → headers_sent → closed, get_writer rejected "
        "with ConnectionNotReady (L-17) 10 times, hangs, client_gone"
    )


@pytest.mark.parametrize("name", FLOWS[1:])
def test_the_picture_of_a_fix(name: str) -> None:
    said = words(diagrams.sequence(recorded(name)))
    assert "too late" not in said
    assert "hangs" not in said
    assert "rejected" not in said, "no legend for what there is not"
    assert "streaming" in said.split("\n"), "the states stand beside the lanes"
    assert [line.split(",")[0] for line in said.split("\n") if line.startswith("Event ")] == [
        f"Event {number}" for number in (1, 2, 3, 4)
    ]


def test_what_is_drawn_is_what_the_text_diagram_tells() -> None:
    from h3ref.lab.sequence import draw

    for name in FLOWS:
        drawn = " ".join(words(diagrams.sequence(recorded(name))).split())
        told = re.sub(r"[│├┤─<>┊X]", " ", draw(recorded(name)))
        for word in told.split():
            assert word in drawn or word in ("(rule", "L-17),"), (name, word)


@pytest.mark.parametrize(("left", "right"), [("broken", "callback"), ("awaited", "blocking"), ("callback", "awaited")])
def test_what_both_sides_have_stands_on_one_height(left: str, right: str) -> None:
    figure = diagrams.side_by_side(recorded(left), recorded(right))
    for step in ("checks sse_started", "sends headers", "connection ready"):
        heights = {round(text.get_position()[1], 3) for text in texts(figure) if text.get_text() == step}
        assert len(heights) == 1, f"{step} stands at {heights}"


def test_a_side_by_side_fits_a_readme() -> None:
    figure = diagrams.side_by_side(recorded("broken"), recorded("callback"))
    assert figure.get_figwidth() * 96 <= WIDTH
    assert {"ConnectionNotReady", "set_stream_callback", "Headers, 124 bytes"} <= set(words(figure).split("\n")), (
        "uncut"
    )
    assert min(float(text.get_fontsize()) for text in texts(figure)) * 96 / 72 >= 13


def test_many_rows_are_left_out_and_counted() -> None:
    records = with_events(400)
    told = tell(records, limit=LIMIT)
    assert LIMIT - 2 <= len(told) <= LIMIT
    remark = next(row for row in told if isinstance(row, Remark) and "left out" in row.text)
    told_steps = sum(row.records for row in told if not isinstance(row, Remark))
    left_out = int(re.findall(r"(\d+) steps", remark.text)[0])
    assert told_steps + left_out == len(records)
    assert remark.text in words(diagrams.sequence(records))
    drawn = [line for line in words(diagrams.sequence(records)).split("\n") if line.startswith("Event ")]
    assert drawn[0] == "Event 1, 99 bytes"
    assert drawn[-1] == "Event 400, 99 bytes", "they keep their numbers"
    assert f"{400 - len(drawn)} events among them" in remark.text
    assert tell(records, limit=None) == tell(records)
    assert len(tell(records, limit=1)) <= 5


def test_on_a_scale_each_row_is_as_near_to_its_time_as_it_can_be() -> None:
    records = [record(trace.REQUEST, ms=0), record(trace.START_SSE, ms=0), record(trace.RETURNS, ms=1000)]
    figure = diagrams.sequence(records, scale=True)
    by_text = {text.get_text(): text.get_position()[1] for text in texts(figure)}
    assert by_text["start_sse()"] - by_text["request"] < 40 < 60 < by_text["returns"] - by_text["start_sse()"]
    ticks = [text for text in by_text if text.endswith((" ms", " s"))]
    assert len(ticks) >= 3
    assert by_text["request"] < by_text["start_sse()"] < by_text["returns"], "their order stays"


def test_times_as_words() -> None:
    assert times_of([0.0, 0.0123, 1.5]) == ["0.0 ms", "12.3 ms", "1500.0 ms"]
    assert times_of([0.0, 0.012]) == ["0 ms", "12 ms"]
    assert times_of([0.0, 12.0]) == ["0 s", "12 s"]
    assert times_of([0.0, 0.00025], of=0.0003) == ["0.00 ms", "0.25 ms"]
    assert [round_step(least) for least in (0.03, 0.1, 7, 1e-4)] == [0.05, 0.1, 10, 1e-4]


def test_what_can_not_be_drawn() -> None:
    two = [record(trace.REQUEST), record(trace.REQUEST, exchange=2)]
    for draw in (diagrams.sequence, diagrams.machine, diagrams.mermaid_sequence, diagrams.mermaid_machine):
        with pytest.raises(ValueError, match="several exchanges"):
            draw(two)
    with pytest.raises(ValueError, match="the lanes are client"):
        diagrams.sequence([Record(0.0, 1, "retries", "proxy", "adapter", None, "requested", "requested")])
    with pytest.raises(ValueError, match="'paused' is not a valid State"):
        diagrams.machine([Record(0.0, 1, "retries", "adapter", "adapter", None, "paused", "paused")])
    with pytest.raises(AttributeError, match="no attribute 'flowchart'"):
        diagrams.flowchart  # noqa: B018


# -- the machine


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
def test_the_machine_has_room_for_its_words(name: str) -> None:
    check(MACHINES[name]())


def test_the_machine_is_that_of_the_table() -> None:
    said = words(diagrams.machine()).split("\n")
    for state in State:
        assert said.count(state) == 1
    for trigger in TRIGGERS:
        assert any(trigger in text.split(" · ") for text in said), trigger
    assert not {"now", "here it ends"} & set(said)


def test_the_state_now_is_marked_by_a_word() -> None:
    lifecycle = Lifecycle()
    assert "now" in words(diagrams.machine(lifecycle)).split("\n")
    lifecycle.trigger("close", "shutdown")
    said = words(diagrams.machine(lifecycle)).split("\n")
    assert "shutdown" in said
    assert str(diagrams.machine(lifecycle).get_label()).endswith("now: closed (shutdown)")


def test_the_path_is_numbered_and_rejections_stand_at_their_state() -> None:
    figure = diagrams.machine(recorded("broken"))
    said = words(figure).split("\n")
    assert "get_writer ×10" in said
    assert "ConnectionNotReady · L-17" in said
    assert {"1", "2", "3", "here it ends", "client_gone"} <= set(said)
    place = {text.get_text(): text.get_position()[0] for text in texts(figure)}
    state = place["sse_started"]
    assert abs(place["get_writer ×10"] - state) < 90, "under the state that rejected it"
    assert str(figure.get_label()) == (
        "state machine: path: start_sse → send_headers → disconnect; "
        "rejected in sse_started: get_writer ×10: ConnectionNotReady (L-17); here it ends: closed (client_gone)"
    )
    assert "here it stays" in words(diagrams.machine(REFUSED))


# -- timelines


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 30, 200])
def test_a_timeline_has_room_for_its_words(count: int) -> None:
    figure = diagrams.timeline(streams(count), title="Many streams " * (1 if count < 200 else 40))
    check(figure)
    said = words(figure).split("\n")
    samples = ("requested", "sse_started", "headers_sent", "streaming", "event", "rejected", "closed", "still open")
    there = {0: (), 1: (samples[0], samples[1], samples[5], samples[7])}
    assert [sample for sample in samples if sample in said] == [*there.get(count, samples)], "a legend of what there is"
    assert ("… and 140 more that are not drawn" in said) is (count == 200)


def test_a_timeline_says_how_each_stream_ended() -> None:
    figure = diagrams.timeline(streams(5))
    said = words(figure).split("\n")
    for end in ("open, headers_sent", "complete, 2 events", "responded", "client_gone, 1 event", "error"):
        assert end in said, end
    assert (
        figure.get_label()
        == "timeline of 5 exchanges: 1 open, headers_sent; 1 complete; 1 responded; 1 client_gone; 1 error"
    )


def test_the_rows_of_a_timeline_may_have_names() -> None:
    figure = diagrams.timeline(streams(2), names=("first server", "second server"))
    check(figure)
    said = words(figure).split("\n")
    assert [name for name in said if name.endswith(" server")] == ["first server", "second server"]
    assert not [name for name in said if "GET" in name]
    with pytest.raises(ValueError, match="one for each of the 2 exchanges, not 1"):
        diagrams.timeline(streams(2), names=("first server",))


def test_a_timeline_is_marked_where_something_else_happened() -> None:
    recording = streams(3)
    begin, end = recording[0].time, recording[-1].time
    marks = {"the server is killed": begin, "Redis is there again": (begin + end) / 2, "all is over": end}
    figure = diagrams.timeline(recording, marks=marks)
    check(figure)
    said = words(figure).split("\n")
    assert [text for text in said if text in marks] == list(marks)
    later = Recording(replace(one, time=one.time + 1e6) for one in recording)
    with pytest.raises(ValueError, match="marks are times of one clock"):
        diagrams.timeline([recording, later], marks=marks)


def test_a_timeline_has_no_stream_go_on_when_its_process_was_killed() -> None:
    recording = Recording(streams(5))  # of which one is never closed
    (never,) = (one[0].exchange for one in recording.exchanges if one[-1].after != "closed")
    figure = diagrams.timeline(recording, killed={never: recording[0].time + 0.2, 2: recording[0].time + 9})
    check(figure)
    said = words(figure).split("\n")
    assert said.count("killed") == 2, "its end, and what the cross means"
    assert "still open" not in said


def with_ids(count: int, apart: float) -> Recording:
    """Two connections of one client; each sends events with ids, a time apart."""
    found = []
    for exchange, first in ((1, 1), (2, count + 3)):
        begin = 100 + (exchange - 1) * (count + 4) * apart
        request = trace.STEPS["request"]
        ends = [
            (begin, request, "", "requested", "GET /news", None),
            (begin, trace.STEPS["get_sse_writer"], "requested", "streaming", None, None),
            *(
                (
                    begin + number * apart,
                    trace.STEPS["event"],
                    "streaming",
                    "streaming",
                    f"id: {number + first}\ndata: x\n\n",
                    9,
                )
                for number in range(count)
            ),
            (begin + count * apart, trace.STEPS["close"], "streaming", "closed", None, None),
        ]
        if exchange == 1:
            ends.append((begin + count * apart, trace.STEPS["cuts_connection"], "closed", "closed", None, None))
        found += [
            Record(
                time,
                exchange,
                step.name,
                step.who,
                step.to,
                step.trigger,
                before,
                after,
                detail=detail,
                size=size,
                reason="error" if after == "closed" else None,
            )
            for time, step, before, after, detail, size in ends
        ]
    return Recording(found)


def test_the_strokes_of_a_timeline_have_the_ids_of_their_events() -> None:
    figure = diagrams.timeline(with_ids(3, 0.1))
    check(figure)
    said = words(figure).split("\n")
    assert [text for text in said if text.isdigit() and text not in ("1", "2")] == ["3", "6", "7", "8"]
    crowded = words(diagrams.timeline(with_ids(60, 0.001))).split("\n")
    assert [text for text in crowded if "–" in text] == ["1–60", "63–122"]


def test_long_ids_are_left_out_of_a_timeline() -> None:
    short = with_ids(3, 0.1)
    long = Recording(
        replace(record, detail=re.sub(r"^id: ", "id: 1796031225921-0-", record.detail or "", flags=re.MULTILINE))
        for record in short
    )
    assert "1796031225921" not in words(diagrams.timeline(long))
    assert diagrams.timeline(long).get_figheight() < diagrams.timeline(short).get_figheight()


def test_a_stream_that_was_cut_is_torn_in_a_timeline() -> None:
    figure = diagrams.timeline(with_ids(3, 0.1))
    said = words(figure).split("\n")
    assert {"cut", "closed"} <= {*said}, "what each end means"
    assert "error, cut, 3 events" in said
    assert figure.get_label() == "timeline of 2 exchanges: 1 error, cut; 1 error"
    only = diagrams.timeline(with_ids(3, 0.1).of(1))
    assert "closed" not in words(only).split("\n")


def test_what_nobody_had_is_hollow_and_leads_to_where_it_was_sent() -> None:
    recording = with_ids(3, 0.1)
    figure = diagrams.timeline(recording, missed={"6": 100.4, "7": 100.5})
    check(figure)
    said = words(figure).split("\n")
    assert said.count("6") == said.count("7") == 2, "where it was missed, and where it was sent"
    assert "missed, and sent later" in said
    assert str(figure.get_label()).endswith("; 2 missed and sent later")
    with pytest.raises(ValueError, match="the event 1 is said to be missed, but no stream except the first sent it"):
        diagrams.timeline(recording, missed={"1": 100.4})
    with pytest.raises(ValueError, match="marks are times of one clock"):
        diagrams.timeline([recording, [replace(one, time=one.time + 9) for one in recording]], missed={"6": 100.4})


def test_recordings_of_several_clocks_begin_together() -> None:
    later = [replace(one, time=one.time + 1e6) for one in recorded("callback")]
    figure = diagrams.timeline([recorded("broken"), later])
    check(figure)
    assert "1000000 s" not in words(figure)


# -- the look


def test_no_letter_needs_a_font_of_the_machine() -> None:
    data = matplotlib.get_data_path()
    for figure in (diagrams.sequence(LONG), diagrams.machine(), diagrams.timeline(streams(3))):
        for text in texts(figure):
            assert str(text.get_fontproperties().get_file()).startswith(data), text.get_text()
            assert not text.get_parse_math(), "a $ is a $"
    assert shown("事 a\x1b[0m\n\tb") == "� a�[0m b"
    assert "$x^2$" in words(diagrams.sequence(LONG))


def test_words_are_cut_where_they_must_be() -> None:
    assert cut("short", 100) == "short"
    assert cut("x" * 100, 50).endswith("x…")
    assert width_of(cut("x" * 100, 50)) <= 50
    assert wrap("one two three four", width_of("one two"), lines=2) == ["one two", "three…"]
    assert wrap("", 50) == []


def seen(colour: str, eyes: str) -> Any:
    """A colour as somebody sees it, in CIE L*a*b*, where distances are those of the eye."""
    srgb = numpy.array(to_rgb(colour))
    linear = numpy.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = numpy.clip(numpy.array(EYES[eyes]) @ linear, 0, 1)
    to_xyz = numpy.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / numpy.array([0.9505, 1.0, 1.089])
    f = numpy.where(xyz > 0.008856, numpy.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return numpy.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


EYES: dict[str, list[list[float]]] = {  # the simulation of Machado, Oliveira and Fernandes (2009), at full severity
    "all colours": [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_told_apart(eyes: str) -> None:
    for (name, colour), (other, other_colour) in combinations(STATE_COLOURS.items(), 2):
        distance = numpy.linalg.norm(seen(colour, eyes) - seen(other_colour, eyes))
        assert distance > 20, f"{name} and {other}: {distance:.0f}"
    assert numpy.linalg.norm(seen(WIRE, eyes) - seen(WRONG, eyes)) > 40


# -- files


@pytest.mark.slow
def test_an_svg_is_the_same_in_every_run_whatever_the_reader_has_set(tmp_path: Path) -> None:
    script = (
        "import sys, matplotlib\n"
        "matplotlib.rcParams.update({'font.size': 30, 'path.sketch': (5, 100, 2), 'axes.facecolor': 'red',"
        " 'savefig.bbox': 'tight', 'svg.fonttype': 'none'})\n"
        "from h3ref.lab import diagrams\n"
        "from h3ref.lab.recorder import Recording\n"
        "from tests.test_diagrams import drawn\n"
        "for name, figure in drawn(): diagrams.save(figure, f'{sys.argv[1]}/{name}.svg')\n"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=root, timeout=60)
    for name, figure in drawn():
        here = diagrams.svg(figure)
        there = (tmp_path / f"{name}.svg").read_text()
        assert here == diagrams.svg(figure)
        assert here == there, name
        tree = ElementTree.fromstring(here)
        assert tree.tag.endswith("svg")
        assert "<dc:date>" not in here
        assert str(figure.get_label()).split(":")[0] in here, "its title says what it shows"
        assert "<text" not in here, "letters are outlines"


def drawn() -> Iterator[tuple[str, Figure]]:
    """One diagram of each kind."""
    yield "machine", diagrams.machine(pulled(*WALK, "close"))
    yield "sequence", diagrams.sequence(REFUSED, scale=True)
    yield "side-by-side", diagrams.side_by_side(REFUSED, CALLBACK)
    yield "timeline", diagrams.timeline(streams(4))


def test_a_figure_is_saved_by_its_suffix(tmp_path: Path) -> None:
    figure = diagrams.machine()
    width, height = figure.get_size_inches() * 96
    diagrams.save(figure, tmp_path / "machine.png")
    data = (tmp_path / "machine.png").read_bytes()
    assert data == diagrams.png(figure)
    assert data.startswith(b"\x89PNG")
    size = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert size == (int(width * 2), int(height * 2)), "two dots for each pixel"
    with pytest.raises(ValueError, match=r"saved as \.svg or \.png, not as \.pdf"):
        diagrams.save(figure, tmp_path / "machine.pdf")
    with pytest.raises(OSError, match="No such file"):
        diagrams.save(figure, tmp_path / "nowhere" / "machine.png")


def test_corners_are_clear_and_the_card_is_light() -> None:
    figure = diagrams.machine()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = numpy.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    assert pixels[0, 0, 3] == 0, "the page shows at the corners"
    assert tuple(pixels[20, 20]) == (255, 255, 255, 255), "and a light card lies on it"


# -- Mermaid


TEXT = r"(?:[^;#\"'`<>{}%:\\]|#\d+;|<br/>)*"
NODE = r"(?:\[\*\]|\w+)"
MACHINE_LINES = [
    r"stateDiagram-v2",
    r"direction LR",
    rf"{NODE} --> {NODE}(: {TEXT})?",
    r"note (left|right) of \w+",
    r"end note",
    r"classDef \w+ [\w-]+:\w+(,[\w-]+:\w+)*",
    r"class \w+ \w+",
]
SEQUENCE_LINES = [
    r"sequenceDiagram",
    rf"title {TEXT}",
    r"participant \w+ as \w+",
    rf"\w+(--x|->>)\w+: {TEXT}",
    rf"Note over \w+(,\w+)?: {TEXT}",
]


def check_mermaid(text: str, grammar: list[str]) -> None:
    """Each line is one that Mermaid's grammar has, and what is said in it has no sign that means something there."""
    assert text.endswith("\n")
    inside_note = False
    lines = text.removesuffix("\n").split("\n")
    if lines[0] == "---":
        assert re.fullmatch(rf'title: "{TEXT}"', lines[1])
        assert lines[2] == "---"
        lines = lines[3:]
    assert lines[0] == grammar[0]
    for line in map(str.strip, lines):
        assert not re.search(r"\bend\b", line) or line == "end note", line
        if inside_note and line != "end note":
            assert re.fullmatch(TEXT, line), line
            continue
        assert any(re.fullmatch(rule, line) for rule in grammar), line
        inside_note = grammar is MACHINE_LINES and line.startswith("note ")
    assert not inside_note


@pytest.mark.parametrize("name", RECORDINGS)
def test_mermaid_sequences(name: str) -> None:
    check_mermaid(diagrams.mermaid_sequence(RECORDINGS[name](), title="the end; #1"), SEQUENCE_LINES)


@pytest.mark.parametrize("name", FLOWS)
def test_mermaid_machines_of_recordings(name: str) -> None:
    text = diagrams.mermaid_machine(recorded(name), title='the "end"')
    check_mermaid(text, MACHINE_LINES)
    assert "1. start_sse" in text
    assert ("get_writer ×10#58; ConnectionNotReady (L-17)" in text) is (name == "broken")


def test_mermaid_machine() -> None:
    text = diagrams.mermaid_machine(rejected=rejections())
    check_mermaid(text, MACHINE_LINES)
    edges = set()
    for line in diagrams.mermaid_machine().split("\n"):
        if found := re.fullmatch(r"\s+(\w+) --> (\w+): (.*)", line):
            edges |= {(found[1], trigger, found[2]) for trigger in found[3].split("<br/>")}
    assert edges == {
        (str(state), trigger, str(cell.outcome))
        for (state, trigger), cell in TABLE.items()
        if isinstance(cell.outcome, State)
    }
    assert "class requested current" in diagrams.mermaid_machine(Lifecycle())


def test_mermaid_escapes_what_means_something_to_it() -> None:
    assert escape('a;b#c"d') == "a#59;b#35;c#34;d"
    assert escape("The End of the end, not of the weekend") == "The #69;nd of the #101;nd, not of the weekend"
    assert escape("two\nlines %% <b>") == "two lines #37;#37; #60;b#62;"
    nasty = [
        record(trace.REQUEST, detail='GET /;end"#<b>`{x}%%:'),
        record(trace.FAILS, "closed", detail="end; -->> \n}"),
    ]
    check_mermaid(diagrams.mermaid_sequence(nasty), SEQUENCE_LINES)


# -- Jupyter


@pytest.fixture(scope="module")
def shell() -> InteractiveShell:
    shell = InteractiveShell()  # type: ignore[no-untyped-call]
    jupyter.register(shell)
    return shell


def test_jupyter_shows_pictures_beside_words(shell: InteractiveShell) -> None:
    assert shell.display_formatter is not None
    lifecycle = Lifecycle()
    several = Recording([*recorded("broken"), *(replace(one, exchange=2) for one in recorded("callback"))])
    shows = {
        "<Lifecycle requested>": lifecycle,
        str(diagrams.machine().get_label()): diagrams.machine(),
        str(recorded("broken")): recorded("broken"),
        str(several): several,
    }
    for text, shown_one in shows.items():
        data, _ = shell.display_formatter.format(shown_one)  # type: ignore[no-untyped-call]
        assert data["text/plain"] == text
        (image,) = ElementTree.fromstring(data["text/html"].replace('">\n</div>', '"/></div>'))
        assert "machine" in image.attrib["alt"] or "diagram" in image.attrib["alt"] or "timeline" in image.attrib["alt"]
        root = ElementTree.fromstring(b64decode(image.attrib["src"].removeprefix("data:image/svg+xml;base64,")))
        width = float(root.attrib["width"].removesuffix("pt")) * 96 / 72
        assert abs(float(image.attrib["width"]) - width) <= 1, "as wide on the page as it was drawn"
    own = Figure()
    data, _ = shell.display_formatter.format(own)  # type: ignore[no-untyped-call]
    assert data["text/plain"] == repr(own)


def test_two_recordings_are_two_images_where_a_page_may_have_room_for_one() -> None:
    drawing = diagrams.side_by_side(recorded("broken"), recorded("callback"), titles=("before", "after"))
    assert isinstance(drawing, Drawing)
    alts = re.findall(r'<img alt="([^"]+)" width="340"', html(drawing))
    assert [alt.split(":")[0] for alt in alts] == ["sequence diagram of before", "sequence diagram of after"]
    for part in drawing.parts:
        check(part)
    said = " ".join(words(part) for part in drawing.parts).split()
    assert sorted(said) == sorted(words(drawing).split()), "the parts say what the whole says"


# -- colours

DRAWN: dict[str, Callable[[], Figure]] = {
    "machine": lambda: diagrams.machine(recorded("broken")),
    "sequence": lambda: diagrams.sequence(recorded("broken")),
    "side by side": lambda: diagrams.side_by_side(recorded("broken"), recorded("callback")),
    "timeline": lambda: diagrams.timeline(streams(5)),
    "arrivals": lambda: arrivals({"one": [0.1], "two": [0.2], "three": [0.3], "four": [0.4]}),
    "flows": lambda: draw_flows({"callback": [Edge("start_sse", "requested", "sse_started", "", 1)]}),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_each_colour_of_a_drawing_has_one_for_a_dark_page(draw: Callable[[], Figure]) -> None:
    light = svg(draw())
    assert palette.colours_of(light) <= palette.PALETTE.keys()
    assert palette.colours_of(palette.dark(light)) <= {colour.dark for colour in palette.PALETTE.values()}
    assert set(re.findall(r"(?:fill|stroke): (?!none|var)[^;\"]+", palette.themed(light))) == set()


@pytest.mark.parametrize("side", ["light", "dark"])
def test_words_can_be_read_on_their_ground(side: str) -> None:
    """By the ratio that WCAG asks of letters of this size."""

    def colour(light: str) -> str:
        return light if side == "light" else palette.PALETTE[light].dark

    def luminance(of: str) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(of)]
        return float(numpy.dot(parts, (0.2126, 0.7152, 0.0722)))

    pairs = [
        *((letters, ground) for letters in (INK, SOFT) for ground in (CARD, BOX, PATH_TINT)),
        *((letters, CARD) for letters in (WRONG, WIRE)),
        (WRONG, WRONG_TINT), (WIRE, PATH_TINT), (CARD, WIRE),
    ]  # fmt: skip
    for letters, ground in pairs:
        low, high = sorted((luminance(colour(letters)), luminance(colour(ground))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{colour(letters)} on {colour(ground)}"


def test_a_figure_of_the_readers_own_keeps_its_colours() -> None:
    own = Figure(facecolor="#123456")
    own.subplots().plot([1, 2])
    assert palette.themed(svg(own)) == svg(own)


# -- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = cli.main(["diagram", *arguments])
    except SystemExit as exit:
        status = int(exit.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    recorded("broken").save("broken.ndjson")
    recorded("callback").save("fixed.ndjson")
    Recording([*recorded("broken"), *(replace(one, exchange=2) for one in recorded("callback"))]).save("both.ndjson")
    Path("empty.ndjson").write_text("")
    Path("bad.ndjson").write_text('{"time": 1}\n')
    return tmp_path


def test_the_bare_command_prints_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys) == (0, diagrams.mermaid_machine(), "")


@pytest.mark.parametrize(
    "arguments",
    [
        "machine -o a.svg",
        "machine broken.ndjson -o a.png --title Hello",
        "machine broken.ndjson -o a.mmd",
        "machine broken.ndjson -o a.MMD",
        "sequence broken.ndjson -o a.Svg --scale",
        "timeline broken.ndjson -o a.PNG",
        "sequence broken.ndjson -o a.svg --scale",
        "sequence both.ndjson --exchange /callback -o a.mmd",
        "sequence both.ndjson --exchange 2 -o a.png",
        "side-by-side broken.ndjson fixed.ndjson -o a.svg",
        "side-by-side both.ndjson -o a.svg --scale",
        "side-by-side both.ndjson --exchange 2 --exchange 1 --title a --title b -o a.svg",
        "timeline broken.ndjson both.ndjson -o a.svg",
    ],
)
def test_the_command_writes_a_file(arguments: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *arguments.split()) == (0, "", "")
    (written,) = files.glob("a.*")
    begin = {".svg": b"<?xml", ".png": b"\x89PNG", ".mmd": b"s"}[written.suffix.lower()]
    assert written.read_bytes().startswith(begin)


def test_the_command_prints_a_sequence(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "sequence", "broken.ndjson") == (0, diagrams.mermaid_sequence(recorded("broken")), "")
    assert run(capsys, "machine", "both.ndjson", "--exchange", "1")[1] == diagrams.mermaid_machine(recorded("broken"))


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ("broken.ndjson", 2, "KIND comes first, one of machine, sequence, side-by-side, timeline, not 'broken.ndjson'"),
        ("sequence", 2, "sequence takes one recording, not 0"),
        ("machine broken.ndjson fixed.ndjson", 2, "machine takes one recording or none, not 2"),
        ("sequence nowhere.ndjson", 2, "can't read nowhere.ndjson: No such file or directory"),
        ("sequence bad.ndjson", 2, "bad.ndjson: line 1: not a record"),
        ("sequence empty.ndjson", 2, "empty.ndjson: no step was recorded"),
        ("sequence both.ndjson", 2, "both.ndjson has 2 exchanges (1 GET /broken, 2 GET /callback): choose one with"),
        ("sequence both.ndjson --exchange /none", 2, "both.ndjson: no exchange '/none' was recorded; there is 1 (GET"),
        ("side-by-side broken.ndjson -o a.svg", 2, "broken.ndjson has 1 exchange (1 GET /broken): choose two"),
        ("side-by-side both.ndjson --exchange 1 -o a.svg", 2, "takes --exchange twice, not once"),
        ("timeline broken.ndjson", 2, "timeline can't be drawn as Mermaid text: give -o FILE.svg or -o FILE.png"),
        ("machine -o a.pdf", 2, "FILE ends in .svg, .png or .mmd, not 'a.pdf'"),
        ("timeline broken.ndjson -o a.MMD", 2, "timeline can't be drawn as Mermaid text"),
        ("machine --scale -o a.svg", 2, "--scale is for sequence and side-by-side, not for machine"),
        ("sequence broken.ndjson --scale", 2, "--scale is not for Mermaid text"),
        ("machine --exchange 1", 2, "and there is none"),
        ("timeline both.ndjson --exchange 1 -o a.svg", 2, "and a timeline shows all"),
        ("sequence broken.ndjson --title a --title b", 2, "--title can be given once for sequence, not 2 times"),
        ("side-by-side - - -o a.svg", 2, "the standard input can be read only once"),
        ("machine -o nowhere/a.svg", 1, "can't write nowhere/a.svg: No such file or directory"),
        ("machine -o nowhere/a.mmd", 1, "can't write nowhere/a.mmd: No such file or directory"),
    ],
)
def test_what_goes_wrong_is_one_line(
    arguments: str, status: int, text: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = run(capsys, *arguments.split())
    assert (ended, out, err.count("\n")) == (status, "", 1), err
    assert text in err
    assert not list(files.glob("a.*"))


def test_a_record_that_can_not_be_drawn_is_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = Record(0.0, 1, "retries", "proxy", "adapter", None, "paused", "paused")
    Path("strange.ndjson").write_text(strange.to_json() + "\n")
    for arguments, text in {
        "sequence strange.ndjson": "step retries: the lanes are",
        "sequence strange.ndjson -o a.svg": "step retries: the lanes are",
        "machine strange.ndjson -o a.svg": "'paused' is not a valid State",
    }.items():
        status, _, err = run(capsys, *arguments.split())
        assert (status, err.count("\n")) == (2, 1), err
        assert text in err


def test_mermaid_needs_no_extra_and_drawing_says_which(tmp_path: Path) -> None:
    script = (
        "import sys, importlib.abc\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('matplotlib', 'IPython', 'numpy'): raise ImportError(name)\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'matplotlib' else find(name, *rest)\n"
        "sys.meta_path.insert(0, No())\n"
        "from h3ref.cli import main as cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )

    def run_without(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, "diagram", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parent.parent)

    plain_text = run_without()
    assert (plain_text.returncode, plain_text.stdout) == (0, diagrams.mermaid_machine()), plain_text.stderr
    drawing = run_without("machine", "-o", str(tmp_path / "a.svg"))
    assert (drawing.returncode, drawing.stderr) == (1, "h3ref: drawing needs matplotlib: pip install 'h3ref[lab]'\n")


def test_the_help_has_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert "exit status:" in out
    assert "RECORDING" in out
    assert all(kind in out for kind in ("machine", "sequence", "side-by-side", "timeline"))


def test_signs_that_xml_can_not_hold_do_not_spoil_an_svg() -> None:
    figure = diagrams.sequence([replace(one, detail="GET /\ud800\x1b") for one in recorded("callback")[:1]])
    ElementTree.fromstring(svg(figure))
    assert "GET /��" in str(figure.get_label())


def test_a_step_that_is_not_ours_is_drawn_by_its_name() -> None:
    other = Step("retries", "adapter", "adapter", None, "")
    assert "retries" in words(diagrams.sequence([record(other)]))


def test_options_stand_before_between_or_after_the_recordings(tmp_path: Path) -> None:
    recording, picture = tmp_path / "run.ndjson", tmp_path / "run.svg"
    recorded("callback").save(recording)
    for arguments in (
        ["sequence", "--scale", str(recording), "-o", str(picture)],
        ["--scale", "sequence", "-o", str(picture), str(recording)],
        ["sequence", str(recording), "--scale", "-o", str(picture)],
    ):
        assert cli.main(["diagram", *arguments]) == 0
        picture.unlink()
