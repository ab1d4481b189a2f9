"""The site as documentation for tools: llms.txt, a Markdown file beside each page, and llms-full.txt with all of them.

llms.txt has the form that llmstxt.org describes: a title, a summary, and a list of links under each heading of the
navigation. A page of Markdown is given as it is written; a notebook as its words, its code and what that put out; and
what Sphinx makes of docstrings, commands and tables as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nbformat
from docutils import nodes
from docutils.io import StringOutput
from sphinx import addnodes
from sphinx.builders.text import TextBuilder
from sphinx.writers.text import TextWriter

_MADE: Final = re.compile(r"^```\{(?!toctree|stepper)", re.MULTILINE)
"""Of a page that has more than Markdown: a directive whose words are made by the build."""

_UNSEEN: Final = re.compile(r"^```\{(?:toctree|stepper)\}.*?^```\n?|^<!--.*?-->\n?", re.MULTILINE | re.DOTALL)
"""What shows nothing as text."""

_PLACE: Final = re.compile(r'<a id="[\w-]+"></a>')


def write(app: Any, failed: Exception | None) -> None:
    """Write the files when the site is built."""
    if failed or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    whole = []
    for name in _pages(app.env):
        text = markdown(app, name)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        whole.append(f"<!-- {name}.html -->\n\n{text}")
    (folder / "llms-full.txt").write_text("\n".join(whole), encoding="utf-8")
    (folder / "llms.txt").write_text("\n".join(_index(app)), encoding="utf-8")


def markdown(app: Any, name: str) -> str:
    """Give a page as Markdown."""
    path = Path(app.env.doc2path(name))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return "\n\n".join(_of_notebook(text)) + "\n"
    if _MADE.search(text):
        return _rendered(app, name)
    return re.sub(r"\n{3,}", "\n\n", _PLACE.sub("", _UNSEEN.sub("", text))).strip() + "\n"


def _of_notebook(text: str) -> Iterator[str]:
    for cell in nbformat.reads(text, as_version=4).cells:
        if cell.cell_type == "markdown":
            yield cell.source.strip()
        elif cell.cell_type == "code":
            yield f"```python\n{cell.source.strip()}\n```"
            for output in cell.outputs:
                data = output.get("data", {})
                said = output.get("text") or data.get("text/markdown") or data.get("text/plain") or ""
                if said.strip() and not re.fullmatch(r"<[^<>]*>", said.strip()):
                    yield said.strip() if "text/markdown" in data else f"```text\n{said.strip()}\n```"


def _rendered(app: Any, name: str) -> str:
    builder = TextBuilder(app, app.env)
    builder.config = app.config
    builder.secnumbers = {}
    doctree = app.env.get_doctree(name)
    for node in list(doctree.findall(nodes.raw)):
        node.parent.remove(node)
    for link in list(doctree.findall(nodes.reference)):
        if link.astext() == "[source]":
            link.parent.remove(link)
    writer = TextWriter(builder)
    writer.write(doctree, StringOutput(encoding="unicode"))
    title, _, rest = str(writer.output).strip().partition("\n")
    return f"# {title}\n" + rest.partition("\n")[2].rstrip() + "\n"


def _index(app: Any) -> Iterator[str]:
    root, env = app.config.root_doc, app.env
    paragraphs = [node.astext() for node in env.get_doctree(root).findall(nodes.paragraph)]
    yield f"# {env.titles[root].astext()}\n"
    yield f"> {' '.join(paragraphs[0].split())}\n"
    yield "All pages in one file: [llms-full.txt](llms-full.txt).\n"
    for tree in env.get_doctree(root).findall(addnodes.toctree):
        yield f"## {tree['caption']}\n"
        for _, name in tree["entries"]:
            yield f"- [{env.titles[name].astext()}]({name}.md){_summary(env.get_doctree(name))}"
        yield ""


def _summary(doctree: nodes.document) -> str:
    for paragraph in doctree.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section | nodes.document):
            words = " ".join(paragraph.astext().split()).removeprefix("Question. ")
            sentence = re.split(r"(?<=[.?!])\s", words, maxsplit=1)[0]
            return f": {sentence}"
    return ""


def _pages(env: Any) -> Iterator[str]:
    """Yield the pages in the order of the navigation."""
    root = env.config.root_doc
    yield root
    for tree in env.get_doctree(root).findall(addnodes.toctree):
        yield from (name for _, name in tree["entries"])


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
