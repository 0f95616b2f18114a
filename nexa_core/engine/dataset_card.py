"""The card of a packaged dataset: what is in it, how it was made, and what limits it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nexa_core.engine.candidates import NOT_CHOSEN
from nexa_core.engine.card_parts import (
    describe_gates,
    describe_judges,
    describe_mix,
    describe_prices,
    describe_runs,
    describe_sources,
    describe_steps,
    generates,
    write_table,
)
from nexa_core.engine.dataset_rows import DUPLICATE, EVALUATION_MATCH
from nexa_core.phrases import tell_retried

__all__ = ["write_card"]

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)


def write_card(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the card: hub front matter, then what a reader of the dataset asks."""
    parts = [
        ("## Runs", describe_runs),
        ("## Other data", describe_mix if manifest.get("mixed") else None),
        ("## How it was made", describe_steps),
        ("## Judges", describe_judges),
        ("## Prices", describe_prices),
        ("## Sources", describe_sources),
        ("## The gate", describe_gates),
    ]
    sections = [
        _front_matter(manifest),
        f"# {manifest['name']}",
        _marks(manifest),
        _describe(manifest),
        "## Columns\n\n" + _columns(manifest),
        "## Yield\n\n" + _yield(manifest),
        *(f"{head}\n\n{tell(manifest)}" for head, tell in parts if tell and manifest["parts"]),
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
    tags = [*(["synthetic"] if generates(manifest) else []), "nexa"]
    tags += ["rehearsal"] if "rehearsal" in manifest["marks"] else []
    lines += ["size_categories:", f"- {size}", "task_categories:", "- text-generation"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _marks(manifest: Mapping[str, Any]) -> str:
    return "\n".join(f"> **Mark:** {mark}" for mark in manifest["marks"])


def _describe(manifest: Mapping[str, Any]) -> str:
    rows = manifest["rows"]
    runs = ", ".join(f"`{run}`" for run in manifest["runs"])
    made = "generated and filtered" if generates(manifest) else "filtered"
    return (
        f"{rows['train']:,} training rows and {rows['validation']:,} validation rows in the format "
        f"`{manifest['format']}`, {made} by nexa in {runs}. All rows of one source "
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
    "flags": "flags that judges raised, and checks that flag and do not reject",
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
    told = [
        tell_retried(part["rows"], part["retried"]) for part in manifest["parts"] if part["retried"]
    ]
    moved = manifest.get("moved_sources", 0)
    table = "\n\n".join([table, *told])
    note = f"\n\n{moved:,} sources were in another split of a later run." if moved else ""
    return table + note


def _counts(manifest: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    return ((name, number) for name, number in manifest["rows"].items() if number)


def _limits(manifest: Mapping[str, Any]) -> str:
    if generates(manifest):
        limits = [
            "The text was written by a model. Checks and judges filtered it; no person read every row.",
            "Terms of use of the models above apply to what they wrote.",
        ]
    else:
        limits = [
            "The text is the source's own, filtered and not changed; no person read every row."
        ]
    if manifest["evaluation_items"]:
        dropped = manifest["rows"]["dropped_eval_matches"]
        dropped += sum(one["dropped"].get(EVALUATION_MATCH, 0) for one in manifest["mixed"])
        limits.append(
            f"Rows that ask what an item of `{manifest['evaluation_items']}` asks were dropped "
            f"({dropped:,}): same words, whatever case and marks. "
            "A paraphrase of an item is not found this way."
        )
    else:
        limits.append("No evaluation items were named, so none were looked for among the rows.")
    limits.append("Rows written from different sources may still resemble one another.")
    return "\n".join(f"- {limit}" for limit in limits)
