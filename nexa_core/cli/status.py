"""`nexa status`: where a run stands, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nexa_core.cli import output
from nexa_core.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command(cls=Command)
@click.argument("run", default="latest")
@pass_session
def status(session: Session, run: str) -> None:
    """Show where a run stands.

    Reads what the run has written down, and disturbs nothing. Without RUN: the latest.
    """
    from nexa_core.actions.inspecting import read_run

    output.answer(session.as_json, read_run(run, session.workspace), show_run)


def show_run(run: Mapping[str, Any]) -> RenderableType:
    """A run on one screen: head, phases, decisions, rows, money."""
    from nexa_core.cli import look
    from nexa_core.cli.trail import show_decisions

    said = [one["reason"] for one in run["decisions"][-1:]]
    return look.stack(
        _head(run),
        look.say(run["reason"], "dim") if run["reason"] not in ("", *said) else None,
        _phases(run),
        show_decisions(run["decisions"]) if run["decisions"] else None,
        _rows(run) if run["rows"] else None,
        look.blank(),
        _costs(run),
        *_mixes(run),
    )


def _head(run: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look
    from nexa_core.figures import show_age

    word = run["status"]
    process = f" by process {run['pid']}" if run["pid"] else ""
    return look.line(
        (run["run"], "bold"),
        "  ",
        (word, look.style_of(word)),
        (f"{process}  begun {show_age(run['created_at'])}", "dim"),
        (f", last sign {show_age(run['updated_at'])}", "dim"),
    )


def _phases(run: Mapping[str, Any]) -> RenderableType | None:
    from nexa_core.cli import look
    from nexa_core.figures import show_span

    parts: list[object] = []
    for name, seconds in run["phases"].items():
        parts += [f"{name} ", (show_span(seconds) if seconds is not None else "…", "dim"), "   "]
    return look.line(*parts) if parts else None


def _rows(run: Mapping[str, Any]) -> RenderableType:
    """The yield as a waterfall: what every reason took, and what was left after it."""
    from nexa_core.cli import look
    from nexa_core.figures import show_count, show_share
    from nexa_core.phrases import tell_retried

    total = left = sum(run["rows"].values())
    rows: list[tuple[object, ...]] = [("made", show_count(total), "", _bar(1.0), "100.0 %")]
    for reason, number in run["reasons"].items():
        left -= number
        share = left / total
        rows.append(
            (reason, look.say(f"−{number:,}", "yellow"), "", _bar(share), show_share(share))
        )
    surplus = run["rows"].get("surplus", 0)
    if surplus:
        rows.append((look.say("surplus", "dim"), look.say(f"−{surplus:,}", "dim"), "", "", ""))
    accepted = run["rows"].get("accepted", 0)
    number, share = show_count(accepted), accepted / total
    rows.append(
        (
            look.say("accepted", "green"),
            look.say(number, "green"),
            "",
            _bar(share),
            show_share(share),
        )
    )
    told = tell_retried(run["rows"], run["retried"])
    return look.block(
        "Rows", look.columns(rows, right=(1, 4)), look.say(told, "dim") if told else None
    )


def _bar(share: float, width: int = 24) -> str:
    return "━" * max(round(share * width), 1 if share > 0 else 0)


def _mixes(run: Mapping[str, Any]) -> list[RenderableType]:
    """Who served a role, where it was more than one."""
    from nexa_core.cli import look
    from nexa_core.figures import show_share

    lines: list[RenderableType] = []
    for role, servers in run["served"].items():
        if len(servers) > 1:
            total, ranked = sum(servers.values()), sorted(servers.items(), key=lambda s: -s[1])
            parts = [f"{server} {show_share(number / total)}" for server, number in ranked]
            lines.append(look.say(f"Served {role}: {' · '.join(parts)}", "dim"))
    return lines


def _costs(run: Mapping[str, Any]) -> RenderableType:
    from nexa_core.cli import look
    from nexa_core.figures import show_count, show_usd

    calls = run["calls"]
    parts = [f"{show_count(calls.get(key, 0))} {key}" for key in ("asked", "replayed", "reused")]
    text = f"Calls {' · '.join(parts)}"
    if run["cost_usd"]:
        accepted = run["rows"].get("accepted", 0)
        each = f" ({show_usd(run['cost_usd'] / accepted)} per accepted row)" if accepted else ""
        text += f"   {show_usd(run['cost_usd'])}{each}"
    if run["rows_per_second"]:
        text += f"   {run['rows_per_second']:,g} rows/s"
    return look.say(text, "dim")
