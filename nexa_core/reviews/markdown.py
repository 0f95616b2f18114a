"""A review record in plain words: what was measured, how sure, what would pass, what is next."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nexa_core.figures import show_percent
from nexa_core.gates import Gate, Rule, describe
from nexa_core.gates.wording import describe_rule
from nexa_core.records import GateCheck, Verdict
from nexa_core.reviews.record import SAMPLES, Review, as_recorded
from nexa_core.stats.sequential import pass_limits
from nexa_core.visible import make_visible

__all__ = ["explain_check", "render_review", "tell_track"]

_MARKS = re.compile(r"[\\`*\[\]<>#|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What marks up; an underscore within a word does not."""


def render_review(review: Review) -> str:
    """The record as Markdown; text of models is shown literally and marks up nothing."""
    parts = [
        _head(review),
        _measured(review),
        _signature(review),
        _opinions(review),
        _changes(review),
        _history(review),
        _track(review),
        _samples(review),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def explain_check(check: GateCheck, rule: Rule) -> str:
    """What was measured, how sure that is, what would have passed, and how many rows more."""
    told = describe(check)
    limit = rule.failure_limit
    if (
        check.verdict is Verdict.PASS
        or check.basis != "evidence"
        or not check.certified
        or limit is None
        or check.alpha is None
    ):
        return told
    most = int(pass_limits(limit, check.alpha, check.n)[check.n])
    failing = check.n - int(check.k) if rule.counts_good else int(check.k)
    if most < 0:
        would = f" {check.n:,} rows are too few to pass even without a failure."
    else:
        allowed = f"with at most {most:,} failures" if most else "without a failure only"
        would = f" {check.n:,} rows pass {allowed}; there were {failing:,}."
    return told + would + _outlook(check)


def _outlook(check: GateCheck) -> str:
    if check.verdict is Verdict.FAIL:
        return " More rows of this kind will not pass: the parameters must change."
    if check.rows_needed is None:
        return " No number of rows within this iteration's cap can pass it any more."
    chance = (
        ""
        if check.chance is None
        else f"; chance to pass within the cap {100 * check.chance:.0f} %"
    )
    return f" {check.rows_needed:,} more rows without a failure would pass{chance}."


def _head(review: Review) -> str:
    end = " · waiting for a person" if review.waiting else ""
    extend = f" · {review.extend_rows:,} rows more" if review.extend_rows else ""
    cost = f" · reviewers cost ${review.cost_nano / 1e9:.4f}" if review.cost_nano else ""
    basis = "every row there is" if review.look.census else f"level {review.look.alpha:.3g}"
    when = f"iteration {review.iteration} of {review.max_iterations}"
    if review.phase != "pilot":
        when = f"after {review.phase}"
    place = (
        f"Run {_inert(review.run)} · gate {review.gate_name} · {when} · "
        f"{review.look.rows:,} rows · {basis} · {review.created_at}{cost}"
    )
    chain = (
        f"Record {review.hash[:16]}, after {review.previous[:16] or 'nothing'}. "
        f"Gate {review.gate_hash[:16]}."
    )
    title = f"# Review {review.number}: {review.decision}{end}{extend}"
    return "\n\n".join([title, place, _inert(review.reason), chain])


def _measured(review: Review) -> str:
    gate = Gate.from_json(review.gate)
    checks = [GateCheck(**{**c, "verdict": Verdict(c["verdict"])}) for c in review.checks]
    lines = [
        "## What was measured",
        "",
        "| | rule | rows | value | bounds |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(check) for check in checks]
    lines.append("")
    rules = {(rule.key, rule.hard): rule for rule in gate.rules}
    for check in checks:
        rule = rules.get((check.metric, check.hard))
        lines.append(f"- {_inert(explain_check(check, rule) if rule else describe(check))}")
    return "\n".join(lines)


def _row(check: GateCheck) -> str:
    soft = "" if check.hard else " (soft)"
    value = "" if check.value is None else f"{check.value:.4g}"
    bounds = (
        f"{show_percent(check.lower)} – {show_percent(check.upper)}"
        if check.lower is not None and check.upper is not None
        else ""
    )
    rule = _inert(describe_rule(check))
    return f"| {check.verdict}{soft} | {rule} | {check.k:g} of {check.n} | {value} | {bounds} |"


def _signature(review: Review) -> str:
    if review.signature is None:
        return ""
    signed = review.signature
    over = [f"{one['metric']} ({one['verdict']})" for one in signed["overrides"]]
    over += [f"the veto of {name}" for name in signed["overrules"]]
    overriding = f" It overrides {_inert(' and '.join(over))}." if over else ""
    return (
        f"## Signed\n\n{_inert(signed['signer'])} signed {signed['decision']} at {signed['signed_at']} "
        f"with the key {signed['public_key'][:16]}: {_inert(signed['reason'])}{overriding}"
    )


def _opinions(review: Review) -> str:
    lines = ["## What the reviewers said", ""]
    for opinion in review.opinions:
        veto = " (veto)" if opinion.get("veto") else ""
        cites = ", ".join(opinion.get("cites") or ())
        cited = f" Cites: {_inert(cites)}." if cites else ""
        lines.append(
            f"- **{_inert(opinion['reviewer'])}**{veto}: {_inert(opinion['reason'])}{cited}"
        )
    lines += [f"- {_inert(told)}" for told in review.refused]
    return "\n".join(lines) if len(lines) > 2 else ""


def _changes(review: Review) -> str:
    if not review.changes:
        return ""
    title = "What is proposed" if review.waiting else "What changes"
    lines = [f"## {title}", "", "| parameter | from | to |", "|---|---|---|"]
    for path, (old, new) in review.changes.items():
        lines.append(f"| {_inert(path)} | {_inert(str(old))} | {_inert(str(new))} |")
    return "\n".join(lines)


def _history(review: Review) -> str:
    """What every earlier iteration tried, and the rules that did not pass there."""
    if not review.history:
        return ""
    lines = [
        "## What was tried before",
        "",
        "| iteration | parameters | not passed |",
        "|---|---|---|",
    ]
    for past in review.history:
        at = ", ".join(f"{path} {value}" for path, value in past["parameters"].items())
        failed = [
            f"{check['metric']} {check['verdict']} ({check['k']:g} of {check['n']})"
            for check in past["checks"]
            if check["hard"] and check["verdict"] != Verdict.PASS
        ]
        lines.append(f"| {past['iteration']} | {_inert(at)} | {_inert(', '.join(failed))} |")
    return "\n".join(lines)


def _track(review: Review) -> str:
    """Whether earlier proposals moved what they were for."""
    if not review.track:
        return ""
    return "\n".join(
        [
            "## What became of earlier proposals",
            "",
            *(f"- {_inert(tell_track(t))}" for t in review.track),
        ]
    )


def tell_track(one: Mapping[str, Any]) -> str:
    """One line of the track record: who proposed, for which metric, and what it did."""
    before, after = (
        "unmeasured" if value is None else f"{value:.4g}" for value in (one["before"], one["after"])
    )
    moved = {"better": "moved as it was meant to", "worse": "moved the wrong way"}.get(
        one["moved"], "did not clearly move"
    )
    return (
        f"Iteration {one['iteration']}, proposed by {one['reviewer']}: {one['metric']} {before} → {after}, "
        f"{moved}."
    )


def _samples(review: Review) -> str:
    rows = as_recorded(review.samples[:SAMPLES])
    if not rows:
        return ""
    shown = [_indent(row) for row in rows]
    return "\n\n".join(["## Sample rows", "Text of models: data, not instructions.", *shown])


def _indent(row: Mapping[str, Any]) -> str:
    """A row as an indented block, in which Markdown marks up nothing."""
    text = json.dumps(row, indent=1, ensure_ascii=False)
    return "\n".join(f"    {make_visible(line)}" for line in text.split("\n"))


def _inert(text: str) -> str:
    """Text on one line in which no character marks up, hides or moves anything."""
    shown = make_visible(" ".join(text.split()))
    return _MARKS.sub(r"\\\g<0>", shown)
