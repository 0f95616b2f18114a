"""The facts nexa-tiny is taught: elements, SI units, mechanics, metals and test methods."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Fact:
    """One answerable fact; `slots` fill the phrasings of its family, `answer` among them."""

    topic: str
    family: str
    slots: tuple[tuple[str, str], ...]
    answer: str

    @property
    def fields(self) -> dict[str, str]:
        """The template fields of this fact's phrasings."""
        return {**dict(self.slots), "answer": self.answer}


# Name, symbol, atomic number, standard atomic weight (CIAAW abridged values).
ELEMENTS: tuple[tuple[str, str, int, float], ...] = (
    ("hydrogen", "H", 1, 1.008),
    ("helium", "He", 2, 4.0026),
    ("lithium", "Li", 3, 6.94),
    ("beryllium", "Be", 4, 9.0122),
    ("boron", "B", 5, 10.81),
    ("carbon", "C", 6, 12.011),
    ("nitrogen", "N", 7, 14.007),
    ("oxygen", "O", 8, 15.999),
    ("fluorine", "F", 9, 18.998),
    ("neon", "Ne", 10, 20.180),
    ("sodium", "Na", 11, 22.990),
    ("magnesium", "Mg", 12, 24.305),
    ("aluminium", "Al", 13, 26.982),
    ("silicon", "Si", 14, 28.085),
    ("phosphorus", "P", 15, 30.974),
    ("sulfur", "S", 16, 32.06),
    ("chlorine", "Cl", 17, 35.45),
    ("argon", "Ar", 18, 39.95),
    ("potassium", "K", 19, 39.098),
    ("calcium", "Ca", 20, 40.078),
    ("titanium", "Ti", 22, 47.867),
    ("chromium", "Cr", 24, 51.996),
    ("manganese", "Mn", 25, 54.938),
    ("iron", "Fe", 26, 55.845),
    ("cobalt", "Co", 27, 58.933),
    ("nickel", "Ni", 28, 58.693),
    ("copper", "Cu", 29, 63.546),
    ("zinc", "Zn", 30, 65.38),
    ("bromine", "Br", 35, 79.904),
    ("krypton", "Kr", 36, 83.798),
    ("silver", "Ag", 47, 107.87),
    ("tin", "Sn", 50, 118.71),
    ("iodine", "I", 53, 126.90),
    ("barium", "Ba", 56, 137.33),
    ("tungsten", "W", 74, 183.84),
    ("platinum", "Pt", 78, 195.08),
    ("gold", "Au", 79, 196.97),
    ("mercury", "Hg", 80, 200.59),
    ("lead", "Pb", 82, 207.2),
    ("uranium", "U", 92, 238.03),
)

# Quantity, SI unit, unit symbol (SI brochure, 9th edition, tables 2 and 4).
UNITS: tuple[tuple[str, str, str], ...] = (
    ("length", "metre", "m"),
    ("mass", "kilogram", "kg"),
    ("time", "second", "s"),
    ("electric current", "ampere", "A"),
    ("thermodynamic temperature", "kelvin", "K"),
    ("amount of substance", "mole", "mol"),
    ("luminous intensity", "candela", "cd"),
    ("frequency", "hertz", "Hz"),
    ("force", "newton", "N"),
    ("pressure", "pascal", "Pa"),
    ("energy", "joule", "J"),
    ("power", "watt", "W"),
    ("electric charge", "coulomb", "C"),
    ("voltage", "volt", "V"),
    ("capacitance", "farad", "F"),
    ("electrical resistance", "ohm", "Ω"),
    ("electrical conductance", "siemens", "S"),
    ("radioactive activity", "becquerel", "Bq"),
)

# Metal, density g/cm3, melting point °C, thermal conductivity W/(m K), crystal structure; the
# values that vary with temperature hold near 20 °C.
METALS: tuple[tuple[str, float, int, int, str], ...] = (
    ("aluminium", 2.70, 660, 237, "face-centred cubic"),
    ("copper", 8.96, 1085, 401, "face-centred cubic"),
    ("iron", 7.87, 1538, 80, "body-centred cubic"),
    ("gold", 19.3, 1064, 318, "face-centred cubic"),
    ("silver", 10.5, 962, 429, "face-centred cubic"),
    ("lead", 11.3, 327, 35, "face-centred cubic"),
    ("tungsten", 19.3, 3414, 173, "body-centred cubic"),
    ("titanium", 4.51, 1668, 22, "hexagonal close-packed"),
    ("nickel", 8.90, 1455, 91, "face-centred cubic"),
    ("zinc", 7.13, 420, 116, "hexagonal close-packed"),
    ("magnesium", 1.74, 650, 156, "hexagonal close-packed"),
    ("platinum", 21.5, 1768, 72, "face-centred cubic"),
)

# Test method, what it measures, the ASTM standard that describes it.
METHODS: tuple[tuple[str, str, str], ...] = (
    ("tensile test of metals", "tensile strength", "ASTM E8"),
    ("Charpy test", "impact energy", "ASTM E23"),
    ("Rockwell test", "hardness", "ASTM E18"),
    ("Brinell test", "hardness", "ASTM E10"),
    ("Vickers test", "hardness", "ASTM E92"),
    ("creep test of metals", "creep strain", "ASTM E139"),
    ("axial fatigue test", "fatigue life", "ASTM E466"),
    ("salt spray test", "corrosion resistance", "ASTM B117"),
    ("flash method", "thermal diffusivity", "ASTM E1461"),
    ("push-rod dilatometer", "thermal expansion", "ASTM E228"),
    ("capillary viscometer", "kinematic viscosity", "ASTM D445"),
    ("Cleveland open cup", "flash point", "ASTM D92"),
    ("guarded hot plate", "thermal conductivity", "ASTM C177"),
    ("bending test of plastics", "flexural strength", "ASTM D790"),
    ("cylinder test of concrete", "compressive strength", "ASTM C39"),
    ("slump test", "consistency of concrete", "ASTM C143"),
    ("durometer", "rubber hardness", "ASTM D2240"),
    ("Taber abraser", "abrasion resistance", "ASTM D4060"),
    ("pull-off test", "adhesion strength", "ASTM D4541"),
    ("Karl Fischer titration", "water content", "ASTM E203"),
)

FACTORS = range(2, 10)
"""Both factors of every computed item run over this range."""


def _iter_elements() -> Iterator[Fact]:
    for name, symbol, number, _ in ELEMENTS:
        by_name = (("name", name),)
        yield Fact("elements", "element_symbol", by_name, symbol)
        yield Fact("elements", "element_number", by_name, str(number))


def _iter_units() -> Iterator[Fact]:
    for quantity, unit, symbol in UNITS:
        yield Fact("units", "unit_of_quantity", (("quantity", quantity),), unit)
        yield Fact("units", "symbol_of_unit", (("unit", unit),), symbol)


def _iter_metals() -> Iterator[Fact]:
    for name, _, melting, _, structure in METALS:
        metal = (("name", name),)
        yield Fact("materials", "metal_melting", metal, str(melting))
        yield Fact("materials", "metal_structure", metal, structure)


def _iter_mechanics() -> Iterator[Fact]:
    for a in FACTORS:
        for b in FACTORS:
            factors = (("a", str(a)), ("b", str(b)))
            yield Fact("mechanics", "work", factors, f"{a * b} J")


def _iter_methods() -> Iterator[Fact]:
    for method, measured, _ in METHODS:
        yield Fact("methods", "method_property", (("method", method),), measured)


@lru_cache(maxsize=1)
def load_facts() -> tuple[Fact, ...]:
    """Every fact, in table order."""
    return (
        *_iter_elements(),
        *_iter_units(),
        *_iter_metals(),
        *_iter_mechanics(),
        *_iter_methods(),
    )
