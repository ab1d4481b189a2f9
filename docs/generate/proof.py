"""The generated parts of `docs/proof.md`, written from what `make model` and `make model-mutants` found.

`python -m docs.generate.proof` rewrites them; with `--check` it changes nothing and exits 1 when one has drifted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from h3ref.lab.model.report import COUNTEREXAMPLE, load
from h3ref.lab.model.runs import RUNS, properties
from h3ref.lab.model.spin import MODEL
from h3ref.lab.recorder import Recording

from .generated import table, update

PAGE = Path(__file__).resolve().parents[1] / "proof.md"

Found = dict[str, Any]


def verdicts(found: Found) -> Iterator[str]:
    """Every run: its setting, the verdict, and how much was searched."""
    tested = {one.name for one in RUNS if one.in_tests}
    rows = (
        [
            *(run["name"], run["about"], _verdict(run)),
            *(f"{run['states']:,}", str(run["depth"]), f"{run['seconds']:.1f}"),
            "yes" if run["name"] in tested else "",
        ]
        for run in found["runs"]
    )
    head = ["run", "setting", "verdict", "states", "depth", "seconds", "in the tests"]
    yield from table(head, rows, numbers=("states", "depth", "seconds"))
    yield ""
    yield f"In total: {sum(run['states'] for run in found['runs']):,} states."


def _verdict(run: Found) -> str:
    if not run["violated"]:
        return "everything holds"
    after = f", after {run['steps']} steps" if run["steps"] else ""
    return f"**`{run['violated']}` does not hold**{after}"


def sentences(found: Found) -> Iterator[str]:
    """Every property: what it says, and the rules that it makes precise."""
    rows = ([f"`{item['id']}`", item["means"], f"{item['sentence']}{_rules(item)}"] for item in properties().values())
    yield from table(["property", "meaning", "in the specification"], rows)


def _rules(item: Found) -> str:
    return f" ({', '.join(item['formalises'])})" if item["formalises"] else ""


def counterexample(found: Found) -> Iterator[str]:
    """The path on which H3Z's order hangs, as a drawing in text."""
    yield "```{code-block} none"
    yield from str(Recording.load(COUNTEREXAMPLE)).splitlines()
    yield "```"


def mutants(found: Found) -> Iterator[str]:
    """How many changes of the model were noticed, by what, and what was not."""
    caught, survivors = found["mutants"]["caught"], found["mutants"]["survivors"]
    tried = len(caught) + len(survivors)
    yield f"{len(caught)} of {tried} changes are noticed: {len(caught) / tried:.1%}."
    yield ""
    by = Counter(name for _, name in caught)
    yield from table(
        ["noticed by", "changes"], ([f"`{name}`", str(count)] for name, count in by.most_common()), numbers=True
    )
    because = json.loads((MODEL / "survivors.json").read_text(encoding="utf-8"))
    yield ""
    yield from table(["not noticed", "because"], ([name.replace("|", "\\|"), because[name]] for name in survivors))


PARTS = {"verdicts": verdicts, "sentences": sentences, "counterexample": counterexample, "mutants": mutants}


def parts() -> dict[str, list[str]]:
    """The generated parts' lines, by name."""
    found = load()
    return {name: list(part(found)) for name, part in PARTS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.generate.proof", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a part has drifted")
    options = parser.parse_args()
    return update(PAGE, parts, check=options.check, command="python -m docs.generate.proof")


if __name__ == "__main__":
    sys.exit(main())
