"""`accepted` tells how far each of some recordings is a path of the model.

The model is bound to take their steps, with the states, rejections and reasons that they have, and the checker tries
every way to do so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from h3ref.lab.model.path import Names
from h3ref.lab.model.spin import prepared, verify
from h3ref.trace import STEPS, Record

WORLD: Final = ("CALLBACK", "AWAITED", "BLOCKING", "THREAD", "HEAD", "SECOND", "KEEP_ALIVE", "STOPS", "GENERATED")
"""All that there may be around an exchange, for recordings of any kind."""

BOUNDS: Final = ("CALLS=14", "EVENTS=3", "COMMENTS=2")

NEVER: Final = 255
"""No step, state or reason of the model's has this number."""


@dataclass(frozen=True)
class Script:
    """The records of one exchange as numbers, one row a record."""

    rows: tuple[tuple[int, ...], ...]


def script(records: Sequence[Record]) -> Script:
    """The script of one exchange; a record that the model has no words for becomes one that it never takes."""
    names = Names()
    method = (records[0].detail or "").partition(" ")[0] if records else ""
    head = {"GET": 0, "HEAD": 1}.get(method, NEVER)
    return Script(
        tuple(_row(names, record, head, records[index - 1] if index else None) for index, record in enumerate(records))
    )


def _row(names: Names, record: Record, head: int, last: Record | None) -> tuple[int, ...]:
    taken = STEPS.get(record.step)
    is_named = taken is not None and (taken.who, taken.to, taken.trigger) == (record.who, record.to, record.trigger)
    ages = last is None or record.time >= last.time  # the model has no clock, and none of its steps goes back in time
    cell = names.rules[record.before, record.trigger] if is_named and record.trigger else {}
    is_its_rule = record.rule == (cell.get("id") if record.error else None)
    if not (is_named and ages and is_its_rule):
        return (NEVER,) * 5 + (head,)
    return (
        names.steps.index(record.step),
        names.states.index(record.before),
        names.states.index(record.after),
        names.errors.index(record.error) if record.error in names.errors else NEVER,
        names.reasons.index(record.reason) if record.reason in names.reasons else NEVER,
        head,
    )


def accepted(scripts: Sequence[Script], flow: str, changed: dict[str, str] | None = None) -> list[int]:
    """How many records of each script some path of the model begins with.

    Args:
        scripts: what to follow.
        flow: by_handler or broken.
        changed: files of the model with another text.
    """
    with prepared({**(changed or {}), "script.h": _header(scripts)}) as folder:
        defines = [f"-D{name}" for name in (f"FLOW=flow_{flow}", "SCRIPT", *WORLD, *BOUNDS)]
        (verdict,) = verify(folder, "exchange.pml", defines, reduces=False)
    reached = [0] * len(scripts)
    for number, place in re.findall(r"^script (\d+) reached (\d+)$", verdict.said, re.MULTILINE):
        reached[int(number)] = max(reached[int(number)], int(place))
    return reached


def _header(scripts: Sequence[Script]) -> str:
    longest = max((len(one.rows) for one in scripts), default=0) + 1
    rows: Any = [[*one.rows, *[(NEVER,) * 6] * (longest - len(one.rows))] for one in scripts]
    text = json.dumps(rows).replace("[", "{").replace("]", "}")
    return f"""#define SCRIPTS {len(scripts)}
static const unsigned char script_rows[SCRIPTS][{longest}][6] = {text};
static unsigned char script_best[SCRIPTS];
static void script_reached(int number, int place) {{
    if (place > script_best[number]) {{
        script_best[number] = place;
        printf("script %d reached %d\\n", number, place);
    }}
}}
"""
