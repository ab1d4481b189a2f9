"""A soak: servers under faults for any time, with steady readers beside them, and figures at the end.

    python -m tests.soak --seconds 3600

`app` is what is served and counts what its callbacks were told, `server` is a server process, `faults` are the
clients that misbehave, `readers` the ones that count what they get, `run` puts them together.
"""
