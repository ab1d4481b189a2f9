"""Cells that run in the page: a Python block below `<!-- live -->` gets a button, and Pyodide to run it.

    <!-- live: /countdown -->
    ```python
    ...

With a path, the cell's `app` is asked for it once the code has run. The site serves all that the cells need, so that no
page asks another host: Pyodide as npm has it, and the packages of this environment that h3ref imports, with h3ref
itself, in one archive. Where npm is missing, or reaches nothing, the site is built without live cells, and says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from docutils import nodes
from sphinx.util import logging

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "docs" / "live"
CACHE = ROOT / "build" / "live"
ASSETS = "_static/live"
SERVED = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
"""Of Pyodide's files, those that a browser asks for."""

PACKAGES = ("transitions", "anyio", "h11", "idna", "six", "typing_extensions")
"""What h3ref imports, and what that imports."""

_MARK = re.compile(r"<!-- live(?:: (?P<path>/\S*))? -->\s*")
_LEFT_OUT = {"__pycache__", "bench", "cluster", "model"}
"""Folders of h3ref's that no cell needs: what measures servers and drives processes."""


def wrap(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put each block that is marked into a box that the page's program finds."""
    if app.builder.format != "html" or not app.live:
        return
    found = False
    for mark in list(doctree.findall(lambda node: isinstance(node, nodes.raw | nodes.comment))):
        if (said := _MARK.fullmatch(mark.rawsource or mark.astext())) is None:
            continue
        block = mark.next_node(descend=False, siblings=True)
        if not isinstance(block, nodes.literal_block):
            raise ValueError(f"{docname}: a live mark stands above a Python block, not above {block!r}")
        box = f'<div class="live-cell" data-path="{said["path"] or ""}">'
        mark.replace_self(nodes.raw("", box, format="html"))
        block.parent.insert(block.parent.index(block) + 1, nodes.raw("", "</div>", format="html"))
        found = True
    if found:
        app.live_pages.add(docname)


def add_files(app: Any, docname: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load the program and the style on pages that have cells."""
    if docname in app.live_pages:
        app.add_css_file("live/live.css")
        app.add_js_file("live/live.js", **{"data-whole": str(app.live_size), "defer": "defer"})


def begin(app: Any) -> None:
    """Find what is served, once for the whole build."""
    app.live, app.live_pages, app.live_size = None, set(), 0
    if app.builder.format != "html":
        return
    app.live = pyodide()
    if app.live is not None:
        folder = Path(app.outdir, ASSETS)
        folder.mkdir(parents=True, exist_ok=True)
        for name in SERVED:
            shutil.copy(app.live / name, folder)
        for path in HOME.glob("*"):
            if path.suffix in (".js", ".mjs", ".css"):
                shutil.copy(path, folder)
        archive(folder / "packages.zip")
        app.live_size = sum((folder / name).stat().st_size for name in (*SERVED, "packages.zip") if "mjs" not in name)


def pyodide() -> Path | None:
    """The folder with Pyodide's files, installed once for each version; None if npm can't have it."""
    lock = (HOME / "package-lock.json").read_bytes()
    whole = CACHE / sha256(lock).hexdigest()[:16]
    if not whole.exists():
        npm = shutil.which("npm")
        if npm is None:
            _tell_without("there is no npm")
            return None
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HOME / name, unfinished)
            done = subprocess.run(
                [npm, "ci", "--ignore-scripts"],
                cwd=unfinished,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                _tell_without(f"npm can't install Pyodide: {' '.join(done.stderr.split())[:200]}")
                return None
            if not whole.exists():  # another build may have been faster
                shutil.move(Path(unfinished, "node_modules"), whole)
    return whole / "pyodide"


def _tell_without(why: str) -> None:
    log.info("the site is built without cells that run in the page: %s", why)


def archive(path: Path) -> None:
    """Write what a cell imports as one archive, the same bytes for the same files."""
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=9) as found:
        for name, data in sorted(_files()):
            found.writestr(ZipInfo(name), data, ZIP_DEFLATED)


def _files() -> Iterator[tuple[str, bytes]]:
    yield "cell.py", (HOME / "cell.py").read_bytes()
    for package in PACKAGES:
        for file in distribution(package).files or ():
            if file.suffix == ".py" and ".." not in file.parts and "tests" not in file.parts:
                yield file.as_posix(), Path(str(file.locate())).read_bytes()
    for path in (ROOT / "h3ref").rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and not _LEFT_OUT & set(path.relative_to(ROOT).parts):
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()
    # Where the wheel has what stands outside of the package in a clone.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for source, place in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items():
        given = ROOT / source
        for path in sorted(given.rglob("*")) if given.is_dir() else [given]:
            if path.is_file():
                yield (Path(place) / path.relative_to(given)).as_posix() if given.is_dir() else place, path.read_bytes()


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", begin)
    app.connect("doctree-resolved", wrap)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
