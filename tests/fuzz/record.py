"""Recordings, as another implementation may write them: read, or refused by a ValueError; what is read comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

from h3ref.lab.check import check, load_rules
from h3ref.lab.recorder import Recording
from tests.fuzz import CUTS, cut_of
from tests.test_sse import VECTORS_DIR

RULES = load_rules()


def take(data: bytes) -> None:
    """Read a recording, check it, draw it, and write it again."""
    text = cut_of(data)[0].decode("utf-8", "surrogateescape")
    try:
        recording = Recording.from_ndjson(text)
    except ValueError:
        return
    assert Recording.from_ndjson(recording.to_ndjson()) == recording
    check(recording, rules=RULES)
    with suppress(ValueError):  # lanes or states that nobody can draw
        str(recording)


def seeds() -> Iterator[bytes]:
    """The recordings among the vectors."""
    for path in sorted((VECTORS_DIR / "trace").glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            yield bytes(CUTS) + "\n".join(map(json.dumps, case["records"])).encode()
