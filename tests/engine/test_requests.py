"""Requests of a step: equal identities for equal requests, another for every difference."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_core.engine.requests import RequestForm, Subject, derive_seed, plain_prompt
from nexa_core.engine.tries import endpoint_of
from nexa_core.pipeline import Role
from nexa_core.records import Message, canonical_json
from nexa_core.testing.models import ScriptedModel

SUBJECT = Subject("r1", "s1", 0, 0)
FORM = RequestForm(ScriptedModel(lambda r: ""), 7, {"temperature": 0.5, "stop": "X"}, ("Y",))
PROMPT = (Message("user", "Why?"),)


@given(st.text(), st.text(max_size=5), st.integers(0, 9), st.none() | st.lists(st.just({"a": 1})))
def test_an_identity_is_the_hash_of_the_whole_request(
    text: str, source: str, sample: int, tools: Any
) -> None:
    """Written in pieces for speed, it is the canonical JSON of everything a reply depends on."""
    subject = Subject("r", source, sample, 1, 2)
    request = FORM.fill((Message("user", text),), subject, tools)
    content = {
        "model": [FORM.model.name, FORM.model.revision],
        "options": [],
        "prompt": plain_prompt(request.prompt),
        "row": [source, sample, 1, 2],
        "sampling": {"temperature": 0.5},
        "schema": None,
        "seed": derive_seed(7, subject),
        "stop": ["Y", "X"],
        "tools": tools,
    }
    digest = hashlib.sha256(canonical_json(content).encode("utf-8", "surrogatepass"))
    assert request.id == digest.hexdigest()[:24]
    there = replace(FORM, endpoint="a:1/v1", extra_body={"b": 1})
    content |= {"endpoint": "a:1/v1", "extra_body": {"b": 1}}
    digest = hashlib.sha256(canonical_json(content).encode("utf-8", "surrogatepass"))
    assert there.fill(request.prompt, subject, tools).id == digest.hexdigest()[:24]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"sampling": {"temperature": 0.6}},
        {"stop": ("Z",)},
        {"schema": {"type": "object"}},
        {"options": (" A",)},
        {"extra_body": {"think": False}},
        {"endpoint": "gpu-1:8000/v1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_is_part_of_the_identity(change: dict[str, Any]) -> None:
    """A reply is never taken for a request that asked otherwise."""
    assert replace(FORM, **change).fill(PROMPT, SUBJECT).id != FORM.fill(PROMPT, SUBJECT).id


def test_an_endpoint_is_host_and_path() -> None:
    """However it is written; none where the role names none, so that its calls are known as before."""
    urls = ("http://GPU-1:8000/v1", "http://gpu-1:8000/v1/", "https://gpu-1:8000/v1")
    found = {endpoint_of(Role(model="vllm/m", base_url=url)) for url in urls}
    assert found == {"gpu-1:8000/v1"}
    assert endpoint_of(Role(model="openai/gpt-4o")) == ""


def test_tool_calls_and_their_answers_are_part_of_the_identity() -> None:
    """Turns of equal text that called other tools are other requests."""
    called = Message("assistant", "", [{"id": "a"}])
    identities = {
        FORM.fill((turn, *PROMPT), SUBJECT).id
        for turn in (called, replace(called, tool_calls=[{"id": "b"}]), Message("assistant", ""))
    }
    assert len(identities) == 3 and FORM.fill(PROMPT, SUBJECT, [{"x": 1}]).id not in identities


def test_stop_of_the_sampling_adds_to_the_prompts_own() -> None:
    """And is no sampling key any more."""
    request = FORM.fill(PROMPT, SUBJECT)
    assert request.stop == ("Y", "X") and request.sampling == {"temperature": 0.5}
