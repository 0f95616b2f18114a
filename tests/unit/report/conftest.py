"""Run folders of every stage, written by the store's own writers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nexa_core import gates, reviews
from nexa_core.events import Event, PhaseFinished, PhaseStarted, RunFinished, RunStarted
from nexa_core.gates import Gate, Look, Rule
from nexa_core.records import Evidence, Opinion
from nexa_core.reviews import Review
from nexa_core.stats import compare_pairs
from nexa_core.store.events import EventLog
from nexa_core.store.layout import Run, ShardFolder
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.runs import create_run
from nexa_core.store.shards import commit_shard

PATH = "respond.sampling.temperature"
GATE = Gate(
    "pilot_qc",
    (
        Rule("runaway_rate", "below", 0.05),
        Rule("acceptance_rate", "at_least", 0.5),
        Rule("median_tokens", "below", 40, aggregate="median"),
    ),
)
RECORD = {
    "nexa_version": "0.1.0",
    "pipeline": {"nexa": 1, "name": "demo", "steps": [{"generate": {"id": "respond"}}]},
    "pipeline_hash": "ab" * 32,
    "gate": GATE.as_json(),
    "gate_hash": GATE.hash,
    "seed": 7,
    "command": ["/usr/lib/nexa_core/__main__.py", "run", "demo.yaml", "--set", "name=two words"],
    "source": None,
    "prompts": {
        "respond": {"name": "demo/respond", "version": 1, "body": "Q: {{ q }}", "hash": "cd"}
    },
    "environment": {"git_commit": "f" * 40, "git_dirty": True, "packages": {"pyarrow": "20.0"}},
    "plugins": [{"name": "nexa_checks", "distribution": "nexa-core", "version": "1", "hash": "ef"}],
    "rehearsal": False,
}
Folder = tuple[Run, Path]
"""A run, and the folder of its reviews."""


class Builder:
    """Writes a run stage by stage; `text` is what the model wrote."""

    def __init__(self, root: Path, text: str = "The symbol is Cu.", **record: Any) -> None:
        self.text = text
        self.run = create_run(root / "artifacts", "demo-1", "demo", {**RECORD, **record})
        self.reviews = root / "reviews" / self.run.id
        self.tell(RunStarted(self.run.id, "demo", "ab" * 32, 7), PhaseStarted("pilot"))

    def tell(self, *events: Event) -> None:
        log = EventLog.open(self.run.path)
        for event in events:
            log.append(event)
        log.close()

    def commit(
        self,
        folder: ShardFolder,
        states: Sequence[str],
        cost: int = 0,
        calls: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Commit a shard with a row of each state, `rejected:why` giving the reason."""
        rows = [self._row(n, *state.partition(":")[::2]) for n, state in enumerate(states)]
        asked = pa.Table.from_pylist(list(calls)) if calls else None
        files = commit_shard(folder.create().shards, 0, pa.Table.from_pylist(rows), asked)
        count = {s: sum(r["state"] == s for r in rows) for s in {r["state"] for r in rows}}
        reasons = [r["reason"].partition(": ")[0] for r in rows if r["reason"]]
        entry = ShardEntry(
            folder.unit(0), 0, count, files.files, files.content_hash,
            {reason: reasons.count(reason) for reason in reasons},
            {"asked": 2 * len(rows)}, {"teacher": cost}, source_rows=len(rows),
        )  # fmt: skip
        append_entry(folder.path, entry)

    def _row(self, number: int, state: str, reason: str) -> dict[str, Any]:
        return {
            "instruction": f"Question {number}?", "response": self.text.replace("\ud800", "?"),
            "id": f"row{number}",
            "scores": {"good": 0.9}, "flags": [], "state": state, "reason": reason or None,
        }  # fmt: skip

    def decide(self, k: int, n: int, iteration: int, changes: dict[str, Any], why: str) -> None:
        """The gate looks at k runaways in n rows, and a reviewer proposes `changes`."""
        tallies = {
            "runaway_rate": {"k": k, "n": n},
            "acceptance_rate": {"k": n - 5, "n": n},
            "median_tokens": {"n": n, "histogram": {"20": n}},
        }
        look = Look(GATE.alpha(5), n, 600)
        checks = gates.assess_gate(GATE, tallies, look)
        ruling = gates.decide(checks, iteration, 5, n, 600)
        space = {PATH: {"min": 0.05, "max": 1.0}}
        opinions = [Opinion("policy", why, changes, cites=("runaway_rate",))] if changes else []
        end = gates.conclude(ruling, opinions, Evidence(iteration, 5, checks, {PATH: 1.0}, space))
        review = Review(
            self.run.id, iteration, 5, GATE.as_json(), GATE.hash, look, tallies,
            [c.as_json() for c in checks], ruling.decision, end.decision, end.reason,
            end.extend_rows, end.changes, opinions=[o.as_json() for o in opinions],
        )  # fmt: skip
        reviews.write_review(self.reviews, review)

    def pilot(self) -> None:
        """An iteration that fails, and one that passes after EXTEND."""
        for number, temperature in ((1, 1.0), (2, 0.3)):
            folder = self.run.iteration(number)
            self.commit(
                folder,
                ["accepted", "rejected:runaway", "failed:respond: the server said no"],
                10**8,
            )
            values = {"iteration": number, "parameters": {PATH: temperature}, "rows_planned": 3}
            folder.parameters_path.write_text(json.dumps(values))
        self.decide(19, 150, 1, {PATH: 0.3}, f"too hot: {self.text}")
        self.decide(1, 113, 2, {}, "")
        self.decide(1, 166, 2, {}, "")

    def scale(self) -> None:
        states = ["accepted"] * 6 + ["rejected:length: too short", "surplus"]
        self.commit(self.run.scale, states, 3 * 10**8)

    def train(self) -> None:
        folder = self.run.training("qlora")
        folder.mkdir(parents=True)
        steps = [json.dumps({"step": n, "loss": 3.0 / n}) + "\n" for n in range(1, 30)]
        (folder / "metrics.jsonl").write_text("".join(steps) + '{"step": 29, "eval_loss": 0.2}\n')
        manifest = {"method": "qlora", "loss": 0.1, "steps": 29, "rows": 8, "tokens": 900}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "adapter": "adapter"}))

    def package(self) -> None:
        self.run.dataset.mkdir()
        rows = {"train": 7, "validation": 1, "dropped_eval_matches": 2}
        manifest = {
            "rows": rows,
            "format": "messages",
            "marks": [],
            "command": "nexa package demo-1",
        }
        (self.run.dataset / "manifest.json").write_text(json.dumps(manifest))

    def evaluate(self, few_shot: int = 126) -> None:
        """Of 200 items base has 42 right, tuned 128, and base with examples `few_shot`."""
        self.run.evaluation.mkdir()
        right = {"base": 42, "base-few-shot": few_shot, "tuned": 128}
        compared = [
            {"arm_a": a, "arm_b": b, **asdict(_compare(right[a], right[b]))}
            for a, b in (("base", "tuned"), ("base-few-shot", "tuned"))
        ]
        arms = {a: {"right": n, "n": 200, "accuracy": n / 200} for a, n in right.items()}
        found = {"items": "demo/heldout", "n": 200, "scorer": "contains", "arms": arms}
        text = json.dumps({**found, "comparisons": compared})
        (self.run.evaluation / "comparison.json").write_text(text)

    def finish(self, status: str = "done") -> Folder:
        self.tell(PhaseFinished("pilot", 1.0), RunFinished(status, 0, f"ended: {self.text}"))
        return self.run, self.reviews


def _compare(a: int, b: int) -> Any:
    both = min(a, b) - 2
    return compare_pairs(both, a - both, b - both, 200 - a - b + both)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Builder]:
    """Begins a run in the test's own folder."""
    return lambda **given: Builder(tmp_path, **given)


@pytest.fixture
def whole(build: Callable[..., Builder]) -> Builder:
    """A run with every stage behind it; call `finish` to end it."""
    builder = build()
    for stage in (builder.pilot, builder.scale, builder.package, builder.train, builder.evaluate):
        stage()
    return builder
