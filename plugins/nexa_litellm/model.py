"""The model that a role gets: nexa's protocol over LiteLLM, one try per request."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nexa_core import (
    CallFailed,
    Charge,
    Choice,
    Completion,
    Failure,
    FinishReason,
    FormChoice,
    ModelError,
    Request,
    Usage,
    tell_form,
    write_form,
)
from nexa_litellm.checking import check_role
from nexa_litellm.failures import explain
from nexa_litellm.loading import load_litellm

if TYPE_CHECKING:
    from nexa_core import Message, Mode, Role

_ENDINGS = {
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_QUIET: Mapping[str, Any] = {
    "num_retries": 0,
    "max_retries": 0,
    "no-log": True,
    # It prices every reply, at a third of its time; nexa prices from a book of its own.
    "input_cost_per_token": 0.0,
    "output_cost_per_token": 0.0,
}


def build_model(role: Role) -> LiteLLMModel:
    """The model of `PROVIDER/MODEL`, or of `litellm/PROVIDER/MODEL`."""
    return LiteLLMModel(role)


class LiteLLMModel:
    """A model of any provider that LiteLLM knows, imported at the first call."""

    batch_size: int | None = None
    revision: str | None = None
    self_hosted = False

    def __init__(self, role: Role) -> None:
        self.name = role.model
        self._model = role.reference if role.provider == "litellm" else role.model
        self.endpoint = role.base_url or self._model.partition("/")[0]
        self._role = role
        self._settings = _make_settings(role)
        self._takes: frozenset[str] | None = None

    async def complete(self, request: Request) -> Completion:
        """The completion of one request, by one try."""
        litellm = load_litellm()
        mode = self._mode(request)
        failure: Exception | None = None
        reply: Any = None
        try:
            async with asyncio.timeout(self._role.timeout + 1):
                reply = await self._ask(litellm, request, mode)
        except TimeoutError:
            wait = f"no whole reply within {self._role.timeout:g} s"
            failure = CallFailed(Failure.TIMEOUT, wait, Charge.UNKNOWN)
        except Exception as cause:
            whom = f"The model '{self.name}'"
            failure = explain(cause, whom)
            if request.schema and isinstance(failure, CallFailed):
                failure = self.form.refuse(failure, mode, whom)
        if failure is not None:  # raised here, its traceback holds no frame with a key in it
            raise failure
        done = self._read(reply.model_dump())
        return self.form.read(done, mode) if request.schema else done

    async def choose(self, request: Request, options: Sequence[str]) -> Choice:
        """Never: providers tell log-probabilities in too many forms.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            f"'{self.name}' tells no log-probabilities through LiteLLM.",
            "Give the role the base_url of the provider's OpenAI-compatible endpoint, where there "
            "is one, and write the model as openai-compatible/NAME.",
        )

    async def complete_many(self, requests: Sequence[Request]) -> Sequence[Completion | Exception]:
        """The completion of each request, or the failure in its place."""

        async def settle(call: Awaitable[Completion]) -> Completion | Exception:
            try:
                return await call
            except CallFailed as failure:
                return failure

        return await asyncio.gather(*(settle(self.complete(one)) for one in requests))

    async def choose_many(
        self, requests: Sequence[Request], options: Sequence[str]
    ) -> Sequence[Choice | Exception]:
        """Never; as for `choose`."""
        return [await self.choose(request, options) for request in requests]

    def count_tokens(self, text: str) -> int:
        """An estimate: a token is about four characters of English text."""
        return -(-len(text) // 4)

    def bound_tokens(self, request: Request) -> int:
        """An upper bound: no vocabulary makes more than one token of a byte; frames are added."""
        messages = [*_write_messages(request.prompt), request.tools, request.schema]
        size = len(json.dumps(messages, ensure_ascii=False).encode("utf-8", "replace"))
        return size + 128 + 16 * len(messages) + (512 if request.tools or request.schema else 0)

    def preflight(self, sampling: Mapping[str, Any]) -> list[str]:
        """What speaks against asking: sampling keys, the key, the model; see `check_role`."""
        return check_role(self._role, self._model, sampling)

    async def aclose(self) -> None:
        """Nothing: LiteLLM keeps its clients for the whole process and closes them at its end."""

    @cached_property
    def form(self) -> FormChoice:
        """How the provider is asked for JSON of a given form, by what LiteLLM knows of it."""
        litellm = load_litellm()
        takes = self._supported(litellm)
        modes: list[Mode] = []
        if litellm.supports_response_schema(model=self._model):
            modes.append("schema")
        modes += ["tool"] if "tool_choice" in takes else []
        modes += ["object"] if "response_format" in takes else []
        return FormChoice((*modes, "plain"), self._role.structured)

    def _mode(self, request: Request) -> Mode:
        """The mode of a request; tools of its own leave no place for one more that must be called."""
        if not request.schema:
            return "plain"
        return "object" if request.tools and self.form.mode == "tool" else self.form.mode

    async def _ask(self, litellm: Any, request: Request, mode: Mode) -> Any:
        settings = {**self._settings, **request.sampling}
        if "seed" in self._supported(litellm):
            settings["seed"] = request.seed
        if request.stop:
            settings["stop"] = list(request.stop)
        if request.tools:
            settings["tools"] = list(request.tools)
        prompt = request.prompt
        if request.schema:
            settings |= write_form(request.schema, mode)
            prompt = tell_form(prompt, request.schema, mode)
        if "tools" in settings and find_spec("mcp") is None:
            # To look for MCP servers among the tools it imports a package that it does not bring along.
            settings["_skip_mcp_handler"] = True
        if self._role.api == "chat":
            messages = _write_messages(prompt)
            return await litellm.acompletion(model=self._model, messages=messages, **settings)
        return await litellm.atext_completion(model=self._model, prompt=prompt, **settings)

    def _supported(self, litellm: Any) -> frozenset[str]:
        if self._takes is None:
            found = litellm.get_supported_openai_params(self._model) or ()
            self._takes = frozenset(found)
        return self._takes

    def _read(self, body: Mapping[str, Any]) -> Completion:
        usage = read_usage(body.get("usage") or {})
        served = body.get("model")
        wanted = (self._role.must_be or "").lower()
        if wanted not in str(served).lower():
            problem = f"must_be is '{self._role.must_be}', and {served} answered"
            raise _fail(Failure.BAD_REPLY, problem, usage, body)
        if not body.get("choices"):
            raise _fail(Failure.BAD_REPLY, "the reply holds no choice", usage, body)
        choice = body["choices"][0]
        message = choice.get("message") or {"content": choice.get("text")}
        text, ending = message.get("content") or "", choice.get("finish_reason")
        if ending == "content_filter" and not text:
            problem = "the provider's filter took the answer away"
            raise _fail(Failure.REFUSED_CONTENT, problem, usage, body)
        return Completion(
            text,
            _ENDINGS.get(ending, FinishReason.STOP),
            usage,
            reasoning=message.get("reasoning_content"),
            tool_calls=message.get("tool_calls"),
            served_by=served,
            raw=body,
        )


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Tokens as LiteLLM counts them: the prompt's include those from and into the cache."""
    prompt = usage.get("prompt_tokens_details") or {}
    answer = usage.get("completion_tokens_details") or {}
    return Usage(
        usage.get("prompt_tokens") or 0,
        usage.get("completion_tokens") or 0,
        prompt.get("cached_tokens") or 0,
        answer.get("reasoning_tokens") or 0,
        cache_write_tokens=usage.get("cache_creation_input_tokens") or 0,
    )


def _fail(failure: Failure, problem: str, usage: Usage, body: Mapping[str, Any]) -> CallFailed:
    return CallFailed(
        failure, problem, Charge.KNOWN, usage=usage, raw=json.dumps(body, default=str)
    )


def _make_settings(role: Role) -> dict[str, Any]:
    """What every request of a role is given beside its own.

    A foreign base_url gets no key from the provider's usual variable, unless api_key_env names it.
    """
    settings: dict[str, Any] = {**_QUIET, "timeout": role.timeout, **role.extra_body}
    if role.headers:
        settings["extra_headers"] = dict(role.headers)
    if role.base_url:
        settings |= {"api_base": role.base_url, "api_key": "none"}
    if role.api_key_env:
        settings["api_key"] = os.environ.get(role.api_key_env) or "none"
    return settings


def _write_messages(prompt: str | tuple[Message, ...]) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [
        {"role": one.role, "content": one.content}
        | ({"tool_calls": list(one.tool_calls)} if one.tool_calls else {})
        | ({"tool_call_id": one.tool_call_id} if one.tool_call_id else {})
        for one in prompt
    ]
