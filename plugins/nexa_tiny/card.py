"""Writes the measured figures into the model card: `python -m nexa_tiny.card`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nexa_tiny import DATA_PATH

CARD_PATH = Path(__file__).parent / "README.md"
_START, _END = "<!-- measured: written by nexa_tiny.card -->", "<!-- end of measured -->"
_SAMPLING_HEADER = ["temperature", "top_p", "runaway", "token limit", "right", "median tokens"]


def format_rate(rate: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * rate:.1f} %"


def _format_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list_answers(figures: dict[str, Any]) -> list[list[str]]:
    loss, answers = figures["heldout_loss"], figures["answers"]
    items = f"{answers['items']} held-out items, greedy"
    by_topic = answers["few_shot_by_topic"].items()
    return [
        [
            "held-out loss, nats per token",
            f"{loss['nats_per_token']:.3f}",
            f"{loss['rows']} packed rows",
        ],
        ["few-shot answers right", format_rate(answers["few_shot"]), items],
        *([f"– {topic}", format_rate(rate), ""] for topic, rate in by_topic),
        ["bare-instruction answers right", format_rate(answers["zero_shot"]), items],
    ]


def _list_critics(figures: dict[str, Any]) -> list[list[str]]:
    critics, rates = figures["critics"], ("accuracy", "good_accepted", "bad_accepted")
    names = {
        "instruction": "instruction critic, blurred instructions",
        "pair_unrelated": "pair critic, unrelated answers",
        "pair_near_miss": "pair critic, near misses",
    }
    return [
        [name, *(format_rate(critics[key][rate]) for rate in rates)] for key, name in names.items()
    ]


def _list_sampling(figures: dict[str, Any]) -> list[list[str]]:
    rates = ("runaway_rate", "token_limit_rate", "right")
    return [
        [
            str(row["temperature"]),
            str(row["top_p"]),
            *(format_rate(row[rate]) for rate in rates),
            f"{row['median_tokens']:g}",
        ]
        for row in figures["sampling"]["table"]
    ]


def render(figures: dict[str, Any]) -> str:
    """The card's tables in Markdown."""
    critics, proposals, sampling = figures["critics"], figures["proposals"], figures["sampling"]
    distinct, clear = (
        format_rate(proposals[key]) for key in ("distinct_rate", "accepted_as_clear")
    )
    critic_rows = critics["rows_of_each_kind"]
    critic_header = ["critic", "accuracy", "good accepted", "bad accepted"]
    critics_text = f"""Critics, both label orders averaged, {critic_rows} rows of each kind.
Accuracy is balanced and cut at 0, acceptance is at the pipeline's 0.5 nats."""
    proposals_text = f"""Of {proposals["rows"]} instructions proposed at temperature 0.7, top_p 0.9 and
repetition penalty 1.05, {distinct} are distinct and {clear} are accepted as clear."""
    sampling_text = f"""Responses to {sampling["rows"]} instructions of an unseen seed, at most
80 tokens each, without repetition penalty:"""
    parts = [
        f"{figures['parameters']:,} parameters.",
        _format_table(["measure", "value", "over"], _list_answers(figures)),
        critics_text,
        _format_table(critic_header, _list_critics(figures)),
        proposals_text,
        sampling_text,
        _format_table(_SAMPLING_HEADER, _list_sampling(figures)),
    ]
    return "\n\n".join(parts)


def write_card(path: Path = CARD_PATH) -> str:
    """The card's text with the figures of `data/measured.json` between its markers."""
    figures = json.loads((DATA_PATH / "measured.json").read_text("utf-8"))
    before, rest = path.read_text("utf-8").split(_START)
    after = rest.split(_END)[1]
    return f"{before}{_START}\n\n{render(figures)}\n\n{_END}{after}"


if __name__ == "__main__":
    CARD_PATH.write_text(write_card(), "utf-8")
