"""`serve` and `running`: an app on its own port, until a signal comes, or inside a notebook or a test.

`serving` has both. `place` is where a server listens, `settings` what it is told; `loading` imports an app by its name.
`process` is one process's server from its start to its end, `signals` what ends it.

With several workers the parent is a `supervisor`, which sees each of them as a `worker`, and tells it its `task`;
`work` is what such a process does. They talk to each other over `lines`.
"""

from .serving import DEFAULT_FLUSH_GAP, DEFAULT_GRACE, DEFAULT_PORT, running, serve

__all__ = ["DEFAULT_FLUSH_GAP", "DEFAULT_GRACE", "DEFAULT_PORT", "running", "serve"]
