"""Measures a folder of weights for the model card: `python -m nexa_tiny.measure --weights DIR`."""

import argparse
import itertools
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from nexa_tiny import DATA_PATH, WEIGHTS_PATH
from nexa_tiny.corpus import Writer
from nexa_tiny.negatives import answer_nearly, answer_unrelated, blur_instruction
from nexa_tiny.packing import iter_rows
from nexa_tiny.sampling import Prompt, TinyModel, read_prompt

SEED = 99
"""No training document comes from this seed."""
MAX_TOKENS = 80
ACCEPT_AT = 0.5
TEMPERATURES = (0.0, 0.3, 0.5, 0.7, 1.0, 1.3)
NUCLEI = (1.0, 0.9)
PROMPT_NAMES = {
    "propose": "bootstrap/instruction",
    "respond": "bootstrap/response",
    "clear": "critic/instruction",
    "pair": "critic/pair",
}


def contains(answer: str, text: str) -> bool:
    """Whether the answer stands in the text as whole words, whatever its case."""
    return re.search(rf"(?<!\w){re.escape(answer.casefold())}(?!\w)", text.casefold()) is not None


def measure_loss(tiny: TinyModel, rows: int) -> float:
    """Mean next-token loss in nats over packed rows of documents the model has not seen."""
    total, count = 0.0, 0
    for row in itertools.islice(iter_rows(tiny.tokenizer, SEED), rows):
        ids = torch.tensor([row.ids])
        with torch.inference_mode():
            logits = tiny.model(input_ids=ids[:, :-1]).logits[0]
        total += cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += len(row.ids) - 1
    return total / count


def measure_answers(
    tiny: TinyModel, response: Prompt, items: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """Greedy accuracy on held-out items: few-shot, and for the bare instruction line."""
    stop = response.settings["stop"]
    shots = tiny.complete(
        [response.render(instruction=i["instruction"]) for i in items], stop, MAX_TOKENS
    )
    bare = tiny.complete([i["instruction"] + "\n" for i in items], ["\n"], MAX_TOKENS)
    right = [
        contains(i["answer"], response.trim(o.text)) for i, o in zip(items, shots, strict=True)
    ]
    topics = sorted({i["topic"] for i in items})
    return {
        "items": len(items),
        "few_shot": statistics.fmean(right),
        "zero_shot": statistics.fmean(
            contains(i["answer"], o.text) for i, o in zip(items, bare, strict=True)
        ),
        "few_shot_by_topic": {
            topic: statistics.fmean(
                r for i, r in zip(items, right, strict=True) if i["topic"] == topic
            )
            for topic in topics
        },
    }


def _draw_instruction(writer: Writer, good: bool) -> dict[str, str]:
    fact = writer.draw_fact()
    if good:
        return {"instruction": writer.ask(fact)}
    phrasing = writer.rng.choice(writer.phrasings[fact])
    return {
        "instruction": blur_instruction(writer.rng, fact, phrasing, writer.ask(writer.draw_fact()))
    }


def _draw_pair(writer: Writer, kind: str) -> dict[str, str]:
    fact = writer.draw_fact()
    instruction = writer.ask(fact)
    responses: dict[str, Callable[[], str]] = {
        "good": lambda: writer.answer(fact),
        "unrelated": lambda: answer_unrelated(writer.rng, instruction, writer.draw_stranger(fact)),
        "near_miss": lambda: answer_nearly(writer.rng, fact, writer.draw_sibling(fact)),
    }
    return {"instruction": instruction, "response": responses[kind]()}


def _describe(good: Sequence[float], bad: Sequence[float]) -> dict[str, float]:
    """Balanced accuracy at zero, and what the pipeline's threshold lets through."""
    return {
        "accuracy": (sum(s > 0 for s in good) / len(good) + sum(s <= 0 for s in bad) / len(bad))
        / 2,
        "good_accepted": statistics.fmean(s >= ACCEPT_AT for s in good),
        "bad_accepted": statistics.fmean(s >= ACCEPT_AT for s in bad),
    }


def measure_critics(tiny: TinyModel, prompts: dict[str, Prompt], rows: int) -> dict[str, Any]:
    """Both critics, label orders averaged, on rows of an unseen seed; `rows` of every kind."""
    writer = Writer(SEED)
    clear, blurred = (
        tiny.judge(prompts["clear"], [_draw_instruction(writer, good) for _ in range(rows)])
        for good in (True, False)
    )
    good, unrelated, near = (
        tiny.judge(prompts["pair"], [_draw_pair(writer, kind) for _ in range(rows)])
        for kind in ("good", "unrelated", "near_miss")
    )
    return {
        "rows_of_each_kind": rows,
        "instruction": _describe(clear, blurred),
        "pair_unrelated": _describe(good, unrelated),
        "pair_near_miss": _describe(good, near),
    }


def measure_proposals(tiny: TinyModel, prompts: dict[str, Prompt], rows: int) -> dict[str, Any]:
    """What the bootstrap pipeline's first two steps give at its shipped settings."""
    torch.manual_seed(SEED)
    propose = prompts["propose"]
    knobs = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.05}
    outputs = tiny.complete([propose.render()] * rows, propose.settings["stop"], 48, **knobs)
    texts = [propose.trim(output.text) for output in outputs]
    scores = tiny.judge(prompts["clear"], [{"instruction": text} for text in texts])
    return {
        "rows": rows,
        "distinct_rate": len(set(texts)) / rows,
        "accepted_as_clear": statistics.fmean(score >= ACCEPT_AT for score in scores),
    }


def measure_sampling(tiny: TinyModel, response: Prompt, rows: int) -> list[dict[str, float]]:
    """How responses end, and whether they are right, for every temperature and top_p."""
    writer = Writer(SEED + 1)
    facts = [writer.draw_fact() for _ in range(rows)]
    texts = [response.render(instruction=writer.ask(fact)) for fact in facts]
    table = []
    for temperature, top_p in itertools.product(TEMPERATURES, NUCLEI):
        if temperature == 0 and top_p < 1:
            continue
        torch.manual_seed(SEED)
        knobs = {"temperature": temperature, "top_p": top_p} if temperature else {}
        outputs = tiny.complete(texts, response.settings["stop"], MAX_TOKENS, **knobs)
        answers = [response.trim(output.text) for output in outputs]
        table.append(
            {
                "temperature": temperature,
                "top_p": top_p,
                "runaway_rate": statistics.fmean(response.runs_away(o.text) for o in outputs),
                "token_limit_rate": statistics.fmean(o.hit_limit for o in outputs),
                "median_tokens": statistics.median(o.tokens for o in outputs),
                "right": statistics.fmean(
                    contains(f.answer, a) for f, a in zip(facts, answers, strict=True)
                ),
            }
        )
    return table


def measure(weights: Path, prompts_path: Path, rows: int) -> dict[str, Any]:
    """Every figure of the card; `rows` is the number of generated rows of each kind."""
    torch.set_num_threads(2)
    tiny = TinyModel(weights)
    prompts = {key: read_prompt(prompts_path / f"{name}.md") for key, name in PROMPT_NAMES.items()}
    items = [
        json.loads(line) for line in (DATA_PATH / "heldout.jsonl").read_text("utf-8").splitlines()
    ]
    return {
        "parameters": tiny.model.num_parameters(),
        "heldout_loss": {"rows": rows, "nats_per_token": measure_loss(tiny, rows)},
        "answers": measure_answers(tiny, prompts["respond"], items),
        "critics": measure_critics(tiny, prompts, rows),
        "proposals": measure_proposals(tiny, prompts, rows),
        "sampling": {"rows": rows, "table": measure_sampling(tiny, prompts["respond"], rows)},
    }


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS_PATH)
    parser.add_argument("--prompts", type=Path, default=Path("prompts"))
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--out", type=Path, default=DATA_PATH / "measured.json")
    arguments = parser.parse_args()
    started = time.monotonic()
    figures = measure(arguments.weights, arguments.prompts, arguments.rows)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(json.dumps(figures, indent=2), f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
