"""What a plugin's objects must do. Work is done through these; pluggy is nowhere on the hot path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from nexa_core.errors import CallFailed
from nexa_core.events import Event
from nexa_core.records import (
    Choice,
    Completion,
    Evidence,
    Message,
    Opinion,
    Request,
    Row,
    Score,
    ScoreColumns,
    Training,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Asker",
    "BatchModel",
    "BatchState",
    "Check",
    "Exporter",
    "Judge",
    "Metric",
    "Model",
    "RemoteModel",
    "Reviewer",
    "Rubric",
    "Scorer",
    "SetCheck",
    "Source",
    "Trainer",
    "Unanswered",
]


class Unanswered(str):
    """A fault that `Model.preflight` found and that may pass by itself: nobody answers at present."""

    __slots__ = ()


@runtime_checkable
class Model(Protocol):
    """A language model, remote or in this process, for chat or completions.

    `batch_size` is None for a model that is asked one request at a time with many under way, and
    the preferred number for a model that answers batches. `name` and `revision` identify the
    weights for provenance. Replies depend on the request (its seed included), and for batches on
    the batch's composition, on nothing else. A request of a batch that cannot be answered leaves its
    exception in its place, and its siblings go on.
    """

    name: str
    revision: str | None
    batch_size: int | None

    async def complete(self, request: Request) -> Completion: ...

    async def complete_many(
        self, requests: Sequence[Request]
    ) -> Sequence[Completion | Exception]: ...

    async def choose(self, request: Request, options: Sequence[str]) -> Choice: ...

    async def choose_many(
        self, requests: Sequence[Request], options: Sequence[str]
    ) -> Sequence[Choice | Exception]: ...

    def count_tokens(self, text: str) -> int: ...

    def preflight(self, sampling: Mapping[str, Any]) -> list[str]:
        """What speaks against asking this model with these sampling keys; empty when nothing does.

        With no keys: what speaks against asking it at all.
        """
        ...


@runtime_checkable
class RemoteModel(Model, Protocol):
    """A model behind an endpoint, asked one request at a time with many under way.

    `complete` and `choose` make exactly one try: they raise CallFailed where it did not succeed,
    and ModelError for what no further try can mend (a wrong key, a model that does not exist). They
    never try again by themselves, never follow a redirect with a key, and open their connections
    when first awaited, in the running loop. `endpoint` is the address that limits are kept for;
    `self_hosted` says that overload shows as latency rather than as 429.
    """

    endpoint: str
    self_hosted: bool

    def bound_tokens(self, request: Request) -> int:
        """An upper bound of the prompt's tokens, as they may be billed."""
        ...

    async def aclose(self) -> None:
        """Close the connections; nothing is asked afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class BatchState:
    """Where a provider's batch stands. Expired, cancelled and failed ones may hold finished work."""

    id: str
    status: Literal["running", "done", "expired", "cancelled", "failed"]
    requests: int = 0
    answered: int = 0
    reason: str = ""


@runtime_checkable
class BatchModel(RemoteModel, Protocol):
    """A remote model whose provider also takes many requests as one batch, later and cheaper.

    One batch holds at most `most_requests` requests and `most_bytes` bytes. `nonce` goes into the
    batch's metadata, so that a batch whose id was lost can be found.
    """

    most_requests: int
    most_bytes: int

    def measure(self, request: Request) -> int:
        """The bytes of one request in a batch file."""
        ...

    async def create_batch(self, requests: Sequence[Request], nonce: str) -> BatchState: ...

    async def find_batch(self, nonce: str) -> BatchState | None: ...

    async def poll_batch(self, batch_id: str) -> BatchState: ...

    async def fetch_batch(self, batch_id: str) -> Mapping[str, Completion | CallFailed]:
        """What became of each request, by request id; a request without a line is not in it."""
        ...


class Asker(Protocol):
    """Asks models for a judge about one row, or for a reviewer: journaled, paid for and limited.

    `roles` are the roles that may be asked, the first one where none is named. `nonce` is for the
    marks around text of rows; it is the same when the row is judged again.
    """

    nonce: str

    @property
    def roles(self) -> Sequence[str]: ...

    async def complete(
        self,
        prompt: str | tuple[Message, ...],
        role: str | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """A completion; raises CallFailed where there is none, which the judge lets pass."""
        ...

    async def choose(
        self, prompt: str | tuple[Message, ...], options: Sequence[str], role: str | None = None
    ) -> Choice:
        """Log-probabilities of single-token options; raises as `complete` does."""
        ...


class Rubric(Protocol):
    """A prompt by which a judge scores: its criteria and flags, name to what they mean."""

    @property
    def inputs(self) -> Sequence[str]: ...

    @property
    def criteria(self) -> Mapping[str, str]: ...

    @property
    def flags(self) -> Mapping[str, str]: ...

    def render(self, row: Row, **extra: Any) -> str | tuple[Message, ...]: ...


class Judge(Protocol):
    """Scores one row, 0 to 1, by asking models.

    The order of its asks must follow from the row and the replies alone, so that a resumed run asks
    the same. A Score without a value says that nothing could be read from the replies.
    """

    async def score(self, row: Row, ask: Asker) -> Score: ...


class Check(Protocol):
    """Scores every row of a table by itself: vectorised, pure, in row order."""

    def score(self, table: pa.Table) -> ScoreColumns: ...


class SetCheck(Protocol):
    """Scores rows by what came before them: folded over shards in order, keeping the first."""

    def start(self) -> Any:
        """The state before any row."""
        ...

    def fold(self, state: Any, table: pa.Table) -> tuple[Any, ScoreColumns]: ...


class Metric(Protocol):
    """Gives each row of a table its outcome: bool or number, null = outside the population."""

    def outcomes(self, table: pa.Table) -> pa.Array: ...


class Reviewer(Protocol):
    """Proposes a patch after a failed gate, may veto after a passed one, citing evidence.

    Whatever it asks a model goes through `ask`, and the order of its asks must follow from the
    evidence and the replies alone: the record holds the replies, and a replay reviews again from
    them. A reviewer whose spec `asks` none has no role to ask.
    """

    async def review(self, evidence: Evidence, ask: Asker) -> Opinion: ...


class Trainer(Protocol):
    """Trains a student on a packaged dataset and leaves an adapter under `out`.

    It calls `on_event` every few seconds at least, with empty metrics where nothing is new; what
    `on_event` raises ends the training and is passed on. With `resume` it goes on from what an
    earlier call with the same options and dataset left in `out`.
    """

    def preflight(self, chat: bool) -> list[str]:
        """What speaks against training on plain text, or on chat; empty when nothing does."""
        ...

    def train(
        self, dataset: Path, out: Path, on_event: Callable[[Event], None], resume: bool = False
    ) -> Training: ...


class Scorer(Protocol):
    """Scores a prediction against an evaluation item; `value` is 1.0 for right, 0.0 for wrong."""

    async def score(self, item: Row, prediction: Completion) -> Score: ...


class Source(Protocol):
    """A stream of rows that can be read again from the start.

    Each element is a row, or the error text of a row that could not be read.
    """

    def rows(self) -> Iterator[Row | Exception]: ...


class Exporter(Protocol):
    """Makes the training columns of accepted rows.

    The table has every column of the rows and, ready for training, `prompt` (the rendered text, or
    the turns of a conversation), `completion`, and where the model gave them `reasoning` and
    `tool_calls` (JSON); a null says that a row has none. A null in a column that comes back says
    that the row cannot be trained on; where a column `reason` comes back, it alone says so.

    `template` is how a prompt is written where the user does not say; `chat` says that a student is
    asked by messages, not by plain text; `sft` that the installed trainers read the format. With a
    `margin` the format is of pairs: the table then has, for each question, the best of its
    candidates and as `rejected` the text of the worst, whose score is at least `margin` lower, with
    `score_chosen`, `score_rejected` and `rejected_id`.
    """

    template: str
    chat: bool
    sft: bool
    margin: float | None

    def columns(self, table: pa.Table) -> pa.Table: ...
