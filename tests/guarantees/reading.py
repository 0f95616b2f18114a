"""Reads a run over and over, as screens do, with every file of it open. Arguments: root, run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nexa_core.actions.inspecting import read_run
from nexa_core.actions.watching import follow
from nexa_core.store.status import read_status
from nexa_core.workspace import find_workspace

root, run = Path(sys.argv[1]), sys.argv[2]
folder = root / "artifacts" / run
held = [path.open("rb") for path in folder.rglob("*") if path.is_file()]
while True:
    read_status(folder)
    follow(folder)
    read_run(run, find_workspace(root))
    (root / f"reading-{os.getpid()}").touch()
