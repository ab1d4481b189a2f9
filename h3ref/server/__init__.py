"""`serve` and `running`: an app on a port of its own, until a signal comes, or inside a notebook or a test."""

from .serving import DEFAULT_FLUSH_GAP, DEFAULT_GRACE, DEFAULT_PORT, running, serve

__all__ = ["DEFAULT_FLUSH_GAP", "DEFAULT_GRACE", "DEFAULT_PORT", "running", "serve"]
