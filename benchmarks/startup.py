"""How long a command takes to begin: `nexa --help` and `nexa status` against the `--help` of peers.

    python benchmarks/startup.py [--rounds 15] [--only NAME …] [--json]

Every program is installed from the package index into an environment of its own under
benchmarks/.envs (made once; uv is needed), nexa from this checkout without its optional parts. Each
round runs every command once, in turn, so that all see the same machine; the first round is thrown
away. Figures are medians of wall time and of processor time, and the wall time relative to bare
`python -c pass` in the same round. A peer that cannot be installed is named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / "benchmarks" / ".envs"
PEERS = {
    "llm": ("llm", "llm"),
    "datasette": ("datasette", "datasette"),
    "dvc": ("dvc", "dvc"),
    "inspect": ("inspect-ai", "inspect"),
    "harlequin": ("harlequin", "harlequin"),
}
"""Name: what is installed, and the command that it brings."""
RUN_RECORD = {"pipeline": {"name": "bench", "steps": []}, "seed": 0, "gate": None}


@dataclass
class Measured:
    """One command's seconds, one per round."""

    name: str
    command: list[str]
    folder: Path
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Run once and note how long it took."""
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            self.command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
        self.wall.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def install(name: str, packages: list[str], afresh: bool = False) -> Path | None:
    """The `bin` of an environment with some packages, made when it is not there; None on failure."""
    folder = ENVIRONMENTS / f"startup-{name}"
    if (folder / "installed").exists() and not afresh:
        return folder / "bin"
    python = folder / "bin/python"
    for command in (
        ["uv", "venv", "--quiet", "--clear", "--python", sys.executable, folder],
        ["uv", "pip", "install", "--quiet", "--python", python, *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name} is left out: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return None
    subprocess.run(
        [python, "-m", "compileall", "-q", folder / "lib"], capture_output=True, check=False
    )
    (folder / "installed").touch()
    return folder / "bin"


def make_workspace(folder: Path, python: Path) -> None:
    """A workspace with a run of 20 shards, so that status has something to read."""
    script = """
import json, sys
from pathlib import Path
from nexa_core.events import GateDecided, IterationStarted, PhaseStarted, RunStarted, ShardCommitted
from nexa_core.store.events import EventLog
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.runs import create_run
run = create_run(Path(sys.argv[1]) / "artifacts", "bench", "bench", json.loads(sys.argv[2]))
log = EventLog.open(run.path)
unit = run.iteration(1).create()
for event in (RunStarted("bench", "bench", "0", 0), PhaseStarted("pilot"), IterationStarted(1, {}, 2000)):
    log.append(event)
for shard in range(20):
    rows = {"accepted": 80, "rejected": 20}
    entry = ShardEntry(unit.unit(shard), shard, rows, {}, "", {"clear": 20}, {"asked": 200}, {"base": 10})
    append_entry(unit.path, entry)
    log.append(ShardCommitted(entry.unit, rows, {"asked": 200}, 10, 1.0))
log.append(GateDecided(1, "PROCEED", [], "", "Every rule holds."))
log.close()
"""
    (folder / "nexa.toml").write_text("nexa = 1\n")
    subprocess.run([python, "-c", script, folder, json.dumps(RUN_RECORD)], check=True)


def collect(folder: Path, only: list[str]) -> list[Measured]:
    """Every command to measure; nexa's own first, then bare Python, then the peers."""
    nexa = install("nexa", ["--no-sources", str(ROOT)], afresh=True)
    if nexa is None:
        raise SystemExit("nexa itself could not be installed")
    make_workspace(folder, nexa / "python")
    found = [
        Measured("nexa --help", [str(nexa / "nexa"), "--help"], folder),
        Measured("nexa status", [str(nexa / "nexa"), "status"], folder),
        Measured("python -c pass", [str(nexa / "python"), "-c", "pass"], folder),
    ]
    for name, (package, command) in PEERS.items():
        if only and name not in only:
            continue
        place = install(name, [package])
        if place is not None:
            found.append(Measured(f"{command} --help", [str(place / command), "--help"], folder))
    return found


def summarise(measured: list[Measured]) -> list[dict[str, Any]]:
    """Medians of every command, the quickest first."""
    bare = next(one for one in measured if one.name == "python -c pass")
    rows = [
        {
            "command": one.name,
            "wall_s": round(statistics.median(one.wall[1:]), 4),
            "best_s": round(min(one.wall[1:]), 4),
            "processor_s": round(statistics.median(one.processor[1:]), 4),
            "times_python": round(
                statistics.median(a / b for a, b in zip(one.wall[1:], bare.wall[1:], strict=True)),
                2,
            ),
        }
        for one in measured
    ]
    return sorted(rows, key=lambda row: row["wall_s"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measured = collect(Path(name), arguments.only)
        for _ in range(arguments.rounds + 1):
            for one in measured:
                one.run()
    rows = summarise(measured)
    machine = (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    if arguments.json:
        print(
            json.dumps({"machine": machine, "rounds": arguments.rounds, "commands": rows}, indent=2)
        )
        return
    print(f"{machine}, {arguments.rounds} rounds\n")
    print(f"{'command':<20} {'wall':>8} {'best':>8} {'processor':>10} {'× python':>9}")
    for row in rows:
        print(
            f"{row['command']:<20} {row['wall_s']:>6.3f} s {row['best_s']:>6.3f} s "
            f"{row['processor_s']:>8.3f} s {row['times_python']:>9.1f}"
        )


if __name__ == "__main__":
    main()
