"""`mutants` changes the model in one place at a time, and `Hunt` tells which property notices.

A property that no change of the model breaks would hold of anything. So each cell of the machine gets another next
state, or is rejected where it was accepted, or accepted where it was rejected; each two neighbouring steps of a flow
are swapped; and each guard of the parts that are written by hand is removed.

To make a checker takes longer than to run it. So cells and guards are changed in one model together, and each has its
number, which the checker's program is told when it is run.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from docs.generate import promela
from h3ref import flows as source
from h3ref.lab.model.runs import RUNS, Run, run
from h3ref.lab.model.spin import MODEL, build, prepared, search

SURVIVES: Final[dict[str, str]] = json.loads((MODEL / "survivors.json").read_text(encoding="utf-8"))
"""Why a change that nothing notices need not be noticed, by its name."""

ENOUGH: Final = 0.95
"""Of all changes, so many have to be noticed."""

_HEADER: Final = """#include <stdlib.h>
static int mutant = -1;
static void __attribute__((constructor)) choose_mutant(void) {
    const char *number = getenv("MUTANT");
    if (number) mutant = atoi(number);
}
"""


@dataclass(frozen=True)
class Mutant:
    """The model with one change.

    Attributes:
        name: what is changed, in words.
        model: the file that is verified.
        number: by which the checker's program is told of it; None if it has a text of its own.
        changed: the files that have another text.
        runs: the names of the runs that may notice it, the likeliest first.
    """

    name: str
    model: str
    number: int | None = None
    changed: Mapping[str, str] = field(default_factory=dict, repr=False)
    runs: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why it need not be noticed; None if it has to be."""
        return SURVIVES.get(self.name)

    def __str__(self) -> str:
        return self.name


class Mutants:
    """Every change, and the models in which those that have a number are."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {"mutant.h": _HEADER}
        self._number = 0
        self.all = [*self._cells(), *self._guards(), *_swaps()]

    def _next(self) -> tuple[int, str]:
        self._number += 1
        return self._number, f"c_expr {{ mutant == {self._number} }}"

    def _cells(self) -> Iterator[Mutant]:
        spec = json.loads((MODEL.parent / "lifecycle.json").read_text(encoding="utf-8"))
        states = [state["name"] for state in spec["states"]]
        others: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for cell in spec["cells"]:
            choices = [(f"leads to {state}", {"next": state}) for state in states if state != cell.get("next")]
            if "next" in cell:
                choices.append(("is rejected", {"error": spec["errors"][0]["name"]}))
            if cell.get("keeps_reason"):
                choices.append(("takes the later reason", {"next": cell["next"]}))
            for words, does in choices:
                number, condition = self._next()
                others[cell["id"]].append((condition, {"state": cell["state"], **does}))
                yield Mutant(f"{cell['id']}, {cell['trigger']} in {cell['state']}, {words}", "exchange.pml", number)
        self.texts["machine.pml"] = promela.machine(spec, others)

    def _guards(self) -> Iterator[Mutant]:
        for model in ("exchange.pml", "channel.pml", "engine.pml"):
            parts = re.split(r"\bGUARD\((?!that\))", (MODEL / model).read_text(encoding="utf-8"))
            text = parts[0]
            for part in parts[1:]:
                number, condition = self._next()
                block = re.findall(r"^(?:inline|(?:active )?proctype|#define) (\w+)", text, re.MULTILINE)[-1]
                yield Mutant(f"{block}: without the guard {_balanced(part)}", model, number)
                text += f"({condition} || {part}"
            self.texts[model] = text.replace("*/\n", '*/\nc_decl { \\#include "mutant.h" }\n', 1)


def _swaps() -> Iterator[Mutant]:
    text = inspect.getsource(source)
    for flow in promela.MOST_CALLS:
        if flow == "broken":
            continue  # it has its own violation, whatever else is wrong with it
        runs = EXCHANGE if flow == "by_handler" else (flow, "HEAD", f"{flow}, the server ends", *EXCHANGE)
        count = len(_body(ast.parse(text), flow))
        for place in range(1, count - 1):  # behind the docstring
            tree = ast.parse(text)
            body = _body(tree, flow)
            first, second = (promela.words(statement) for statement in body[place : place + 2])
            body[place : place + 2] = reversed(body[place : place + 2])
            changed = {"flows.pml": promela.flows(ast.unparse(tree))}
            yield Mutant(f"{flow}: {second} before {first}", "exchange.pml", changed=changed, runs=runs)


def _body(tree: ast.Module, flow: str) -> list[ast.stmt]:
    return next(node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name == flow).body


def _balanced(text: str) -> str:
    depth = 1
    for place, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return text[:place]
    raise ValueError("a guard that is never closed")


# -- the hunt


def hunt(mutants: Mutants, only: str | None = None) -> Iterator[tuple[Mutant, str | None]]:
    """Each change with the property or order that does not hold with it, or None."""
    chosen = [mutant for mutant in mutants.all if not only or re.search(only, mutant.name)]
    for model in ("exchange.pml", "channel.pml", "engine.pml"):
        left = {mutant.number: mutant for mutant in chosen if mutant.model == model and mutant.number is not None}
        for one in _likeliest(
            one for one in RUNS if one.model == model and one.violates is None and not one.eventually
        ):
            for number, by in _caught(one, mutants.texts, list(left)):
                yield left.pop(number), by
        yield from ((mutant, None) for mutant in left.values())
    for mutant in chosen:
        if mutant.number is None:
            yield mutant, _catch(mutant)


def _caught(one: Run, texts: Mapping[str, str], numbers: Iterable[int]) -> Iterator[tuple[int, str]]:
    """The changes that a run notices, by their numbers, with what does not hold."""
    with prepared(texts) as folder:
        build(folder, one.model, one.defines(is_full=False))
        for number in numbers:
            verdict = search(folder, one.model, environment={"MUTANT": str(number)})
            if verdict.violated:
                yield number, verdict.violated


def _catch(mutant: Mutant) -> str | None:
    named = {one.name: one for one in RUNS}
    for one in (named[name] for name in mutant.runs):
        for verdict in run(one, is_full=False, changed=dict(mutant.changed)):
            if verdict.violated:
                return verdict.violated
    return None


def _likeliest(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda one: LIKELY.index(one.name) if one.name in LIKELY else len(LIKELY))


LIKELY: Final = ("thread", "HEAD", "second task", "callback, the server ends")
EXCHANGE: Final = tuple(
    one.name
    for one in _likeliest(one for one in RUNS if one.violates is None and one.model == "exchange.pml")
    if not one.eventually
)
