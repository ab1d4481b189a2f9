"""The site's search: an id such as L-17 is a word of its own, and an error's text leads to the rule that it names."""

from __future__ import annotations

import re
from typing import Any

from sphinx.search.en import SearchEnglish

_WORD = re.compile(r"[A-Za-z]-\d\d\b|\w+")

_IN_THE_PAGE = r"""
splitQuery = (query) => query.match(/[A-Z]-\d\d(?!\d)|[\p{Letter}\p{Number}_\p{Emoji_Presentation}]+/giu) ?? [];

const parseQuery = Search._parseQuery;
Search._parseQuery = (query) => parseQuery(query.match(/\(rule ([LT]-\d\d)\b/)?.[1] ?? query);
"""


class English(SearchEnglish):
    """English in which an id is one word, for the index and for what is searched for."""

    js_splitter_code = _IN_THE_PAGE

    def split(self, input: str) -> list[str]:
        return _WORD.findall(input)


def setup(app: Any) -> dict[str, bool]:
    app.add_search_language(English)
    return {"parallel_read_safe": True}
