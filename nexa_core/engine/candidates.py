"""Of several answers to one question the best, and for pairs the worst beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nexa_core.records import State, canonical_json

__all__ = ["NOT_CHOSEN", "Choosing", "choose"]

NOT_CHOSEN = ("not_best", "no_other_candidate", "margin")
"""Why an accepted row was not chosen: another answer was better, or none was worse enough."""
_DECIDED = [State.ACCEPTED.value, State.SURPLUS.value, State.REJECTED.value]


@dataclass(frozen=True)
class Choosing:
    """How to choose: by the mean of the scores named `rank`; with a `margin`, in pairs."""

    rank: tuple[str, ...]
    margin: float | None = None


def choose(table: pa.Table, choosing: Choosing, prompt: str, completion: str) -> pa.Table:
    """The table with `unchosen` (why a row is no dataset row), and for pairs the other side.

    Candidates of one question are rows of one source that asked the same; those without every score
    that ranks are none. Of equal scores the earlier row wins. Pairs get `rejected` (text),
    `rejected_id`, `score_chosen` and `score_rejected`.
    """
    scores = _rank(table, choosing.rank)
    texts = pc.utf8_trim_whitespace(table[completion].cast(pa.string())).to_pylist()
    accepted = pc.equal(table["state"], State.ACCEPTED.value).to_pylist()
    unchosen: list[str | None] = [None] * len(table)
    partner: list[int | None] = [None] * len(table)
    for group in _groups(table, prompt):
        wanted = [at for at in group if accepted[at]]
        if not wanted:
            continue
        scored = [at for at in wanted if scores[at] is not None and texts[at]]
        best = max(scored, key=lambda at: scores[at] or 0.0) if scored else wanted[0]
        for at in wanted:
            unchosen[at] = None if at == best else "not_best"
        if choosing.margin is not None:
            others = [at for at in group if scores[at] is not None and texts[at]]
            found = _worst(best, others, scores, texts, choosing.margin)
            unchosen[best] = found if isinstance(found, str) else None
            partner[best] = None if isinstance(found, str) else found
    table = _put(table, "unchosen", pa.array(unchosen, pa.string()))
    if choosing.margin is None:
        return table
    return _add_partners(table, partner, scores, texts)


def _worst(
    best: int, candidates: Sequence[int], scores: Sequence[Any], texts: Sequence[Any], margin: float
) -> int | str:
    others = [at for at in candidates if texts[at] != texts[best]]
    if not others or scores[best] is None:
        return "no_other_candidate"
    worst = min(others, key=lambda at: scores[at])
    distance = scores[best] - scores[worst]
    # Scores are decimal fractions in the user's mind: 0.9 is 0.1 over 0.8.
    far = distance > 0 and distance >= margin - 1e-9
    return worst if far else "margin"


def _groups(table: pa.Table, prompt: str) -> Iterator[list[int]]:
    """The places of decided rows by source and question, in order."""
    groups: dict[tuple[Any, str], list[int]] = defaultdict(list)
    decided = pc.is_in(table["state"], value_set=pa.array(_DECIDED)).to_pylist()
    pairs = zip(table["source_id"].to_pylist(), table[prompt].to_pylist(), strict=True)
    for at, (source, asked) in enumerate(pairs):
        if decided[at]:
            groups[source, asked if isinstance(asked, str) else canonical_json(asked)].append(at)
    yield from groups.values()


def _rank(table: pa.Table, names: Sequence[str]) -> list[float | None]:
    """The mean of the scores that rank, null where one is missing."""
    scores = table["scores"].combine_chunks()
    known = {field.name for field in scores.type}
    if not names or not known.issuperset(names):
        return [None] * len(table)
    total = pc.struct_field(scores, names[0])
    for name in names[1:]:
        total = pc.add(total, pc.struct_field(scores, name))
    means: list[float | None] = pc.divide(total, float(len(names))).to_pylist()
    return means


def _add_partners(
    table: pa.Table, partner: Sequence[int | None], scores: Sequence[Any], texts: Sequence[Any]
) -> pa.Table:
    taken = pa.array(partner, pa.int64())
    ranks = pa.array(scores, pa.float64())
    table = _put(table, "rejected", pa.array(texts, pa.string()).take(taken))
    table = _put(table, "rejected_id", table["id"].cast(pa.string()).take(taken))
    table = _put(table, "score_chosen", ranks)
    return _put(table, "score_rejected", ranks.take(taken))


def _put(table: pa.Table, name: str, column: Any) -> pa.Table:
    if name in table.column_names:
        table = table.drop_columns(name)
    return table.append_column(name, column)
