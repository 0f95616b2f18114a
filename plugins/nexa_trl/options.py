"""What a user may set about a training or a format; what is not set is derived from model and data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(strict=True, ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class QloraOptions(BaseModel):
    """Options of `train: {method: qlora, …}`.

    `model` is local/FOLDER, local/NAME or hf/NAME@REVISION. `rank`, `learning_rate`, `epochs`,
    `max_length` (tokens of a row) and `save_steps` are derived where they are not set: see
    `recipe.py`. `batch` is the number of rows per optimizer step, `micro_batch` how many of them
    are in memory at once. `quantization` is how the frozen weights are held while training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    rank: Count | None = None
    alpha: Positive = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    epochs: Positive | None = None
    batch: Count = 16
    micro_batch: Count | None = None
    learning_rate: Positive | None = None
    max_length: Count | None = None
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    save_steps: Count | None = None
    quantization: Literal["nf4", "none"] = "nf4"


class ChatOptions(BaseModel):
    """Options of `package: {format: messages, …}` and `sharegpt`.

    `reasoning` is what a model thought before it answered: dropped, kept as `reasoning_content` of
    its turn (in ShareGPT: in the text), or put into the text between `<think>` marks (`inline`).
    With `tools: false` rows that use tools are left out. `system` is a turn put before
    conversations that begin with none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reasoning: Literal["drop", "keep", "inline"] = "drop"
    tools: bool = True
    system: str | None = None


class AlpacaOptions(BaseModel):
    """Options of `package: {format: alpaca, …}`: `input` is the column that goes beside the question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str = "input"


class PreferenceOptions(BaseModel):
    """Options of `package: {format: preference, …}`.

    The chosen answer must score `margin` more than the rejected one. `style` is how both are
    written: turns of a conversation, or text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    style: Literal["chat", "text"] = "chat"
    system: str | None = None
