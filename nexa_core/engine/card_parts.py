"""The parts of a dataset's card that are told run by run: yields, models, gates, prices, licences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

__all__ = [
    "describe_gates",
    "describe_judges",
    "describe_mix",
    "describe_prices",
    "describe_runs",
    "describe_sources",
    "describe_steps",
    "generates",
    "write_table",
]

NANO = 1_000_000_000
Manifest = Mapping[str, Any]


def describe_runs(manifest: Manifest) -> str:
    """What each run made and accepted, by which rule, and all of them together."""
    rows, made_all, accepted_all = [], 0, 0
    for part in manifest["parts"]:
        made, accepted = sum(part["rows"].values()), part["rows"].get("accepted", 0)
        made_all, accepted_all = made_all + made, accepted_all + accepted
        rule = json.dumps(part["accept"], ensure_ascii=False) if part["accept"] else "every row"
        head = str(part["pipeline_hash"])[:12]
        rows.append((f"`{part['run']}`", f"`{head}`", *_yield(made, accepted), f"`{rule}`"))
    if len(rows) > 1:
        rows.append(("all", "", *_yield(made_all, accepted_all), ""))
    return write_table(("run", "pipeline", "made", "accepted", "yield", "threshold"), rows)


def _yield(made: int, accepted: int) -> tuple[str, str, str]:
    return f"{made:,}", f"{accepted:,}", f"{accepted / made:.1%}" if made else ""


def generates(manifest: Manifest) -> bool:
    """Whether a model wrote any of the runs' rows."""
    return any(step["kind"] == "generate" for part in manifest["parts"] for step in part["steps"])


def describe_steps(manifest: Manifest) -> str:
    """Which models wrote and judged, and how they were asked when these rows were made."""
    rows = [
        (
            *_name_run(manifest, part),
            f"`{step['step']}`",
            step["kind"],
            ", ".join(f"`{model}`" for model in step["models"]),
            f"`{step['prompt']}`" if step["prompt"] else "",
            ", ".join(f"{key} {value}" for key, value in step["sampling"].items()),
        )
        for part in manifest["parts"]
        for step in part["steps"]
    ]
    run = ("run",) if _are_several(manifest) else ()
    head = (*run, "step", "kind", "model", "prompt", "sampling")
    told = [write_table(head, rows) if rows else "No model was asked."]
    told += [
        f"Pipeline hash{_of_run(manifest, part)}: `{part['pipeline_hash']}`."
        for part in manifest["parts"]
    ]
    if manifest["command"]:
        told.append(f"To package again: `{manifest['command']}`.")
    return "\n\n".join(told)


def describe_gates(manifest: Manifest) -> str:
    """What the gate of each run decided, on what evidence."""
    told = []
    for part in manifest["parts"]:
        where = _of_run(manifest, part)
        if part["decision"] is None:
            told.append(f"No gate decided about the rows{where}.")
            continue
        head = f" Review chain head: `{part['review_head']}`." if part["review_head"] else ""
        told.append(f"Decision{where}: **{part['decision']}**.{head}")
        rows = [
            (
                f"`{check['metric']}`",
                f"{check['rule']} {check['threshold']:g}",
                f"{check['k']:g} of {check['n']}",
                _bounds(check),
                str(check["verdict"]),
            )
            for check in part["checks"]
        ]
        if rows:
            names = ("metric", "rule", "counted", "value and bounds", "verdict")
            told.append(write_table(names, rows))
    return "\n\n".join(told) or "No gate decided about these rows."


def _of_run(manifest: Manifest, part: Manifest) -> str:
    return "".join(f" of {run}" for run in _name_run(manifest, part))


def _bounds(check: Mapping[str, Any]) -> str:
    if check.get("value") is None:
        return ""
    shown = f"{check['value']:.4g}"
    if check.get("lower") is None or check.get("upper") is None:
        return shown
    return f"{shown} ({check['lower']:.4g} to {check['upper']:.4g})"


def _are_several(manifest: Manifest) -> bool:
    return len(manifest["parts"]) > 1


def _name_run(manifest: Manifest, part: Manifest) -> tuple[str, ...]:
    """The run's name where there are several, else nothing."""
    return (f"`{part['run']}`",) if _are_several(manifest) else ()


def describe_judges(manifest: Manifest) -> str:
    """Who scored the rows, by which text, and how far people agreed."""
    rows = []
    for part in manifest["parts"]:
        for judge in part["judges"]:
            models = ", ".join(f"`{model}`" for model in judge["models"])
            rubric = f"`{judge['rubric']}` `{str(judge['rubric_hash'])[:12]}`"
            shown = rubric if judge["rubric"] else ""
            rows.append((f"`{judge['id']}`", models, shown, _agreement(judge["calibration"])))
    if not rows:
        return "No judge scored these rows; checks alone did, where there were any."
    head = ("judge", "model", "rubric and its hash", "agreement with people")
    return write_table(head, list(dict.fromkeys(rows)))


def _agreement(found: Manifest | None) -> str:
    if not found:
        return "not measured"
    kappa = found["kappa"]
    return f"kappa {kappa['value']:.2f} (at least {kappa['lower']:.2f}, {found['n']} labels)"


def describe_prices(manifest: Manifest) -> str:
    """What the runs cost, by role, and what tokens cost then."""
    spent: Counter[str] = Counter()
    risked = 0
    for part in manifest["parts"]:
        spent.update(part["cost_nano"])
        risked += sum(part["at_risk_nano"].values())
    own = manifest["rows"]["train"] + manifest["rows"]["validation"]
    own -= sum(one["rows"] for one in manifest.get("mixed", ()))
    if not spent.total():
        cost = "Nothing was paid to a provider."
    else:
        each = f" (${spent.total() / NANO / own:.6f} per packaged row)" if own else ""
        by_role = ", ".join(f"{role} ${nano / NANO:.4f}" for role, nano in sorted(spent.items()))
        cost = f"${spent.total() / NANO:.4f} in all{each}: {by_role}."
    if risked:
        cost += f" ${risked / NANO:.4f} more may have been billed for replies that were lost."
    rows = list(dict.fromkeys(_prices(manifest)))
    head = ("role", "model", "$ per million tokens in", "out", "known on")
    return f"{cost}\n\n{write_table(head, rows)}" if rows else cost


def _prices(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    for part in manifest["parts"]:
        for role, told in part["models"].items():
            if rates := told["usd_per_million"]:
                shown = (f"{rates['input']:g}", f"{rates['output']:g}", told["priced_on"] or "")
                yield (f"`{role}`", f"`{told['model']}`", *shown)


def describe_sources(manifest: Manifest) -> str:
    """What the rows were written from, and under which licence."""
    rows = []
    for part in manifest["parts"]:
        if source := part["source"]:
            licence = source.get("licence") or "not stated: ask before you publish"
            rows.append((f"`{source['path']}`", f"`{source['fingerprint'][:12]}`", licence))
    if not rows:
        return "The rows were written from no source, but from a prompt alone."
    return write_table(("source", "SHA-256", "licence"), list(dict.fromkeys(rows)))


def describe_mix(manifest: Manifest) -> str:
    """What was put among the runs' own rows; the column `mixed_from` marks it."""
    rows = [
        (
            f"`{one['path']}`",
            one["licence"],
            f"{one['rows']:,} of {one['wanted']:,} wanted ({one['share']:.0%})",
            ", ".join(f"{n:,} {reason}" for reason, n in one["dropped"].items()),
        )
        for one in manifest["mixed"]
    ]
    table = write_table(("file", "licence", "rows", "left out"), rows)
    return (
        f"These rows were not made by a run; the column `mixed_from` names their file.\n\n{table}"
    )


def write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
