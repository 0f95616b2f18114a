"""The model that a role gets: nexa's protocol over one endpoint, one try per request."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nexa_core import CallFailed, Choice, Completion, FormChoice, ModelError, Request, Usage
from nexa_openai.addresses import check_url, is_local, is_under
from nexa_openai.bodies import FIXED, make_writer
from nexa_openai.checking import Door, Finding, check_door
from nexa_openai.choices import read_choice
from nexa_openai.coding import decode, encode
from nexa_openai.connection import Connection
from nexa_openai.keys import find_key_name, read_key
from nexa_openai.providers import COMPATIBLE, PROVIDERS, Provider, find_faults
from nexa_openai.replies import (
    read_completion,
    read_quota,
    read_server,
    refuse_server,
    trim,
)

if TYPE_CHECKING:
    from nexa_core import Mode, Role

Result = TypeVar("Result")
_FRAME = 128
"""Tokens that a chat template may add around a conversation: its own system text and marks."""
_TURN = 16
"""Tokens that a chat template may add around one message."""


def build_model(role: Role) -> EndpointModel:
    """The model of a role: with batches where the role wants them and its provider may have them."""
    found = PROVIDERS.get(role.provider)
    if role.batch is not True or (found is not None and not found.batches):
        return EndpointModel(role)
    from nexa_openai.batches import BatchEndpointModel  # aiohttp takes a third of a second

    return BatchEndpointModel(role)


class EndpointModel:
    """A model behind an OpenAI-compatible endpoint."""

    batch_size: int | None = None
    revision: str | None = None

    def __init__(self, role: Role) -> None:
        self.name = role.model
        self._provider_name, self._provider, self._model = find_provider(role)
        self.endpoint = find_url(role, self._provider)
        self.self_hosted = self._provider.self_hosted or is_local(self.endpoint)
        self._role = role
        self._key_name = find_key_name(role, self._provider, self.endpoint)
        self._key = read_key(self._key_name)
        self._writer = make_writer(role, self._known, self._model, self._provider_name)
        self.form = FormChoice(find_modes(role, self._known), role.structured)
        self._path = "/chat/completions" if role.api == "chat" else "/completions"
        self._must_be = role.must_be.lower() if role.must_be else None
        self._finding: Finding | None = None
        self._whom = f"The model '{role.model}' at {self.endpoint}"
        self._connection = Connection(
            self.endpoint, self._whom, self._key, self._key_name, role.headers, role.timeout
        )

    async def complete(self, request: Request) -> Completion:
        """The completion of one request, by one try.

        Where the reply states no usage, the most that it can have been stands in its place.
        """
        # Tools of the request's own leave no place for one more that must be called.
        mode = "object" if request.tools and self.form.mode == "tool" else self.form.mode
        try:
            body, headers = await self._connection.post(
                self._path, self._writer.write(request, mode)
            )
        except CallFailed as failed:
            raise self.form.refuse(failed, mode, self._whom) if request.schema else failed from None
        reply = decode(body)
        self._check_server(reply)
        usage = None if reply.get("usage") else self._bound_usage(request, body)
        done = trim(read_completion(reply, read_quota(headers), usage), request.stop)
        return self.form.read(done, mode) if request.schema else done

    async def choose(self, request: Request, options: Sequence[str]) -> Choice:
        """The log-probabilities of single-token options after a prompt; see `read_choice`.

        Raises:
            ModelError: This kind of endpoint tells no log-probabilities.
        """
        if not self._writer.top:
            raise ModelError(
                f"'{self.name}' tells no log-probabilities with `api: {self._role.api}`.",
                "Ask another model or endpoint for what a critic needs.",
            )
        written = self._writer.write_choice(request)
        body, headers = await self._connection.post(self._path, written)
        reply = decode(body)
        self._check_server(reply)
        usage = None if reply.get("usage") else self._bound_usage(request, b"x")
        done = read_completion(reply, None, usage)
        logprobs = read_choice(reply, options)
        return Choice(logprobs, done.usage, done.served_by, reply, read_quota(headers))

    async def complete_many(self, requests: Sequence[Request]) -> Sequence[Completion | Exception]:
        """The completion of each request, or the failure in its place."""
        return await _gather([self.complete(request) for request in requests])

    async def choose_many(
        self, requests: Sequence[Request], options: Sequence[str]
    ) -> Sequence[Choice | Exception]:
        """The choice for each request, or the failure in its place."""
        return await _gather([self.choose(request, options) for request in requests])

    def count_tokens(self, text: str) -> int:
        """An estimate: a token is about four characters of English text."""
        return -(-len(text) // 4)

    def bound_tokens(self, request: Request) -> int:
        """An upper bound: a byte-level vocabulary makes at most one token of a byte.

        Added is what chat templates put around messages and tools; not counted are prompts that a
        provider adds in secret.
        """
        prompt = request.prompt
        if isinstance(prompt, str):
            size = _FRAME + _TURN + len(prompt.encode("utf-8", "replace"))
        else:
            size = _FRAME + _TURN * len(prompt)
            for message in prompt:
                size += len((message.content or "").encode("utf-8", "replace"))
                size += len(encode(message.tool_calls)) if message.tool_calls else 0
        if request.tools:
            size += 512 + len(encode(request.tools))
        return size + (512 + len(encode(request.schema)) if request.schema else 0)

    def preflight(self, sampling: Mapping[str, Any]) -> list[str]:
        """What speaks against asking: sampling keys, settings, and what the endpoint itself says.

        The endpoint is asked once, for its list of models, with patience of five seconds.
        """
        faults = find_faults(self._provider_name, self._known, sampling, self._model)
        fixed = sorted(FIXED.intersection(self._role.extra_body))
        faults += [f"extra_body must not set '{key}'" for key in fixed]
        if self._role.batch is True and not hasattr(self, "create_batch"):
            faults.append(f"{self._provider_name} has no batch API: remove `batch: true`")
        if self._finding is None:
            self._finding = check_door(self._door())
            self.form.narrow(self._finding.find_modes())
        return [*faults, *self._finding.faults, *self._finding.find_unsupported(sampling)]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

    def _door(self) -> Door:
        return Door(
            self.endpoint,
            self._provider_name,
            self._model,
            self._key,
            self._key_name,
            self._role.headers,
            self._provider.lists,
            wants_key=self._key_name is not None,
        )

    @property
    def _known(self) -> Provider:
        """What is known about the endpoint; of a foreign one that poses as OpenAI only the form."""
        host = self._provider.key_host
        if host is None or is_under(self.endpoint, host):
            return self._provider
        return dataclasses.replace(COMPATIBLE, asks_cost=self._provider.asks_cost)

    def _check_server(self, reply: Mapping[str, Any]) -> None:
        wanted = self._must_be
        if wanted and "choices" in reply and wanted not in (read_server(reply) or "").lower():
            raise refuse_server(reply, self._role.must_be or "")

    def _bound_usage(self, request: Request, body: bytes) -> Usage:
        most = request.sampling.get("max_tokens") or len(body)
        return Usage(self.bound_tokens(request), min(most, len(body)))


def find_provider(role: Role) -> tuple[str, Provider, str]:
    """The name and facts of a role's provider, and the model as the endpoint knows it.

    Where no provider has the name before the first slash, it belongs to the model's name.
    """
    found = PROVIDERS.get(role.provider)
    if found is not None:
        return role.provider, found, role.reference
    if role.provider == "openai-compatible":
        return role.provider, COMPATIBLE, role.reference
    return "openai-compatible", COMPATIBLE, role.model


def find_url(role: Role, provider: Provider) -> str:
    """The address of a role's endpoint.

    Raises:
        PreflightError: It has none, or one that is never asked.
    """
    from nexa_core import PreflightError

    url = role.base_url or provider.base_url
    if url is None:
        raise PreflightError(
            f"The model '{role.model}' has no base_url.", "Add `base_url: http://HOST:PORT/v1`."
        )
    return check_url(url)


def find_modes(role: Role, provider: Provider) -> tuple[Mode, ...]:
    """How an endpoint can be asked for JSON; the completions API knows schemas on own servers alone."""
    if role.api == "chat":
        return provider.modes
    return (
        ("schema", "plain") if provider.self_hosted and "schema" in provider.modes else ("plain",)
    )


async def _gather(calls: Sequence[Awaitable[Result]]) -> list[Result | Exception]:
    """Every result, or its CallFailed; what no further try can mend ends them all."""

    async def settle(call: Awaitable[Result]) -> Result | Exception:
        try:
            return await call
        except CallFailed as failure:
            return failure

    return list(await asyncio.gather(*(settle(call) for call in calls)))
