"""What axe-core finds in a page that keeps people out, by the rules of WCAG 2.2 AA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.npm import installed

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

PROJECT = Path(__file__).parent / "axe"

SERIOUS = ("serious", "critical")

_RUN = """async ([selector, rules]) => {
    const only = rules ? {runOnly: {type: "rule", values: rules}} : {};
    const found = await axe.run(selector ?? document, {resultTypes: ["violations"], ...only});
    return found.violations.map(({id, impact, help, nodes}) => ({
        id, impact, help, where: nodes.map(({html, any, all, none}) =>
            `${html.slice(0, 160)} | ${[...any, ...all, ...none].map(({message}) => message).join("; ")}`),
    }));
}"""


def axe(request: pytest.FixtureRequest) -> str:
    """The program that looks, installed once for all runs."""
    return (installed(request, PROJECT) / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def faults(
    page: Page | Frame, program: str, selector: str | None = None, rules: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return what is serious or worse in a page, or in a part of it.

    Args:
        program: what `axe` returned.
        selector: of the part; None for all.
        rules: which to look for, by axe-core's names; None for all.
    """
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(program)
    found: list[dict[str, Any]] = page.evaluate(_RUN, [selector, rules])
    return [fault for fault in found if fault["impact"] in SERIOUS]
