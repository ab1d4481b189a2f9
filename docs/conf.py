"""The site's settings. `make docs` builds it from this folder, spec, the notebooks and the docstrings.

Sphinx' source folder is the repository itself: so nothing is copied, and a link from one file to another leads to the
same place in the site and on a code host.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from h3ref import __version__  # noqa: E402  # found by the line above

project = "h3ref"
author = "the h3ref authors"
copyright = "the h3ref authors. MIT licensed"
version = release = __version__
html_title = f"h3ref {__version__}"
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "extensions.commands",
    "extensions.docstrings",
    "extensions.drawings",
    "extensions.limits",
    "extensions.live",
    "extensions.llms",
    "extensions.names",
    "extensions.places",
    "extensions.reading",
    "extensions.searching",
    "extensions.sources",
    "extensions.stepper",
    "extensions.words",
]

# -- what is read

root_doc = "docs/index"
include_patterns = ["docs/**", "spec/*.md", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".*", "**/.*", "**/__pycache__", "build", "dist", "htmlcov", "h3ref", "tests"]
nitpicky = True

nb_execution_mode = "off"  # the notebooks are committed with their outputs, and the tests run them
nb_merge_streams = True
nb_render_markdown_format = "myst"  # a table that a cell puts out is a table
myst_enable_extensions = ["attrs_block", "deflist", "fieldlist"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]

# -- docstrings

smartquotes = False  # they would make one dash of --help
default_role = "py:obj"  # `name` in a docstring is a link where the name is documented, else just code
autodoc_type_aliases = {
    name: name for name in ("Content", "Item", "Values")
}  # the text says what each is; they are long
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
autoclass_content = "both"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 110
add_module_names = False
toc_object_entries_show_parents = "hide"

# -- how it looks

html_theme = "furo"
html_static_path = ["static", "pictures/card.png"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "pictures/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_additional_pages = {"index": "to_index.html"}
templates_path = ["templates"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5394", "color-brand-content": "#0b5394"},
    "dark_css_variables": {"color-brand-primary": "#8ab8f0", "color-brand-content": "#8ab8f0"},
}
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"
copybutton_prompt_text = "$ "
copybutton_copy_empty_lines = False
copybutton_line_continuation_character = "\\"
