"""A review record in lines and in words: what the screen of the gate shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.content import Content

from nexa_core.figures import show_count, show_number, show_percent, show_usd
from nexa_core.tui.ink import BLANK, ends, fit, ink, style_of, wrap
from nexa_core.tui.widgets.gauge import draw_checks
from nexa_core.tui.widgets.pane import Part

if TYPE_CHECKING:
    from nexa_core.actions.gauging import Gauge

__all__ = [
    "Item",
    "describe_space",
    "draw_head",
    "explain",
    "list_items",
    "space_items",
    "tell_change",
    "tell_look",
    "tell_opinion",
]

DIM = "$foreground 60%"


@dataclass(frozen=True)
class Item:
    """A line of the screen; what it stands for is told below it."""

    kind: str
    """heading, rule, opinion, change or look."""
    line: Content
    about: Any = None


def draw_head(
    review: Mapping[str, Any],
    reviews: Sequence[Mapping[str, Any]],
    width: int,
    following: Content = BLANK,
) -> list[Content]:
    """Which look it is, what was decided, what follows, and why."""
    word = str(review["decision"])
    waits = ("  waits for you", "bold $warning") if _is_open(review, reviews) else ""
    title = ink((word, style_of(word)), waits, "  ", following)
    at = ink(
        (f"{_name_place(review)}{_name_most(review)}", ""),
        (f" · {show_count(review['look']['rows'])} rows", DIM),
        (f" · look {review['number']} of {len(reviews)}", DIM),
    )
    return [ends(title, at, width), *wrap(str(review["reason"]), width, 2)]


def _is_open(review: Mapping[str, Any], reviews: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a record still waits for a person: not where a signature came after it."""
    return bool(review.get("waiting")) and review is reviews[-1]


def _name_place(review: Mapping[str, Any]) -> str:
    """What was decided on: an iteration of the pilot, or a phase after it."""
    pilot = review["phase"] == "pilot"
    return f"iteration {review['iteration']}" if pilot else str(review["phase"])


def _name_most(review: Mapping[str, Any]) -> str:
    return f" of {review['max_iterations']}" if review["phase"] == "pilot" else ""


def list_items(
    review: Mapping[str, Any], reviews: Sequence[Mapping[str, Any]], width: int
) -> list[Item]:
    """Everything that a record holds, a line each, under its headings."""
    from nexa_core.actions.gauging import gauge_of

    gauges = [gauge_of(check) for check in review["checks"]]
    lines = draw_checks(gauges, width)
    items = [_heading("Evidence")]
    items += [Item("rule", line, gauge) for line, gauge in zip(lines, gauges, strict=True)]
    if review["opinions"]:
        items += [_heading("Reviewers")]
        items += [Item("opinion", draw_opinion(one), one) for one in review["opinions"]]
    if review["changes"]:
        title = "Proposed" if review.get("waiting") else "Changed"
        items += [_heading(title)]
        items += [Item("change", draw_change(*one), one) for one in review["changes"].items()]
    items += [_heading("History")]
    items += [Item("look", draw_look(one), one) for one in reviews]
    return items


def space_items(items: Sequence[Item]) -> list[Item]:
    """The same with an empty line before every heading but the first."""
    spaced: list[Item] = []
    for item in items:
        if item.kind == "heading" and spaced:
            spaced.append(Item("heading", BLANK))
        spaced.append(item)
    return spaced


def _heading(text: str) -> Item:
    return Item("heading", ink((text, f"bold {DIM}")))


def draw_opinion(opinion: Mapping[str, Any]) -> Content:
    """Who, what, and why, on one line."""
    says = "vetoes" if opinion.get("veto") else "proposes" if opinion.get("changes") else "says"
    if opinion.get("waits"):
        says = "asks you"
    style = "$warning" if says in ("vetoes", "asks you") else "$accent"
    cites = ", ".join(map(str, opinion.get("cites") or ()))
    cited = f"   cites {cites}" if cites else ""
    return ink(
        (f"{opinion['reviewer']} ", "bold"), (f"{says}  ", style), opinion["reason"], (cited, DIM)
    )


def draw_change(path: str, pair: Sequence[Any]) -> Content:
    """A parameter, from what to what."""
    old, new = pair
    return ink(f"{path}  ", (show_number(old), DIM), (" → ", DIM), (show_number(new), "bold"))


def draw_look(review: Mapping[str, Any]) -> Content:
    """A decision in the history."""
    word = str(review["decision"])
    signer = (review.get("signature") or {}).get("signer")
    changes = ", ".join(
        f"{path.rpartition('.')[2]} {show_number(old)}→{show_number(new)}"
        for path, (old, new) in review["changes"].items()
    )
    return ink(
        (f"{review['number']:>2}  {_name_place(review):<11}  ", DIM),
        fit(ink((word, style_of(word))), 8),
        (f"{show_count(review['look']['rows']):>6} rows  ", DIM),
        (f"signed by {signer}  " if signer else "", "$accent"),
        changes,
    )


def explain(gauge: Gauge, review: Mapping[str, Any] | None) -> str:
    """A rule in plain words: what was measured, how sure, what would pass."""
    from nexa_core.actions.gauging import explain_gauge

    gate = review["gate"] if review is not None and review["method"] == "gate" else None
    return explain_gauge(gauge, gate)


def tell_opinion(opinion: Mapping[str, Any]) -> list[Part]:
    """An opinion in full."""
    parts: list[Part] = [str(opinion["reason"])]
    if opinion.get("cites"):
        parts += [BLANK, ink(("cites  ", DIM), ", ".join(map(str, opinion["cites"])))]
    for path, value in (opinion.get("changes") or {}).items():
        parts.append(ink(("wants  ", DIM), f"{path} = ", (show_number(value), "bold")))
    raw = opinion.get("raw") or {}
    for name, value in raw.items():
        parts += [BLANK, ink((str(name), DIM)), str(value)]
    return parts


def tell_change(change: tuple[str, Sequence[Any]], review: Mapping[str, Any]) -> list[Part]:
    """A parameter's change, and how far it may move."""
    path, (old, new) = change
    space = review.get("search_space", {}).get(path, {})
    return [
        ink((path, "bold")),
        ink(("from   ", DIM), show_number(old)),
        ink(("to     ", DIM), (show_number(new), "bold")),
        ink(("range  ", DIM), describe_space(space)),
        str(review.get("patch_reason") or ""),
    ]


def describe_space(space: Mapping[str, Any]) -> str:
    """How far a parameter may move."""
    if "choices" in space:
        return "one of " + ", ".join(map(str, space["choices"]))
    if "min" in space:
        return f"{show_number(float(space['min']))} to {show_number(float(space['max']))}"
    return "not tunable"


def tell_look(review: Mapping[str, Any]) -> list[Part]:
    """A record's own facts."""
    gate = review["gate"]
    parts: list[Part] = [str(review["reason"]), BLANK]
    signature = review.get("signature")
    if signature:
        told = f"{signature['signer']}, {signature['signed_at']}: {signature['reason']}"
        parts.append(ink(("signed  ", DIM), told))
    parts += [
        ink(("gate    ", DIM), f"{gate['gate']}  ", (str(review["gate_hash"])[:16], DIM)),
        ink(("level   ", DIM), show_percent(review["look"]["alpha"]), (" of this iteration", DIM)),
        ink(("at      ", DIM), str(review["created_at"])),
        ink(("record  ", DIM), str(review["hash"])[:32]),
    ]
    if review.get("cost_nano"):
        parts.append(ink(("cost    ", DIM), show_usd(review["cost_nano"] / 1e9)))
    parts += [ink(("refused ", DIM), told) for told in review.get("refused", ())]
    return parts
