"""The suites of others, run on h3ref: `make peers`."""
