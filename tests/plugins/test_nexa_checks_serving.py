"""The metric of who served the answers."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from nexa_checks import register_metrics
from nexa_core import CheckError, UsageError

SPEC = next(spec for spec in register_metrics() if spec.name == "served_by_mix")


def outcomes(table: pa.Table, **options: Any) -> list[bool | None]:
    assert SPEC.options is not None
    model = SPEC.options().model_validate({"answer_step": "answer", **options})
    found: list[bool | None] = SPEC.build(model).outcomes(table).to_pylist()
    return found


def table_of(*rows: list[tuple[str, str | None]], states: list[str] | None = None) -> pa.Table:
    """Rows by the steps that they went through, each with who served it."""
    steps = [[{"step": step, "served_by": server} for step, server in row] for row in rows]
    kind = pa.list_(pa.struct([("step", pa.string()), ("served_by", pa.string())]))
    provenance = pa.StructArray.from_arrays([pa.array(steps, kind)], names=["steps"])
    states = states or ["accepted"] * len(rows)
    return pa.table({"provenance": provenance, "state": states, "sample": [0] * len(rows)})


def test_it_counts_what_another_server_answered() -> None:
    """A part of the name is enough, in any case; who judged the row does not matter."""
    table = table_of(
        [("answer", "Together/llama@fp16"), ("judge", "openai")],
        [("answer", "DeepInfra/llama@fp8")],
        [("judge", "together/x"), ("answer", "together/llama")],
    )
    assert outcomes(table, expect="together") == [False, True, False]
    assert outcomes(table, expect="fp16") == [False, True, True]


def test_what_is_unknown_is_outside() -> None:
    """A reply that names no server, a row that was never answered, and one that failed."""
    table = table_of(
        [("answer", None)], [], [("answer", "a")], states=["accepted", "rejected", "failed"]
    )
    assert outcomes(table, expect="b") == [None, None, None]


def test_chunks_and_slices_make_no_difference() -> None:
    """Tables of several shards are read as one."""
    one = table_of([("answer", "a")], [("answer", "b")], [("answer", None)])
    assert outcomes(pa.concat_tables([one, one.slice(1)]), expect="a") == [
        *(False, True, None),
        *(True, None),
    ]


def test_what_is_missing_is_said() -> None:
    """Without anybody to expect there is nothing to count, nor without provenance."""
    with pytest.raises(UsageError, match="does not know its `expect`"):
        outcomes(table_of())
    with pytest.raises(CheckError, match="provenance"):
        outcomes(pa.table({"a": [1]}), expect="x")
