"""`python -m tests.model`: verify the model, or change it and see what notices."""

from __future__ import annotations

import argparse
import sys

from h3ref.lab.model import report
from h3ref.lab.model.graph import edges
from h3ref.lab.model.path import recorded
from h3ref.lab.model.runs import EXAMPLE, FLOWS, RUNS, is_as_expected, run
from h3ref.lab.model.spin import Failed, Missing

from .mutants import ENOUGH, SURVIVES, Mutants, hunt

UNEXPLAINED = "nobody has said why"


def main() -> int:
    """Do it; exit status 0 if all is as expected, 1 if something is not, 2 if this machine lacks what it needs."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=main.__doc__)
    parser.add_argument("what", choices=("verify", "mutants"))
    parser.add_argument("--small", action="store_true", help="verify with the bounds that the tests have")
    parser.add_argument("--only", metavar="NAME", help="the runs, or the mutants, that have this in their names")
    parser.add_argument("--save", action="store_true", help="keep the results, for the page and the notebook")
    options = parser.parse_args()
    try:
        if options.what == "mutants":
            return _mutants(options.only, save=options.save)
        return _verify(options.only, is_full=not options.small, save=options.save)
    except (Missing, Failed) as error:
        print(error, file=sys.stderr)
        return 2


def _verify(only: str | None, *, is_full: bool, save: bool) -> int:
    rows, is_good = [], True
    for one in RUNS:
        if only and only not in one.name:
            continue
        verdicts = run(one, is_full=is_full)
        as_expected = is_as_expected(one, verdicts)
        is_good = is_good and as_expected
        rows.append(report.row(one, verdicts))
        print(report.line(rows[-1]) + ("" if as_expected else "  NOT AS EXPECTED"), flush=True)
        if one is EXAMPLE and save:
            recorded(verdicts[0].path).save(report.COUNTEREXAMPLE)
    print(f"{len(rows)} runs, {sum(found['states'] for found in rows):,} states")
    if save and is_good:
        kept = {found["name"]: found for found in [*report.load().get("runs", ()), *rows]}
        graphs = {one.name: edges(one) for one in RUNS if one.name in FLOWS}
        report.save(runs=[kept[one.name] for one in RUNS if one.name in kept], graphs=graphs)
    return 0 if is_good else 1


def _mutants(only: str | None, *, save: bool) -> int:
    mutants = Mutants()
    names = {mutant.name for mutant in mutants.all}
    kept = report.load().get("mutants", {}) if only else {}
    caught: dict[str, str] = {name: by for name, by in kept.get("caught", ()) if name in names}
    survivors = [name for name in kept.get("survivors", ()) if name in names]
    for mutant, by in hunt(mutants, only):
        caught.pop(mutant.name, None)
        survivors = [name for name in survivors if name != mutant.name]
        if by:
            caught[mutant.name] = by
        else:
            survivors.append(mutant.name)
        print(f"{mutant}: {f'caught by {by}' if by else f'survives: {mutant.reason or UNEXPLAINED}'}", flush=True)
    tried = len(caught) + len(survivors)
    print(f"{len(caught)} of {tried} mutants were caught, {len(caught) / max(tried, 1):.1%}")
    if save:
        report.save(mutants={"caught": [[name, by] for name, by in caught.items()], "survivors": survivors})
    listed = {name for name in SURVIVES if name in survivors or name in caught or name not in names}
    for name in sorted(listed ^ set(survivors)):
        print(f"spec/model/survivors.json {'has' if name in listed else 'lacks'} this: {name}")
    return 0 if len(caught) >= ENOUGH * tried and listed == set(survivors) else 1


if __name__ == "__main__":
    sys.exit(main())
