"""The record of every decision: numbered, hash-chained, and replayable without a model."""

from __future__ import annotations

from nexa_core.reviews.asks import RecordedAsker
from nexa_core.reviews.chain import (
    count_records,
    find_head,
    read_reviews,
    verify_chain,
    write_review,
)
from nexa_core.reviews.keys import open_key, read_public_key
from nexa_core.reviews.markdown import render_review
from nexa_core.reviews.record import Method, Review, as_recorded
from nexa_core.reviews.replay import Difference, reassess, replay
from nexa_core.reviews.signing import describe_overrides, find_overridden, sign_review
from nexa_core.reviews.track import find_author, trace_patches

__all__ = [
    "Difference",
    "Method",
    "RecordedAsker",
    "Review",
    "as_recorded",
    "count_records",
    "describe_overrides",
    "find_author",
    "find_head",
    "find_overridden",
    "open_key",
    "read_public_key",
    "read_reviews",
    "reassess",
    "render_review",
    "replay",
    "sign_review",
    "trace_patches",
    "verify_chain",
    "write_review",
]
