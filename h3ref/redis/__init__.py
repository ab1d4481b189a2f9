"""Channels of several processes by Redis or Valkey: each is a stream there, and publishes on a channel of that name.

The stream remembers, pub/sub carries, and each entry names the one before it. coredis carries the bytes, on asyncio and
trio.
"""

from __future__ import annotations

try:
    import coredis as coredis
except ModuleNotFoundError as error:
    if error.name != "coredis":
        raise
    raise ImportError('RedisEngine needs coredis: pip install "h3ref[redis]"', name="coredis") from None

from .engine import RedisEngine

__all__ = ["RedisEngine"]
