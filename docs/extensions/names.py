"""Names in signatures and docstrings: each leads to where it is documented, under the name that a user imports.

A type that is written `h3ref.app.H3App` in the code is documented as `h3ref.H3App`. What is not documented here, such
as the standard library's types, is code without a link; a name of our own that is nowhere documented is a warning.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any, TypeVar

from docutils import nodes
from sphinx import addnodes

TOP = ("class", "exception", "function", "data", "module")
"""What a module holds, as Sphinx calls it."""


def resolve(app: Any, env: Any, node: Any, contnode: nodes.TextElement) -> nodes.Node | None:
    """Find what a name means that Sphinx did not find."""
    if node.get("refdomain") != "py":
        return None
    domain, target = env.domains["py"], node["reftarget"]
    last = target.rpartition(".")[2]
    documented = {
        name: entry for name, entry in domain.objects.items() if name.rpartition(".")[2] == last and not entry.aliased
    }
    ours = target.startswith("h3ref.")
    if ours or ("." not in target and last[:1].isupper()):
        found = [name for name in documented if documented[name].objtype in TOP]
    else:
        found = [name for name in documented if "." in target and name.endswith(f".{target}")]
    if len(found) == 1:
        name = found[0]
        entry = documented[name]
        return _reference(app, node, contnode, entry.docname, entry.node_id, name)
    if node["reftype"] == "obj" or not ours or last.startswith("_") or isinstance(_found(target), TypeVar):
        return contnode
    return None


def _found(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute, None)


def name_functions(app: Any, what: str, name: str, found: Any, options: Any, signature: str, returns: str) -> Any:
    """Show a default that is a built-in function, or some module's constant, by its name; a protocol takes nothing."""
    if getattr(found, "_is_protocol", False):
        return "", None  # nobody makes one
    if not signature:
        return None
    text = re.sub(r"<built-in function (\w+)>", r"\1", signature)
    return re.sub(r"<([\w.]+)\.(\w+) object>", _constant, text), returns


def _constant(found: re.Match[str]) -> str:
    values = vars(importlib.import_module(found[1])).items()
    return next((name for name, value in values if name.isupper() and type(value).__name__ == found[2]), found[0])


def show_values(app: Any, doctree: nodes.document) -> None:
    """Show a default that is a constant of the module with its number; an overload's has only the name."""
    for signature in doctree.findall(addnodes.desc_signature):
        for default in signature.findall(nodes.inline):
            if "default_value" in default["classes"] and default.astext().isupper():
                owner = _found(f"{signature['module']}.{signature['fullname'].partition('.')[0]}")
                value = getattr(sys.modules.get(getattr(owner, "__module__", "")), default.astext(), None)
                if isinstance(value, int | float):
                    default.children = [nodes.Text(repr(value))]


def _reference(app: Any, node: Any, content: nodes.TextElement, docname: str, anchor: str, name: str) -> nodes.Node:
    uri = app.builder.get_relative_uri(node["refdoc"], docname)
    if isinstance(content, nodes.Text) or not content.astext():
        content = nodes.literal(text=name)
    return nodes.reference("", "", content, internal=True, refuri=f"{uri}#{anchor}", reftitle=name)


def setup(app: Any) -> dict[str, bool]:
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", name_functions)
    app.connect("doctree-read", show_values)
    return {"parallel_read_safe": True}
