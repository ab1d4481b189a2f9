"""`Results`: one run of the judge, kept as JSON; the matrix is drawn from such files.

The file is an object: `format` 1; `system`, an object with `name`, `version` and `kind` ("server" or "client");
`taken`, the day as in 2026-11-30; `command`, which takes it again; `verdicts`, a list of objects with `check` (its id),
`outcome` ("passed", "failed", "not applicable" or "not run"), `seen`, and `evidence`, the bytes as `verdict.shown`
writes them, which is left out where there are none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from .catalogue import Check
from .verdict import Finding, Outcome, Verdict, from_shown, shown

FORMAT: Final = 1
SERVER, CLIENT = "server", "client"


@dataclass(frozen=True, slots=True)
class System:
    """What was judged.

    Attributes:
        kind: SERVER or CLIENT.
        name: as people call it.
        version: its version; "" where it is not known.
    """

    kind: str
    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """What a run found.

    Attributes:
        system: what was judged.
        taken: the day, as in 2026-11-30.
        command: what takes it again.
        verdicts: those of all its checks, in the catalogue's order.
    """

    system: System
    taken: str
    command: str
    verdicts: tuple[Verdict, ...]

    def to_json(self) -> str:
        """The text of its file."""
        content = {
            "format": FORMAT,
            "system": {"name": self.system.name, "version": self.system.version, "kind": self.system.kind},
            "taken": self.taken,
            "command": self.command,
            "verdicts": [_to_object(verdict) for verdict in self.verdicts],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, checks: Iterable[Check]) -> Results:
        """Read such a file; verdicts of checks that there are no more are left out.

        Raises:
            ValueError: it is none.
        """
        known = {check.id: check for check in checks}
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, but this reader knows only {FORMAT}")
            system = content["system"]
            return cls(
                System(system["kind"], system["name"], system["version"]),
                content["taken"],
                content["command"],
                tuple(
                    Verdict(known[item["check"]], _finding(item))
                    for item in content["verdicts"]
                    if item["check"] in known
                ),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"these are not results of the judge: {error}") from error


def _to_object(verdict: Verdict) -> dict[str, Any]:
    finding = verdict.finding
    evidence = {"evidence": shown(finding.evidence)} if finding.evidence else {}
    return {"check": verdict.check.id, "outcome": finding.outcome.value, "seen": finding.seen, **evidence}


def _finding(item: dict[str, Any]) -> Finding:
    return Finding(Outcome(item["outcome"]), item["seen"], from_shown(item.get("evidence", "")))
