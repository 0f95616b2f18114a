"""What speaks against asking a model through LiteLLM, found without paying for anything."""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nexa_litellm.failures import hide_keys
from nexa_litellm.loading import load_litellm

if TYPE_CHECKING:
    from nexa_core import Role

PATIENCE_SECONDS = 5.0
_PASSED_ON = ("top_k", "min_p", "repetition_penalty")
"""No keys of OpenAI's: LiteLLM passes them on to providers that speak its protocol or know them."""


def check_role(role: Role, model: str, sampling: Mapping[str, Any]) -> list[str]:
    """Sampling keys the provider does not take, a key that is absent or refused, an absent model.

    The provider's list of models is asked for where LiteLLM knows how to.
    """
    litellm = load_litellm()
    try:
        name, provider, _, _ = litellm.get_llm_provider(model)
    except Exception:
        near = difflib.get_close_matches(model.partition("/")[0], _list_providers(litellm), n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        return [f"LiteLLM knows no provider for '{model}'{hint}"]
    faults = _find_unsupported(litellm, name, provider, sampling)
    if role.batch is True:
        faults.append("LiteLLM starts no batches for this provider: remove `batch: true`")
    if role.api_key_env and not os.environ.get(role.api_key_env):
        return [*faults, f"no key: set ${role.api_key_env}"]
    if role.base_url is None:
        faults += _check_key(litellm, role, model, name, provider)
    return faults


def _find_unsupported(
    litellm: Any, name: str, provider: str, sampling: Mapping[str, Any]
) -> list[str]:
    takes = set(litellm.get_supported_openai_params(name, custom_llm_provider=provider) or ())
    takes |= {key for key in _PASSED_ON if _passes_on(litellm, name, provider, key)}
    return [
        f"{provider} does not take '{key}' for '{name}'" for key in sampling if key not in takes
    ]


def _passes_on(litellm: Any, name: str, provider: str, key: str) -> bool:
    """Whether a key that is none of OpenAI's reaches the provider under its own name."""
    config = litellm.ProviderConfigManager.get_provider_chat_config(
        model=name, provider=litellm.LlmProviders(provider)
    )
    if config is None:
        return False
    speaks_openai = any(kind.__name__ == "OpenAIGPTConfig" for kind in type(config).__mro__)
    return speaks_openai or hasattr(config, key)


def _check_key(litellm: Any, role: Role, model: str, name: str, provider: str) -> list[str]:
    key = os.environ.get(role.api_key_env) if role.api_key_env else None
    missing = litellm.validate_environment(model, api_key=key).get("missing_keys") or []
    if missing:
        return [f"no key: set {' and '.join(f'${one}' for one in missing)}"]
    info = litellm.ProviderConfigManager.get_provider_model_info(
        model=None, provider=litellm.LlmProviders(provider)
    )
    if info is None:
        return []
    listed = _ask_in_time(info, key)
    if isinstance(listed, list):
        return _find_model(listed, model, name)
    text = str(listed)
    if "401" in text or "403" in text or "invalid" in text.lower():
        return [f"{provider} refuses the key: {hide_keys(' '.join(text.split())[:160])}"]
    return []


def _find_model(listed: list[Any], model: str, name: str) -> list[str]:
    names = {str(one) for one in listed}
    short = {one.rpartition("/")[2] for one in names}
    if not names or model in names or name in names or name.rpartition("/")[2] in short:
        return []
    near = difflib.get_close_matches(name, short, n=3) or sorted(short)[:5]
    return [f"there is no model '{name}' (nearest: {', '.join(near)})"]


def _ask_in_time(info: Any, key: str | None) -> Any:
    """The provider's models, the exception in their place, or None when neither came in time."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(info.get_models(key, None))
        except Exception as refused:
            found.append(refused)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return found[0] if found else None


def _list_providers(litellm: Any) -> list[str]:
    return [str(getattr(one, "value", one)) for one in litellm.provider_list]
