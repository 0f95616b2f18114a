"""How instructions become unclear and responses become wrong, for the critic records."""

import random

from nexa_tiny.phrasings import PHRASINGS, capitalise, write_instruction, write_response
from nexa_tiny.tables import METALS, METHODS, UNITS, Fact

_POINTERS = (
    "it",
    "this one",
    "that",
    "the thing",
    "the one mentioned above",
    "the same one",
    "the other",
)
_VAGUE_VERBS = (
    "Explain",
    "Describe",
    "Do",
    "Solve",
    "Continue",
    "Give",
    "State",
    "Repeat",
    "Find",
    "Answer",
)
_VAGUE_OBJECTS = (
    "that again",
    "the usual thing",
    "the question above",
    "the rest of it",
    "what was said before",
    "the answer",
    "the same as last time",
    "the one we talked about",
    "more",
    "it in the other way",
)
_NON_ANSWERS = (
    "I do not know.",
    "This cannot be said.",
    "See the table above.",
    "It depends.",
    "None.",
    "As mentioned before.",
    "The answer is in the book.",
    "Please ask again later.",
)
# A slot filled from another topic makes a question without an answer: "the density of voltage".
_FOREIGN = {
    "name": tuple(quantity for quantity, _, _ in UNITS)
    + tuple(f"the {method}" for method, _, _ in METHODS),
    "quantity": tuple(metal[0] for metal in METALS)
    + tuple(f"the {method}" for method, _, _ in METHODS),
    "unit": tuple(metal[0] for metal in METALS) + tuple(method for method, _, _ in METHODS),
    "method": tuple(metal[0] for metal in METALS) + tuple(quantity for quantity, _, _ in UNITS),
    "standard": tuple(metal[0] for metal in METALS) + tuple(unit for _, unit, _ in UNITS),
    "symbol": tuple(f"of the {method}" for method, _, _ in METHODS),
    "number": tuple(unit for _, unit, _ in UNITS),
    "a": ("some", "many", "a few"),
    "b": ("some", "many", "a few"),
}


def _refill(rng: random.Random, fact: Fact, phrasing: int, values: tuple[str, ...] | None) -> str:
    slot = rng.choice(fact.slots)[0]
    value = rng.choice(values or _FOREIGN[slot])
    template = PHRASINGS[fact.family].instructions[phrasing]
    return capitalise(template.format(**{**fact.fields, slot: value}))


def _count_answerable(words: list[str], fact: Fact) -> int:
    """The fewest leading words with every slot: a cut before loses what is asked about."""
    values = [value.casefold() for _, value in fact.slots]
    for count in range(2, len(words)):
        start = " ".join(words[:count]).casefold()
        if all(value in start for value in values):
            return count
    return len(words)


def blur_instruction(rng: random.Random, fact: Fact, phrasing: int, other: str) -> str:
    """An instruction nobody can answer, made from a good one; `other` is a second good one."""
    words = write_instruction(fact, phrasing).split()
    half, other_words = len(words) // 2, other.split()
    kind = rng.choice(("cut", "shuffled", "pointer", "statement", "vague"))
    if kind == "cut":
        return " ".join(words[: rng.randrange(1, _count_answerable(words, fact))])
    if kind == "shuffled":
        return capitalise(" ".join(rng.sample(words, len(words))))
    if kind == "pointer":
        return _refill(rng, fact, phrasing, _POINTERS)
    if kind == "statement":
        return write_response(fact, rng.randrange(2))
    if kind == "vague":
        return f"{rng.choice(_VAGUE_VERBS)} {rng.choice(_VAGUE_OBJECTS)}."
    if kind == "foreign":
        return _refill(rng, fact, phrasing, None)
    return " ".join(words[:half] + other_words[: max(2, len(other_words) // 2)])


def answer_unrelated(rng: random.Random, instruction: str, other: Fact) -> str:
    """A response off the subject: another fact's, none at all, or an echo."""
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(_NON_ANSWERS)
    if kind < 0.25:
        return instruction
    return write_response(other, rng.randrange(2))


def answer_nearly(rng: random.Random, fact: Fact, sibling: Fact) -> str:
    """A near miss: the sibling's answer said of this fact, or the sibling's own response."""
    if rng.random() < 0.3:
        return write_response(sibling, rng.choice((0, 1)))
    wrong = Fact(fact.topic, fact.family, fact.slots, sibling.answer)
    return write_response(wrong, rng.randrange(2))
