"""Channels of several processes, under the faults of what is between them: `python -m tests.cluster` runs them all."""
