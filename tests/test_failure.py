"""What an exception of user code means: `h3ref._core.failure`."""

from __future__ import annotations

import pytest

from h3ref._core.failure import failure_of, is_rejection, parts_of
from h3ref.errors import ConnectionLost, LifecycleError, WriterClosed

pytestmark = pytest.mark.anyio

CLOSED = WriterClosed("closed", "send_event", "L-25", None)
LOST = ConnectionLost("closed", "get_writer", "L-20", None)
FAULT = ValueError("the fault")


def several(*parts: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", parts)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (FAULT, [FAULT]),
        (several(FAULT, CLOSED), [FAULT, CLOSED]),
        (several(several(several(FAULT), CLOSED), LOST), [FAULT, CLOSED, LOST]),
    ],
    ids=["one", "a group", "groups in groups"],
)
def test_an_exception_is_taken_apart_down_to_those_that_are_no_groups(
    error: BaseException, parts: list[BaseException]
) -> None:
    assert parts_of(error) == parts
    assert is_rejection(error) == all(isinstance(part, LifecycleError) for part in parts)


def test_a_group_of_rejections_alone_is_one() -> None:
    assert is_rejection(several(several(CLOSED), LOST))


@pytest.mark.parametrize("error", [FAULT, ExceptionGroup("several", [FAULT]), GeneratorExit(), SystemExit(3)])
async def test_what_can_be_told_as_it_is_and_what_ends_more_than_the_exchange_stays(error: BaseException) -> None:
    assert failure_of(error) is error


async def test_what_ends_the_process_is_found_in_a_group() -> None:
    error = several(several(FAULT, KeyboardInterrupt()))
    assert failure_of(error) is error


async def test_what_is_no_exception_and_ends_nothing_more_is_told_as_a_failure() -> None:
    class Odd(BaseException):
        """What some libraries end a task by."""

    error = several(Odd("by hand"))
    failure = failure_of(error)
    assert isinstance(failure, RuntimeError)
    assert "by hand" in str(failure)
    assert failure.__cause__ is error
