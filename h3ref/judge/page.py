"""The report as a page: one HTML file without a script, which a phone can show, too."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Final

from .catalogue import Level
from .results import Results
from .verdict import Outcome, Verdict, shown

_STYLE: Final = """\
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; --none: #888; --open: #9a6700 }
@media (prefers-color-scheme: dark) { :root { --good: #56d364; --bad: #ff8182; --none: #999; --open: #e3b341 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.3rem; overflow-wrap: anywhere }
details { border-top: 1px solid var(--line); padding: .4rem 0 }
summary { cursor: pointer; overflow-wrap: anywhere }
summary b { display: inline-block; min-width: 3.2rem }
.mark { font-weight: 600 } .passed { color: var(--good) } .failed { color: var(--bad) }
.not-applicable { color: var(--none) } .not-run { color: var(--open) }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .5rem; margin: .4rem 0 }
dl { margin: .3rem 0 .3rem 1rem } dt { font-weight: 600 } dd { margin: 0 0 .4rem } p.small { color: var(--none) }
"""

MARKS: Final = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.NOT_APPLICABLE: "–", Outcome.NOT_RUN: "?"}
"""Signs beside the colours, for readers who can't tell the colours apart."""


def page_of(results: Results) -> str:
    """The page of one run: what failed is named first, and stands open."""
    system = f"{results.system.name} {results.system.version}".strip()
    counts = Counter(verdict.finding.outcome for verdict in results.verdicts)
    said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
    broken = [verdict.check for verdict in results.verdicts if verdict.finding.outcome == Outcome.FAILED]
    named = ", ".join(f'<a href="#{check.id}">{check.id}</a> ({check.level})' for check in broken)
    rows = "\n".join(map(_row, results.verdicts))
    return f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(system)}: h3ref check</title>
<style>
{_STYLE}</style>
<h1>{escape(system)}</h1>
<p>{escape(said)}{": " if named else ""}{named}.</p>
{rows}
<p class="small">Taken on {escape(results.taken)} by <code>{escape(results.command)}</code></p>
</html>
"""


def _row(verdict: Verdict) -> str:
    check, finding = verdict.check, verdict.finding
    is_open = " open" if finding.outcome == Outcome.FAILED and check.level != Level.MAY else ""
    evidence = f"<pre>{escape(shown(finding.evidence))}</pre>" if finding.evidence else ""
    parts = {"Sent": check.sends, "Passes": check.passes, "Why": check.why, "Remedy": check.remedy}
    parts["Rests on"] = check.section
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in parts.items())
    mark = f'<span class="mark {finding.outcome.replace(" ", "-")}">{MARKS[finding.outcome]} {finding.outcome}</span>'
    return (
        f'<details id="{check.id}"{is_open}><summary><b>{check.id}</b> {mark} ({check.level}) {escape(check.title)}: '
        f"{escape(finding.seen)}</summary>{evidence}<dl>{listed}</dl></details>"
    )
