"""The model in `spec/model/`, verified, changed and held against recordings.

    python -m tests.model verify
    python -m tests.model mutants

`mutants` changes it in one place at a time, `scripts` asks it for a recording, and `replay` takes a path of it on the
real server. What the notebook needs as well is in `h3ref.lab.model`.
"""
