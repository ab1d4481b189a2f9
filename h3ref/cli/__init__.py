"""The command line: `python -m h3ref`, also installed as `h3ref`."""
