"""Reviewers: they propose the next parameters after a failed gate, and may veto a passed one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nexa_core import Reviewer, ReviewerSpec, hookimpl

__all__ = ["register_reviewers"]


def _build_policy(_: Any) -> Reviewer:
    from nexa_reviewers.policy import Policy

    return Policy()


def _build_human(_: Any) -> Reviewer:
    from nexa_reviewers.human import Human

    return Human()


@hookimpl
def register_reviewers() -> Iterable[ReviewerSpec]:
    """`policy` and `human`."""
    return [
        ReviewerSpec(
            "policy",
            "Rules from failing metrics to parameter moves inside search_space; asks no model.",
            build=_build_policy,
        ),
        ReviewerSpec(
            "human",
            "The run waits until a person signs: `nexa gate sign RUN`.",
            build=_build_human,
        ),
    ]
