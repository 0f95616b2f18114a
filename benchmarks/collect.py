"""How fast nexa collects, against a bare aiohttp loop and against its peers, in one run.

    python benchmarks/collect.py [--rows 20000] [--rounds 9] [--peers openai,litellm,curator,distilabel]
                                 [--quick] [--crowd] [--million] [--write]

A loopback server answers every call 50 ms later with text of real length; 256 calls are under way.
nexa's figure is a whole run by its Python API: source read, prompts rendered, calls journaled before
they are parsed, shards committed, report written. Figures are medians over rounds in which the bare
loop and nexa alternate; a ratio is the median of the rounds' ratios, beside it the least and the
largest, as a shared machine's clock may change by half between two runs. Peers run once, on fewer rows
as they are slow, each between two runs of nexa on the same rows, in an environment of its own under
--cache, which is built when missing.
CPU is user and system time of all processes of the client, per call, imports not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
PROGRAMS = HERE / "collecting"
DOC_PATH = ROOT / "docs" / "collect.md"
CONCURRENCY, LATENCY = 256, 0.05
PROMPT_CHARS = 600

sys.path.insert(0, str(PROGRAMS))


@dataclass(frozen=True)
class Peer:
    """A program to compare with, and what its environment needs."""

    name: str
    program: str
    needs: tuple[str, ...]
    most_rows: int


PEERS = {
    "openai": Peer("openai SDK", "openai_sdk.py", ("openai>=2",), 2_000),
    "litellm": Peer("litellm", "litellm_alone.py", ("litellm>=1.83.7",), 2_000),
    "curator": Peer("bespokelabs-curator", "curator_run.py", ("bespokelabs-curator",), 5_000),
    # distilabel imports requests without asking for it
    "distilabel": Peer(
        "distilabel", "distilabel_run.py", ("distilabel[openai]==1.5.3", "requests"), 2_000
    ),
}


@dataclass(frozen=True)
class Measured:
    """One run of one program."""

    calls: int
    seconds: float
    cpu_seconds: float
    more: dict[str, Any]

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per call."""
        return self.cpu_seconds / self.calls * 1e6


class Bench:
    """Runs programs against one server. `cache` holds the peers' environments."""

    def __init__(self, url: str, cache: Path, folder: Path) -> None:
        self.url, self.cache, self.folder = url, cache, folder

    def run_own(
        self, program: str, rows: int, concurrency: int = CONCURRENCY, *options: str
    ) -> Measured:
        """Run a program in this environment."""
        paths = [str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        return self._run(sys.executable, program, rows, concurrency, options, env)

    def run_peer(self, peer: Peer, rows: int) -> Measured:
        """Run a peer in its own environment."""
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        python = self._environment(peer)
        return self._run(str(python), peer.program, rows, CONCURRENCY, (), env)

    def _run(
        self,
        python: str,
        program: str,
        rows: int,
        concurrency: int,
        options: tuple[str, ...],
        env: dict[str, str],
    ) -> Measured:
        before = self.ask_server()["asked"]
        command = [python, str(PROGRAMS / program), self.url, str(self.rows_path(rows))]
        ran = subprocess.run(  # noqa: PLW1510 - its output says more than its status
            [*command, str(concurrency), *options],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise SystemExit(f"{program} failed:\n{ran.stdout[-2000:]}{ran.stderr[-4000:]}")
        told = next(line for line in reversed(ran.stdout.splitlines()) if line.startswith("{"))
        line = json.loads(told)
        asked = self.ask_server()["asked"] - before
        # curator asks once more, to see limits in the headers
        if line["answers"] != rows or not rows <= asked <= rows + 1:
            raise SystemExit(f"{program}: {line['answers']} answers, {asked} calls, {rows} rows")
        return Measured(rows, line["seconds"], line["cpu_seconds"], line)

    def rows_path(self, count: int) -> Path:
        """A file of that many rows; the same count gives the same rows."""
        from server import write_text

        path = self.folder / f"rows-{count}.jsonl"
        if not path.exists():
            draw = random.Random(1)
            with path.open("w") as file:
                for number in range(count):
                    prompt = f"{write_text(draw, PROMPT_CHARS)} ({number})"
                    file.write(json.dumps({"id": f"r{number}", "prompt": prompt}) + "\n")
        return path

    def ask_server(self) -> dict[str, int]:
        """How much the server was asked so far, and how much at once."""
        with urllib.request.urlopen(f"{self.url}/stats") as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def _environment(self, peer: Peer) -> Path:
        home = self.cache / peer.program.removesuffix(".py")
        python = home / "bin" / "python"
        if not (home / "ready").exists():
            print(f"building the environment of {peer.name} in {home}", file=sys.stderr)
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            subprocess.run(["uv", "venv", "-q", "--clear", "-p", version, str(home)], check=True)
            install = ["uv", "pip", "install", "-q", "--python", str(python), *peer.needs]
            subprocess.run(install, check=True)
            (home / "ready").touch()
        return python


@contextmanager
def serving(latency: float) -> Iterator[str]:
    """The server in a process of its own; gives its address."""
    command = [sys.executable, str(PROGRAMS / "server.py"), "--latency", str(latency)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.terminate()
        server.wait()


def compare(bench: Bench, rows: int, rounds: int, peers: list[Peer]) -> list[dict[str, Any]]:
    """The rows of the main table."""
    pairs = [
        (bench.run_own("bare_aiohttp.py", rows), bench.run_own("nexa_run.py", rows))
        for _ in range(rounds)
    ]
    bare, own = zip(*pairs, strict=True)
    table = [describe("bare aiohttp loop", bare), describe("**nexa**, the whole run", own)]
    ratios = sorted(b.rate / a.rate for a, b in pairs)
    table[1]["against bare"] = (
        f"{statistics.median(ratios):.0%} ({ratios[0]:.0%} – {ratios[-1]:.0%})"
    )
    table[1]["CPU against bare"] = (
        f"{statistics.median(b.cpu_us / a.cpu_us for a, b in pairs):.2f}×"
    )
    for peer in peers:
        count = min(rows, peer.most_rows)
        before = bench.run_own("nexa_run.py", count)
        found = bench.run_peer(peer, count)
        after = bench.run_own("nexa_run.py", count)
        line = describe(peer.name, [found])
        ratio = statistics.mean(own.rate / found.rate for own in (before, after))
        line["nexa is faster by"] = f"{ratio:.1f}×"
        table.append(line)
    return table


def measure_litellm(bench: Bench, rows: int, rounds: int) -> dict[str, Any]:
    """nexa through LiteLLM against LiteLLM alone, both of this environment, in turns."""
    through = ("--provider", "litellm/hosted_vllm")
    pairs = [
        (
            bench.run_own("litellm_alone.py", rows),
            bench.run_own("nexa_run.py", rows, CONCURRENCY, *through),
        )
        for _ in range(rounds)
    ]
    alone, ours = zip(*pairs, strict=True)
    return {
        "alone": describe("litellm alone", alone),
        "through nexa": describe("nexa through litellm", ours),
        "ratio": statistics.median(b.rate / a.rate for a, b in pairs),
    }


def describe(name: str, runs: Any) -> dict[str, Any]:
    """One row: medians over the runs of one program."""
    return {
        "what": name,
        "calls": runs[0].calls,
        "rate": statistics.median(one.rate for one in runs),
        "cpu_us": statistics.median(one.cpu_us for one in runs),
        "rss_mb": statistics.median(one.more["rss_mb"] for one in runs),
    }


def measure_speed_up(bench: Bench, rows: int) -> dict[str, Any]:
    """256 calls under way against one after the other: calls per second, and their ratio."""
    one = bench.run_own("nexa_run.py", max(100, rows // 50), 1)
    many = bench.run_own("nexa_run.py", rows)
    alone = one.rate
    return {"sequential": alone, "concurrent": many.rate, "factor": many.rate / alone}


def measure_crowd(cache: Path, folder: Path, rows: int) -> dict[str, Any]:
    """2,000 calls under way at 200 ms: how late the loop is, how long a commit takes."""
    with serving(0.2) as url:
        bench = Bench(url, cache, folder)
        found = bench.run_own("nexa_run.py", rows, 2000, "--watch")
        most = bench.ask_server()["most"]
    return {
        "rate": found.rate,
        "most at once": most,
        **{name: found.more[name] for name in ("lag_p99_ms", "commit_p99_ms")},
    }


def measure_long_run(bench: Bench, rows: int) -> dict[str, Any]:
    """The command line over many rows: memory early and late, a kill near the end, and the way back.

    Resident memory is read from outside, twice a second, when a tenth and when nine tenths of the
    calls are done; then the process is killed, and the time counts from the command that resumes it to
    its first new request.
    """
    from nexa_run import PIPELINE

    folder = bench.folder / "long"
    folder.mkdir()
    (folder / "nexa.toml").touch()
    settings = {"rows": bench.rows_path(rows), "url": bench.url, "concurrency": CONCURRENCY}
    (folder / "p.yaml").write_text(PIPELINE.format(provider="openai-compatible", **settings))
    first = bench.ask_server()["asked"]

    def done() -> int:
        return bench.ask_server()["asked"] - first

    began = time.monotonic()
    run = start_command(folder, "run", "p.yaml", "--run-id", "long", "--json")
    early = watch_until(run, done, rows // 10)
    late = watch_until(run, done, rows * 9 // 10)
    rate = done() / (time.monotonic() - began)
    run.kill()
    run.wait()
    before, again = done(), time.monotonic()
    run = start_command(folder, "resume", "long", "--json")
    watch_until(run, done, before + 1)
    seconds = time.monotonic() - again
    told, _ = run.communicate()
    said = json.loads(told)
    if said["status"] != "done" or said["rows"]["accepted"] != rows:
        raise SystemExit(f"the long run ended as {told}")
    twice = done() - rows
    return {
        "rows": rows,
        "early": early,
        "late": late,
        "rate": rate,
        "seconds": seconds,
        "twice": twice,
    }


def start_command(folder: Path, *words: str) -> subprocess.Popen[str]:
    """nexa's command line in a workspace."""
    paths = [str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "nexa_core", *words]
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def watch_until(run: subprocess.Popen[str], done: Callable[[], int], calls: int) -> float:
    """Wait until so many calls are done; the median of the last readings of resident memory, in MB."""
    page, readings = os.sysconf("SC_PAGE_SIZE") / 2**20, [0.0]
    while done() < calls:
        if run.poll() is not None:
            raise SystemExit(
                f"the run ended before {calls:,} calls were asked: {run.communicate()[0]}"
            )
        readings.append(int(Path(f"/proc/{run.pid}/statm").read_text().split()[1]) * page)
        time.sleep(0.5 if calls - done() > 1_000 else 0.02)
    return statistics.median(readings[-7:])


def render(results: dict[str, Any]) -> str:
    """The page: tables with the setting above each."""
    lines = [
        "# Collecting: speed against a bare loop and against peers",
        "",
        "Written by `just bench collect` (`benchmarks/collect.py`, which says how it measures).",
        f"{results['setting']}",
        "",
        "| | calls | calls/s | CPU per call | against bare | CPU against bare | nexa is faster by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["table"]:
        cells = [
            row["what"],
            f"{row['calls']:,}",
            f"{row['rate']:,.0f}",
            f"{row['cpu_us']:,.0f} µs",
        ]
        names = ("against bare", "CPU against bare", "nexa is faster by")
        lines.append(
            "| " + " | ".join([*cells, *(str(row.get(name, "")) for name in names)]) + " |"
        )
    lines += ["", *render_more(results)]
    return "\n".join(lines) + "\n"


def render_more(results: dict[str, Any]) -> Iterator[str]:
    """One sentence for every other figure that was measured."""
    if (found := results.get("speed_up")) is not None:
        yield (
            f"- One call after the other: {found['sequential']:.1f} calls/s; {CONCURRENCY} under way: "
            f"{found['concurrent']:,.0f} calls/s, {found['factor']:.0f}× as many."
        )
    if (found := results.get("litellm")) is not None:
        alone, ours = found["alone"], found["through nexa"]
        yield (
            f"- Through `nexa_litellm`: {ours['rate']:,.0f} calls/s and {ours['cpu_us']:,.0f} µs per call, "
            f"journal and shards included; litellm alone in the same environment: {alone['rate']:,.0f} "
            f"and {alone['cpu_us']:,.0f} µs ({found['ratio']:.0%})."
        )
    if (found := results.get("crowd")) is not None:
        yield (
            f"- 2,000 under way at 200 ms ({found['most at once']:,} at most at once): "
            f"{found['rate']:,.0f} calls/s; the loop is late by {found['lag_p99_ms']:.0f} ms at the 99th "
            f"percentile, a journal commit takes {found['commit_p99_ms']:.0f} ms."
        )
    if (found := results.get("long")) is not None:
        yield (
            f"- {found['rows']:,} calls by the command line: {found['rate']:,.0f} calls/s; "
            f"{found['early']:.0f} MB resident after a tenth of them, {found['late']:.0f} MB after nine tenths. "
            f"Killed there, `nexa resume` sends its first new request after {found['seconds']:.1f} s; "
            f"{found['twice']} calls were asked twice, of {CONCURRENCY} under way."
        )


def describe_setting(options: argparse.Namespace) -> str:
    """The machine and the run, in one sentence."""
    import aiohttp

    return (
        f"{os.cpu_count()} cores shared with the server, Python {sys.version.split()[0]}, aiohttp "
        f"{aiohttp.__version__}; {LATENCY * 1000:.0f} ms latency, {CONCURRENCY} calls under way, prompts of "
        f"about {PROMPT_CHARS} and replies of about 1,400 characters, {options.rounds} rounds. "
        f"Load average before it began: {os.getloadavg()[0]:.1f} (with more than 0.5 the machine was "
        "not alone, and loop lag and commits say more of its neighbours)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", default=",".join(PEERS), help="names, or none")
    parser.add_argument("--quick", action="store_true", help="3,000 rows, one round, no peers")
    parser.add_argument("--crowd", action="store_true", help="also 2,000 calls under way at 200 ms")
    parser.add_argument(
        "--million",
        type=int,
        nargs="?",
        const=1_000_000,
        metavar="CALLS",
        help="also a run of 1,000,000 calls (or so many): memory, and resume after a kill",
    )
    parser.add_argument("--write", action="store_true", help=f"write {DOC_PATH.relative_to(ROOT)}")
    parser.add_argument("--json", action="store_true")
    default = Path(tempfile.gettempdir()) / "nexa-benchmark-peers"
    parser.add_argument("--cache", type=Path, default=default, help="the peers' environments")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds, options.peers = 3_000, 1, "none"
    names = [] if options.peers == "none" else options.peers.split(",")
    with tempfile.TemporaryDirectory(prefix="nexa-collect-") as name, serving(LATENCY) as url:
        bench = Bench(url, options.cache, Path(name))
        results: dict[str, Any] = {"setting": describe_setting(options)}
        peers = [PEERS[one] for one in names]
        results["table"] = compare(bench, options.rows, options.rounds, peers)
        results["speed_up"] = measure_speed_up(bench, options.rows)
        if "litellm" in names:
            results["litellm"] = measure_litellm(bench, min(options.rows, 1_500), options.rounds)
        if options.crowd:
            results["crowd"] = measure_crowd(options.cache, Path(name), max(20_000, options.rows))
        if options.million:
            results["long"] = measure_long_run(bench, options.million)
    page = render(results)
    print(json.dumps(results, indent=2) if options.json else page)
    if options.write:
        DOC_PATH.write_text(page)


if __name__ == "__main__":
    main()
