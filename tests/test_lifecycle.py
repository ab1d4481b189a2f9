"""The state machine: held to `spec/lifecycle.json`, run through the vectors, driven at random and raced."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import MISSING, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from docs.generate import spec_tables
from h3ref import errors, lifecycle, trace
from h3ref.errors import ConnectionNotReady, H3Error, LifecycleError, ResponseAlreadySent
from h3ref.lifecycle import TABLE, TRIGGERS, Lifecycle, Reason, State
from h3ref.trace import Record

SPEC_DIR = Path(__file__).resolve().parents[1] / "spec"
SPEC: dict[str, Any] = json.loads((SPEC_DIR / "lifecycle.json").read_text(encoding="utf-8"))
CELLS: list[dict[str, Any]] = SPEC["cells"]
CELL: dict[tuple[str, str], dict[str, Any]] = {(cell["state"], cell["trigger"]): cell for cell in CELLS}
GIVES: dict[str, str | None] = {trigger["name"]: trigger["gives"] for trigger in SPEC["triggers"]}
CLOSE_REASONS: list[str] = next(trigger["may_be_told"] for trigger in SPEC["triggers"] if trigger["name"] == "close")
NAMES = {key: [item["name"] for item in SPEC[key]] for key in ("states", "reasons", "triggers", "errors")}

VECTOR_FILES = sorted((SPEC_DIR / "vectors" / "lifecycle").glob("*.json"))
VECTORS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in VECTOR_FILES}
CASES = [pytest.param(case, id=f"{theme}: {case['name']}") for theme, file in VECTORS.items() for case in file["cases"]]

PATH_TO = {
    "requested": (),
    "sse_started": ("start_sse",),
    "headers_sent": ("start_sse", "send_headers"),
    "streaming": ("start_sse", "send_headers", "get_writer"),
    "closed": ("start_sse", "send_headers", "get_writer", "close"),
}


def brought_to(state: str) -> Lifecycle:
    life = Lifecycle()
    for trigger in PATH_TO[state]:
        life.trigger(trigger)
    assert life.state == state
    return life


def error_class(name: str) -> type[LifecycleError]:
    found = getattr(errors, name)
    assert isinstance(found, type)
    assert issubclass(found, LifecycleError)
    return found


# The code and the JSON, both ways


def test_every_cell_of_the_code_is_in_the_json() -> None:
    for (state, trigger), (rule_id, outcome) in TABLE.items():
        cell = CELL[state, trigger]
        assert cell["id"] == rule_id
        if isinstance(outcome, State):
            assert cell.get("next") == outcome
            assert "error" not in cell
        else:
            assert cell.get("error") == outcome.__name__
            assert "next" not in cell


def test_every_cell_of_the_json_is_in_the_code() -> None:
    assert len(CELLS) == len(CELL) == 40
    for cell in CELLS:
        rule_id, outcome = TABLE[State(cell["state"]), cell["trigger"]]
        assert rule_id == cell["id"]
        assert outcome == (State(cell["next"]) if "next" in cell else error_class(cell["error"]))


def test_names_are_the_same_in_code_and_json_and_in_the_same_order() -> None:
    assert NAMES["states"] == list(State)
    assert NAMES["triggers"] == list(TRIGGERS)
    assert NAMES["reasons"] == list(Reason)
    assert set(NAMES["errors"]) == {kind.__name__ for kind in LifecycleError.__subclasses__()}
    assert all(error_class(name) for name in NAMES["errors"])


def test_the_rules_are_numbered_trigger_by_trigger_and_state_by_state() -> None:
    order = [(state, trigger) for trigger in NAMES["triggers"] for state in NAMES["states"]]
    assert [(cell["state"], cell["trigger"]) for cell in CELLS] == order
    assert [cell["id"] for cell in CELLS] == [f"L-{number:02}" for number in range(1, 41)]


def test_the_json_has_no_key_that_its_format_does_not_name() -> None:
    assert (SPEC["format"], SPEC["initial"], SPEC["final"]) == (1, State.REQUESTED, State.CLOSED)
    top = {"format", "about", "initial", "final", "states", "reasons", "triggers", "errors", "cells", "steps", "orders"}
    assert SPEC.keys() == top
    for key in ("states", "reasons", "errors"):
        assert all(item.keys() == {"name", "means"} for item in SPEC[key])
    for trigger in SPEC["triggers"]:
        told = {"may_be_told"} if trigger["name"] == "close" else set()
        assert trigger.keys() == {"name", "who", "gives", "means"} | told
    for cell in CELLS:
        assert cell.keys() - {"answer", "keeps_reason"} in (
            {"id", "state", "trigger", "next", "why"},
            {"id", "state", "trigger", "error", "why"},
        )


def test_each_cell_has_a_why_of_its_own() -> None:
    whys = [cell["why"] for cell in CELLS]
    assert len(set(whys)) == len(whys)
    assert all(len(why) > 60 and why.endswith(".") for why in whys)


def test_a_status_is_answered_only_while_no_byte_has_left() -> None:
    answers = {(cell["state"], cell["trigger"]): cell["answer"] for cell in CELLS if "answer" in cell}
    unavailable = dict.fromkeys(("complete", "shutdown", "slow_consumer", "timeout"), 503)
    assert answers == {
        ("requested", "close"): unavailable,
        ("sse_started", "close"): unavailable | {"complete": 204},
        ("requested", "fail"): {"error": 500},
        ("sse_started", "fail"): {"error": 500},
    }


def test_the_reason_is_kept_exactly_where_a_closed_connection_is_closed_again() -> None:
    keeping = {cell["id"] for cell in CELLS if cell.get("keeps_reason")}
    assert keeping == {cell["id"] for cell in CELLS if cell["state"] == "closed" and cell.get("next") == "closed"}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell['id']} {cell['trigger']} in {cell['state']}")
def test_a_real_lifecycle_does_what_the_cell_says(cell: dict[str, Any]) -> None:
    life = brought_to(cell["state"])
    if "next" in cell:
        assert life.trigger(cell["trigger"]) == life.state == cell["next"]
        first = "complete" if cell.get("keeps_reason") else GIVES[cell["trigger"]]
        assert life.reason == (first if cell["next"] == "closed" else None)
        return
    with pytest.raises(error_class(cell["error"])) as caught:
        life.trigger(cell["trigger"])
    error = caught.value
    kept = "complete" if cell["state"] == "closed" else None
    assert type(error).__name__ == cell["error"]
    assert (error.state, error.trigger, error.rule) == (cell["state"], cell["trigger"], cell["id"])
    assert error.reason == life.reason == kept
    assert life.state == cell["state"]


# What a rejection says


@pytest.mark.parametrize("cell", [cell for cell in CELLS if "error" in cell], ids=lambda cell: cell["id"])
def test_a_rejection_names_state_trigger_and_rule_and_says_the_remedy(cell: dict[str, Any]) -> None:
    with pytest.raises(LifecycleError) as caught:
        brought_to(cell["state"]).trigger(cell["trigger"])
    text = str(caught.value)
    assert cell["state"] in text
    assert cell["trigger"] in text
    assert cell["id"] in text
    assert caught.value.remedy
    assert text.endswith(caught.value.remedy)
    assert ("complete" in text) == (cell["state"] == "closed")
    assert caught.value.__context__ is None, "nothing of the engine below is told"


def test_the_seeds_bug_is_told_of_all_three_ways_out() -> None:
    life = brought_to("sse_started")
    with pytest.raises(ConnectionNotReady, match="L-17") as caught:
        life.trigger("get_writer")
    for way_out in ("set_stream_callback", "await_sse_writer", "start_sse_blocking"):
        assert way_out in str(caught.value)


def test_every_rejection_is_an_h3_error() -> None:
    assert all(issubclass(error_class(name), H3Error) for name in NAMES["errors"])


@pytest.mark.parametrize("name", NAMES["errors"])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copied_or_pickled_rejection_keeps_its_fields(name: str, copied: Callable[[Any], Any]) -> None:
    error = error_class(name)(State.CLOSED, "get_writer", "L-20", Reason.CLIENT_GONE)
    twin = copied(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert (twin.state, twin.trigger, twin.rule, twin.reason) == ("closed", "get_writer", "L-20", "client_gone")


# The vectors


@pytest.mark.parametrize("case", CASES)
def test_vector(case: dict[str, Any]) -> None:
    life = Lifecycle()
    for number, step in enumerate(case["steps"]):
        before, reason_before, raised = life.state, life.reason, None
        try:
            life.trigger(step["trigger"], step.get("tell"))
        except LifecycleError as error:
            raised = error
        assert (type(raised).__name__ if raised else None) == step.get("error"), f"step {number}"
        assert (life.state, life.reason) == (step["state"], step.get("reason")), f"step {number}"
        assert CELL[before, step["trigger"]]["id"] == step["rule"], f"step {number}"
        if raised:
            fields_of = (raised.state, raised.trigger, raised.rule, raised.reason)
            assert fields_of == (before, step["trigger"], step["rule"], reason_before), f"step {number}"
            assert life.state is before, f"step {number}"


def steps() -> Iterator[dict[str, Any]]:
    for file in VECTORS.values():
        for case in file["cases"]:
            yield from case["steps"]


def test_the_vectors_reach_every_cell() -> None:
    assert {step["rule"] for step in steps()} == {cell["id"] for cell in CELLS}


def test_rejections_json_reaches_every_cell_that_rejects() -> None:
    rejected = {step["rule"] for case in VECTORS["rejections"]["cases"] for step in case["steps"] if "error" in step}
    assert rejected == {cell["id"] for cell in CELLS if "error" in cell}


def test_the_vectors_close_for_every_reason_and_go_on_after_rejections() -> None:
    assert len(CASES) >= 60
    assert {step["reason"] for step in steps() if "reason" in step} == set(NAMES["reasons"])
    cases = [case["steps"] for file in VECTORS.values() for case in file["cases"]]
    assert any("error" in one and "error" not in other for case in cases for one, other in pairwise(case))


def test_the_vectors_have_the_shape_that_the_readme_describes() -> None:
    for theme, file in VECTORS.items():
        assert file.keys() == {"format", "kind", "about", "cases"}, theme
        assert (file["format"], file["kind"]) == (1, "lifecycle"), theme
        names = [case["name"] for case in file["cases"]]
        assert names, theme
        assert len(set(names)) == len(names), theme
        assert all(case.keys() == {"name", "steps"} and case["steps"] for case in file["cases"]), theme
    for step in steps():
        assert {"trigger", "rule", "state"} <= step.keys() <= {"trigger", "tell", "error", "rule", "state", "reason"}
        assert ("reason" in step) == (step["state"] == "closed")
        assert "tell" not in step or step["trigger"] == "close"


# Random sequences, with the JSON as the model


class LifecycleAgainstTheJson(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.life = Lifecycle(self.records.append)
        self.state: str = SPEC["initial"]
        self.reason: str | None = None

    def expect(self, trigger: str, reason: str | None, pull: Callable[[], object]) -> None:
        cell = CELL[self.state, trigger]
        if "error" in cell:
            with pytest.raises(error_class(cell["error"])) as caught:
                pull()
            assert (caught.value.rule, caught.value.state, caught.value.reason) == (cell["id"], self.state, self.reason)
            return
        assert pull() == cell["next"]
        self.state = cell["next"]
        if self.state == "closed" and self.reason is None:
            self.reason = reason

    @rule(trigger=st.sampled_from(NAMES["triggers"]))
    def pull(self, trigger: str) -> None:
        self.expect(trigger, GIVES[trigger], lambda: self.life.trigger(trigger))

    @rule(reason=st.sampled_from(CLOSE_REASONS))
    def close_for(self, reason: str) -> None:
        self.expect("close", reason, lambda: self.life.trigger("close", reason))

    @rule(step=st.sampled_from([step for step in trace.STEPS.values() if step.trigger]))
    def take(self, step: trace.Step) -> None:
        assert step.trigger is not None
        self.expect(step.trigger, GIVES[step.trigger], lambda: self.life.take(step))
        assert self.records[-1].step == step.name
        assert self.records[-1].after == self.state

    @rule(trigger=st.sampled_from(NAMES["triggers"]), reason=st.sampled_from(NAMES["reasons"]))
    def tell_a_reason_that_the_trigger_cannot_give(self, trigger: str, reason: str) -> None:
        if trigger != "close" or reason not in CLOSE_REASONS:
            with pytest.raises(ValueError, match=reason):
                self.life.trigger(trigger, reason)

    @invariant()
    def agrees(self) -> None:
        assert (self.life.state, self.life.reason) == (self.state, self.reason)
        assert (self.life.reason is None) == (self.life.state is not State.CLOSED)


TestLifecycleAgainstTheJson = LifecycleAgainstTheJson.TestCase


# Hard to misuse


def test_a_new_lifecycle_is_requested_and_has_no_reason() -> None:
    life = Lifecycle()
    assert (life.state, life.reason, life.traced) == (SPEC["initial"], None, False)


def test_no_method_jumps_to_a_state() -> None:
    public = {name for name in dir(Lifecycle()) if not name.startswith("_")}
    assert public == {"state", "reason", "traced", "trigger", "take"}


def test_the_machine_has_one_transition_for_each_cell_of_the_table_and_no_other() -> None:
    found = [
        (transition.source, name, transition.dest, transition.cell)
        for name in lifecycle._MACHINE.events
        for transition in lifecycle._MACHINE.get_transitions(name)
        if isinstance(transition, lifecycle._Transition)
    ]
    assert len(found) == len(lifecycle._MACHINE.get_transitions()) == len(CELLS)
    for source, name, dest, cell in found:
        assert cell is TABLE[State(source), name]
        assert dest == (cell.outcome if isinstance(cell.outcome, State) else None)


def test_the_machine_is_what_a_trigger_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    [transition] = lifecycle._MACHINE.get_transitions("start_sse", State.REQUESTED.value)
    monkeypatch.setattr(transition, "cell", TABLE[State.REQUESTED, "close"])
    assert Lifecycle().trigger("start_sse") is State.CLOSED


def test_the_engine_below_tells_the_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "transitions")
    for cell in CELLS:
        with suppress(LifecycleError):
            brought_to(cell["state"]).trigger(cell["trigger"])
    assert caplog.records == []


@pytest.mark.parametrize("name", ["state", "reason", "traced", "anything"])
def test_nothing_can_be_assigned_from_outside(name: str) -> None:
    life = Lifecycle()
    with pytest.raises(AttributeError):
        setattr(life, name, State.STREAMING)
    assert life.state is State.REQUESTED


@pytest.mark.parametrize("name", ["", "to_streaming", "initial", "trigger", "Start_SSE", "streaming"])
def test_an_unknown_trigger_is_a_value_error_that_lists_the_known_ones(name: str) -> None:
    life = Lifecycle()
    with pytest.raises(ValueError, match=r"start_sse.*fail"):
        life.trigger(name)
    assert life.state is State.REQUESTED


@pytest.mark.parametrize("state", NAMES["states"])
@pytest.mark.parametrize("reason", ["", "because", "responded", "client_gone", "error"])
def test_close_refuses_a_reason_that_is_not_its_own_and_stays_as_it_was(state: str, reason: str) -> None:
    life = brought_to(state)
    with pytest.raises(ValueError, match="slow_consumer"):
        life.trigger("close", reason)
    assert life.state == state


@pytest.mark.parametrize("trigger", [name for name in NAMES["triggers"] if name != "close"])
def test_only_close_is_told_a_reason(trigger: str) -> None:
    life = Lifecycle()
    with pytest.raises(ValueError, match=f"{trigger} gives its own reason"):
        life.trigger(trigger, "complete")
    assert life.state is State.REQUESTED


@pytest.mark.parametrize("reason", CLOSE_REASONS)
def test_close_is_told_its_reasons_by_name_or_as_a_reason(reason: str) -> None:
    for told in (reason, Reason(reason)):
        life = brought_to("streaming")
        life.trigger("close", told)
        assert life.reason is Reason(reason)


def test_repr_tells_the_state_and_the_reason() -> None:
    life = Lifecycle()
    assert repr(life) == "<Lifecycle requested>"
    life.trigger("disconnect")
    assert repr(life) == "<Lifecycle closed, reason=client_gone>"


# Threads


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads change places as often as the interpreter can, so that a race that may happen does."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def race(*runners: Callable[[], None]) -> None:
    """Run all of them at once on threads of their own; what one of them raises is raised here."""
    start = threading.Barrier(len(runners))
    raised: list[BaseException] = []

    def run(runner: Callable[[], None]) -> None:
        start.wait()
        try:
            runner()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=[runner]) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def in_step(lives: list[Lifecycle], *pulls: Callable[[Lifecycle], None]) -> None:
    """Each pull has its thread; all of them come to each lifecycle at the same time."""
    meet = threading.Barrier(len(pulls))

    def walk(pull: Callable[[Lifecycle], None]) -> None:
        for life in lives:
            meet.wait(timeout=30)
            pull(life)

    race(*[partial(walk, pull) for pull in pulls])


@pytest.mark.usefixtures("hasty_threads")
def test_start_sse_racing_disconnect_comes_wholly_before_it_or_wholly_after() -> None:
    lives = [Lifecycle() for _ in range(3000)]
    outcomes: list[str] = []

    def handler(life: Lifecycle) -> None:
        try:
            assert life.trigger("start_sse") is State.SSE_STARTED
            outcomes.append("started")
        except ResponseAlreadySent as error:
            outcomes.append(f"rejected by {error.rule}, {error.state}: {error.reason}")

    def peer(life: Lifecycle) -> None:
        assert life.trigger("disconnect") is State.CLOSED

    in_step(lives, handler, peer)
    assert len(outcomes) == len(lives)
    assert set(outcomes) <= {"started", "rejected by L-05, closed: client_gone"}
    assert {(life.state, life.reason) for life in lives} == {(State.CLOSED, Reason.CLIENT_GONE)}


@pytest.mark.usefixtures("hasty_threads")
def test_of_racing_closers_exactly_one_gives_the_reason_and_it_stays() -> None:
    lives = [brought_to("streaming") for _ in range(1000)]
    seen: dict[int, list[Reason | None]] = {id(life): [] for life in lives}

    def closer(trigger: str, reason: str | None) -> Callable[[Lifecycle], None]:
        def pull(life: Lifecycle) -> None:
            assert life.trigger(trigger, reason) is State.CLOSED
            seen[id(life)].append(life.reason)

        return pull

    in_step(
        lives,
        closer("disconnect", None),
        closer("fail", None),
        closer("close", "shutdown"),
        closer("close", "slow_consumer"),
    )
    for life in lives:
        assert life.reason in {"client_gone", "error", "shutdown", "slow_consumer"}
        assert seen[id(life)] == [life.reason] * 4


@pytest.mark.usefixtures("hasty_threads")
def test_of_racing_start_sse_and_send_response_one_wins() -> None:
    lives = [Lifecycle() for _ in range(1000)]
    won: dict[int, list[str]] = {id(life): [] for life in lives}

    def answerer(trigger: str) -> Callable[[Lifecycle], None]:
        def pull(life: Lifecycle) -> None:
            with suppress(LifecycleError):
                life.trigger(trigger)
                won[id(life)].append(trigger)

        return pull

    in_step(lives, answerer("start_sse"), answerer("send_response"))
    ends = {"start_sse": State.SSE_STARTED, "send_response": State.CLOSED}
    for life in lives:
        [winner] = won[id(life)]
        assert life.state is ends[winner]


@pytest.mark.usefixtures("hasty_threads")
def test_records_stand_in_the_order_of_the_triggers_whatever_thread_took_them() -> None:
    for _ in range(200):
        records: list[Record] = []
        life = Lifecycle(records.append)

        def handler(life: Lifecycle = life) -> None:
            for step in (trace.START_SSE, trace.SENDS_HEADERS, trace.CALLS_CALLBACK, trace.SEND_EVENT, trace.CLOSE):
                try:
                    life.take(step)
                except LifecycleError:
                    return

        def peer(life: Lifecycle = life) -> None:
            life.take(trace.DISCONNECT)

        race(handler, peer)
        assert_is_a_run_of_the_json(records)
        assert life.state is State.CLOSED


# Traces


def assert_is_a_run_of_the_json(records: list[Record]) -> None:
    """What spec/formats.md lets a reader of a trace rely on."""
    state = SPEC["initial"]
    for record in records:
        assert record.before == state
        state = record.after
        if record.trigger is None:
            assert (record.after, record.error, record.rule) == (record.before, None, None)
            continue
        cell = CELL[record.before, record.trigger]
        if "error" in cell:
            assert (record.after, record.error, record.rule) == (record.before, cell["error"], cell["id"])
        else:
            assert (record.after, record.error, record.rule) == (cell["next"], None, None)


def test_take_records_each_step_with_the_states_before_and_after_it() -> None:
    records: list[Record] = []
    life = Lifecycle(records.append, exchange=7)
    assert life.traced

    assert life.take(trace.START_SSE) is State.SSE_STARTED
    assert life.take(trace.RETURNS) is State.SSE_STARTED
    assert life.take(trace.SENDS_HEADERS, size=124) is State.HEADERS_SENT
    assert life.take(trace.CALLS_CALLBACK) is State.STREAMING
    assert life.take(trace.SEND_EVENT, size=30, detail="counter") is State.STREAMING
    assert life.take(trace.CLOSES, reason="shutdown") is State.CLOSED

    assert [(record.step, record.trigger, record.before, record.after) for record in records] == [
        ("start_sse", "start_sse", "requested", "sse_started"),
        ("returns", None, "sse_started", "sse_started"),
        ("sends_headers", "send_headers", "sse_started", "headers_sent"),
        ("calls_callback", "get_writer", "headers_sent", "streaming"),
        ("send_event", "send_event", "streaming", "streaming"),
        ("closes", "close", "streaming", "closed"),
    ]
    assert {record.exchange for record in records} == {7}
    assert [record.time for record in records] == sorted(record.time for record in records)
    assert (records[2].who, records[2].to, records[2].size) == ("adapter", "connection", 124)
    assert records[4].detail == "counter"
    assert life.reason is Reason.SHUTDOWN
    assert_is_a_run_of_the_json(records)


def test_take_records_a_rejection_with_its_error_and_rule() -> None:
    records: list[Record] = []
    life = Lifecycle(records.append)
    life.take(trace.START_SSE)
    for _ in range(10):
        with pytest.raises(ConnectionNotReady):
            life.take(trace.GET_SSE_WRITER)
    life.take(trace.SENDS_HEADERS)
    assert len(records) == 12
    assert {(record.before, record.after, record.error, record.rule) for record in records[1:11]} == {
        ("sse_started", "sse_started", "ConnectionNotReady", "L-17")
    }
    assert_is_a_run_of_the_json(records)


def test_without_a_listener_take_pulls_the_trigger_and_builds_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_record(**_: object) -> None:
        raise AssertionError("a record was built for nobody")

    monkeypatch.setattr(lifecycle, "Record", no_record)
    life = Lifecycle()
    assert life.take(trace.START_SSE) is State.SSE_STARTED
    assert life.take(trace.RETURNS) is State.SSE_STARTED
    with pytest.raises(ConnectionNotReady):
        life.take(trace.GET_SSE_WRITER)
    assert life.take(trace.CLOSES, reason="timeout") is State.CLOSED
    assert life.reason is Reason.TIMEOUT


def test_trigger_records_nothing_because_it_is_no_step() -> None:
    records: list[Record] = []
    Lifecycle(records.append).trigger("start_sse")
    assert records == []


def test_each_step_has_lanes_and_a_trigger_that_exist() -> None:
    for name, step in trace.STEPS.items():
        assert name == step.name
        assert {step.who, step.to} <= set(trace.LANES)
        assert step.trigger is None or step.trigger in TRIGGERS


FULL = Record(0.25, 3, "get_sse_writer", "handler", "adapter", "get_writer", "sse_started", "sse_started",
              error="ConnectionNotReady", rule="L-17", size=0, detail="GET /events, ü, and\na second line")  # fmt: skip
BARE = Record(0.5, 3, "returns", "handler", "adapter", None, "sse_started", "sse_started")


@pytest.mark.parametrize("record", [FULL, BARE], ids=["every key", "no optional key"])
def test_a_record_comes_back_from_its_line(record: Record) -> None:
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record


def test_a_recorded_step_comes_back_from_its_line() -> None:
    records: list[Record] = []
    Lifecycle(records.append).take(trace.START_SSE)
    assert [Record.from_json(record.to_json()) for record in records] == records


def test_absent_values_are_left_out_of_the_line_and_zero_is_not_absent() -> None:
    required = ["time", "exchange", "step", "who", "to", "before", "after"]
    assert list(json.loads(BARE.to_json())) == required
    assert json.loads(FULL.to_json())["size"] == 0


def test_keys_of_the_writers_own_are_passed_over() -> None:
    assert Record.from_json(json.dumps(json.loads(BARE.to_json()) | {"x_thread": 3, "x_": None})) == BARE


def test_null_is_read_as_absent() -> None:
    nulls = {key: None for key in ("trigger", "error", "rule", "size", "detail")}
    assert Record.from_json(json.dumps(json.loads(BARE.to_json()) | nulls)) == BARE


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "Expecting value"),
        ("start_sse", "Expecting value"),
        ("[]", "not list"),
        ("null", "not NoneType"),
        ("{}", "missing.*after.*before.*exchange.*step.*time.*to.*who"),
        (json.dumps(json.loads(BARE.to_json()) | {"colour": "red"}), r"unknown \['colour'\]"),
        (json.dumps(json.loads(BARE.to_json()) | {"time": "now"}), "time is a number, not 'now'"),
        (json.dumps(json.loads(BARE.to_json()) | {"time": float("nan")}), "not JSON: it has no NaN"),
        (json.dumps(json.loads(BARE.to_json()) | {"exchange": True}), "exchange is an integer, not True"),
        (json.dumps(json.loads(BARE.to_json()) | {"size": -1}), "size is never negative, but is -1"),
        (BARE.to_json()[:-4], r"not JSON: .* \(column \d+\)"),
        (BARE.to_json().replace("0.5", "1e999"), "time is too large a number"),
        (BARE.to_json().replace("0.5", "[" * 100_000), "nested too deeply"),
        (BARE.to_json().replace("0.5", "1" * 5000), "digits"),
    ],
)
def test_a_line_that_is_no_record_is_a_value_error_that_says_what_is_wrong(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Record.from_json(line)


def test_the_page_lists_the_keys_of_a_record_and_which_are_required() -> None:
    section = (SPEC_DIR / "formats.md").read_text(encoding="utf-8").partition("## The format of a trace")[2]
    rows = [[text.strip() for text in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    listed = {row[0].strip("`"): row[2] for row in rows if len(row) == 4}
    optional = {field.name for field in fields(Record) if field.default is not MISSING} | {"trigger"}
    assert listed == {field.name: "no" if field.name in optional else "yes" for field in fields(Record)}


# The generated parts of the pages in spec/


def test_no_generated_part_of_the_pages_has_drifted(capsys: pytest.CaptureFixture[str]) -> None:
    assert spec_tables.main(["--check"]) == 0, capsys.readouterr().err


@pytest.fixture
def spec_copy(tmp_path: Path) -> Path:
    for name in (*spec_tables.PAGES, "lifecycle.json"):
        shutil.copy(SPEC_DIR / name, tmp_path)
    return tmp_path


def alter(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "part", "old"),
    [
        ("machine.md", "names", "| `headers_sent` | The head"),
        ("machine.md", "matrix", "ConnectionNotReady ([L-17]"),
        ("rules.md", "rules", "**L-17** In `sse_started`"),
        ("rules.md", "orders", "**T-01** The first"),
        ("formats.md", "steps", "| `start_sse_blocking` |"),
    ],
)
def test_an_altered_part_is_found_and_named_in_one_line(
    spec_copy: Path, capsys: pytest.CaptureFixture[str], page: str, part: str, old: str
) -> None:
    alter(spec_copy / page, old, old + "altered ")
    assert spec_tables.main(["--check", "--spec", str(spec_copy)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{page}: drifted: {part};" in said


def test_a_change_of_the_json_makes_the_pages_drift_until_it_is_generated_again(
    spec_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(spec_copy / "lifecycle.json", '"next": "headers_sent"', '"next": "streaming"')
    assert spec_tables.main(["--check", "--spec", str(spec_copy)]) == 1
    said = capsys.readouterr().err
    assert "machine.md: drifted: matrix;" in said
    assert "rules.md: drifted: rules;" in said
    assert spec_tables.main(["--spec", str(spec_copy)]) == 0
    assert spec_tables.main(["--check", "--spec", str(spec_copy)]) == 0


def test_prose_around_the_generated_parts_is_left_alone(spec_copy: Path) -> None:
    alter(spec_copy / "rules.md", "# The rules\n", "# The rules\n\nA sentence by hand.\n")
    before = (spec_copy / "rules.md").read_text(encoding="utf-8")
    assert spec_tables.main(["--spec", str(spec_copy)]) == 0
    assert (spec_copy / "rules.md").read_text(encoding="utf-8") == before


def test_a_lost_marker_is_an_error_and_nothing_is_written(spec_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(spec_copy / "machine.md", "<!-- generated: matrix -->", "")
    before = (spec_copy / "machine.md").read_text(encoding="utf-8")
    for arguments in (["--check"], []):
        assert spec_tables.main([*arguments, "--spec", str(spec_copy)]) == 1
        assert "each once; found: names" in capsys.readouterr().err
    assert (spec_copy / "machine.md").read_text(encoding="utf-8") == before


def test_nobody_sees_a_closed_connection_without_its_reason() -> None:
    unexplained = 0
    for _ in range(300):
        lifecycle = Lifecycle()
        closer = threading.Thread(target=lifecycle.trigger, args=("disconnect",))
        closer.start()
        while lifecycle.state is not State.CLOSED:
            pass
        unexplained += lifecycle.reason is None
        closer.join()
    assert unexplained == 0


def test_a_reason_that_cant_be_given_leaves_no_record() -> None:
    records: list[trace.Record] = []
    with pytest.raises(ValueError, match="bogus"):
        Lifecycle(records.append).take(trace.CLOSE, reason="bogus")
    assert not records


def test_a_listener_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def listener(record: trace.Record) -> None:
        raise RuntimeError("full disk")

    assert Lifecycle(listener).take(trace.START_SSE) is State.SSE_STARTED
    assert "a trace listener raised" in caplog.text
