"""The record of every decision: numbered, hash-chained, and replayable without a model."""

from __future__ import annotations

from nexa_core.reviews.chain import find_head, read_reviews, verify_chain, write_review
from nexa_core.reviews.markdown import render_review
from nexa_core.reviews.record import Review
from nexa_core.reviews.replay import Difference, replay

__all__ = [
    "Difference",
    "Review",
    "find_head",
    "read_reviews",
    "render_review",
    "replay",
    "verify_chain",
    "write_review",
]
