"""Channels: one event, encoded once, to many streams."""

from .channel import Channel, ChannelStats

__all__ = ["Channel", "ChannelStats"]
