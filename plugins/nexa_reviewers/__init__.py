"""Reviewers: they propose the next parameters after a failed gate, and may veto a passed one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nexa_core import Reviewer, ReviewerSpec, hookimpl

__all__ = ["register_reviewers"]


def _build_policy(_: Any) -> Reviewer:
    from nexa_reviewers.policy import Policy

    return Policy()


@hookimpl
def register_reviewers() -> Iterable[ReviewerSpec]:
    """`policy`."""
    return [
        ReviewerSpec(
            "policy",
            "Rules from failing metrics to parameter moves inside search_space; asks no model.",
            build=_build_policy,
        )
    ]
