"""The public surface of nexa: every name a plugin or a script needs, imported on first use.

Importing it must import nothing heavy: no pydantic, no pyarrow, no pluggy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexa_core.decorators import (
        check,
        judge,
    )
    from nexa_core.documents import (
        read_yaml,
    )
    from nexa_core.errors import (
        BudgetError,
        CallFailed,
        Charge,
        CheckError,
        DiskFullError,
        Failure,
        GateFileError,
        JournalError,
        JudgeError,
        ManifestError,
        MissingExtraError,
        ModelError,
        NexaError,
        PipelineFileError,
        Place,
        PluginConflictError,
        PluginError,
        PluginLoadError,
        PreflightError,
        PromptFileError,
        RunLockedError,
        RunVersionError,
        ScorerError,
        SourceError,
        StepError,
        StoreError,
        TooManyFailuresError,
        TrainerError,
        UnknownNameError,
        UsageError,
        WorkspaceError,
        boundary,
        suggest,
    )
    from nexa_core.events import (
        CallsPlanned,
        CallsProgressed,
        Event,
        GateDecided,
        IterationStarted,
        ParametersChanged,
        PhaseFinished,
        PhaseStarted,
        RowsSampled,
        RunFinished,
        RunResumed,
        RunStarted,
        SettingChanged,
        ShardCommitted,
        ShardProgressed,
        StopRequested,
        TrainingProgressed,
        WarningRaised,
    )
    from nexa_core.gates import (
        refuse_changes,
    )
    from nexa_core.hookspecs import (
        hookimpl,
    )
    from nexa_core.marking import (
        explain_marks,
        mark_data,
    )
    from nexa_core.pipeline import (
        Role,
    )
    from nexa_core.prompts import (
        Prompt,
    )
    from nexa_core.protocols import (
        Asker,
        BatchModel,
        BatchState,
        Check,
        Exporter,
        Judge,
        Metric,
        Model,
        RemoteModel,
        Reviewer,
        Rubric,
        Scorer,
        SetCheck,
        Source,
        Trainer,
        Unanswered,
    )
    from nexa_core.records import (
        Choice,
        Completion,
        Decision,
        Evidence,
        FinishReason,
        GateCheck,
        Message,
        Opinion,
        Quota,
        Request,
        Row,
        Score,
        ScoreColumns,
        State,
        StrictJson,
        Training,
        Usage,
        Verdict,
        canonical_json,
        content_hash,
    )
    from nexa_core.specs import (
        CheckSpec,
        ExporterSpec,
        FileSpec,
        JudgeOrder,
        JudgeSpec,
        MetricSpec,
        ModelSpec,
        Need,
        ReviewerSpec,
        ScorerSpec,
        SourceSpec,
        Spec,
        TrainerSpec,
    )
    from nexa_core.structured import (
        FormChoice,
        Mode,
        tell_form,
        write_form,
    )

__version__ = "0.1.0"

_GROUND_FLOOR = ("errors", "records", "events", "specs", "protocols", "hookspecs")
_ABOVE = {
    "check": "decorators",
    "judge": "decorators",
    "Prompt": "prompts",
    "Role": "pipeline",
    "load": "api",
    "explain_marks": "marking",
    "mark_data": "marking",
    "FormChoice": "structured",
    "Mode": "structured",
    "tell_form": "structured",
    "write_form": "structured",
    "read_yaml": "documents",
    "refuse_changes": "gates",
}

__all__ = [
    "Asker",
    "BatchModel",
    "BatchState",
    "BudgetError",
    "CallFailed",
    "CallsPlanned",
    "CallsProgressed",
    "Charge",
    "Check",
    "CheckError",
    "CheckSpec",
    "Choice",
    "Completion",
    "Decision",
    "DiskFullError",
    "Event",
    "Evidence",
    "Exporter",
    "ExporterSpec",
    "Failure",
    "FileSpec",
    "FinishReason",
    "FormChoice",
    "GateCheck",
    "GateDecided",
    "GateFileError",
    "IterationStarted",
    "JournalError",
    "Judge",
    "JudgeError",
    "JudgeOrder",
    "JudgeSpec",
    "ManifestError",
    "Message",
    "Metric",
    "MetricSpec",
    "MissingExtraError",
    "Mode",
    "Model",
    "ModelError",
    "ModelSpec",
    "Need",
    "NexaError",
    "Opinion",
    "ParametersChanged",
    "PhaseFinished",
    "PhaseStarted",
    "PipelineFileError",
    "Place",
    "PluginConflictError",
    "PluginError",
    "PluginLoadError",
    "PreflightError",
    "Prompt",
    "PromptFileError",
    "Quota",
    "RemoteModel",
    "Request",
    "Reviewer",
    "ReviewerSpec",
    "Role",
    "Row",
    "RowsSampled",
    "Rubric",
    "RunFinished",
    "RunLockedError",
    "RunResumed",
    "RunStarted",
    "RunVersionError",
    "Score",
    "ScoreColumns",
    "Scorer",
    "ScorerError",
    "ScorerSpec",
    "SetCheck",
    "SettingChanged",
    "ShardCommitted",
    "ShardProgressed",
    "Source",
    "SourceError",
    "SourceSpec",
    "Spec",
    "State",
    "StepError",
    "StopRequested",
    "StoreError",
    "StrictJson",
    "TooManyFailuresError",
    "Trainer",
    "TrainerError",
    "TrainerSpec",
    "Training",
    "TrainingProgressed",
    "Unanswered",
    "UnknownNameError",
    "Usage",
    "UsageError",
    "Verdict",
    "WarningRaised",
    "WorkspaceError",
    "__version__",
    "boundary",
    "canonical_json",
    "check",
    "content_hash",
    "explain_marks",
    "hookimpl",
    "judge",
    "load",
    "mark_data",
    "read_yaml",
    "refuse_changes",
    "suggest",
    "tell_form",
    "write_form",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nexa_core' has no attribute '{name}'")
    homes = (_ABOVE[name],) if name in _ABOVE else _GROUND_FLOOR
    modules = (import_module(f"nexa_core.{home}") for home in homes)
    value = next(getattr(module, name) for module in modules if hasattr(module, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
