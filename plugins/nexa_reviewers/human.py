"""The `human` reviewer: says nothing itself, and has the run wait for a person's signature."""

from __future__ import annotations

from nexa_core import Asker, Evidence, Opinion

__all__ = ["Human"]


class Human:
    """Every decision that comes to it waits; reviewers after it propose to the person."""

    def __init__(self, options: None = None) -> None:
        pass

    async def review(self, evidence: Evidence, ask: Asker) -> Opinion:
        """Wait: for approval after a pass, for parameters after a failure."""
        asked = "which parameters to try next" if evidence.failing else "whether to go on to scale"
        return Opinion("human", f"A person says {asked}.", waits=True)
