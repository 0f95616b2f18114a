"""A workspace with one run that waits for a person, as the engine leaves it; and a way to look at screens."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core import gates
from nexa_core.events import (
    Event,
    GateDecided,
    IterationStarted,
    ParametersChanged,
    PhaseFinished,
    PhaseStarted,
    RowsSampled,
    RunFinished,
    RunStarted,
    ShardCommitted,
    WarningRaised,
)
from nexa_core.gates import Gate, Look, ReviewerUse, Rule
from nexa_core.records import Evidence, Opinion
from nexa_core.reviews import Review, write_review
from nexa_core.store.manifest import ShardEntry, append_entry
from nexa_core.store.runs import Run, create_run
from nexa_core.tui.app import NexaApp
from nexa_core.workspace import Workspace, find_workspace

RUN = "demo-1"
TEMPERATURE = "respond.sampling.temperature"
SPACE = {TEMPERATURE: {"min": 0.05, "max": 1.0}}
GATE = Gate(
    "pilot_qc",
    (
        Rule("runaway_rate", "below", 0.05, population="every row"),
        Rule("acceptance_rate", "at_least", 0.5),
        Rule("median_tokens", "below", 40, aggregate="median"),
    ),
    reviewers=(ReviewerUse("policy"), ReviewerUse("human")),
)
PIPELINE = {
    "nexa": 1,
    "name": "demo",
    "models": {"base": {"model": "local/nexa-tiny"}},
    "steps": [
        {"generate": {"id": "propose", "model": "base", "into": "instruction"}},
        {"generate": {"id": "respond", "model": "base", "into": "response"}},
        {"judge": {"id": "factual", "model": "base"}},
    ],
    "pilot": {"rows": "auto", "max_iterations": 5},
    "search_space": SPACE,
    "scale": {"accepted": 1500},
    "package": {},
    "budget": {"usd": 2.0},
}
TEXTS = {
    "instruction": "State the symbol of iron.",
    "response": "Iron has the symbol Fe.",
    "said": "It names the symbol, and the symbol is right.",
    "opinion": "Runaways come from hot sampling.",
    "warning": "1 of 200 rows is a duplicate.",
    "reason": "runaway",
}
"""Everything that a model, a reviewer or a file may have said."""
HOSTILE = (
    "[/] [@click=app.quit]x[/] \x1b]52;c;cm0gLXJm\x07\x1b]8;;http://evil\x1b\\link\x1b[2J\x9b31m\x85"
    "[bold]b[/] \u202etxt.exe \u200b\u2066"
)


def log_events(run: Run, *events: tuple[float, Event]) -> None:
    """Append events, each with the second at which it came."""
    path = run.events_path
    at = path.read_bytes().count(b"\n") if path.exists() else 0
    lines = [
        json.dumps({**event.as_json(), "at": f"2026-01-02T03:05:{s:06.3f}+00:00", "seq": n})
        for n, (s, event) in enumerate(events, at + 1)
    ]
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


class Story:
    """Writes a run: two iterations of `rows` rows each, the second passed and waiting for a person."""

    def __init__(self, root: Path, texts: Mapping[str, str], rows: int = 200) -> None:
        self.texts, self.rows = texts, rows
        record = {
            "pipeline": PIPELINE,
            "pipeline_hash": "ab" * 32,
            "seed": 0,
            "gate": GATE.as_json(),
            "phases": ["pilot", "scale", "package"],
        }
        self.run = create_run(root / "artifacts", RUN, "demo", record)
        kept = {**self.run.record, "created_at": "2026-01-02T03:04:05.000000+00:00"}
        self.run.record_path.write_text(json.dumps(kept))
        self.run = Run(self.run.path)
        self.reviews = root / "reviews" / RUN

    def write(self) -> Run:
        """Everything, in the order in which it happens."""
        first, second = self._decide(1, runaways=19), self._decide(2, runaways=0)
        self._commit(1, runaways=19)
        self._commit(2, runaways=0)
        changes = dict(first.changes)
        log_events(
            self.run,
            (0.0, RunStarted(RUN, "demo", "ab" * 32, 0)),
            (0.1, PhaseStarted("pilot")),
            (0.2, IterationStarted(1, {TEMPERATURE: 1.0}, self.rows)),
            (1.0, WarningRaised(self.texts["warning"])),
            (2.0, RowsSampled("iterations/01/00000", [self._sample("rejected")])),
            (4.0, self._committed(1, 19)),
            (4.1, GateDecided(1, "ITERATE", first.checks, first.hash, first.reason)),
            (4.2, ParametersChanged(1, changes, first.patch_reason)),
            (4.3, IterationStarted(2, {TEMPERATURE: 0.3}, self.rows)),
            (6.0, RowsSampled("iterations/02/00000", [self._sample("accepted")])),
            (8.0, self._committed(2, 0)),
            (
                8.1,
                GateDecided(2, "PROCEED", second.checks, second.hash, second.reason, waiting=True),
            ),
            (8.2, PhaseFinished("pilot", 8.1)),
            (8.3, RunFinished("waiting", 10, second.reason)),
        )
        return self.run

    def _tallies(self, runaways: int) -> dict[str, dict[str, Any]]:
        n = self.rows
        return {
            "runaway_rate": {"n": n, "k": runaways},
            "acceptance_rate": {"n": n, "k": n - runaways},
            "median_tokens": {"n": n, "histogram": {"12": n - runaways, "80": runaways}},
        }

    def _decide(self, iteration: int, runaways: int) -> Review:
        tallies, look = self._tallies(runaways), Look(GATE.alpha(5), self.rows, 600)
        checks = gates.assess_gate(GATE, tallies, look)
        ruling = gates.decide(checks, iteration, 5, self.rows, 600)
        value = 1.0 if iteration == 1 else 0.3
        samples = (self._row(iteration, 0, "accepted"), self._row(iteration, 1, "accepted"))
        evidence = Evidence(iteration, 5, checks, {TEMPERATURE: value}, SPACE, samples)
        opinions = [Opinion("policy", self.texts["opinion"], cites=(f"{iteration}-1",))]
        if iteration == 1:
            opinions = [
                Opinion(
                    "policy", self.texts["opinion"], {TEMPERATURE: 0.3}, cites=("runaway_rate",)
                )
            ]
        else:
            opinions.append(Opinion("human", "A person decides.", waits=True))
        end = gates.conclude(ruling, opinions, evidence)
        given = Review(
            RUN, iteration, 5, GATE.as_json(), GATE.hash, look, tallies,
            [c.as_json() for c in checks], ruling.decision, end.decision, end.reason,
            changes=end.changes, patch_reason=end.patch_reason, waiting=end.waiting,
            opinions=[o.as_json() for o in opinions], parameters={TEMPERATURE: value},
            search_space=SPACE, samples=samples,
        )  # fmt: skip
        return write_review(self.reviews, given)

    def _row(self, iteration: int, number: int, state: str) -> dict[str, Any]:
        return {
            "instruction": self.texts["instruction"],
            "response": self.texts["response"],
            "factual_reason": self.texts["said"],
            "response_tokens": 12,
            "id": f"{iteration}-{number}",
            "source_id": f"s{iteration}-{number}",
            "sample": 0,
            "attempt": 0,
            "parent_id": None,
            "scores": {"factual": 0.9},
            "flags": [],
            "state": state,
            "reason": f"{self.texts['reason']}: 80 tokens" if state == "rejected" else None,
            "provenance": {
                "run": RUN,
                "iteration": iteration,
                "shard": 0,
                "code_commit": None,
                "steps": [
                    {
                        "step": "respond",
                        "model": "local/nexa-tiny",
                        "revision": "29",
                        "served_by": self.texts["said"],
                        "prompt": "bootstrap/response",
                        "prompt_hash": "ab" * 32,
                        "call_ids": ["c1"],
                    }
                ],
            },
        }

    def _sample(self, state: str) -> dict[str, Any]:
        return {k: v for k, v in self._row(1, 0, state).items() if k != "provenance"}

    def _counts(self, runaways: int) -> dict[str, int]:
        return {"accepted": self.rows - runaways, "rejected": runaways}

    def _committed(self, iteration: int, runaways: int) -> ShardCommitted:
        unit = f"iterations/{iteration:02d}/00000"
        return ShardCommitted(unit, self._counts(runaways), {"asked": 600}, 12_000_000, 3.5)

    def _commit(self, iteration: int, runaways: int) -> None:
        folder = self.run.iteration(iteration).create()
        states = ["accepted"] * (self.rows - runaways) + ["rejected"] * runaways
        rows = [self._row(iteration, n, state) for n, state in enumerate(states)]
        pq.write_table(pa.Table.from_pylist(rows), folder.shards / "00000.parquet")
        append_entry(
            folder.path,
            ShardEntry(
                unit=folder.unit(0),
                shard=0,
                rows=self._counts(runaways),
                files={},
                content_hash="",
                reasons={self.texts["reason"]: runaways} if runaways else {},
                calls={"asked": 600},
                metrics=self._tallies(runaways),
                source_rows=self.rows,
                at="2026-01-02T03:05:10.000+00:00",
            ),
        )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace."""
    (tmp_path / "nexa.toml").write_text("nexa = 1\n")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return find_workspace(tmp_path)


@pytest.fixture
def run(workspace: Workspace) -> Run:
    """A run that waits for a person after its second iteration."""
    return Story(workspace.root, TEXTS).write()


@pytest.fixture
def hostile(workspace: Workspace) -> Run:
    """The same run, in which every model, judge and reviewer wrote what could steer a terminal."""
    return Story(
        workspace.root, {name: f"{text} {HOSTILE}" for name, text in TEXTS.items()}
    ).write()


@pytest.fixture
def hostile_text() -> str:
    """What could steer a terminal, open a link, mark up, turn or hide text."""
    return HOSTILE


@pytest.fixture
def log() -> Callable[..., None]:
    """Appends events to a run's log."""
    return log_events


@pytest.fixture
def look() -> Callable[[NexaApp], str]:
    """Reads what a person sees, as text; lines without the spaces at their ends."""

    def read(app: NexaApp) -> str:
        strips = app.screen._compositor.render_strips()
        return "\n".join("".join(s.text for s in strip).rstrip() for strip in strips)

    return read


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compares text with the bytes in golden/NAME; NEXA_CORE_UPDATE_GOLDEN=1 stores it anew."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if os.environ.get("NEXA_CORE_UPDATE_GOLDEN"):
            path.write_text(text)
        assert text == path.read_text()

    return compare


@pytest.fixture
def watch(workspace: Workspace, look: Callable[[NexaApp], str]) -> Callable[..., Any]:
    """Opens the screens at a size, presses keys, and waits until `until` is seen."""

    @asynccontextmanager
    async def opened(
        *keys: str, run: str | None = RUN, size: tuple[int, int] = (80, 24), until: str = ""
    ) -> AsyncIterator[Any]:
        app = NexaApp(workspace, run)
        async with app.run_test(size=size, notifications=True) as pilot:
            await _settle(pilot, lambda: _is_read(app))
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            await _settle(pilot, lambda: until in look(app))
            yield pilot

    return opened


@pytest.fixture
def settle() -> Callable[..., Any]:
    """Waits until a screen has what its threads bring."""
    return _settle


def _is_read(app: NexaApp) -> bool:
    watching = app.watching
    return app.has_listed if watching is None else watching.is_caught_up and watching.commits > 0


async def _settle(pilot: Any, until: Callable[[], bool]) -> None:
    for _ in range(300):
        await pilot.pause(0.01)
        if until():
            return
    raise AssertionError("the screen never came to it")
