"""Log-probabilities of options: from chat, from completions, with what is not told bounded."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nexa_core import CallFailed, ModelError, Request, Role
from nexa_openai.choices import read_choice
from nexa_openai.model import build_model


def chat(*told: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in told]
    return {"choices": [{"logprobs": {"content": [{"token": "x", "top_logprobs": top}]}}]}


def test_an_option_counts_with_and_without_its_space() -> None:
    """The log of the sum of both: 0.5 + 0.25."""
    found = read_choice(chat(("A", math.log(0.5)), (" A", math.log(0.25)), ("B", -3)), [" A", "B"])
    assert found == pytest.approx((math.log(0.75), -3))


def test_an_option_that_is_not_told_gets_a_bound() -> None:
    """It is no likelier than the last that is told, nor than all that is left."""
    assert read_choice(chat(("A", math.log(0.9)), ("C", math.log(0.09))), ["B"]) == pytest.approx(
        (math.log(0.01),)
    )
    assert read_choice(chat(("A", math.log(0.5)), ("C", math.log(0.1))), ["B"]) == pytest.approx(
        (math.log(0.1),)
    )
    assert read_choice(chat(("A", 0.0), ("C", -9999.0)), ["B"]) == (-9999.0,)


def test_completions_tell_a_mapping() -> None:
    """The form of the older API, and llama.cpp's, which is chat's."""
    body = {"choices": [{"text": " A", "logprobs": {"top_logprobs": [{" A": -0.1, "▁B": -2.0}]}}]}
    assert read_choice(body, ["A", " B"]) == (-0.1, -2.0)


def test_a_reply_that_tells_none_is_a_failure() -> None:
    """It is not tried again: the endpoint will tell none the next time either."""
    with pytest.raises(CallFailed, match="tells no log-probabilities") as caught:
        read_choice({"choices": [{"message": {"content": "A"}}]}, ["A"])
    assert not caught.value.failure.may_pass


async def test_the_first_token_alone_is_asked(loopback: Any) -> None:
    """One token, twenty likeliest, at temperature 1: the model's own distribution."""
    loopback.answers["POST /v1/chat/completions"] = chat(("A", -0.2), ("B", -1.8)) | {
        "usage": {"prompt_tokens": 9, "completion_tokens": 1}
    }
    model = build_model(Role(model="vllm/m", base_url=loopback.url))
    choice = await model.choose(Request("id", "A or B?"), (" A", " B"))
    await model.aclose()
    assert choice.logprobs == (-0.2, -1.8) and choice.usage.prompt_tokens == 9
    sent = loopback.bodies[0]
    assert (sent["max_tokens"], sent["top_logprobs"], sent["temperature"]) == (1, 20, 1)


async def test_an_endpoint_that_tells_none_is_not_asked() -> None:
    """`transformers serve` has no log-probabilities, and says so before anything is sent."""
    with pytest.raises(ModelError, match="tells no log-probabilities"):
        await build_model(Role(model="transformers/m")).choose(Request("id", ""), ("A",))
