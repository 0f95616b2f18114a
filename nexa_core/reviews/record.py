"""One review record as a frozen value, and its only form as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal

from nexa_core.gates import Look
from nexa_core.records import Evidence, GateCheck, Opinion, content_hash

__all__ = ["SAMPLES", "TEXT_LIMIT", "Method", "Review", "as_recorded"]

Method = Literal["gate", "drift", "paired", "plan"]

FORMAT = 1
SAMPLES = 8
TEXT_LIMIT = 1_000
"""Characters of a sample's text that a record keeps; the row itself lies in its shard."""

_CHAINED = ("number", "previous", "created_at", "hash", "cost_nano")
"""What may differ when the same decision is made again: replayed replies cost nothing."""


@dataclass(frozen=True)
class Review:
    """Everything a decision rested on, and the decision.

    Written by the one who decides: `gate` is `Gate.as_json()` after binding, `tallies` the counts
    by `Rule.key`, `checks` and `opinions` their `as_json()`, `changes` maps parameter paths to
    [old, new], `cost_nano` is what the reviewers cost, in nano-dollars. `decision` and `reason` are
    what really happens; `ruling` is the gate's own decision before the reviewers. While `waiting`,
    `changes` are proposed and not made. A record with a `signature` has the evidence of the record
    before it, and the decision of the person who signed.

    `asks` holds what the reviewers asked models: the raw replies, each with the position of its
    opinion; `prices` what those models cost, and `track` what became of earlier patches.

    `phase` is the phase that was decided on; those after the pilot have iteration 0. `method` says how
    the checks were made: by the gate's rules, as drift against the pilot, by the paired test of an
    evaluation, or not at all, where a plan of a test is put on record; `terms` is what was fixed
    beforehand.

    Added by `write_review`: `number` from 1, `previous` (the hash before it, "" for the first),
    `created_at` (ISO 8601, UTC) and `hash`.
    """

    run: str
    iteration: int
    max_iterations: int
    gate: Mapping[str, Any]
    gate_hash: str
    look: Look
    tallies: Mapping[str, Mapping[str, Any]]
    checks: Sequence[Mapping[str, Any]]
    ruling: str
    decision: str
    reason: str
    extend_rows: int = 0
    changes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    patch_reason: str = ""
    waiting: bool = False
    refused: Sequence[str] = ()
    opinions: Sequence[Mapping[str, Any]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    search_space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    signature: Mapping[str, Any] | None = None
    samples: Sequence[Mapping[str, Any]] = ()
    asks: Sequence[Mapping[str, Any]] = ()
    prices: Mapping[str, Any] = field(default_factory=dict)
    track: Sequence[Mapping[str, Any]] = ()
    cost_nano: int = 0
    phase: str = "pilot"
    method: Method = "gate"
    terms: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0
    previous: str = ""
    created_at: str = ""
    hash: str = ""

    @property
    def gate_name(self) -> str:
        """The name of the gate that decided."""
        return str(self.gate["gate"])

    @property
    def ids(self) -> frozenset[str]:
        """What an opinion can cite: the metrics that were measured, and the sample rows."""
        return frozenset(str(c["metric"]) for c in self.checks) | {
            str(row["id"]) for row in self.samples if row.get("id")
        }

    @property
    def file_name(self) -> str:
        """`NNNN-<gate>.json`, as it lies in the run's folder of reviews."""
        return f"{self.number:04d}-{self.gate_name}.json"

    @property
    def identity(self) -> str:
        """Hash of what was decided on and how: equal for the same decision made again on resume."""
        return content_hash({k: v for k, v in self.as_json().items() if k not in _CHAINED})

    def seal(self) -> str:
        """The hash that `hash` must be: over the whole record but itself."""
        return content_hash({k: v for k, v in self.as_json().items() if k != "hash"})

    def as_json(self) -> dict[str, Any]:
        """The record as JSON: samples cut, no infinite number, no half character."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found["look"] = {
            "alpha": self.look.alpha,
            "rows": self.look.rows,
            "cap": self.look.cap,
            "census": self.look.census,
            "passed": sorted(self.look.passed),
            "planned": self.look.planned,
        }
        found["samples"] = [_cut(row) for row in self.samples[:SAMPLES]]
        cleaned = _clean({"format": FORMAT, **found})
        assert isinstance(cleaned, dict)
        return cleaned

    def as_bytes(self) -> bytes:
        """The file: one canonical text, so that any edited byte shows."""
        text = json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Review:
        """The record that `as_json` wrote."""
        names = {f.name for f in fields(cls)}
        given = {key: item for key, item in value.items() if key in names}
        look = dict(given["look"])
        given["look"] = Look(**{**look, "passed": frozenset(look["passed"])})
        return cls(**given)

    def evidence(self) -> Evidence:
        """What the reviewers were shown."""
        return Evidence(
            self.iteration,
            self.max_iterations,
            self._assess(),
            self.parameters,
            self.search_space,
            tuple(self.samples),
            tuple(self.history),
            self.columns,
            tuple(self.track),
        )

    def _assess(self) -> tuple[GateCheck, ...]:
        """The checks, computed from the counts again."""
        from nexa_core.gates import Gate, assess_drift, assess_gate, assess_pairs

        gate = Gate.from_json(self.gate)
        if self.method == "drift":
            return assess_drift(gate, self.terms["pilot"], self.tallies, self.look.alpha)
        if self.method == "plan":
            return ()
        if self.method == "paired":
            return assess_pairs(gate, self.tallies, self.terms)
        return assess_gate(gate, self.tallies, self.look)

    def read_opinions(self) -> tuple[Opinion, ...]:
        """The reviewers' opinions, in the order they were asked."""
        return tuple(
            Opinion(**{**opinion, "cites": tuple(opinion.get("cites", ()))})
            for opinion in self.opinions
        )


def as_recorded(value: Any) -> Any:
    """A value as a record gives it back: who decides on it live sees what a replay sees."""
    return _clean(_cut(value))


def _cut(value: Any) -> Any:
    """A sample with long texts cut, saying how long they were."""
    if isinstance(value, str):
        if len(value) <= TEXT_LIMIT:
            return value
        told = f" … ({len(value):,} characters)"
        return value[: TEXT_LIMIT - len(told)] + told
    if type(value) is dict or isinstance(value, Mapping):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item) for item in value[:50]]
    return value


def _clean(value: Any) -> Any:
    """Plain JSON values: enums as text, infinities as text, lone surrogates replaced."""
    kind = type(value)  # nearly all is of these types, and a record holds thousands of values
    if kind is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if kind is int or kind is bool or value is None or (kind is float and math.isfinite(value)):
        return value
    if kind is dict or isinstance(value, Mapping):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if kind is list or isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(value)
    return str(value).encode("utf-8", "replace").decode()
