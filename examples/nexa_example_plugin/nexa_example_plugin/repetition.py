"""A reviewer that looks at the sample rows of a passed gate."""

from __future__ import annotations

from nexa_core import Asker, Evidence, Opinion, Row


class RepetitionReviewer:
    """Vetoes when two sample rows have the same text, and cites them; never proposes a change."""

    async def review(self, evidence: Evidence, ask: Asker) -> Opinion:
        if evidence.failing:
            return Opinion("repetition", "The gate failed; repetition has nothing to propose.")
        seen: dict[str, Row] = {}
        for row in evidence.samples:
            text = str(row.get("response", ""))
            if text in seen:
                cites = (str(seen[text]["id"]), str(row["id"]))
                return Opinion("repetition", "Two samples are equal.", veto=True, cites=cites)
            seen[text] = row
        return Opinion("repetition", "No two samples are equal.")
