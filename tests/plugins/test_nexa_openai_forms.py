"""JSON of a given form over the thin client: four modes, chosen by what the endpoint takes, weakened aloud."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from nexa_core import CallFailed, Completion, Failure, Message, Request, Role
from nexa_core.engine.calls import Calls, Subject
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.tries import Caller, Line
from nexa_core.events import Event, WarningRaised
from nexa_core.testing.chaos import Answer, ChaosServer, Faults, Settings, serve_in_thread
from nexa_judges.verdicts import InvalidReplyError, Verdicts
from nexa_openai.checking import Finding
from nexa_openai.model import build_model

VERDICTS = Verdicts({"accuracy": None, "depth": None}, ("safety",))
ASKED = (Message("system", "You judge."), Message("user", "Is it right?"))
MODES = ("schema", "tool", "object", "plain")


def request(number: int = 0) -> Request:
    return Request(f"r{number}", ASKED, seed=number, schema=VERDICTS.schema)


def role(server: ChaosServer, **settings: Any) -> Role:
    return Role(model="vllm/m", base_url=server.url, **settings)


async def ask(server: ChaosServer, **settings: Any) -> Completion:
    model = build_model(role(server, **settings))
    try:
        return await model.complete(request())
    finally:
        await model.aclose()


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_brings_a_verdict(mode: str) -> None:
    """Schema, function, JSON object, words alone: the text is an object of the form that was asked."""
    with serve_in_thread(Settings(modes=(mode,))) as server:
        reply = await ask(server, structured=mode)
    jsonschema.validate(VERDICTS.read(reply.text), VERDICTS.schema)
    assert (reply.finish_reason, reply.tool_calls) == ("stop", None)


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_recorded_comes_in_every_mode(mode: str) -> None:
    """A given answer is the text in each mode, and what is broken in it is broken."""
    told = json.dumps({"reason": "Sound.", "accuracy": 0.9, "depth": 1, "flags": []})
    with serve_in_thread(Settings(answers=(Answer(told),))) as server:
        assert VERDICTS.read((await ask(server, structured=mode)).text)["accuracy"] == 0.9
    with (
        serve_in_thread(Settings(faults=Faults.only("broken_json"))) as server,
        pytest.raises(InvalidReplyError),
    ):
        VERDICTS.read((await ask(server, structured=mode)).text)


def test_the_first_mode_is_the_strictest_that_the_endpoint_takes() -> None:
    """By provider; the completions API takes schemas on servers of one's own; a forced mode stands."""
    chosen = {
        (name, api): build_model(Role(model=f"{name}/m", api=api)).form.mode
        for name in ("openai", "vllm", "ollama", "transformers")
        for api in ("chat", "completions")
    }
    chat = {name: mode for (name, api), mode in chosen.items() if api == "chat"}
    text = {name: mode for (name, api), mode in chosen.items() if api == "completions"}
    assert chat == {
        "openai": "schema",
        "vllm": "schema",
        "ollama": "schema",
        "transformers": "plain",
    }
    assert text == {
        "openai": "plain",
        "vllm": "schema",
        "ollama": "schema",
        "transformers": "plain",
    }
    assert build_model(Role(model="openai/m", structured="tool")).form.mode == "tool"


@pytest.mark.parametrize(
    ("lists", "mode"),
    [
        (["structured_outputs", "tools", "tool_choice"], "schema"),
        (["tools", "tool_choice", "response_format"], "tool"),
        (["response_format"], "object"),
        (["temperature"], "plain"),
        ([], "schema"),
    ],
)
def test_openrouter_lists_what_a_model_takes(lists: list[str], mode: str) -> None:
    """The strictest mode of those that the model's entry allows; an entry that says nothing allows all."""
    model = build_model(Role(model="openrouter/a/b", structured=None))
    model.form.narrow(Finding(entry={"supported_parameters": lists}).find_modes())
    assert model.form.mode == mode


async def complete(server: ChaosServer, count: int, **settings: Any) -> tuple[list[Any], list[str]]:
    """Calls through the engine, and the warnings that it raised."""
    heard: list[Event] = []
    line = Line(build_model(role(server, **settings)), role(server, **settings))
    calls = Calls(Dispatch(on_event=heard.append))
    subjects = [Subject(f"{n}", f"{n}", 0, 0) for n in range(count)]
    outcomes = await calls.complete(
        Caller("judge", "judge", (line,)), [request(n) for n in range(count)], subjects
    )
    await line.model.aclose()
    return outcomes, [one.message for one in heard if isinstance(one, WarningRaised)]


async def test_a_refused_mode_is_weakened_once_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without schemas and functions: every call is answered, and each step down said once."""
    monkeypatch.setattr("nexa_core.engine.dispatch.BACKOFF_SECONDS", (0.01, 0.01))
    with serve_in_thread(Settings(modes=("object", "plain"))) as server:
        outcomes, told = await complete(server, 20)
    assert all(VERDICTS.read(outcome.reply.text) for outcome in outcomes)
    assert len(told) == 2
    assert "refused a JSON schema" in told[0] and told[0].endswith("must be called from now on.")
    assert "refused a function" in told[1] and told[1].endswith("JSON object mode from now on.")


async def test_a_forced_mode_is_never_weakened() -> None:
    """Who writes `structured: schema` gets schemas or failures."""
    with serve_in_thread(Settings(modes=("plain",))) as server:
        outcomes, told = await complete(server, 2, structured="schema")
    assert [outcome.reply for outcome in outcomes] == [None, None] and told == []
    assert "response_format" in (outcomes[0].error or "")


async def test_another_refusal_weakens_nothing() -> None:
    """A request that is wrong for another reason stays wrong, in the mode that it had."""
    with serve_in_thread() as server:
        model = build_model(role(server))
        wrong = Request("r", ASKED, {"max_tokens": 0}, schema=VERDICTS.schema)
        with pytest.raises(CallFailed) as caught:
            await model.complete(wrong)
        await model.aclose()
    assert caught.value.failure is Failure.BAD_REQUEST and model.form.mode == "schema"
