"""The cells of the site that run in the page, and what the page says that each puts out."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tests.pages import PAGES, ROOT, blocks_of, commands_of

MARK = re.compile(r"<!-- live(?:: (?P<path>/\S*))? -->\n```python\n")


class Cell(NamedTuple):
    """A cell of a page, by its number there, and the output that stands below it."""

    page: str
    number: int
    said: str


def cells() -> Iterator[Cell]:
    """Yield each cell of the site's pages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, mark in enumerate(MARK.finditer(text)):
            below = [block for block in blocks_of(page) if block.line > text[: mark.start()].count("\n") + 2]
            if mark["path"]:
                said = next(
                    output
                    for block in below
                    if block.language == "console"
                    for command, output in commands_of(block)
                    if command.endswith(mark["path"])
                )
            else:
                said = below[0].text
                assert below[0].language == "text", f"{page}: what the cell puts out stands below it"
            yield Cell(page.relative_to(ROOT).with_suffix("").as_posix(), number, said)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as a host of files does; the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
