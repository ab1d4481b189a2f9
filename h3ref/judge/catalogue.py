"""The catalogue of checks, `spec/checks.json`: what each check looks at, what it rests on, and its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from .._core.jsons import read_json

_PACKAGED = Path(__file__).with_name("checks.json")  # put there when a wheel is built
_IN_SOURCE = Path(__file__).resolve().parents[2] / "spec" / "checks.json"

FORMAT: Final = 1


class Group(StrEnum):
    """What a check looks at: any stream, the routes of the contract, or a client."""

    STREAM = "stream"
    CONTRACT = "contract"
    CLIENT = "client"


class Level(StrEnum):
    """How much it weighs: a must that fails is a fault, a should one that has a reason or is one, a may a hint."""

    MUST = "must"
    SHOULD = "should"
    MAY = "may"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        id: as in C-07.
        title: what holds where it passes, as a short sentence.
        group: what it looks at.
        level: how much it weighs.
        section: what of a standard it rests on, as in "RFC 9112, section 7.1".
        sends: what the judge does.
        passes: what it then has to see.
        why: what goes wrong where it fails.
        remedy: what to do about it.
    """

    id: str
    title: str
    group: Group
    level: Level
    section: str
    sends: str
    passes: str
    why: str
    remedy: str


def load_checks(path: str | Path | None = None) -> tuple[Check, ...]:
    """Read a checks.json, in its order.

    Args:
        path: the file; None for the one that came with this package.

    Raises:
        OSError: it can't be read.
        ValueError: it is not such a file; the text has its name.
    """
    path = path if path is not None else _PACKAGED if _PACKAGED.exists() else _IN_SOURCE
    try:
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"this reader knows only format {FORMAT} of the checks")
        return tuple(_check(item) for item in content["checks"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _check(item: dict[str, Any]) -> Check:
    names = {field.name for field in fields(Check)}
    if item.keys() != names:
        raise ValueError(f"{item.get('id')}: a check has {', '.join(sorted(names))}, not {', '.join(sorted(item))}")
    return Check(**{**item, "group": Group(item["group"]), "level": Level(item["level"])})


def chosen(checks: Iterable[Check], groups: Sequence[Group], only: Sequence[str]) -> tuple[Check, ...]:
    """The checks of these groups; of them only those with these ids, where there are any.

    Raises:
        ValueError: there is no check with such an id, or it is of another group.
    """
    known = {check.id: check for check in checks}
    for id in only:
        if id not in known:
            raise ValueError(f"there is no check {id}; h3ref check --list shows them")
        if known[id].group not in groups:
            how = {Group.STREAM: "a URL", Group.CONTRACT: "a URL and --contract", Group.CLIENT: "--client"}
            raise ValueError(f"{id} belongs to the group {known[id].group}: it needs {how[known[id].group]}")
    return tuple(check for check in known.values() if check.group in groups and (not only or check.id in only))
