"""The browser that tests drive, and how long they wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.conftest import require_module, require_program

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PATIENCE = 30_000
"""Milliseconds that a condition may take to come true; far from what it takes."""

_OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def launched() -> Iterator[Browser]:
    """Start Chromium, or say that it is missing."""
    chromium = require_program("chromium", "chromium")
    playwright = require_module("playwright.sync_api", "playwright")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=_OPTIONS, chromium_sandbox=False)
        yield browser
        browser.close()
