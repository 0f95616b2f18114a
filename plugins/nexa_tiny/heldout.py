"""Which phrasings of which facts stay out of the corpus, and the items made of them."""

import random
from functools import lru_cache

from nexa_tiny.phrasings import PHRASINGS, write_instruction
from nexa_tiny.tables import Fact, load_facts

SEED = 20_260
PER_TOPIC = {"elements": 45, "units": 20, "materials": 24, "mechanics": 60, "methods": 20}
"""Held-out items per topic: one phrasing each of that many facts."""

SHOWN = frozenset(
    {
        "What is the chemical symbol of copper?",
        "What work does a force of 6 N do over a distance of 3 m?",
        "At what temperature does lead melt?",
        "Name the SI unit used for energy.",
        "What does the Rockwell test measure?",
    }
)
"""Instructions that the few-shot prompts answer."""

# `contains` would find these by accident: they are English words once case is ignored.
_WORDS = {"be", "he", "in", "as", "at", "no", "i", "am", "so"}


def is_distinctive(fact: Fact) -> bool:
    """Whether the answer is never met by accident: no single letter, no English word."""
    answer = fact.answer.casefold()
    spelled = " ".join(value for _, value in fact.slots).casefold()
    return len(answer) >= 2 and answer not in _WORDS and answer not in spelled


@lru_cache(maxsize=1)
def hold_out() -> tuple[tuple[Fact, int], ...]:
    """The held-out (fact, phrasing) pairs, at most one phrasing of a fact, in table order."""
    rng = random.Random(SEED)
    pairs: list[tuple[Fact, int]] = []
    for topic, count in PER_TOPIC.items():
        eligible = [fact for fact in load_facts() if fact.topic == topic and is_distinctive(fact)]
        chosen = set(rng.sample(range(len(eligible)), count))
        pairs += [
            (fact, rng.randrange(len(PHRASINGS[fact.family].instructions)))
            for index, fact in enumerate(eligible)
            if index in chosen
        ]
    return tuple(pairs)


@lru_cache(maxsize=1)
def taught_phrasings() -> dict[Fact, tuple[int, ...]]:
    """For every fact, the phrasings the corpus may use."""
    held = dict(hold_out())
    return {
        fact: tuple(
            i for i in range(len(PHRASINGS[fact.family].instructions)) if i != held.get(fact)
        )
        for fact in load_facts()
    }


def list_items() -> list[dict[str, str]]:
    """The held-out evaluation items: `id, instruction, answer, topic`; none that a prompt shows."""
    unseen = [
        (fact, phrasing)
        for fact, phrasing in hold_out()
        if write_instruction(fact, phrasing) not in SHOWN
    ]
    return [
        {
            "id": f"heldout-{number:04d}",
            "instruction": write_instruction(fact, phrasing),
            "answer": fact.answer,
            "topic": fact.topic,
        }
        for number, (fact, phrasing) in enumerate(unseen, start=1)
    ]
