"""Pages that show the files: a link to a file that is no page leads to one made of it, and so do the API's [source]s.

The link in the Markdown stays an ordinary relative one, so that it works on a code host too. In the site it leads
to the line where the file defines what the link's title, or its text, names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from posixpath import relpath
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes

FOLDER = "source"
SHOWN = ("h3ref/**/*.py", "spec/lifecycle.json")
"""Files that have a page whether or not anything links to them."""


PICTURES = (".svg", ".png")
"""Files that a page shows, so that the site has them already: a link to one shows it in its own size."""


def page_of(file: str) -> str:
    """The name of the page that shows a file."""
    return f"{FOLDER}/{file}"


def link_files(app: Any, doctree: nodes.document) -> None:
    """Turn each link to a file into one to its page, before Sphinx makes a download of it."""
    for node in list(doctree.findall(addnodes.download_reference)):
        path = Path(app.env.relfn2path(node["reftarget"], app.env.docname)[1])
        file = path.resolve().relative_to(Path(app.srcdir).resolve()).as_posix()
        if path.suffix in PICTURES:
            uri = relpath(f"{app.builder.imagedir}/{path.name}", Path(app.env.docname).parent.as_posix())
        else:
            _wanted(app.env).setdefault(file, set()).add(app.env.docname)
            uri = app.builder.get_relative_uri(app.env.docname, page_of(file))
            named = str(node.get("reftitle") or node.astext()).rpartition("::")[2]
            if path.suffix == ".py" and named in lines_of(path):
                uri = f"{uri}#line-{lines_of(path)[named]}"
        title = {"reftitle": node["reftitle"]} if node.get("reftitle") else {}
        node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri, **title))


@cache
def lines_of(path: Path) -> dict[str, int]:
    """Where a module defines what: its functions, classes and constants, and the members of classes after a dot."""
    return dict(_lines(ast.parse(path.read_text(encoding="utf-8")).body))


def _lines(body: list[ast.stmt], within: str = "") -> Iterator[tuple[str, int]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{within}{node.name}", node.lineno
            if isinstance(node, ast.ClassDef):
                yield from _lines(node.body, f"{within}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield f"{within}{ast.unparse(target)}", node.lineno


def link_objects(app: Any, doctree: nodes.document) -> None:
    """Give each object of the API a link to its lines."""
    for described in list(doctree.findall(addnodes.desc)):
        for signature in described.findall(addnodes.desc_signature):
            if signature.parent is not described or not signature.get("module"):
                continue
            place = _place(signature["module"], signature["fullname"], Path(app.srcdir))
            if place is not None:
                file, line = place
                uri = f"{app.builder.get_relative_uri(app.env.docname, page_of(file))}#line-{line}"
                text = nodes.inline("", "[source]", classes=["viewcode-link"])
                signature += nodes.reference("", "", text, internal=True, refuri=uri)


def _place(module: str, name: str, root: Path) -> tuple[str, int] | None:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = inspect.getattr_static(found, part, None) if inspect.isclass(found) else getattr(found, part, None)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    try:
        file = Path(inspect.getsourcefile(inspect.unwrap(found)) or "").resolve()
        line = inspect.getsourcelines(found)[1]
    except (TypeError, OSError):  # a constant, or an alias: nothing that has lines of its own
        return None
    return (file.relative_to(root.resolve()).as_posix(), line) if file.is_relative_to(root.resolve()) else None


def pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each file."""
    root = Path(app.srcdir)
    files = {path.relative_to(root).as_posix() for pattern in SHOWN for path in root.glob(pattern)}
    for file in sorted(files | {file for file, by in _wanted(app.env).items() if by}):
        text = (root / file).read_text(encoding="utf-8")
        try:
            lexer = get_lexer_for_filename(file)
        except ClassNotFound:
            lexer = get_lexer_for_filename("file.txt")
        body = highlight(text, lexer, HtmlFormatter(linenos="inline", anchorlinenos=True, lineanchors="line"))
        yield (
            page_of(file),
            {"title": file, "body": f'<h1>{file}</h1>\n<div class="file">{body}</div>', "meta": {}},
            "page.html",
        )


def forget(app: Any, env: Any, docname: str) -> None:
    for documents in _wanted(env).values():
        documents.discard(docname)


def merge(app: Any, env: Any, docnames: Any, other: Any) -> None:
    for file, documents in _wanted(other).items():
        _wanted(env).setdefault(file, set()).update(documents)


def _wanted(env: Any) -> dict[str, set[str]]:
    """The files that documents link to, each with those documents."""
    if not hasattr(env, "h3ref_files"):
        env.h3ref_files = {}
    found: dict[str, set[str]] = env.h3ref_files
    return found


def setup(app: Any) -> dict[str, bool]:
    app.connect("doctree-read", link_files, priority=100)
    app.connect("doctree-read", link_objects)
    app.connect("html-collect-pages", pages)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    return {"parallel_read_safe": True}
