"""Checks of form and of content: formatting, JSON, language, personal data, secrets, science."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_checks import register_checks
from nexa_checks.science import inflect
from nexa_core import ScoreColumns, UsageError

SPECS = {spec.name: spec for spec in register_checks()}


def score(name: str, texts: list[str | None], **options: Any) -> ScoreColumns:
    spec = SPECS[name]
    check = spec.build(spec.options().model_validate({"field": "response", **options}))
    found: ScoreColumns = check.score(pa.table({"response": pa.array(texts, pa.string())}))
    return found


def fails(name: str, text: str, **options: Any) -> bool | None:
    verdict: bool | None = score(name, [text], **options).failed[0].as_py()
    return verdict


@pytest.mark.parametrize(
    "text",
    [
        "Here it is:\n```python\nprint(1)\n",
        "~~~\ncode",
        "A list (of two things, and so on.",
        "各位（请注意。",
        "It rained all day. The roof, which was old, began to",
        "First we heat, then we cool,",
        "今日は雨です。明日も",
        "Сначала нагреваем раствор. Затем мы медленно",
        ":",
        "Thought process:",
        "**",
        "…",
        "Let me answer：",
    ],
)
def test_formatting_fails_what_is_opened_and_not_closed_or_breaks_off(text: str) -> None:
    """Fences, brackets and sentences, in several kinds of writing."""
    assert fails("formatting", text)


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "```python\nprint((1)\n```",
        "Use `f(` to begin. It ends well.",
        "1) heat\n2) cool",
        "x in [0, 1) holds. :(",
        "- one\n- two",
        "We are hiring now! #jobs #summer",
        "Complete sentence here. And one more (in brackets).",
        "今日は雨です。",
        "It is this:\n```python\nprint(1)\n```",
        "+",
        "%",
        "",
    ],
)
def test_formatting_leaves_whole_texts_alone(text: str) -> None:
    """Code, lists, smileys, intervals and short answers are no faults."""
    assert fails("formatting", text) is False


def test_formatting_can_be_told_what_to_look_at() -> None:
    """Each part is switched off by itself."""
    text = "```\nopen (and it breaks off,"
    everything = {"fences": False, "brackets": False, "ending": False}
    assert fails("formatting", text, **everything) is False
    assert fails("formatting", text, **{**everything, "fences": True})


def test_repetition_counts_lines_too() -> None:
    """A loop of one-word lines has few word sequences, and the same lines."""
    found = score("repetition", ["a\n" * 3 + "b\nc\n", "no\n" * 9], words=16)
    assert found.failed.to_pylist() == [False, True]
    assert found.reasons[1].as_py() == "89 % of its lines repeat"


@pytest.mark.parametrize(
    "text", ["嗯" * 40, "あいうえお" * 20, "ก็คือ " * 30, "no no no no no no no"]
)
def test_repetition_is_seen_in_writing_without_spaces(text: str) -> None:
    """A loop of characters is a loop; a sentence that says nothing twice is none."""
    assert fails("repetition", text)
    assert fails("repetition", "混合物被缓慢加热直到沸腾，然后在室温下冷却。") is False


def measure_plainly(text: str, words: int) -> float:
    """The share of sequences that occurred before, as a loop in Python counts them."""
    tokens = re.sub(r"([\u3040-\u30ff\u4e00-\u9fff])", r" \1 ", text).split()
    found = [tuple(tokens[n : n + words]) for n in range(len(tokens) - words + 1)]
    return len(set(found)) / len(found) if found else 1.0


@given(st.lists(st.text("ab \n\u00a0の。", max_size=40), min_size=1, max_size=9), st.integers(1, 5))
def test_repetition_is_what_a_plain_loop_counts(texts: list[str], words: int) -> None:
    """For any texts beside each other: no sequence goes from one into the next."""
    found = score("repetition", list(texts), words=words).values.to_pylist()
    assert found == pytest.approx([measure_plainly(text, words) for text in texts])


def test_json_says_where_it_is_broken() -> None:
    """Numbers of any size are JSON; NaN and a trailing comma are none."""
    found = score(
        "json", ['{"a": 1}', "9" * 40, "NaN", '{"a": 1,}', '```json\n{"a": 1}\n```', None]
    )
    assert found.failed.to_pylist() == [False, False, True, True, False, None]
    assert found.reasons[3].as_py().startswith("no JSON: ")


def test_json_is_held_to_a_schema() -> None:
    """The reason has the path and the rule that is broken."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    found = score("json", ['{"n": 1}', '{"n": "x"}', "[]"], schema=schema)
    assert found.failed.to_pylist() == [False, True, True]
    assert found.reasons[1].as_py() == "$.n: 'x' is not of type 'integer'"


def build_schema(schema: Any) -> Any:
    spec = SPECS["json"]
    return spec.build(spec.options().model_validate({"field": "response", "schema": schema}))


def test_json_never_fetches_a_schema(loopback: Any) -> None:
    """A reference out of the schema is an error before any row, and never a request."""
    loopback.anything = {"type": "string"}
    with pytest.raises(UsageError, match="refers to what it does not hold"):
        build_schema({"allOf": [{"$ref": f"{loopback.url}/schema.json"}]})
    build_schema({"$id": "https://here/s", "$ref": "https://here/s#/$defs/a", "$defs": {"a": {}}})
    assert loopback.asked == []
    with pytest.raises(UsageError, match="cannot use its schema"):
        score("json", ["1"], schema={"type": "no such"})


def test_language_fails_another_language_and_leaves_short_texts_out() -> None:
    """The score is the probability of the languages that were asked for; code is not read."""
    pytest.importorskip("py3langid")
    texts = [
        "The mixture is heated slowly until it boils.",
        "Die Mischung wird langsam erhitzt, bis sie kocht.",
        "混合物被缓慢加热直到沸腾，然后在室温下冷却并静置一整夜。",
        "ok",
        None,
    ]
    found = score("language", texts, languages=["en"])
    assert found.failed.to_pylist() == [False, True, True, None, None]
    assert found.reasons[1].as_py() == "in de"
    assert fails("language", texts[1] or "", languages=["en", "de"]) is False
    with pytest.raises(UsageError, match="knows no language 'english'"):
        score("language", texts, languages=["english"])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jane.doe@acme-corp.com today", "an e-mail address"),
        ("Call +49 30 901820 now", "a phone number"),
        ("Card 4111 1111 1111 1111.", "a card number"),
        ("IBAN GB82 WEST 1234 5698 7654 32", "an IBAN"),
        ("host 185.199.108.153 answers", "an IP address"),
    ],
)
def test_pii_names_the_kind_and_never_the_datum(text: str, kind: str) -> None:
    """Reasons are stored and shown, so that they must not hold what was found."""
    pytest.importorskip("phonenumbers")
    assert score("pii", [text]).reasons.to_pylist() == [f"holds {kind}"]


@pytest.mark.parametrize(
    "text",
    [
        "someone@example.com",
        "number 4111 1111 1111 1112",
        "GB82 WEST 1234 5698 7654 33",
        "192.168.0.1 and 127.0.0.1",
        "version 1.2.3.4000",
        "+1 000 000 0000",
        "pi is 3.14159265358979323846",
        "3 + 4 = 7, in 1999-2003",
        "git clone git@github.com:me/it.git and see icon@2x.png",
    ],
)
def test_pii_leaves_what_fails_its_checksum_alone(text: str) -> None:
    """Reserved addresses, wrong check digits and plain numbers are nobody's."""
    pytest.importorskip("phonenumbers")
    assert fails("pii", text) is False


def test_pii_finds_national_numbers_of_named_countries() -> None:
    """Without a country code a number belongs to a country only if one is named."""
    pytest.importorskip("phonenumbers")
    assert fails("pii", "call (212) 456-7890") is False
    assert fails("pii", "call (212) 456-7890", regions=["US"])
    with pytest.raises(UsageError, match=r"knows no region 'UK'.*'GB'"):
        score("pii", ["020 7946 0000"], regions=["UK"])


@pytest.mark.parametrize(
    "text",
    [
        "key AKIA" + "IOSFODNN7EXAMPLA",
        "token ghp_" + "a1B2" * 9,
        "-----BEGIN RSA PRIVATE" + " KEY-----",
        "hf_" + "a" * 34,
        "sk-or-v1-" + "0a" * 32,
        "gsk_" + "aB1" * 17,
        "glpat-" + "x1y2z3" * 4,
    ],
)
def test_secrets_finds_tokens_of_known_forms(text: str) -> None:
    """The reason names the kind and not the secret."""
    pytest.importorskip("detect_secrets")
    reason = score("secrets", [text]).reasons[0].as_py()
    assert reason.startswith("holds a secret (") and text[-12:] not in reason


def test_secrets_leaves_talk_of_secrets_alone() -> None:
    """A word such as `password` is no secret."""
    pytest.importorskip("detect_secrets")
    texts = [
        'password = "hunter2"',
        "Your API key goes here: YOUR_API_KEY",
        "sk-learn is a library",
    ]
    assert score("secrets", texts).failed.to_pylist() == [False] * 3


def test_action_verbs_count_in_every_inflection() -> None:
    """Different verbs count once each; a verb within another word does not."""
    texts = [
        "We prepared, prepare and are preparing it.",
        "It evaluates and compares.",
        "premodels",
    ]
    found = score("action_verbs", texts, least=2)
    assert found.values.to_pylist() == [1.0, 2.0, 0.0]
    assert found.reasons.to_pylist()[0] == "1 of at least 2 action verbs"
    assert found.failed.to_pylist() == [True, False, True]


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("compare", ("compare", "compares", "compared", "comparing")),
        ("apply", ("apply", "applies", "applied", "applying")),
        ("mix", ("mix", "mixes", "mixed", "mixing")),
        ("heat", ("heat", "heats", "heated", "heating")),
    ],
)
def test_verbs_are_inflected_by_the_rules_of_spelling(verb: str, forms: tuple[str, ...]) -> None:
    """A dropped e, a changed y, an added e."""
    assert inflect(verb) == forms
    assert {"fitted", "controlling", "stirred"} <= {
        f for v in ("fit", "control", "stir") for f in inflect(v)
    }


@pytest.mark.parametrize(
    "text",
    [
        "as shown [1].",
        "as shown [2, 5-7].",
        "as shown (Smith et al., 2019).",
        "Smith et al. showed",
        "see (Müller & Lee, 2020b)",
        "doi:10.1000/182",
        r"as in \cite{smith}",
        "so it is[citation needed]",
    ],
)
def test_no_citations_fails_markers_and_references(text: str) -> None:
    """Numbered, by author and year, by identifier."""
    assert fails("no_citations", text)


@pytest.mark.parametrize(
    "text",
    [
        *("a list [a, b]", "in 2019 (a dry year)", "heat (10 min)", "f(2019)", "x[0] is the first"),
        *(
            "Run `a[1]`.",
            "```\nx = a[12]\n```",
            "the matrix [[1, 2], [3, 4]]",
            "6.02 × 10²³",
            "in m² or x¹²",
        ),
    ],
)
def test_no_citations_leaves_other_brackets_alone(text: str) -> None:
    """Years and lists in brackets cite nothing."""
    assert fails("no_citations", text) is False


def test_science_joins_its_parts_and_gives_the_first_fault() -> None:
    """120 characters, 80 tokens, an action verb, no citations: whatever fails first is the reason."""
    good = "We prepare the sample and compare it with the control. " * 12
    found = score("science", [good, "Short.", "word " * 100, good + "[1]"])
    assert found.failed.to_pylist() == [False, True, True, True]
    assert found.reasons.to_pylist() == [
        None,
        "6 of at least 120 characters",
        "0 of at least 1 action verbs",
        "a bracketed reference",
    ]
