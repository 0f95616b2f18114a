"""Imports LiteLLM once, late, and makes it quiet: no telemetry, no retries, no redirects, no downloads."""

from __future__ import annotations

import functools
import logging
import os
from types import ModuleType
from typing import Any

_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


@functools.cache
def load_litellm() -> ModuleType:
    """The module, imported at the first call (seconds, and about 200 MB)."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it downloads prices when imported
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = False
    litellm.num_retries = 0
    for callbacks in ("callbacks", "success_callback", "failure_callback", "input_callback"):
        setattr(litellm, callbacks, [])
    _follow_no_redirects(litellm)
    _log_and_price_nothing()
    return litellm


def _follow_no_redirects(litellm: ModuleType) -> None:
    """Its clients follow redirects and take the key along in `x-api-key`; ours stay where they are.

    The clients of SDKs it wraps come from `aclient_session`.
    """
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    make = AsyncHTTPHandler.__init__

    @functools.wraps(make)
    def make_staying(self: Any, *args: Any, **settings: Any) -> None:
        make(self, *args, **settings)
        self.client.follow_redirects = False

    AsyncHTTPHandler.__init__ = make_staying
    setattr(litellm, "aclient_session", AsyncHTTPHandler().client)  # noqa: B010 - a late attribute


def _log_and_price_nothing() -> None:
    """With every callback off, its records of calls go nowhere, and its prices are not nexa's.

    They are made all the same, at a third of a call's time and in threads that hold up the loop.
    """
    from litellm.litellm_core_utils.litellm_logging import Logging

    async def log_nothing(*_: Any, **__: Any) -> None:
        return None

    for name, stand_in in (
        ("async_success_handler", log_nothing),
        ("response_cost_calculator", lambda *_, **__: None),
        ("_response_cost_calculator", lambda *_, **__: None),
    ):
        if hasattr(Logging, name):
            setattr(Logging, name, stand_in)
