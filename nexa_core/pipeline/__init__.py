"""A pipeline file read into a frozen tree that knows its lines."""

from nexa_core.pipeline.reading import from_resolved, load_pipeline, pipeline_from
from nexa_core.pipeline.roles import Price, Role, Sampling
from nexa_core.pipeline.sections import (
    Accept,
    Bound,
    Budget,
    Evaluate,
    Judged,
    JudgedScorer,
    Package,
    Pilot,
    Retry,
    Scale,
    SourceSettings,
    Space,
    Term,
    Train,
)
from nexa_core.pipeline.steps import (
    CheckStep,
    CheckUse,
    CriticStep,
    GenerateStep,
    InlinePrompt,
    JudgeStep,
    Step,
)
from nexa_core.pipeline.tree import EVALUATE, Pipeline, roles_of

__all__ = [
    "EVALUATE",
    "Accept",
    "Bound",
    "Budget",
    "CheckStep",
    "CheckUse",
    "CriticStep",
    "Evaluate",
    "GenerateStep",
    "InlinePrompt",
    "JudgeStep",
    "Judged",
    "JudgedScorer",
    "Package",
    "Pilot",
    "Pipeline",
    "Price",
    "Retry",
    "Role",
    "Sampling",
    "Scale",
    "SourceSettings",
    "Space",
    "Step",
    "Term",
    "Train",
    "from_resolved",
    "load_pipeline",
    "pipeline_from",
    "roles_of",
]
