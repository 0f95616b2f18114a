"""Every error nexa raises, with its exit code.

NexaError                     70   a bug, when nothing narrower fits
  UsageError                   2   what the user wrote cannot be done
    WorkspaceError                 no workspace here, or a broken one
    PipelineFileError              a pipeline file that cannot be read as one
    GateFileError                  a gate file that cannot be read as one
    PromptFileError                a prompt file, or a prompt that does not render
    UnknownNameError               a name that nothing installed provides
    SourceError                    a source that is missing, empty or changed
    PreflightError                 a run that could not succeed, found before it was paid for
  PluginError                  3   a plugin that cannot be loaded or used
    PluginLoadError                its import or a hook raised
    PluginConflictError            two plugins provide one name
    MissingExtraError              an optional part is not installed
  StepError                    4   the work itself failed
    ModelError  JudgeError  CheckError  TrainerError  ScorerError
    TooManyFailuresError                more rows failed than `fail_over` allows
  StoreError                   5   the run folder
    JournalError  ManifestError  RunLockedError  RunVersionError  DiskFullError
  BudgetError                  6   the money is spent

Gate refusals (1), waiting (10) and signals (130, 143) are outcomes of a run and no errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexa_core.records import Usage

__all__ = [
    "BudgetError",
    "CallFailed",
    "Charge",
    "CheckError",
    "DiskFullError",
    "Failure",
    "GateFileError",
    "JournalError",
    "JudgeError",
    "ManifestError",
    "MissingExtraError",
    "ModelError",
    "NexaError",
    "PipelineFileError",
    "Place",
    "PluginConflictError",
    "PluginError",
    "PluginLoadError",
    "PreflightError",
    "PromptFileError",
    "RunLockedError",
    "RunVersionError",
    "ScorerError",
    "SourceError",
    "StepError",
    "StoreError",
    "TooManyFailuresError",
    "TrainerError",
    "UnknownNameError",
    "UsageError",
    "WorkspaceError",
    "boundary",
    "suggest",
]


@dataclass(frozen=True)
class Place:
    """Where in a file something stands; `line` counts from 1."""

    path: str
    line: int | None = None

    def __str__(self) -> str:
        return self.path if self.line is None else f"{self.path}:{self.line}"


class NexaError(Exception):
    """What was asked and why it cannot be done, what would work, and where it was asked.

    Args:
        problem: One or two sentences: what was asked, quoted, and why not.
        fix: One sentence that says what would work.
        place: The file and line that asked.
    """

    exit_code = 70

    def __init__(self, problem: str, fix: str = "", place: Place | None = None) -> None:
        self.problem = problem
        self.fix = fix
        self.place = place
        super().__init__(problem)

    def __str__(self) -> str:
        parts = [self.problem, self.fix, str(self.place) if self.place else ""]
        return " ".join(part for part in parts if part)

    def as_json(self) -> dict[str, object]:
        """The error as the object that `--json` prints."""
        return {
            "error": type(self).__name__,
            "message": self.problem,
            "fix": self.fix or None,
            "file": self.place.path if self.place else None,
            "line": self.place.line if self.place else None,
            "exit_code": self.exit_code,
        }


class UsageError(NexaError):
    exit_code = 2


class WorkspaceError(UsageError):
    pass


class PipelineFileError(UsageError):
    pass


class GateFileError(UsageError):
    pass


class PromptFileError(UsageError):
    pass


class UnknownNameError(UsageError):
    """A name nothing provides. `kind` is the noun shown: "check", "model provider" …"""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], place: Place | None = None, fix: str = ""
    ) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        listed = ", ".join(self.known) or "none"
        near = suggest(name, self.known)
        hint = f"Did you mean '{near}'?" if near else fix
        super().__init__(f"No {kind} is called '{name}'. Known: {listed}.", hint, place)


class SourceError(UsageError):
    pass


class PreflightError(UsageError):
    pass


class PluginError(NexaError):
    exit_code = 3


class PluginLoadError(PluginError):
    pass


class PluginConflictError(PluginError):
    pass


class MissingExtraError(PluginError):
    """An optional part is not installed; `fix` holds the install line and its size."""


class StepError(NexaError):
    exit_code = 4


class ModelError(StepError):
    pass


class JudgeError(StepError):
    pass


class CheckError(StepError):
    pass


class TrainerError(StepError):
    pass


class ScorerError(StepError):
    pass


class TooManyFailuresError(StepError):
    pass


class StoreError(NexaError):
    exit_code = 5


class JournalError(StoreError):
    pass


class ManifestError(StoreError):
    pass


class RunLockedError(StoreError):
    pass


class RunVersionError(StoreError):
    pass


class DiskFullError(StoreError):
    pass


class BudgetError(NexaError):
    exit_code = 6


class Failure(StrEnum):
    """Why one try of a call did not succeed."""

    RATE_LIMIT = "rate_limit"
    """The provider asked for fewer requests (429)."""
    OVERLOAD = "overload"
    """The provider failed for a reason of its own (5xx)."""
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """No connection, or it broke before the reply was whole."""
    REFUSED_CONTENT = "refused_content"
    """The provider's filter refused the prompt or the answer."""
    LENGTH = "length"
    """The prompt does not fit the model's context."""
    BAD_REPLY = "bad_reply"
    """A whole reply that cannot be read as one."""
    FORM = "form"
    """The provider does not take the form in which the request asked for JSON; the next try has another."""
    BAD_REQUEST = "bad_request"
    """The provider refused this request for another reason (4xx)."""

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed when it is tried again."""
        return self not in (Failure.REFUSED_CONTENT, Failure.LENGTH, Failure.BAD_REQUEST)


class Charge(StrEnum):
    """What a failed try may have cost."""

    NONE = "none"
    """Nothing: it was refused before any work, or never sent."""
    UNKNOWN = "unknown"
    """Perhaps as much as was reserved: the work may have been done and the reply lost."""
    KNOWN = "known"
    """What `usage` says: the reply came and could not be used."""


class CallFailed(Exception):  # noqa: N818 - one try that failed is data, not an error of the run
    """One try of a call did not succeed; whether to try again is the engine's business.

    Args:
        failure: The class of the failure.
        message: What the provider said, in one line.
        charge: What the try may have cost; `KNOWN` needs `usage`.
        status: The HTTP status, where there was one.
        retry_after: Seconds the provider asked to wait.
        raw: The body as it came, for the journal.
    """

    def __init__(
        self,
        failure: Failure,
        message: str,
        charge: Charge = Charge.NONE,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        usage: Usage | None = None,
        raw: str | None = None,
    ) -> None:
        self.failure, self.message, self.charge = failure, message, charge
        self.status, self.retry_after, self.usage, self.raw = status, retry_after, usage, raw
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.failure}: {self.message}"


def suggest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one, or None when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


@contextmanager
def boundary(error: type[NexaError], who: str) -> Iterator[None]:
    """Attribute whatever plugin code raises inside the block to `who`, as `error`.

    Plugins raise ordinary exceptions; NexaErrors pass through as they are.
    """
    try:
        yield
    except NexaError:
        raise
    except Exception as cause:
        raise error(f"{who} failed: {type(cause).__name__}: {cause}") from cause
