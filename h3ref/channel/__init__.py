"""Channels: one event, encoded once, to many streams."""

from .channel import Channel
from .stats import ChannelStats

__all__ = ["Channel", "ChannelStats"]
