"""Programs for node that tests run, installed once for all runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from subprocess import DEVNULL

import pytest

from tests.conftest import missing, require_program


def installed(request: pytest.FixtureRequest, project: Path) -> Path:
    """Return a copy of a project's folder with what it depends on; the same one until one of its files changes."""
    npm = require_program("npm", "npm")
    require_program("node", "nodejs")
    files = sorted(path for path in project.iterdir() if path.is_file())
    home = _home_of(request, project.name)
    whole = home / sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    if not whole.exists():
        unfinished = Path(tempfile.mkdtemp(dir=home))
        for file in files:
            shutil.copy(file, unfinished)
        done = subprocess.run([npm, "ci"], cwd=unfinished, stdin=DEVNULL, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(unfinished)
            missing(f"npm can't install {project.name}: {done.stderr.strip()}")
        try:
            unfinished.rename(whole)
        except OSError:  # another run was faster
            shutil.rmtree(unfinished)
    return whole


def _home_of(request: pytest.FixtureRequest, name: str) -> Path:
    """Where pytest keeps what it needs again; for this run only, if that is switched off or somebody else's."""
    cache = getattr(request.config, "cache", None)  # `-p no:cacheprovider` takes even the attribute away
    if cache is not None:
        with suppress(OSError):
            home = Path(cache.mkdir(name))
            if os.access(home, os.W_OK):
                return home
    return Path(request.getfixturevalue("tmp_path_factory").mktemp(name))
