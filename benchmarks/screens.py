"""How quick the screens are on a large run, and whether they slow it: first paint, key to paint, the writer.

    python benchmarks/screens.py [--rows 1000000] [--keys 300] [--rounds 6]

A run of a million committed rows is made once, with a log as long as such a run leaves. Then a
writer appends a hundred events a second to it, as a run does, and is timed with and without a
`nexa watch` that looks at it in a terminal of its own (a pseudo-terminal whose output is read as it
comes). What is measured is what a person gets: bytes on the terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa_core.events import (
    CallsProgressed,
    IterationStarted,
    PhaseStarted,
    RunStarted,
    ShardCommitted,
    ShardProgressed,
)
from nexa_core.gates import Gate, Rule
from nexa_core.store.events import EventLog
from nexa_core.store.files import encode_line
from nexa_core.store.lock import RunLock
from nexa_core.store.manifest import MANIFEST, ShardEntry
from nexa_core.store.runs import Run, create_run, open_run

SHARD = 1_000
EVENTS_BEFORE = 100_000
"""Lines of the log when the screens are opened: a quarter of an hour at a hundred a second."""
PER_SECOND = 100
ASKED = {"first paint, s": 1.0, "key to paint, p95, ms": 100.0, "writer slowed, %": 2.0}
GATE = Gate(
    "distill_qc", (Rule("token_limit_rate", "below", 0.1), Rule("acceptance_rate", "at_least", 0.5))
)
PIPELINE = {
    "nexa": 1,
    "name": "big",
    "models": {"teacher": {"model": "openai/x"}},
    "steps": [{"generate": {"id": "answer", "model": "teacher", "into": "response"}}],
    "pilot": {"rows": 200, "max_iterations": 5},
    "scale": {"accepted": 2_000_000},
    "budget": {"usd": 500},
}


def make_run(root: Path, rows: int) -> Run:
    """A run in scale with `rows` committed rows; every tenth rejected, every hundredth failed."""
    record = {"pipeline": PIPELINE, "pipeline_hash": "0" * 64, "gate": GATE.as_json(), "seed": 0}
    run = create_run(root / "artifacts", "big", "big", {**record, "phases": ["pilot", "scale"]})
    run.iteration(1).create()
    folder = run.scale.create()
    first = folder.shards / "00000.parquet"
    counts, reasons = _write_shard(first)
    with (folder.path / MANIFEST).open("wb") as manifest:
        for shard in range(rows // SHARD):
            path = folder.shards / f"{shard:05d}.parquet"
            if path != first:
                os.link(first, path)
            tallies = {
                "token_limit_rate": {"n": SHARD, "k": 20},
                "acceptance_rate": {"n": SHARD, "k": counts["accepted"]},
            }
            entry = ShardEntry(
                folder.unit(shard), shard, counts, {path.name: "0" * 64}, "0" * 64,
                reasons=reasons, calls={"asked": SHARD}, cost_nano={"teacher": 10**8},
                metrics=tallies, source_rows=SHARD, seconds=9.0,
            )  # fmt: skip
            manifest.write(encode_line(vars_of(entry)))
    _write_log(run, rows)
    return run


def vars_of(entry: ShardEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__slots__}


def _write_shard(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    rng = random.Random(0)
    words = [
        "state",
        "iron",
        "symbol",
        "of",
        "the",
        "element",
        "metal",
        "answer",
        "is",
        "about",
        "and",
        "law",
        "force",
    ]
    states = [
        "failed" if n % 100 == 0 else "rejected" if n % 10 == 0 else "accepted"
        for n in range(SHARD)
    ]
    reasons = {"failed": "timeout: 60 s", "rejected": "judge: 0.31"}
    table = pa.table(
        {
            "prompt": [" ".join(rng.choices(words, k=20)) for _ in states],
            "response": [" ".join(rng.choices(words, k=150)) for _ in states],
            "id": [f"{n:016x}" for n in range(SHARD)],
            "source_id": [f"{n:016x}" for n in range(SHARD)],
            "scores": [{"judge": rng.random()} for _ in states],
            "state": states,
            "reason": [reasons.get(state) for state in states],
        }
    )
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    counts = {state: states.count(state) for state in ("accepted", "rejected", "failed")}
    return counts, {"judge": counts["rejected"], "timeout": counts["failed"]}


def _write_log(run: Run, rows: int) -> None:
    shards = rows // SHARD
    events = [RunStarted("big", "big", "0" * 64, 0), PhaseStarted("pilot")]
    events += [IterationStarted(1, {}, 200), PhaseStarted("scale")]
    counts = {"accepted": 900, "rejected": 90, "failed": 10}
    between = max(1, EVENTS_BEFORE // shards)
    began = time.time() - 900
    with run.events_path.open("wb") as log:
        seq = 0
        for shard in range(shards):
            lot = list(events) if shard == 0 else []
            lot += [
                ShardProgressed(f"scale/{shard:05d}", "answer", n * SHARD // between, SHARD)
                for n in range(between - 1)
            ]
            lot.append(ShardCommitted(f"scale/{shard:05d}", counts, {"asked": SHARD}, 10**8, 9.0))
            for event in lot:
                seq += 1
                at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began + 900 * shard / shards))
                log.write(encode_line({**event.as_json(), "at": f"{at}.000+00:00", "seq": seq}))
    from nexa_core.store.events import read_events
    from nexa_core.store.status import StatusFile, fold_status

    status = StatusFile(run.path)
    status.put(fold_status("big", read_events(run.path).records))
    status.flush()


def write_events(folder: Path, seconds: float) -> list[tuple[float, float]]:
    """Hold the run and append events for a while; seconds and CPU seconds of each batch of a hundred."""
    run = open_run(folder / "artifacts", "big")
    taken = []
    with RunLock.acquire(run.path):
        log = EventLog.open(run.path)
        print("writing", flush=True)
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            due = time.monotonic() + 1.0
            busy, worked = 0.0, 0.0
            for _ in range(PER_SECOND):
                began, used = time.perf_counter(), time.thread_time()
                if number % 10:
                    log.append(ShardProgressed("scale/99999", "answer", number % SHARD, SHARD))
                else:
                    log.append(
                        CallsProgressed(
                            64, 256, number, {"rate_limit": 3}, 10**11, 0, 0, 5 * 10**11
                        )
                    )
                busy += time.perf_counter() - began
                worked += time.thread_time() - used
                number += 1
                time.sleep(max(0.0, 1.0 / PER_SECOND - (time.perf_counter() - began)))
            taken.append((busy, worked))
            time.sleep(max(0.0, due - time.monotonic()))
        log.close()
    return taken


class Terminal:
    """A `nexa watch` in a pseudo-terminal of 120 × 40."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.started = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(root)
            os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
            os.execv(sys.executable, [sys.executable, "-m", "nexa_core", "watch", *arguments])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.seen = b""

    def read_until(self, wanted: bytes, seconds: float = 20.0) -> float:
        """Read what is drawn until something is seen; when it was, in seconds since the start."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if re.search(wanted, self.seen):
                return time.perf_counter() - self.started
            if select.select([self.fd], [], [], 0.01)[0]:
                self.seen += os.read(self.fd, 1 << 16)
        raise SystemExit(f"{wanted!r} was never drawn; the last: {self.seen[-2000:]!r}")

    def press(self, key: str, wanted: bytes) -> float:
        """Press a key; the milliseconds until what it leads to is drawn."""
        self.drain()
        self.seen = b""
        began = time.perf_counter()
        os.write(self.fd, key.encode())
        self.read_until(wanted)
        return 1000 * (time.perf_counter() - began)

    def drain(self) -> None:
        """Read away what is drawn by itself."""
        while select.select([self.fd], [], [], 0.002)[0]:
            os.read(self.fd, 1 << 16)

    def close(self) -> int:
        """Leave with q; the exit code."""
        os.write(self.fd, b"q")
        end = time.perf_counter() + 5
        while time.perf_counter() < end:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(code)
            if select.select([self.fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(self.fd, 1 << 16)
        os.kill(self.pid, signal.SIGKILL)
        return -1


def start_writer(root: Path, seconds: float) -> subprocess.Popen[str]:
    """A writer of its own process, once it writes."""
    command = [sys.executable, __file__, "--write", str(root), "--seconds", str(seconds)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    return writer


def measure_paint(root: Path, rows: int, times: int = 5) -> tuple[list[float], list[float]]:
    """Seconds from the command to the run's numbers, and to the screen that takes keys; while it is written."""
    numbers, ready = [], []
    for _ in range(times):
        terminal = Terminal(root, "big")
        numbers.append(terminal.read_until(f"{rows * 9 // 10:,}".encode()))
        ready.append(terminal.read_until(rb"Metric over time"))
        terminal.close()
    return numbers, ready


def measure_keys(root: Path, rows: int, keys: int) -> dict[str, list[float]]:
    """Milliseconds from a key to the rows it leads to, all over a million rows."""
    terminal = Terminal(root, "big")
    terminal.read_until(rb"token_limit_rate")
    of_all = f"of {rows:,}".encode()
    terminal.press("4", of_all)
    terminal.read_until(rb"0000000000000000|element|metal")
    time.sleep(1)
    found: dict[str, list[float]] = {"line": [], "page": [], "anywhere": []}
    rng = random.Random(1)
    for number in range(keys):
        kind = number % 10
        if kind == 0:  # anywhere: shards that nothing has read yet
            row = rng.randrange(1, rows)
            terminal.press("/", rb"Go to row")
            for digit in str(row):
                os.write(terminal.fd, digit.encode())
            time.sleep(0.05)
            found["anywhere"].append(terminal.press("\r", f"{row:,} ".encode()))
        elif kind == 5:
            found["page"].append(terminal.press("\x1b[6~", of_all))
        else:
            found["line"].append(terminal.press("j", of_all))
        time.sleep(0.02)
    terminal.close()
    return found


def measure_writer(root: Path, rounds: int, seconds: float) -> tuple[list[Any], list[Any]]:
    """Seconds that a hundred events take to append, alone and watched, in turns."""
    alone, watched = [], []
    for number in range(2 * rounds):
        terminal = None
        writer = start_writer(root, seconds + 2)
        if number % 2:
            terminal = Terminal(root, "big")
            terminal.read_until(rb"token_limit_rate")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            time.sleep(0.02)
            if terminal is not None:
                terminal.drain()
        if terminal is not None:
            terminal.close()
        taken = json.loads(writer.communicate()[0])[1:-1]
        (watched if number % 2 else alone).extend(taken)
    return alone, watched


def main() -> None:
    """Measure all three, and print what was asked beside what was reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    if asked.write is not None:
        print(json.dumps(write_events(asked.write, asked.seconds)))
        return
    root = Path(tempfile.mkdtemp(prefix="nexa-screens-"))
    try:
        (root / "nexa.toml").write_text("nexa = 1\n")
        make_run(root, asked.rows)
        print(
            f"load before: {', '.join(f'{x:.2f}' for x in os.getloadavg())}; {os.cpu_count()} cores"
        )
        _report(root, asked)
        print(f"load after: {', '.join(f'{x:.2f}' for x in os.getloadavg())}")
    finally:
        shutil.rmtree(root)


def _report(root: Path, asked: argparse.Namespace) -> None:
    writer = start_writer(root, 20 + asked.keys * 0.15)
    paints, ready = measure_paint(root, asked.rows)
    kinds = measure_keys(root, asked.rows, asked.keys)
    keys = sorted(ms for each in kinds.values() for ms in each)
    writer.terminate()
    writer.wait()
    alone, watched = measure_writer(root, asked.rounds, asked.seconds)
    wall, work = (
        [statistics.median(pair[part] for pair in pairs) for pairs in (alone, watched)]
        for part in (0, 1)
    )
    slowed = 100 * (wall[1] / wall[0] - 1)
    p95 = keys[int(0.95 * len(keys))]
    reached = dict(zip(ASKED, (statistics.median(paints), p95, slowed), strict=True))
    for name, limit in ASKED.items():
        print(f"{name:<24} asked ≤ {limit:g}   reached {reached[name]:.3g}")
    print(f"first paints, s: {', '.join(f'{x:.2f}' for x in paints)}")
    print(f"ready for keys, s: {', '.join(f'{x:.2f}' for x in ready)}")
    print(
        f"key to paint, ms: median {statistics.median(keys):.0f}, p99 {keys[int(0.99 * len(keys))]:.0f}"
    )
    for kind, each in kinds.items():
        print(
            f"  {kind}: median {statistics.median(each):.0f}, worst {max(each):.0f} of {len(each)}"
        )
    print(
        f"a hundred events take {1000 * wall[0]:.2f} ms alone, {1000 * wall[1]:.2f} ms watched; of the "
        f"processor {1000 * work[0]:.2f} and {1000 * work[1]:.2f} ms ({len(alone)} + {len(watched)} seconds)"
    )


if __name__ == "__main__":
    main()
