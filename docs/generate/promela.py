"""`machine` and `flows` write in Promela what `spec/lifecycle.json` and `h3ref/flows.py` say, so that it is said once.

Each step of a trace becomes an inline: it pulls its trigger, if it has one, and then holds the orders (T-01...) as
assertions. Each flow becomes an inline, too, with a line for each line of its source. What a line does, as far as the
model goes, is in `spec/model/exchange.pml`, by hand.

    python -m docs.generate.promela
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from h3ref import flows as source

SPEC: Final = Path(__file__).resolve().parents[2] / "spec"

Spec = Mapping[str, Any]

MOST_CALLS: Final = ("callback", "awaited", "blocking", "broken", "by_handler")
"""The flows, each before those that call it."""

_HEAD = "/* Generated from {} by `python -m docs.generate.promela`: change that, not this. */"


class Untold(ValueError):
    """A line of flows.py that this generator can't say in Promela."""


# -- the machine


Cell = Mapping[str, Any]


def machine(spec: Spec, others: Mapping[str, Sequence[tuple[str, Cell]]] | None = None) -> str:
    """The state machine, and a step with the orders that it keeps to, for each step of a trace.

    Args:
        spec: the content of a lifecycle.json.
        others: by the id of a cell, what else it may be, and the condition on which it is that.
    """
    triggers = _triggers(spec, others or {})
    return _text(_HEAD.format("spec/lifecycle.json"), _names(spec), _variables(spec), triggers, _steps(spec))


def _names(spec: Spec) -> Iterator[str]:
    for title, names in (
        ("states", [state["name"] for state in spec["states"]]),
        ("reasons; R_none while it is not closed", ["R_none", *map(_reason, (r["name"] for r in spec["reasons"]))]),
        ("errors that reject a trigger; accepted is none", ["accepted", *(e["name"] for e in spec["errors"])]),
    ):
        yield f"/* {title} */"
        yield from (f"#define {name} {number}" for number, name in enumerate(names))
        yield ""
    yield "/* steps */"
    yield from (f"#define S_{step['name']} {number}" for number, step in enumerate(spec["steps"]))


def _variables(spec: Spec) -> Iterator[str]:
    yield f"byte state = {spec['initial']};"
    yield "byte reason = R_none;"
    yield "byte owed;  /* the first digit of the status that a cell says the client gets; 0 if none does */"
    yield "hidden byte before;  /* the state before the latest step */"
    yield "hidden byte rejected;  /* the error of the latest trigger */"
    yield "bit is_head_request;"
    yield ""
    yield "/* how often each step was taken that an order asks for, rejected ones apart */"
    yield from (f"byte n_{name};" for name in _counted(spec))
    yield ""
    yield "/* the names under which orders and properties fail: each is 0, and costs no state */"
    yield from (f"hidden byte {_bit(order['id'])};" for order in spec["orders"])


def _triggers(spec: Spec, others: Mapping[str, Sequence[tuple[str, Cell]]]) -> Iterator[str]:
    cells = {(cell["state"], cell["trigger"]): cell for cell in spec["cells"]}
    for trigger in spec["triggers"]:
        told = "why" if trigger.get("may_be_told") else ""
        yield f"inline pull_{trigger['name']}({told}) {{"
        yield "  if"
        for state in spec["states"]:
            cell = cells[state["name"], trigger["name"]]
            why = told or _reason(trigger["gives"] or "none")
            does = _cell(cell, why)
            if cell["id"] in others:
                choices = [f":: {when} -> {_cell(other, why)}" for when, other in others[cell["id"]]]
                does = f"if {' '.join(choices)} :: else -> {does} fi"
            yield f"  :: state == {state['name']} -> {does}  /* {cell['id']} */"
        yield "  fi;"
        yield f"  after_{trigger['name']}()"
        yield "}"
        yield ""


def _cell(cell: Cell, why: str) -> str:
    if "error" in cell:
        return f"rejected = {cell['error']}"
    does = "rejected = accepted"
    if cell["next"] == "closed" and not cell.get("keeps_reason"):
        does += f"; reason = {why}"
        answers: dict[int, list[str]] = {}
        for reason, status in cell.get("answer", {}).items():
            answers.setdefault(status // 100, []).append(f"{why} == {_reason(reason)}")
        for digit, told in answers.items():
            always = told == [f"{why} == {why}"]
            does += f"; owed = {digit}" if always else f"; if :: {' || '.join(told)} -> owed = {digit} :: else fi"
    return does if cell["next"] == cell["state"] else f"{does}; state = {cell['next']}"


def _reason(name: str) -> str:
    return f"R_{name}"


def _steps(spec: Spec) -> Iterator[str]:
    told = {trigger["name"] for trigger in spec["triggers"] if trigger.get("may_be_told")}
    counted = set(_counted(spec))
    laws = {order["law"]: order["id"] for order in spec["orders"] if "law" in order}
    for step in spec["steps"]:
        name, trigger = step["name"], step["trigger"]
        why = "why" if trigger in told else ""
        yield f"inline step_{name}({why}) {{ atomic {{"
        yield f"  TAKES(S_{name});"
        yield "  before = state; rejected = accepted;"
        if trigger:
            yield f"  pull_{trigger}({why});"
        checks = list(_checks(spec, name))
        if name == spec["steps"][0]["name"]:
            checks.insert(0, (laws["begins"], f"n_{name} == 0 && state == {spec['initial']}"))
        yield "  if"
        yield "  :: rejected == accepted ->"
        for rule, holds in checks:
            yield f"    HOLDS({_bit(rule)}, {holds});"
        yield f"    n_{name}++" if name in counted else "    skip"
        yield "  :: else"
        yield "  fi;"
        yield f"  TOOK(S_{name})"
        yield "} }"
        yield ""


def _checks(spec: Spec, name: str) -> Iterator[tuple[str, str]]:
    for order in spec["orders"]:
        if "law" in order or name not in order["steps"]:
            continue
        match order:
            case {"after": names}:
                holds = f"{_sum(names)} > 0"
            case {"each": names}:
                holds = f"{_sum(order['steps'])} < {_sum(names)}"
            case {"not_after": names}:
                holds = f"{_sum(names)} == 0"
            case {"in": states}:
                holds = _or(f"before == {state}" for state in states)
            case {"reasons": reasons}:
                holds = _or(f"reason == {_reason(reason)}" for reason in reasons)
            case {"not_reasons": reasons}:
                holds = " && ".join(f"reason != {_reason(reason)}" for reason in reasons)
            case {"only": {"before": before, "reason": reason, "method": "HEAD"}}:
                holds = f"before != {before} || reason != {_reason(reason)} || is_head_request"
            case _:
                raise Untold(f"{order['id']} is of no kind that this generator knows")
        yield order["id"], holds


def _counted(spec: Spec) -> list[str]:
    """The steps whose number an order asks for, in the order of the steps."""
    wanted = {spec["steps"][0]["name"]}
    for order in spec["orders"]:
        for kind in ("after", "each", "not_after"):
            if kind in order:
                wanted.update(order[kind])
                if kind == "each":
                    wanted.update(order["steps"])
    return [step["name"] for step in spec["steps"] if step["name"] in wanted]


def _bit(rule: str) -> str:
    return rule.replace("-", "_")


def _sum(names: Sequence[str]) -> str:
    counts = " + ".join(f"n_{name}" for name in names)
    return f"({counts})" if len(names) > 1 else counts


def _or(terms: Iterable[str]) -> str:
    found = list(terms)
    return f"({' || '.join(found)})" if len(found) > 1 else found[0]


# -- the flows


def flows(text: str | None = None) -> str:
    """The flows, a line for each line of their source.

    Args:
        text: the source of flows.py; the package's own if left out.

    Raises:
        Untold: a line that this can't say in Promela.
    """
    tree = ast.parse(text if text is not None else inspect.getsource(source))
    found = {node.name: node for node in tree.body if isinstance(node, ast.AsyncFunctionDef)}
    return _text(_HEAD.format("h3ref/flows.py"), *(_flow(found[name]) for name in MOST_CALLS))


def words(statement: ast.stmt) -> str:
    """The steps of a line, in words."""
    return ", ".join(re.findall(r"\b(?:x|e|flow)_(\w+)", " ".join(_lines([statement]))))


def _flow(function: ast.AsyncFunctionDef) -> Iterator[str]:
    yield f"inline flow_{function.name}() {{"
    for line in _lines(function.body):
        yield f"  {line}"
    yield "  skip"
    yield "}"


def _lines(body: Sequence[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.Expr(ast.Constant(str())) | ast.Pass():
                pass  # a docstring
            case ast.If(ast.Compare(ast.Attribute(_, "state"), [ast.Is()], [ast.Attribute(_, state)]), inner, []):
                yield "if"
                yield f":: raised == nothing && state == {state.lower()} ->"
                yield from (f"  {line}" for line in _lines(inner))
                yield "  skip"
                yield ":: else"
                yield "fi;"
            case ast.Expr(value) | ast.Assign([ast.Name()], value) | ast.Return(value) if value and _is_call(value):
                yield from (f"GOES_ON({call});" for call in _calls(value))
            case _:
                raise Untold(f"flows.py, line {statement.lineno}: {ast.unparse(statement)}")


def _is_call(value: ast.expr) -> bool:
    return isinstance(value.value if isinstance(value, ast.Await) else value, ast.Call)


def _calls(node: ast.expr) -> Iterator[str]:
    """The calls of an expression that the model knows, the innermost first."""
    match node:
        case ast.Await(inner):
            yield from _calls(inner)
        case ast.Call(function, arguments):
            for argument in arguments:
                yield from _calls(argument)
            match function:
                case ast.Attribute(ast.Name("exchange"), name):
                    flows_of_handler = [a.id for a in arguments if isinstance(a, ast.Name) and a.id in MOST_CALLS]
                    yield f"x_{name}({int(bool(flows_of_handler))})" if name == "run_handler" else f"x_{name}()"
                case ast.Attribute(ast.Attribute(ast.Name("exchange"), "event"), name):
                    yield f"e_{name}()"
                case ast.Name(name) if name in MOST_CALLS:
                    yield f"flow_{name}()"
                case ast.Attribute(ast.Name("log"), _) | ast.Name("BlockingSSEWriter"):
                    pass  # it changes nothing of what the model has
                case _:
                    raise Untold(f"flows.py, line {node.lineno}: {ast.unparse(node)}")
        case ast.Name() | ast.Constant():
            pass
        case _:
            raise Untold(f"flows.py, line {node.lineno}: {ast.unparse(node)}")


def _text(head: str, *parts: Iterable[str]) -> str:
    lines = [head]
    for part in parts:
        lines += ["", *part]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write both into the model."""
    spec = json.loads((SPEC / "lifecycle.json").read_text(encoding="utf-8"))
    for name, text in (("machine.pml", machine(spec)), ("flows.pml", flows())):
        (SPEC / "model" / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
