"""The model: what is generated of it is what is committed, and the checker finds what is expected of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from docs.generate import promela, proof
from docs.generate.generated import drifted
from h3ref import flows
from h3ref.lab.check import check
from h3ref.lab.model import report
from h3ref.lab.model.path import recorded
from h3ref.lab.model.runs import EXAMPLE, RUNS, Run, is_as_expected, properties, run
from h3ref.lab.model.spin import MODEL, Missing, check_tools
from h3ref.lab.recorder import Recording
from h3ref.testing import virtual_backends
from h3ref.trace import Record
from tests.conftest import missing
from tests.model import replay
from tests.model.mutants import ENOUGH, SURVIVES, Mutants
from tests.model.scripts import accepted, script

SPEC = MODEL.parent
VECTORS = SPEC / "vectors" / "trace"

VIRTUAL = ("asyncio-virtual", "trio-virtual")

Case = dict[str, Any]


@pytest.fixture
def spin() -> None:
    """The checker; where CI installs it, it has to be there."""
    try:
        check_tools()
    except Missing as error:
        missing(str(error))


def cases(*, legal: bool) -> Iterator[Case]:
    for file in sorted(VECTORS.glob("*.json")):
        for case in json.loads(file.read_text(encoding="utf-8"))["cases"]:
            if ("violation" not in case) == legal:
                yield case


def exchanges(case: Case) -> tuple[Recording, ...]:
    return Recording(Record(**{"trigger": None, **record}) for record in case["records"]).exchanges


# -- what is generated


def test_the_machine_is_that_of_the_specification() -> None:
    spec = json.loads((SPEC / "lifecycle.json").read_text(encoding="utf-8"))
    assert (MODEL / "machine.pml").read_text(encoding="utf-8") == promela.machine(spec), AGAIN


def test_the_flows_are_those_of_flows_py() -> None:
    assert (MODEL / "flows.pml").read_text(encoding="utf-8") == promela.flows(), AGAIN


AGAIN = "it has drifted: python -m docs.generate.promela"


def test_a_line_that_the_generator_does_not_know_is_not_left_out() -> None:
    source = Path(flows.__file__).read_text(encoding="utf-8")
    for line in ("exchange.connection = None", "await anyio.sleep(1)", "while True: pass"):
        changed = source.replace("    exchange.check_sse_started()", f"    {line}\n    exchange.check_sse_started()", 1)
        with pytest.raises(promela.Untold, match="line"):
            promela.flows(changed)


def test_each_property_has_its_sentence_and_stands_in_the_model() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(MODEL.glob("*.pml")))
    told = properties()
    assert set(told) == set(re.findall(r"HOLDS\(([PCE]_\w+)", text)) | set(
        re.findall(r"^ltl (L_\w+)", text, re.MULTILINE)
    )
    spec = json.loads((SPEC / "lifecycle.json").read_text(encoding="utf-8"))
    rules = {item["id"] for key in ("cells", "orders") for item in spec[key]}
    for item in told.values():
        assert set(item["formalises"]) <= rules, item["id"]
        assert {item["means"][-1], item["sentence"][-1]} == {"."}, item["id"]


def test_each_order_is_an_assertion() -> None:
    spec = json.loads((SPEC / "lifecycle.json").read_text(encoding="utf-8"))
    asserted = set(re.findall(r"HOLDS\((T_\d\d)", promela.machine(spec)))
    laws = {order["id"].replace("-", "_") for order in spec["orders"] if "law" in order}
    assert asserted - laws == {order["id"].replace("-", "_") for order in spec["orders"] if "law" not in order}


# -- what is verified


@pytest.mark.slow
@pytest.mark.parametrize("one", [one for one in RUNS if one.in_tests], ids=lambda one: one.name)
def test_the_checker_finds_what_is_expected(spin: None, one: Run) -> None:
    verdicts = run(one, is_full=False)
    assert is_as_expected(one, verdicts), report.line(report.row(one, verdicts))
    assert all(verdict.states > 0 for verdict in verdicts)


def test_what_is_kept_is_of_all_runs_and_as_expected() -> None:
    kept = {row["name"]: row for row in report.load()["runs"]}
    assert list(kept) == [one.name for one in RUNS], "make model"
    for one in RUNS:
        row = kept[one.name]
        assert (row["violated"], row["flow"], row["model"]) == (one.violates, one.flow, one.model), "make model"
        assert row["is_whole"] or one.violates, f"{one.name}: its search was cut short"


def test_nearly_all_changes_are_noticed_and_of_the_others_it_is_said_why() -> None:
    kept = report.load()["mutants"]
    caught, survivors = dict(kept["caught"]), kept["survivors"]
    assert sorted([*caught, *survivors]) == sorted(map(str, Mutants().all)), "make model-mutants ARGS=--save"
    assert set(survivors) == set(SURVIVES)
    assert len(caught) >= ENOUGH * (len(caught) + len(survivors))


def test_the_page_tells_what_is_kept() -> None:
    page = proof.PAGE.read_text(encoding="utf-8")
    assert drifted(page, proof.parts()) == [], "python -m docs.generate.proof"


# -- the counterexample


def counterexample() -> Recording:
    return Recording.load(report.COUNTEREXAMPLE)


def test_the_counterexample_is_legal_up_to_its_last_step_where_it_hangs() -> None:
    path = counterexample()
    assert check(path) is None
    hangs = check(path, whole=True)
    assert hangs is not None
    assert (hangs.rule, hangs.index) == ("T-38", len(path) - 1)


@pytest.mark.slow
def test_the_checker_finds_the_counterexample_again(spin: None) -> None:
    (verdict,) = run(EXAMPLE, is_full=False)
    assert recorded(verdict.path) == counterexample()


@pytest.mark.anyio
async def test_the_real_server_takes_the_counterexample_step_by_step(anyio_backend: Any) -> None:
    path = counterexample()
    found = await replay.on_a_socket(path, silence=0.2)
    assert replay.same_steps(path, found.recording)
    assert (found.received, found.ended) == (flows.H3Z_HEAD.wire, False)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=VIRTUAL)
async def test_in_memory_it_is_silent_for_a_day(anyio_backend: Any) -> None:
    path = counterexample()
    found = await replay.in_memory(path, silence=86_400)
    assert replay.same_steps(path, found.recording)
    assert (found.status, found.received, found.ended) == (200, b"", False)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=VIRTUAL)
async def test_a_path_that_the_server_does_not_take_is_noticed(anyio_backend: Any) -> None:
    path = counterexample()
    longer = Recording([*path[:3], path[2], *path[3:]])
    found = await replay.in_memory(longer, silence=1)
    assert not replay.same_steps(path, found.recording)


# -- the vectors


HANGS = "a client hangs: nobody writes, and nobody ends it"
"""Impossible for its end alone: it is the path that H3Z's order does take."""

FLOWS = ("by_handler", "broken")


@cache
def reached(flow: str) -> tuple[list[int], list[int]]:
    """How far each legal vector of the flow is a path, and how far each impossible one; they share a checker."""
    legal = [script(list(exchange)) for _, exchange in legal_of(flow)]
    impossible = [script(list(exchanges(case)[0])) for case in cases(legal=False)]
    counts = accepted([*legal, *impossible], flow)
    return counts[: len(legal)], counts[len(legal) :]


def legal_of(flow: str) -> list[tuple[str, Recording]]:
    named = [case for case in cases(legal=True) if case.get("flow", "by_handler") == flow]
    return [(case["name"], exchange) for case in named for exchange in exchanges(case)]


@pytest.mark.slow
@pytest.mark.parametrize("flow", FLOWS)
def test_each_legal_vector_is_a_path(spin: None, flow: str) -> None:
    found = legal_of(flow)
    assert found
    counts, _ = reached(flow)
    stopped = {name: count for (name, records), count in zip(found, counts, strict=True) if count < len(records)}
    assert stopped == {}


@pytest.mark.slow
@pytest.mark.parametrize("flow", FLOWS)
def test_no_impossible_vector_is_a_path(spin: None, flow: str) -> None:
    found = list(cases(legal=False))
    assert all(len(exchanges(case)) == 1 for case in found)
    _, counts = reached(flow)
    for case, count in zip(found, counts, strict=True):
        if case["name"] == HANGS and flow == "broken":
            assert count == len(case["records"])
        else:
            assert count <= case["violation"]["index"], case["name"]
