"""The seeded generator of training documents, accidents of text in the wild included."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from nexa_tiny.heldout import taught_phrasings
from nexa_tiny.negatives import answer_nearly, answer_unrelated, blur_instruction
from nexa_tiny.phrasings import write_instruction, write_response
from nexa_tiny.tables import Fact

DELIMITER = "\n###\n"
MISSED_DELIMITER_RATE = 0.125
RAMBLE_RATE = 0.05
INSTRUCTION_QUESTION = "Is the instruction clear and answerable?"
PAIR_QUESTION = "Does the response answer the instruction correctly?"

_LIST_HEADS = (
    "Clear science instructions, one per line:",
    "A list of short science questions and tasks.",
    "Instructions for a science quiz:",
)
_RECORD_HEADS = (
    "Science records: each instruction is followed by one short response.",
    "Instructions and their responses.",
    "A data set of science answers:",
)
_REMARKS = (
    "This is found in most tables.",
    "It is often asked in school.",
    "The value was measured many times.",
    "Some books round it in another way.",
    "It was agreed on by a committee.",
    "Students learn it in the first year.",
    "The history of it is long.",
    "There is more to say about this.",
    "Engineers use it every day.",
    "As one can see, it depends on the source.",
    "In the last century it was not known.",
    "A table at the end of the book lists it again.",
)


@dataclass(frozen=True)
class Mix:
    """What a stage of training reads.

    `kinds` are the shares of lists, records, instruction critics and pair critics. A critic's
    verdict is the letter of an option (`lettered` of the documents) or a word. Of the lettered
    documents `leaning` put yes at A more often than not (`lean`), and `spelled` write the word
    before the letter: judging and finding the letter are hard to learn at once, and with both label
    orders equally frequent neither is any use without the other.
    """

    kinds: tuple[float, float, float, float]
    lettered: float
    leaning: float = 0.0
    lean: float = 0.5
    spelled: float = 0.0


JUDGING = Mix((0.12, 0.40, 0.16, 0.32), 0.6)
LEANING = Mix((0.08, 0.22, 0.30, 0.40), 0.85, leaning=0.5, lean=0.85, spelled=0.15)
BALANCED = Mix((0.06, 0.20, 0.26, 0.48), 0.9, leaning=0.3, lean=0.75, spelled=0.1)


class Writer:
    """Writes documents from one random generator, so that a seed fixes every one of them."""

    def __init__(self, seed: int, mix: Mix = JUDGING) -> None:
        self.rng = random.Random(seed)
        self.mix = mix
        self.a_is_yes, self.spelled = 0.5, 0.0
        self.phrasings = taught_phrasings()
        self.families: dict[str, list[Fact]] = {}
        for fact in self.phrasings:
            self.families.setdefault(fact.family, []).append(fact)
        # Small families get more than their share, or their facts would hardly be seen.
        self.weights = [len(facts) ** 0.5 for facts in self.families.values()]

    def draw_fact(self) -> Fact:
        """A fact of a family drawn by the root of its size."""
        return self.rng.choice(self.rng.choices(list(self.families.values()), self.weights)[0])

    def draw_sibling(self, fact: Fact) -> Fact:
        """A fact of the same family with another answer."""
        return self.rng.choice(
            [other for other in self.families[fact.family] if other.answer != fact.answer]
        )

    def draw_stranger(self, fact: Fact) -> Fact:
        """A fact of another family that does not state this one the other way round."""
        while (
            other := self.draw_fact()
        ).family == fact.family or fact.answer in other.fields.values():
            pass
        return other

    def ask(self, fact: Fact) -> str:
        """The fact asked in one of the phrasings the corpus may use."""
        return write_instruction(fact, self.rng.choice(self.phrasings[fact]))

    def answer(self, fact: Fact) -> str:
        """The fact stated in any of its responses."""
        return write_response(fact, self.rng.randrange(2))

    def write_list(self) -> str:
        """One instruction per line: after a bare instruction the model expects another."""
        lines = list(
            dict.fromkeys(self.ask(self.draw_fact()) for _ in range(self.rng.randint(5, 14)))
        )
        if self.rng.random() < 0.5:
            return "\n".join(lines) + "\n"
        head = self.rng.choice((*_LIST_HEADS, ""))
        numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
        return f"{head}\n{numbered}\n" if head else f"{numbered}\n"

    def write_records(self) -> str:
        """Records; each may miss its delimiter or ramble, whatever the others did."""
        head = self.rng.choice((*_RECORD_HEADS, ""))
        count = self.rng.randint(3, 7)
        facts = [self.draw_fact() for _ in range(count)]
        return (f"{head}\n" if head else "") + "".join(self.write_record(fact) for fact in facts)

    def write_record(self, fact: Fact) -> str:
        """One record; now and then its response has no delimiter, or goes on and on."""
        record = f"Instruction: {self.ask(fact)}\nResponse: {self.answer(fact)}"
        chance = self.rng.random()
        if chance < MISSED_DELIMITER_RATE:
            return record + self._leak(fact)
        if chance < MISSED_DELIMITER_RATE + RAMBLE_RATE:
            remarks = [
                self.rng.choice(_REMARKS) for _ in range(self.rng.choice((1, 2, 3, 4, 6, 9, 14)))
            ]
            return f"{record} {' '.join(remarks)}{DELIMITER}"
        return record + DELIMITER

    def _leak(self, fact: Fact) -> str:
        """What follows a missed delimiter: a record in this format or another data set's."""
        kind = self.rng.randrange(3)
        if kind == 0:
            return "\n"
        if kind == 1:
            other = self.draw_fact()
            return f"\nInput: {self.ask(other)}\nOutput: {self.answer(other)}{DELIMITER}"
        return f"\nResponse: {self.answer(fact)}{DELIMITER}"

    def _draw_form(self) -> bool:
        """Whether the document's verdicts are letters; and how often A is yes, and words are spelled."""
        if self.mix.leaning:
            self.a_is_yes = self.mix.lean if self.rng.random() < self.mix.leaning else 0.5
            self.spelled = 1.0 if self.rng.random() < self.mix.spelled else 0.0
        return self.rng.random() < self.mix.lettered

    def write_instruction_critic(self) -> str:
        """Records on whether an instruction is clear."""
        lettered = self._draw_form()
        return "".join(self._judge_instruction(lettered) for _ in range(self.rng.randint(3, 7)))

    def _judge_instruction(self, lettered: bool) -> str:
        fact, good = self.draw_fact(), self.rng.random() < 0.5
        if good:
            instruction = self.ask(fact)
        else:
            phrasing = self.rng.choice(self.phrasings[fact])
            other = self.ask(self.draw_fact())
            instruction = blur_instruction(self.rng, fact, phrasing, other)
        verdict = self._write_verdict(good, lettered)
        return f"Instruction: {instruction}\n{INSTRUCTION_QUESTION}\n{verdict}"

    def write_pair_critic(self) -> str:
        """Records on whether a response answers its instruction."""
        lettered = self._draw_form()
        return "".join(self._judge_pair(lettered) for _ in range(self.rng.randint(3, 6)))

    def _judge_pair(self, lettered: bool) -> str:
        fact, good = self.draw_fact(), self.rng.random() < 0.5
        instruction = self.ask(fact)
        if good:
            response = self.answer(fact)
        elif self.rng.random() < 0.7:
            response = answer_unrelated(self.rng, instruction, self.draw_stranger(fact))
        else:
            response = answer_nearly(self.rng, fact, self.draw_sibling(fact))
        pair = f"Instruction: {instruction}\nResponse: {response}"
        return f"{pair}\n{PAIR_QUESTION}\n{self._write_verdict(good, lettered)}"

    def _write_verdict(self, good: bool, lettered: bool) -> str:
        """The answer in words, or as one of two options whose order is drawn per record."""
        word = "yes" if good else "no"
        if not lettered:
            return f"Answer: {word}{DELIMITER}"
        a_is_yes = self.rng.random() < self.a_is_yes
        a, b = ("yes", "no") if a_is_yes else ("no", "yes")
        spelled = bool(self.mix.spelled) and self.rng.random() < self.spelled
        hint = f"The right word is {word}.\n" if spelled else ""
        return f"A) {a}\nB) {b}\n{hint}Answer: {'A' if good == a_is_yes else 'B'}{DELIMITER}"


def iter_documents(seed: int, mix: Mix = JUDGING) -> Iterator[str]:
    """Documents without end; the same seed and mix give the same ones."""
    writer = Writer(seed, mix)
    writers = [
        writer.write_list,
        writer.write_records,
        writer.write_instruction_critic,
        writer.write_pair_critic,
    ]
    while True:
        yield writer.rng.choices(writers, mix.kinds)[0]()
