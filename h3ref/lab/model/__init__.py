"""The lifecycle and its flows as a model in Promela, and the checker Spin, which takes all of its paths.

`runs` says what is verified, `spin` calls the checker, `path` makes a recording of a path, `report` keeps what was
found, and `graph` draws it. The model itself stands in `spec/model/`, so that it is there in a checkout alone.
"""
