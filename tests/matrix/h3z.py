"""`build`: makes the contract's app on H3Z, from checkouts of H3Z and of libxev, on which H3Z is built.

Zig is the one of the distribution `ziglang`. All that is made lies in `H3Z_HOME`; nothing of the checkouts comes in.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

from tests.matrix.systems import H3Z_COMMIT, H3Z_HOME, ROOT

LIBXEV_COMMIT: Final = "9f785d2"
"""libxev's main when H3Z's commit was made, which H3Z's build.zig.zon asks for."""

OURS: Final = Path(__file__).parent / "zig"


def build(h3z: Path, libxev: Path) -> str:
    """Build the app, with Zig's checks of memory and numbers (ReleaseSafe); return why that can't be done, or "".

    Args:
        h3z: a repository that has H3Z's commit; what is checked out there does not matter.
        libxev: one that has libxev's.
    """
    home = ROOT / H3Z_HOME
    shutil.rmtree(home, ignore_errors=True)
    for repository, commit, name in ((h3z, H3Z_COMMIT, "h3z"), (libxev, LIBXEV_COMMIT, "libxev")):
        if missing := unpack(repository, commit, home / name):
            return missing
    modules = ["--dep", "h3", f"-Mroot={OURS / 'contract.zig'}", "--dep", "xev", "-Mh3=h3z/src/root.zig"]
    modules += ["--dep", "libxev", f"-Mxev={OURS / 'xev.zig'}", "-Mlibxev=libxev/src/main.zig"]
    folders = ["--cache-dir", "cache", "--global-cache-dir", "cache", "-femit-bin=contract"]
    zig = [sys.executable, "-m", "ziglang", "build-exe", "-OReleaseSafe", *modules, *folders]
    done = subprocess.run(zig, cwd=home, capture_output=True, text=True, check=False)
    said = done.stderr.strip().replace(f"{ROOT}/", "")  # no machine's folders are told
    return "" if not done.returncode else f"Zig can't build it: {said[:300]}"


def unpack(repository: Path, commit: str, folder: Path) -> str:
    """Unpack a commit into a folder; return why that can't be done, or ""."""
    archived = subprocess.run(["git", "-C", str(repository), "archive", commit], capture_output=True, check=False)
    if archived.returncode:
        said = archived.stderr.decode(errors="replace").strip()
        return f"the checkout that is to have the commit {commit} has none: {said[-300:]}"
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return ""
