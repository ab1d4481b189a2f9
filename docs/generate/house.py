"""The generated parts of `docs/house.md`: the floors with their rooms, what keeps these apart, the words for endings.

`python -m docs.generate.house` rewrites them; with `--check` it changes nothing and exits 1 when one of them has
drifted. The floors are in `floors`, a room's words in the first line of its module, those for endings in the glossary.
How a part is marked stands in `generated`.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from .floors import (
    AROUND,
    DRAWS,
    FLOORS,
    HOUSE,
    MAY_DRAW,
    MAY_SPEAK,
    MOST_AT_THE_TOP,
    MOST_LINES,
    MUTUAL,
    POINTS_UP,
    SPEAKS,
    STOREYS,
    file_of,
)
from .generated import table, update

DOCS: Final = HOUSE.parent / "docs"
PAGE: Final = DOCS / "house.md"
GLOSSARY: Final = DOCS / "glossary.md"

WORDS: Final = (
    *("close", "cancel", "stop", "end", "proper end", "cut"),
    *("disconnect", "fail", "shut down", "abandon", "release", "discard"),
)
"""For endings, in the order in which they explain each other."""

OPENED: Final = (
    *("channel", "server", "adapters", "adapters/h11_anyio"),
    *(
        f"adapters/{path.parent.name}"
        for path in sorted((HOUSE / "adapters").glob("*/__init__.py"))
        if path.parent.name != "h11_anyio"
    ),
)
"""Packages whose files are listed one by one, since a request or an event takes its path through them."""


def floors() -> Iterator[str]:
    """The house, the roof on top: a row for each room, below the name of its storey."""
    rows: list[list[str]] = []
    number = len(FLOORS)
    for title, storey in reversed(STOREYS.items()):
        rows.append(["", "", f"**{title}**"])
        for floor in reversed(storey):
            rows += ([str(number), _link(room), _noun(room)] for room in sorted(floor, key=_last))
            number -= 1
    yield from table(["floor", "room", "what it is"], rows)


def packages() -> Iterator[str]:
    """The files behind the doors of some packages."""
    rows: list[list[str]] = []
    for package in OPENED:
        rows.append([f"**{package}/**", ""])
        rows += (
            [_link(f"{package}.{path.stem}".replace("/", "."), name=path.name), first_line(path)]
            for path in sorted((HOUSE / package).glob("[a-z]*.py"))
        )
    yield from table(["file", "what it is"], rows)


def walls() -> Iterator[str]:
    """What else holds the rooms apart."""
    ups = ", ".join(f"`{name}` imports `{module}` when it is called" for name, module in sorted(POINTS_UP))
    yield f"- A file imports only from lower floors, or from its own. One import points up: {ups}."
    yield f"- No files import each other in a circle, except for types: {_listed(MUTUAL)} name each other."
    yield f"- Only {_listed(MAY_SPEAK)} may import libraries that speak to a network: {_listed(SPEAKS, 'or')}."
    yield f"- Only {_listed(MAY_DRAW)} may import libraries that draw: {_listed(DRAWS, 'or')}."
    yield (
        "- Nothing outside imports `_core`: no page, no notebook, no example. "
        "Its names may change with each release; its rooms are for people who change the house."
    )
    yield (
        f"- No file has more than {MOST_LINES} lines. The top of `h3ref/` has at most {MOST_AT_THE_TOP} "
        f"modules and packages for users to read, beside {_listed(AROUND)}."
    )


def words() -> Iterator[str]:
    """The words for endings, as the glossary has them."""
    said = definitions()
    yield from table(["word", "means"], ([f"**{word}**", said[word]] for word in WORDS))


def definitions() -> dict[str, str]:
    """What the glossary says of each term, in one line."""
    text = GLOSSARY.read_text(encoding="utf-8")
    found = re.findall(r"^(\S[^\n]*)\n: (.+?)(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return {term: " ".join(said.split()) for term, said in found}


PARTS: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "floors": floors,
    "walls": walls,
    "packages": packages,
    "words": words,
}


def _link(room: str, *, name: str | None = None) -> str:
    path = file_of(f"h3ref.{room}")
    assert path is not None, f"there is no {room}"
    return f"[`{name or room.replace('.', '/')}`](../{path.relative_to(HOUSE.parent).as_posix()})"


def _noun(room: str) -> str:
    path = file_of(f"h3ref.{room}")
    assert path is not None, f"there is no {room}"
    return first_line(path)


def first_line(path: Path) -> str:
    """What a file says of itself.

    Raises:
        ValueError: it says nothing.
    """
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path} does not say what it is: its first line has to be a docstring")
    return text.partition("\n")[0]


def _last(room: str) -> tuple[bool, str]:
    """By the alphabet, but what is private last."""
    return room.startswith("_"), room


def _listed(names: set[str], word: str = "and") -> str:
    *most, last = (f"`{name.removeprefix('h3ref.')}`" for name in sorted(names, key=str.lower))
    return f"{', '.join(most)} {word} {last}" if most else last


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the page, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.house", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a part has drifted")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that is written")
    options = parser.parse_args(arguments)
    return update(
        options.page,
        lambda: {name: part() for name, part in PARTS.items()},
        check=options.check,
        command="python -m docs.generate.house",
    )


if __name__ == "__main__":
    sys.exit(main())
