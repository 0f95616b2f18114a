"""How each family of facts is asked and answered: six instructions and three responses per family."""

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
            "How do chemists abbreviate {name}?",
            "Write down the symbol used for {name}.",
        ),
        (
            "The chemical symbol of {name} is {answer}.",
            "{name} has the symbol {answer}.",
            "Chemists write {name} as {answer}.",
        ),
    ),
    "element_number": Phrasing(
        (
            "What is the atomic number of {name}?",
            "Give the atomic number of {name}.",
            "How many protons does an atom of {name} have?",
            "State the number of protons in {name}.",
            "Which atomic number belongs to {name}?",
            "Find the place of {name} in the periodic table by its atomic number.",
        ),
        (
            "The atomic number of {name} is {answer}.",
            "{name} has the atomic number {answer}.",
            "An atom of {name} has {answer} protons.",
        ),
    ),
    "element_weight": Phrasing(
        (
            "What is the standard atomic weight of {name}?",
            "Give the atomic weight of {name} to one decimal place.",
            "State the relative atomic mass of {name}.",
            "How heavy is an average atom of {name} in atomic mass units?",
            "Which atomic weight is listed for {name}?",
            "Report the molar mass of {name} atoms in grams per mole.",
        ),
        (
            "The standard atomic weight of {name} is about {answer}.",
            "{name} has an atomic weight of {answer}.",
            "An average atom of {name} weighs {answer} atomic mass units.",
        ),
    ),
    "element_by_symbol": Phrasing(
        (
            "Which element has the symbol {symbol}?",
            "Name the element with the chemical symbol {symbol}.",
            "What element does the symbol {symbol} stand for?",
            "Identify the element written as {symbol}.",
            "Give the name of the element whose symbol is {symbol}.",
            "Chemists write an element as {symbol}. Which one is it?",
        ),
        (
            "The element with the symbol {symbol} is {answer}.",
            "{symbol} stands for {answer}.",
            "It is {answer}.",
        ),
    ),
    "element_by_number": Phrasing(
        (
            "Which element has the atomic number {number}?",
            "Name the element with atomic number {number}.",
            "Which element has {number} protons in its nucleus?",
            "Identify element number {number} of the periodic table.",
            "An atom has {number} protons. Which element is it?",
            "Give the name of element {number}.",
        ),
        (
            "The element with atomic number {number} is {answer}.",
            "Element {number} is {answer}.",
            "It is {answer}.",
        ),
    ),
    "unit_of_quantity": Phrasing(
        (
            "What is the SI unit of {quantity}?",
            "Name the SI unit used for {quantity}.",
            "In which SI unit is {quantity} measured?",
            "State the SI unit for {quantity}.",
            "Which unit does the SI use for {quantity}?",
            "Give the unit of {quantity} in the international system.",
        ),
        (
            "The SI unit of {quantity} is the {answer}.",
            "In the SI, {quantity} is measured in the unit {answer}.",
            "It is the {answer}.",
        ),
    ),
    "symbol_of_unit": Phrasing(
        (
            "What is the symbol of the unit {unit}?",
            "Give the symbol for the {unit}.",
            "How is the unit {unit} abbreviated?",
            "State the SI symbol of the {unit}.",
            "Which symbol stands for the {unit}?",
            "Write down the abbreviation of the unit {unit}.",
        ),
        (
            "The symbol of the {unit} is {answer}.",
            "The {unit} is written as {answer}.",
            "The unit {unit} has the symbol {answer}.",
        ),
    ),
    "quantity_of_unit": Phrasing(
        (
            "Which quantity is measured in the unit {unit}?",
            "What does the {unit} measure?",
            "Name the quantity whose SI unit is the {unit}.",
            "State the physical quantity given in the unit {unit}.",
            "For which quantity is the {unit} used?",
            "Identify the quantity that belongs to the unit {unit}.",
        ),
        (
            "The {unit} is the SI unit of {answer}.",
            "The {unit} measures {answer}.",
            "It is {answer}.",
        ),
    ),
    "metal_density": Phrasing(
        (
            "What is the density of {name}?",
            "Give the density of {name} in grams per cubic centimetre.",
            "How dense is {name}?",
            "State the density of solid {name} at room temperature.",
            "How many grams does one cubic centimetre of {name} weigh?",
            "Report the mass per volume of {name}.",
        ),
        (
            "The density of {name} is {answer} g/cm3.",
            "{name} has a density of {answer} g/cm3.",
            "One cubic centimetre of {name} weighs {answer} grams.",
        ),
    ),
    "metal_melting": Phrasing(
        (
            "What is the melting point of {name}?",
            "Give the melting point of {name} in degrees Celsius.",
            "At what temperature does {name} melt?",
            "State the temperature at which {name} becomes liquid.",
            "How hot must {name} be to melt?",
            "Report the melting temperature of {name}.",
        ),
        (
            "The melting point of {name} is {answer} degrees Celsius.",
            "{name} melts at {answer} degrees Celsius.",
            "At {answer} degrees Celsius {name} becomes liquid.",
        ),
    ),
    "metal_conductivity": Phrasing(
        (
            "What is the thermal conductivity of {name}?",
            "Give the thermal conductivity of {name} at room temperature.",
            "How well does {name} conduct heat?",
            "State the heat conductivity of {name} in W/(m K).",
            "Which thermal conductivity is listed for {name}?",
            "Report how many watts per metre kelvin {name} conducts.",
        ),
        (
            "The thermal conductivity of {name} is {answer} W/(m K).",
            "{name} conducts heat with {answer} W/(m K).",
            "It is {answer} W/(m K) for {name}.",
        ),
    ),
    "metal_structure": Phrasing(
        (
            "What is the crystal structure of {name}?",
            "Name the crystal structure of {name} at room temperature.",
            "How are the atoms of solid {name} arranged?",
            "State the crystal lattice of {name}.",
            "Which crystal structure does {name} have?",
            "Identify the lattice type of {name}.",
        ),
        (
            "The crystal structure of {name} is {answer}.",
            "{name} is {answer}.",
            "The atoms of {name} form a {answer} lattice.",
        ),
    ),
    "work": Phrasing(
        (
            "A force of {a} N moves a body {b} m along its direction. How much work is done?",
            "What work does a force of {a} N do over a distance of {b} m?",
            "Calculate the work done by {a} N acting over {b} m.",
            "A crate is pushed {b} m with a force of {a} N. Find the work.",
            "Compute the work for a force of {a} N and a distance of {b} m.",
            "How many joules of work does a push of {a} N over {b} m take?",
        ),
        (
            "The work is {a} N x {b} m = {answer}.",
            "Work is force times distance: {a} x {b} = {answer}.",
            "The work done is {answer}.",
        ),
    ),
    "force": Phrasing(
        (
            "A mass of {a} kg accelerates at {b} m/s2. What force acts on it?",
            "What force gives a mass of {a} kg an acceleration of {b} m/s2?",
            "Calculate the force on {a} kg accelerating at {b} m/s2.",
            "A cart of {a} kg speeds up by {b} m/s every second. Find the force.",
            "Compute the force for a mass of {a} kg and an acceleration of {b} m/s2.",
            "How many newtons accelerate {a} kg at {b} m/s2?",
        ),
        (
            "The force is {a} kg x {b} m/s2 = {answer}.",
            "Force is mass times acceleration: {a} x {b} = {answer}.",
            "The force is {answer}.",
        ),
    ),
    "momentum": Phrasing(
        (
            "A body of {a} kg moves at {b} m/s. What is its momentum?",
            "What is the momentum of a mass of {a} kg at {b} m/s?",
            "Calculate the momentum of {a} kg moving at {b} m/s.",
            "A ball of {a} kg rolls with {b} m/s. Find its momentum.",
            "Compute the momentum for a mass of {a} kg and a velocity of {b} m/s.",
            "How large is the momentum of a {a} kg cart at {b} m/s?",
        ),
        (
            "The momentum is {a} kg x {b} m/s = {answer}.",
            "Momentum is mass times velocity: {a} x {b} = {answer}.",
            "The momentum is {answer}.",
        ),
    ),
    "method_property": Phrasing(
        (
            "What does the {method} measure?",
            "Which property is found with the {method}?",
            "Name the property that the {method} determines.",
            "State what is measured by the {method}.",
            "What is the {method} used for?",
            "Identify the quantity obtained from the {method}.",
        ),
        (
            "The {method} measures {answer}.",
            "It is used to find {answer}.",
            "The {method} determines {answer}.",
        ),
    ),
    "method_standard": Phrasing(
        (
            "Which ASTM standard describes the {method}?",
            "Name the ASTM standard for the {method}.",
            "By which ASTM standard is the {method} done?",
            "State the ASTM designation of the {method}.",
            "Which ASTM document covers the {method}?",
            "Give the ASTM number of the {method}.",
        ),
        (
            "The {method} is described in {answer}.",
            "It is {answer}.",
            "{answer} covers the {method}.",
        ),
    ),
    "method_by_standard": Phrasing(
        (
            "Which test is described in {standard}?",
            "Name the test method covered by {standard}.",
            "What does {standard} describe?",
            "State the method that {standard} specifies.",
            "Which laboratory method follows {standard}?",
            "Identify the test behind the standard {standard}.",
        ),
        (
            "{standard} describes the {answer}.",
            "It is the {answer}.",
            "The method of {standard} is the {answer}.",
        ),
    ),
}


def capitalise(sentence: str) -> str:
    """The sentence with a capital first letter, the rest untouched (`str.capitalize` would lower symbols)."""
    return sentence[:1].upper() + sentence[1:]


def write_instruction(fact: Fact, phrasing: int) -> str:
    """The fact asked in its family's phrasing of that index."""
    return capitalise(PHRASINGS[fact.family].instructions[phrasing].format(**fact.fields))


def write_response(fact: Fact, phrasing: int) -> str:
    """The fact stated in its family's response of that index."""
    return capitalise(PHRASINGS[fact.family].responses[phrasing].format(**fact.fields))
