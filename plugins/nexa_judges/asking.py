"""Asks a judge for a verdict: the row's text between marks, and an invalid reply asked again, twice at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa_core import Asker, JudgeOrder, Message, Row, explain_marks, mark_data
from nexa_judges.verdicts import InvalidReplyError, Verdicts

__all__ = ["ask_verdict", "write_messages"]

REASKS = 2


def write_messages(
    order: JudgeOrder, row: Row, nonce: str, more: Mapping[str, str] | None = None
) -> tuple[Message, ...]:
    """The rubric for a row: every column that it reads is data between marks; `more` are texts of its own."""
    rubric = order.rubric
    assert rubric is not None
    texts = {name: row.get(name) for name in rubric.inputs}
    texts["answer"] = row.get(order.answer)
    if order.question is not None:
        texts["question"] = row.get(order.question)
    marked = {
        name: mark_data(_as_text(text), nonce) for name, text in {**texts, **(more or {})}.items()
    }
    given = {
        "criteria": _list(rubric.criteria),
        "flags": _list(rubric.flags),
        "rule": explain_marks(nonce),
    }
    rendered = rubric.render(row, **marked, **given)
    return (Message("user", rendered),) if isinstance(rendered, str) else rendered


async def ask_verdict(
    messages: tuple[Message, ...], verdicts: Verdicts, ask: Asker, role: str
) -> tuple[dict[str, Any] | None, str]:
    """A verdict and nothing, or None and what was wrong with the last reply.

    Every ask is a call of its own, journaled and paid for.
    """
    problem = ""
    for _ in range(1 + REASKS):
        reply = await ask.complete(messages, role, verdicts.schema)
        try:
            return verdicts.read(reply.text), ""
        except InvalidReplyError as cause:
            problem = str(cause)
        told = f"That reply is not valid: {problem}. Reply again with the JSON object only."
        messages = (*messages, Message("assistant", reply.text), Message("user", told))
    return None, problem


def _list(named: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {meaning}" for name, meaning in named.items())


def _as_text(value: Any) -> str:
    if isinstance(value, list):  # a conversation
        turns = (f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in value)
        return "\n".join(turns)
    return "" if value is None else str(value)
