"""The card of a packaged dataset: what is in it, how it was made, and what limits it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nexa_core.engine.candidates import NOT_CHOSEN
from nexa_core.engine.card_parts import (
    describe_judges,
    describe_mix,
    describe_prices,
    describe_runs,
    describe_sources,
    write_table,
)
from nexa_core.engine.dataset_rows import DUPLICATE, EVALUATION_MATCH

__all__ = ["write_card"]

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)


def write_card(
    path: Path,
    manifest: Mapping[str, Any],
    pipeline: Mapping[str, Any],
    checks: Sequence[Mapping[str, Any]],
) -> None:
    """Write the card: hub front matter, then what a reader of the dataset asks."""
    sections = [
        _front_matter(manifest),
        f"# {manifest['name']}",
        _marks(manifest),
        _describe(manifest),
        "## Columns\n\n" + _columns(manifest),
        "## Yield\n\n" + _yield(manifest),
        *(["## Runs\n\n" + describe_runs(manifest)] if manifest.get("parts") else []),
        *(["## Other data\n\n" + describe_mix(manifest)] if manifest.get("mixed") else []),
        "## How it was made\n\n" + _making(manifest, pipeline),
        *(["## Judges\n\n" + describe_judges(manifest)] if manifest.get("parts") else []),
        *(["## Prices\n\n" + describe_prices(manifest)] if manifest.get("parts") else []),
        *(["## Sources\n\n" + describe_sources(manifest)] if manifest.get("parts") else []),
        "## The gate\n\n" + _gate(manifest, checks),
        "## Limits\n\n" + _limits(manifest),
    ]
    path.write_text("\n\n".join(s for s in sections if s) + "\n", encoding="utf-8")


def _front_matter(manifest: Mapping[str, Any]) -> str:
    rows = manifest["rows"]
    total = rows["train"] + rows["validation"]
    size = next((name for limit, name in _SIZES if total < limit), "n>100M")
    # `datasets` knows a local folder in its cache by its name and these lines alone.
    told = f"  description: rows {manifest['inputs']}"
    lines = ["---", f"pretty_name: {json.dumps(manifest['name'])}", "configs:"]
    lines += ["- config_name: default", "  default: true", told, "  data_files:"]
    for split in ("train", "validation"):
        if rows[split]:
            lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    if sum(rows.values()) > total:
        lines += ["- config_name: rejected", told, "  data_files:"]
        lines += ["  - split: rejected", "    path: rejected/rejected-*.parquet"]
    tags = ["synthetic", "nexa", *(["rehearsal"] if "rehearsal" in manifest["marks"] else [])]
    lines += ["size_categories:", f"- {size}", "task_categories:", "- text-generation"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _marks(manifest: Mapping[str, Any]) -> str:
    return "\n".join(f"> **Mark:** {mark}" for mark in manifest["marks"])


def _describe(manifest: Mapping[str, Any]) -> str:
    rows = manifest["rows"]
    runs = ", ".join(f"`{run}`" for run in manifest["runs"])
    return (
        f"{rows['train']:,} training rows and {rows['validation']:,} validation rows in the format "
        f"`{manifest['format']}`, generated and filtered by nexa in {runs}. All rows of one source "
        "row are in one split. `train.jsonl` holds the training split without provenance, "
        "`rejected/` every row that was left out, with its reason.\n\n"
        "```python\n"
        "from datasets import load_dataset\n\n"
        'rows = load_dataset("path/of/this/folder", split="train")\n'
        'left_out = load_dataset("path/of/this/folder", "rejected", split="rejected")\n'
        "```"
    )


_MEANINGS = {
    "prompt": "what the student is asked, as text",
    "completion": "what it shall answer, without an end token",
    "messages": "the conversation; the last turn is what the student shall answer",
    "tools": "the tools on offer, as JSON text; null where there are none",
    "conversations": "the conversation as `from` and `value`; the last part is the answer",
    "instruction": "what the student is asked",
    "input": "what goes with the question; may be empty",
    "output": "what it shall answer",
    "chosen": "the best answer of those that were judged",
    "rejected": "the worst answer of those that were judged",
    "score_chosen": "the mean of the scores that rank, of the chosen answer",
    "score_rejected": "the same of the rejected one",
    "rejected_id": "identity of the row that holds the rejected answer",
    "mixed_from": "the file a row was mixed in from; null for rows of a run",
    "id": "identity of the row",
    "source_id": "identity of the source row it came from",
    "sample": "number of the sample of that source row",
    "scores": "what each check, judge and critic found; null where it was not asked",
    "flags": "checks that raised a flag without rejecting",
    "provenance": "run, iteration, shard, code commit; model, prompt and call ids of every step",
}


def _columns(manifest: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", _MEANINGS.get(name, "")) for name in manifest["columns"]]
    shown = write_table(("column", "meaning"), rows)
    template = manifest["prompt_template"]
    if template is None:
        return shown
    return (
        f"{shown}\n\nA student trained on this is asked with the template `{json.dumps(template)}`."
    )


_DROPPED = (EVALUATION_MATCH, DUPLICATE, *NOT_CHOSEN)


def _yield(manifest: Mapping[str, Any]) -> str:
    mixed = sum(one["rows"] for one in manifest.get("mixed", ()))
    total = left = sum(manifest["rows"].values()) - mixed
    found = [("made", f"{total:,}", "", "100.0%")]
    # What packaging dropped comes last: it saw only what was accepted.
    for reason, number in sorted(manifest["reasons"].items(), key=lambda r: r[0] in _DROPPED):
        left -= number
        found.append((f"`{reason}`", f"−{number:,}", f"{left:,}", f"{left / total:.1%}"))
    surplus = manifest["rows"]["surplus"]
    if surplus:
        left -= surplus
        found.append(("surplus", f"−{surplus:,}", f"{left:,}", f"{left / total:.1%}"))
    waterfall = write_table(("what took rows", "rows", "left", "share left"), found)
    table = (
        waterfall
        + "\n\n"
        + write_table(
            ("rows", "number"), [(n.replace("_", " "), f"{k:,}") for n, k in _counts(manifest)]
        )
    )
    moved = manifest.get("moved_sources", 0)
    note = f"\n\n{moved:,} sources were in another split of a later run." if moved else ""
    return table + note


def _counts(manifest: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    return ((name, number) for name, number in manifest["rows"].items() if number)


def _making(manifest: Mapping[str, Any], pipeline: Mapping[str, Any]) -> str:
    models = [
        (f"`{role}`", f"`{settings.get('model')}`", _sampling(settings))
        for role, settings in (pipeline.get("models") or {}).items()
    ]
    parts = [
        write_table(("role", "model", "sampling"), models) if models else "No model was asked."
    ]
    if pipeline.get("accept"):
        accept = json.dumps(pipeline["accept"], ensure_ascii=False)
        parts.append(f"A row was accepted when it met `{accept}`.")
    if manifest["pipeline_hash"]:
        parts.append(f"Pipeline hash: `{manifest['pipeline_hash']}`.")
    if manifest["command"]:
        parts.append(f"To package again: `{manifest['command']}`.")
    return "\n\n".join(parts)


def _sampling(settings: Mapping[str, Any]) -> str:
    sampling = settings.get("sampling") or {}
    return ", ".join(f"{key} {value}" for key, value in sampling.items() if value is not None)


def _gate(manifest: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> str:
    if manifest["decision"] is None:
        return "No gate decided about these rows."
    head = manifest["review_head"]
    parts = [
        f"Decision: **{manifest['decision']}**."
        + (f" Review chain head: `{head}`." if head else "")
    ]
    rows = [
        (
            f"`{check['metric']}`",
            f"{check['rule']} {check['threshold']:g}",
            f"{check['k']:g} of {check['n']}",
            _bounds(check),
            str(check["verdict"]),
        )
        for check in checks
    ]
    if rows:
        parts.append(
            write_table(("metric", "rule", "counted", "value and bounds", "verdict"), rows)
        )
    return "\n\n".join(parts)


def _bounds(check: Mapping[str, Any]) -> str:
    if check.get("value") is None:
        return ""
    shown = f"{check['value']:.4g}"
    if check.get("lower") is None or check.get("upper") is None:
        return shown
    return f"{shown} ({check['lower']:.4g} to {check['upper']:.4g})"


def _limits(manifest: Mapping[str, Any]) -> str:
    limits = [
        "The text was written by a model. Checks and judges filtered it; no person read every row.",
        "Terms of use of the models above apply to what they wrote.",
    ]
    if manifest["evaluation_items"]:
        limits.append(
            f"Rows that ask what an item of `{manifest['evaluation_items']}` asks were dropped "
            f"({manifest['rows']['dropped_eval_matches']:,}): same words, whatever case and marks. "
            "A paraphrase of an item is not found this way."
        )
    else:
        limits.append("No evaluation items were named, so none were looked for among the rows.")
    limits.append("Rows written from different sources may still resemble one another.")
    return "\n".join(f"- {limit}" for limit in limits)
