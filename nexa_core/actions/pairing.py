"""Rows of two runs that came from the same source row: which run accepted them, and how they scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from nexa_core.records import State
from nexa_core.stats import compare_pairs, holm, student
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest

__all__ = ["pair_rows"]

MEMORY = "1GB"
"""What DuckDB may hold; beyond it, it spills to disk."""

# Names of columns and files below come from run folders, and are quoted by `_name` and `_text`.
# ruff: noqa: S608
_GOOD = f"('{State.ACCEPTED}', '{State.SURPLUS}')"
_DECIDED = f"('{State.ACCEPTED}', '{State.SURPLUS}', '{State.REJECTED}')"


def pair_rows(a: Run, b: Run) -> dict[str, Any]:
    """How shared rows fared in A and in B; a row is its source row's id and its sample number.

    Counted are the rows of each run's dataset (its last iteration, and scale), by their last attempt.
    `accepted` is McNemar's test with Newcombe's interval over rows that both decided (`b`: accepted
    in A only, `c`: in B only); surplus rows count as accepted. `scores` holds for each score that
    both gave: the means, the mean difference B − A with Student's interval, and its p, also as Holm
    adjusts it over all scores. `same_answers` counts equal texts, None where they cannot be told.
    """
    import duckdb

    sides = [_Side(run) for run in (a, b)]
    if not all(side.files for side in sides):
        return _as_json([*(side.rows for side in sides), 0], [], None)
    scores = [name for name in sides[0].scores if name in sides[1].scores]
    answers = all(side.answer for side in sides)
    with TemporaryDirectory(prefix="nexa-diff-") as spill, duckdb.connect(":memory:") as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = {_text(Path(spill))}")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET autoinstall_known_extensions = false")
        row = connection.execute(_query(sides, scores, answers)).fetchone()
    assert row is not None
    return _as_json(list(row), scores, row[7] if answers else None)


class _Side:
    """A run's committed row files of its dataset, and what columns they have."""

    def __init__(self, run: Run) -> None:
        folders = [folder for folder in run.iterations() if read_manifest(folder.path)][-1:]
        entries = [(f, e) for f in (*folders, run.scale) for e in read_manifest(f.path)]
        self.files = [folder.shards / f"{entry.shard:05d}.parquet" for folder, entry in entries]
        self.rows = sum(sum(entry.rows.values()) for _, entry in entries)
        schema = pq.read_schema(self.files[0]) if self.files else None
        self.scores = (
            [] if schema is None else [field.name for field in schema.field("scores").type]
        )
        self.answer = _answer_column(run)
        if schema is None or self.answer not in schema.names:
            self.answer = None


def _answer_column(run: Run) -> str | None:
    """The column that the last generate step writes."""
    steps = run.record.get("pipeline", {}).get("steps", [])
    found = [step["generate"].get("into", "response") for step in steps if "generate" in step]
    return str(found[-1]) if found else None


def _query(sides: Sequence[_Side], scores: Sequence[str], answers: bool) -> str:
    counts = [
        "(SELECT count(*) FROM a)",
        "(SELECT count(*) FROM b)",
        "count(*)",
        *(
            f"count(*) FILTER (both_decided AND a_good = {first} AND b_good = {second})"
            for first, second in (
                ("true", "true"),
                ("true", "false"),
                ("false", "true"),
                ("false", "false"),
            )
        ),
        "count(*) FILTER (a_text = b_text)" if answers else "NULL",
    ]
    for number in range(len(scores)):
        first, second = f"a_{number}", f"b_{number}"
        both = f"FILTER ({first} IS NOT NULL AND {second} IS NOT NULL)"
        counts += [
            f"count(*) {both}",
            f"avg({first}) {both}",
            f"avg({second}) {both}",
            f"avg({second} - {first})",
            f"stddev_samp({second} - {first})",
        ]
    tables = [
        f"{letter} AS ({_last_attempts(side, letter, scores, answers)})"
        for letter, side in zip("ab", sides, strict=True)
    ]
    joined = (
        "SELECT *, a_decided AND b_decided AS both_decided FROM a JOIN b USING (source_id, sample)"
    )
    return f"WITH {', '.join(tables)} SELECT {', '.join(counts)} FROM ({joined})"


def _last_attempts(side: _Side, letter: str, scores: Sequence[str], answers: bool) -> str:
    """One line a row: its last attempt, by source row and sample."""
    files = ", ".join(_text(path) for path in side.files)
    fields = {f"{letter}_good": f"state IN {_GOOD}", f"{letter}_decided": f"state IN {_DECIDED}"}
    fields |= {f"{letter}_{n}": f"scores.{_name(name)}" for n, name in enumerate(scores)}
    fields |= {f"{letter}_text": f"hash({_name(side.answer or '')})"} if answers else {}
    # One struct, so that a null of the last attempt is not passed over for an earlier value.
    packed = ", ".join(f"{name} := {value}" for name, value in fields.items())
    last = f"unnest(arg_max(struct_pack({packed}), attempt))"
    read = f"read_parquet([{files}], union_by_name = true)"
    return f"SELECT source_id, sample, {last} FROM {read} GROUP BY source_id, sample"


def _as_json(row: list[Any], scores: Sequence[str], same: int | None) -> dict[str, Any]:
    in_a, in_b, shared = row[:3]
    both, first, second, neither = row[3:7] if len(row) > 3 else (0, 0, 0, 0)
    figures = [row[8 + 5 * at : 13 + 5 * at] for at in range(len(scores))]
    told = [_score(name, *each) for name, each in zip(scores, figures, strict=True) if each[0]]
    adjusted = holm([each["p"] for each in told]) if told else []
    return {
        "rows": shared,
        "only_a": in_a - shared,
        "only_b": in_b - shared,
        "same_answers": same,
        "accepted": compare_pairs(both, first, second, neither).as_json() if shared else None,
        "scores": [{**each, "p_holm": p} for each, p in zip(told, adjusted, strict=True)],
    }


def _score(
    name: str, n: int, mean_a: float, mean_b: float, mean: float, deviation: float | None
) -> dict[str, Any]:
    low, high, p = student(n, mean, deviation or 0.0)
    return {
        "score": name,
        "n": n,
        "mean_a": mean_a,
        "mean_b": mean_b,
        "difference": mean,
        "low": low if n > 1 else None,
        "high": high if n > 1 else None,
        "p": p,
    }


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
