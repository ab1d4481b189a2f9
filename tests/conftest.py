"""What all tests share: both event loops, every adapter, and what must be on the machine."""

from __future__ import annotations

import importlib
import os
import shutil
from typing import Any, NoReturn

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
        _missing(f"{name} is not on this machine: apt-get install {package}")
    return path


def require_module(name: str, package: str) -> Any:
    """Return a module that a test needs, or skip; where CI installs it, fail instead."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and what it needs itself is not
        _missing(f"{name} is not on this machine: pip install {package}")


def _missing(message: str) -> NoReturn:
    if os.environ.get("H3REF_CI"):
        pytest.fail(message)
    pytest.skip(message)
