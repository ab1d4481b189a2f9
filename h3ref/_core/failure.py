"""Failures of user code: what an exception from it means, which may be a task group's and hold several."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Final

import anyio

from ..errors import LifecycleError
from .parking import asyncio_task

_HOUSE: Final = Path(__file__).parent.parent
_AROUND: Final = (importlib.__file__, contextlib.__file__)


def parts_of(error: BaseException) -> list[BaseException]:
    """The exception itself, or all those that a task group's exception holds."""
    if isinstance(error, BaseExceptionGroup):
        return [part for inner in error.exceptions for part in parts_of(inner)]
    return [error]


def failure_of(error: BaseException) -> BaseException:
    """The error; or what is reported in its place, if it is no Exception and yet ends nothing but this exchange."""
    if isinstance(error, Exception | GeneratorExit) or any(_ends_more(part) for part in parts_of(error)):
        return error
    if isinstance(error, anyio.get_cancelled_exc_class()):
        failure = RuntimeError("it awaited something that somebody else had cancelled")
    else:
        failure = RuntimeError(f"it raised something that is no Exception: {error!r}")
    failure.__cause__ = error
    return failure


def _ends_more(error: BaseException) -> bool:
    """Whether it ends the process or this task; the cancellation of something that the task awaited does not."""
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return _is_cancelled()
    return isinstance(error, KeyboardInterrupt | SystemExit)


def _is_cancelled() -> bool:
    """Whether this task is cancelled, and did not merely await something that was.

    On trio one can't happen without the other; asyncio raises the same exception for both.
    """
    task = asyncio_task()
    return task is None or task.cancelling() > 0


def sentence_of(error: BaseException) -> str:
    """An error of user code in one line: its kind, its text, and where it was raised."""
    first = parts_of(error)[0]
    said = first.msg if isinstance(first, SyntaxError) else first
    text = " ".join(f"{type(first).__name__}: {said}".split()).removesuffix(":")
    return f"{text} ({place_of(first)})"


def place_of(error: BaseException) -> str:
    """The file and line where it was raised: the innermost one below the current directory, if there is one."""
    import traceback  # here: most programs never need it

    here = Path.cwd()
    places = [
        (Path(frame.filename), frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen ") and not _is_ours(frame.filename)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno))
    below = [(path.relative_to(here), line) for path, line in places if path.is_relative_to(here)]
    path, line = (below or places or [(Path("no file"), 0)])[-1]
    return f"{path}:{line}"


def _is_ours(file: str) -> bool:
    """Whether it belongs to the code that calls the user's; our examples count as the user's."""
    path = Path(file)
    return file in _AROUND or (path.is_relative_to(_HOUSE) and not path.is_relative_to(_HOUSE / "examples"))


def is_rejection(error: BaseException) -> bool:
    """Whether it is nothing but the machine's rejections, such as a task group's full of WriterClosed."""
    return all(isinstance(part, LifecycleError) for part in parts_of(error))
