"""Decisions of a gate in plain words: the trail of records, and one of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType

from nexa_core.cli import look
from nexa_core.cli.trail import show_changes, show_checks
from nexa_core.errors import UsageError
from nexa_core.gates import Gate, describe
from nexa_core.records import GateCheck, Verdict
from nexa_core.reviews import Review, find_author
from nexa_core.reviews.markdown import explain_check, tell_track

__all__ = ["choose_record", "show_record", "show_trail"]


def choose_record(records: Sequence[Review], number: int | None = None) -> Review:
    """The record of that number, else the last.

    Raises:
        UsageError: There is none.
    """
    if not records:
        raise UsageError(
            "The gate has decided nothing yet.", "`nexa status` says where the run is."
        )
    if number is None:
        return records[-1]
    found = next((review for review in records if review.number == number), None)
    if found is None:
        raise UsageError(f"There is no record {number}.", f"Records 1 to {records[-1].number} are.")
    return found


def show_trail(records: Sequence[Review], number: int | None = None) -> RenderableType:
    """A line for each record before the chosen one, and that one in full."""
    if not records:
        return look.say("The gate has decided nothing yet.")
    chosen = choose_record(records, number)
    before = [_line(review) for review in records if review.number < chosen.number]
    trail = look.stack(look.columns(before), look.blank()) if before else None
    return look.stack(trail, show_record(chosen))


def show_record(review: Review) -> RenderableType:
    """One record: the decision, the rules with what would have passed, who said what, what is next."""
    return look.stack(
        look.line(
            (f"Record {review.number}  ", "bold"),
            (review.decision, look.style_of(review.decision)),
            ("  waits for a person", "bold yellow") if review.waiting else "",
            f"  {_where(review)}",
        ),
        look.inset(look.say(review.reason)),
        look.block("Measured", show_checks(review.checks), look.blank(), *_explain(review)),
        look.block("Reviewers", *_opinions(review)) if review.opinions or review.refused else None,
        look.block(_name_changes(review), *show_changes(review.changes))
        if review.changes
        else None,
        look.block("Earlier proposals", *map(look.say, map(tell_track, review.track)))
        if review.track
        else None,
        _next(review),
    )


def _line(review: Review) -> Sequence[object]:
    word = look.say(review.decision.ljust(7), look.style_of(review.decision))
    return (f"{review.number}", _where(review), word, review.reason)


def _where(review: Review) -> str:
    if review.phase != "pilot":
        return f"after {review.phase}"
    return f"iteration {review.iteration} of {review.max_iterations}, {review.look.rows:,} rows"


def _explain(review: Review) -> list[RenderableType]:
    """A sentence for each rule, those that do not pass first."""
    rules = {(rule.key, rule.hard): rule for rule in Gate.from_json(review.gate).rules}
    checks = [GateCheck(**{**c, "verdict": Verdict(c["verdict"])}) for c in review.checks]
    checks.sort(key=lambda check: (not check.hard, check.verdict is Verdict.PASS))
    told = []
    for check in checks:
        rule = rules.get((check.metric, check.hard)) if review.method == "gate" else None
        text = explain_check(check, rule) if rule else describe(check)
        told.append(look.quote("·", text, "" if check.verdict is not Verdict.PASS else "dim"))
    return told


def _opinions(review: Review) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for opinion in review.opinions:
        said = " vetoes" if opinion["veto"] else ""
        cites = f" Cites {', '.join(opinion['cites'])}." if opinion["cites"] else ""
        parts.append(
            look.stack(
                look.say(f"{opinion['reviewer']}{said}", "cyan"),
                look.inset(look.say(f"{opinion['reason']}{cites}")),
            )
        )
    return [*parts, *(look.say(told, "yellow") for told in review.refused)]


def _name_changes(review: Review) -> str:
    by = find_author(review)
    verb = "Proposed" if review.waiting else "Changed"
    return f"{verb} by {by}" if by else verb


def _next(review: Review) -> RenderableType | None:
    if review.decision == "STOP" and review.signature is None and review.phase == "pilot":
        again = (f"nexa run FILE --reuse {review.run}", "bold")
        over = (f'nexa gate sign {review.run} --proceed --reason "…"', "bold")
        return look.block(
            "To go on",
            look.line(
                again, ("   with what was learned; replies it has are not asked again", "dim")
            ),
            look.line(over, ("   overrides, and marks everything made later", "dim")),
        )
    lines: list[tuple[str, Any]] = [(line, "bold") for line in list_signing_lines(review)]
    return look.block("To decide", *(look.line(line) for line in lines)) if lines else None


def list_signing_lines(review: Review) -> list[str]:
    """What a person types who decides what waits for one; nothing where nothing waits."""
    if not review.waiting:
        return []
    sign = f"nexa gate sign {review.run}"
    lines = [f'{sign} --proceed --reason "…"', f'{sign} --stop --reason "…"']
    if review.phase == "pilot" and review.iteration < review.max_iterations:
        paths = [path for path in review.search_space if path not in review.changes]
        more = "" if review.changes or not paths else f" --set {paths[0]}=…"
        lines.insert(0, f'{sign} --iterate --reason "…"{more}')
    return [*lines, f"nexa resume {review.run}"]
