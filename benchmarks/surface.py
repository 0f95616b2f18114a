"""Measures the response surface of the tiny model, on which GateBench plays campaigns.

    python benchmarks/surface.py [--rows 320] [--seed 0] [--out benchmarks/gating/surface.json]

Every grid point is `pipelines/bootstrap.yaml` with other sampling of its `respond` step, taken through
the engine's own steps, checks and metrics. The instructions and their critic are the same at every point
and asked once. A row is kept as a pattern, one character per rule of pilot_qc: 0 as it should be, 1 failing,
- outside the rule's population. A quarter of an hour on two shared cores for 80 points of 320 rows; points
that the file holds already are kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from gating.surface import FAILING, GOOD, OUTSIDE, SURFACE

from nexa_core.engine.batch import Batch
from nexa_core.engine.binding import bind
from nexa_core.engine.calls import Calls
from nexa_core.engine.loop import run_async
from nexa_core.engine.plan import Plan
from nexa_core.engine.shard import ShardOrder, finish_table, run_steps
from nexa_core.engine.sources import SourceRow, invent_rows
from nexa_core.gates import Rule
from nexa_core.pipeline import load_pipeline
from nexa_core.plugins import load_plugins
from nexa_core.workspace import find_workspace

ROOT = Path(__file__).parents[1]
AXES = {
    "respond.sampling.temperature": (0.05, 0.25, 0.5, 0.75, 1.0),
    "respond.sampling.top_p": (0.5, 0.75, 0.9, 1.0),
    "respond.sampling.repetition_penalty": (1.0, 1.15, 1.3, 1.5),
}
SHARED_STEPS = ("propose", "clear")
"""The steps before `respond`: the same at every point, so that their replies are taken again."""


def bind_bootstrap(seed: int) -> Plan:
    """The shipped pipeline, bound to everything installed."""
    workspace = find_workspace(ROOT)
    pipeline = load_pipeline(workspace.find_pipeline("bootstrap"), [f"seed={seed}"])
    return bind(pipeline, workspace, load_plugins(workspace))[0]


def generate(
    plan: Plan, rows: list[SourceRow], known: Mapping[str, Any]
) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of one grid point, and the replies of the steps that all points share."""
    order, calls = ShardOrder("surface", "iterations/01", 0, rows), Calls(reused=known)

    async def work() -> Batch:
        async with calls.dispatch:
            return await run_steps(plan, order, calls)

    table = finish_table(plan, order, run_async(work()))
    shared = (call for call in calls.records if call["step"] in SHARED_STEPS and call["reply"])
    return table, {call["call_id"]: {"reply": json.loads(call["reply"])} for call in shared}


def read_patterns(plan: Plan, table: pa.Table) -> Counter[str]:
    """How many rows show each pattern over the rules of the gate that rows are tested by."""
    metrics = {named.key: named.metric for named in plan.metrics}
    columns = [_mark(rule, metrics[rule.key].outcomes(table)) for rule in tested_rules(plan)]
    return Counter(map("".join, zip(*columns, strict=True)))


def tested_rules(plan: Plan) -> list[Rule]:
    """The hard rules but `failed_rate`: a local model's calls do not fail."""
    assert plan.gate is not None
    return [rule for rule in plan.gate.hard if rule.metric != "failed_rate"]


def _mark(rule: Rule, outcomes: pa.Array) -> list[str]:
    if rule.aggregate == "median":
        outcomes = pc.less(outcomes, rule.threshold)
    good = rule.counts_good
    names = {None: OUTSIDE, good: GOOD, not good: FAILING}
    return [names[outcome] for outcome in outcomes.to_pylist()]


def measure(rows: int, seed: int, out: Path) -> None:
    """Measure every point that is not in the file yet; it is written anew after each."""
    plan = bind_bootstrap(seed)
    found = describe(plan, rows, seed)
    if out.exists():
        earlier = json.loads(out.read_text("utf-8"))
        if {**earlier, "points": []} == json.loads(json.dumps(found)):
            found["points"] = earlier["points"]
    source, known, begin = invent_rows(seed, "surface", 0, rows), {}, time.perf_counter()
    for values in list(_grid())[len(found["points"]) :]:
        table, replies = generate(plan.with_values(values), source, known)
        known |= replies
        told = pc.count_distinct(table["response"].drop_null()).as_py()
        rows_ = dict(sorted(read_patterns(plan, table).items()))
        point = {"at": list(values.values()), "rows": rows_, "distinct_responses": told}
        found["points"].append(point)
        out.write_text(render(found), "utf-8")
        print(f"{time.perf_counter() - begin:6.0f} s {point}", file=sys.stderr, flush=True)


def describe(plan: Plan, rows: int, seed: int) -> dict[str, Any]:
    """What the file says before its points."""
    model = plan.line(plan.pipeline.models["base"]).model
    return {
        "made_by": f"python benchmarks/surface.py --rows {rows} --seed {seed}",
        "pipeline": "pipelines/bootstrap.yaml",
        "model": {"name": model.name, "revision": model.revision},
        "rows": rows,
        "seed": seed,
        "rules": [rule.key for rule in tested_rules(plan)],
        "axes": AXES,
        "points": [],
    }


def _grid() -> Iterable[dict[str, float]]:
    return (dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values()))


def render(found: Mapping[str, Any]) -> str:
    """JSON with a line per grid point."""
    head = {key: value for key, value in found.items() if key != "points"}
    lines = ",\n  ".join(json.dumps(point) for point in found["points"])
    return json.dumps(head, indent=1)[:-2] + f',\n "points": [\n  {lines}\n ]\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=SURFACE)
    given = parser.parse_args()
    measure(given.rows, given.seed, given.out)


if __name__ == "__main__":
    main()
