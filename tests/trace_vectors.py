"""Writes `spec/vectors/trace/`: the recordings of the scenarios, and changed ones that no legal run contains.

`python -m tests.trace_vectors` writes them again. Whoever does reads the difference: a vector is right when the
specification says so, not because a program wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from h3ref.errors import LifecycleError
from h3ref.lifecycle import Lifecycle, Reason
from h3ref.trace import STEPS, Record
from tests.flow_runs import SCENARIOS, run

DIRECTORY = Path(__file__).resolve().parents[1] / "spec" / "vectors" / "trace"

LEGAL = {
    "callback": (
        "Streams by a callback, the default.",
        ("callback", "keep-alive", "too early, then a callback"),
    ),
    "awaited_and_blocking": ("Streams by a handler that waits for its writer.", ("awaited", "blocking", "early")),
    "broken": (
        "H3Z's order: every record is legal, and nobody ever writes.",
        ("broken", "plain, broken", "silence, broken"),
    ),
    "head_request": ("HEAD on a route that streams.", ("head", "head, awaited", "head, blocking", "early, head")),
    "plain_response": (
        "Plain answers, and those that take a stream's place.",
        ("plain", "silence", "nobody writes", "over", "never started"),
    ),
    "failures": (
        "Handlers and callbacks that raise.",
        (
            "handler raises",
            "handler raises after start_sse",
            "callback raises",
            "awaited raises",
            "early, and the head fails",
        ),
    ),
    "endings": ("Ends that come from outside.", ("client leaves", "server ends", "server ends before the headers")),
}

Records = list[Record]
Edit = Callable[[Records], Records]


def resettled(records: Sequence[Record]) -> Records:
    """The same steps in this order, each with the state, rejection and reason that the machine has for it here."""
    found: Records = []
    life = Lifecycle(found.append)
    for record in records:
        told = record.reason if record.trigger == "close" and record.reason in ("shutdown", "timeout") else None
        with suppress(LifecycleError):
            life.take(STEPS[record.step], reason=Reason(told) if told else None)
    kept = ("before", "after", "error", "rule", "reason")
    return [
        replace(old, time=index / 1000, **{name: getattr(new, name) for name in kept})
        for index, (old, new) in enumerate(zip(records, found, strict=True))
    ]


def at(records: Sequence[Record], step: str) -> int:
    """The index of the first record of a step."""
    return next(index for index, record in enumerate(records) if record.step == step)


def without(*steps: str) -> Edit:
    """Every record of these steps is left out."""
    return lambda records: resettled([record for record in records if record.step not in steps])


def moved(step: str, before: str) -> Edit:
    """The first record of a step comes before that of another."""

    def edit(records: Records) -> Records:
        records = list(records)
        record = records.pop(at(records, step))
        records.insert(at(records, before), record)
        return resettled(records)

    return edit


def twice(step: str) -> Edit:
    """A step is taken twice in a row."""

    def edit(records: Records) -> Records:
        index = at(records, step)
        return resettled([*records[: index + 1], *records[index:]])

    return edit


def inserted(step: str, after: str) -> Edit:
    """A step is taken where it was not, after the first record of another."""

    def edit(records: Records) -> Records:
        taken = STEPS[step]
        record = replace(
            records[0], step=step, who=taken.who, to=taken.to, trigger=taken.trigger, detail=None, size=None
        )
        index = at(records, after) + 1
        return resettled([*records[:index], record, *records[index:]])

    return edit


def altered(name: str, /, **values: Any) -> Edit:
    """The first record of a step has other values, and nothing else is changed."""

    def edit(records: Records) -> Records:
        index = at(records, name)
        return [*records[:index], replace(records[index], **values), *records[index + 1 :]]

    return edit


def cut_after(step: str) -> Edit:
    """The recording stops after the first record of a step."""
    return lambda records: resettled(records[: at(records, step) + 1])


ILLEGAL: tuple[tuple[str, str, Edit, str, str, int], ...] = (
    # what is wrong, the recording that is changed, the change, the rule, the step and which of them
    ("the request was not recorded", "callback", without("request"), "T-01", "start_sse", 0),
    ("a request without its method and target", "callback", altered("request", detail=None), "T-01", "request", 0),
    (
        "an exchange that begins in another state",
        "callback",
        altered("request", before="closed", after="closed"),
        "T-01",
        "request",
        0,
    ),
    (
        "a state that nobody brought about",
        "callback",
        altered("checks_sse_started", before="headers_sent", after="headers_sent"),
        "T-02",
        "checks_sse_started",
        0,
    ),
    ("a step that there is not", "callback", altered("connection_ready", step="is_ready"), "T-03", "is_ready", 0),
    ("an arrow to the wrong lane", "callback", altered("headers", to="handler"), "T-03", "headers", 0),
    (
        "a head that was sent without asking the machine",
        "callback",
        altered("sends_headers", trigger=None),
        "T-03",
        "sends_headers",
        0,
    ),
    (
        "a step without a trigger changes the state",
        "callback",
        altered("connection_ready", after="streaming"),
        "T-04",
        "connection_ready",
        0,
    ),
    (
        "a step without a trigger is rejected",
        "callback",
        altered("connection_ready", error="ConnectionNotReady", rule="L-17"),
        "T-04",
        "connection_ready",
        0,
    ),
    (
        "the writer is given out before the headers: H3Z's handler would have had what it asked for",
        "broken",
        altered("get_sse_writer", after="streaming", error=None, rule=None),
        "L-17",
        "get_sse_writer",
        0,
    ),
    (
        "a rejection with the error of another cell",
        "broken",
        altered("get_sse_writer", error="SSENotStarted"),
        "L-17",
        "get_sse_writer",
        0,
    ),
    (
        "a rejection with the id of another cell",
        "broken",
        altered("get_sse_writer", rule="L-16"),
        "L-17",
        "get_sse_writer",
        0,
    ),
    (
        "a head that is rejected when it is due",
        "callback",
        altered("sends_headers", after="sse_started", error="SSENotStarted", rule="L-11"),
        "L-12",
        "sends_headers",
        0,
    ),
    ("closed without a reason", "plain", altered("send_response", reason=None), "T-05", "send_response", 0),
    (
        "closed for another reason than the trigger gives",
        "plain",
        altered("send_response", reason="complete"),
        "T-05",
        "send_response",
        0,
    ),
    ("the reason changes after the end", "plain", altered("returns", reason="error"), "T-05", "returns", 0),
    ("a reason before the end", "callback", altered("start_sse", reason="complete"), "T-05", "start_sse", 0),
    ("the clock goes back", "callback", altered("returns", time=-1.0), "T-06", "returns", 0),
    ("the handler returns twice", "callback", twice("returns"), "T-07", "returns", 1),
    (
        "a callback is set when the head has left",
        "callback",
        inserted("set_stream_callback", after="connection_ready"),
        "T-08",
        "set_stream_callback",
        1,
    ),
    (
        "a handler waits for a writer after its plain answer",
        "plain",
        inserted("await_sse_writer", after="send_response"),
        "T-09",
        "await_sse_writer",
        0,
    ),
    (
        "a stream is set up after a plain answer",
        "plain",
        inserted("checks_sse_started", after="returns"),
        "T-10",
        "checks_sse_started",
        0,
    ),
    (
        "a handler waits for a writer without having started a stream",
        "awaited",
        without("start_sse"),
        "T-09",
        "await_sse_writer",
        0,
    ),
    ("a stream is set up that nobody asked for", "callback", without("start_sse"), "T-10", "checks_sse_started", 0),
    (
        "the stream is set up beside the running handler",
        "callback",
        moved("returns", before="data"),
        "T-12",
        "checks_sse_started",
        0,
    ),
    (
        "a stream is set up a second time",
        "callback",
        inserted("checks_sse_started", after="connection_ready"),
        "T-11",
        "checks_sse_started",
        1,
    ),
    (
        "nobody looked whether it is a stream",
        "callback",
        without("checks_sse_started"),
        "T-13",
        "creates_connection",
        0,
    ),
    (
        "the connection is created before anybody looked",
        "awaited",
        moved("creates_connection", before="checks_sse_started"),
        "T-13",
        "creates_connection",
        0,
    ),
    (
        "a second connection for one stream",
        "callback",
        inserted("creates_connection", after="connection_ready"),
        "T-14",
        "creates_connection",
        1,
    ),
    (
        "the head is sent, and there is no connection",
        "callback",
        without("creates_connection"),
        "T-15",
        "sends_headers",
        0,
    ),
    (
        "the head leaves before the machine allows it",
        "callback",
        moved("headers", before="sends_headers"),
        "T-16",
        "headers",
        0,
    ),
    ("the head leaves twice", "callback", twice("headers"), "T-16", "headers", 1),
    (
        "the connection is called ready before the headers have left",
        "callback",
        moved("connection_ready", before="headers"),
        "T-17",
        "connection_ready",
        0,
    ),
    (
        "the connection is called ready, and no headers ever leave",
        "awaited",
        without("sends_headers", "headers"),
        "T-17",
        "connection_ready",
        0,
    ),
    (
        "a callback is scheduled that was never set",
        "callback",
        without("set_stream_callback"),
        "T-18",
        "schedules_callback",
        0,
    ),
    (
        "a callback is scheduled beside the running handler",
        "awaited",
        inserted("schedules_callback", after="connection_ready"),
        "T-18",
        "schedules_callback",
        0,
    ),
    (
        "a callback that was set is scheduled while the handler still waits",
        "awaited",
        lambda records: inserted("schedules_callback", after="connection_ready")(
            inserted("set_stream_callback", after="start_sse")(records)
        ),
        "T-19",
        "schedules_callback",
        0,
    ),
    (
        "the callback is scheduled before the connection is ready",
        "callback",
        moved("schedules_callback", before="connection_ready"),
        "T-20",
        "schedules_callback",
        0,
    ),
    ("the callback is scheduled twice", "callback", twice("schedules_callback"), "T-20", "schedules_callback", 1),
    (
        "the writer is handed over before the connection is ready",
        "awaited",
        without("connection_ready"),
        "T-20",
        "hands_over_writer",
        0,
    ),
    (
        "the writer is handed to a handler that does not wait for it",
        "broken",
        inserted("hands_over_writer", after="connection_ready"),
        "T-21",
        "hands_over_writer",
        0,
    ),
    (
        "the callback is called, and was not scheduled",
        "callback",
        without("schedules_callback"),
        "T-22",
        "calls_callback",
        0,
    ),
    ("the callback is called twice", "callback", twice("calls_callback"), "T-22", "calls_callback", 1),
    (
        "an event overtakes the head that it was sent behind",
        "early",
        lambda records: moved("event", before="headers")(moved("data", before="headers")(records)),
        "T-39",
        "data",
        0,
    ),
    ("bytes that nobody sent", "callback", without("send_event"), "T-23", "data", 0),
    ("an event goes over the connection twice", "blocking", twice("data"), "T-23", "data", 1),
    ("an event arrives twice", "blocking", twice("event"), "T-24", "event", 1),
    ("a comment arrives twice", "keep-alive", twice("comment"), "T-25", "comment", 1),
    ("an event arrives before it was on its way", "callback", moved("event", before="data"), "T-26", "event", 0),
    (
        "an event reaches a client that has left",
        "client leaves",
        moved("disconnect", before="event"),
        "T-27",
        "event",
        0,
    ),
    (
        "a stream is complete, and nobody has had its writer",
        "callback",
        without("schedules_callback", "calls_callback", "send_event", "data", "event"),
        "T-28",
        "closes",
        0,
    ),
    ("the connection is closed twice", "callback", twice("closes_connection"), "T-29", "closes_connection", 1),
    (
        "a plain answer with the end of a stream",
        "plain",
        inserted("closes_connection", after="returns"),
        "T-29",
        "closes_connection",
        0,
    ),
    (
        "a failure ends as if all was well",
        "callback raises",
        lambda records: inserted("closes_connection", after="fails")(without("cuts_connection")(records)),
        "T-30",
        "closes_connection",
        0,
    ),
    (
        "the connection is closed first, the exchange second",
        "callback",
        moved("closes_connection", before="closes"),
        "T-30",
        "closes_connection",
        0,
    ),
    (
        "a stream that is complete is cut",
        "callback",
        lambda records: inserted("cuts_connection", after="closes")(without("closes_connection")(records)),
        "T-31",
        "cuts_connection",
        0,
    ),
    (
        "the client sees an end that nobody sent",
        "callback",
        without("closes_connection"),
        "T-32",
        "connection_closed",
        0,
    ),
    (
        "an answer leaves before it is decided",
        "plain",
        moved("response", before="send_response"),
        "T-33",
        "response",
        0,
    ),
    ("two answers to one request", "plain", twice("response"), "T-34", "response", 1),
    (
        "a plain answer in the middle of a stream's end",
        "callback",
        inserted("response", after="closes"),
        "T-35",
        "response",
        0,
    ),
    ("an answer to a client that has left", "silence", inserted("disconnect", after="returns"), "T-36", "response", 0),
    (
        "bytes after the end",
        "callback",
        lambda records: moved("closes_connection", before="data")(moved("closes", before="data")(records)),
        "T-37",
        "data",
        0,
    ),
    (
        "a client hangs: nobody writes, and nobody ends it",
        "broken",
        cut_after("connection_ready"),
        "T-38",
        "connection_ready",
        0,
    ),
)


def cases(recordings: dict[str, Records]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Each file's name, what it is about, and its cases."""
    for name, (about, scenarios) in LEGAL.items():
        yield (
            name,
            about,
            [
                {
                    "name": SCENARIOS[scenario].about,
                    "flow": SCENARIOS[scenario].flow,
                    "whole": True,
                    "records": [*map(as_json, recordings[scenario])],
                }
                for scenario in scenarios
            ],
        )
    both = sorted([*again(recordings["callback"], 1), *again(recordings["awaited"], 2)], key=lambda record: record.time)
    mixed: list[dict[str, Any]] = [
        {"name": "two exchanges at once", "whole": True, "records": [*map(as_json, both)]},
        {
            "name": "two runs of a server, which both count from 1",
            "whole": True,
            "records": [*map(as_json, [*recordings["callback"], *recordings["plain"]])],
        },
        {"name": "a recording that was stopped in the middle", "records": [*map(as_json, recordings["callback"][:9])]},
        {"name": "nothing at all", "whole": True, "records": []},
    ]
    yield "several", "Recordings of several exchanges, and of less than one.", mixed
    yield "impossible", "Recordings with a record that no legal run contains.", [*_impossible(recordings)]


def again(records: Sequence[Record], exchange: int) -> Records:
    """The same as the records of another exchange."""
    return [replace(record, exchange=exchange) for record in records]


def _impossible(recordings: dict[str, Records]) -> Iterator[dict[str, Any]]:
    for name, scenario, edit, rule, step, which in ILLEGAL:
        records = edit(list(recordings[scenario]))
        index = [index for index, record in enumerate(records) if record.step == step][which]
        case: dict[str, Any] = {"name": name, "violation": {"index": index, "rule": rule}}
        if rule == "T-38":
            case["whole"] = True
        yield {**case, "records": [*map(as_json, records[: index + 3])]}  # what follows changes nothing


def as_json(record: Record) -> dict[str, Any]:
    return {key: value for key, value in asdict(record).items() if value is not None}


def rendered(about: str, found: Sequence[dict[str, Any]]) -> str:
    """A file, a line for each record."""
    text = []
    for case in found:
        keys = [f"      {json.dumps(key)}: {json.dumps(value)}" for key, value in case.items() if key != "records"]
        lines = ",\n".join(f"        {json.dumps(record, ensure_ascii=False)}" for record in case["records"])
        keys.append(f'      "records": [\n{lines}\n      ]' if lines else '      "records": []')
        text.append("    {\n" + ",\n".join(keys) + "\n    }")
    head = f'{{\n  "format": 1,\n  "kind": "trace",\n  "about": {json.dumps(about)},\n  "cases": [\n'
    return head + ",\n".join(text) + "\n  ]\n}\n"


def recorded() -> dict[str, Records]:
    """The scenarios as they are recorded now."""
    return {name: list(run(scenario).recording) for name, scenario in SCENARIOS.items()}


def main() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, about, found in cases(recorded()):
        (DIRECTORY / f"{name}.json").write_text(rendered(about, found), encoding="utf-8")


if __name__ == "__main__":
    main()
