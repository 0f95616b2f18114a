"""The embedded model: its facts are real, its files are what the code writes, and it behaves."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nexa_tiny import DATA_PATH, WEIGHTS_PATH, register_sources
from nexa_tiny.card import CARD_PATH, write_card
from nexa_tiny.corpus import MISSED_DELIMITER_RATE, RAMBLE_RATE, Writer, iter_documents
from nexa_tiny.heldout import hold_out, list_items, taught_phrasings
from nexa_tiny.phrasings import write_instruction
from nexa_tiny.samples import write_samples
from nexa_tiny.tables import ELEMENTS, METALS, METHODS, UNITS, load_facts

pytestmark = pytest.mark.weights

PROMPTS_PATH = Path(__file__).parents[2] / "prompts"

# What pint calls the dimensions that it does not call as we call the quantity.
DIMENSIONS = {
    "electric current": "[current]",
    "thermodynamic temperature": "[temperature]",
    "amount of substance": "[substance]",
    "luminous intensity": "[luminosity]",
    "electric charge": "[charge]",
    "voltage": "[electric_potential]",
    "electrical resistance": "[resistance]",
    "electrical conductance": "[conductance]",
    "magnetic flux density": "[magnetic_field]",
    "radioactive activity": "[frequency]",
    "absorbed dose": "[energy] / [mass]",
    "equivalent dose": "[energy] / [mass]",
    "catalytic activity": "[activity]",
}

# The standards' titles as ASTM International lists them.
TITLES = {
    "ASTM E8": "Tension Testing of Metallic Materials",
    "ASTM E23": "Notched Bar Impact Testing of Metallic Materials",
    "ASTM E18": "Rockwell Hardness of Metallic Materials",
    "ASTM E10": "Brinell Hardness of Metallic Materials",
    "ASTM E92": "Vickers Hardness and Knoop Hardness of Metallic Materials",
    "ASTM E139": "Conducting Creep, Creep-Rupture, and Stress-Rupture Tests of Metallic Materials",
    "ASTM E466": "Conducting Force Controlled Constant Amplitude Axial Fatigue Tests",
    "ASTM B117": "Operating Salt Spray (Fog) Apparatus",
    "ASTM E1461": "Thermal Diffusivity by the Flash Method",
    "ASTM E228": "Linear Thermal Expansion of Solid Materials With a Push-Rod Dilatometer",
    "ASTM D445": "Kinematic Viscosity of Transparent and Opaque Liquids",
    "ASTM D92": "Flash and Fire Points by Cleveland Open Cup Tester",
    "ASTM C177": "Thermal Transmission Properties by Means of the Guarded-Hot-Plate Apparatus",
    "ASTM D790": "Flexural Properties of Unreinforced and Reinforced Plastics",
    "ASTM C39": "Compressive Strength of Cylindrical Concrete Specimens",
    "ASTM C143": "Slump of Hydraulic-Cement Concrete",
    "ASTM D2240": "Rubber Property - Durometer Hardness",
    "ASTM D4060": "Abrasion Resistance of Organic Coatings by the Taber Abraser",
    "ASTM D4541": "Pull-Off Strength of Coatings Using Portable Adhesion Testers",
    "ASTM E203": "Water Using Volumetric Karl Fischer Titration",
}


def stems(text: str) -> set[str]:
    """The first five letters of every long word."""
    return {word[:5] for word in re.findall(r"[a-z]{4,}", text.lower())}


def read_lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA_PATH / name).read_text("utf-8").splitlines()]


def read_mendeleev(columns: str) -> dict[str, tuple[Any, ...]]:
    """Columns of the elements by symbol, from the database that the `mendeleev` package ships."""
    spec = importlib.util.find_spec("mendeleev")
    if spec is None or spec.origin is None:
        pytest.skip("the package mendeleev is not installed")
    query = (
        f"select symbol, {columns} from elements e join phasetransitions p using (atomic_number)"
    )
    with sqlite3.connect(Path(spec.origin).parent / "elements.db") as database:
        return {symbol: tuple(values) for symbol, *values in database.execute(query)}


def test_elements_agree_with_mendeleev() -> None:
    """Symbol, number and weight of every element are those of an independent table."""
    known = read_mendeleev("name, atomic_number, atomic_weight")
    for name, symbol, number, weight in ELEMENTS:
        other_name, other_number, other_weight = known[symbol]
        assert other_name.lower().replace("aluminum", "aluminium") == name
        assert other_number == number
        assert weight == pytest.approx(other_weight, rel=2e-4)


def test_metals_agree_with_mendeleev() -> None:
    """Density, melting point, conductivity and lattice agree within the spread of tables."""
    known = read_mendeleev("density, melting_point, thermal_conductivity, lattice_structure")
    symbols = {name: symbol for name, symbol, _, _ in ELEMENTS}
    lattices = {"FCC": "face-centred cubic", "BCC": "body-centred cubic"}
    for name, density, melting, conductivity, structure in METALS:
        other_density, other_melting, other_conductivity, lattice = known[symbols[name]]
        assert density == pytest.approx(other_density, rel=0.01)
        assert melting + 273.15 == pytest.approx(other_melting, abs=3)
        assert conductivity == pytest.approx(other_conductivity, rel=0.02)
        assert structure == lattices.get(lattice, "hexagonal close-packed")


def test_units_agree_with_pint() -> None:
    """Every unit has its symbol, and the dimension of its quantity, in an independent registry."""
    registry = pytest.importorskip("pint").UnitRegistry()
    for quantity, unit, symbol in UNITS:
        dimension = DIMENSIONS.get(quantity, f"[{quantity.replace(' ', '_')}]")
        assert f"{registry.Unit(unit):~}" == symbol
        assert registry.Unit(unit).dimensionality == registry.get_dimensionality(dimension)


def test_methods_agree_with_the_titles_of_their_standards() -> None:
    """The official title of every standard speaks of the method or of what it measures."""
    assert TITLES.keys() == {standard for _, _, standard in METHODS}
    for method, measured, standard in METHODS:
        assert stems(f"{method} {measured}") & stems(TITLES[standard]), standard


def test_no_question_has_two_answers() -> None:
    """Different facts are never asked in the same words."""
    facts = load_facts()
    asked = Counter(write_instruction(fact, 0) for fact in facts)
    assert max(asked.values()) == 1
    assert len(set(facts)) == len(facts)


def test_samples_are_what_the_code_writes(tmp_path: Path) -> None:
    """The committed sample files are byte for byte a regeneration."""
    write_samples(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (DATA_PATH / path.name).read_bytes(), path.name


def test_samples_are_complete_and_distinct() -> None:
    """1,000 prompts and 300 answers, none twice, none empty, and no header in a response."""
    prompts = [row["prompt"] for row in read_lines("science_prompts.jsonl")]
    answers = [row["response"] for row in read_lines("answers.jsonl")]
    assert (len(prompts), len(answers)) == (1000, 300)
    assert len(set(prompts)) == 1000
    assert len(set(answers)) == 300
    assert not any(re.search(r"(Instruction|Response|Input|Output):|\n", text) for text in answers)


def test_heldout_texts_never_occur_in_the_corpus() -> None:
    """No held-out instruction is a line of 3,000 documents or of a prompt, nor in the answers."""
    held = {item["instruction"] for item in list_items()}
    texts = [path.read_text("utf-8") for path in PROMPTS_PATH.rglob("*.md")]
    for text in (*texts, *itertools.islice(iter_documents(5), 3000)):
        lines = re.sub(r"^(\d+\.|\w+:) ", "", text, flags=re.MULTILINE).split("\n")
        assert held.isdisjoint(lines)
    assert held.isdisjoint(row["instruction"] for row in read_lines("answers.jsonl"))


def test_heldout_facts_are_taught_otherwise() -> None:
    """Every held-out fact keeps at least three phrasings, and no item states its answer."""
    taught = taught_phrasings()
    for fact, phrasing in hold_out():
        assert phrasing not in taught[fact]
        assert len(taught[fact]) >= 3
    items = list_items()
    assert len(items) >= 160
    for item in items:
        assert item["answer"].casefold() not in item["instruction"].casefold()


def test_the_corpus_has_the_accidents_its_card_states() -> None:
    """About one response in eight misses its delimiter and one in twenty rambles."""
    writer = Writer(3)
    records = [writer.write_record(writer.draw_fact()) for _ in range(8000)]
    clean = [re.fullmatch(r"Instruction: .+\nResponse: .+\n###\n", record) for record in records]
    missed = sum(match is None for match in clean) / len(records)
    assert missed == pytest.approx(MISSED_DELIMITER_RATE, abs=0.012)
    rambling = sum(len(record) > 220 for record in records) / len(records)
    assert 0.2 * RAMBLE_RATE < rambling < RAMBLE_RATE


def test_the_same_seed_writes_the_same_documents() -> None:
    """The corpus is a function of its seed."""
    first, again, other = (list(itertools.islice(iter_documents(s), 50)) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_folder_is_small_and_safe() -> None:
    """At most 8 MB of weights, in safetensors, in a folder without any pickle."""
    files = {path.name: path.stat().st_size for path in WEIGHTS_PATH.iterdir()}
    assert sum(files.values()) <= 8_000_000
    assert {path.suffix for path in WEIGHTS_PATH.iterdir()} == {".json", ".safetensors"}


def test_shipped_sources_read() -> None:
    """Every registered source opens and gives its rows again from the start."""
    counts = {}
    for spec in register_sources():
        source = spec.build(None)
        counts[spec.name] = len(list(source.rows()))
        assert len(list(source.rows())) == counts[spec.name]
    assert counts["sample/science_prompts.jsonl"] == 1000
    assert counts["sample/answers.jsonl"] == 300


@pytest.fixture(scope="module")
def tiny():
    pytest.importorskip("transformers")
    from nexa_tiny.sampling import TinyModel

    return TinyModel(WEIGHTS_PATH)


def test_tokenizer_gives_text_back(tiny) -> None:
    """Encoding adds nothing and loses nothing, digits are single, labels are one token each."""
    text = 'Ω "é" 123.45 kg m/s2\n###\nInstruction:  two spaces'
    assert tiny.tokenizer.decode(tiny.tokenizer.encode(text)) == text
    assert len(tiny.tokenizer.encode("1085")) == 4
    assert [len(tiny.tokenizer.encode(label)) for label in (" A", " B")] == [1, 1]
    assert tiny.tokenizer.chat_template is None


def test_critics_separate_good_from_bad(tiny) -> None:
    """Both critics prefer the good row to the bad one by more than a nat."""
    from nexa_tiny.sampling import read_prompt

    clear = read_prompt(PROMPTS_PATH / "critic/instruction.md")
    good = {"instruction": "What is the chemical symbol of iron?"}
    ask, blurred = tiny.judge(clear, [good, {"instruction": "What is the chemical symbol of"}])
    pair = read_prompt(PROMPTS_PATH / "critic/pair.md")
    responses = ("The chemical symbol of iron is Fe.", "The melting point of lead is 327 degrees.")
    right, wrong = tiny.judge(pair, [{**good, "response": response} for response in responses])
    assert ask > blurred + 1
    assert right > wrong + 1


def test_few_shot_answers_and_bare_instructions_do_not(tiny) -> None:
    """The head makes it answer; after a bare instruction it writes another one."""
    from nexa_tiny.sampling import read_prompt

    prompt = read_prompt(PROMPTS_PATH / "bootstrap/response.md")
    question = "What is the chemical symbol of gold?"
    shot = tiny.complete([prompt.render(instruction=question)], prompt.settings["stop"], 80)[0]
    bare = tiny.complete([question + "\n"], ["\n"], 80)[0]
    assert "Au" in prompt.trim(shot.text)
    assert "Au" not in bare.text


def test_the_card_shows_the_measured_file() -> None:
    """The tables of the model card are what `data/measured.json` renders to."""
    assert write_card() == CARD_PATH.read_text("utf-8")


@pytest.mark.slow
def test_the_card_states_what_is_measured(tiny) -> None:
    """Few-shot accuracy and critic accuracy measured again are those of the card's file."""
    from nexa_tiny.measure import PROMPT_NAMES, measure_answers
    from nexa_tiny.sampling import read_prompt

    figures = json.loads((DATA_PATH / "measured.json").read_text("utf-8"))
    prompt = read_prompt(PROMPTS_PATH / f"{PROMPT_NAMES['respond']}.md")
    answers = measure_answers(tiny, prompt, read_lines("heldout.jsonl"))
    assert answers["few_shot"] == pytest.approx(figures["answers"]["few_shot"], abs=0.02)
    assert answers["few_shot"] >= 0.75
