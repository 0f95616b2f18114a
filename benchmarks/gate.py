"""GateBench: how often a gate lets a bad pilot through, and how many rows a good one takes.

    python benchmarks/gate.py [--campaigns 10000] [--seed 0] [--workers 2] [--only PART …] [--json] [--write]

Parts: `nulls` (one rule at its limit, nexa's gate and those of other tools), `rows` (against the SPRT
that knows the true rate), `search` (on the tiny model's response surface, by gate and reviewer) and
`drift` (scale runs after a pilot that passed). `--write` writes docs/gatebench.md. Exit code 1 where
something that was asked is not reached.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gating.drifting import measure_drift
from gating.nulls import measure_nulls, measure_rows
from gating.others import measure_others
from gating.page import list_goals, render
from gating.searching import STARTS, measure_search

PAGE = Path(__file__).parents[1] / "docs" / "gatebench.md"
PARTS = ("nulls", "rows", "search", "drift")
DRIFT_PART = 10
"""Scale runs are played for every tenth campaign: twenty looks each, and errors far from 5 %."""


def measure(
    campaigns: int, seed: int = 0, only: Sequence[str] = PARTS, workers: int = 1
) -> dict[str, Any]:
    """Everything this benchmark measures; equal seeds give equal figures, whatever the workers."""
    begin = time.perf_counter()
    found: dict[str, Any] = {"campaigns": campaigns, "seed": seed}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:

        def submit(work: Callable[..., Any], count: int = campaigns, *more: Any) -> Future[Any]:
            return pool.submit(work, count, seed, *more)

        search = {s: submit(measure_search, campaigns, s) for s in STARTS if "search" in only}
        rows = submit(measure_rows) if "rows" in only else None
        nulls = (submit(measure_nulls), submit(measure_others)) if "nulls" in only else None
        few = max(campaigns // DRIFT_PART, 1)
        drift = submit(measure_drift, few) if "drift" in only else None
        if nulls:
            found |= {"nulls": nulls[0].result(), "others": nulls[1].result()}
        if rows:
            found["rows"] = rows.result()
        if search:
            found["search"] = {start: future.result() for start, future in search.items()}
        if drift:
            found["drift"] = drift.result()
    return found | {"seconds": round(time.perf_counter() - begin, 1)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--campaigns", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help="write docs/gatebench.md")
    given = parser.parse_args(arguments)
    found = measure(given.campaigns, given.seed, given.only, given.workers)
    print(json.dumps(found, indent=1) if given.json else render(found))
    if given.write:
        PAGE.write_text(render(found), "utf-8")
    return 0 if all(holds for *_, holds in list_goals(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
