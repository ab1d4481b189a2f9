"""Run notebooks anew, each on a kernel of its own, and write what they put out into them.

`python -m docs.generate.execute [FILE ...]` does it for the files named, or for all of `notebooks/`. A file keeps no
metadata but what a reader's program needs, so that it changes only where its outputs do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

CELL_TIMEOUT = 120
"""Seconds that a cell may take."""


def execute(path: Path) -> None:
    """Run a notebook from its first cell to its last, and write it with its new outputs.

    Raises:
        CellExecutionError: a cell raised; the file is as it was.
        OSError, ValueError: it can't be read or written, or is no notebook.
    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as own, _ipython_in(own):  # no start-up files or history of the user's
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            coalesce_streams=True,
            extra_arguments=["--log-level=40"],  # errors: it warns that it listens on this machine
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute()
    nbformat.write(plain(notebook), path)


@contextmanager
def _ipython_in(folder: str) -> Iterator[None]:
    """Let kernels that start meanwhile take the folder for IPython's own; afterwards it is what it was."""
    before = os.environ.get("IPYTHONDIR")
    os.environ["IPYTHONDIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["IPYTHONDIR"]
        else:
            os.environ["IPYTHONDIR"] = before


def plain(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook without what changes from run to run, or from one editor to the next."""
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        cell.metadata = NotebookNode({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        for output in cell.get("outputs", ()):
            if "metadata" in output:  # a picture's size, to which it is drawn
                sizes = {kind: size for kind, size in output.metadata.items() if kind.startswith("image/")}
                output.metadata = NotebookNode(sizes)
    return notebook


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks named, or all, and return the exit status: 1 if a cell raised."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.execute", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="notebooks; all of notebooks/ by default")
    failed = 0
    for path in parser.parse_args(arguments).files or sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path.name, flush=True)
        try:
            execute(path)
        except (CellExecutionError, OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
