"""What a user may set about the scorers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class AnswerOptions(BaseModel):
    """`answer` names the item's field with the right answer, a text or a list of right ones.

    `lines: first` reads the prediction up to the end of its first line that holds anything, which is
    kind to a base model that rambles on; `all` reads all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: str = "answer"
    lines: Literal["first", "all"] = "first"
