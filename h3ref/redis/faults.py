"""A server's or connection's failure as one of our errors, in one sentence without a password."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Final

from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ReadOnlyError,
    RedisError,
    StalePrimaryError,
    WrongTypeError,
)
from coredis.exceptions import ConnectionError as LostConnection

from ..errors import EngineError, EngineRefused, EngineUnavailable

log = logging.getLogger("h3ref.redis")

PASSING: Final = ("READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "BUSY", "CLUSTERDOWN", "FAILOVER")
"""Codes of answers that mean: nothing was done, but it may be possible soon."""

is_ours: ContextVar[bool] = ContextVar("h3ref.redis", default=False)
"""Whether a connection is one of ours, in the tasks that carry it."""


class _NotOurs(logging.Filter):
    """Lets pass what coredis logs of others' connections; of ours it would log tracebacks, where we log one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not is_ours.get()


logging.getLogger("coredis").addFilter(_NotOurs())


def is_passing(error: Exception) -> bool:
    """Whether a failed request may be possible soon, as while a replica takes over."""
    if isinstance(error, ReadOnlyError | BusyLoadingError):
        return True
    return isinstance(error, RedisError) and str(error).startswith(PASSING)


def refusal(error: Exception, place: str, what: str) -> EngineRefused:
    """The error for an answer that refuses something."""
    reason = str(error).partition(". script:")[0].partition(" script:")[0].strip()
    if isinstance(error, ReadOnlyError):
        return EngineRefused(
            f"the Redis server at {place} is a read-only replica: name the primary, or the sentinels that know it"
        )
    if isinstance(error, WrongTypeError):
        return EngineRefused(f"the Redis key of {what} holds another kind of value: choose another prefix or name")
    if isinstance(error, AuthorizationError):
        return EngineRefused(f"the Redis server at {place} does not permit this user what {what} needs: {reason}")
    if reason.startswith("OOM"):
        return EngineRefused(f"the Redis server at {place} has no memory left, and took nothing of {what}")
    return EngineRefused(f"the Redis server at {place} refused {what}: {reason}")


def failure(error: BaseException, place: str) -> EngineError:
    """The error for a connection that can't be made."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, EngineError):
        return error
    if not isinstance(error, RedisError | OSError | TimeoutError):
        log.error("the connection to the Redis server at %s has failed; connecting again", place, exc_info=error)
    if isinstance(error, AuthenticationError):
        return EngineRefused(f"the Redis server at {place} refuses the user or the password of the URL, or wants one")
    if isinstance(error, StalePrimaryError):
        return EngineUnavailable(f"the Redis server at {place} is no longer a primary")
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    if isinstance(reason, TimeoutError):
        return EngineUnavailable(f"the Redis server at {place} does not answer")
    if isinstance(error, RedisError) and not isinstance(error, LostConnection):
        return EngineRefused(f"the Redis server at {place} refuses the connection: {error}")
    return EngineUnavailable(f"the Redis server at {place} can't be reached: {_said(reason)}")


def _said(reason: BaseException) -> str:
    while isinstance(reason, BaseExceptionGroup):
        reason = reason.exceptions[0]
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return str(reason) or type(reason).__name__
