"""`python -m h3ref`: see `h3ref.cli`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
