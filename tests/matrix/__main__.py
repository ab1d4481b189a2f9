"""`python -m tests.matrix`: takes columns of docs/matrix anew, into spec/results, and draws the page.

`make matrix` makes an environment for it, with the peers. A column that can't be had is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from docs.generate import matrix
from tests.matrix.h3z import build
from tests.matrix.systems import CLIENTS, NODE_HOME, NOT_HERE, ROOT, SERVERS, Absent, Client, Server
from tests.matrix.taking import answers, judged, judged_server

RESULTS: Final = ROOT / "spec" / "results"
LEFT_OUT: Final = RESULTS / "left_out.json"
PORT: Final = 3000
"""The results say it, so that it is the same each time."""
NO_CHECKOUTS: Final = (
    "not taken, for it is built from checkouts of H3Z and libxev, and one is missing: make matrix H3Z=PATH LIBXEV=PATH"
)


def install_node() -> str:
    """Install what the programs of node need; return why that can't be done, or "" when it is."""
    home = ROOT / NODE_HOME
    shutil.copytree(Path(__file__).parent / "node", home, dirs_exist_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm"
    done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=home, capture_output=True, text=True, check=False)
    return "" if not done.returncode else f"npm can't install it: {done.stderr.strip()[-300:]}"


def take(system: Client | Server, python: str) -> str:
    """Judge a system, write what was found, and return it in one line.

    Raises:
        Absent: it can't be judged here.
    """
    found = judged(system, python) if isinstance(system, Client) else judged_server(system, python, PORT)
    (RESULTS / f"{system.file}.json").write_text(found, encoding="utf-8")
    outcomes = [verdict["outcome"] for verdict in json.loads(found)["verdicts"]]
    return ", ".join(f"{outcomes.count(one)} {one}" for one in dict.fromkeys(outcomes))


def serve(parser: argparse.ArgumentParser, server: Client | Server | None) -> int:
    """Have a server run until it ends or is ended, and return its status. `take` has made what it needs."""
    if not isinstance(server, Server):
        parser.error(f"the servers are {', '.join(one.name for one in SERVERS)}")
    try:
        return subprocess.call(server.command(os.path.relpath(sys.executable, ROOT), PORT), cwd=ROOT)
    except KeyboardInterrupt:
        return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the columns that are asked for, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this system only; more than once")
    parser.add_argument("--serve", metavar="NAME", help=f"have this server run on port {PORT}, for a try by hand")
    parser.add_argument("--h3z", type=Path, metavar="PATH", help="a checkout of H3Z, for its columns")
    parser.add_argument("--libxev", type=Path, metavar="PATH", help="one of libxev, on which H3Z is built")
    options = parser.parse_args(arguments)
    systems = {system.name: system for system in (*CLIENTS, *SERVERS)}
    if unknown := set(options.only) - systems.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; the systems are {', '.join(systems)}")
    if options.serve:
        return serve(parser, systems.get(options.serve))
    wanted = [system for name, system in systems.items() if not options.only or name in options.only]
    if not (options.h3z and options.libxev):
        if left := [system.name for system in wanted if system.needs_checkouts]:
            print(f"{' and '.join(left)}: {NO_CHECKOUTS}", file=sys.stderr, flush=True)
        wanted = [system for system in wanted if not system.needs_checkouts]
        if not wanted:
            return 2
    if any(isinstance(system, Server) for system in wanted) and answers(PORT):
        print(f"port {PORT} is another program's, which would be judged in place of a server; end it", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    left_out = json.loads(LEFT_OUT.read_text(encoding="utf-8")) if LEFT_OUT.exists() else {}
    left_out |= NOT_HERE
    no_node = install_node() if any(system.needs_node for system in wanted) else ""
    no_h3z = build(options.h3z, options.libxev) if any(system.needs_checkouts for system in wanted) else ""
    python = os.path.relpath(sys.executable, ROOT)  # the results name no machine's folders
    for system in wanted:
        left_out.pop(system.name, None)
        try:
            if missing := no_node if system.needs_node else no_h3z if system.needs_checkouts else "":
                raise Absent(missing)
            print(f"{system.name}: {take(system, python)}", flush=True)
        except Absent as error:
            left_out[system.name] = str(error)
            (RESULTS / f"{system.file}.json").unlink(missing_ok=True)
            print(f"{system.name}: {error}", flush=True)
    LEFT_OUT.write_text(json.dumps(left_out, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return matrix.main([])


if __name__ == "__main__":
    sys.exit(main())
