"""Recordings are held against the specification: its vectors, every mutant of a flow, and the rules themselves."""

from __future__ import annotations

import ast
import copy
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from h3ref.lab import check as checking
from h3ref.lab.check import Rules, Violation, check, load_rules, summary
from h3ref.lab.recorder import Recording
from h3ref.trace import STEPS, Record
from tests.flow_runs import FLOWS, SCENARIOS, SOURCE, Mutant, Outcome, flows_from, in_words, mutants, run
from tests.trace_vectors import LEGAL

ROOT = Path(__file__).resolve().parents[1]
SPEC: dict[str, Any] = json.loads((ROOT / "spec" / "lifecycle.json").read_text(encoding="utf-8"))
RULES = Rules(SPEC)
IDS = [order["id"] for order in SPEC["orders"]]

VECTORS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "spec" / "vectors" / "trace").glob("*.json"))
}
CASES = [pytest.param(case, id=f"{name}: {case['name']}") for name, file in VECTORS.items() for case in file["cases"]]
IMPOSSIBLE = [case for case in VECTORS["impossible"]["cases"]]


def records_of(case: dict[str, Any]) -> Recording:
    return Recording(Record.from_json(json.dumps(line)) for line in case["records"])


def altered(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    spec = copy.deepcopy(SPEC)
    edit(spec)
    return spec


# The vectors


def test_the_vectors_have_no_key_that_their_format_does_not_name() -> None:
    for file in VECTORS.values():
        assert (file.keys(), file["format"], file["kind"]) == ({"format", "kind", "about", "cases"}, 1, "trace")
        assert len({case["name"] for case in file["cases"]}) == len(file["cases"]) > 0
        for case in file["cases"]:
            assert {"name", "records"} <= case.keys() <= {"name", "records", "whole", "violation", "flow"}
            assert not ("flow" in case and "violation" in case)


@pytest.mark.parametrize("case", CASES)
def test_a_vector_is_judged_as_it_says(case: dict[str, Any]) -> None:
    found = check(records_of(case), whole=case.get("whole", False), rules=RULES)
    assert (found and {"index": found.index, "rule": found.rule}) == case.get("violation"), found


def test_each_order_is_broken_by_a_vector() -> None:
    assert {case["violation"]["rule"] for case in IMPOSSIBLE} >= set(IDS)


@pytest.mark.parametrize("order", [order["id"] for order in SPEC["orders"] if "law" not in order])
def test_each_order_is_needed(order: str) -> None:
    """Without it, a record that it rejects would pass."""
    rules = Rules(altered(lambda spec: spec["orders"].remove(next(o for o in spec["orders"] if o["id"] == order))))
    broken = [case for case in IMPOSSIBLE if case["violation"]["rule"] == order]
    found = [(case["violation"]["index"], check(records_of(case), rules=rules)) for case in broken]
    assert any(violation is None or violation.index > index for index, violation in found), found


@pytest.mark.parametrize("name", [name for _, names in LEGAL.values() for name in names])
def test_a_scenario_takes_the_steps_of_its_vector(name: str) -> None:
    case = vector_of(name)
    assert case["flow"] == SCENARIOS[name].flow
    assert run(SCENARIOS[name]).steps == expected(name)


def test_every_scenario_is_a_vector() -> None:
    assert sorted(SCENARIOS) == sorted(name for _, names in LEGAL.values() for name in names)


def vector_of(scenario: str) -> dict[str, Any]:
    return next(
        case
        for file in VECTORS.values()
        for case in file["cases"]
        if case["name"] == SCENARIOS[scenario].about and "flow" in case
    )


def expected(scenario: str) -> list[str]:
    return [in_words(record) for record in records_of(vector_of(scenario))]


# A flow with one statement deleted, or two swapped


@pytest.fixture(scope="module")
def original() -> dict[str, Outcome]:
    return {name: run(scenario) for name, scenario in SCENARIOS.items()}


def complaints(mutant: Mutant, original: dict[str, Outcome]) -> list[str]:
    """What the check, the vectors, the log and the client say of a mutant: a line for each scenario that tells."""
    module = flows_from(mutant.tree)
    said = []
    for name, scenario in SCENARIOS.items():
        outcome, wanted = run(scenario, module), original[name]
        if violation := check(outcome.recording, whole=True, rules=RULES):
            said.append(f"{name}: {violation}")
        elif outcome.steps != expected(name):
            said.append(f"{name}: {first_difference(outcome.steps, expected(name))}")
        elif outcome.told != wanted.told:
            said.append(f"{name}: {first_difference(outcome.told, wanted.told)}")
        elif (outcome.status, outcome.body, outcome.end) != (wanted.status, wanted.body, wanted.end):
            said.append(f"{name}: the client had {outcome.status} {outcome.body!r}")
    return said


def first_difference(found: list[str], wanted: list[str]) -> str:
    for number, (here, there) in enumerate(zip([*found, "nothing"], [*wanted, "nothing"], strict=False), 1):
        if here != there:
            return f"step {number} is {here}; the vector has {there}"
    raise AssertionError("they are the same")


MUTANTS = list(mutants())

EQUIVALENT: dict[str, str] = {}
"""Mutants that nothing can tell from the original, each with the reason: there is none."""


def test_each_flow_is_mutated() -> None:
    assert {mutant.flow for mutant in MUTANTS} == set(FLOWS)
    statements = {flow: sum(mutant.flow == flow and "without" in mutant.change for mutant in MUTANTS) for flow in FLOWS}
    assert statements == {"by_handler": 4, "callback": 6, "awaited": 5, "blocking": 6, "broken": 10}
    assert set(EQUIVALENT) <= set(map(str, MUTANTS))


def test_the_original_is_no_mutant(original: dict[str, Outcome]) -> None:
    assert complaints(Mutant("broken", "nothing is changed", ast.parse(SOURCE)), original) == []
    assert [line for line in original["broken"].told if line.startswith("debug: SSE")] == [
        "debug: SSE mode detected, setting up streaming connection",
        "debug: SSE headers sent, 124 bytes",
    ]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_changed_flow_is_told_with_what_is_wrong(mutant: Mutant, original: dict[str, Outcome]) -> None:
    said = complaints(mutant, original)
    if str(mutant) in EQUIVALENT:
        assert not said, f"it can be told, so it is not equivalent: {said[0]}"
        return
    assert said, f"nobody notices {mutant}"
    for line in said:
        assert any(step in line for step in STEPS) or "SSE" in line, f"it does not say what is wrong: {line}"


@pytest.mark.parametrize(
    ("change", "rule", "problem"),
    [
        (
            "callback: without `await exchange.send_headers(connection)`",
            "T-17",
            "connection_ready: each headers allows one connection_ready, and there was none",
        ),
        (
            "awaited: `writer = exchange.connection_ready(connection)` before "
            "`await exchange.send_headers(connection)`",
            "T-17",
            "connection_ready: each headers allows one connection_ready, and there was none",
        ),
        (
            "callback: without `await exchange.run_callback(callback, writer)`",
            "T-28",
            "closes: in headers_sent an exchange is complete for HEAD alone, not for GET",
        ),
        (
            "blocking: without `exchange.event.start_sse()`",
            "T-10",
            "checks_sse_started: it comes after start_sse, and there was none",
        ),
        (
            "broken: without `await exchange.run_handler()`",
            "T-01",
            "gives_up: an exchange begins with request",
        ),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_the_trace_check_names_the_step_that_is_missing_or_out_of_order(change: str, rule: str, problem: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if str(mutant) == change)
    scenario = "callback" if mutant.flow == "by_handler" else mutant.flow
    violation = check(run(SCENARIOS[scenario], flows_from(mutant.tree)).recording, rules=RULES)
    assert violation is not None
    assert violation.rule == rule
    assert problem in str(violation)


SENT = "`await exchange.send_headers(connection)`"


@pytest.mark.parametrize("flow", ["callback", "awaited", "blocking"])
@pytest.mark.parametrize(
    "change", [f"without {SENT}", f"`writer = exchange.connection_ready(connection)` before {SENT}"]
)
def test_a_writer_before_the_headers_is_the_machines_own_rejection(flow: str, change: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if str(mutant) == f"{flow}: {change}")
    outcome = run(SCENARIOS[flow], flows_from(mutant.tree))
    rejected = "get_sse_writer: sse_started -> sse_started, rejected: ConnectionNotReady L-17"
    assert [step for step in outcome.steps if "rejected" in step] == [rejected]
    assert (outcome.status, outcome.body) == (500, b"Internal Server Error")
    (said,) = (line for line in outcome.told if line.startswith("error: "))
    assert said.endswith(" raised ConnectionNotReady")


# What the check says


def test_a_violation_says_where_what_why_and_what_would_have_been_legal() -> None:
    case = next(case for case in IMPOSSIBLE if case["name"].startswith("the connection is called ready before"))
    violation = check(records_of(case), rules=RULES)
    assert isinstance(violation, Violation)
    assert violation.line == violation.index + 1 == 8
    said = "each headers allows one connection_ready, and there was none"
    assert str(violation).startswith(f"line 8: exchange 1, connection_ready: {said} (T-17: This is the fix")
    assert "headers" in violation.legal
    assert "connection_ready" not in violation.legal
    assert str(violation).endswith(f"; legal here: {', '.join(violation.legal)}")


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_came_next_was_always_among_what_is_called_legal(name: str) -> None:
    records = records_of(vector_of(name))
    for index, record in enumerate(records):
        impossible = replace(record, step="nothing")
        violation = check([*records[:index], impossible], rules=RULES)
        assert violation is not None
        assert violation.index == index
        if not record.error:
            assert record.step in violation.legal


def test_a_summary_counts_exchanges_records_and_ends() -> None:
    several = {case["name"]: records_of(case) for case in VECTORS["several"]["cases"]}
    assert [summary(recording, rules=RULES) for recording in several.values()] == [
        "2 exchanges, 39 records: 2 complete",
        "2 exchanges, 24 records: 1 complete, 1 responded",
        "1 exchange, 9 records: 1 still open",
        "0 exchanges, 0 records",
    ]
    with pytest.raises(ValueError, match="line 1: exchange 1"):
        summary(records_of(IMPOSSIBLE[0]), rules=RULES)


def test_an_open_exchange_breaks_a_rule_only_where_the_recording_is_whole() -> None:
    recording = records_of(VECTORS["callback"]["cases"][0])[:9]
    assert check(recording, rules=RULES) is None
    violation = check(recording, whole=True, rules=RULES)
    assert violation is not None
    assert (violation.rule, violation.index) == ("T-38", 8)
    assert "still open, in headers_sent" in str(violation)


# The rules as data


def test_the_steps_of_the_json_are_those_of_the_code() -> None:
    assert [(step["name"], step["who"], step["to"], step["trigger"]) for step in SPEC["steps"]] == [
        (step.name, step.who, step.to, step.trigger) for step in STEPS.values()
    ]
    assert all(step.keys() == {"name", "who", "to", "trigger"} for step in SPEC["steps"])


def test_the_orders_are_numbered_name_what_there_is_and_have_a_why_each() -> None:
    assert [f"T-{number:02}" for number in range(1, len(IDS) + 1)] == IDS
    steps, states = {step["name"] for step in SPEC["steps"]}, {state["name"] for state in SPEC["states"]}
    reasons = {reason["name"] for reason in SPEC["reasons"]}
    known = {
        "after": steps,
        "each": steps,
        "not_after": steps,
        "in": states,
        "reasons": reasons,
        "not_reasons": reasons,
    }
    for order in SPEC["orders"]:
        assert len(order["why"]) > 25
        assert order["why"].endswith(".")
        if "law" in order:
            continue
        (kind,) = order.keys() - {"id", "steps", "why"}
        assert set(order["steps"]) <= steps
        assert kind == "only" or set(order[kind]) <= known[kind]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (altered(lambda spec: spec.pop("orders")), "'orders' is missing"),
        (altered(lambda spec: spec.pop("steps")), "'steps' is missing"),
        (altered(lambda spec: spec["orders"].pop(0)), "its laws must be begins"),
        (altered(lambda spec: spec["orders"][7].update({"before_all": ["x"]}) or spec["orders"][7].pop("in")), "T-08"),
        (altered(lambda spec: spec["orders"][7]["steps"].append("is_ready")), "'is_ready' is missing"),
        ([], "is missing or misplaced"),
        (altered(lambda spec: spec.update(format=2)), "its format is 2, but this reader knows only 1"),
        (altered(lambda spec: spec.pop("format")), "'format' is missing"),
        (altered(lambda spec: spec["orders"][7].update({"before_all": ["x"]})), "T-08"),
        (altered(lambda spec: spec["orders"][7].pop("why")), "'why' is missing"),
        (altered(lambda spec: next(o for o in spec["orders"] if o.get("law") == "ends").pop("by")), "'by' is missing"),
        (altered(lambda spec: spec["cells"].pop(0)), "'start_sse'"),
        (altered(lambda spec: spec["steps"][0].pop("who")), "'who' is missing"),
    ],
    ids=[
        "no orders",
        "no steps",
        "a law less",
        "an unknown kind",
        "an unknown step",
        "no object",
        "another format",
        "no format",
        "a second kind",
        "no why",
        "no end",
        "a cell less",
        "a step of nobody",
    ],
)
def test_a_specification_that_the_checker_does_not_understand_is_refused(spec: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Rules(spec)


def test_the_wheel_has_the_file_that_the_check_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["spec/lifecycle.json"] == checking._PACKAGED.relative_to(ROOT).as_posix()
    assert not checking._PACKAGED.exists(), "in the source tree spec/ itself is read"
    assert load_rules().steps == RULES.steps
    packaged = tmp_path / "lifecycle.json"
    packaged.write_text(json.dumps(altered(lambda spec: spec.update(initial="begun"))))
    monkeypatch.setattr(checking, "_PACKAGED", packaged)
    assert load_rules().initial == "begun"
