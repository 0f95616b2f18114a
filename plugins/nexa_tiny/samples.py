"""The shipped sample files: evaluation items, prompts for a teacher, and answered instructions.

`python -m nexa_tiny.samples --out DIR` writes them again, byte for byte.
"""

import argparse
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from nexa_tiny.heldout import list_items, taught_phrasings
from nexa_tiny.phrasings import write_instruction, write_response
from nexa_tiny.tables import Fact, load_facts

SEED = 7
PROMPTS = 1000
ANSWERS = 300
_PER_SUBJECT = 4
_SUBJECTS_PATH = Path(__file__).parent / "data" / "subjects.json"

_TEMPLATES = {
    "law": (
        "State {subject} precisely and name the conditions under which it holds.",
        "Describe an experiment that demonstrates {subject}, including what is measured and how.",
        "Explain {subject} to a first-year student and work through one numerical example.",
        "Where does {subject} fail, and what has to be used instead?",
        "Which misconception about {subject} is common, and how would you correct it?",
        "Show how an engineer relies on {subject} when designing something real.",
    ),
    "process": (
        "Explain step by step what happens in {subject}.",
        "Which factors control {subject}, and in which direction does each of them act?",
        "How is {subject} observed or measured in practice?",
        "Give two examples of why {subject} matters outside the laboratory, and explain each.",
        "What evidence supports the present explanation of {subject}?",
        "Which simplifications does a model of {subject} make, and when do they break down?",
    ),
    "method": (
        "Explain the working principle of {subject}.",
        "Which sources of error limit {subject}, and how can each of them be reduced?",
        "When would you choose {subject} over an alternative, and when would you not?",
        "Describe the use of {subject} from preparation to the final result.",
        "Which question can {subject} not answer, and why?",
        "How would you check that a result obtained with {subject} can be trusted?",
    ),
    "thing": (
        "Describe the structure of {subject} and explain how it leads to its behaviour.",
        "Where is {subject} found or made, and under which conditions?",
        "Name three facts about {subject} that surprise most students, and explain each.",
        "How do scientists study {subject}, and what remains uncertain?",
        "Compare {subject} with something that resembles it and explain the differences.",
        "Which properties of {subject} matter most, and what do they depend on?",
    ),
    "quantity": (
        "Define {subject} and explain what a high or a low value tells a scientist.",
        "How is {subject} determined experimentally, and how large is the typical uncertainty?",
        "Which numerical values of {subject} are realistic, and where do they come from?",
        "Which other quantities does {subject} depend on, and how strongly?",
        "Describe a practical decision that depends on knowing {subject}.",
        "Why is {subject} easily misinterpreted, and how can this be avoided?",
    ),
}


def list_prompts() -> list[dict[str, str]]:
    """1,000 different open questions, four about each subject: `id, topic, prompt`."""
    rng = random.Random(SEED)
    questions = [
        (topic, template.format(subject=subject))
        for topic, kinds in json.loads(_SUBJECTS_PATH.read_text("utf-8")).items()
        for kind, subjects in kinds.items()
        for subject in subjects
        for template in rng.sample(_TEMPLATES[kind], _PER_SUBJECT)
    ]
    rng.shuffle(questions)
    return [
        {"id": f"science-{number:04d}", "topic": topic, "prompt": prompt}
        for number, (topic, prompt) in enumerate(questions, start=1)
    ]


def _group_facts() -> list[list[Fact]]:
    """The facts about one element, unit, metal or method at a time."""
    sizes = {"elements": 5, "units": 3, "materials": 4, "methods": 3}
    groups = []
    for topic, size in sizes.items():
        facts = [fact for fact in load_facts() if fact.topic == topic]
        groups += [facts[start : start + size] for start in range(0, len(facts), size)]
    return groups


def _states_same(fact: Fact, other: Fact) -> bool:
    """Whether the two say one thing in both directions (symbol of iron, element of Fe)."""
    return fact.answer in other.fields.values() and other.answer in fact.fields.values()


def _pair_facts(rng: random.Random, group: list[Fact]) -> list[tuple[Fact, Fact]]:
    """Each fact with a second one to add, no two of them paired twice."""
    pairs: list[tuple[Fact, Fact]] = []
    for fact in rng.sample(group, len(group)):
        fresh = [more for more in group if more is not fact and (more, fact) not in pairs]
        fresh = [more for more in fresh if not _states_same(fact, more)]
        pairs += [(fact, rng.choice(fresh))] if fresh else []
    return pairs


def list_answers() -> list[dict[str, str]]:
    """300 instructions with a correct response of two sentences, none twice: `id, instruction, response`."""
    rng = random.Random(SEED)
    pairs = [p for _ in range(3) for group in _group_facts() for p in _pair_facts(rng, group)]
    told: dict[str, str] = {}
    for fact, more in rng.sample(pairs, len(pairs)):
        response = f"{write_response(fact, rng.randrange(2))} {write_response(more, 0)}"
        told.setdefault(response, write_instruction(fact, rng.choice(taught_phrasings()[fact])))
    chosen = list(told.items())[:ANSWERS]
    return [
        {"id": f"answer-{number:03d}", "instruction": instruction, "response": response}
        for number, (response, instruction) in enumerate(chosen, start=1)
    ]


def write_samples(folder: Path) -> None:
    """Write the three files into the folder."""
    files: Mapping[str, Iterable[Mapping[str, str]]] = {
        "heldout.jsonl": list_items(),
        "science_prompts.jsonl": list_prompts(),
        "answers.jsonl": list_answers(),
    }
    for name, rows in files.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(lines, "utf-8")


def main() -> None:
    """Write the sample files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    write_samples(parser.parse_args().out)


if __name__ == "__main__":
    main()
