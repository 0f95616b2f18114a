"""docs/gatebench.md: what was asked of the gate beside what was reached, then every table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gating.nulls import ITERATIONS
from gating.others import FIXED_ROWS, POINT_ROWS
from gating.searching import GATES, NEXA, REVIEWERS

POINT = f"point threshold, n = {POINT_ROWS}"
HEAD = """# GateBench

Written by `python benchmarks/gate.py --write`; the code is in `benchmarks/gating/`, and what decides there is what
decides in a run: `assess_gate`, `decide`, `assess_drift`, and the shipped `policy`. Seeds are fixed: the same code
gives the same page.
"""


def render(found: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [
        HEAD,
        _summarise(found),
        _nulls(found),
        _rows(found),
        _search(found),
        _drift(found),
    ]
    return "\n".join(part for part in parts if part)


def list_goals(found: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    """(what, asked, reached, whether it holds), of what this run has measured."""
    goals: list[tuple[str, str, str, bool]] = []
    if "nulls" in found:
        worst = max(found["nulls"].values(), key=lambda row: row["proceed_rate"])
        told = (
            f"at most {worst['proceed_rate']:.1%} (99 % upper bound {worst['proceed_upper']:.1%})"
        )
        goals.append(
            (
                "false PROCEED per campaign, any rule at its limit",
                "≤ 5 %",
                told,
                worst["proceed_upper"] <= 0.05,
            )
        )
        shown = found["others"][POINT]["runaway_rate at 8 %"]["within_3"]
        goals.append(
            (
                "the point gate at 43 rows passes a true 8 % within 3 pilots",
                "69 %",
                f"{shown:.0%}",
                abs(shown - 0.69) < 0.03,
            )
        )
    if "rows" in found:
        ratio = found["rows"]["1.0%"]["ratio"]
        goals.append(
            (
                "rows to certify “< 5 %” at a true 1 %, over those of the SPRT that knows it, same looks",
                "≤ 1.25",
                f"{ratio:.2f}",
                ratio <= 1.25,
            )
        )
    for start, table in found.get("search", {}).items():
        policy, random = (table[NEXA][name]["rows_per_right"] for name in REVIEWERS[:2])
        part = policy / random
        goals.append(
            (
                f"rows to a right PROCEED from {start}, `policy` over random search",
                "≤ 0.5",
                f"{part:.2f}",
                part <= 0.5,
            )
        )
    if "drift" in found:
        stable = max(r["alarm_rate"] for r in found["drift"].values() if r["stable"])
        goals.append(
            (
                "stable scale runs that pause for drift",
                "≤ 5 %",
                f"at most {stable:.2%}",
                stable <= 0.05,
            )
        )
    return goals


def _summarise(found: Mapping[str, Any]) -> str:
    rows = [
        (what, asked, reached if holds else f"**{reached}**")
        for what, asked, reached, holds in list_goals(found)
    ]
    told = f"{found['campaigns']:,} campaigns per setting, seed {found['seed']}, {found['seconds']:.0f} s."
    told += " Bold: not reached.\n"
    return told + "\n" + _table(("", "asked", "reached"), rows)


def _nulls(found: Mapping[str, Any]) -> str:
    if "nulls" not in found:
        return ""
    names = list(found["others"])
    rows = []
    for rule in found["others"][names[0]]:
        ours = f"{found['nulls'][rule]['proceed_rate']:.2%}"
        rows.append(
            (rule, ours, *(f"{found['others'][n][rule]['proceed_rate']:.1%}" for n in names))
        )
    return (
        "\n## Bad pilots that proceed\n\n"
        f"One rule exactly at its limit, the others at 0, {ITERATIONS} pilots of fresh rows; confidence 95 % for the\n"
        f"campaign. {FIXED_ROWS} rows are what an exact test needs to pass “< 5 %” at a true 1 % in 80 %.\n\n"
    ) + _table(("rule at its limit", NEXA, *names), rows)


def _rows(found: Mapping[str, Any]) -> str:
    if "rows" not in found:
        return ""
    rows = [
        (
            rate,
            f"{row['proceed_rate']:.1%}",
            f"{row['rows_median']:.0f}",
            f"{row['sprt_same_looks_median']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['sprt_every_row_median']:.0f}",
            f"{row['ratio_every_row']:.2f}",
        )
        for rate, row in found["rows"].items()
    ]
    return (
        "\n## Rows to certify “< 5 %”\n\n"
        "Medians of one iteration at confidence 99 %; 601 stands for not by 600 rows. The power-one SPRT is told the\n"
        "true rate, which no gate knows: first at the same looks, then after every row.\n\n"
    ) + _table(
        ("true rate", "PROCEED", NEXA, "SPRT, same looks", "ratio", "SPRT, every row", "ratio"),
        rows,
    )


def _search(found: Mapping[str, Any]) -> str:
    parts = []
    for start, table in found.get("search", {}).items():
        rows = [
            (
                gate,
                reviewer,
                f"{row['wrong']:.1%}",
                f"{row['right']:.1%}",
                _number(row["rows_median"]),
                _number(row["iterations_mean"], 1),
                _number(row["rows_per_right"]),
            )
            for gate in GATES
            for reviewer, row in table[gate].items()
        ]
        head = (
            "gate",
            "reviewer",
            "wrong PROCEED",
            "right PROCEED",
            "its rows",
            "its iterations",
            "all rows per right one",
        )
        parts.append(f"\n### From {start}\n\n" + _table(head, rows))
    if not parts:
        return ""
    told = (
        "\n## On the response surface\n\n"
        "80 settings of the tiny model's `respond` step, 320 rows each, measured by `benchmarks/surface.py` before a\n"
        "reviewer was tuned on them; linear between. A right PROCEED is one at parameters whose true rates keep every\n"
        "rule. Rows are medians, iterations means; the last column divides all rows spent by the right PROCEEDs: what\n"
        "one costs who begins a new campaign after each that ends without. `none` measures the same parameters again.\n"
    )
    return told + "".join(parts)


def _drift(found: Mapping[str, Any]) -> str:
    if "drift" not in found:
        return ""
    rows = [
        (
            what,
            "stable" if row["stable"] else "changed",
            f"{row['alarm_rate']:.2%}",
            _number(row["rows_median"]),
        )
        for what, row in found["drift"].items()
    ]
    return (
        "\n## Drift of a scale run\n\n"
        "Runaways of the pilot that passed, and of 20 shards of 500 rows after it; a look after each. A rise by a\n"
        f"fifth of the limit (here 1 point) is no drift. {max(found['campaigns'] // 10, 1):,} runs a line.\n\n"
    ) + _table(("runaway rate", "", "runs that pause", "after rows, median"), rows)


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "never"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
