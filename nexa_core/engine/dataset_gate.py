"""The gate of a dataset: what its accepted rows yield, repeat, give away, and whether they got easy."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.engine.context import Context
from nexa_core.engine.items import normalise_text
from nexa_core.engine.package_settings import bind_packaging
from nexa_core.engine.packaging import Packaging, unify_schemas
from nexa_core.engine.plan import Plan
from nexa_core.engine.unit import Unit
from nexa_core.engine.verdicts import decide_phase
from nexa_core.events import WarningRaised
from nexa_core.gates import Look
from nexa_core.records import State, canonical_json
from nexa_core.reviews import Review
from nexa_core.stats import expected_distinct, expected_duplicates
from nexa_core.store.manifest import read_manifest
from nexa_core.store.shards import read_shard

__all__ = ["foretell_duplicates", "judge_dataset"]

FEWEST_ROWS = 10
"""Accepted rows of the first iteration that tell how many different answers there were."""
WORTH_TELLING = 0.1
_Texts = Counter[bytes]


def judge_dataset(context: Context, units: Sequence[Unit]) -> Review | None:
    """Decide on the accepted rows before they are packaged, and keep the record.

    A measure that cannot be taken, such as diversity where no parameter was changed, is not asked.
    """
    gate = context.plan.dataset_gate
    if gate is None:
        return None
    shards = [u.folder.shards / f"{e.shard:05d}.parquet" for u in units for e in u.entries]
    packaging = bind_packaging(context.plan, unify_schemas(shards).names)
    tallies = _measure(context, units, packaging)
    measured = replace(
        gate,
        hard=tuple(rule for rule in gate.hard if rule.metric in tallies),
        soft=tuple(rule for rule in gate.soft if rule.metric in tallies),
    )
    rows = sum(unit.source_rows for unit in units)
    look = Look(measured.alpha(1), rows, rows, census=True)
    return decide_phase(context, "package", measured, look, tallies)


def foretell_duplicates(context: Context, plan: Plan, pilot: Unit) -> None:
    """Warn before scale is paid for where many of the rows wanted would repeat an answer."""
    scale = plan.pipeline.scale
    wanted = scale.accepted if scale else None
    if wanted is None or plan.set_checks or context.run.scale.path.exists():
        return
    answers = _count_texts(
        _accepted(pilot, [plan.pipeline.answer_field(plan.source_columns) or ""])
    )
    duplicates = expected_duplicates(list(answers.values()), wanted)
    if answers and duplicates >= WORTH_TELLING * wanted:
        context.announcer.announce(
            WarningRaised(
                f"About {duplicates:,.0f} of {wanted:,} accepted rows will repeat the answer of "
                "another, as the pilot's do. `near_duplicates` or `exact_duplicates` leaves them out."
            )
        )


def _measure(
    context: Context, units: Sequence[Unit], packaging: Packaging
) -> dict[str, dict[str, Any]]:
    """The tallies of everything that can be measured of these rows."""
    answers, pairs, matching, accepted = _Texts(), _Texts(), 0, 0
    for unit in units:
        for table in _accepted(unit, [packaging.prompt, packaging.completion]):
            prompts, completions = (_texts(table, column) for column in table.column_names)
            answers.update(map(_digest, completions))
            pairs.update(map(_digest, map("\x00".join, zip(prompts, completions, strict=True))))
            matching += sum(prompt in packaging.evaluation for prompt in prompts)
            accepted += len(table)
    tallies: dict[str, dict[str, Any]] = {
        "yield_rate": _measure_yield(units),
        "repeated_rate": {"n": accepted, "k": accepted - len(pairs)},
    }
    if packaging.evaluation:
        tallies["contamination_rate"] = {"n": accepted, "k": matching}
    before = _first_answers(context, packaging)
    if before is not None:
        tallies["diversity_kept"] = _compare_diversity(before, answers)
    return tallies


def _measure_yield(units: Sequence[Unit]) -> dict[str, int]:
    """Answers, and those that passed: each sample of a row is one, by its last attempt."""
    attempts = sum(sum(entry.rows.values()) for unit in units for entry in unit.entries)
    again = sum(
        len(parents) - parents.null_count
        for unit in units
        for entry in unit.entries
        for parents in [unit.read(entry, ["parent_id"])["parent_id"]]
    )
    passed = sum(unit.count(State.ACCEPTED) + unit.count(State.SURPLUS) for unit in units)
    return {"n": attempts - again, "k": passed}


def _compare_diversity(before: _Texts, after: _Texts) -> dict[str, Any]:
    """Different answers now over those before, both at as many rows as the smaller has."""
    rows = min(before.total(), after.total())
    was = expected_distinct(list(before.values()), rows)
    now = expected_distinct(list(after.values()), rows)
    return {"n": rows, "total": rows * now / was if was else 0.0}


def _first_answers(context: Context, packaging: Packaging) -> _Texts | None:
    """The accepted answers of the first iteration, where a later one passed with other parameters."""
    folders = context.run.iterations()
    if len(folders) < 2:
        return None
    folder, found = folders[0], _Texts()
    for entry in read_manifest(folder.path):
        path = folder.shards / f"{entry.shard:05d}.parquet"
        table = read_shard(path, columns=["state", packaging.completion])
        kept = table.filter(pc.equal(table["state"], State.ACCEPTED.value))
        found.update(map(_digest, _texts(kept, packaging.completion)))
    return found if found.total() >= FEWEST_ROWS else None


def _accepted(unit: Unit, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The accepted rows of a unit, shard by shard."""
    for entry in unit.entries:
        table = unit.read(entry, ["state", *columns])
        yield table.filter(pc.equal(table["state"], State.ACCEPTED.value)).select(columns)


def _count_texts(tables: Iterator[pa.Table]) -> _Texts:
    found = _Texts()
    for table in tables:
        found.update(map(_digest, _texts(table, table.column_names[0])))
    return found


def _texts(table: pa.Table, column: str) -> list[str]:
    """A column as normalised text; conversations as their JSON."""
    return [
        normalise_text(value if isinstance(value, str) else canonical_json(value))
        for value in table[column].to_pylist()
    ]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest()
