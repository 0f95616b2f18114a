"""How a run ended: its decisions, rows, results, where everything lies, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from nexa_core.cli import look
from nexa_core.cli.trail import show_decisions
from nexa_core.figures import show_count, show_number, show_share, show_span, show_usd

__all__ = ["next_command", "show_outcome"]

_ARMS = ("base", "base-few-shot", "tuned")
_ENDINGS = {
    "done": "is done",
    "stopped": "was stopped by its gate",
    "short": "came short",
    "waiting": "waits for a person or a machine",
    "budget": "has used up its budget",
    "interrupted": "was interrupted",
    "failed": "failed",
}


def show_outcome(outcome: Mapping[str, Any]) -> RenderableType:
    """The object that `--json` prints, for a person."""
    iterations = [{**one, "iteration": one["n"]} for one in outcome.get("iterations", [])]
    return look.stack(
        _head(outcome),
        look.say(reason) if (reason := _unsaid_reason(outcome)) else None,
        show_decisions(iterations, in_full=outcome["status"] != "done") if iterations else None,
        look.blank(),
        look.columns(_facts(outcome)),
        look.blank(),
        look.line(("Next  ", "dim"), (next_command(outcome), "bold")),
        *(look.line((word, "dim"), (line, "bold")) for word, line in _signing_lines(outcome)),
    )


def _unsaid_reason(outcome: Mapping[str, Any]) -> str:
    """Why the run ended as it did, unless its last decision says the same."""
    reason = str(outcome.get("reason") or "")
    said = [one.get("reason") for one in outcome.get("iterations", [])[-1:]]
    return "" if outcome["status"] == "done" or reason in said else reason


def next_command(outcome: Mapping[str, Any]) -> str:
    """What a person would most likely type now."""
    run, status = outcome["run"], outcome["status"]
    if status in ("stopped", "waiting"):
        return f"nexa gate show {run}"
    if status == "short":
        return f"nexa package {run} --allow-short"
    if status == "budget":
        return f"nexa resume {run} --set budget.usd=…"
    if status in ("interrupted", "failed"):
        return f"nexa resume {run}"
    phases = outcome.get("phases", {})
    if "evaluate" in phases or "train" in phases:
        return f"nexa report {run}"
    if list(phases) == ["pilot"] and not outcome.get("dataset"):
        return f"nexa query 'from rows limit 5' --run {run}"
    return f"nexa status {run}"


def _signing_lines(outcome: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a person types who decides what waits for one, each after its word."""
    if not _waits_for_signature(outcome):
        return []
    last = outcome["iterations"][-1]
    sign = f"nexa gate sign {outcome['run']}"
    lines = [("or    ", f'{sign} --{word} --reason "…"') for word in ("proceed", "stop")]
    if last["decision"] == "ITERATE" or last.get("changes"):
        more = "" if last.get("changes") else " --set PATH=…"
        lines.insert(0, ("or    ", f'{sign} --iterate --reason "…"{more}'))
    screens = ("or    ", f"nexa watch {outcome['run']}    see, sign and go on, on screens")
    return [*lines, ("then  ", f"nexa resume {outcome['run']}"), screens]


def _waits_for_signature(outcome: Mapping[str, Any]) -> bool:
    last = outcome.get("iterations", [])[-1:]
    return outcome["status"] == "waiting" and bool(last) and bool(last[0].get("waiting"))


def _head(outcome: Mapping[str, Any]) -> RenderableType:
    status = outcome["status"]
    told = _ENDINGS.get(status, status)
    if status == "waiting" and _waits_for_signature(outcome):
        told = "waits for your decision"
    return look.line(
        (outcome["run"], "bold"),
        " ",
        (told, look.style_of(status)),
        f" after {show_span(outcome['wall_s'])}",
    )


def _facts(outcome: Mapping[str, Any]) -> list[tuple[object, object]]:
    """Name and value of everything there is to say, in the order of the work."""
    facts: list[tuple[str, object]] = [("rows", _counts(outcome.get("rows", {})))]
    facts.append(("calls", _counts(outcome.get("calls", {}), every=True)))
    if spans := outcome.get("phases"):
        shown = (f"{name} {show_span(seconds)}" for name, seconds in spans.items())
        facts.append(("phases", "  ".join(shown)))
    cost, accepted = outcome.get("cost_usd", 0.0), outcome.get("rows", {}).get("accepted", 0)
    if cost:
        each = f" · {show_usd(cost / accepted)} per accepted row" if accepted else ""
        facts.append(("cost", f"{show_usd(cost)}{each}"))
    if risk := outcome.get("at_risk_usd"):
        facts.append(("at risk", f"{show_usd(risk)}: replies were lost that may have been billed"))
    if unpriced := outcome.get("unpriced"):
        facts.append(("not counted", f"{', '.join(unpriced)}: the price is unknown"))
    if training := outcome.get("training"):
        facts.append(("training", _training(training)))
    if evaluation := outcome.get("evaluation"):
        names = ("evaluation", "")
        facts += list(zip(names, _evaluation(evaluation), strict=False))
    places = {"dataset": outcome.get("dataset"), "report": outcome.get("report")}
    places["adapter"] = (outcome.get("training") or {}).get("adapter")
    facts += [(name, str(path)) for name, path in places.items() if path]
    return [(look.say(name, "dim"), value) for name, value in facts]


def _counts(counts: Mapping[str, int], every: bool = False) -> str:
    return " · ".join(f"{show_count(n)} {name}" for name, n in counts.items() if n or every)


def _training(training: Mapping[str, Any]) -> str:
    counts = [
        f"{show_count(training[name])} {name}" for name in ("rows", "steps") if name in training
    ]
    loss = [f"loss {show_number(training['loss'])}"] if "loss" in training else []
    return " · ".join([*counts, *loss])


def _evaluation(evaluation: Mapping[str, Any]) -> list[str]:
    """The arms, then base against tuned."""
    arms = [
        f"{name.replace('_', '-')} {show_share(value)}"
        for name, value in evaluation.items()
        if _is_accuracy(name, value)
    ]
    lines = [f"{'   '.join(arms)}   of {show_count(evaluation.get('n', 0))} items"]
    if "p_midp" in evaluation:
        low, high = evaluation["delta_low"], evaluation["delta_high"]
        lines.append(
            f"tuned − base {100 * low:+.1f} … {100 * high:+.1f} points, "
            f"mid-p {evaluation['p_midp']:.2g} ({evaluation['c']} won, {evaluation['b']} lost)"
        )
    return lines


def _is_accuracy(name: str, value: object) -> bool:
    return isinstance(value, float) and name.replace("_", "-") in _ARMS
