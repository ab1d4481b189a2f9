"""`Record`: one step of an exchange, with names and lanes, as a line of NDJSON. A hook, not a collector.

The steps are the arrows of H3Z's own sequence diagrams, between the same four lanes. To see them, pass a listener (a
callable that takes a `Record`) as `trace` to `running`, `serve` or an adapter. Without a listener, no record is built.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

__all__ = ["Listener", "Record", "Step"]

LANES = ("client", "handler", "adapter", "connection")


@dataclass(frozen=True, slots=True)
class Step:
    """One arrow: who takes it, towards whom, and the trigger of the state machine it pulls, if any."""

    name: str
    who: str
    to: str
    trigger: str | None
    words: str


REQUEST = Step("request", "client", "handler", None, "request")
START_SSE = Step("start_sse", "handler", "adapter", "start_sse", "start_sse() (sets flags)")
SET_STREAM_CALLBACK = Step(
    "set_stream_callback", "handler", "adapter", None, "set_stream_callback (registers callback)"
)
GET_SSE_WRITER = Step("get_sse_writer", "handler", "adapter", "get_writer", "get_sse_writer()")
AWAIT_SSE_WRITER = Step("await_sse_writer", "handler", "adapter", None, "await_sse_writer() (suspends)")
START_SSE_BLOCKING = Step("start_sse_blocking", "handler", "adapter", None, "start_sse_blocking() (blocks)")
SEND_RESPONSE = Step("send_response", "handler", "adapter", "send_response", "sends a plain response")
RETURNS = Step("returns", "handler", "adapter", None, "returns")
FAILS = Step("fails", "handler", "adapter", "fail", "raises")
GIVES_UP = Step("gives_up", "adapter", "adapter", "fail", "gives up: nobody will write")
CHECKS_SSE_STARTED = Step("checks_sse_started", "adapter", "adapter", None, "checks sse_started")
CREATES_CONNECTION = Step("creates_connection", "adapter", "connection", None, "creates connection")
SENDS_HEADERS = Step("sends_headers", "adapter", "connection", "send_headers", "sends headers")
HEADERS = Step("headers", "connection", "client", None, "Headers")
CONNECTION_READY = Step("connection_ready", "adapter", "connection", None, "connection ready")
SCHEDULES_CALLBACK = Step("schedules_callback", "adapter", "adapter", None, "schedules callback")
CALLS_CALLBACK = Step("calls_callback", "adapter", "handler", "get_writer", "calls callback with writer")
HANDS_OVER_WRITER = Step("hands_over_writer", "adapter", "handler", "get_writer", "hands over the writer")
SEND_EVENT = Step("send_event", "handler", "adapter", "send_event", "send_event()")
SEND_KEEP_ALIVE = Step("send_keep_alive", "handler", "adapter", "send_event", "send_keep_alive()")
DATA = Step("data", "adapter", "connection", None, "data")
EVENT = Step("event", "connection", "client", None, "Event")
COMMENT = Step("comment", "connection", "client", None, "Comment")
CLOSE = Step("close", "handler", "adapter", "close", "close()")
CLOSES = Step("closes", "adapter", "adapter", "close", "closes the stream")
CLOSES_CONNECTION = Step("closes_connection", "adapter", "connection", None, "close")
CUTS_CONNECTION = Step("cuts_connection", "adapter", "connection", None, "cut, without the proper end")
CONNECTION_CLOSED = Step("connection_closed", "connection", "client", None, "Connection closed")
RESPONSE = Step("response", "connection", "client", None, "Response")
DISCONNECT = Step("disconnect", "client", "connection", "disconnect", "disconnect")

STEPS = {step.name: step for step in list(globals().values()) if isinstance(step, Step)}


@dataclass(frozen=True, slots=True)
class Record:
    """One step as it happened.

    Attributes:
        time: seconds on a clock that only goes forward; only differences mean something.
        exchange: the number of the exchange, counted from 1 by each server.
        step: a name in `STEPS`.
        who: the lane that took the step.
        to: the lane that it went to; the same as `who` for a step within a lane.
        trigger: the trigger that it pulled, or None.
        before: the state before it.
        after: the state after it; the same if the trigger was rejected.
        error: the name of the exception that rejected it, or None.
        rule: the id of the rule that rejected it, or None.
        reason: why the connection is closed, once it is, or None.
        size: the bytes that it moved, or None.
        detail: anything else that helps a reader, such as the request line, or None.
    """

    time: float
    exchange: int
    step: str
    who: str
    to: str
    trigger: str | None
    before: str
    after: str
    error: str | None = None
    rule: str | None = None
    reason: str | None = None
    size: int | None = None
    detail: str | None = None

    def to_json(self) -> str:
        """Return the record as one line of NDJSON, without its line end; values of None are left out."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read a line that `to_json`, or another implementation, wrote. Keys that begin with `x_` are ignored.

        Raises:
            ValueError: the line is not a record; the text says what is wrong with it.
        """
        try:
            found = json.loads(line, parse_constant=_refuse, parse_int=_integer)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error.msg} (column {error.colno})") from None
        except RecursionError:
            raise ValueError("not a record: it is nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError(f"a record is a JSON object, not {type(found).__name__}")
        found = {key: value for key, value in found.items() if value is not None and not key.startswith("x_")}
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(found.keys() - known.keys())
        missing = sorted({"time", "exchange", "step", "who", "to", "before", "after"} - found.keys())
        if unknown or missing:
            raise ValueError(f"not a record: unknown {unknown}, missing {missing}")
        for name, value in found.items():
            kind = _KINDS[name]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"not a record: {name} is {_NAMES[kind]}, not {value!r}")
            if name != "time" and isinstance(value, int) and value < 0:
                raise ValueError(f"not a record: {name} is never negative, but is {value}")
        if not abs(found["time"]) <= sys.float_info.max:  # 1e999 is JSON, and no time
            raise ValueError("not a record: time is too large a number")
        return cls(**{"trigger": None, **found})


_NAMES: dict[type | tuple[type, ...], str] = {str: "a string", int: "an integer", (int, float): "a number"}

_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys((field.name for field in fields(Record)), str),
    **dict.fromkeys(("exchange", "size"), int),
    "time": (int, float),
}


def _refuse(constant: str) -> None:
    raise ValueError(f"not JSON: it has no {constant}")


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # there is a limit, lest the conversion take for ever
        raise ValueError(f"not a record: a number has {len(digits)} digits") from None


Listener = Callable[[Record], None]
"""Takes each record as it happens, on the thread where it happens. It must not pull a trigger itself."""
