"""Reviewers: they propose the next parameters after a failed gate, and may veto a passed one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from nexa_core import Reviewer, ReviewerSpec, hookimpl

__all__ = ["register_reviewers"]


@hookimpl
def register_reviewers() -> Iterable[ReviewerSpec]:
    """`policy`, `llm` and `human`."""
    return [
        ReviewerSpec(
            "policy",
            "Rules from failing metrics to parameter moves inside search_space; asks no model.",
            _build("policy", "Policy"),
            lambda: _load("own_rules", "PolicyOptions"),
            freeze=_read_rules,
        ),
        ReviewerSpec(
            "llm",
            "A model proposes after a failure and may veto after a pass, by a majority of votes.",
            _build("llm", "Llm"),
            lambda: _load("llm", "LlmOptions"),
            asks=True,
            prompt="reviewer/opinion",
        ),
        ReviewerSpec(
            "human",
            "The run waits until a person signs: `nexa gate sign RUN`.",
            _build("human", "Human"),
        ),
    ]


def _build(module: str, name: str) -> Callable[[Any], Reviewer]:
    def build(options: Any) -> Reviewer:
        reviewer: Reviewer = _load(module, name)(options)
        return reviewer

    return build


def _read_rules(options: Mapping[str, Any], folder: Path) -> Any:
    return _load("own_rules", "read_rules")(options, folder)


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f"nexa_reviewers.{module}"), name)
