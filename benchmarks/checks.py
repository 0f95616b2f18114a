"""How fast checks and metrics are beside bare pyarrow, and how little memory a stream of shards takes.

    python benchmarks/checks.py [--rows 1000000] [--shard-rows 1000] [--rounds 10] [--json]

Bare pyarrow evaluates the same predicates on the same columns, one kernel each, and throws the
masks away: no scores, reasons, populations, types or missing columns. It runs twice: `best` with
the kernels that the checks chose, `plain` as one would first write it (one substring search per
delimiter). Shards alternate between the sides and seconds are CPU seconds of this
process, so that all sides see the same machine; a round is the sum over its shards, and ratios
are medians over rounds. Memory is the growth of peak RSS between
the first tenth of the rows and all of them, in a process of its own that also folds duplicates.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_checks import register_checks, register_metrics
from nexa_checks.refusals import OPENINGS

DELIMITERS = ("\nInput:", "\nOutput:", "\nInstruction:")
ALTERNATIVES = "|".join(DELIMITERS)
REFUSAL = rf"(?i)\A[\s\pZ\"'“‘>*_#-]*(?:{'|'.join(OPENINGS)})"
FACTS: dict[str, Any] = {
    "field": "response",
    "raw_field": "response_raw_text",
    "finish_field": "response_finish_reason",
    "delimiters": DELIMITERS,
}
CHECKS = ("runaway", "delimiter_leakage", "empty", "refusal", "length")
MORE = ("formatting", "json", "action_verbs", "no_citations", "pii", "secrets", "language")
OWN: dict[str, dict[str, Any]] = {"language": {"languages": ["en"]}}
METRICS = ("runaway_rate", "delimiter_leakage", "empty_rate", "refusal_rate", "token_limit_rate")
Work = Callable[[pa.Table], object]


def write_texts(count: int, seed: int) -> list[str]:
    """Texts of about 500 characters in lines: one in ten runs away, a few are empty or refuse."""
    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(3000)]

    def write() -> str:
        kind = draw.random()
        if kind < 0.01:
            return "" if kind < 0.005 else "I'm sorry, but I can't help with that."
        said = draw.choices(words, k=draw.randint(20, 115))
        said[12::14] = [f"{word}.\n" for word in said[12::14]]
        more = f"{draw.choice(DELIMITERS)} {' '.join(said[:5])}" if kind > 0.9 else ""
        return " ".join(said) + more

    return [write() for _ in range(count)]


def stream_shards(rows: int, shard_rows: int, seed: int = 0) -> Iterator[pa.Table]:
    """Row tables with distinct texts, made as they are asked for."""
    pool = pa.array(write_texts(20_000, seed))
    draw = random.Random(seed + 1)
    for first in range(0, rows, shard_rows):
        size = min(shard_rows, rows - first)
        picked = pool.take(pa.array(draw.choices(range(len(pool)), k=size)))
        number = pa.array([f" {row}" for row in range(first, first + size)])
        raw = pc.if_else(
            pc.equal(picked, ""), picked, pc.binary_join_element_wise(picked, number, "")
        )
        text = pc.replace_substring_regex(raw, f"(?s)(?:{ALTERNATIVES}).*", "")
        yield pa.table(
            {
                "response": text,
                "response_raw_text": raw,
                "response_finish_reason": pa.repeat("stop", size),
                "sample": pa.repeat(pa.scalar(0, pa.int32()), size),
                "state": pa.repeat("accepted", size),
            }
        )


def build(specs: Any, name: str, **more: Any) -> Any:
    """A check or metric with the options that a pipeline would fill in."""
    spec = next(spec for spec in specs if spec.name == name)
    model = spec.options()
    known = {key: value for key, value in FACTS.items() if key in model.model_fields}
    return spec.build(model.model_validate({**known, **more}))


def make_sides() -> dict[str, tuple[Work, Work, Work]]:
    """For checks and for metrics: ours, bare with the best kernels, bare as first written."""
    bounds = {"length": {"min_chars": 120, "max_chars": 2000}}
    checks = [build(register_checks(), name, **bounds.get(name, {})) for name in CHECKS]
    metrics = [build(register_metrics(), name) for name in METRICS]
    return {
        "checks": (
            lambda table: [check.score(table) for check in checks],
            lambda table: (*match_best(table), bound_length(table)),
            lambda table: (*match_plainly(table), bound_length(table)),
        ),
        "metrics": (
            lambda table: [metric.outcomes(table) for metric in metrics],
            lambda table: (*match_best(table), pc.equal(table["response_finish_reason"], "length")),
            lambda table: (
                *match_plainly(table),
                pc.equal(table["response_finish_reason"], "length"),
            ),
        ),
    }


def match_best(table: pa.Table) -> tuple[Any, ...]:
    """Runaway, leakage, empty, refusal, with the fastest kernel known for each."""
    text, raw = table["response"], table["response_raw_text"]
    return (
        pc.match_substring_regex(raw, ALTERNATIVES),
        pc.match_substring_regex(text, ALTERNATIVES),
        pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text)),
        pc.match_substring_regex(text, REFUSAL),
    )


def match_plainly(table: pa.Table) -> tuple[Any, ...]:
    """The same with one substring search per delimiter and a trimmed copy of every text."""
    text, raw = table["response"], table["response_raw_text"]
    return (
        match_each(raw),
        match_each(text),
        pc.equal(pc.utf8_trim_whitespace(text), ""),
        pc.match_substring_regex(text, REFUSAL),
    )


def match_each(text: pa.ChunkedArray) -> Any:
    found = pc.match_substring(text, DELIMITERS[0])
    for delimiter in DELIMITERS[1:]:
        found = pc.or_(found, pc.match_substring(text, delimiter))
    return found


def bound_length(table: pa.Table) -> Any:
    length = pc.utf8_length(table["response"])
    return pc.or_(pc.less(length, 120), pc.greater(length, 2000))


def time_round(shards: list[pa.Table], works: tuple[Work, ...]) -> list[float]:
    """Seconds of each side over all shards; sides take turns, shard by shard, in turning order."""
    seconds = [0.0] * len(works)
    for turn, table in enumerate(shards):
        for place in range(len(works)):
            side = (place + turn) % len(works)
            start = time.process_time()
            works[side](table)
            seconds[side] += time.process_time() - start
    return seconds


def measure_speed(rows: int, shard_rows: int, rounds: int) -> dict[str, Any]:
    """Rows per second of each side, and the median ratio of ours to bare, for checks and metrics."""
    sides, per_round = make_sides(), max(1, rows // shard_rows // rounds)
    shards, taken = stream_shards(rows, shard_rows), []
    for _ in range(rounds):
        batch = [table for _, table in zip(range(per_round), shards, strict=False)]
        size = sum(len(table) for table in batch)
        taken.append({name: (size, time_round(batch, works)) for name, works in sides.items()})
    both = [
        (r["checks"][0], [a + b for a, b in zip(r["checks"][1], r["metrics"][1], strict=True)])
        for r in taken
    ]
    return {
        **{name: summarise([r[name] for r in taken]) for name in sides},
        "both": summarise(both),
    }


def summarise(rounds: list[tuple[int, list[float]]]) -> dict[str, float]:
    """Medians over rounds; a ratio above 1 is faster than bare pyarrow."""
    speeds = [[size / seconds for seconds in side] for size, side in rounds]
    ours, best, plain = (round(statistics.median(column)) for column in zip(*speeds, strict=True))
    return {
        "rows_per_s": ours,
        "best_rows_per_s": best,
        "plain_rows_per_s": plain,
        "ratio_to_best": round(statistics.median(o / b for o, b, _ in speeds), 3),
        "ratio_to_plain": round(statistics.median(o / p for o, _, p in speeds), 3),
    }


def measure_others(shard_rows: int, shards: int = 10) -> dict[str, int]:
    """Rows per second of what has no bare counterpart: words, repetition, duplicates."""
    tables = list(stream_shards(shards * shard_rows, shard_rows, seed=7))
    words = build(register_checks(), "length", min_tokens=20)
    repetition = build(register_checks(), "repetition")
    duplicates = build(register_checks(), "exact_duplicates")
    state = duplicates.start()

    def fold(table: pa.Table) -> None:
        nonlocal state
        state, _ = duplicates.fold(state, table)

    more = {name: build(register_checks(), name, **OWN.get(name, {})) for name in MORE}
    works = {
        "length in words": words.score,
        "repetition": repetition.score,
        "exact_duplicates": fold,
        **{name: check.score for name, check in more.items()},
    }
    seconds = time_round(tables, tuple(works.values()))
    return {
        name: round(shards * shard_rows / taken) for name, taken in zip(works, seconds, strict=True)
    }


def measure_sets(shard_rows: int, shards: int = 30) -> dict[str, int]:
    """Rows per second of near duplicates beside datasketch and rensa as one would call them, and of
    decontamination against 1,000 items; CPU seconds, sides by turns, on the same shards."""
    tables = list(stream_shards(shards * shard_rows, shard_rows, seed=9))
    near = build(register_checks(), "near_duplicates", threshold=0.8)
    items = [text for text in write_texts(1_100, seed=11) if len(text) > 60][:1_000]
    clean = build(register_checks(), "decontamination", evaluation_items=items)
    state = near.start()

    def fold(table: pa.Table) -> None:
        nonlocal state
        state, _ = near.fold(state, table)

    works: dict[str, Work] = {
        "near_duplicates": fold,
        "rensa": call_rensa(near.bands, near.rows),
        "decontamination": clean.score,
    }
    seconds = time_round(tables, tuple(works.values()))
    speeds = {
        name: round(shards * shard_rows / taken) for name, taken in zip(works, seconds, strict=True)
    }
    few = tables[: max(1, shards // 10)]
    (taken,) = time_round(few, (call_datasketch(near.bands, near.rows),))
    return {**speeds, "datasketch": round(len(few) * shard_rows / taken)}


def shingle(text: str, size: int = 5) -> list[str]:
    """Sequences of words as one would first write them."""
    words = text.lower().split()
    return [" ".join(words[at : at + size]) for at in range(max(1, len(words) - size + 1))]


def call_datasketch(bands: int, rows: int) -> Work:
    """MinHash and MinHashLSH of datasketch, a row at a time."""
    from datasketch import MinHash, MinHashLSH

    index, number = MinHashLSH(num_perm=bands * rows, params=(bands, rows)), iter(range(1 << 40))

    def work(table: pa.Table) -> None:
        for text in table["response"].to_pylist():
            hashed = MinHash(num_perm=bands * rows)
            hashed.update_batch([part.encode() for part in shingle(text)])
            if not index.query(hashed):
                index.insert(next(number), hashed, check_duplication=False)

    return work


def call_rensa(bands: int, rows: int) -> Work:
    """RMinHash and RMinHashLSH of rensa, a row at a time."""
    from rensa import RMinHash, RMinHashLSH

    index, number = (
        RMinHashLSH(threshold=0.8, num_perm=bands * rows, num_bands=bands),
        iter(range(1 << 40)),
    )

    def work(table: pa.Table) -> None:
        for text in table["response"].to_pylist():
            hashed = RMinHash(num_perm=bands * rows, seed=1)
            hashed.update(shingle(text))
            if not index.query(hashed):
                index.insert(next(number), hashed)

    return work


def measure_near_memory(rows: int, shard_rows: int) -> dict[str, float]:
    """Bytes that near duplicates remember per row, and peak RSS after a tenth and after all rows."""
    near = build(register_checks(), "near_duplicates", threshold=0.8)
    state, peaks, done = near.start(), [], 0
    begun = time.process_time()
    for texts in stream_distinct(rows, shard_rows):
        state, _ = near.fold(state, pa.table({"response": texts}))
        done += len(texts)
        if done in (rows // 10, rows):
            peaks.append(read_peak())
    held = sum(run.nbytes for seen in state.seen for run in seen.runs)
    return {
        "rows": rows,
        "tenth_mb": round(peaks[0], 1),
        "all_mb": round(peaks[-1], 1),
        "state_bytes_per_row": round(held / rows, 1),
        "rows_per_s": round(rows / (time.process_time() - begun)),
    }


def stream_distinct(rows: int, shard_rows: int) -> Iterator[pa.Array]:
    """Shards of texts of 40 words, each unlike every other: nothing may be forgotten."""
    import numpy as np

    draw = np.random.default_rng(3)
    words = pa.array([f"w{n}" for n in range(50_000)])
    for first in range(0, rows, shard_rows):
        size = min(shard_rows, rows - first)
        picked = words.take(pa.array(draw.integers(0, len(words), size * 40)))
        lists = pa.ListArray.from_arrays(
            pa.array(np.arange(0, size * 40 + 1, 40, dtype=np.int32)), picked
        )
        yield pc.binary_join(lists, " ")


def measure_memory(rows: int, shard_rows: int) -> dict[str, float]:
    """Peak RSS in MB after a tenth of the rows and after all, with duplicates folded as well."""
    sides = make_sides()
    duplicates = build(register_checks(), "exact_duplicates")
    state, peaks, done = duplicates.start(), [], 0
    for table in stream_shards(rows, shard_rows):
        for ours, _, _ in sides.values():
            ours(table)
        state, _ = duplicates.fold(state, table)
        done += len(table)
        if done in (rows // 10, rows):
            peaks.append(read_peak())
    return {
        "tenth_mb": round(peaks[0], 1),
        "all_mb": round(peaks[-1], 1),
        "growth_mb": round(peaks[-1] - peaks[0], 1),
    }


def read_peak() -> float:
    """Peak RSS of this process in MB.

    From /proc, since `ru_maxrss` starts at the peak of the process that forked this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--near-memory-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--sets-only", action="store_true", help="near duplicates and decontamination"
    )
    asked = parser.parse_args()
    if asked.sets_only:
        print(json.dumps(measure_sets(asked.shard_rows)))
        return
    if asked.near_memory_only:
        print(json.dumps(measure_near_memory(asked.rows, asked.shard_rows)))
        return
    if asked.memory_only:
        print(json.dumps(measure_memory(asked.rows, asked.shard_rows)))
        return
    alone = [
        sys.executable,
        __file__,
        "--memory-only",
        f"--rows={asked.rows}",
        f"--shard-rows={asked.shard_rows}",
    ]
    found = {
        "rows": asked.rows,
        "shard_rows": asked.shard_rows,
        **measure_speed(asked.rows, asked.shard_rows, asked.rounds),
        "others_rows_per_s": measure_others(asked.shard_rows),
        "sets_rows_per_s": measure_sets(asked.shard_rows),
        "memory": run_alone(alone),
        "near_memory": run_alone([*alone[:2], "--near-memory-only", *alone[3:]]),
    }
    print(json.dumps(found) if asked.json else describe(found))


def run_alone(command: list[str]) -> dict[str, Any]:
    """The measurement of a process of its own."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def describe(found: dict[str, Any]) -> str:
    """The same as a few lines to read."""
    lines = [f"{found['rows']:,} rows in shards of {found['shard_rows']:,}"]
    for name in ("checks", "metrics", "both"):
        side = found[name]
        lines.append(
            f"{name:8} {side['rows_per_s']:>9,} rows/s   bare, best kernels {side['best_rows_per_s']:>9,}"
            f" (ratio {side['ratio_to_best']:.2f})   bare, as first written"
            f" {side['plain_rows_per_s']:>8,} (ratio {side['ratio_to_plain']:.2f})"
        )
    others = ", ".join(f"{name} {speed:,}" for name, speed in found["others_rows_per_s"].items())
    sets = ", ".join(f"{name} {speed:,}" for name, speed in found["sets_rows_per_s"].items())
    memory, near = found["memory"], found["near_memory"]
    lines.append(f"others   {others} rows/s")
    lines.append(f"sets     {sets} rows/s")
    lines.append(
        f"near duplicates of {near['rows']:,} distinct rows: {near['tenth_mb']} MB after a tenth,"
        f" {near['all_mb']} MB after all, {near['state_bytes_per_row']} bytes a row"
    )
    lines.append(
        f"memory   {memory['tenth_mb']} MB after a tenth, {memory['all_mb']} MB after all:"
        f" growth {memory['growth_mb']} MB"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
