"""`kill -9` at random moments and at every named point: nothing lost, nothing twice, the same shards."""

from __future__ import annotations

import random
import time
from pathlib import Path

from nexa_core.testing.chaos import Faults, RemoteControl
from torture.collecting import ROUGH, Job, Shape, serving
from torture.finding import Finding
from torture.oracle import Autopsy, Balance, weigh

POINTS = (
    *("journal-write", "journal-after-intent", "journal-after-reply", "journal-sync"),
    *("shard-write", "shard-after-temporary", "shard-before-rename", "shard-after-rename"),
    *("shard-after-dirsync", "manifest-before-append", "manifest-after-append"),
)
LONGEST_LIFE = 2.5
"""Seconds that a process lives at most after its first request, before it is killed."""


def undisturbed(folder: Path, shape: Shape) -> Balance:
    """The same run against a server without faults, by a process that nobody kills."""
    with serving(folder, latency=0.02) as server:
        job = Job.make(folder / "whole", server.url, shape)
        assert job.finish() == 0, job.output
        return weigh(job.run_path, server.log, shape.rows)


def kill_at_random(folder: Path, kills: int, shape: Shape) -> Finding:
    """Kill a run `kills` times; where it is through before, begin another."""
    whole = undisturbed(folder, shape)
    chance, done, runs = random.Random(1), 0, 0
    problems: list[str] = []
    under_way: list[int] = []
    asked_again = requests = 0
    while done < kills:
        autopsy = Autopsy()
        with serving(folder / f"run{runs}", seed=runs) as server:
            job = Job.make(folder / f"run{runs}" / "work", server.url, shape)
            done += _kill_until_done(job, server, chance, kills - done, autopsy, shape)
            server.change(faults="none")
            code = job.finish()
            autopsy.examine(job.run_path)
            found = weigh(job.run_path, server.log, shape.rows)
        under_way += autopsy.in_flight[:-1]
        asked_again, requests = asked_again + found.asked_again, requests + found.requests
        problems += compare(found, whole, autopsy, code, job)
        runs += 1
    most = max(under_way)
    measured = (
        f"{done} kills in {runs} runs of {shape.rows:,} rows, {sum(under_way) // len(under_way)} calls under "
        f"way on average, {most} at most: {asked_again} asked again of {sum(under_way)} in flight, "
        f"{'; '.join(problems) or '0 lost, 0 twice, shards equal, every billed dollar known'}"
    )
    asked = (
        f"{kills} random kill -9 at concurrency {shape.concurrency} over {shape.rows:,} rows with faults on: "
        "0 lost, 0 twice, asked again ≤ in flight at each kill, shards equal to an undisturbed run's"
    )
    details = {"in_flight": under_way, "asked_again": asked_again, "requests": requests}
    return Finding("random kills", asked, measured, not problems, details)


def _kill_until_done(
    job: Job,
    server: RemoteControl,
    chance: random.Random,
    most: int,
    autopsy: Autopsy,
    shape: Shape,
) -> int:
    """Kill it at random moments until it is nearly through, or `most` times."""
    done = 0
    while done < most:
        server.change(faults="none")
        before = server.stats.requests
        process = job.start()
        life = chance.uniform(0, LONGEST_LIFE)
        _await_requests(process, server, before, life, shape.concurrency)
        process.kill()
        process.join()
        if process.exitcode != -9:
            break
        done += 1
        autopsy.examine(job.run_path)
    return done


def _await_requests(
    process: object, server: RemoteControl, before: int, life: float, concurrency: int
) -> None:
    """Let it live: to its first requests, to many at once, then with faults until its time is over.

    Without faults concurrency grows quickly, so that they meet a run that has much under way.
    """
    rough = False
    born = time.monotonic()
    end = born + 15 if life > 0.2 else born + 5 * life
    while time.monotonic() < end and process.exitcode is None:  # type: ignore[attr-defined]
        stats = server.stats
        if stats.requests > before and end > born + 14.9:
            end = time.monotonic() + life
        if not rough and stats.in_flight >= 0.7 * concurrency:
            server.change(faults=rates(ROUGH))
            rough = True
        time.sleep(0.02)


def kill_at_points(folder: Path, rounds: int) -> Finding:
    """Kill runs at every named point, one after the other, each `rounds` times at a random pass."""
    shape, chance = Shape(rows=600, shard_rows=100, concurrency=64), random.Random(2)
    whole = undisturbed(folder, shape)
    problems: list[str] = []
    killed = 0
    for number in range(rounds):
        autopsy = Autopsy()
        with serving(folder / f"round{number}", seed=number, latency=0.01) as server:
            server.change(faults=rates(ROUGH))
            job = Job.make(folder / f"round{number}" / "work", server.url, shape)
            for point in chance.sample(POINTS, len(POINTS)):
                passes = chance.randint(1, 90) if point.startswith("journal-a") else 1
                code = job.finish(f"{point}:{passes}")
                killed += code == -9
                problems += [] if code == -9 else [f"{point} did not kill ({code})"]
                autopsy.examine(job.run_path)
            code = job.finish()
            autopsy.examine(job.run_path)
            problems += compare(
                weigh(job.run_path, server.log, shape.rows), whole, autopsy, code, job
            )
    measured = f"{killed} kills at {len(POINTS)} points: " + (
        "; ".join(problems) or "0 lost, 0 twice, asked again ≤ in flight, shards equal"
    )
    asked = f"every named point × {rounds}: 0 lost, 0 twice, shards equal to an undisturbed run's"
    return Finding("kills at named points", asked, measured, not problems)


def rates(faults: Faults) -> dict[str, float]:
    """As the server's control takes them."""
    return {name: getattr(faults, name) for name in faults.__slots__}


def compare(
    found: Balance, whole: Balance, autopsy: Autopsy, code: int | None, job: Job
) -> list[str]:
    """What is wrong with a run after all its kills."""
    checks = {
        f"exit code {code}: {job.output[-300:]}": code == 0,
        f"{found.lost} rows lost": found.lost == 0,
        f"{found.twice} rows twice": found.twice == 0,
        f"{autopsy.lost} journaled replies lost": autopsy.lost == 0,
        f"{found.asked_again} asked again > {sum(autopsy.in_flight)} in flight": (
            found.asked_again <= sum(autopsy.in_flight)
        ),
        "shards differ": found.hashes == whole.hashes,
        f"billed {found.billed_nano}, settled {found.settled_nano}, at risk {found.at_risk_nano}": (
            found.money_is_whole
        ),
    }
    return [problem for problem, fine in checks.items() if not fine]
