"""What all tests share: both event loops, every adapter, and what must be on the machine."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from .clients import ADAPTERS


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops, in real time; a test with virtual time names its own."""
    return request.param


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Any:
    """Every adapter."""
    return request.param


def require_program(name: str, package: str) -> str:
    """Return the path of a program that a test needs, or skip; where CI installs it, fail instead."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not on this machine: apt-get install {package}"
        if os.environ.get("H3REF_CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
