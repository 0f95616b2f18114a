"""The settings of a model role: which model, where, how it samples and what it costs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nexa_core.secrets import holds_key, is_key_name, looks_like_key

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number; words and booleans are refused."""
Count = Annotated[int, Field(strict=True, ge=1)]
"""A whole number from 1."""
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""An id or a column that nexa adds: a-z, 0-9, _."""


class Settings(BaseModel):
    """What every section shares: it is frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampling(Settings):
    """How a model samples, by OpenAI's names; what is not set is not sent."""

    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(strict=True, ge=0)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0, le=10)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    max_tokens: Count | None = None
    reasoning_effort: str | None = None
    stop: tuple[str, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_foreign_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for key, reason in _NOT_SAMPLING.items():
                if key in value:
                    raise ValueError(f"'{key}' is no sampling key: {reason}")
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def _accept_one_stop(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def as_dict(self) -> dict[str, Any]:
        """Only the keys that are set, `stop` as a list."""
        return self.model_dump(mode="json", exclude_none=True)


_NOT_SAMPLING = {
    "seed": "the pipeline's `seed` gives every request its own",
    "n": "use `samples` of the generate step",
    "logprobs": "critics ask for them themselves",
    "stream": "replies are journaled whole",
}


class Price(Settings):
    """Dollars per million tokens."""

    input: Annotated[Number, Field(ge=0)]
    output: Annotated[Number, Field(ge=0)]
    cached_input: Annotated[Number, Field(ge=0)] | None = None


class Role(Settings):
    """A named use of a model. `model` is provider/reference: local/nexa-tiny, openai/gpt-4o.

    `timeout` is in seconds. `concurrency` bounds the calls under way, `rpm` and `tpm`
    the requests and tokens a minute. `batch` is the number of
    rows a local model answers at once, or true for the provider's batch endpoint. `must_be` is a
    part that the served model's name must contain. `fallbacks` take over in turn while nothing is
    answered: model references, or names of other roles, with an endpoint, key and price of their own.
    `structured` forces how a judge's JSON is asked for; else it follows from what the endpoint takes.
    """

    model: str
    api: Literal["chat", "completions"] = "chat"
    sampling: Sampling = Sampling()
    adapter: str | None = None
    base_url: str | None = None
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    headers: dict[str, str] = {}
    extra_body: dict[str, Any] = {}
    timeout: Annotated[Number, Field(gt=0)] = 120.0
    price: Price | None = None
    usd_per_hour: Annotated[Number, Field(ge=0)] | None = None
    concurrency: Count | None = None
    rpm: Annotated[Number, Field(gt=0)] | None = None
    tpm: Annotated[Number, Field(gt=0)] | None = None
    batch: Flag | Count | None = None
    fallbacks: tuple[str, ...] = ()
    must_be: str | None = None
    structured: Literal["schema", "tool", "object", "plain"] | None = None

    @property
    def provider(self) -> str:
        """The part of `model` before the first slash: the name of a model spec."""
        return self.model.partition("/")[0]

    @property
    def reference(self) -> str:
        """The part of `model` after the first slash, as the provider knows it."""
        return self.model.partition("/")[2]

    @field_validator("model", "fallbacks")
    @classmethod
    def _require_a_provider(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, str):
            _require_slash(value)
        else:
            for reference in value:
                if "/" in reference:
                    _require_slash(reference)
        return value

    def stand_in(self, reference: str) -> Role:
        """The role as another model plays it: what belongs to its own endpoint is left out."""
        kept = self.model_dump(exclude={*_OF_ENDPOINT, "model", "adapter", "batch"})
        return Role(model=reference, **kept)

    @model_validator(mode="after")
    def _keep_secrets_out(self) -> Self:
        for header, value in self.headers.items():
            if is_key_name(header) or looks_like_key(value):
                raise ValueError(f"header '{header}' {_REFUSED}")
        for name, value in self.extra_body.items():
            if _JOINED_KEYS.fullmatch(name) or (isinstance(value, str) and looks_like_key(value)):
                raise ValueError(f"'{name}' in extra_body {_REFUSED}")
        if self.base_url and holds_key(self.base_url):
            raise ValueError("a base_url must not hold a password or key: use `api_key_env`")
        return self


_REFUSED = (
    "would write a key into every run: "
    "put the key into an environment variable and name that in `api_key_env`"
)
_JOINED_KEYS = re.compile(r"(x-)?(api|access|auth)[-_]?(key|token)|authorization", re.IGNORECASE)
_OF_ENDPOINT = (
    *("base_url", "api_key_env", "headers", "extra_body"),
    *("price", "usd_per_hour", "fallbacks", "must_be"),
)


def _require_slash(reference: str) -> None:
    provider, _, rest = reference.partition("/")
    if not provider or not rest:
        raise ValueError("a model is written provider/reference, as in openai/gpt-4o-mini")
