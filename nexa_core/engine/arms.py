"""One arm of an evaluation: a model asked every item in one way, its predictions journaled and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa_core.engine.calls import Calls, Outcome
from nexa_core.engine.dispatch import Dispatch
from nexa_core.engine.items import Items, read_turns, tell_conversation
from nexa_core.engine.requests import Subject
from nexa_core.engine.scoring import Scored, Scoring, read_judgements
from nexa_core.engine.together import Together
from nexa_core.engine.tries import Caller, Line
from nexa_core.errors import TooManyFailuresError
from nexa_core.prompts import Prompt
from nexa_core.protocols import Model
from nexa_core.records import Completion, Message, Request, Row, content_hash, mend_text
from nexa_core.store import journal as journals
from nexa_core.store.files import make_folder, sync_folder
from nexa_core.store.money import NOTE, journal_money, write_note

__all__ = ["Arm", "Predictions", "run_arm"]

UNIT = "evaluation"
REMOTE_BATCH = 64
FAIL_OVER = 0.05
IDENTITY = b"nexa_identity"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("instruction", pa.string()),
        ("answer", pa.string()),
        ("prediction", pa.string()),
        ("correct", pa.bool_()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens", pa.int32()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Arm:
    """How one arm asks: with which model and prompt, greedily, for at most `max_tokens` tokens."""

    name: str
    line: Line
    prompt: Prompt
    max_tokens: int

    @property
    def model(self) -> Model:
        """The model that is asked."""
        return self.line.model

    def request(self, item: Row) -> tuple[Request, Subject]:
        """The call for an item."""
        subject = Subject(item["id"], item["id"], 0, 0)
        sampling = {"temperature": 0.0, "max_tokens": self.max_tokens}
        form = self.line.form(0, sampling=sampling, stop=self.prompt.stop)
        tools = self.prompt.read_tools(item) if read_turns(item) else None
        return form.fill(self._word(item), subject, tools), subject

    def _word(self, item: Row) -> str | tuple[Message, ...]:
        """The prompt about an item; the turns before its question go as they are before it."""
        turns = read_turns(item)
        if not turns or self.prompt.api == "completions":
            asked = tell_conversation(item)
            return self.prompt.render({**item, "instruction": asked}, prompt=asked)
        worded = self.prompt.render(item, prompt=item["instruction"])
        assert not isinstance(worded, str)
        *head, question = worded
        last = question if turns[-1].role == "user" else turns[-1]
        return (*_join_systems((*head, *turns[:-1])), last)

    def identity(self, items: Items, scorer: str) -> str:
        """Hash of everything the arm's predictions and scores depend on."""
        model = [self.model.name, self.model.revision]
        model += [self.line.endpoint] if self.line.endpoint else []
        return content_hash([items.hash, model, self.prompt.hash, self.max_tokens, scorer], 32)


def _join_systems(turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns with at most one that is the system's, at the front: templates take no second."""
    said = [turn.content for turn in turns if turn.role == "system"]
    rest = tuple(turn for turn in turns if turn.role != "system")
    return (Message("system", "\n\n".join(said)), *rest) if said else rest


@dataclass(frozen=True)
class Predictions:
    """What an arm predicted: a table with a row per item, in the order of the items."""

    arm: str
    table: pa.Table
    judged: bool = False

    @property
    def outcomes(self) -> dict[str, bool]:
        """Whether the arm was right, by item."""
        pairs = zip(self.table["id"].to_pylist(), self.table["correct"].to_pylist(), strict=True)
        return dict(pairs)

    def as_json(self) -> dict[str, Any]:
        """The arm's figures; an item that got no reply, or no score, counts as wrong, and is counted."""
        right, n = sum(self.outcomes.values()), len(self.table)
        failed = n - self.table["error"].null_count
        found = {"right": right, "n": n, "accuracy": right / n if n else None, "failed": failed}
        unscored = self.table["score"].null_count - failed
        return {**found, "unscored": unscored} if self.judged else found


async def run_arm(
    arm: Arm,
    items: Items,
    scoring: Scoring,
    folder: Path,
    dispatch: Dispatch | None = None,
    fail_over: float = FAIL_OVER,
    others: Sequence[str] = (),
) -> Predictions:
    """Ask every item and score it; an arm that ended before with the same settings is read back.

    Every reply, a judge's too, is journaled before it is used; `dispatch` sends the calls. Where one
    of the arms `others` gave the same text, its judgement is taken.

    Raises:
        TooManyFailuresError: More than the share `fail_over` of the items got no reply.
    """
    path = folder / f"predictions-{arm.name}.parquet"
    identity = arm.identity(items, scoring.name)
    found = _read_back(path, identity)
    if found is not None:
        return Predictions(arm.name, found, scoring.judged)
    make_folder(folder)
    unit = f"{UNIT}-{arm.name}"
    found_before = journals.read_journal(folder, unit)
    if not found_before.segments:
        _set_aside(folder, unit)
    journal = journals.Journal.open(folder, unit)
    known: dict[str, Any] = {}
    for other in others if scoring.judged else ():
        known |= read_judgements(folder / f"calls-{other}.parquet")
    calls = Calls(dispatch or Dispatch(), journal, found_before.replies, reused=known)
    try:
        rows = await _predict(arm, items, scoring, calls, fail_over)
    finally:
        await calls.drain()
        journal.close()
    table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({IDENTITY: identity})
    spent = journal_money(found_before)
    spent.add(calls.spent)
    write_note(folder / f"{unit}{NOTE}", spent)
    _write(folder / f"calls-{arm.name}.parquet", calls.table())
    _write(path, table)
    journal.remove()
    return Predictions(arm.name, table, scoring.judged)


def _set_aside(folder: Path, unit: str) -> None:
    """Keep the note of what an arm cost with other settings: it will have one of its own again."""
    note = folder / f"{unit}{NOTE}"
    if note.exists():
        number = len(list(folder.glob(f"{unit}.*{NOTE}"))) + 1
        note.rename(folder / f"{unit}.{number}{NOTE}")
        sync_folder(folder)


async def _predict(
    arm: Arm, items: Items, scoring: Scoring, calls: Calls, fail_over: float
) -> list[dict[str, Any]]:
    """A row for each item. A judge is asked only once enough of them were answered."""
    outcomes = await _ask(arm, items, calls)
    _refuse_failures(arm, [outcome.error for outcome in outcomes], fail_over)

    together = Together(calls)

    async def score(item: Row, outcome: Outcome) -> dict[str, Any]:
        scored = await scoring.score(item, outcome.reply, together) if outcome.reply else None
        return _make_row(item, outcome, scored)

    rows = await together.run(map(score, items.rows, outcomes))
    _refuse_failures(arm, [row["error"] for row in rows], fail_over)
    return rows


def _refuse_failures(arm: Arm, found: Sequence[str | None], fail_over: float) -> None:
    errors = [error for error in found if error is not None]
    if len(errors) > fail_over * len(found):
        raise TooManyFailuresError(
            f"{len(errors)} of {len(found)} items got no reply in the arm '{arm.name}', over "
            f"`fail_over: {fail_over:.0%}`. One of them: {errors[0]}.",
            "Mend the cause and evaluate again: what was answered is kept.",
        )


async def _ask(arm: Arm, items: Items, calls: Calls) -> list[Outcome]:
    caller = Caller(UNIT, arm.name, (arm.line,))
    size = arm.model.batch_size or REMOTE_BATCH
    outcomes: list[Outcome] = []
    for start in range(0, len(items.rows), size):
        asked = [arm.request(item) for item in items.rows[start : start + size]]
        outcomes += await calls.complete(caller, [r for r, _ in asked], [s for _, s in asked])
    return outcomes


def _make_row(item: Row, outcome: Outcome, scored: Scored | None) -> dict[str, Any]:
    row = {"id": item["id"], "instruction": item["instruction"], "correct": False}
    row |= {"answer": _as_text(item.get("answer")), "error": outcome.error}
    reply: Completion | None = outcome.reply
    if reply is None or scored is None:
        return row
    row |= {"prediction": reply.text, "finish_reason": str(reply.finish_reason)}
    row |= {"tokens": reply.usage.completion_tokens, "correct": scored.right}
    row |= {"score": scored.score.value, "reason": mend_text(scored.score.reason) or None}
    return row | {"error": scored.error and f"not judged: {scored.error}"}


def _as_text(answer: Any) -> str | None:
    if isinstance(answer, list | tuple):
        return " | ".join(map(str, answer))
    return None if answer is None else str(answer)


def _read_back(path: Path, identity: str) -> pa.Table | None:
    if not path.exists():
        return None
    table = pq.read_table(path)
    return table if (table.schema.metadata or {}).get(IDENTITY) == identity.encode() else None


def _write(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.rename(path)
    sync_folder(path.parent)
