"""How each family of facts is asked and answered: four instructions, two responses."""

from typing import NamedTuple

from nexa_tiny.tables import Fact


class Phrasing(NamedTuple):
    """Templates over a fact's fields; every response states the fact in a full sentence."""

    instructions: tuple[str, ...]
    responses: tuple[str, ...]


PHRASINGS: dict[str, Phrasing] = {
    "element_symbol": Phrasing(
        (
            "What is the chemical symbol of {name}?",
            "Give the chemical symbol for {name}.",
            "Which symbol stands for {name} in the periodic table?",
            "State the symbol of the element {name}.",
        ),
        (
            "The chemical symbol of {name} is {answer}.",
            "{name} has the symbol {answer}.",
        ),
    ),
    "element_number": Phrasing(
        (
            "What is the atomic number of {name}?",
            "Give the atomic number of {name}.",
            "How many protons does an atom of {name} have?",
            "State the number of protons in {name}.",
        ),
        (
            "The atomic number of {name} is {answer}.",
            "{name} has the atomic number {answer}.",
        ),
    ),
    "unit_of_quantity": Phrasing(
        (
            "What is the SI unit of {quantity}?",
            "Name the SI unit used for {quantity}.",
            "In which SI unit is {quantity} measured?",
            "State the SI unit for {quantity}.",
        ),
        (
            "The SI unit of {quantity} is the {answer}.",
            "In the SI, {quantity} is measured in the unit {answer}.",
        ),
    ),
    "symbol_of_unit": Phrasing(
        (
            "What is the symbol of the unit {unit}?",
            "Give the symbol for the {unit}.",
            "How is the unit {unit} abbreviated?",
            "State the SI symbol of the {unit}.",
        ),
        (
            "The symbol of the {unit} is {answer}.",
            "The {unit} is written as {answer}.",
        ),
    ),
    "metal_melting": Phrasing(
        (
            "What is the melting point of {name}?",
            "Give the melting point of {name} in degrees Celsius.",
            "At what temperature does {name} melt?",
            "State the temperature at which {name} becomes liquid.",
        ),
        (
            "The melting point of {name} is {answer} degrees Celsius.",
            "{name} melts at {answer} degrees Celsius.",
        ),
    ),
    "metal_structure": Phrasing(
        (
            "What is the crystal structure of {name}?",
            "Name the crystal structure of {name} at room temperature.",
            "How are the atoms of solid {name} arranged?",
            "State the crystal lattice of {name}.",
        ),
        (
            "The crystal structure of {name} is {answer}.",
            "{name} is {answer}.",
        ),
    ),
    "work": Phrasing(
        (
            "A force of {a} N moves a body {b} m along its direction. How much work is done?",
            "What work does a force of {a} N do over a distance of {b} m?",
            "Calculate the work done by {a} N acting over {b} m.",
            "A crate is pushed {b} m with a force of {a} N. Find the work.",
        ),
        (
            "The work is {a} N x {b} m = {answer}.",
            "Work is force times distance: {a} x {b} = {answer}.",
        ),
    ),
    "method_property": Phrasing(
        (
            "What does the {method} measure?",
            "Which property is found with the {method}?",
            "Name the property that the {method} determines.",
            "State what is measured by the {method}.",
        ),
        (
            "The {method} measures {answer}.",
            "It is used to find {answer}.",
        ),
    ),
}


def capitalise(sentence: str) -> str:
    """The sentence with a capital first letter; `str.capitalize` would lower symbols."""
    return sentence[:1].upper() + sentence[1:]


def write_instruction(fact: Fact, phrasing: int) -> str:
    """The fact asked in its family's phrasing of that index."""
    return capitalise(PHRASINGS[fact.family].instructions[phrasing].format(**fact.fields))


def write_response(fact: Fact, phrasing: int) -> str:
    """The fact stated in its family's response of that index."""
    return capitalise(PHRASINGS[fact.family].responses[phrasing].format(**fact.fields))
