"""The seeded generator of nexa-tiny's training documents, accidents of text in the wild included."""

import random
from collections.abc import Iterator

from nexa_tiny.heldout import taught_phrasings
from nexa_tiny.negatives import answer_nearly, answer_unrelated, blur_instruction
from nexa_tiny.phrasings import write_instruction, write_response
from nexa_tiny.tables import Fact

DELIMITER = "\n###\n"
MISSED_DELIMITER_RATE = 0.125
RAMBLE_RATE = 0.05
INSTRUCTION_QUESTION = "Is the instruction clear and answerable?"
PAIR_QUESTION = "Does the response answer the instruction correctly?"

# Share of documents of each kind; critic records carry most, as comparing is harder than recalling.
_KINDS = {"list": 0.17, "records": 0.33, "instruction_critic": 0.17, "pair_critic": 0.33}
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


class Writer:
    """Writes documents from one random generator, so that a seed fixes every one of them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
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
        return write_response(fact, self.rng.randrange(3))

    def write_list(self) -> str:
        """One instruction per line, numbered or plain, so that a bare instruction line calls for more instructions."""
        lines = list(
            dict.fromkeys(self.ask(self.draw_fact()) for _ in range(self.rng.randint(5, 14)))
        )
        if self.rng.random() < 0.5:
            return "\n".join(lines) + "\n"
        head = self.rng.choice((*_LIST_HEADS, ""))
        numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
        return f"{head}\n{numbered}\n" if head else f"{numbered}\n"

    def write_records(self) -> str:
        """Instruction/response records; each may miss its delimiter or ramble, whatever the others did."""
        head = self.rng.choice((*_RECORD_HEADS, ""))
        count = self.rng.randint(4, 9)
        facts = [self.draw_fact() for _ in range(count)]
        return (f"{head}\n" if head else "") + "".join(self._write_record(fact) for fact in facts)

    def _write_record(self, fact: Fact) -> str:
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
        """What follows a response without a delimiter: the next record, in this or another data set's format."""
        kind = self.rng.randrange(3)
        if kind == 0:
            return "\n"
        if kind == 1:
            other = self.draw_fact()
            return f"\nInput: {self.ask(other)}\nOutput: {self.answer(other)}{DELIMITER}"
        return f"\nResponse: {self.answer(fact)}{DELIMITER}"

    def write_instruction_critic(self) -> str:
        """A/B records on whether an instruction is clear, the label order drawn per record."""
        return "".join(self._judge_instruction() for _ in range(self.rng.randint(3, 7)))

    def _judge_instruction(self) -> str:
        fact, good = self.draw_fact(), self.rng.random() < 0.5
        if good:
            instruction = self.ask(fact)
        else:
            phrasing = self.rng.choice(self.phrasings[fact])
            instruction = blur_instruction(self.rng, fact, phrasing, self.ask(self.draw_fact()))
        return f"Instruction: {instruction}\n{INSTRUCTION_QUESTION}\n{self._label(good)}"

    def write_pair_critic(self) -> str:
        """A/B records on whether a response answers its instruction, the label order drawn per record."""
        return "".join(self._judge_pair() for _ in range(self.rng.randint(3, 6)))

    def _judge_pair(self) -> str:
        fact, good = self.draw_fact(), self.rng.random() < 0.5
        instruction = self.ask(fact)
        if good:
            response = self.answer(fact)
        elif self.rng.random() < 0.4:
            response = answer_unrelated(self.rng, instruction, self.draw_stranger(fact))
        else:
            response = answer_nearly(self.rng, fact, self.draw_sibling(fact))
        return f"Instruction: {instruction}\nResponse: {response}\n{PAIR_QUESTION}\n{self._label(good)}"

    def _label(self, good: bool) -> str:
        a_is_yes = self.rng.random() < 0.5
        a, b = ("yes", "no") if a_is_yes else ("no", "yes")
        return f"A) {a}\nB) {b}\nAnswer: {'A' if good == a_is_yes else 'B'}{DELIMITER}"


def iter_documents(seed: int) -> Iterator[str]:
    """Documents without end; the same seed gives the same ones."""
    writer = Writer(seed)
    writers = [
        writer.write_list,
        writer.write_records,
        writer.write_instruction_critic,
        writer.write_pair_critic,
    ]
    while True:
        yield writer.rng.choices(writers, list(_KINDS.values()))[0]()
